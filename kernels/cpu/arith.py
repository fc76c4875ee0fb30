"""Scalar operations whose rounding does not depend on how a loop was vectorised.

LLVM may contract a * b + c in a loop's vector body and not in its scalar remainder (or the other
way round), and then the bits would depend on where the work was cut. `fma` rounds once, always.
`to_bits` and `from_bits` reinterpret a float as an integer of the same width, as the exponent
tricks of elementary functions need; all three vectorise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding
from numba import types
from numba.core import config
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .jit import JIT_DISABLED
from .memory import _ARM


def _host_has_fma() -> bool:
    if _ARM:
        return True
    if config.CPU_FEATURES is not None:
        return "+fma" in config.CPU_FEATURES
    return config.CPU_NAME != "generic" and bool(binding.get_host_cpu_features().get("fma"))


HAS_FMA = _host_has_fma()


@intrinsic
def _fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    if not (isinstance(a, types.Float) and a == b == c):
        raise TypingError(f"fma takes three floats of one type, got {a}, {b}, {c}")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if HAS_FMA:
            return builder.fma(*args)
        # Without the instruction it would be a library call of some 50 ns. Nothing can be
        # contracted on such a machine, so two roundings are as repeatable as one.
        return builder.fadd(builder.fmul(args[0], args[1]), args[2])

    return a(a, a, a), codegen


_INTEGER = {types.float32: types.int32, types.float64: types.int64}
_FLOAT = {types.int32: types.float32, types.int64: types.float64}


def _bitcast(table: dict[Any, Any], value: Any) -> Any:
    if value not in table:
        raise TypingError(f"cannot reinterpret {value}; one of {sorted(map(str, table))} is needed")
    result = table[value]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(result))

    return result(value), codegen


@intrinsic
def _to_bits(typingctx: Any, value: Any) -> Any:
    return _bitcast(_INTEGER, value)


@intrinsic
def _from_bits(typingctx: Any, value: Any) -> Any:
    return _bitcast(_FLOAT, value)


def _fma_python(a: Any, b: Any, c: Any) -> Any:
    return a * b + c


def _to_bits_python(value: Any) -> Any:
    return value.view(np.int32 if value.dtype == np.float32 else np.int64)


def _from_bits_python(value: Any) -> Any:
    return value.view(np.float32 if value.dtype == np.int32 else np.float64)


fma: Any = _fma_python if JIT_DISABLED else _fma
"""`fma(a, b, c)`: a * b + c with one rounding (two with the JIT off); one float type."""

to_bits: Any = _to_bits_python if JIT_DISABLED else _to_bits
"""`to_bits(x)`: the bits of a float32 or float64 as int32 or int64."""

from_bits: Any = _from_bits_python if JIT_DISABLED else _from_bits
"""`from_bits(i)`: the float32 or float64 with the bits of an int32 or int64."""
