"""Register tiles: micro-kernels of the matrix product, emitted as LLVM vector IR.

A *panel* function multiplies many rows of A by one panel of B that is `vectors` SIMD vectors wide:

    C[i, :] = finish(start + sum_p A[i, p] * B[p, :])        for all rows i

in tiles of `height` rows whose accumulators never leave the registers. Every element is one chain
of fused multiply-adds in the order of p, whatever tile computes it: so neither the shape of the
tiles nor the cut of the rows among threads changes a bit.

The last vector of a panel is masked; a panel is as narrow as the columns that are left. Heights
and widths come from the register file: 32 registers hold 24 accumulators (AVX-512, NEON), 16 hold
12 (AVX2). A tile of one vector is bound by its loads, one for each row, so heights that batches are
made of serve it best: 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from llvmlite import ir

from .irtools import I64, POINTER, VOID, internal_function
from .prefetch import emit_prefetch
from .tile_depth import depth_loop
from .tile_prefetch import prefetch_c
from .vectors import Vectors

# How a tile's accumulators start, and what is done to them before they are stored.
START_ZERO, START_BIAS, START_C = range(3)
FINISH_NONE, FINISH_RELU, FINISH_MASK = range(3)
# Added to how they finish: lines that other cores have read and this one will write are claimed,
# those of C before the tile's multiplications, and those of `beside` after. That is like C: relu's
# outputs with FINISH_MASK, and with CLAIM_BESIDE whatever will be written.
CLAIM_C, CLAIM_BESIDE = 4, 8
# Added by a product whose C is large: the lines that a tile adds to or writes are prefetched.
PREFETCH_C = 16
FINISH_BITS: Final = 3
"""Of `finish`, the bits that say which; those above are claims and prefetches."""


@dataclass(frozen=True)
class TileSet:
    """The tiles of one kind of CPU.

    Attributes:
        vector_bytes: of a register.
        heights: by width in vectors, from tall to 1.
        free_masks: a masked load costs what a whole one does. AVX2's takes a second slot, and NEON
            has none: lane by lane. There B is read whole wherever it may be.
        steps: of the depth that the largest tile multiplies in a row. Of the 46 instructions of one
            that stands alone 8 count and branch, 11 of the 31 of AVX2: nothing to a core that
            decodes six a cycle, but a thread whose core another one shares has half of that. For
            NEON LLVM would move loads ahead until accumulators leave the registers.
    """

    name: str
    vector_bytes: int
    heights: dict[int, tuple[int, ...]]
    free_masks: bool
    steps: int

    def lanes(self, itemsize: int) -> int:
        return self.vector_bytes // itemsize

    @property
    def widest(self) -> int:
        return max(self.heights)


_WIDE: Final = {4: (6, 4, 2, 1), 3: (8, 4, 2, 1), 2: (12, 8, 4, 2, 1), 1: (16, 12, 8, 4, 2, 1)}

TILE_SETS: Final = {
    "avx512": TileSet("avx512", 64, _WIDE, free_masks=True, steps=4),
    "avx2": TileSet("avx2", 32, {2: (6, 4, 2, 1), 1: (10, 4, 2, 1)}, free_masks=False, steps=4),
    "neon": TileSet("neon", 16, _WIDE, free_masks=False, steps=1),
}


# Arguments of a panel function, in order.
_POINTERS = ("a", "b", "c", "bias", "beside")
_NUMBERS = (
    "rows", "depth", "a_row", "a_step", "b_step", "c_row", "beside_row", "rest", "prefetched",
    "prefetched_at", "whole", "next", "next_row", "next_by", "next_depth", "next_tiles",
)  # fmt: skip
PANEL_POINTERS: Final = len(_POINTERS)
PANEL_ARGUMENTS: Final = (*_POINTERS, *_NUMBERS, "start", "finish")
PANEL_TYPE: Final = ir.FunctionType(VOID, [POINTER] * PANEL_POINTERS + [I64] * (len(_NUMBERS) + 2))


@dataclass
class _Tile:
    """What the pieces of one tile share while it is emitted.

    largest: of its set; in it large products spend their time, and only it prefetches what they
    read next.
    steps: of the depth, multiplied in a row.
    """

    simd: Vectors
    height: int
    vectors: int
    arg: dict[str, Any]
    mask: Any
    whole: bool
    largest: bool
    steps: int

    def cells(self) -> list[tuple[int, int]]:
        return [(i, v) for i in range(self.height) for v in range(self.vectors)]

    def guard(self, v: int) -> Any:
        return self.mask if v == self.vectors - 1 else None

    def guard_of_b(self, v: int) -> Any:
        return None if self.whole else self.guard(v)

    def row(self, pointer: Any, stride: Any, i: int) -> Any:
        return self.simd.at(pointer, self.simd.builder.mul(stride, ir.Constant(I64, i)))

    def cell(self, pointer: Any, stride: Any, i: int, v: int) -> Any:
        """Address of vector v of row i."""
        return self.simd.at(self.row(pointer, stride, i), v * self.simd.lanes)


def build_panel(module: ir.Module, tiles: TileSet, itemsize: int, vectors: int) -> ir.Function:
    """Emit (once a module) the panel function for panels of `vectors` vectors."""
    name = f"fastbp_panel_{tiles.name}_{itemsize}_{vectors}"
    if name in module.globals:
        return module.globals[name]
    function = internal_function(module, PANEL_TYPE, name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    simd = Vectors(builder, tiles.lanes(itemsize), itemsize)
    arg = dict(zip(PANEL_ARGUMENTS, function.args, strict=True))
    mask = simd.first(arg["rest"])
    largest = (max(tiles.heights[tiles.widest]), tiles.widest)

    def loops(whole: bool) -> None:
        row: Any = ir.Constant(I64, 0)
        for height in tiles.heights[vectors]:
            big = (height, vectors) == largest
            steps = tiles.steps if big else 1
            tile = _Tile(simd, height, vectors, arg, mask, whole, big, steps)
            row = _row_loop(function, tile, row)

    if tiles.free_masks:
        loops(False)
    else:
        whole = builder.icmp_signed("!=", arg["whole"], ir.Constant(I64, 0))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                loops(True)
            with otherwise:
                loops(False)
    builder.ret_void()
    return function


def _row_loop(function: ir.Function, tile: _Tile, first: Any) -> Any:
    """Emit `while rows - row >= height: one tile; row += height`; the row after it is returned."""
    builder, arg = tile.simd.builder, tile.arg
    before = builder.block
    head, body, after = (
        function.append_basic_block(f"{part}{tile.height}") for part in ("head", "body", "after")
    )
    builder.branch(head)
    builder.position_at_end(head)
    row = builder.phi(I64)
    row.add_incoming(first, before)
    following = builder.add(row, ir.Constant(I64, tile.height))
    builder.cbranch(builder.icmp_signed("<=", following, arg["rows"]), body, after)
    builder.position_at_end(body)
    _one_tile(function, tile, row)
    row.add_incoming(following, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return row


def _one_tile(function: ir.Function, tile: _Tile, row: Any) -> None:
    simd, arg = tile.simd, tile.arg
    builder = simd.builder
    a = simd.at(arg["a"], builder.mul(row, arg["a_row"]))
    c = simd.at(arg["c"], builder.mul(row, arg["c_row"]))
    beside = simd.at(arg["beside"], builder.mul(row, arg["beside_row"]))
    with _where(tile, CLAIM_C):
        for i, v in tile.cells():
            simd.claim(tile.cell(c, arg["c_row"], i, v))
    with _where(tile, CLAIM_BESIDE):  # fetched by the time that they are claimed
        for i, v in tile.cells():
            emit_prefetch(builder, tile.cell(beside, arg["beside_row"], i, v), write=True)
    starts = _start(function, tile, c)
    if tile.largest:
        with _where(tile, PREFETCH_C):
            prefetch_c(tile, _expected(tile, c))
    totals = depth_loop(function, tile, a, row, starts)
    _finish(function, tile, c, beside, totals)
    with _where(tile, CLAIM_BESIDE):
        for i, v in tile.cells():
            simd.claim(tile.cell(beside, arg["beside_row"], i, v))


def _expected(tile: _Tile, c: Any) -> Any:
    """The rows of C to prefetch: this tile's, or the next one's if these hold sums, read by now."""
    builder, arg = tile.simd.builder, tile.arg
    begun = builder.icmp_signed("==", arg["start"], ir.Constant(I64, START_C))
    ahead = builder.select(begun, ir.Constant(I64, tile.height), ir.Constant(I64, 0))
    return tile.simd.at(c, builder.mul(arg["c_row"], ahead))


def _where(tile: _Tile, claim: int) -> Any:
    """The block that is run where `finish` has this claim."""
    builder = tile.simd.builder
    wanted = builder.and_(tile.arg["finish"], ir.Constant(I64, claim))
    return builder.if_then(builder.icmp_signed("!=", wanted, ir.Constant(I64, 0)), likely=False)


def _start(function: ir.Function, tile: _Tile, c: Any) -> list[Any]:
    """Accumulators: zero, the bias row, or what C holds."""
    simd, arg = tile.simd, tile.arg
    builder = simd.builder
    done = function.append_basic_block("started")
    zero, bias, old = (function.append_basic_block(n) for n in ("zero", "bias", "old"))
    choice = builder.switch(arg["start"], zero)
    choice.add_case(START_BIAS, bias)
    choice.add_case(START_C, old)
    arrivals = []
    for block in (zero, bias, old):
        builder.position_at_end(block)
        if block is zero:
            values = [simd.zero] * len(tile.cells())
        elif block is bias:
            parts = [
                simd.load(simd.at(arg["bias"], v * simd.lanes), tile.guard(v))
                for v in range(tile.vectors)
            ]
            values = [parts[v] for _, v in tile.cells()]
        else:
            values = [
                simd.load(tile.cell(c, arg["c_row"], i, v), tile.guard(v)) for i, v in tile.cells()
            ]
        builder.branch(done)
        arrivals.append((values, block))
    builder.position_at_end(done)
    accumulators = [builder.phi(simd.type) for _ in tile.cells()]
    for values, block in arrivals:
        for phi, value in zip(accumulators, values, strict=True):
            phi.add_incoming(value, block)
    return accumulators


def _finish(function: ir.Function, tile: _Tile, c: Any, beside: Any, totals: list[Any]) -> None:
    """Apply the epilogue and store: nothing, relu, or the mask of relu's derivative."""
    simd, arg = tile.simd, tile.arg
    builder = simd.builder
    plain, relu, mask, done = (
        function.append_basic_block(n) for n in ("plain", "relu", "mask", "done")
    )
    choice = builder.switch(builder.and_(arg["finish"], ir.Constant(I64, FINISH_BITS)), plain)
    choice.add_case(FINISH_RELU, relu)
    choice.add_case(FINISH_MASK, mask)
    for block in (plain, relu, mask):
        builder.position_at_end(block)
        for (i, v), total in zip(tile.cells(), totals, strict=True):
            value, guard = total, tile.guard(v)
            if block is relu:
                value = simd.unless_at_most_zero(total, total)
            elif block is mask:
                place = tile.cell(beside, arg["beside_row"], i, v)
                value = simd.unless_at_most_zero(simd.load(place, guard), total)
            simd.store(value, tile.cell(c, arg["c_row"], i, v), guard)
        builder.branch(done)
    builder.position_at_end(done)
