"""Tiles of a product C = A B, by one block of threads each: the heart of all three products.

The factors are flat arrays with two strides each, one of which is 1: A[i, k] is
A[a0 + i ai + k ak], B[k, j] is B[b0 + j bj + k bk]. So A W (forward), dZ W^T (backward) and A^T dZ
(the gradient) are one function. Stages of both factors, some columns of A and rows of B, are on
their way into shared memory while an earlier one is worked on; no thread holds them meanwhile.

Each result is summed by one thread over ascending k (a slice's share of them, then the slices in
order): the bits depend on the shape alone. What becomes of a result is `finish(job, i, j, sum)`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .machine import (
    accumulation,
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

    The index along which memory is contiguous runs over neighbouring threads.
    """
    side, depth, pitch, loads = tile.side, tile.depth, tile.pitch, tile.loads
    of_k, of_side = THREADS // side, THREADS // depth  # threads along either index

    @device
    def bring_part(
        shared: Any, to: int, A: Any, a0: int, ai: int, ak: int, rows: int, done: int, length: int
    ) -> None:
        """A[:rows, done : done + depth] (0 beyond the edges) to shared[to + k pitch + i]."""
        t = thread()
        along_k = ak == 1
        i, k = t % of_side, t // of_side
        i_step, k_step = of_side, 0
        if along_k:
            i, k = t // of_k, t % of_k
            i_step, k_step = 0, of_k
        left = length - done - k
        source, step = a0 + i * ai + (done + k) * ak, i_step * ai + k_step * ak
        to += k * pitch + i
        to_step = k_step * pitch + i_step
        for u in range(loads):
            inside = i + u * i_step < rows and u * k_step < left
            bring(shared, to + u * to_step, A, source + u * step, inside)

    return bring_part


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
    depth, group, slices, across = tile.depth, tile.group, tile.slices, tile.across
    team = across * across  # threads of a slice
    itemsize = np.dtype(real).itemsize
    stages, stage, half = tile.stages(itemsize), tile.stage, tile.stage // 2
    pitch = tile.pitch
    bring_part, collect = _bringing(tile), _collection(tile, finish)
    pitch, blank = tile.pitch, blank64 if tile.micro == 8 else blank16
    accumulate = accumulation(tile.micro, group, slices * tile.pitch, depth // slices)
    landed, all_landed = landing(stages - 2), landing(0)

    @device
    def product(
        job: Any, A: Any, a0: int, ai: int, ak: int, B: Any, b0: int, bj: int, bk: int, i0: int,
        j0: int, rows: int, columns: int, length: int, shared: Any,
    ) -> None:  # fmt: skip
        """The tile at (i0, j0) of a product (rows, columns) of `length` terms."""
        t = thread()
        s, r = t // team, t % team
        y, x = r // across * 4, r % across * 4
        a0 += i0 * ai
        b0 += j0 * bj
        rows -= i0
        columns -= j0
        sums = blank(A)
        meet()  # whoever used the memory before is done
        ahead = 0  # terms that are on their way
        for place in range(stages - 1):
            bring_part(shared, place * stage, A, a0, ai, ak, rows, ahead, length)
            bring_part(shared, place * stage + half, B, b0, bj, bk, columns, ahead, length)
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
            first = here + s * pitch
            sums = accumulate(shared, first + y, first + half + x, sums)
            there = here
            here = here + stage if here + stage < stages * stage else 0
        all_landed()
        collect(job, sums, shared, s, y, x, i0, j0, rows, columns)

    return product


_SIDE: Final = SMALL.side


def side_of(real: Any) -> Any:
    """`side(rows, columns)`: of the tiles that a product of this shape is cut into.

    Whichever are done first where each multiprocessor takes one tile at a time.
    """
    large, costly, cheap = LARGE[real].side, LARGE[real].cost, SMALL.cost

    @device
    def waves(rows: int, columns: int, side: int) -> int:
        tiles = ((rows + side - 1) // side) * ((columns + side - 1) // side)
        return (tiles + PROCESSORS - 1) // PROCESSORS

    @device
    def side(rows: int, columns: int) -> int:
        few, many = waves(rows, columns, large), waves(rows, columns, _SIDE)
        return large if few * costly < many * cheap else _SIDE

    return side


sides = {real: side_of(real) for real in (np.float32, np.float64)}


def tile_of(real: Any, finish: Any) -> Any:
    """`tile(side, ...)`: the product of one tile of that side. Its code is there once."""
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
