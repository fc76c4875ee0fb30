"""Dropout masks: bytes from random words, and their product with a row, as vector loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .irtools import I8, I32, POINTER, VOID, call_intrinsic, each_vector, load, splat, store
from .jit import JIT_DISABLED

LANES = 16
_BYTES = ir.VectorType(I8, LANES)
_WORDS = ir.VectorType(I32, LANES)


def _data(context: Any, builder: Any, sig: Any, args: Any, index: int) -> Any:
    return context.make_array(sig.args[index])(context, builder, args[index]).data


@intrinsic
def _mark(typingctx: Any, m: Any, words: Any, limit: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target, source = (_data(context, builder, sig, args, i) for i in (0, 1))
        bound = splat(builder, args[2], _WORDS)

        def body(i: Any, mask: Any) -> None:
            # The buffer of words is longer than any stretch by a vector: read whole.
            place = builder.bitcast(builder.gep(source, [i]), _WORDS.as_pointer())
            kept = builder.icmp_unsigned(">=", builder.load(place, align=4), bound)
            value = builder.zext(kept, _BYTES)
            place = builder.gep(target, [i])
            if mask is None:
                builder.store(value, builder.bitcast(place, _BYTES.as_pointer()), align=1)
                return
            arguments = [value, builder.bitcast(place, POINTER), I32(1), mask]
            call_intrinsic(builder, f"llvm.masked.store.v{LANES}i8.p0", VOID, arguments)

        each_vector(builder, args[3], LANES, body)
        return context.get_dummy_value()

    return types.void(m, words, types.uint32, types.intp), codegen


@intrinsic
def _gate(typingctx: Any, a: Any, m: Any, scale: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target, source = (_data(context, builder, sig, args, i) for i in (0, 1))
        kind = ir.VectorType(context.get_value_type(a.dtype), LANES)
        factor = splat(builder, args[2], kind)
        nothing = ir.Constant(kind, [ir.Constant(kind.element, 0.0)] * LANES)

        def body(i: Any, mask: Any) -> None:
            place = builder.gep(source, [i])
            if mask is None:
                marks = builder.load(builder.bitcast(place, _BYTES.as_pointer()), align=1)
            else:
                zero = ir.Constant(_BYTES, [0] * LANES)
                arguments = [builder.bitcast(place, POINTER), I32(1), mask, zero]
                marks = call_intrinsic(
                    builder, f"llvm.masked.load.v{LANES}i8.p0", _BYTES, arguments
                )
            kept = builder.icmp_unsigned("!=", marks, ir.Constant(_BYTES, [0] * LANES))
            by = builder.select(kept, factor, nothing)
            place = builder.gep(target, [i])
            store(builder, builder.fmul(load(builder, place, mask, kind), by), place, mask)

        each_vector(builder, args[3], LANES, body)
        return context.get_dummy_value()

    return types.void(a, m, a.dtype, types.intp), codegen


def _mark_python(m: np.ndarray, words: np.ndarray, limit: int, count: int) -> None:
    m[:count] = words[:count] >= limit


def _gate_python(a: np.ndarray, m: np.ndarray, scale: Any, count: int) -> None:
    with np.errstate(invalid="ignore"):
        a[:count] *= np.where(m[:count] != 0, scale, a.dtype.type(0))


mark: Any = _mark_python if JIT_DISABLED else _mark
"""`mark(m, words, limit, count)`: m = words >= limit as bytes. Words are read in whole vectors."""

gate: Any = _gate_python if JIT_DISABLED else _gate
"""`gate(a, m, scale, count)`: a *= scale where m is not 0, else *= 0 (so a NaN stays one)."""
