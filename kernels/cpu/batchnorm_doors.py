"""The public doors to batch normalisation: checks, allocation, and the shares of each body."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from ..checks import array, output
from ..values import epsilon, form_code
from .batchnorm import (
    batchnorm_backward_rows,
    batchnorm_sums_columns,
    normalize_rows,
    scale_columns,
    statistics_columns,
)
from .doors import launch
from .jit import parallel, serial
from .memory import flush_denormals, restore_mode
from .shares import ANYWHERE, COLUMNS, share


@serial
def _statistics_share(Z: Any, mean: Any, variance: Any, part: int, parts: int) -> None:
    mode = flush_denormals()
    lo, hi = share(Z.shape[1], COLUMNS, part, parts)
    statistics_columns(Z, mean, variance, Z.shape[0], lo, hi)
    restore_mode(mode)


@parallel
def _statistics_shares(Z: Any, mean: Any, variance: Any, parts: int) -> None:
    for t in prange(parts):
        _statistics_share(Z, mean, variance, np.int64(t), parts)


@serial
def _scale_share(variance: Any, eps: float, form: int, scale: Any, ratio: Any) -> None:
    mode = flush_denormals()
    scale_columns(variance, eps, form, scale, ratio, 0, variance.shape[0])
    restore_mode(mode)


@serial
def _normalize_share(
    Z: Any, mean: Any, scale: Any, gamma: Any, beta: Any, normalized: Any, out: Any, part: int,
    parts: int,
) -> None:  # fmt: skip
    mode = flush_denormals()
    lo, hi = share(Z.shape[0], ANYWHERE, part, parts)
    normalize_rows(Z, mean, scale, gamma, beta, normalized, out, lo, hi, Z.shape[1])
    restore_mode(mode)


@parallel
def _normalize_shares(
    Z: Any, mean: Any, scale: Any, gamma: Any, beta: Any, normalized: Any, out: Any, parts: int
) -> None:
    for t in prange(parts):
        _normalize_share(Z, mean, scale, gamma, beta, normalized, out, np.int64(t), parts)


@serial
def _sums_share(dU: Any, normalized: Any, dgamma: Any, dbeta: Any, part: int, parts: int) -> None:
    mode = flush_denormals()
    lo, hi = share(dU.shape[1], COLUMNS, part, parts)
    batchnorm_sums_columns(dU, normalized, dgamma, dbeta, dU.shape[0], lo, hi)
    restore_mode(mode)


@parallel
def _sums_shares(dU: Any, normalized: Any, dgamma: Any, dbeta: Any, parts: int) -> None:
    for t in prange(parts):
        _sums_share(dU, normalized, dgamma, dbeta, np.int64(t), parts)


@serial
def _backward_share(
    dU: Any, normalized: Any, gamma: Any, scale: Any, ratio: Any, dgamma: Any, dbeta: Any, dZ: Any,
    part: int, parts: int,
) -> None:  # fmt: skip
    mode = flush_denormals()
    rows, n = dU.shape
    lo, hi = share(rows, ANYWHERE, part, parts)
    batchnorm_backward_rows(dU, normalized, gamma, scale, ratio, dgamma, dbeta, rows, dZ, lo, hi, n)
    restore_mode(mode)


@parallel
def _backward_shares(
    dU: Any, normalized: Any, gamma: Any, scale: Any, ratio: Any, dgamma: Any, dbeta: Any, dZ: Any,
    parts: int,
) -> None:  # fmt: skip
    for t in prange(parts):
        _backward_share(dU, normalized, gamma, scale, ratio, dgamma, dbeta, dZ, np.int64(t), parts)


def _batch(argument: str, Z: Any) -> np.ndarray:
    Z = array(argument, Z, (None, None))
    if Z.shape[0] == 0:
        raise ValueError(f"{argument}: has no rows; a batch needs at least one sample")
    return Z


def batch_statistics(
    Z: np.ndarray, *, mean: np.ndarray | None = None, variance: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population variance of each column, in two passes.

    Both passes subtract the first row before they sum, so nothing cancels where mean >> sigma, and
    the variance of a constant column is exactly 0.

    Args:
        Z: a batch (n, k), C-contiguous float32 or float64, n >= 1.
        mean, variance: arrays (k,) to fill, like Z. Default: new ones.

    Returns:
        (mean, variance), each (k,).

    Raises:
        ValueError, TypeError: no rows, or an array of another kind.

    >>> mean, variance = batch_statistics(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> mean.tolist(), variance.tolist()
    ([2.0, 5.0], [1.0, 0.0])
    """
    Z = _batch("Z", Z)
    columns = (Z.shape[1],)
    mean = output("mean", mean, columns, Z.dtype, {"Z": Z})
    variance = output("variance", variance, columns, Z.dtype, {"Z": Z, "mean": mean})
    launch(_statistics_share, _statistics_shares, Z.size, Z, mean, variance)
    return mean, variance


