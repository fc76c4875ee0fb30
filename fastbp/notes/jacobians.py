"""Jacobian matrices, in the denominator layout of the MIT notes.

``dw/dv`` has one row for each entry of ``v`` and one column for each entry of ``w`` (notes 004
(6.49), notes 003 "Derivatives: Notation").  Notes 001 write the transpose.  In this layout a chain
is multiplied from the inside outwards: ``dz/dx = dy/dx @ dz/dy``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Elementwise = Callable[[Array, Array], Array]

# F(v, w) element by element, then dF_i/dv_i and dF_i/dw_i.
BINARY_OPERATIONS: dict[str, tuple[Elementwise, Elementwise, Elementwise]] = {
    "+": (lambda v, w: v + w, lambda v, w: np.ones_like(v), lambda v, w: np.ones_like(w)),
    "-": (lambda v, w: v - w, lambda v, w: np.ones_like(v), lambda v, w: -np.ones_like(w)),
    "*": (lambda v, w: v * w, lambda v, w: w, lambda v, w: v),
    "/": (lambda v, w: v / w, lambda v, w: 1.0 / w, lambda v, w: -v / w**2),
}


def column(values: ArrayLike) -> Array:
    """Any sequence of n numbers as an (n, 1) float64 column, which is what the notes call a vector.

    Source: notes 003, "Derivatives: Notation" (u of size b x 1).

    >>> column([1, 2]).tolist()
    [[1.0], [2.0]]
    """
    return np.asarray(values, dtype=np.float64).reshape(-1, 1)


def diagonal(values: ArrayLike) -> Array:
    """The (n, n) Jacobian of an element-wise function, from its n derivatives.

    Source: notes 004 Notation 17; notes 001, "for all element wise functions, the Jacobian will be
    a diagonal matrix".

    >>> diagonal([2, 4, 6]).tolist()
    [[2.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 6.0]]
    """
    return np.diag(column(values)[:, 0])


def binary_jacobians(operation: str, v: ArrayLike, w: ArrayLike) -> tuple[Array, Array]:
    """``dF/dv`` and ``dF/dw``, both (n, n) and diagonal, of ``F = v o w``, where o is ``+ - * /``.

    Source: notes 001, "Jacobians of Operations".  For the Hadamard product dF/dv = diag(w).

    >>> dF_dv, dF_dw = binary_jacobians("*", [1, 2], [5, 7])
    >>> dF_dv.tolist(), dF_dw.tolist()
    ([[5.0, 0.0], [0.0, 7.0]], [[1.0, 0.0], [0.0, 2.0]])
    """
    _, by_v, by_w = BINARY_OPERATIONS[operation]
    v, w = column(v), column(w)
    return diagonal(by_v(v, w)), diagonal(by_w(v, w))


def expansion_jacobians(operation: str, v: ArrayLike, x: float) -> tuple[Array, Array]:
    """``dF/dv`` (n, n) and ``dF/dx`` (1, n) of ``F = v o (1 x)``: a scalar x expanded to n entries.

    The expansion ``w = 1 x`` has dw/dx = (1 ... 1), one row, and the chain does the rest.
    Source: notes 001, "Derivative of a Scalar expansion".

    >>> dF_dv, dF_dx = expansion_jacobians("*", [1, 2, 3], 2.0)
    >>> dF_dv.diagonal().tolist(), dF_dx.tolist()
    ([2.0, 2.0, 2.0], [[1.0, 2.0, 3.0]])
    """
    v = column(v)
    ones = np.ones_like(v)
    dF_dv, dF_dw = binary_jacobians(operation, v, ones * x)
    return dF_dv, chain(ones.T, dF_dw)


def sum_jacobian(n: int) -> Array:
    """``ds/dv`` (n, 1) of ``s = v_1 + ... + v_n``: all ones.

    Source: notes 001, "Derivative of a Sum" (which write it as a row).

    >>> sum_jacobian(3).tolist()
    [[1.0], [1.0], [1.0]]
    """
    return np.ones((n, 1))


def chain(*jacobians: Array) -> Array:
    """The product of Jacobians, multiplied as written, from left to right.

    For ``x -> y -> z`` it is called as ``chain(dy_dx, dz_dy)``, shapes (x, y) and (y, z).  Matrices
    do not commute: the order is part of the formula.
    Source: notes 004 Notation 16; notes 003, "Notice: order of the terms".

    >>> chain(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])).tolist()
    [[11.0]]
    """
    product = jacobians[0]
    for jacobian in jacobians[1:]:
        product = product @ jacobian
    return product


def numerical_jacobian(
    function: Callable[[Array], ArrayLike], v: ArrayLike, h: float = 6e-6
) -> Array:
    """``df/dv`` by central differences, shape (size of v, size of f).

    v keeps its shape on the way into ``function`` and is numbered row by row.  The default step is
    the cube root of the rounding unit, where truncation (h^2) and rounding (eps/h) balance.
    Source: notes 004 (6.49) for the layout.

    >>> numerical_jacobian(lambda v: v**2, [[1.0], [2.0]]).round(6).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    v = np.array(v, dtype=np.float64)
    rows = []
    for i in np.ndindex(v.shape):
        step = np.zeros_like(v)
        step[i] = h
        # (v + h) - (v - h) is not exactly 2 h in floating point; the rounded width is the true one.
        width = (v + step)[i] - (v - step)[i]
        above, below = np.ravel(function(v + step)), np.ravel(function(v - step))
        rows.append((above - below) / width)
    return np.array(rows, dtype=np.float64)
