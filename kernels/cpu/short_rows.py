"""Losses over short rows: a block of rows is transposed in registers, so that a lane is a row.

A row of ten classes fills no vector, and its maximum, sum and logarithm wait for one another: about
70 ns a row, most of it latency. Turned, as many rows as a vector has lanes take the same steps at
once. A row's sum runs over its columns in order; its bits depend neither on its place in a block
nor on the block's size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .elementary import exp, log
from .irtools import I64, POINTER
from .jit import JIT_DISABLED
from .lanes import Lanes, select
from .loss_terms import held, softmax_cross_end, softmax_cross_start
from .packing import transposed
from .spans import BYTES
from .vectors import Vectors

SHORT_BYTES: Final = -1 if JIT_DISABLED else BYTES
"""Bytes of the longest row that is taken so: one vector; with the JIT off not even an empty one."""


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
        for j, column in enumerate(transposed(self.simd, rows)):
            self.builder.store(column, self._cell(into, I64(j)))
        return into

    def store(self, columns: Any, window: Any) -> None:
        """Columns back into the rows of a window."""
        values = [self.builder.load(self._cell(columns, I64(j))) for j in range(self.simd.lanes)]
        for value, there, mask in zip(
            transposed(self.simd, values), self._places(window), self.masks, strict=True
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


class _Losses:
    """What the losses from logits share: a block's numbers, and how its rows are weighted."""

    def __init__(self, context: Any, builder: Any, sig: Any, args: Any) -> None:
        windows = [0, 1, 2, 3, 7, 8]
        self.Z, self.A, self.Y, weight, self.losses, self.dZ = (
            context.make_array(sig.args[i])(context, builder, args[i]) for i in windows
        )
        self.block = block = _Block(builder, sig.args[0].dtype, *args[9:])
        self.builder, self.single = builder, block.itemsize == 4
        self.double = Vectors(builder, block.simd.lanes, 8)
        self.z, self.y = block.load(self.Z), block.load(self.Y)
        scale, *self.bounds = (Lanes(builder, self.double.splat(value)) for value in args[4:7])
        self.weight = self.wide(block.simd.load(place(builder, weight, block.first), block.rows))
        self.c = self.narrow(self.weight * scale)

    def wide(self, value: Any) -> Lanes:
        """In float64."""
        kind = self.double.type
        return Lanes(self.builder, self.builder.fpext(value, kind) if self.single else value)

    def narrow(self, value: Lanes) -> Lanes:
        """In the windows' dtype."""
        kind = self.block.simd.type
        return Lanes(
            self.builder, self.builder.fptrunc(value.value, kind) if self.single else value.value
        )

    def finish(self, loss: Lanes) -> None:
        """Store the rows' losses, and the columns that have become A and dZ."""
        where = place(self.builder, self.losses, self.block.first)
        self.double.store((self.weight * loss).value, where, self.block.rows)
        self.block.store(self.z, self.A)
        self.block.store(self.y, self.dZ)


def _losses_type(Z: Any, A: Any, Y: Any, weight: Any, losses: Any, dZ: Any) -> tuple[Any, ...]:
    three, counts = (types.float64,) * 3, (types.intp,) * 3
    return Z, A, Y, weight, *three, losses, dZ, *counts


@intrinsic
def softmax_cross_block(
    typingctx: Any, Z: Any, A: Any, Y: Any, weight: Any, scale: Any, least: Any, most: Any,
    losses: Any, dZ: Any, first: Any, count: Any, n: Any,
) -> Any:  # fmt: skip
    """Softmax with cross entropy as `loss.pair_rows` has it, for one block of rows."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        here = _Losses(context, builder, sig, args)
        block, z, y = here.block, here.z, here.y
        top, nought = block.top(z), block.vector(0.0)

        def start(z: Any, y: Any, total: Any, mass: Any, below: Any) -> tuple[Any, ...]:
            e, term, share, less = softmax_cross_start(z, y, top)
            return e, total + term, mass + share, below + less

        total, mass, below = block.each(start, [z, y], [z], [nought] * 3)
        loss = here.wide(below.value) + here.wide(mass.value) * here.wide(log(total).value)
        block.each(lambda e, y: softmax_cross_end(e, y, total, mass, here.c), [z, y], [z, y], [])
        here.finish(held(loss, *here.bounds))
        return context.get_dummy_value()

    return types.void(*_losses_type(Z, A, Y, weight, losses, dZ)), codegen


def pairs_block(table: Mapping[int, Callable[..., Any]]) -> Any:
    """Make {code: formula} of `loss_terms.PAIRS` a function for one block of rows.

    f(Z, A, Y, weight, scale, least, most, losses, dZ, first, count, n, code): as `loss.pair_rows`.
    """

    @intrinsic
    def block_of_pairs(
        typingctx: Any, Z: Any, A: Any, Y: Any, weight: Any, scale: Any, least: Any, most: Any,
        losses: Any, dZ: Any, first: Any, count: Any, n: Any, code: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            *args, code = args
            here = _Losses(context, builder, sig, args)
            block = here.block
            bounds = [here.narrow(bound) for bound in here.bounds]
            slot = cgutils.alloca_once_value(builder, block.vector(0.0).value)
            end = builder.append_basic_block("pairs.end")
            choice = builder.switch(code, end)
            for number, formula in table.items():
                branch = builder.append_basic_block(f"pairs.{formula.__name__}")
                choice.add_case(code.type(number), branch)
                builder.position_at_end(branch)

                def step(z: Any, y: Any, total: Any, formula: Any = formula) -> tuple[Any, ...]:
                    a, d, term = formula(z, y, here.c, *bounds)
                    return a, d, total + term

                columns = [here.z, here.y]
                (total,) = block.each(step, columns, columns, [block.vector(0.0)])
                builder.store(total.value, slot)
                builder.branch(end)
            builder.position_at_end(end)
            here.finish(here.wide(builder.load(slot)))
            return context.get_dummy_value()

        given = _losses_type(Z, A, Y, weight, losses, dZ)
        return types.void(*given, types.intp), codegen

    return block_of_pairs
