"""Batch norm: statistics by columns, the rest by elements, and the public doors.

A block has COLUMNS_AT_ONCE columns at a time; the threads of a column each take every TEAM-th row,
and what they have is added in order: the bits depend on the shape alone. Both passes are about the
first row, so nothing cancels where mean >> sigma.
"""

from __future__ import annotations

from typing import Any

from ..checks import array as checked
from ..layout import FORM_SQRT
from ..values import epsilon, form_code
from . import memory
from .arith import root
from .doors import Door, grid_for
from .linear import COLUMNS_AT_ONCE, TEAM
from .machine import (
    block,
    blocks,
    device,
    fma,
    kernel,
    like,
    shared_load,
    shared_reals,
    shared_store,
    sync_block,
    thread,
)
from .tiles import THREADS


@device
def column_total(value: Any, shared: Any) -> Any:
    """The sum over the threads of a column, in order, for each of them."""
    t = thread()
    sync_block()
    shared_store(shared, t, value)
    sync_block()
    j = t % COLUMNS_AT_ONCE
    total = shared_load(shared, j)
    for other in range(1, TEAM):
        total += shared_load(shared, other * COLUMNS_AT_ONCE + j)
    return total


@device
def column(j: int, n: int) -> int:
    """j; the last one where there is no such column: it is summed once more, and not written."""
    return j if j < n else n - 1


