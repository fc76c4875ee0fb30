"""Tiles of a product C = A B, by one block of threads each: the heart of all three products.

The factors are flat arrays with two strides each, one of which is 1: A[i, k] is
A[a0 + i ai + k ak], B[k, j] is B[b0 + j bj + k bk]. So A W (forward), dZ W^T (backward) and A^T dZ
(the gradient) are one function. A stage of both factors is kept in shared memory, k by k, while the
next is on its way into registers.

Each result is summed by one thread over ascending k (a slice's share of them, then the slices in
order): the bits depend on the shape alone.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .machine import (
    accumulation,
    banding,
    blank16,
    blank64,
    device,
    meet,
    peek,
    poke,
    registers,
    spill,
    take,
    thread,
)
from .tiles import LARGE, PROCESSORS, SMALL, THREADS, Tile

def _staging(tile: Tile) -> Any:
    """`fetch` and `put`: a thread's part of a stage, into its registers and into shared memory."""
    loads = tile.loads

    @device
    def fetch(
        A: Any, first: int, step: int, i: int, i_step: int, k: int, k_step: int, rows: int,
        terms_left: int, into: Any,
    ) -> None:  # fmt: skip
        """A thread's elements of a stage; 0 beyond the edges."""
        for u in range(loads):
            value = A.dtype.type(0)
            if i + u * i_step < rows and k + u * k_step < terms_left:
                value = take(A, first + u * step)
            into[u] = value

    @device
    def put(shared: Any, first: int, step: int, values: Any) -> None:
        """Those elements into shared memory."""
        for u in range(loads):
            poke(shared, first + u * step, values[u])

    return fetch, put


def _collection(tile: Tile) -> Any:
    """`collect(sums, ...)`: the results of a tile whose terms were summed in slices, into C.

    By bands of four rows a thread, so that the slices' sums have room in shared memory.
    """
    side, slices, group, bands = tile.side, tile.slices, tile.group, tile.micro // 4
    area = side * side // bands
    lays = [banding(tile.micro, group, band) for band in range(bands)]
    first, last = lays[0], lays[-1]

    @device
    def add_up(shared: Any, C: Any, c0: int, ldc: int, rows: int, columns: int) -> None:
        """The slices' sums of a band, added in order."""
        for e in range(thread(), area, THREADS):
            i, j = e // side, e % side
            if i < rows and j < columns:
                total = peek(shared, e)
                for s in range(1, slices):
                    total += peek(shared, s * area + e)
                C[c0 + i * ldc + j] = total

    @device
    def collect(
        sums: Any, shared: Any, s: int, y: int, x: int, C: Any, c0: int, ldc: int, rows: int,
        columns: int,
    ) -> None:  # fmt: skip
        meet()
        first(sums, shared, s * area + y * side + x, side)
        meet()
        add_up(shared, C, c0, ldc, rows, columns)
        if bands > 1:
            meet()
            last(sums, shared, s * area + y * side + x, side)
            meet()
            add_up(shared, C, c0 + group * ldc, ldc, rows - group, columns)

    return collect


