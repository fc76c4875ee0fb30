"""Softmax over short rows: a block of rows is turned in registers, so that a lane is a row.

A row of ten classes fills no vector, and its maximum, sum and logarithm wait for one another: about
70 ns a row, most of it latency. Turned, as many rows as a vector has lanes take the same steps at
once. A row's sum runs over its columns in order; its bits depend neither on its place in a block
nor on the block's size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .elementary import exp, log
from .jit import JIT_DISABLED
from .lanes import Lanes, select
from .loss_terms import softmax_cross_end, softmax_cross_start
from .packing import turned
from .spans import BYTES
from .tiles import I64, POINTER, Vectors

SHORT_BYTES: Final = 0 if JIT_DISABLED else BYTES
"""Bytes of the longest row that is taken so: one vector."""


def place(builder: Any, array: Any, index: Any) -> Any:
    """Address of element `index` of an array, counted flat."""
    return builder.bitcast(builder.gep(array.data, [index]), POINTER)


class _Block:
    """`count` rows of up to one vector each, from row `first` on, one column at a time."""

    def __init__(self, builder: Any, dtype: Any, first: Any, count: Any, n: Any) -> None:
        self.itemsize = dtype.bitwidth // 8
        self.simd = Vectors(builder, BYTES // self.itemsize, self.itemsize)
        self.builder, self.first, self.count, self.n = builder, first, count, n
        self.rows = self.simd.first(count)
        width, nothing = self.simd.first(n), self.simd.first(ir.Constant(I64, 0))
        self.masks = [
            builder.select(builder.icmp_signed(">", count, ir.Constant(I64, r)), width, nothing)
            for r in range(self.simd.lanes)
        ]

    def columns(self) -> Any:
        """Room for the columns of one window."""
        kind = ir.ArrayType(self.simd.type, self.simd.lanes)
        return cgutils.alloca_once(self.builder, kind)

    def _places(self, window: Any) -> list[Any]:
        row = cgutils.unpack_tuple(self.builder, window.shape)[1]
        return [
            place(
                self.builder,
                window,
                self.builder.mul(self.builder.add(self.first, ir.Constant(I64, r)), row),
            )
            for r in range(self.simd.lanes)
        ]

    def load(self, window: Any) -> Any:
        """The columns of a window's block."""
        rows = [
            self.simd.load(there, mask)
            for there, mask in zip(self._places(window), self.masks, strict=True)
        ]
        into = self.columns()
        for j, column in enumerate(turned(self.simd, rows)):
            self.builder.store(column, self._cell(into, I64(j)))
        return into

    def store(self, columns: Any, window: Any) -> None:
        """Columns back into the rows of a window."""
        values = [self.builder.load(self._cell(columns, I64(j))) for j in range(self.simd.lanes)]
        for value, there, mask in zip(
            turned(self.simd, values), self._places(window), self.masks, strict=True
        ):
            self.simd.store(value, there, mask)

    def _cell(self, columns: Any, j: Any) -> Any:
        return self.builder.gep(columns, [I64(0), j])

    def vector(self, number: float) -> Lanes:
        """`number` in every lane."""
        one = ir.Constant(self.simd.element, number)
        return Lanes(self.builder, ir.Constant(self.simd.type, [one] * self.simd.lanes))

    def each(
        self,
        formula: Callable[..., Any],
        inputs: list[Any],
        outputs: list[Any],
        starts: list[Lanes],
    ) -> list[Lanes]:
        """formula(columns..., totals so far...) -> (columns..., totals) for each column in turn."""
        builder = self.builder
        slots = [cgutils.alloca_once_value(builder, start.value) for start in starts]
        with cgutils.for_range(builder, self.n) as loop:
            given = [builder.load(self._cell(columns, loop.index)) for columns in inputs]
            given += [builder.load(slot) for slot in slots]
            results = formula(*(Lanes(builder, value) for value in given))
            for columns, result in zip(outputs, results, strict=False):
                builder.store(result.value, self._cell(columns, loop.index))
            for slot, result in zip(slots, results[len(outputs) :], strict=True):
                builder.store(result.value, slot)
        return [Lanes(builder, builder.load(slot)) for slot in slots]

    def top(self, columns: Any) -> Lanes:
        """The largest of each row; a NaN is met again in the sum that follows."""
        return self.each(
            lambda z, top: (select(top > z, top, z),), [columns], [], [self.vector(float("-inf"))]
        )[0]


@intrinsic
def softmax_block(typingctx: Any, Z: Any, A: Any, first: Any, count: Any, n: Any) -> Any:
    """A = softmax(Z), rows first to first + count (at most a vector's lanes), n columns."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        Z, A = (
            context.make_array(k)(context, builder, v)
            for k, v in zip(sig.args[:2], args[:2], strict=True)
        )
        block = _Block(builder, sig.args[0].dtype, *args[2:])
        z = block.load(Z)
        top = block.top(z)

        def start(z: Any, total: Any) -> tuple[Any, Any]:
            e = exp(z - top)
            return e, total + e

        (total,) = block.each(start, [z], [z], [block.vector(0.0)])
        block.each(lambda e: (e / total,), [z], [z], [])
        block.store(z, A)
        return context.get_dummy_value()

    return types.void(Z, A, types.intp, types.intp, types.intp), codegen


@intrinsic
def softmax_cross_block(
    typingctx: Any, Z: Any, A: Any, Y: Any, weight: Any, scale: Any, least: Any, most: Any,
    losses: Any, dZ: Any, first: Any, count: Any, n: Any,
) -> Any:  # fmt: skip
    """Softmax with cross entropy as `loss.pair_rows` has it, for one block of rows."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        windows = [0, 1, 2, 3, 7, 8]
        Z, A, Y, weight, losses, dZ = (
            context.make_array(sig.args[i])(context, builder, args[i]) for i in windows
        )
        first = args[9]
        block = _Block(builder, sig.args[0].dtype, *args[9:])
        lanes = block.simd.lanes
        double = Vectors(builder, lanes, 8)
        z, y = block.load(Z), block.load(Y)
        top, nought = block.top(z), block.vector(0.0)

        def start(z: Any, y: Any, total: Any, mass: Any, below: Any) -> tuple[Any, ...]:
            e, term, share, less = softmax_cross_start(z, y, top)
            return e, total + term, mass + share, below + less

        total, mass, below = block.each(start, [z, y], [z], [nought] * 3)

        def wide(value: Any) -> Lanes:
            single = block.itemsize == 4
            return Lanes(builder, builder.fpext(value, double.type) if single else value)

        scale, least, most = (Lanes(builder, double.splat(value)) for value in args[4:7])
        w = wide(block.simd.load(place(builder, weight, first), block.rows))
        c = (w * scale).value
        c = Lanes(builder, builder.fptrunc(c, block.simd.type) if block.itemsize == 4 else c)
        loss = wide(below.value) + wide(mass.value) * wide(log(total).value)
        loss = select(loss < least, least, select(loss > most, most, loss))
        double.store((w * loss).value, place(builder, losses, first), block.rows)
        block.each(lambda e, y: softmax_cross_end(e, y, total, mass, c), [z, y], [z, y], [])
        block.store(z, A)
        block.store(y, dZ)
        return context.get_dummy_value()

    three, counts = (types.float64,) * 3, (types.intp,) * 3
    return types.void(Z, A, Y, weight, *three, losses, dZ, *counts), codegen
