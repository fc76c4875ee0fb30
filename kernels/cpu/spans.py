"""Formulas applied to stretches of rows, as explicit vector loops: maps and reductions.

`span` turns a table {code: formula} into a function that jitted code calls:

    f(code, *outputs, *inputs, row, count, scalars) -> the sums, if any

It runs formula(*inputs, *scalars) over the first `count` elements from the start of `row` of each
C-contiguous array, 64 bytes at a time; the last, partial vector is masked. So it is one code path
without remainders: an element's bits depend neither on its column nor on the cut. An output may be an
input (each vector is read before it is written). Loops that LLVM vectorises by itself would meet
run-time overlap checks (and run scalar in place) and up to 15 scalar elements at every row's end, which
for 10 classes is the whole row.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import JIT_DISABLED
from .lanes import Lanes, select

BYTES = 64
"""Bytes of a vector: one AVX-512 register; LLVM splits it where registers are narrower."""

Formula = Callable[..., Any]

_I32 = ir.IntType(32)

# What a reduction starts from, and how two partial results become one. `max` drops a NaN: whoever
# uses it meets the NaN again in the sum that follows.
_REDUCTIONS: dict[str, tuple[float, Callable[[Any, Any], Any]]] = {
    "sum": (0.0, operator.add),
    "max": (-np.inf, lambda a, b: select(a > b, a, b)),
}


class _Span:
    """Emits one formula's loop."""

    def __init__(self, outputs: int, totals: int, reduction: str) -> None:
        self.outputs, self.totals = outputs, totals
        self.start, self.combine = _REDUCTIONS[reduction]

    def emit(
        self,
        builder: Any,
        kind: ir.VectorType,
        formula: Formula,
        pointers: list[Any],
        count: Any,
        scalars: list[Any],
    ) -> list[Any]:
        """The loop over `count` elements behind the pointers; returns the totals, one scalar each."""
        slots = [cgutils.alloca_once(builder, kind) for _ in range(self.totals)]
        begin = ir.Constant(kind, [ir.Constant(kind.element, self.start)] * kind.count)
        for slot in slots:
            builder.store(begin, slot)
        step = ir.Constant(count.type, kind.count)
        constants = [_splat(builder, scalar, kind) for scalar in scalars]
        loop = cgutils.for_range_slice(builder, count.type(0), count, step, count.type)
        with loop as (j, _):
            mask = _mask(builder, builder.sub(count, j), kind.count)
            places = [builder.gep(p, [j]) for p in pointers]
            values = [_load(builder, p, mask, kind) for p in places[self.outputs :]]
            results = formula(*(Lanes(builder, v) for v in (*values, *constants)))
            results = results if isinstance(results, tuple) else (results,)
            for place, result in zip(places[: self.outputs], results, strict=False):
                _store(builder, result.value, place, mask)
            for slot, result in zip(slots, results[self.outputs :], strict=True):
                total = Lanes(builder, builder.load(slot))
                grown = self.combine(total, result)
                builder.store(builder.select(mask, grown.value, total.value), slot)
        return [self._across(builder, builder.load(slot)) for slot in slots]

    def _across(self, builder: Any, vector: Any) -> Any:
        """The lanes combined by halves: a fixed order."""
        lanes = vector.type.count
        while lanes > 1:
            lanes //= 2
            halves = [
                builder.shuffle_vector(
                    vector, vector, ir.Constant(ir.VectorType(_I32, lanes), list(order))
                )
                for order in (range(lanes), range(lanes, 2 * lanes))
            ]
            vector = self.combine(*(Lanes(builder, half) for half in halves)).value
        return builder.extract_element(vector, _I32(0))


def _splat(builder: Any, scalar: Any, kind: ir.VectorType) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, _I32(0))
    order = ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, undefined, order)


def _mask(builder: Any, left: Any, lanes: int) -> Any:
    """The lanes below `left`."""
    full = left.type(lanes)
    some = builder.trunc(builder.select(builder.icmp_signed("<", left, full), left, full), _I32)
    kind = ir.VectorType(_I32, lanes)
    numbers = ir.Constant(kind, list(range(lanes)))
    return builder.icmp_signed("<", numbers, _splat(builder, some, kind))


def _masked(builder: Any, name: str, result: ir.Type, arguments: list[Any]) -> Any:
    module = builder.module
    function = module.globals.get(name) or ir.Function(
        module, ir.FunctionType(result, [a.type for a in arguments]), name
    )
    return builder.call(function, arguments)


def _suffix(kind: ir.VectorType) -> str:
    return f"v{kind.count}f{32 if isinstance(kind.element, ir.FloatType) else 64}.p0"


def _load(builder: Any, place: Any, mask: Any, kind: ir.VectorType) -> Any:
    pointer = builder.bitcast(place, ir.PointerType())
    zero = ir.Constant(kind, [ir.Constant(kind.element, 0.0)] * kind.count)
    align = _I32(4 if isinstance(kind.element, ir.FloatType) else 8)
    name = f"llvm.masked.load.{_suffix(kind)}"
    return _masked(builder, name, kind, [pointer, align, mask, zero])


