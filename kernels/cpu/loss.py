"""Losses, their derivatives, and the short dL/dZ of loss-activation pairs, over rows.

The serial bodies and the public doors; the formulas and the rule for log(0) are in `loss_terms`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import prange

from ..checks import array, code_of, output, pair_of
from ..tables import LOSS_ALIASES, LOSSES
from .activation import row_maximum
from .doors import launch
from .elementary import scalar_log
from .jit import inline, parallel, serial
from .loss_terms import PAIRS, TERMS, softmax_cross_end, softmax_cross_start
from .memory import flush_denormals, restore_mode
from .shares import ANYWHERE, share
from .short_rows import SHORT_BYTES, pairs_block, softmax_cross_block
from .spans import Formula, span

CROSS_ENTROPY: Final = LOSSES["cross_entropy"].code


def _numbered(formulas: dict[str, Any]) -> dict[int, Formula]:
    return {LOSSES[name].code: formula for name, formula in formulas.items()}


_terms = span(
    _numbered({name: pair[0] for name, pair in TERMS.items()}), outputs=0, inputs=2, totals=1
)
_slopes = span(_numbered({name: pair[1] for name, pair in TERMS.items()}), outputs=1, inputs=2)
_pairs = span(_numbered(PAIRS), outputs=2, inputs=2, totals=1)
_pairs_block = pairs_block(_numbered(PAIRS))
_start = span({0: softmax_cross_start}, outputs=1, inputs=2, totals=3)
_end = span({0: softmax_cross_end}, outputs=2, inputs=2)


@serial
def loss_rows(
    loss: int, A: Any, Y: Any, weight: Any, losses: Any, lo: int, hi: int, n: int
) -> None:
    """losses[i] = weight[i] L(A[i], Y[i]) for rows lo to hi; losses is float64."""
    for i in range(lo, hi):
        losses[i] = np.float64(weight[i]) * np.float64(_terms(loss, A, Y, i, n, ()))


@serial
def loss_gradient_rows(
    loss: int, A: Any, Y: Any, weight: Any, scale: float, dA: Any, lo: int, hi: int, n: int
) -> None:
    """dA = scale weight[i] dL/dA for rows lo to hi; dA may be A."""
    for i in range(lo, hi):
        _slopes(loss, dA, A, Y, i, n, (scale * weight[i],))


@inline
def held(loss: float, least: float, most: float) -> float:
    """A loss within [least, most]; NaN passes through."""
    if loss < least:
        return least
    return most if loss > most else loss


@serial
def pair_rows(
    loss: int, Z: Any, A: Any, Y: Any, weight: Any, scale: float, least: float, most: float,
    losses: Any, dZ: Any, lo: int, hi: int, n: int,
) -> None:  # fmt: skip
    """From logits Z: A = f(Z), losses (float64) and dZ = scale weight[i] dL/dZ.

    The loss names its pair: squared errors with identity, poisson with exp, binary_cross_entropy
    with sigmoid, cross_entropy with softmax: dL/dz = a sum(y) - y,
    L = sum_j y_j (log sum exp z - z_j).
    A may be Z; dZ may be either. The terms of binary_cross_entropy and a sample's cross_entropy are
    held in [least, most]: of those libraries that clip probabilities before the logarithm.
    """
    if n * Z.itemsize <= SHORT_BYTES:
        lanes = SHORT_BYTES // Z.itemsize
        for i in range(lo, hi, lanes):
            rows = min(lanes, hi - i)
            if loss == CROSS_ENTROPY:
                softmax_cross_block(Z, A, Y, weight, scale, least, most, losses, dZ, i, rows, n)
            else:
                _pairs_block(
                    Z, A, Y, weight, scale, least, most, losses, dZ, i, rows, n, loss
                )  # fmt: skip
        return
    for i in range(lo, hi):
        c = scale * weight[i]
        if loss == CROSS_ENTROPY:
            top = row_maximum(0, Z, i, n, ())
            total, mass, below = _start(0, A, Z, Y, i, n, (top,))
            spread = np.float64(mass) * np.float64(scalar_log(total))
            losses[i] = np.float64(weight[i]) * held(np.float64(below) + spread, least, most)
            _end(0, A, dZ, A, Y, i, n, (total, mass, c))
        else:
            total = _pairs(loss, A, dZ, Z, Y, i, n, (c, least, most))
            losses[i] = np.float64(weight[i]) * np.float64(total)


@serial
def _loss_share(loss: int, A: Any, Y: Any, weight: Any, losses: Any, part: int, parts: int) -> None:
    mode = flush_denormals()
    lo, hi = share(A.shape[0], ANYWHERE, part, parts)
    loss_rows(loss, A, Y, weight, losses, lo, hi, A.shape[1])
    restore_mode(mode)


@parallel
def _loss_shares(loss: int, A: Any, Y: Any, weight: Any, losses: Any, parts: int) -> None:
    for t in prange(parts):
        _loss_share(loss, A, Y, weight, losses, np.int64(t), parts)


@serial
def _gradient_share(loss: int, A: Any, Y: Any, weight: Any, dA: Any, part: int, parts: int) -> None:
    mode = flush_denormals()
    lo, hi = share(A.shape[0], ANYWHERE, part, parts)
    loss_gradient_rows(loss, A, Y, weight, 1.0, dA, lo, hi, A.shape[1])
    restore_mode(mode)


@parallel
def _gradient_shares(loss: int, A: Any, Y: Any, weight: Any, dA: Any, parts: int) -> None:
    for t in prange(parts):
        _gradient_share(loss, A, Y, weight, dA, np.int64(t), parts)


@serial
def _pair_share(
    loss: int, Z: Any, Y: Any, weight: Any, losses: Any, dZ: Any, part: int, parts: int
) -> None:
    mode = flush_denormals()
    lo, hi = share(Z.shape[0], ANYWHERE, part, parts)
    # The outputs go where dL/dZ overwrites them.
    every = (-np.inf, np.inf)
    pair_rows(loss, Z, dZ, Y, weight, 1.0, *every, losses, dZ, lo, hi, Z.shape[1])
    restore_mode(mode)


@parallel
def _pair_shares(loss: int, Z: Any, Y: Any, weight: Any, losses: Any, dZ: Any, parts: int) -> None:
    for t in prange(parts):
        _pair_share(loss, Z, Y, weight, losses, dZ, np.int64(t), parts)


def _weights(weight: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    if weight is None:
        return np.ones(like.shape[0], like.dtype)
    return array("weight", weight, (like.shape[0],), like.dtype)


def loss_forward(
    loss: str | int,
    A: np.ndarray,
    Y: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """weight[i] L(A[i], Y[i]) for each sample i, L summed over its outputs.

    Args:
        loss: a name of `tables.LOSSES`, an alias, or the code.
        A: outputs (n, k), C-contiguous float32 or float64.
        Y: targets, like A.
        weight: (n,), of A's dtype. Default: ones.
        out: float64 array (n,) for the losses. Default: a new one.

    Returns:
        The losses (n,), float64; each is summed in A's dtype.

    Raises:
        ValueError, TypeError: an unknown loss, or an array of another kind.

    >>> loss_forward("squared_error", np.array([[3.0, 1.0]]), np.array([[1.0, 1.0]])).tolist()
    [4.0]
    """
    code = code_of("loss", loss, LOSSES, LOSS_ALIASES)
    A = array("A", A, (None, None))
    Y = array("Y", Y, A.shape, A.dtype)
    W = _weights(weight, A)
    inputs = {"A": A, "Y": Y, "weight": W}
    losses = output("out", out, A.shape[:1], np.float64, inputs)
    launch(_loss_share, _loss_shares, A.size, code, A, Y, W, losses)
    return losses if out is None else out


def loss_gradient(
    loss: str | int,
    A: np.ndarray,
    Y: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """dL/dA of each sample, times weight[i]. |x|'(0) is 0.

    Args:
        loss: a name of `tables.LOSSES`, an alias, or the code.
        A: outputs (n, k), C-contiguous float32 or float64.
        Y: targets, like A.
        weight: (n,), of A's dtype. Default: ones.
        out: array for dL/dA, like A; may be A itself. Default: a new one.

    Returns:
        dL/dA (n, k).

    Raises:
        ValueError, TypeError: an unknown loss, or an array of another kind.

    >>> loss_gradient("nllm", np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])).tolist()
    [[-2.0, -0.0]]
    """
    code = code_of("loss", loss, LOSSES, LOSS_ALIASES)
    A = array("A", A, (None, None))
    Y = array("Y", Y, A.shape, A.dtype)
    W = _weights(weight, A)
    dA = output("out", out, A.shape, A.dtype, {"A": A, "Y": Y, "weight": W}, in_place=("A",))
    launch(_gradient_share, _gradient_shares, A.size, code, A, Y, W, dA)
    return dA if out is None else out


def loss_and_delta(
    loss: str | int,
    activation: str | int,
    Z: np.ndarray,
    Y: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    out: np.ndarray | None = None,
    losses: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Losses and dL/dZ from logits, for the pairs with a short dL/dZ.

    Finite for logits of +-1e4; poisson's, which is exp's, for those whose e^z is.

    Args:
        loss: a name of `tables.LOSSES`, an alias, or the code.
        activation: the activation of the pair (`LOSSES[loss].pairs`).
        Z: logits (n, k), C-contiguous float32 or float64.
        Y: targets, like Z.
        weight: (n,), of Z's dtype. Default: ones.
        out: array for dL/dZ, like Z; may be Z itself. Default: a new one.
        losses: float64 array (n,) for the losses. Default: a new one.

    Returns:
        (losses (n,) float64, dL/dZ (n, k)), both times weight[i].

    Raises:
        ValueError, TypeError: an unknown name, no such pair, or an array of another kind.

    >>> value, delta = loss_and_delta(
    ...     "cross_entropy", "softmax", np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]]))
    >>> value.round(6).tolist(), delta.tolist()
    ([0.693147], [[-0.5, 0.5]])
    """
    code, _ = pair_of(loss, activation)
    Z = array("Z", Z, (None, None))
    Y = array("Y", Y, Z.shape, Z.dtype)
    W = _weights(weight, Z)
    inputs = {"Z": Z, "Y": Y, "weight": W}
    dZ = output("out", out, Z.shape, Z.dtype, inputs, in_place=("Z",))
    values = output("losses", losses, Z.shape[:1], np.float64, {**inputs, "out": dZ})
    if Z.size > 0:
        launch(_pair_share, _pair_shares, Z.size, code, Z, Y, W, values, dZ)
    else:
        values[:] = 0  # of no outputs; softmax's sum would be 0, and its logarithm -inf
    return values if losses is None else losses, dZ if out is None else out