def _make(tile: Tile) -> Any:
    """`product` with tiles of one size."""
    side, depth, pitch, loads = tile.side, tile.depth, tile.pitch, tile.loads
    group, slices, across = tile.group, tile.slices, tile.across
    team = across * across  # threads of a slice
    stage = depth * pitch
    fetch, put = _staging(tile)
    blank = blank64 if tile.micro == 8 else blank16
    accumulate = accumulation(tile.micro, group, slices * pitch, depth // slices)
    collect = _collection(tile)

    @device
    def product(
        A: Any, a0: int, ai: int, ak: int, B: Any, b0: int, bj: int, bk: int, C: Any, c0: int,
        ldc: int, rows: int, columns: int, length: int, shared: Any,
    ) -> None:  # fmt: skip
        """C[:rows, :columns] of one tile, whose corner is at A[a0], B[b0] and C[c0]."""
        t = thread()
        s, r = t // team, t % team
        y, x = r // across * 4, r % across * 4
        # The index along which memory is contiguous runs fastest over the threads.
        if ak == 1:
            i, k, i_step, k_step = t // depth, t % depth, THREADS // depth, 0
        else:
            i, k, i_step, k_step = t % side, t // side, 0, THREADS // side
        if bk == 1:
            j, l, j_step, l_step = t // depth, t % depth, THREADS // depth, 0
        else:
            j, l, j_step, l_step = t % side, t // side, 0, THREADS // side
        from_a, step_a = a0 + i * ai + k * ak, i_step * ai + k_step * ak
        from_b, step_b = b0 + j * bj + l * bk, j_step * bj + l_step * bk
        to_a, put_a = k * pitch + i, k_step * pitch + i_step
        to_b, put_b = 2 * stage + l * pitch + j, l_step * pitch + j_step
        left, right = registers(A, loads), registers(B, loads)
        sums = blank(A)
        meet()  # whoever used the memory before is done
        fetch(A, from_a, step_a, i, i_step, k, k_step, rows, length, left)
        fetch(B, from_b, step_b, j, j_step, l, l_step, columns, length, right)
        put(shared, to_a, put_a, left)
        put(shared, to_b, put_b, right)
        meet()
        here = 0
        for done in range(0, length, depth):
            more = length - done - depth  # terms that are left after this stage
            if more > 0:
                from_a += depth * ak
                from_b += depth * bk
                fetch(A, from_a, step_a, i, i_step, k, k_step, rows, more, left)
                fetch(B, from_b, step_b, j, j_step, l, l_step, columns, more, right)
            first = here + s * pitch
            sums = accumulate(shared, first + y, 2 * stage + first + x, sums)
            if more > 0:
                here = stage - here
                put(shared, to_a + here, put_a, left)
                put(shared, to_b + here, put_b, right)
                meet()
        if slices == 1:
            spill(sums, C, c0 + y * ldc + x, ldc, group, rows - y, columns - x)
        else:
            collect(sums, shared, s, y, x, C, c0, ldc, rows, columns)
        meet()

    return product


small_product = _make(SMALL)
large_product = {real: _make(tile) for real, tile in LARGE.items()}
_SIDE: Final = SMALL.side
_LARGE_SIDE: Final = LARGE[np.float32].side  # float64's, too
_BITS, _LARGE_BITS = _SIDE.bit_length() - 1, _LARGE_SIDE.bit_length() - 1


@device
def cell(e: int, side: int, i0: int, j0: int) -> tuple[int, int]:
    """Row and column of the e-th element of the tile at (i0, j0); sides are powers of two."""
    if side == _SIDE:
        return i0 + (e >> _BITS), j0 + (e & (_SIDE - 1))
    return i0 + (e >> _LARGE_BITS), j0 + (e & (_LARGE_SIDE - 1))


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


def tile_of(real: Any) -> Any:
    """`tile(side, ...)`: the product of one tile of that side."""
    large, size = large_product[real], LARGE[real].side

    @device
    def tile(
        side: int, A: Any, a0: int, ai: int, ak: int, B: Any, b0: int, bj: int, bk: int, C: Any,
        c0: int, ldc: int, rows: int, columns: int, length: int, shared: Any,
    ) -> None:  # fmt: skip
        if side == size:
            large(A, a0, ai, ak, B, b0, bj, bk, C, c0, ldc, rows, columns, length, shared)
        else:
            small_product(A, a0, ai, ak, B, b0, bj, bk, C, c0, ldc, rows, columns, length, shared)

    return tile


def _by_dtype(make: Any) -> dict[type, Any]:
    return {real: make(real) for real in (np.float32, np.float64)}


sides = _by_dtype(side_of)
tiles = _by_dtype(tile_of)
