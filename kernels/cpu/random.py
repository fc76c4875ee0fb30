"""Dropout, perturbation noise, shuffling and sampling, all drawn by address (`philox.py`).

A row of n columns takes q = ceil(n / 4) blocks: word w of block row * q + j belongs to column
w q + j, so that neighbouring blocks fill four contiguous stretches of the row. `row` is the sample's
place in the batch, whatever thread has it. Words are drawn CHUNK blocks at a time into a buffer on
the stack, over the ends of rows, so that narrow rows cost little more than wide ones.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..tables import DROPOUT, NOISE, SAMPLE, SHUFFLE
from .arith import fma
from .jit import inline, serial
from .memory import local, segment
from .normal import normal_pair, uniform
from .philox import CHUNK, LANES, U, accept, fill_words, tag

WORDS: Final = 4 * CHUNK
WORD: Final = np.uint32(0)
REAL: Final = np.float64(0)
TWO_32: Final = 4294967296.0
LAST: Final = 4294967295.0


@inline
def stretch(w: int, j: int, blocks: int, count: int, n: int) -> int:
    """How many of the columns w * blocks + [j, j + count) a row of n has."""
    return max(min(count, n - w * blocks - j), 0)


@inline
def _mark(m: Any, words: Any, limit: Any, n: int) -> None:
    for j in range(n):
        m[j] = words[j] >= limit


@serial
def mask_rows(
    mask: Any,
    p: float,
    seed: int,
    epoch: int,
    step: int,
    layer: int,
    first_row: int,
    lo: int,
    hi: int,
    n: int,
) -> None:
    """Draw the dropout mask of the rows [lo, hi): 0 with probability p, to the nearest 2^-32."""
    words = local(WORD, WORDS)
    limit = np.uint32(min(np.rint(p * TWO_32), LAST))
    label = tag(DROPOUT, layer)
    blocks = (n + 3) // 4
    start = U((first_row + lo) * blocks)
    total = (hi - lo) * blocks
    row = lo
    j = 0
    for done in range(0, total, CHUNK):
        have = min(CHUNK, total - done)
        fill_words(words, have, start + U(done), U(step), U(epoch), label, U(seed))
        used = 0
        while used < have:
            count = min(blocks - j, have - used)
            at = row * mask.shape[1] + j
            for w in range(4):
                here = stretch(w, j, blocks, count, n)
                m = segment(mask, at + w * blocks, here)
                _mark(m, segment(words, w * CHUNK + used, here), limit, here)
            used += count
            j += count
            if j == blocks:
                j = 0
                row += 1


@inline
def _apply(a: Any, m: Any, scale: Any, zero: Any, n: int) -> None:
    for j in range(n):
        a[j] *= scale if m[j] != 0 else zero


@serial
def dropout_backward_rows(dA: Any, mask: Any, p: float, lo: int, hi: int, n: int) -> None:
    """dA becomes dA / (1 - p) where the mask is 1, else 0, in place.

    A dropped NaN or inf stays visible as NaN (it is multiplied by 0): a mask must not hide a
    divergence.
    """
    zero = dA.dtype.type(0)
    scale = dA.dtype.type(1.0 / (1.0 - p))
    for i in range(lo, hi):
        a = segment(dA, i * dA.shape[1], n)
        _apply(a, segment(mask, i * mask.shape[1], n), scale, zero, n)


@serial
def dropout_rows(
    A: Any,
    mask: Any,
    p: float,
    seed: int,
    epoch: int,
    step: int,
    layer: int,
    first_row: int,
    lo: int,
    hi: int,
    n: int,
) -> None:
    """Inverted dropout of the rows [lo, hi), in place; `mask` receives 1 (kept) or 0 (dropped).

    Row i of the window is row first_row + i of the batch.
    """
    mask_rows(mask, p, seed, epoch, step, layer, first_row, lo, hi, n)
    dropout_backward_rows(A, mask, p, lo, hi, n)


@inline
def _normals(z: Any, words: Any) -> None:
    """N(0, 1) for a whole buffer of words; z has its layout."""
    for t in range(CHUNK):
        z[t], z[CHUNK + t] = normal_pair(U(words[t]), U(words[CHUNK + t]))
    for t in range(CHUNK):
        z[2 * CHUNK + t], z[3 * CHUNK + t] = normal_pair(
            U(words[2 * CHUNK + t]), U(words[3 * CHUNK + t])
        )


@inline
def _add(x: Any, z: Any, sigma: Any, n: int) -> None:
    kind = x.dtype.type
    for j in range(n):
        x[j] = fma(sigma, kind(z[j]), x[j])


@serial
def perturb_rows(
    X: Any,
    sigma: float,
    seed: int,
    epoch: int,
    step: int,
    first_row: int,
    lo: int,
    hi: int,
    n: int,
) -> None:
    """Add sigma * N(0, 1) to the rows [lo, hi), in place; row i is row first_row + i of the batch."""
    words = local(WORD, WORDS)
    z = local(REAL, WORDS)
    width = X.dtype.type(sigma)
    label = tag(NOISE, 0)
    blocks = (n + 3) // 4
    start = U((first_row + lo) * blocks)
    total = (hi - lo) * blocks
    row = lo
    j = 0
    for done in range(0, total, CHUNK):
        have = min(CHUNK, total - done)
        fill_words(words, CHUNK, start + U(done), U(step), U(epoch), label, U(seed))
        _normals(z, words)
        used = 0
        while used < have:
            count = min(blocks - j, have - used)
            at = row * X.shape[1] + j
            for w in range(4):
                here = stretch(w, j, blocks, count, n)
                x = segment(X, at + w * blocks, here)
                _add(x, segment(z, w * CHUNK + used, here), width, here)
            used += count
            j += count
            if j == blocks:
                j = 0
                row += 1


@serial
def shuffle(order: Any, seed: int, epoch: int) -> None:
    """Permute `order` in place, each permutation equally likely (Fisher and Yates; fewer than 2^32
    elements). The words of the blocks 0, 1, ... of (seed, epoch) are used in turn."""
    words = local(WORD, WORDS)
    label = tag(SHUFFLE, 0)
    block = U(0)
    used = WORDS
    for i in range(order.shape[0] - 1, 0, -1):
        bound = U(i + 1)
        good = False
        k = U(0)
        while not good:
            if used == WORDS:
                count = min(CHUNK, i // 4 + 1)
                fill_words(words, count, block, U(0), U(epoch), label, U(seed))
                block += U(CHUNK)
                used = 0
            k, good = accept(U(words[(used & 3) * CHUNK + (used >> 2)]), bound)
            used += 1
        chosen = order[k]
        order[k] = order[i]
        order[i] = chosen


@serial
def sample(order: Any, size: int, seed: int, epoch: int, first: int) -> None:
    """Fill `order` with independent draws from 0 .. size - 1 (fewer than 2^32), with replacement.

    order[i] is draw first + i of (seed, epoch): its words are those of the block of that number
    and, should none of the four be accepted, those of the same block at step 1, 2, ...
    """
    words = local(WORD, WORDS)
    more = local(WORD, WORDS)
    label = tag(SAMPLE, 0)
    bound = U(size)
    for i in range(order.shape[0]):
        t = i % CHUNK
        if t == 0:
            count = min(CHUNK, order.shape[0] - i)
            fill_words(words, count, U(first + i), U(0), U(epoch), label, U(seed))
        k, good = accept(U(words[t]), bound)
        w = 1
        while not good:
            if w < 4:
                k, good = accept(U(words[w * CHUNK + t]), bound)
            else:
                if w % 4 == 0:
                    fill_words(more, 1, U(first + i), U(w // 4), U(epoch), label, U(seed))
                k, good = accept(U(more[(w % 4) * CHUNK]), bound)
            w += 1
        order[i] = np.int64(k)
