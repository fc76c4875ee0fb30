"""A product of a few rows by one block: a few threads for each result, and no tiles.

For the narrow layers of a batch of which a block has GRAIN rows at a time. A tile would be empty
for the most part, and its bookkeeping takes longer than such a product. W lies in shared memory as
a whole, the rows beside it; a team of 2^LANES neighbours sums every 2^LANES-th term each, and adds
up by a tree: the bits depend on the shape alone.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from . import phases as P
from .machine import (
    async_copy,
    commit_group,
    device,
    fma,
    like,
    shared_load,
    sync_block,
    thread,
    wait_group,
)
from .product import BACKWARD
from .reduce import lanes_total
from .team import divided
from .tiles import THREADS

OF_ROW: Final = (THREADS // P.GRAIN).bit_length() - 1
"""The logarithm of the threads that fetch a row."""
BANKS: Final = 32


@device
def along_columns(shared: Any, x: int, w: int, ldw: int, length: int, lane: int, lanes: int) -> Any:
    """The sum of a lane's terms of an element of A W."""
    total, count = like(shared_load(shared, x), 0.0), length - lane
    x, w, step = x + lane, w + lane * ldw, lanes * ldw
    while count > 3 * lanes:  # eight loads at once
        a, b = shared_load(shared, x), shared_load(shared, x + lanes)
        c, d = shared_load(shared, x + 2 * lanes), shared_load(shared, x + 3 * lanes)
        e, f = shared_load(shared, w), shared_load(shared, w + step)
        g, h = shared_load(shared, w + 2 * step), shared_load(shared, w + 3 * step)
        total = fma(d, h, fma(c, g, fma(b, f, fma(a, e, total))))
        x, w, count = x + 4 * lanes, w + 4 * step, count - 4 * lanes
    while count > 0:
        total = fma(shared_load(shared, x), shared_load(shared, w), total)
        x, w, count = x + lanes, w + step, count - lanes
    return total


@device
def along_rows(shared: Any, x: int, w: int, length: int, lane: int, lanes: int, turned: int) -> Any:
    """The same of dZ W^T: neighbours' terms lie in other banks, being in another order."""
    total, k = like(shared_load(shared, x), 0.0), lane
    while k + 3 * lanes < length:
        i, j, n, o = (
            k ^ turned, k + lanes ^ turned, k + 2 * lanes ^ turned, k + 3 * lanes ^ turned,
        )  # fmt: skip
        a, b = shared_load(shared, x + i), shared_load(shared, x + j)
        c, d = shared_load(shared, x + n), shared_load(shared, x + o)
        e, f = shared_load(shared, w + i), shared_load(shared, w + j)
        g, h = shared_load(shared, w + n), shared_load(shared, w + o)
        total = fma(d, h, fma(c, g, fma(b, f, fma(a, e, total))))
        k += 4 * lanes
    while k < length:
        i = k ^ turned
        total = fma(shared_load(shared, x + i), shared_load(shared, w + i), total)
        k += lanes
    return total


def direct_of(real: Any, finish: Any) -> Any:
    """`direct(...)` of one dtype; `finish(job, i, j, count, sums)` has the results."""
    size = 16 // np.dtype(real).itemsize
    copy_element, copy_vector, wait = (
        async_copy(1, 1, 1, 1),
        async_copy(size, 1, 1, 1),
        wait_group(0),
    )

    @device
    def copy(shared: Any, x: Any, source: int, count: int) -> None:
        """x[source:][:count] sets off to shared memory."""
        if source & size - 1 == 0:
            e = thread() * size
            while e < count:
                copy_vector(shared, e, x, source + e, 0, count - e, 1)
                e += THREADS * size
        else:
            e = thread()
            while e < count:
                copy_element(shared, e, x, source + e, 0, 1, 1)
                e += THREADS

    @device
    def direct(
        window: Any, at: int, odd: bool, context: Any, arena: Any, parameters: Any, lo: int,
        hi: int, shared: Any,
    ) -> None:  # fmt: skip
        """Rows [lo, hi) of a phase's product."""
        which, bits = shared_load(window, at + P.WHICH), shared_load(window, at + P.LANES)
        width, length = shared_load(window, at + P.WIDTH), shared_load(window, at + P.LENGTH)
        lda, ldb = shared_load(window, at + P.LDA), shared_load(window, at + P.LDB)
        lanes = 1 << bits
        place, lane = thread() >> bits, thread() & lanes - 1
        line, mine = length + size - 1 & -size, thread() >> OF_ROW
        beside, odds = width * length + size - 1 & -size, length & -length
        odds = (odds if odds < BANKS else BANKS) - 1
        if lo < hi:
            copy(shared, parameters, shared_load(window, at + P.B0), width * length)
        a0 = shared_load(window, at + (P.A0_ODD if odd else P.A0))
        first = lo
        while first < hi:
            count = hi - first if hi - first < P.GRAIN else P.GRAIN
            k, to = thread() & (1 << OF_ROW) - 1, beside + mine * line
            while k < length and mine < count:
                copy_element(shared, to + k, arena, a0 + (first + mine) * lda + k, 0, 1, 1)
                k += 1 << OF_ROW
            commit_group()
            wait()
            sync_block()
            e = 0
            while e < count * width:
                inside = e + place < count * width
                y, j = divided(e + place if inside else 0, width)
                x = beside + y * line
                if which == BACKWARD:
                    total = along_rows(shared, x, j * ldb, length, lane, lanes, j & odds)
                else:
                    total = along_columns(shared, x, j, ldb, length, lane, lanes)
                total = lanes_total(total, lanes)
                if inside and lane == 0:
                    job = (which, P.facts_of(window, at), context, 0)
                    finish(job, first + y, j, 1, (total, total, total, total))
                e += THREADS >> bits
            first += P.GRAIN
            if first < hi:
                sync_block()

    return direct
