"""Batch normalisation: statistics, forward and backward, in both forms.

Form 0 ("sqrt") is (Z - mean) / sqrt(variance + eps), form 1 ("sigma") (Z - mean) / (sigma + eps).
Statistics belong to columns and are taken by the thread that owns the column; normalising belongs
to rows. In between, `scale_columns` turns the variances into what the row passes multiply by.

Every column is summed from the first row to the last in groups of four, whatever columns are cut
with it, so the bits do not depend on the cut.
"""

from __future__ import annotations

from typing import Any

from .jit import serial
from .lanes import fma, like, select
from .memory import segment
from .stream import root, stream

COLUMNS_A_PASS = 64  # 4 cache lines of float32, so 128 rows of it stay in a 32 KB L1


def _sum_4(m: Any, k: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    return m + (((a - k) + (b - k)) + ((c - k) + (d - k)))


def _sum_1(m: Any, k: Any, a: Any) -> Any:
    return m + (a - k)


def _squares_4(v: Any, m: Any, k: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    p, q, r, s = ((x - k) - m for x in (a, b, c, d))
    return v + (fma(p, p, q * q) + fma(r, r, s * s))


def _squares_1(v: Any, m: Any, k: Any, a: Any) -> Any:
    p = (a - k) - m
    return fma(p, p, v)


def _quotient(m: Any, count: Any) -> Any:
    return m / count


def _finish(m: Any, v: Any, k: Any, count: Any) -> Any:
    return m + k, v / count


_add_rows = stream({4: _sum_4}, 1)
_add_row = stream({1: _sum_1}, 1)
_square_rows = stream({4: _squares_4}, 1)
_square_row = stream({1: _squares_1}, 1)
_divide = stream({0: _quotient}, 1)
_complete = stream({0: _finish}, 2)


@serial
def statistics_columns(Z: Any, mean: Any, variance: Any, rows: int, lo: int, hi: int) -> None:
    """Mean and population variance of the columns [lo, hi) of `rows` samples, in two passes.

    Both passes subtract the first row before anything else: for mean >> sigma those differences are
    exact, so neither sum cancels, and the variance is taken about the mean before that is rounded.
    """
    ld = Z.shape[1]
    full = rows - rows % 4
    for start in range(lo, hi, COLUMNS_A_PASS):
        n = min(COLUMNS_A_PASS, hi - start)
        k = segment(Z, start, n)
        m = segment(mean, start, n)
        v = segment(variance, start, n)
        for j in range(n):
            m[j] = 0
        for j in range(n):
            v[j] = 0
        for i in range(0, full, 4):
            at = i * ld + start
            a, b = segment(Z, at, n), segment(Z, at + ld, n)
            c, d = segment(Z, at + 2 * ld, n), segment(Z, at + 3 * ld, n)
            _add_rows(4, (m, k, a, b, c, d), n, ())
        for i in range(full, rows):
            _add_row(1, (m, k, segment(Z, i * ld + start, n)), n, ())
        _divide(0, (m,), n, (rows,))
        for i in range(0, full, 4):
            at = i * ld + start
            a, b = segment(Z, at, n), segment(Z, at + ld, n)
            c, d = segment(Z, at + 2 * ld, n), segment(Z, at + 3 * ld, n)
            _square_rows(4, (v, m, k, a, b, c, d), n, ())
        for i in range(full, rows):
            _square_row(1, (v, m, k, segment(Z, i * ld + start, n)), n, ())
        _complete(0, (m, v, k), n, (rows,))


def _mix(running: Any, new: Any, weight: Any, keep: Any) -> Any:
    return fma(weight, new, keep * running)


_blend = stream({0: _mix}, 1)


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
    n = hi - lo
    keep = 1.0 - momentum
    m, rm = segment(mean, lo, n), segment(running_mean, lo, n)
    _blend(0, (rm, m), n, (momentum, keep))
    v, rv = segment(variance, lo, n), segment(running_variance, lo, n)
    _blend(0, (rv, v), n, (momentum * rows / max(rows - 1, 1), keep))


def _sqrt_form(s: Any, r: Any, v: Any, eps: Any) -> Any:
    return like(v, 1.0) / root(v + eps), like(v, 1.0)


def _sigma_form(s: Any, r: Any, v: Any, eps: Any) -> Any:
    sigma = root(v)
    return like(v, 1.0) / (sigma + eps), select(sigma == 0.0, 0.0, (sigma + eps) / sigma)


_factors = stream({0: _sqrt_form, 1: _sigma_form}, 2)


@serial
def scale_columns(
    variance: Any, eps: float, form: int, scale: Any, ratio: Any, lo: int, hi: int
) -> None:
    """What the row passes multiply by: scale = 1 / sqrt(variance + eps) and ratio = 1 for form 0;
    scale = 1 / (sigma + eps) and ratio = (sigma + eps) / sigma, 0 where sigma = 0, for form 1.
    """
    n = hi - lo
    s, r = segment(scale, lo, n), segment(ratio, lo, n)
    _factors(form, (s, r, segment(variance, lo, n)), n, (eps,))


def _normalize(h: Any, u: Any, z: Any, m: Any, s: Any, g: Any, b: Any) -> Any:
    h = (z - m) * s
    return h, fma(g, h, b)


_normalize_row = stream({0: _normalize}, 2)


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

    out may be Z or normalized, and normalized may be Z: elements are read before they are written.
    """
    m = segment(mean, 0, n)
    s = segment(scale, 0, n)
    g = segment(gamma, 0, n)
    b = segment(beta, 0, n)
    for i in range(lo, hi):
        z = segment(Z, i * Z.shape[1], n)
        h = segment(normalized, i * normalized.shape[1], n)
        u = segment(out, i * out.shape[1], n)
        _normalize_row(0, (h, u, z, m, s, g, b), n, ())


def _sums_4(
    db: Any, dg: Any, u0: Any, u1: Any, u2: Any, u3: Any, h0: Any, h1: Any, h2: Any, h3: Any
) -> Any:
    products = fma(u0, h0, u1 * h1) + fma(u2, h2, u3 * h3)
    return db + ((u0 + u1) + (u2 + u3)), dg + products


def _sums_1(db: Any, dg: Any, u: Any, h: Any) -> Any:
    return db + u, fma(u, h, dg)


_sum_rows = stream({4: _sums_4}, 2)
_sum_row = stream({1: _sums_1}, 2)


@serial
def batchnorm_sums_columns(
    dU: Any, normalized: Any, dgamma: Any, dbeta: Any, rows: int, lo: int, hi: int
) -> None:
    """dgamma = sum of dU * normalized, dbeta = sum of dU, over the rows, for columns [lo, hi)."""
    ldu = dU.shape[1]
    ldh = normalized.shape[1]
    full = rows - rows % 4
    for start in range(lo, hi, COLUMNS_A_PASS):
        n = min(COLUMNS_A_PASS, hi - start)
        dg = segment(dgamma, start, n)
        db = segment(dbeta, start, n)
        for j in range(n):
            dg[j] = 0
        for j in range(n):
            db[j] = 0
        for i in range(0, full, 4):
            at = i * ldu + start
            u0, u1 = segment(dU, at, n), segment(dU, at + ldu, n)
            u2, u3 = segment(dU, at + 2 * ldu, n), segment(dU, at + 3 * ldu, n)
            at = i * ldh + start
            h0, h1 = segment(normalized, at, n), segment(normalized, at + ldh, n)
            h2, h3 = segment(normalized, at + 2 * ldh, n), segment(normalized, at + 3 * ldh, n)
            _sum_rows(4, (db, dg, u0, u1, u2, u3, h0, h1, h2, h3), n, ())
        for i in range(full, rows):
            u0 = segment(dU, i * ldu + start, n)
            h0 = segment(normalized, i * ldh + start, n)
            _sum_row(1, (db, dg, u0, h0), n, ())


def _backward(
    z: Any, u: Any, h: Any, g: Any, s: Any, r: Any, dg: Any, db: Any, inverse: Any
) -> Any:
    pull = fma(-(dg * r), h, -db)
    return (g * s) * fma(inverse, pull, u)


_backward_row = stream({0: _backward}, 1)


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
        _backward_row(0, (z, u, h, g, s, r, dg, db), n, (inverse,))