def _store(builder: Any, value: Any, place: Any, mask: Any) -> None:
    pointer = builder.bitcast(place, ir.PointerType())
    align = _I32(4 if isinstance(value.type.element, ir.FloatType) else 8)
    name = f"llvm.masked.store.{_suffix(value.type)}"
    _masked(builder, name, ir.VoidType(), [value, pointer, align, mask])


def span(
    table: Mapping[int, Formula], outputs: int, inputs: int, totals: int = 0, reduction: str = "sum"
) -> Any:
    """Make {code: formula} a function f(code, *outputs, *inputs, row, count, scalars).

    A formula takes the inputs' values and the scalars (a tuple, cast to the arrays' dtype) and
    returns the outputs' values, then the terms of the totals. f returns nothing, one total, or a tuple
    of them; for a code that is not in the table it does nothing and returns the start.
    """
    maker = _Span(outputs, totals, reduction)
    if JIT_DISABLED:
        return _python(table, maker, outputs + inputs)

    def typed(arrays: list[Any], rest: tuple[Any, ...]) -> Any:
        dtype = arrays[0].dtype
        result = [types.void, dtype][totals] if totals < 2 else types.UniTuple(dtype, totals)
        sig = result(types.intp, *arrays, types.intp, types.intp, rest[2])

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            code, *values, row, count, scalars = args
            pointers = []
            for kind, value in zip(sig.args[1:-3], values, strict=True):
                array = context.make_array(kind)(context, builder, value)
                start = builder.mul(row, cgutils.unpack_tuple(builder, array.shape)[1])
                pointers.append(builder.gep(array.data, [start]))
            numbers = [
                context.cast(builder, number, have, dtype)
                for number, have in zip(
                    cgutils.unpack_tuple(builder, scalars), sig.args[-1], strict=True
                )
            ]
            element = context.get_value_type(dtype)
            vector = ir.VectorType(element, 8 * BYTES // dtype.bitwidth)
            found = _switch(builder, table, maker, code, (vector, pointers, count, numbers))
            if not totals:
                return context.get_dummy_value()
            return found[0] if totals == 1 else context.make_tuple(builder, result, found)

        return sig, codegen

    return _doors(typed)[outputs + inputs]


def _switch(builder: Any, table: Mapping[int, Formula], maker: _Span, code: Any, rest: Any) -> Any:
    """One loop for each formula of the table, and a jump to the one that `code` names."""
    vector, pointers, count, numbers = rest
    slots = [cgutils.alloca_once(builder, vector.element) for _ in range(maker.totals)]
    for slot in slots:
        builder.store(ir.Constant(vector.element, maker.start), slot)
    end = builder.append_basic_block("span.end")
    choice = builder.switch(code, end)
    for number, formula in table.items():
        block = builder.append_basic_block(f"span.{formula.__name__}")
        choice.add_case(code.type(number), block)
        builder.position_at_end(block)
        found = maker.emit(builder, vector, formula, pointers, count, numbers)
        for slot, value in zip(slots, found, strict=True):
            builder.store(value, slot)
        builder.branch(end)
    builder.position_at_end(end)
    return [builder.load(slot) for slot in slots]


def _doors(typed: Any) -> dict[int, Any]:
    """The intrinsic for 1 to 4 arrays: Numba reads the number of arguments from the signature."""

    @intrinsic
    def one(ctx: Any, code: Any, a: Any, row: Any, count: Any, scalars: Any) -> Any:
        return typed([a], (row, count, scalars))

    @intrinsic
    def two(ctx: Any, code: Any, a: Any, b: Any, row: Any, count: Any, scalars: Any) -> Any:
        return typed([a, b], (row, count, scalars))

    @intrinsic
    def three(
        ctx: Any, code: Any, a: Any, b: Any, c: Any, row: Any, count: Any, scalars: Any
    ) -> Any:
        return typed([a, b, c], (row, count, scalars))

    @intrinsic
    def four(
        ctx: Any, code: Any, a: Any, b: Any, c: Any, d: Any, row: Any, count: Any, scalars: Any
    ) -> Any:
        return typed([a, b, c, d], (row, count, scalars))

    return {1: one, 2: two, 3: three, 4: four}


def _python(table: Mapping[int, Formula], maker: _Span, arrays: int) -> Any:
    """The same on NumPy slices."""
    reduce = {operator.add: np.add.reduce}.get(maker.combine, np.maximum.reduce)

    def run(code: int, *rest: Any) -> Any:
        *windows, row, count, scalars = rest
        flat = [a.reshape(-1)[row * a.shape[1] :][:count] for a in windows[:arrays]]
        numbers = [flat[0].dtype.type(s) for s in scalars]
        totals = [flat[0].dtype.type(maker.start)] * maker.totals
        if code in table:
            with np.errstate(all="ignore"):
                results = table[code](*flat[maker.outputs :], *numbers)
                results = results if isinstance(results, tuple) else (results,)
                for place, result in zip(flat[: maker.outputs], results, strict=False):
                    place[...] = result
                totals = [reduce(r) for r in results[maker.outputs :]]
        return None if not totals else totals[0] if len(totals) == 1 else tuple(totals)

    return run
