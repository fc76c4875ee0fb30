"""What a tile prefetches while it multiplies: cache lines that are read or written soon.

A tile's own loads come first: prefetches are spread over its depth, a few at every line of A, since
a core has few of them under way at once and all that follow wait.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..layout import CACHE_LINE
from .irtools import I8, I64, POINTER
from .prefetch import emit_prefetch


def first_of_next(tile: Any, row: Any) -> tuple[Any, Any]:
    """Where the tile's first prefetch of what is read next goes, and the depth of its last.

    What is next has rows that lie `next_row` bytes apart. A tile prefetches two neighbouring lines
    of each `next_by`-th row (1 or 4), for every four depth steps below `next_depth`; the tile after
    it prefetches the rows between or the next two lines, up to `next_tiles` tiles. Four times as
    many kept the tile's own loads waiting, and nothing was gained (EPYC, Zen 5).
    """
    builder, arg = tile.simd.builder, tile.arg
    number = builder.sdiv(row, ir.Constant(I64, tile.height))
    by = arg["next_by"]
    inner = builder.and_(number, builder.sub(by, ir.Constant(I64, 1)))
    outer = builder.ashr(number, builder.ashr(by, ir.Constant(I64, 1)))
    first = builder.add(arg["next"], builder.mul(inner, arg["next_row"]))
    first = builder.add(first, builder.mul(outer, ir.Constant(I64, 2 * CACHE_LINE)))
    left = builder.icmp_signed("<", number, arg["next_tiles"])
    return first, builder.select(left, arg["next_depth"], ir.Constant(I64, 0))


def prefetch_b(tile: Any, p: Any, first: Any) -> None:
    """Prefetch what the depth steps from p up to the next line of A would prefetch: all at once.

    Eight lines of float32. To look in every depth step whether it is a fourth one cost small
    networks 2% of a step.
    """
    simd, arg = tile.simd, tile.arg
    builder = simd.builder
    fourth = builder.lshr(p, ir.Constant(I64, 2))
    stride = builder.mul(arg["next_by"], arg["next_row"])
    place = builder.add(first, builder.mul(fourth, stride))
    for _ in range(CACHE_LINE // simd.itemsize // 4):
        for line in range(2):
            there = builder.add(place, ir.Constant(I64, line * CACHE_LINE))
            emit_prefetch(builder, builder.inttoptr(there, POINTER), level=2)
        place = builder.add(place, stride)


def prefetch_c(tile: Any, c: Any) -> None:
    """Prefetch the lines of a tile's rows of C, where its sums go.

    Sums that meet no line wait for one, and B on its way from the L2 waits behind them: a core has
    some ten lines under way at once.
    """
    simd = tile.simd
    for i in range(tile.height):
        row = tile.row(c, tile.arg["c_row"], i)
        for at in range(0, tile.vectors * simd.lanes, CACHE_LINE // simd.itemsize):
            emit_prefetch(simd.builder, simd.at(row, at), level=2)


def prefetch_batch(tile: Any, row: Any, p: Any) -> None:
    """Prefetch one line of each row that the next batch has in these places, and claim its place.

    `prefetched` says where from and, if that is to be claimed, where to. As many as a tile has
    rows, once a line of A: spread so thin they cost nothing. All of a batch's at once wait for each
    other, and 3 ns each (100 KB: 4.7 us).
    """
    simd, arg = tile.simd, tile.arg
    builder = simd.builder
    at = builder.add(arg["prefetched_at"], builder.mul(p, ir.Constant(I64, simd.itemsize)))
    pairs = builder.inttoptr(arg["prefetched"], POINTER)
    first = builder.shl(row, ir.Constant(I64, 1))

    def number(i: int, which: int) -> Any:
        index = builder.add(first, ir.Constant(I64, 2 * i + which))
        return builder.load(builder.gep(pairs, [index], source_etype=I64), typ=I64, align=8)

    def place(address: Any) -> Any:
        return builder.inttoptr(builder.add(address, at), POINTER)

    for i in range(tile.height):
        emit_prefetch(builder, place(number(i, 0)), level=2)
    with builder.if_then(builder.icmp_signed("!=", number(0, 1), ir.Constant(I64, 0))):
        for i in range(tile.height):
            there = place(number(i, 1))
            following = builder.gep(there, [I64(CACHE_LINE)], source_etype=I8)
            emit_prefetch(builder, following, write=True)
            simd.claim(there)
