"""Losses of one sample and their derivatives, and the pairs with a short dL/dZ.

A loss takes the output a and the target y, both (n, 1), and returns a float; its derivative
``dL/dA`` is (n, 1).  Sources: notes 004 section 6.5.13 (000 section 7.5.13), with the losses summed
over the outputs as notes 003 do; the halved square is that of notes 002 and 001.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .jacobians import Array


def squared_error(a: Array, y: Array) -> float:
    """sum_k (a_k - y_k)^2, (n, 1) to a float.  Notes 004 (6.40), notes 003 (one-layer example).

    >>> squared_error(np.array([[3.0]]), np.array([[1.0]]))
    4.0
    """
    return float(np.sum((a - y) ** 2))


def half_squared_error(a: Array, y: Array) -> float:
    """sum_k (a_k - y_k)^2 / 2, (n, 1) to a float.  Notes 002 (regression), notes 001 (1/(2m)).

    >>> half_squared_error(np.array([[3.0]]), np.array([[1.0]]))
    2.0
    """
    return 0.5 * squared_error(a, y)


def absolute_error(a: Array, y: Array) -> float:
    """sum_k |a_k - y_k|, (n, 1) to a float: the "linear" loss of notes 004 (6.41).

    >>> absolute_error(np.array([[3.0]]), np.array([[1.0]]))
    2.0
    """
    return float(np.sum(np.abs(a - y)))


def times_log(y: Array, a: Array) -> Array:
    """y log a, any shape, and 0 where y = 0 whatever a is: the limit of y log y.

    >>> times_log(np.array([0.0, 2.0]), np.array([0.0, 1.0])).tolist()
    [0.0, 0.0]
    """
    return y * np.log(a, out=np.zeros_like(a), where=y != 0)


def over(y: Array, a: Array) -> Array:
    """y / a, any shape, and 0 where y = 0: the derivative of :func:`times_log` by a.

    >>> over(np.array([0.0, 2.0]), np.array([0.0, 4.0])).tolist()
    [0.0, 0.5]
    """
    return np.divide(y, a, out=np.zeros_like(a), where=y != 0)


def binary_cross_entropy(a: Array, y: Array) -> float:
    """sum_k -(y_k log a_k + (1 - y_k) log(1 - a_k)), (n, 1) to a float.

    The notes' NLL, with the minus sign that 004 (6.2) leaves out and 004 (6.44) has.

    >>> round(binary_cross_entropy(np.array([[0.5]]), np.array([[1.0]])), 6)
    0.693147
    """
    return -float(np.sum(times_log(y, a) + times_log(1.0 - y, 1.0 - a)))


def cross_entropy(a: Array, y: Array) -> float:
    """-sum_j y_j log a_j, (n, 1) to a float: the notes' NLLM, 004 section 6.5.13.

    >>> round(cross_entropy(np.array([[0.5], [0.5]]), np.array([[1.0], [0.0]])), 6)
    0.693147
    """
    return -float(np.sum(times_log(y, a)))


def poisson(a: Array, y: Array) -> float:
    """sum_k (y_k log(y_k / a_k) - y_k + a_k), (n, 1) to a float: half the Poisson deviance.

    fastbp's addition: minus the log-likelihood of counts y at rates a, less that at rates y
    (McCullagh and Nelder, "Generalized linear models", 1989, section 2.3).

    >>> poisson(np.array([[2.0]]), np.array([[0.0]]))
    2.0
    """
    return float(np.sum(times_log(y, y) - times_log(y, a) - y + a))


LOSSES: dict[str, Callable[[Array, Array], float]] = {
    "squared_error": squared_error,
    "half_squared_error": half_squared_error,
    "absolute_error": absolute_error,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
    "poisson": poisson,
}

# dL/da, (n, 1).  np.sign(0) is 0, which is fastbp's choice and not the notes' (see
# NOTES_PRINT_OTHERWISE).
LOSS_DERIVATIVES: dict[str, Callable[[Array, Array], Array]] = {
    "squared_error": lambda a, y: 2.0 * (a - y),
    "half_squared_error": lambda a, y: a - y,
    "absolute_error": lambda a, y: np.sign(a - y),
    "binary_cross_entropy": lambda a, y: -(over(y, a) - over(1.0 - y, 1.0 - a)),
    "cross_entropy": lambda a, y: -over(y, a),
    "poisson": lambda a, y: 1.0 - over(y, a),
}

LOSS_ALIASES: dict[str, str] = {"nll": "binary_cross_entropy", "nllm": "cross_entropy"}

# Concept 19: for these pairs dL/dZ^L is simpler than the product of its two factors, and stays
# finite where a factor does not.  (activation, loss) -> dL/dZ^L from a and y.
SHORT_PAIRS: dict[tuple[str, str], Callable[[Array, Array], Array]] = {
    ("softmax", "cross_entropy"): lambda a, y: np.asarray(a * y.sum() - y),
    ("sigmoid", "binary_cross_entropy"): lambda a, y: a - y,
    ("identity", "squared_error"): lambda a, y: 2.0 * (a - y),
    ("identity", "half_squared_error"): lambda a, y: a - y,
    ("exp", "poisson"): lambda a, y: a - y,
}


def loss_value(name: str, a: Array, y: Array) -> float:
    """The loss called ``name`` (an alias counts) at a and y, both (n, 1).  Source: as the loss.

    >>> loss_value("nll", np.array([[1.0]]), np.array([[1.0]])) == 0
    True
    """
    return LOSSES[LOSS_ALIASES.get(name, name)](a, y)


def loss_derivative(name: str, a: Array, y: Array) -> Array:
    """dL/dA, (n, 1), of the loss called ``name`` (an alias counts).  Source: as the loss.

    >>> loss_derivative("squared_error", np.array([[3.0]]), np.array([[1.0]])).tolist()
    [[4.0]]
    """
    return LOSS_DERIVATIVES[LOSS_ALIASES.get(name, name)](a, y)
