"""Formulas applied to flat vectors in place, as explicit vector loops.

`stream` turns a table {code: formula} into a function that jitted code calls:

    f(code, (a, b, c, ...), count, scalars)

It runs formula(*values, *scalars) over the first `count` elements of the vectors and stores what it
returns into the first of them. Whole vectors first, then one masked vector for what is left, in the
same operations: no cut changes a bit, and vectors may be one another (each is read before it is
written). `outer.py` does so where the last vector is an outer product. LLVM's own vectoriser would
guard each of these loops with overlap checks, fall back to scalars where an output is an input, and
take three times as long to compile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .irtools import across, call_intrinsic, each_vector, load, splat, store, type_suffix
from .jit import JIT_DISABLED
from .lanes import Lanes, fma
from .spans import BYTES

Formula = Callable[..., Any]


def root(x: Any) -> Any:
    """Square root, correctly rounded, of `Lanes` or NumPy values."""
    if not isinstance(x, Lanes):
        return np.sqrt(x)
    kind = x.value.type
    name = f"llvm.sqrt.{type_suffix(kind)}"
    return Lanes(x.builder, call_intrinsic(x.builder, name, kind, [x.value]))


def apply(
    builder: Any, formula: Formula, outputs: int, places: list[Any], mask: Any,
    scalars: list[Any], kind: ir.VectorType, factor: Any = None,
) -> None:  # fmt: skip
    """Emit a formula on one vector from each place, the last times `factor` where there is one."""
    values = [load(builder, place, mask, kind) for place in places]
    if factor is not None:
        values[-1] = builder.fmul(values[-1], factor)
    results = formula(*(Lanes(builder, v) for v in (*values, *scalars)))
    results = results if isinstance(results, tuple) else (results,)
    for place, result in zip(places[:outputs], results, strict=True):
        store(builder, result.value, place, mask)


def _loops(
    builder: Any, formula: Formula, outputs: int, pointers: list[Any], count: Any,
    scalars: list[Any], kind: ir.VectorType,
) -> None:  # fmt: skip
    """The loop over whole vectors, then the masked rest."""
    constants = [splat(builder, scalar, kind) for scalar in scalars]

    def body(i: Any, mask: Any) -> None:
        places = [builder.gep(p, [i]) for p in pointers]
        apply(builder, formula, outputs, places, mask, constants, kind)

    each_vector(builder, count, kind.count, body)


def in_python(table: Mapping[int, Formula], outputs: int) -> Any:
    """What stands for `stream` with the JIT off."""

    def run(code: int, arrays: Any, count: int, scalars: Any) -> None:
        numbers = [arrays[0].dtype.type(s) for s in scalars]
        with np.errstate(all="ignore"):
            results = table[code](*(a[:count] for a in arrays), *numbers)
        results = results if isinstance(results, tuple) else (results,)
        for array, result in zip(arrays[:outputs], results, strict=True):
            array[:count] = result

    return run


def stream(table: Mapping[int, Formula], outputs: int) -> Any:
    """Make {code: formula} a function f(code, arrays, count, scalars).

    A formula takes a value of each array, then the scalars (cast to the arrays' dtype), and returns
    the new values of the first `outputs` arrays. A code that is not in the table does nothing.
    """
    if JIT_DISABLED:
        return in_python(table, outputs)
    codegen = emitter(table, outputs, _loops)

    @intrinsic
    def door(typingctx: Any, code: Any, arrays: Any, count: Any, scalars: Any) -> Any:
        return types.void(types.intp, arrays, types.intp, scalars), codegen

    return door


def emitter(table: Mapping[int, Formula], outputs: int, loops: Callable[..., None]) -> Any:
    """The code generator of a door: `loops` of the formula that the code chooses."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code, arrays, count, scalars, *outer = args
        if outer:
            outer[1] = context.make_array(sig.args[5])(context, builder, outer[1]).data
        array = sig.args[1][0]
        dtype = array.dtype
        pointers = [
            context.make_array(array)(context, builder, a).data
            for a in cgutils.unpack_tuple(builder, arrays)
        ]
        numbers = [
            context.cast(builder, number, kind, dtype)
            for number, kind in zip(
                cgutils.unpack_tuple(builder, scalars), sig.args[3], strict=True
            )
        ]
        kind = ir.VectorType(context.get_value_type(dtype), 8 * BYTES // dtype.bitwidth)
        end = builder.append_basic_block("stream.end")
        choice = builder.switch(code, end)
        for number, formula in table.items():
            block = builder.append_basic_block(f"stream.{formula.__name__}")
            choice.add_case(code.type(number), block)
            builder.position_at_end(block)
            loops(builder, formula, outputs, pointers, count, numbers, kind, *outer)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return codegen


PARTIAL = 32
"""Partial sums of `square_sum`: four vectors of 8 float64, enough to hide an addition's latency."""


def _square_sum_python(x: np.ndarray, count: int) -> float:
    squares = np.zeros(-(-count // PARTIAL) * PARTIAL)
    squares[:count] = np.square(x[:count], dtype=np.float64)
    partial = np.add.reduce(squares.reshape(-1, PARTIAL), axis=0)
    while partial.size > 1:
        partial = partial[: partial.size // 2] + partial[partial.size // 2 :]
    return float(partial[0])


@intrinsic
def _square_sum(typingctx: Any, x: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        kind = ir.VectorType(context.get_value_type(x.dtype), PARTIAL)
        wide = ir.VectorType(ir.DoubleType(), PARTIAL)
        total = cgutils.alloca_once_value(builder, ir.Constant(wide, [0.0] * PARTIAL))

        def add(i: Any, mask: Any) -> None:
            value = load(builder, builder.gep(data, [i]), mask, kind)
            value = Lanes(builder, value if kind == wide else builder.fpext(value, wide))
            builder.store(fma(value, value, Lanes(builder, builder.load(total))).value, total)

        each_vector(builder, args[1], PARTIAL, add)
        return across(builder, builder.load(total), builder.fadd)

    return types.float64(x, types.intp), codegen


square_sum: Any = _square_sum_python if JIT_DISABLED else _square_sum
"""`square_sum(x, count)`: sum of the squares of a vector's first elements, in float64."""
