"""Activations and their derivatives in plain NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ..checks import code_of, name_of
from ..tables import ACTIVATIONS, LEAKY_SLOPE
from ..values import check_derivative

Array = np.ndarray[Any, Any]


def sigmoid(z: Array) -> Array:
    """1 / (1 + e^-z), for z < 0 as e^z / (1 + e^z): nothing overflows."""
    e = np.exp(-np.abs(z))
    return np.where(z < 0, e, np.ones_like(z)) / (1 + e)


def normal_cdf(z: Array) -> Array:
    """Phi(z) = erfc(-z / sqrt 2) / 2."""
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    return np.asarray(erfc(-z / math.sqrt(2)) / 2, z.dtype)


def _held(z: Array) -> Array:
    """z without inf, where inf * 0 would turn up."""
    return np.clip(z, -1e4, 1e4)


def _positive_side(z: Array, below: Any) -> Array:
    """1 where z > 0, `below` where z <= 0, NaN where z is NaN."""
    return np.where(np.isnan(z), z, np.where(z > 0, 1, below)).astype(z.dtype)


VALUES: Final[dict[str, Callable[[Array], Array]]] = {
    "identity": lambda z: z,
    "step": lambda z: np.where(np.isnan(z), z, z >= 0),
    "relu": lambda z: np.maximum(z, 0),  # hands NaN on
    "leaky_relu": lambda z: np.where(z > 0, z, LEAKY_SLOPE * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "softplus": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
    "silu": lambda z: np.maximum(z, -1e4) * sigmoid(z),
    "gelu": lambda z: np.maximum(z, -1e4) * normal_cdf(z),
    "exp": np.exp,
}
"""f(z), element by element."""

SLOPES: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "identity": lambda a, z: np.ones_like(a),
    "step": lambda a, z: np.zeros_like(a),
    "relu": lambda a, z: _positive_side(a, 0),
    "leaky_relu": lambda a, z: _positive_side(a, LEAKY_SLOPE),
    "elu": lambda a, z: _positive_side(a, a + 1),
    "sigmoid": lambda a, z: a * (1 - a),
    "tanh": lambda a, z: (1 - a) * (1 + a),
    "softplus": lambda a, z: -np.expm1(-a),
    "silu": lambda a, z: sigmoid(_held(z)) * (1 + _held(z) * sigmoid(-_held(z))),
    "gelu": lambda a, z: (
        normal_cdf(z) + _held(z) * np.exp(-(_held(z) ** 2) / 2) / math.sqrt(2 * math.pi)
    ),
    "exp": lambda a, z: a,
}
"""f'(z) from a = f(z), or from z where the table says that a does not tell."""


def softmax(Z: Array) -> Array:
    """e^z / sum e^z by rows; the largest z is subtracted first, so nothing overflows."""
    e = np.exp(Z - Z.max(axis=1, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=1, keepdims=True)


def activate(activation: str | int, Z: Array, *, out: Array | None = None) -> Array:
    """A = f(Z) (n, k), element by element; softmax row by row.

    >>> activate("relu", np.array([[-1.0, 2.0]])).tolist()
    [[0.0, 2.0]]
    """
    name = name_of(code_of("activation", activation, ACTIVATIONS), ACTIVATIONS)
    with np.errstate(all="ignore"):
        A = softmax(Z) if name == "softmax" else VALUES[name](Z)
    out = np.empty_like(Z) if out is None else out
    out[...] = A
    return out


def apply_derivative(
    activation: str | int,
    dA: Array,
    A: Array,
    Z: Array | None = None,
    *,
    out: Array | None = None,
) -> Array:
    """dL/dZ (n, k) from dL/dA: times f'; for softmax the Jacobian's product with each row.

    >>> apply_derivative("tanh", np.array([[2.0]]), np.array([[0.5]])).tolist()
    [[1.5]]
    """
    name = name_of(code_of("activation", activation, ACTIVATIONS), ACTIVATIONS)
    check_derivative(name, has_Z=Z is not None)
    with np.errstate(all="ignore"):
        if name == "softmax":
            dZ = A * (dA - (A * dA).sum(axis=1, keepdims=True))
        else:
            dZ = dA * SLOPES[name](A, A if Z is None else Z)
    out = np.empty_like(dA) if out is None else out
    out[...] = dZ
    return out