@device
def statistics_columns(
    Z: Any, z0: int, ldz: int, mean: Any, m0: int, variance: Any, v0: int, rows: int, n: int,
    part: int, parts: int, shared: Any,
) -> None:  # fmt: skip
    """Mean and population variance of every column of `rows` samples, in two passes."""
    t = thread()
    for start in range(part * COLUMNS_AT_ONCE, n, parts * COLUMNS_AT_ONCE):
        j = column(start + t % COLUMNS_AT_ONCE, n)
        at = z0 + j
        k = Z[at]
        total = k - k
        for i in range(t // COLUMNS_AT_ONCE, rows, TEAM):
            total += Z[at + i * ldz] - k
        shift = column_total(total, shared) / like(k, rows)
        total = k - k
        for i in range(t // COLUMNS_AT_ONCE, rows, TEAM):
            d = (Z[at + i * ldz] - k) - shift
            total = fma(d, d, total)
        spread = column_total(total, shared) / like(k, rows)
        if t < COLUMNS_AT_ONCE and start + t < n:
            mean[m0 + j] = shift + k
            variance[v0 + j] = spread


@device
def scale_of(variance: Any, eps: float, form: int) -> Any:
    """1 / sqrt(variance + eps), or 1 / (sigma + eps)."""
    one, small = like(variance, 1.0), like(variance, eps)
    if form == FORM_SQRT:
        return one / root(variance + small)
    return one / (root(variance) + small)


@device
def ratio_of(variance: Any, eps: float, form: int) -> Any:
    """The factor on the variance's term of the gradient: 1, or (sigma + eps) / sigma."""
    if form == FORM_SQRT:
        return like(variance, 1.0)
    sigma = root(variance)
    if sigma == 0:
        return like(variance, 0.0)
    return (sigma + like(variance, eps)) / sigma


@device
def sums_columns(
    dU: Any, u0: int, ldu: int, H: Any, h0: int, ldh: int, dgamma: Any, g0: int, dbeta: Any,
    b0: int, rows: int, n: int, part: int, parts: int, shared: Any,
) -> None:  # fmt: skip
    """dgamma = the sum over the rows of dU H, dbeta = that of dU, for every column."""
    t = thread()
    for start in range(part * COLUMNS_AT_ONCE, n, parts * COLUMNS_AT_ONCE):
        j = column(start + t % COLUMNS_AT_ONCE, n)
        first = dU[u0 + j]
        beta = first - first
        gamma = beta
        for i in range(t // COLUMNS_AT_ONCE, rows, TEAM):
            u = dU[u0 + i * ldu + j]
            beta += u
            gamma = fma(u, H[h0 + i * ldh + j], gamma)
        beta = column_total(beta, shared)
        gamma = column_total(gamma, shared)
        if t < COLUMNS_AT_ONCE and start + t < n:
            dgamma[g0 + j] = gamma
            dbeta[b0 + j] = beta


@device
def pulled_back(
    u: Any, h: Any, gamma: Any, scale: Any, ratio: Any, dgamma: Any, dbeta: Any, inverse: Any
) -> Any:
    """gamma scale (u - (dbeta + h ratio dgamma) / rows)."""
    return (gamma * scale) * fma(inverse, fma(-(dgamma * ratio), h, -dbeta), u)


@kernel
def _statistics(Z: Any, mean: Any, variance: Any, rows: int, n: int) -> None:
    shared = shared_reals(Z)
    statistics_columns(Z, 0, n, mean, 0, variance, 0, rows, n, block(), blocks(), shared)


@kernel
def _normalize(
    Z: Any, mean: Any, variance: Any, gamma: Any, beta: Any, eps: float, form: int, H: Any,
    out: Any, rows: int, n: int,
) -> None:  # fmt: skip
    for e in range(block() * THREADS + thread(), rows * n, blocks() * THREADS):
        j = e % n
        h = (Z[e] - mean[j]) * scale_of(variance[j], eps, form)
        H[e] = h
        out[e] = fma(gamma[j], h, beta[j])


@kernel
def _sums(dU: Any, H: Any, dgamma: Any, dbeta: Any, rows: int, n: int) -> None:
    shared = shared_reals(dU)
    sums_columns(dU, 0, n, H, 0, n, dgamma, 0, dbeta, 0, rows, n, block(), blocks(), shared)


@kernel
def _backward(
    dU: Any, H: Any, variance: Any, gamma: Any, dgamma: Any, dbeta: Any, eps: float, form: int,
    inverse: float, dZ: Any, rows: int, n: int,
) -> None:  # fmt: skip
    for e in range(block() * THREADS + thread(), rows * n, blocks() * THREADS):
        j = e % n
        u, v = dU[e], variance[j]
        scale, ratio = scale_of(v, eps, form), ratio_of(v, eps, form)
        dZ[e] = pulled_back(u, H[e], gamma[j], scale, ratio, dgamma[j], dbeta[j], like(u, inverse))


def _batch(door: Door, argument: str, Z: Any) -> Any:
    if not memory.on_card(Z):
        checked(argument, Z, (None, None))
    if Z.shape[0] == 0:
        raise ValueError(f"{argument}: has no rows; a batch needs at least one sample")
    return door.take(argument, Z, (None, None))


def batch_statistics(Z: Any, *, mean: Any = None, variance: Any = None) -> tuple[Any, Any]:
    """Mean and population variance of each column. As `fastbp.kernels.batch_statistics`."""
    door = Door()
    z = _batch(door, "Z", Z)
    rows, n = door.shape("Z")
    m = door.give("mean", mean, (n,))
    v = door.give("variance", variance, (n,))
    _statistics.launch(-(-n // COLUMNS_AT_ONCE), z, m, v, rows, n)
    return door.close("mean", "variance")


def batchnorm_forward(
    Z: Any,
    mean: Any,
    variance: Any,
    gamma: Any,
    beta: Any,
    *,
    eps: float = 1e-5,
    form: str = "sqrt",
    out: Any = None,
    normalized: Any = None,
) -> tuple[Any, Any]:
    """(gamma Zhat + beta, Zhat). As `fastbp.kernels.batchnorm_forward`."""
    door = Door()
    z = door.take("Z", Z, (None, None))
    rows, n = door.shape("Z")
    given = {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta}
    vectors = [door.take(name, value, (n,)) for name, value in given.items()]
    code, small = form_code(form), epsilon(eps)
    if out is not None and out is normalized:
        raise ValueError("out: shares memory with normalized; pass another array to one of them")
    h = door.give("normalized", normalized, (rows, n), in_place=("Z",))
    u = door.give("out", out, (rows, n), in_place=("Z",))
    _normalize.launch(grid_for(rows * n), z, *vectors, small, code, h, u, rows, n)
    return door.close("out", "normalized")


def batchnorm_backward(
    dU: Any,
    normalized: Any,
    variance: Any,
    gamma: Any,
    *,
    eps: float = 1e-5,
    form: str = "sqrt",
    out: Any = None,
    gamma_out: Any = None,
    beta_out: Any = None,
) -> tuple[Any, Any, Any]:
    """(dL/dZ, dL/dgamma, dL/dbeta). As `fastbp.kernels.batchnorm_backward`."""
    door = Door()
    u = _batch(door, "dU", dU)
    rows, n = door.shape("dU")
    h = door.take("normalized", normalized, (rows, n))
    v = door.take("variance", variance, (n,))
    g = door.take("gamma", gamma, (n,))
    code, small = form_code(form), epsilon(eps)
    z = door.give("out", out, (rows, n), in_place=("dU",))
    dgamma = door.give("gamma_out", gamma_out, (n,))
    dbeta = door.give("beta_out", beta_out, (n,))
    _sums.launch(-(-n // COLUMNS_AT_ONCE), u, h, dgamma, dbeta, rows, n)
    rest = (small, code, 1.0 / rows, z, rows, n)
    _backward.launch(grid_for(rows * n), u, h, v, g, dgamma, dbeta, *rest)
    return door.close("out", "gamma_out", "beta_out")
