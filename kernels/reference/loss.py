"""Losses, their derivatives and the short dL/dZ of loss-activation pairs in plain NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ..checks import code_of, name_of, pair_of
from ..tables import LOSS_ALIASES, LOSSES
from .activation import sigmoid, softmax

Array = np.ndarray[Any, Any]


def inside(A: Array) -> Array:
    """A held in [tiny, 1 - eps/2], where both logarithms are finite."""
    info = np.finfo(A.dtype)
    return np.clip(A, info.tiny, 1 - info.epsneg)


def above(A: Array) -> Array:
    """A held above 0, where its logarithm is finite."""
    return np.maximum(A, np.finfo(A.dtype).tiny)


def log_of_count(Y: Array) -> Array:
    """log y, and 0 where y = 0, so that y log y is its limit 0 there."""
    return np.log(np.where(Y == 0, 1, Y))


TERMS: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "squared_error": lambda a, y: (a - y) ** 2,
    "half_squared_error": lambda a, y: (a - y) ** 2 / 2,
    "absolute_error": lambda a, y: np.abs(a - y),
    "binary_cross_entropy": lambda a, y: -(y * np.log(inside(a)) + (1 - y) * np.log1p(-inside(a))),
    "cross_entropy": lambda a, y: -y * np.log(inside(a)),
    "poisson": lambda a, y: y * (log_of_count(y) - np.log(above(a))) - y + above(a),
}
"""The term of one output."""

SLOPES: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "squared_error": lambda a, y: 2 * (a - y),
    "half_squared_error": lambda a, y: a - y,
    "absolute_error": lambda a, y: np.sign(a - y),
    "binary_cross_entropy": lambda a, y: (inside(a) - y) / (inside(a) * (1 - inside(a))),
    "cross_entropy": lambda a, y: -y / inside(a),
    "poisson": lambda a, y: (above(a) - y) / above(a),
}
"""dL/da of one output; the log losses' at the clamped a."""

LOG_LOSSES: Final = frozenset({"binary_cross_entropy", "cross_entropy", "poisson"})
"""Losses whose derivative is held finite."""


def _weights(weight: Array | None, like: Array) -> Array:
    return np.ones(len(like), like.dtype) if weight is None else weight


def _filled(out: Array | None, values: Array, dtype: Any) -> Array:
    out = np.empty(values.shape, dtype) if out is None else out
    out[...] = values
    return out


def loss_forward(
    loss: str | int, A: Array, Y: Array, *, weight: Array | None = None, out: Array | None = None
) -> Array:
    """weight[i] L(A[i], Y[i]) (n,), float64; L is summed over the outputs.

    >>> loss_forward("squared_error", np.array([[3.0, 1.0]]), np.array([[1.0, 1.0]])).tolist()
    [4.0]
    """
    name = name_of(code_of("loss", loss, LOSSES, LOSS_ALIASES), LOSSES)
    losses = _weights(weight, A) * TERMS[name](A, Y).sum(axis=1)
    return _filled(out, losses, np.float64)


def loss_gradient(
    loss: str | int, A: Array, Y: Array, *, weight: Array | None = None, out: Array | None = None
) -> Array:
    """dL/dA (n, k) of each sample, times weight[i].

    >>> loss_gradient("absolute_error", np.array([[3.0, 1.0]]), np.array([[1.0, 1.0]])).tolist()
    [[1.0, 0.0]]
    """
    name = name_of(code_of("loss", loss, LOSSES, LOSS_ALIASES), LOSSES)
    with np.errstate(over="ignore"):
        dA = _weights(weight, A)[:, None] * SLOPES[name](A, Y)
    if name in LOG_LOSSES:  # infinite, times an activation's slope of 0, it would be NaN
        most = np.finfo(A.dtype).max
        dA = np.clip(dA, -most, most)
    return _filled(out, dA, A.dtype)


def _from_logits(name: str, Z: Array, Y: Array) -> tuple[Array, Array]:
    """Losses (n,) and dL/dZ (n, k) of one pair, finite for any finite logits."""
    if name == "cross_entropy":
        top = Z.max(axis=1, keepdims=True, initial=-np.inf)
        with np.errstate(divide="ignore"):  # no outputs: log 0, times none of them
            log_sum = np.log(np.exp(Z - top).sum(axis=1, keepdims=True))
        mass = Y.sum(axis=1, keepdims=True)
        return (Y * ((top - Z) + log_sum)).sum(axis=1), softmax(Z) * mass - Y
    if name == "binary_cross_entropy":
        terms = np.maximum(Z, 0) - Y * Z + np.log1p(np.exp(-np.abs(Z)))
        return terms.sum(axis=1), sigmoid(Z) - Y
    if name == "poisson":
        with np.errstate(over="ignore"):
            delta = np.exp(Z) - Y
        return (delta + Y * (log_of_count(Y) - Z)).sum(axis=1), delta
    return TERMS[name](Z, Y).sum(axis=1), SLOPES[name](Z, Y)


def loss_and_delta(
    loss: str | int,
    activation: str | int,
    Z: Array,
    Y: Array,
    *,
    weight: Array | None = None,
    out: Array | None = None,
    losses: Array | None = None,
) -> tuple[Array, Array]:
    """(losses (n,) float64, dL/dZ (n, k)) from logits, for the pairs of the table.

    >>> loss_and_delta("nll", "sigmoid", np.array([[0.0]]), np.array([[1.0]]))[1].tolist()
    [[-0.5]]
    """
    _, name = pair_of(loss, activation)
    w = _weights(weight, Z)
    values, delta = _from_logits(name, Z, Y)
    return _filled(losses, w * values, np.float64), _filled(out, w[:, None] * delta, Z.dtype)
