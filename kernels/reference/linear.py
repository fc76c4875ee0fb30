"""The three products of a layer in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from .activation import activate
from .bf16 import product

Array = np.ndarray[Any, Any]


def linear_forward(
    A: Array,
    W: Array,
    b: Array | None = None,
    activation: str | int = "identity",
    *,
    out: Array | None = None,
    Z: Array | None = None,
    precision: str | None = None,
) -> Array:
    """f(A W + b) (n, k); the pre-activations A W + b into Z where one is given.

    >>> linear_forward(np.array([[1.0, 2.0]]), np.array([[1.0], [-2.0]]), activation="relu")
    array([[0.]])
    """
    linear = product(A, W, precision)
    linear = linear if b is None else linear + b
    if Z is not None:
        Z[...] = linear
    return activate(activation, linear, out=out)


def weight_gradient(
    A: Array,
    dZ: Array,
    *,
    out: Array | None = None,
    bias_out: Array | None = None,
    precision: str | None = None,
) -> tuple[Array, Array]:
    """(dL/dW, dL/db): A^T dL/dZ (m, k) and the column sums of dL/dZ (k,).

    >>> dW, db = weight_gradient(np.array([[1.0, 2.0]]), np.array([[3.0]]))
    >>> dW.tolist(), db.tolist()
    ([[3.0], [6.0]], [3.0])
    """
    out = np.empty((A.shape[1], dZ.shape[1]), A.dtype) if out is None else out
    bias_out = np.empty(dZ.shape[1], A.dtype) if bias_out is None else bias_out
    out[...] = product(A.T, dZ, precision)
    bias_out[...] = dZ.sum(axis=0)
    return out, bias_out


def input_gradient(
    dZ: Array, W: Array, *, out: Array | None = None, precision: str | None = None
) -> Array:
    """dL/dA = dL/dZ W^T (n, m).

    >>> input_gradient(np.array([[3.0]]), np.array([[1.0], [2.0]])).tolist()
    [[3.0, 6.0]]
    """
    out = np.empty((dZ.shape[0], W.shape[0]), dZ.dtype) if out is None else out
    out[...] = product(dZ, W.T, precision)
    return out
