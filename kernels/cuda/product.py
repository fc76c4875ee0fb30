"""Tiles of a product C = A B, by one block of threads each: the heart of all three products.

The factors are flat arrays with two strides each, one of which is 1: A[i, k] is
A[a0 + i ai + k ak], B[k, j] is B[b0 + j bj + k bk]. So A W (forward), dZ W^T (backward) and A^T dZ
(the gradient) are one function. Stages of both factors, some columns of A and rows of B, are on
their way into shared memory while an earlier one is worked on; no thread holds them meanwhile.

Each result is summed by one thread over ascending k (a slice's share of them, then the slices in
order): the bits depend on the shape alone. What becomes of a result is `finish(job, i, j, sum)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .machine import (
    accumulation,
    apart,
    banding,
    blank16,
    blank64,
    bring,
    device,
    landing,
    meet,
    peek,
    seal,
    thread,
)
from .tiles import LARGE, PROCESSORS, SMALL, THREADS, Tile


def _bringing(tile: Tile) -> Any:
    """`bring_part(...)`: a thread's elements of one factor's stage set off.

    The index along which memory is contiguous runs over neighbouring threads, and over one thread's
    elements: their places differ by constants.
    """
    side, depth, pitch, loads = tile.side, tile.depth, tile.pitch, tile.loads
    of_k, of_side = THREADS // side, THREADS // depth  # threads along either index

    @device
    def bring_part(
        shared: Any, to: int, A: Any, a0: int, ai: int, ak: int, rows: int, done: int, length: int
    ) -> None:
        """A[:rows, done : done + depth] (0 beyond the edges) to shared[to + k pitch + i]."""
        t = thread()
        if ak == 1:
            i, k = t // of_k, t % of_k
            left = length - done - k if i < rows else 0
            source = a0 + i * ai + done + k
            to += k * pitch + i
            for u in range(loads):
                bring(shared, to + u * (of_k * pitch), A, source + u * of_k, u * of_k < left)
        else:
            i, k = t % of_side, t // of_side
            left = rows - i if done + k < length else 0
            source = a0 + i + (done + k) * ak
            to += k * pitch + i
            for u in range(loads):
                bring(shared, to + u * of_side, A, source + u * of_side, u * of_side < left)

    return bring_part


def placing(across: int) -> Any:
    """`place(r)`: the first row and column of the results of a slice's r-th thread.

    With 8 threads along a side a warp forms 4 x 8 threads' results. 8 neighbours have 2 x 4 of
    them, the next 8 other rows and other columns: what 16 threads load of either factor lies in
    other banks or is the same, and comes at once.
    """

    @device
    def zigzag(r: int) -> tuple[int, int]:
        eighth = (r >> 3) & 3
        row = ((r >> 2) & 1) + 2 * (eighth & 1) + 4 * (r >> 5)
        column = (r & 3) + 4 * ((eighth ^ (eighth >> 1)) & 1)
        return 4 * row, 4 * column

    @device
    def straight(r: int) -> tuple[int, int]:
        return r // across * 4, r % across * 4

    return zigzag if across == 8 else straight


def _collection(tile: Tile, finish: Any) -> Any:
    """`collect(...)`: a tile's results to `finish`, in the order of memory.

    By bands of four rows a thread, so that the slices' sums have room in shared memory.
    """
    side, slices, group, area = tile.side, tile.slices, tile.group, tile.area
    lays = [banding(tile.micro, group, band) for band in range(tile.micro // 4)]
    first, last = lays[0], lays[-1]
    bands, bits = len(lays), side.bit_length() - 1
    assert side == 1 << bits

    @device
    def collect(
        job: Any, sums: Any, shared: Any, s: int, y: int, x: int, i0: int, j0: int, rows: int,
        columns: int,
    ) -> None:  # fmt: skip
        for band in range(bands):
            meet()
            if band == 0:
                first(sums, shared, s * area + y * side + x, side)
            else:
                last(sums, shared, s * area + y * side + x, side)
            meet()
            for e in range(thread(), area, THREADS):
                i, j = band * group + (e >> bits), e & (side - 1)
                if i < rows and j < columns:
                    total = peek(shared, e)
                    for other in range(1, slices):
                        total += peek(shared, other * area + e)
                    finish(job, i0 + i, j0 + j, total)

    return collect


def product_of(tile: Tile, real: Any, finish: Any) -> Any:
    """`product(...)` of one size of tile and dtype; `finish(job, i, j, sum)` has the results."""
    depth, slices, team = tile.depth, tile.slices, tile.across**2  # threads of a slice
    itemsize = np.dtype(real).itemsize
    stages, stage, half = tile.stages(itemsize), tile.stage, tile.stage // 2
    bring_part, collect, place = _bringing(tile), _collection(tile, finish), placing(tile.across)
    pitch, blank = tile.pitch, blank64 if tile.micro == 8 else blank16
    accumulate = accumulation(tile.micro, tile.group, slices * pitch, depth // slices)
    landed, all_landed = landing(stages - 2), landing(0)

    @device
    def sums_of(
        A: Any, a0: int, ai: int, ak: int, B: Any, b0: int, bj: int, bk: int, rows: int,
        columns: int, length: int, shared: Any,
    ) -> Any:  # fmt: skip
        """A thread's sums. Out of line, where it has the registers to itself."""
        apart()
        t = thread()
        y, x = place(t % team)
        y, x = y + t // team * pitch, x + t // team * pitch + half
        sums = blank(A)
        meet()  # whoever used the memory before is done
        ahead = 0  # terms that are on their way
        for n in range(stages - 1):
            bring_part(shared, n * stage, A, a0, ai, ak, rows, ahead, length)
            bring_part(shared, n * stage + half, B, b0, bj, bk, columns, ahead, length)
            seal()
            ahead += depth
        here, there = 0, (stages - 1) * stage
        for _ in range(0, length, depth):
            landed()
            meet()  # for everybody's part, and for the stage that is overwritten next
            bring_part(shared, there, A, a0, ai, ak, rows, ahead, length)
            bring_part(shared, there + half, B, b0, bj, bk, columns, ahead, length)
            seal()
            ahead += depth
            sums = accumulate(shared, here + y, here + x, sums)
            there = here
            here = here + stage if here + stage < stages * stage else 0
        all_landed()
        return sums

    @device
    def product(
        job: Any, A: Any, a0: int, ai: int, ak: int, B: Any, b0: int, bj: int, bk: int, i0: int,
        j0: int, rows: int, columns: int, length: int, shared: Any,
    ) -> None:  # fmt: skip
        """The tile at (i0, j0) of a product (rows, columns) of `length` terms."""
        t = thread()
        y, x = place(t % team)
        a, b, height, width = a0 + i0 * ai, b0 + j0 * bj, rows - i0, columns - j0
        sums = sums_of(A, a, ai, ak, B, b, bj, bk, height, width, length, shared)
        collect(job, sums, shared, t // team, y, x, i0, j0, height, width)

    return product


def side_for(rows: int, columns: int, real: Any) -> int:
    """The side of the tiles that a product of this shape is cut into.

    Whichever are done first where each multiprocessor takes one tile at a time.

    >>> side_for(32, 10, np.float32) == SMALL.side
    True
    """

    def time(tile: Tile) -> int:
        tiles = -(-rows // tile.side) * -(-columns // tile.side)
        return -(-tiles // PROCESSORS) * tile.cost

    return min(SMALL, LARGE[real], key=time).side


def tile_of(real: Any, finish: Any) -> Any:
    """`tile(side, ...)`: the product of one tile of that side."""
    small, large = (product_of(tile, real, finish) for tile in (SMALL, LARGE[real]))
    size = LARGE[real].side

    @device
    def tile(
        side: int, job: Any, A: Any, a0: int, ai: int, ak: int, B: Any, b0: int, bj: int, bk: int,
        i0: int, j0: int, rows: int, columns: int, length: int, shared: Any,
    ) -> None:  # fmt: skip
        if side == size:
            large(job, A, a0, ai, ak, B, b0, bj, bk, i0, j0, rows, columns, length, shared)
        else:
            small(job, A, a0, ai, ak, B, b0, bj, bk, i0, j0, rows, columns, length, shared)

    return tile
