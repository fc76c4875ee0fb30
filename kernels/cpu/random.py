"""Dropout, perturbation noise, shuffling and sampling, all drawn by address (`philox.py`).

A row of n columns takes q = ceil(n / 4) blocks: block row * q + j holds the columns j, j + q, j + 2q
and j + 3q, so that neighbouring blocks fill four contiguous stretches of the row, and vectorise.
`row` is the sample's place in the batch, whatever thread has it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..tables import DROPOUT, NOISE, SAMPLE, SHUFFLE
from .arith import fma
from .jit import inline, serial
from .memory import segment
from .philox import U, accept, draw, normal_pair, tag, uniform

TWO_32: Final = 4294967296.0
ONE: Final = U(1)


@inline
def _mask_row(m: Any, limit: Any, first: Any, step: Any, epoch: Any, label: Any, seed: Any) -> None:
    """Fill the mask of one row whose blocks start at `first`: 1 where the word reaches `limit`."""
    n = m.shape[0]
    q = (n + 3) // 4
    full = max(n - 3 * q, 0)
    m0 = segment(m, 0, full)
    m1 = segment(m, q, full)
    m2 = segment(m, 2 * q, full)
    m3 = segment(m, 3 * q, full)
    for j in range(full):
        w0, w1, w2, w3 = draw(first + U(j), step, epoch, label, seed)
        m0[j] = w0 >= limit
        m1[j] = w1 >= limit
        m2[j] = w2 >= limit
        m3[j] = w3 >= limit
    for j in range(full, q):
        w0, w1, w2, w3 = draw(first + U(j), step, epoch, label, seed)
        m[j] = w0 >= limit
        if j + q < n:
            m[j + q] = w1 >= limit
        if j + 2 * q < n:
            m[j + 2 * q] = w2 >= limit


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
    """Inverted dropout of the rows [lo, hi), in place: A becomes A / (1 - p) where kept, else 0.

    mask receives 1 (kept) or 0; P(dropped) is p to the nearest 2^-32. Row i of the window is row
    first_row + i of the batch. A dropped NaN or inf stays visible as NaN (it is multiplied by 0):
    a mask must not hide a divergence.
    """
    zero = A.dtype.type(0)
    scale = A.dtype.type(1.0 / (1.0 - p))
    limit = U(np.rint(p * TWO_32))
    label = tag(DROPOUT, layer)
    blocks = (n + 3) // 4
    for i in range(lo, hi):
        m = segment(mask, i * mask.shape[1], n)
        first = U((first_row + i) * blocks)
        _mask_row(m, limit, first, U(step), U(epoch), label, U(seed))
        a = segment(A, i * A.shape[1], n)
        for j in range(n):
            a[j] *= scale if m[j] != 0 else zero


@serial
def dropout_backward_rows(dA: Any, mask: Any, p: float, lo: int, hi: int, n: int) -> None:
    """dA becomes dA / (1 - p) where the mask kept, else 0, in place; NaN stays NaN."""
    zero = dA.dtype.type(0)
    scale = dA.dtype.type(1.0 / (1.0 - p))
    for i in range(lo, hi):
        m = segment(mask, i * mask.shape[1], n)
        a = segment(dA, i * dA.shape[1], n)
        for j in range(n):
            a[j] *= scale if m[j] != 0 else zero


@inline
def _noise_row(
    x: Any, sigma: Any, first: Any, step: Any, epoch: Any, label: Any, seed: Any
) -> None:
    n = x.shape[0]
    kind = x.dtype.type
    q = (n + 3) // 4
    full = max(n - 3 * q, 0)
    x0 = segment(x, 0, full)
    x1 = segment(x, q, full)
    x2 = segment(x, 2 * q, full)
    x3 = segment(x, 3 * q, full)
    for j in range(full):
        w0, w1, w2, w3 = draw(first + U(j), step, epoch, label, seed)
        z0, z1 = normal_pair(w0, w1)
        z2, z3 = normal_pair(w2, w3)
        x0[j] = fma(sigma, kind(z0), x0[j])
        x1[j] = fma(sigma, kind(z1), x1[j])
        x2[j] = fma(sigma, kind(z2), x2[j])
        x3[j] = fma(sigma, kind(z3), x3[j])
    for j in range(full, q):
        w0, w1, w2, w3 = draw(first + U(j), step, epoch, label, seed)
        z0, z1 = normal_pair(w0, w1)
        z2, z3 = normal_pair(w2, w3)
        x[j] = fma(sigma, kind(z0), x[j])
        if j + q < n:
            x[j + q] = fma(sigma, kind(z1), x[j + q])
        if j + 2 * q < n:
            x[j + 2 * q] = fma(sigma, kind(z2), x[j + 2 * q])


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
    width = X.dtype.type(sigma)
    label = tag(NOISE, 0)
    blocks = (n + 3) // 4
    for i in range(lo, hi):
        x = segment(X, i * X.shape[1], n)
        first = U((first_row + i) * blocks)
        _noise_row(x, width, first, U(step), U(epoch), label, U(seed))


@serial
def shuffle(order: Any, seed: int, epoch: int) -> None:
    """Permute `order` in place, each permutation equally likely (Fisher and Yates; fewer than 2^32
    elements). The words at blocks 0, 1, ... of (seed, epoch) are used in turn."""
    label = tag(SHUFFLE, 0)
    block = U(0)
    left = 0
    w0 = w1 = w2 = w3 = U(0)
    for i in range(order.shape[0] - 1, 0, -1):
        bound = U(i + 1)
        good = False
        k = U(0)
        while not good:
            if left == 0:
                w0, w1, w2, w3 = draw(block, U(0), U(epoch), label, U(seed))
                block += ONE
                left = 4
            k, good = accept(w0, bound)
            w0, w1, w2 = w1, w2, w3
            left -= 1
        chosen = order[k]
        order[k] = order[i]
        order[i] = chosen


@serial
def sample(order: Any, size: int, seed: int, epoch: int, first: int) -> None:
    """Fill `order` with independent draws from 0 .. size - 1 (fewer than 2^32), with replacement.

    order[i] is draw first + i of (seed, epoch): its words are those of that block, and should
    none of the four be accepted, those of the same block at step 1, 2, ...
    """
    label = tag(SAMPLE, 0)
    bound = U(size)
    for i in range(order.shape[0]):
        block = U(first + i)
        step = U(0)
        good = False
        k = U(0)
        while not good:
            w0, w1, w2, w3 = draw(block, step, U(epoch), label, U(seed))
            k, good = accept(w0, bound)
            if not good:
                k, good = accept(w1, bound)
            if not good:
                k, good = accept(w2, bound)
            if not good:
                k, good = accept(w3, bound)
            step += ONE
        order[i] = np.int64(k)


@serial
def fill_normals(out: Any, purpose: int, layer: int, seed: int) -> None:
    """Fill a float64 vector with N(0, 1): block j holds the elements 4j .. 4j + 3."""
    label = tag(purpose, layer)
    n = out.shape[0]
    for j in range((n + 3) // 4):
        w0, w1, w2, w3 = draw(U(j), U(0), U(0), label, U(seed))
        z0, z1 = normal_pair(w0, w1)
        z2, z3 = normal_pair(w2, w3)
        i = 4 * j
        out[i] = z0
        if i + 1 < n:
            out[i + 1] = z1
        if i + 2 < n:
            out[i + 2] = z2
        if i + 3 < n:
            out[i + 3] = z3


@serial
def fill_uniforms(out: Any, purpose: int, layer: int, seed: int) -> None:
    """Fill a float64 vector with uniforms on (0, 1): block j holds the elements 2j and 2j + 1."""
    label = tag(purpose, layer)
    n = out.shape[0]
    for j in range((n + 1) // 2):
        w0, w1, w2, w3 = draw(U(j), U(0), U(0), label, U(seed))
        out[2 * j] = uniform(w0, w1)
        if 2 * j + 1 < n:
            out[2 * j + 1] = uniform(w2, w3)


def normals(seed: int, purpose: int, layer: int, size: int) -> np.ndarray:
    """`size` numbers from N(0, 1) in float64, the same on every machine with a fused multiply-add."""
    out = np.empty(size)
    fill_normals(out, purpose, layer, seed)
    return out


def uniforms(seed: int, purpose: int, layer: int, size: int) -> np.ndarray:
    """`size` numbers uniform on (0, 1) in float64, the same on every machine."""
    out = np.empty(size)
    fill_uniforms(out, purpose, layer, seed)
    return out
