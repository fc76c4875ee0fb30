"""Activations and their derivatives, one line of mathematics each.

Every function takes pre-activations Z of any shape and returns the same shape; softmax is the
exception: it takes one (n, 1) column.  Sources: notes 004 section 6.5.12 (000 section 7.5.12) for
step, ReLU, sigmoid, identity and tanh; notes 001 (last page) for softmax; leaky_relu, elu,
softplus, silu, gelu and exp are fastbp's additions, in their authors' definitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .jacobians import Array, diagonal

LEAKY_SLOPE = 0.01


def identity(z: Array) -> Array:
    """f(z) = z, any shape.  Notes 004 (6.38).

    >>> identity(np.array([-1.0, 2.0])).tolist()
    [-1.0, 2.0]
    """
    return z


def step(z: Array) -> Array:
    """1 where z >= 0, else 0; any shape.  Notes 004 (6.31).

    >>> step(np.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 1.0, 1.0]
    """
    return np.where(z >= 0, 1.0, 0.0)


def relu(z: Array) -> Array:
    """max(0, z), any shape.  Notes 004 (6.34).

    >>> relu(np.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]
    """
    return np.maximum(z, 0.0)


def leaky_relu(z: Array) -> Array:
    """z where z > 0, else 0.01 z; any shape.

    >>> leaky_relu(np.array([-1.0, 2.0])).tolist()
    [-0.01, 2.0]
    """
    return np.where(z > 0, z, LEAKY_SLOPE * z)


def elu(z: Array) -> Array:
    """z where z > 0, else e^z - 1 (alpha = 1); any shape.

    >>> elu(np.array([0.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0.0)))


def sigmoid(z: Array) -> Array:
    """1 / (1 + e^-z), any shape.  Notes 004 (6.37), notes 002 (the chain rule).

    For z < 0 both sides of the fraction are multiplied by e^z, so that nothing overflows.

    >>> sigmoid(np.array([0.0])).tolist()
    [0.5]
    """
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def tanh(z: Array) -> Array:
    """The hyperbolic tangent, any shape.  Notes 004 (6.39).

    >>> tanh(np.array([0.0])).tolist()
    [0.0]
    """
    return np.tanh(z)


def softplus(z: Array) -> Array:
    """log(1 + e^z), any shape.

    >>> softplus(np.array([0.0])).round(6).tolist()
    [0.693147]
    """
    return np.logaddexp(0.0, z)


def silu(z: Array) -> Array:
    """z sigmoid(z), any shape.

    >>> silu(np.array([0.0, 2.0])).round(6).tolist()
    [0.0, 1.761594]
    """
    return z * sigmoid(z)


def normal_cdf(z: Array) -> Array:
    """Phi(z) = (1 + erf(z / sqrt 2)) / 2, any shape.

    Written with erfc = 1 - erf: for z far below 0, 1 + erf(z) would cancel to nothing.

    >>> normal_cdf(np.array([0.0])).tolist()
    [0.5]
    """
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    return np.asarray(0.5 * erfc(-z / math.sqrt(2.0)))


def gelu(z: Array) -> Array:
    """z Phi(z) with the exact normal distribution function; any shape.

    >>> gelu(np.array([0.0, 1.0])).round(6).tolist()
    [0.0, 0.841345]
    """
    return z * normal_cdf(z)


def softmax(z: Array) -> Array:
    """e^{z_i} / sum_j e^{z_j}, (n, 1) to (n, 1).  Notes 001, last page.

    The largest z is subtracted from all: the ratios stay, and nothing overflows.

    >>> softmax(np.array([[0.0], [0.0]])).tolist()
    [[0.5], [0.5]]
    """
    e = np.exp(z - z.max())
    return np.asarray(e / e.sum())


def softmax_jacobian(z: Array) -> Array:
    """dA/dZ (n, n) of softmax: da_j/dz_i = a_i ([i = j] - a_j), a full and symmetric matrix.

    The notes leave it out (004 section 6.5.12); it follows from the quotient rule.

    >>> softmax_jacobian(np.array([[0.0], [0.0]])).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    a = softmax(z)
    return diagonal(a) - a @ a.T


def exp(z: Array) -> Array:
    """e^z, any shape: the rate of a Poisson distribution.

    >>> exp(np.array([0.0])).tolist()
    [1.0]
    """
    return np.asarray(np.exp(z))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": identity,
    "step": step,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softplus": softplus,
    "silu": silu,
    "gelu": gelu,
    "softmax": softmax,
    "exp": exp,
}

# f'(z), element by element.  Softmax has none: its Jacobian is full.
ACTIVATION_DERIVATIVES: dict[str, Callable[[Array], Array]] = {
    "identity": np.ones_like,
    "step": np.zeros_like,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, 1.0, LEAKY_SLOPE),
    "elu": lambda z: np.exp(np.minimum(z, 0.0)),
    "sigmoid": lambda z: sigmoid(z) * sigmoid(-z),  # 1 - sigmoid(z), without the cancellation
    "tanh": lambda z: 1.0 - np.tanh(z) ** 2,
    "softplus": sigmoid,
    "silu": lambda z: sigmoid(z) * (1.0 + z * sigmoid(-z)),
    "gelu": lambda z: normal_cdf(z) + z * np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi),
    "exp": exp,
}


class Printed(NamedTuple):
    """A value that the notes print and fastbp takes otherwise: at which point, both, and where."""

    at: float
    printed: float
    used: float
    where: str


# At these kinks any value between the one-sided slopes is a legitimate choice (a subgradient).
# fastbp takes 0: a unit or a residual at exactly 0 is left alone.
NOTES_PRINT_OTHERWISE: dict[str, Printed] = {
    "relu'": Printed(0.0, 1.0, 0.0, "000 (7.36), 004 (6.35); 001 prints 0"),
    "sign": Printed(0.0, 1.0, 0.0, "000 (7.44), 004 (6.43)"),
}


def activation_jacobian(name: str, z: Array) -> Array:
    """dA/dZ, (n, n), at the (n, 1) column z: diagonal, and full for softmax.

    Source: notes 004 Notation 17.

    >>> activation_jacobian("relu", np.array([[-1.0], [2.0]])).tolist()
    [[0.0, 0.0], [0.0, 1.0]]
    """
    if name == "softmax":
        return softmax_jacobian(z)
    return diagonal(ACTIVATION_DERIVATIVES[name](z))
