"""Tiles of a product C = A B, by one block of threads each: the heart of all three products.

The factors are flat arrays. Of either one index has a stride of 1 and the other one is given: the
three products have them in three ways (`LAYOUTS`), and are one function. Stages of both factors,
some columns of A and rows of B, are on their way into shared memory while an earlier one is worked
on; no thread holds them meanwhile.

Each result is summed in an order that depends on the shape alone: terms by ascending k, a slice's
share of each stage, then the slices in order. What becomes of results is `finish(job, i, j, count,
sums)`: four neighbours of a row, of which `count` are there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .machine import (
    accumulation,
    async_copy,
    blanking,
    commit_group,
    device,
    noinline,
    shared_load,
    store_fragments,
    sync_block,
    thread,
    wait_group,
)
from .tiles import SMALL, THREADS, TILES, WARP, WIDE, Tile

FORWARD, BACKWARD, UPDATE = range(3)
"""The products A W, dZ W^T and A^T dZ."""
LAYOUTS: Final = ((True, False), (True, True), (False, False))
"""By product: whether terms are neighbours in memory, of the first factor and of the second one."""


def _factor_of(tile: Tile, side: int, along: bool, itemsize: int) -> tuple[Any, Any, Any]:
    """`start(...)` and `fetch(...)` of a factor of `side` rows (or columns), and its strides.

    The strides are those in shared memory, of rows and of terms. A thread brings 16 bytes at a
    time, or an element: `first` on the index whose elements are neighbours, `second` and every
    `gap`-th from there on the other. Its `at` is where its next stage begins, and what is left from
    there on either index.
    """
    row, term = tile.held(side, along)
    line, lines, near, step = (
        (tile.depth, side, term, row) if along else (side, tile.depth, row, term)
    )
    size, parts, depth = 16 // itemsize, line * lines, tile.depth
    gap, of_vectors = THREADS * size // line, parts // size
    few, slow = of_vectors < THREADS, parts < THREADS
    by_vector = async_copy(size, -(-of_vectors // THREADS), gap, step)
    by_one = async_copy(1, -(-parts // THREADS), THREADS // line, step)
    bits, bits_of_vector = line.bit_length() - 1, size.bit_length() - 1

    @device
    def start(begin: int, ld: int, vectors: bool, count: int, length: int) -> Any:
        """Where this thread's part of a stage goes, and its first `at`, of `count` rows.

        `at` is beyond the factor where it has nothing to bring.
        """
        skipped = bits_of_vector if vectors else 0
        place = thread() << skipped
        first, second = place & line - 1, place >> bits
        left, across = (
            (length - first, count - second) if along else (count - first, length - second)
        )
        return first * near + second * step, (begin + first + second * ld, left, across)

    @device
    def fetch(shared: Any, to: int, A: Any, ld: int, vectors: bool, at: Any) -> Any:
        """Send off the next stage; the `at` of the one after it."""
        source, left, across = at
        if vectors:
            if not few or thread() < of_vectors:
                by_vector(shared, to, A, source, ld, left, across)
        elif not slow or thread() < parts:
            by_one(shared, to, A, source, ld, left, across)
        if along:
            return source + depth, left - depth, across
        return source + depth * ld, left, across - depth

    return start, fetch, (row, term)


def _sums_of(tile: Tile, real: Any, which: int) -> Any:
    """`lay_sums(...)`: a tile of one of the products, its slices' sums in shared memory."""
    itemsize = np.dtype(real).itemsize
    of_a, of_b = LAYOUTS[which]
    stages, stage, half = tile.stages(itemsize), tile.stage, tile.kept(tile.rows)
    depth, warps, terms = tile.depth, tile.down * tile.across, tile.terms
    start_a, fetch_a, a_strides = _factor_of(tile, tile.rows, of_a, itemsize)
    start_b, fetch_b, b_strides = _factor_of(tile, tile.columns, of_b, itemsize)
    (a_row, a_term), (b_row, b_term) = a_strides, b_strides
    accumulate = accumulation(tile, a_strides, b_strides)
    blank, wait_stage, wait_all = blanking(tile.results), wait_group(stages - 2), wait_group(0)
    across, tall, broad = tile.across, tile.rows // tile.down, tile.columns // tile.across
    store, height, pitch = store_fragments(tile), tile.rows, tile.pitch

    @device
    def lay_sums(
        A: Any, a0: int, lda: int, a_vectors: bool, B: Any, b0: int, ldb: int, b_vectors: bool,
        rows: int, columns: int, length: int, shared: Any,
    ) -> None:  # fmt: skip
        """Out of line, where it has the registers to itself."""
        noinline()
        warp, lane = thread() // WARP, thread() & WARP - 1
        s, w = warp // warps, warp % warps
        i, j, k = w // across * tall + lane // 4, w % across * broad, s * terms + lane % 4
        y, x = i * a_row + k * a_term, (j + lane // 4) * b_row + k * b_term + half
        to_a, at_a = start_a(a0, lda, a_vectors, rows, length)
        to_b, at_b = start_b(b0, ldb, b_vectors, columns, length)
        to_b, sums = to_b + half, blank(A)
        sync_block()  # whoever used the memory before is done
        ahead, there = 0, 0
        for _ in range(stages - 1):
            if ahead < length:
                at_a = fetch_a(shared, there + to_a, A, lda, a_vectors, at_a)
                at_b = fetch_b(shared, there + to_b, B, ldb, b_vectors, at_b)
            commit_group()
            ahead, there = ahead + depth, there + stage
        here, done = 0, 0
        while done < length:
            wait_stage()
            sync_block()  # for everybody's part, and for the stage that is overwritten next
            if ahead < length:
                at_a = fetch_a(shared, there + to_a, A, lda, a_vectors, at_a)
                at_b = fetch_b(shared, there + to_b, B, ldb, b_vectors, at_b)
            commit_group()
            sums = accumulate(shared, here + y, here + x, sums)
            ahead, done, there = ahead + depth, done + depth, here
            here = here + stage if here + stage < stages * stage else 0
        wait_all()
        sync_block()
        store(sums, shared, (s * height + i) * pitch + j + lane % 4 * 2)
        sync_block()

    return lay_sums


def _sizes_of(real: Any, which: int) -> Any:
    """`lay_any(size, ...)`: a tile of one of the products in one of the sizes.

    Returns how its sums lie in shared memory: bits of fours in a row, the pitch, rows, slices.
    """
    small, wide, large = (_sums_of(tile, real, which) for tile in TILES[real])
    of_small, of_wide, of_large = (
        ((tile.columns // 4).bit_length() - 1, tile.pitch, tile.rows, tile.slices)
        for tile in TILES[real]
    )

    @device
    def lay_any(
        size: int, A: Any, a0: int, lda: int, a_vectors: bool, B: Any, b0: int, ldb: int,
        b_vectors: bool, rows: int, columns: int, length: int, shared: Any,
    ) -> tuple[int, int, int, int]:  # fmt: skip
        if size == SMALL:
            small(A, a0, lda, a_vectors, B, b0, ldb, b_vectors, rows, columns, length, shared)
            return of_small
        if size == WIDE:
            wide(A, a0, lda, a_vectors, B, b0, ldb, b_vectors, rows, columns, length, shared)
            return of_wide
        large(A, a0, lda, a_vectors, B, b0, ldb, b_vectors, rows, columns, length, shared)
        return of_large

    return lay_any


def _any_of(real: Any) -> Any:
    """`lay_any(which, size, ...)`: the same of all products."""
    forward, backward, update = (_sizes_of(real, which) for which in range(3))

    @device
    def lay_any(
        which: int, size: int, A: Any, a0: int, lda: int, a_vectors: bool, B: Any, b0: int,
        ldb: int, b_vectors: bool, rows: int, columns: int, length: int, shared: Any,
    ) -> tuple[int, int, int, int]:  # fmt: skip
        if which == FORWARD:
            return forward(
                size, A, a0, lda, a_vectors, B, b0, ldb, b_vectors, rows, columns, length, shared
            )
        if which == BACKWARD:
            return backward(
                size, A, a0, lda, a_vectors, B, b0, ldb, b_vectors, rows, columns, length, shared
            )
        return update(
            size, A, a0, lda, a_vectors, B, b0, ldb, b_vectors, rows, columns, length, shared
        )

    return lay_any


def collection(finish: Any) -> Any:
    """`collect(...)`: a tile's results from shared memory to `finish`, in the order of memory."""

    @device
    def collect(job: Any, lie: Any, shared: Any, i0: int, j0: int, rows: int, columns: int) -> None:
        bits, pitch, height, slices = lie
        e, area = thread(), height * pitch
        while e < height << bits:
            i, j = e >> bits, (e & (1 << bits) - 1) * 4
            e += THREADS
            if i < rows and j < columns:
                at, left = i * pitch + j, columns - j
                a, b = shared_load(shared, at), shared_load(shared, at + 1)
                c, d = shared_load(shared, at + 2), shared_load(shared, at + 3)
                end = at + (slices - 1) * area
                while at < end:
                    at += area
                    a, b = a + shared_load(shared, at), b + shared_load(shared, at + 1)
                    c, d = c + shared_load(shared, at + 2), d + shared_load(shared, at + 3)
                finish(job, i0 + i, j0 + j, left if left < 4 else 4, (a, b, c, d))

    return collect


def tile_of(real: Any, finish: Any, which: int) -> Any:
    """`tile(size, job, ...)`: the tile at (i0, j0) of a product (rows, columns) of `length` terms.

    a0, b0: where the tile's first row and column begin.
    """
    lay_any, collect = _sizes_of(real, which), collection(finish)

    @device
    def tile(
        size: int, job: Any, A: Any, a0: int, lda: int, a_vectors: bool, B: Any, b0: int, ldb: int,
        b_vectors: bool, i0: int, j0: int, rows: int, columns: int, length: int, shared: Any,
    ) -> None:  # fmt: skip
        height, width = rows - i0, columns - j0
        lie = lay_any(
            size, A, a0, lda, a_vectors, B, b0, ldb, b_vectors, height, width, length, shared
        )
        collect(job, lie, shared, i0, j0, height, width)

    return tile


def all_tiles_of(real: Any, finish: Any) -> Any:
    """`tile(which, size, job, ...)`: the same of any product."""
    lay_any, collect = _any_of(real), collection(finish)

    @device
    def tile(
        which: int, size: int, job: Any, A: Any, a0: int, lda: int, a_vectors: bool, B: Any,
        b0: int, ldb: int, b_vectors: bool, i0: int, j0: int, rows: int, columns: int,
        length: int, shared: Any,
    ) -> None:  # fmt: skip
        height, width = rows - i0, columns - j0
        lie = lay_any(
            which, size, A, a0, lda, a_vectors, B, b0, ldb, b_vectors, height, width, length,
            shared,
        )  # fmt: skip
        collect(job, lie, shared, i0, j0, height, width)

    return tile
