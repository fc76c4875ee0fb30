"""Dropout, perturbation noise, shuffling and sampling, all drawn by address (`philox.py`).

A row of n columns takes q = ceil(n / 4) blocks: word w of block row * q + j belongs to column
w q + j, so that neighbouring blocks fill four contiguous stretches of the row. `row` is the
sample's place in the batch, whatever thread has it. Words are drawn CHUNK blocks at a time into a
buffer on the stack, over the ends of rows, so that narrow rows cost little more than wide ones.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..tables import DROPOUT, NOISE, SAMPLE, SHUFFLE
from .jit import inline, serial
from .lanes import fma
from .masks import gate, mark
from .memory import local, segment
from .normal import fill_normals
from .philox import CHUNK, LANES, LOW, U, fill_words, tag
from .stream import stream

WORDS: Final = 4 * CHUNK
BUFFER: Final = WORDS + LANES  # `mark` reads whole vectors
WORD: Final = np.uint32(0)
TWO_32: Final = 4294967296.0
LAST: Final = 4294967295.0


def _noisy(x: Any, z: Any, sigma: Any) -> Any:
    return fma(sigma, z, x)


_add_noise = stream({0: _noisy}, 1)


@inline
def stretch(w: int, j: int, blocks: int, count: int, n: int) -> int:
    """How many of the columns w * blocks + [j, j + count) a row of n has."""
    return max(min(count, n - w * blocks - j), 0)


@serial
def mask_rows(
    mask: Any, p: float, seed: int, epoch: int, step: int, layer: int, first_row: int,
    lo: int, hi: int, n: int,
) -> None:  # fmt: skip
    """Draw the dropout mask of the rows [lo, hi): 0 with probability p, to the nearest 2^-32."""
    words = local(WORD, BUFFER)
    limit = np.uint32(min(np.rint(p * TWO_32), LAST))
    label = tag(DROPOUT, layer)
    blocks = (n + 3) // 4
    start = U((first_row + lo) * blocks)
    total = (hi - lo) * blocks
    row = lo
    j = 0
    for done in range(0, total, CHUNK):
        have = min(CHUNK, total - done)
        fill_words(words, have, start + U(done), step, epoch, label, seed)
        used = 0
        while used < have:
            count = min(blocks - j, have - used)
            at = row * mask.shape[1] + j
            for w in range(4):
                here = stretch(w, j, blocks, count, n)
                m = segment(mask, at + w * blocks, here)
                mark(m, segment(words, w * CHUNK + used, here), limit, here)
            used += count
            j += count
            if j == blocks:
                j = 0
                row += 1


@serial
def apply_mask_rows(A: Any, mask: Any, p: float, lo: int, hi: int, n: int) -> None:
    """A becomes A / (1 - p) where the mask is 1, else 0, in place: dA, too, on the way back.

    A dropped NaN or inf stays visible as NaN (it is multiplied by 0): a mask must not hide a
    divergence.
    """
    scale = A.dtype.type(1.0 / (1.0 - p))
    dense = A.shape[1] == n and mask.shape[1] == n
    rows = max(hi - lo, 1) if dense else 1
    for i in range(lo, hi, rows):
        a = segment(A, i * A.shape[1], rows * n)
        gate(a, segment(mask, i * mask.shape[1], rows * n), scale, rows * n)


@serial
def dropout_rows(
    A: Any, mask: Any, p: float, seed: int, epoch: int, step: int, layer: int, first_row: int,
    lo: int, hi: int, n: int,
) -> None:  # fmt: skip
    """Inverted dropout of the rows [lo, hi), in place; `mask` receives 1 (kept) or 0 (dropped).

    Row i of the window is row first_row + i of the batch.
    """
    mask_rows(mask, p, seed, epoch, step, layer, first_row, lo, hi, n)
    apply_mask_rows(A, mask, p, lo, hi, n)


@serial
def perturb_rows(
    X: Any, sigma: float, seed: int, epoch: int, step: int, first_row: int, lo: int, hi: int, n: int
) -> None:
    """Add sigma * N(0, 1) to the rows [lo, hi), in place; row i is the batch's first_row + i."""
    words = local(WORD, BUFFER)
    z = local(X.dtype.type(0), WORDS)
    label = tag(NOISE, 0)
    blocks = (n + 3) // 4
    start = U((first_row + lo) * blocks)
    total = (hi - lo) * blocks
    row = lo
    j = 0
    for done in range(0, total, CHUNK):
        have = min(CHUNK, total - done)
        fill_words(words, have, start + U(done), step, epoch, label, seed)
        fill_normals(words, z, have)
        used = 0
        while used < have:
            count = min(blocks - j, have - used)
            at = row * X.shape[1] + j
            for w in range(4):
                here = stretch(w, j, blocks, count, n)
                x = segment(X, at + w * blocks, here)
                _add_noise(0, (x, segment(z, w * CHUNK + used, here)), here, (sigma,))
            used += count
            j += count
            if j == blocks:
                j = 0
                row += 1


@inline
def accept(word: Any, bound: Any) -> Any:
    """Lemire's bounded integer (2019): floor(word * bound / 2^32), or `bound` to reject the word.

    The words accepted make every result equally likely. `bound` is at most 2^32 (all are uint64).
    """
    product = word * bound
    low = product & LOW
    if low < bound and low < (LOW + U(1) - bound) % bound:
        return bound
    return product >> U(32)


@serial
def shuffle(order: Any, seed: int, epoch: int) -> None:
    """Permute `order` in place, each permutation equally likely (fewer than 2^32 elements).

    Fisher and Yates, from the end. The words of the blocks 0, 1, ... are used in turn.
    """
    words = local(WORD, BUFFER)
    label = tag(SHUFFLE, 0)
    block = U(0)
    used = have = 0  # words: of the buffer, all that were drawn
    for i in range(order.shape[0] - 1, 0, -1):
        bound = U(i + 1)
        k = bound
        while k == bound:
            if used == have:  # so many words serve all that are left, but for rejected ones
                blocks = min(CHUNK, i // 4 + 1)
                fill_words(words, blocks, block, 0, epoch, label, seed)
                block += U(blocks)
                used, have = 0, 4 * blocks
            k = accept(U(words[(used & 3) * CHUNK + (used >> 2)]), bound)
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
    words = local(WORD, BUFFER)
    more = local(WORD, BUFFER)
    label = tag(SAMPLE, 0)
    bound = U(size)
    for i in range(order.shape[0]):
        t = i % CHUNK
        if t == 0:
            fill_words(words, min(CHUNK, order.shape[0] - i), U(first + i), 0, epoch, label, seed)
        k = accept(U(words[t]), bound)
        tried = 1
        while k == bound:
            if tried < 4:
                word = words[tried * CHUNK + t]
            else:
                if tried % 4 == 0:
                    fill_words(more, 1, U(first + i), tried // 4, epoch, label, seed)
                word = more[(tried % 4) * CHUNK]
            k = accept(U(word), bound)
            tried += 1
        order[i] = np.int64(k)
