"""Batch normalisation: statistics, forward and backward, in both forms.

Form 0 ("sqrt") is (Z - mean) / sqrt(variance + eps), form 1 ("sigma") is (Z - mean) / (sigma + eps).
Statistics belong to columns and are taken by the thread that owns the column; normalising belongs
to rows. In between, `scale_columns` turns the variances into what the row passes multiply by.

Every column is summed from the first row to the last in groups of four, whatever columns are cut
with it, so the bits do not depend on the cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arith import fma
from .jit import inline, serial
from .memory import segment

BLOCK = 64  # columns a pass: 4 cache lines of float32, so 128 rows of it stay in a 32 KB L1


@inline
def _add_shifted(total: Any, shift: Any, a: Any, b: Any, c: Any, d: Any, n: int) -> None:
    for j in range(n):
        k = shift[j]
        total[j] += ((a[j] - k) + (b[j] - k)) + ((c[j] - k) + (d[j] - k))


@inline
def _add_squares(total: Any, mean: Any, shift: Any, a: Any, b: Any, c: Any, d: Any, n: int) -> None:
    for j in range(n):
        k = shift[j]
        m = mean[j]
        p = (a[j] - k) - m
        q = (b[j] - k) - m
        r = (c[j] - k) - m
        s = (d[j] - k) - m
        total[j] += fma(p, p, q * q) + fma(r, r, s * s)


@serial
def statistics_columns(Z: Any, mean: Any, variance: Any, rows: int, lo: int, hi: int) -> None:
    """Mean and population variance of the columns [lo, hi) of `rows` samples, in two passes.

    Both passes subtract the first row before anything else: for mean >> sigma those differences are
    exact, so neither sum cancels, and the variance is taken about the mean before that is rounded.
    """
    ld = Z.shape[1]
    count = Z.dtype.type(rows)
    full = rows - rows % 4
    for start in range(lo, hi, BLOCK):
        n = min(BLOCK, hi - start)
        shift = segment(Z, start, n)
        m = segment(mean, start, n)
        v = segment(variance, start, n)
        for j in range(n):
            m[j] = 0
            v[j] = 0
        for i in range(0, full, 4):
            a = segment(Z, i * ld + start, n)
            b = segment(Z, (i + 1) * ld + start, n)
            c = segment(Z, (i + 2) * ld + start, n)
            d = segment(Z, (i + 3) * ld + start, n)
            _add_shifted(m, shift, a, b, c, d, n)
        for i in range(full, rows):
            a = segment(Z, i * ld + start, n)
            for j in range(n):
                m[j] += a[j] - shift[j]
        for j in range(n):
            m[j] = m[j] / count
        for i in range(0, full, 4):
            a = segment(Z, i * ld + start, n)
            b = segment(Z, (i + 1) * ld + start, n)
            c = segment(Z, (i + 2) * ld + start, n)
            d = segment(Z, (i + 3) * ld + start, n)
            _add_squares(v, m, shift, a, b, c, d, n)
        for i in range(full, rows):
            a = segment(Z, i * ld + start, n)
            for j in range(n):
                p = (a[j] - shift[j]) - m[j]
                v[j] = fma(p, p, v[j])
        for j in range(n):
            m[j] = m[j] + shift[j]
            v[j] = v[j] / count


@serial
def running_columns(
    mean: Any,
    variance: Any,
    running_mean: Any,
    running_variance: Any,
    rows: int,
    momentum: float,
    lo: int,
    hi: int,
) -> None:
    """running = (1 - momentum) running + momentum new; the variance unbiased: rows / (rows - 1)."""
    new = mean.dtype.type(momentum)
    old = mean.dtype.type(1.0 - momentum)
    unbiased = mean.dtype.type(momentum * rows / max(rows - 1, 1))
    n = hi - lo
    m = segment(mean, lo, n)
    rm = segment(running_mean, lo, n)
    for j in range(n):
        rm[j] = fma(new, m[j], old * rm[j])
    v = segment(variance, lo, n)
    rv = segment(running_variance, lo, n)
    for j in range(n):
        rv[j] = fma(unbiased, v[j], old * rv[j])


@serial
def scale_columns(
    variance: Any, eps: float, form: int, scale: Any, ratio: Any, lo: int, hi: int
) -> None:
    """What the row passes multiply by: scale = 1 / sqrt(variance + eps) and ratio = 1 for form 0;
    scale = 1 / (sigma + eps) and ratio = (sigma + eps) / sigma, 0 where sigma = 0, for form 1.
    """
    kind = variance.dtype.type
    one = kind(1)
    zero = kind(0)
    small = kind(eps)
    n = hi - lo
    v = segment(variance, lo, n)
    s = segment(scale, lo, n)
    r = segment(ratio, lo, n)
    if form == 0:
        for j in range(n):
            s[j] = one / np.sqrt(v[j] + small)
            r[j] = one
    else:
        for j in range(n):
            sigma = np.sqrt(v[j])
            s[j] = one / (sigma + small)
            r[j] = zero if sigma == zero else (sigma + small) / sigma


@serial
def normalize_rows(
    Z: Any,
    mean: Any,
    scale: Any,
    gamma: Any,
    beta: Any,
    normalized: Any,
    out: Any,
    lo: int,
    hi: int,
    n: int,
) -> None:
    """normalized = (Z - mean) * scale, out = gamma * normalized + beta, for the rows [lo, hi).

    `out` may be Z or normalized, and normalized may be Z: each element is read before it is written.
    """
    m = segment(mean, 0, n)
    s = segment(scale, 0, n)
    g = segment(gamma, 0, n)
    b = segment(beta, 0, n)
    for i in range(lo, hi):
        z = segment(Z, i * Z.shape[1], n)
        h = segment(normalized, i * normalized.shape[1], n)
        u = segment(out, i * out.shape[1], n)
        for j in range(n):
            h[j] = (z[j] - m[j]) * s[j]
        for j in range(n):
            u[j] = fma(g[j], h[j], b[j])


@serial
def batchnorm_sums_columns(
    dU: Any, normalized: Any, dgamma: Any, dbeta: Any, rows: int, lo: int, hi: int
) -> None:
    """dgamma = sum of dU * normalized, dbeta = sum of dU, over the rows, for columns [lo, hi)."""
    ldu = dU.shape[1]
    ldh = normalized.shape[1]
    full = rows - rows % 4
    for start in range(lo, hi, BLOCK):
        n = min(BLOCK, hi - start)
        dg = segment(dgamma, start, n)
        db = segment(dbeta, start, n)
        for j in range(n):
            dg[j] = 0
            db[j] = 0
        for i in range(0, full, 4):
            u0 = segment(dU, i * ldu + start, n)
            u1 = segment(dU, (i + 1) * ldu + start, n)
            u2 = segment(dU, (i + 2) * ldu + start, n)
            u3 = segment(dU, (i + 3) * ldu + start, n)
            for j in range(n):
                db[j] += (u0[j] + u1[j]) + (u2[j] + u3[j])
            h0 = segment(normalized, i * ldh + start, n)
            h1 = segment(normalized, (i + 1) * ldh + start, n)
            h2 = segment(normalized, (i + 2) * ldh + start, n)
            h3 = segment(normalized, (i + 3) * ldh + start, n)
            for j in range(n):
                dg[j] += fma(u0[j], h0[j], u1[j] * h1[j]) + fma(u2[j], h2[j], u3[j] * h3[j])
        for i in range(full, rows):
            u0 = segment(dU, i * ldu + start, n)
            h0 = segment(normalized, i * ldh + start, n)
            for j in range(n):
                db[j] += u0[j]
                dg[j] = fma(u0[j], h0[j], dg[j])


@serial
def batchnorm_backward_rows(
    dU: Any,
    normalized: Any,
    gamma: Any,
    scale: Any,
    ratio: Any,
    dgamma: Any,
    dbeta: Any,
    rows: int,
    dZ: Any,
    lo: int,
    hi: int,
    n: int,
) -> None:
    """dZ = gamma scale (dU - (dbeta + normalized ratio dgamma) / rows) for the rows [lo, hi).

    `rows` is the whole batch that the sums were taken over. dZ may be dU.
    """
    inverse = dU.dtype.type(1.0 / rows)
    g = segment(gamma, 0, n)
    s = segment(scale, 0, n)
    r = segment(ratio, 0, n)
    dg = segment(dgamma, 0, n)
    db = segment(dbeta, 0, n)
    for i in range(lo, hi):
        u = segment(dU, i * dU.shape[1], n)
        h = segment(normalized, i * normalized.shape[1], n)
        z = segment(dZ, i * dZ.shape[1], n)
        for j in range(n):
            pull = fma(-(dg[j] * r[j]), h[j], -db[j])
            z[j] = (g[j] * s[j]) * fma(inverse, pull, u[j])
