"""Formulas applied to stretches of rows, as explicit vector loops: maps and reductions.

`span` turns a table {code: formula} into a function that jitted code calls:

    f(code, *outputs, *inputs, row, count, scalars) -> the totals, if any

It runs formula(*inputs, *scalars) over the first `count` elements from the start of `row` of each
C-contiguous array. A map goes four vectors at a time, which keeps four chains of dependent
instructions in flight (1.3 to 1.9 times as fast as one), then one at a time; the last vector is
masked. No element meets other instructions than its neighbours, so its bits depend neither on its
column nor on the cut. An output may be an input: each vector is read before it is written.

Loops left to LLVM's vectoriser would check for overlap at run time (and run scalar in place) and
leave up to 15 scalar elements at every row's end, which for 10 classes is the whole row.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .host import vector_bytes
from .irtools import across, first_lanes, load, splat, store
from .jit import JIT_DISABLED
from .lanes import Lanes, select

BYTES: Final = vector_bytes()

CHAINS: Final = 4
"""Vectors that a map takes at a time."""

Formula = Callable[..., Any]

# What a reduction starts from, and how two partial results become one. `max` drops a NaN: whoever
# uses it meets the NaN again in the sum that follows.
_REDUCTIONS: dict[str, tuple[float, Callable[[Any, Any], Any]]] = {
    "sum": (0.0, operator.add),
    "max": (-np.inf, lambda a, b: select(a > b, a, b)),
}


class _Span:
    """Emits one formula's loops; `values` are the pointers, then the scalars."""

    def __init__(self, outputs: int, inputs: int, totals: int, reduction: str) -> None:
        self.outputs, self.arrays, self.totals = outputs, outputs + inputs, totals
        self.start, self.combine = _REDUCTIONS[reduction]

    def emit(self, builder: Any, formula: Formula, values: list[Any], count: Any) -> list[Any]:
        """The loops over `count` elements; returns the totals, one scalar each."""
        element = values[0].type.pointee
        lanes = BYTES // (4 if isinstance(element, ir.FloatType) else 8)
        kind, zero = ir.VectorType(element, lanes), count.type(0)
        slots = [cgutils.alloca_once(builder, kind) for _ in range(self.totals)]
        for slot in slots:
            builder.store(ir.Constant(kind, [ir.Constant(element, self.start)] * lanes), slot)
        done = zero
        if not self.totals:
            wide = ir.VectorType(element, CHAINS * lanes)
            done = builder.and_(count, count.type(-wide.count))
            with self._loop(builder, zero, done, wide.count) as j:
                self._step(builder, formula, values, wide, j)
        with self._loop(builder, done, count, lanes) as j:
            mask = first_lanes(builder, builder.sub(count, j), lanes)
            terms = self._step(builder, formula, values, kind, j, mask)
            for slot, term in zip(slots, terms, strict=True):
                total = Lanes(builder, builder.load(slot))
                grown = self.combine(total, term)
                builder.store(builder.select(mask, grown.value, total.value), slot)
        return [self._across(builder, builder.load(slot)) for slot in slots]

    @contextlib.contextmanager
    def _loop(self, builder: Any, begin: Any, end: Any, step: int) -> Iterator[Any]:
        loop = cgutils.for_range_slice(builder, begin, end, begin.type(step), begin.type)
        with loop as (j, _):
            yield j

    def _step(
        self, builder: Any, formula: Formula, values: list[Any], kind: Any, j: Any, mask: Any = None
    ) -> list[Any]:
        """One vector of `kind` from element j on; returns the terms of the totals."""
        places = [builder.gep(pointer, [j]) for pointer in values[: self.arrays]]
        given = [load(builder, place, mask, kind) for place in places[self.outputs :]]
        given += [splat(builder, scalar, kind) for scalar in values[self.arrays :]]
        results = formula(*(Lanes(builder, value) for value in given))
        results = results if isinstance(results, tuple) else (results,)
        for place, result in zip(places[: self.outputs], results, strict=False):
            store(builder, result.value, place, mask)
        return list(results[self.outputs :])

    def _across(self, builder: Any, vector: Any) -> Any:
        """The lanes combined by halves."""
        return across(
            builder, vector, lambda a, b: self.combine(Lanes(builder, a), Lanes(builder, b)).value
        )


def span(
    table: Mapping[int, Formula], outputs: int, inputs: int, totals: int = 0, reduction: str = "sum"
) -> Any:
    """Make {code: formula} a function f(code, *outputs, *inputs, row, count, scalars).

    A formula takes the inputs' values and the scalars (a tuple, cast to the arrays' dtype) and
    returns the outputs' values, then the terms of the totals. f returns nothing, one total, or a
    tuple of them; for a code that is not in the table it does nothing and returns the start.
    """
    maker = _Span(outputs, inputs, totals, reduction)
    if JIT_DISABLED:
        return _python(table, maker)

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
            found = _switch(builder, table, maker, code, pointers + numbers, count)
            if not totals:
                return context.get_dummy_value()
            return found[0] if totals == 1 else context.make_tuple(builder, result, found)

        return sig, codegen

    return _doors(typed)[outputs + inputs]


def _switch(
    builder: Any, table: Mapping[int, Formula], maker: _Span, code: Any, values: Any, count: Any
) -> list[Any]:
    """The loops of each formula of the table, and a jump to those that `code` names."""
    element = values[0].type.pointee
    slots = [cgutils.alloca_once(builder, element) for _ in range(maker.totals)]
    for slot in slots:
        builder.store(ir.Constant(element, maker.start), slot)
    end = builder.append_basic_block("span.end")
    choice = builder.switch(code, end)
    for number, formula in table.items():
        block = builder.append_basic_block(f"span.{formula.__name__}")
        choice.add_case(code.type(number), block)
        builder.position_at_end(block)
        found = maker.emit(builder, formula, values, count)
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


def _python(table: Mapping[int, Formula], maker: _Span) -> Any:
    """The same on NumPy slices."""
    reduce = {operator.add: np.add.reduce}.get(maker.combine, np.maximum.reduce)

    def run(code: int, *rest: Any) -> Any:
        *windows, row, count, scalars = rest
        flat = [a.reshape(-1)[row * a.shape[1] :][:count] for a in windows]
        numbers = [flat[0].dtype.type(s) for s in scalars]
        totals = [flat[0].dtype.type(maker.start)] * maker.totals
        if code in table:
            with np.errstate(all="ignore"):
                results = table[code](*flat[maker.outputs :], *numbers)
                results = results if isinstance(results, tuple) else (results,)
                for place, result in zip(flat[: maker.outputs], results, strict=False):
                    place[...] = result
                totals = [reduce(r, initial=maker.start) for r in results[maker.outputs :]]
        return None if not totals else totals[0] if len(totals) == 1 else tuple(totals)

    return run