def batchnorm_forward(
    Z: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    *,
    eps: float = 1e-5,
    form: str = "sqrt",
    out: np.ndarray | None = None,
    normalized: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Z normalised by the given statistics, then scaled and shifted: gamma * Zhat + beta.

    Ioffe and Szegedy (2015). The statistics are the batch's in training, running ones at inference.

    Args:
        Z: a batch (n, k), C-contiguous float32 or float64.
        mean, variance, gamma, beta: (k,), like Z.
        eps: keeps the divisor from 0.
        form: "sqrt" divides by sqrt(variance + eps), as every exchange format means it; "sigma" by
            sigma + eps, as the lecture notes do.
        out: array (n, k) for the result; may be Z. Default: a new one.
        normalized: array (n, k) for Zhat, which the backward pass needs; may be Z. Default: new.

    Returns:
        (out, normalized).

    Raises:
        ValueError, TypeError: an unknown form, a negative eps, or an array of another kind.

    >>> Z, one = np.array([[1.0], [3.0]]), np.ones(1)
    >>> batchnorm_forward(Z, np.array([2.0]), one, 10 * one, one, eps=0.0)[0].tolist()
    [[-9.0], [11.0]]
    """
    Z = array("Z", Z, (None, None))
    given = {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta}
    vectors = {name: array(name, v, (Z.shape[1],), Z.dtype) for name, v in given.items()}
    code, small = form_code(form), epsilon(eps)
    inputs = {"Z": Z, **vectors}
    H = output("normalized", normalized, Z.shape, Z.dtype, inputs, in_place=("Z",))
    U = output("out", out, Z.shape, Z.dtype, {**inputs, "normalized": H}, in_place=("Z",))
    if normalized is not None and np.may_share_memory(U, H):
        raise ValueError("out: shares memory with normalized; pass another array to one of them")
    scale, ratio = np.empty((2, Z.shape[1]), Z.dtype)
    _scale_share(vectors["variance"], small, code, scale, ratio)
    rest = (vectors["mean"], scale, vectors["gamma"], vectors["beta"], H, U)
    launch(_normalize_share, _normalize_shares, Z.size, Z, *rest)
    return U, H


def batchnorm_backward(
    dU: np.ndarray,
    normalized: np.ndarray,
    variance: np.ndarray,
    gamma: np.ndarray,
    *,
    eps: float = 1e-5,
    form: str = "sqrt",
    out: np.ndarray | None = None,
    gamma_out: np.ndarray | None = None,
    beta_out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dL/dZ, dL/dgamma and dL/dbeta from dL/dU, where U = gamma * Zhat + beta in training.

    With s = 1 / sqrt(variance + eps): dL/dZ = gamma s (dU - mean(dU) - Zhat mean(dU Zhat)).
    The form "sigma" has s = 1 / (sigma + eps), and a factor (sigma + eps) / sigma on the last term,
    taken as 0 where sigma = 0 (the term itself vanishes with Zhat).

    Args:
        dU: dL/dU (n, k), C-contiguous float32 or float64, n >= 1.
        normalized: Zhat (n, k) of the forward pass.
        variance, gamma: (k,), the batch's population variance and the scale.
        eps, form: as in the forward pass.
        out: array for dL/dZ; may be dU. Default: a new one.
        gamma_out, beta_out: arrays (k,) for the other two. Default: new ones.

    Returns:
        (dL/dZ, dL/dgamma, dL/dbeta).

    Raises:
        ValueError, TypeError: an unknown form, a negative eps, no rows, another kind of array.

    >>> dU, Zhat, one = np.array([[1.0], [0.0]]), np.array([[-1.0], [1.0]]), np.ones(1)
    >>> [a.tolist() for a in batchnorm_backward(dU, Zhat, one, one, eps=0.0)]
    [[[0.0], [0.0]], [-1.0], [1.0]]
    """
    dU = _batch("dU", dU)
    columns, dtype = (dU.shape[1],), dU.dtype
    inputs = {
        "normalized": array("normalized", normalized, dU.shape, dtype),
        "variance": array("variance", variance, columns, dtype),
        "gamma": array("gamma", gamma, columns, dtype),
    }
    code, small = form_code(form), epsilon(eps)
    dZ = output("out", out, dU.shape, dtype, {"dU": dU, **inputs}, in_place=("dU",))
    inputs |= {"dU": dU, "out": dZ}
    dgamma = output("gamma_out", gamma_out, columns, dtype, inputs)
    dbeta = output("beta_out", beta_out, columns, dtype, {**inputs, "gamma_out": dgamma})
    scale, ratio = np.empty((2, *columns), dtype)
    _scale_share(inputs["variance"], small, code, scale, ratio)
    H = inputs["normalized"]
    launch(_sums_share, _sums_shares, dU.size, dU, H, dgamma, dbeta)
    rest = (H, inputs["gamma"], scale, ratio, dgamma, dbeta, dZ)
    launch(_backward_share, _backward_shares, dU.size, dU, *rest)
    return dZ, dgamma, dbeta
