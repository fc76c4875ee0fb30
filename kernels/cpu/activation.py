"""Activations and their derivatives: serial bodies over rows, and the public doors.

Each is one line of mathematics (`activation_terms`) in a table by code, applied by vector loops
(`spans`).

Errors: sigmoid, tanh and softplus as stated in `elementary`, elu as expm1; silu and gelu at most
4 eps |z| (in gelu's left tail Phi = (1 + erf) / 2 cancels, as it does in PyTorch); softmax at most
(d / 2 + n / 16 + 8) eps a, d the distance of z from its row's largest.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import prange

from ..checks import array, code_of, name_of, output
from ..tables import ACTIVATIONS
from ..values import check_derivative
from .activation_terms import FORMULAS, dot, maximum, over, shifted_exp, softmax_slope
from .doors import launch
from .jit import parallel, serial
from .memory import flush_denormals, restore_mode
from .shares import ANYWHERE, share
from .short_rows import SHORT_BYTES, softmax_block
from .spans import Formula, span

SOFTMAX: Final = ACTIVATIONS["softmax"].code
_FROM_Z: Final = np.zeros(1 + max(a.code for a in ACTIVATIONS.values()), np.bool_)
"""By code: the derivative reads Z, not f(Z)."""
for _activation in ACTIVATIONS.values():
    _FROM_Z[_activation.code] = not _activation.from_output


def _numbered(index: int) -> dict[int, Formula]:
    return {ACTIVATIONS[name].code: pair[index] for name, pair in FORMULAS.items()}


_forward = span(_numbered(0), outputs=1, inputs=1)
_backward = span(_numbered(1), outputs=1, inputs=2)
row_maximum = span({0: maximum}, outputs=0, inputs=1, totals=1, reduction="max")
_row_exp = span({0: shifted_exp}, outputs=1, inputs=1, totals=1)
_row_over = span({0: over}, outputs=1, inputs=1)
_row_dot = span({0: dot}, outputs=0, inputs=2, totals=1)
_row_softmax_slope = span({0: softmax_slope}, outputs=1, inputs=2)


@serial
def activate_rows(code: int, Z: Any, A: Any, lo: int, hi: int, n: int) -> None:
    """A[lo:hi, :n] = f(Z[lo:hi, :n]) for the activation's code; A may be Z. Softmax by rows."""
    if code == SOFTMAX and n * Z.itemsize <= SHORT_BYTES:
        lanes = SHORT_BYTES // Z.itemsize
        for i in range(lo, hi, lanes):
            softmax_block(Z, A, i, min(lanes, hi - i), n)
        return
    if code == SOFTMAX:
        for i in range(lo, hi):
            top = row_maximum(0, Z, i, n, ())
            total = _row_exp(0, A, Z, i, n, (top,))
            _row_over(0, A, A, i, n, (total,))
        return
    # Without padding the rows are one stretch; no bit depends on where it is cut.
    rows = hi - lo if A.shape[1] == n and Z.shape[1] == n else 1
    for i in range(lo, hi, max(rows, 1)):
        _forward(code, A, Z, i, rows * n, ())


@serial
def derivative_rows(code: int, dA: Any, A: Any, Z: Any, dZ: Any, lo: int, hi: int, n: int) -> None:
    """dZ = dA f'(z) for rows lo to hi and the first n columns; dZ may be dA.

    A = f(Z) is read, or Z where the table says from_output=False; where Z is not read it may be any
    window.
    """
    if code == SOFTMAX:
        for i in range(lo, hi):
            product = _row_dot(0, dA, A, i, n, ())
            _row_softmax_slope(0, dZ, dA, A, i, n, (product,))
        return
    X = Z if _FROM_Z[code] else A
    dense = dA.shape[1] == n and X.shape[1] == n and dZ.shape[1] == n
    rows = hi - lo if dense else 1
    for i in range(lo, hi, max(rows, 1)):
        _backward(code, dZ, dA, X, i, rows * n, ())


@serial
def _activate_share(code: int, Z: Any, A: Any, part: int, parts: int) -> None:
    mode = flush_denormals()
    lo, hi = share(Z.shape[0], ANYWHERE, part, parts)
    activate_rows(code, Z, A, lo, hi, Z.shape[1])
    restore_mode(mode)


@parallel
def _activate_shares(code: int, Z: Any, A: Any, parts: int) -> None:
    for t in prange(parts):
        _activate_share(code, Z, A, np.int64(t), parts)


@serial
def _derivative_share(code: int, dA: Any, A: Any, Z: Any, dZ: Any, part: int, parts: int) -> None:
    mode = flush_denormals()
    lo, hi = share(dA.shape[0], ANYWHERE, part, parts)
    derivative_rows(code, dA, A, Z, dZ, lo, hi, dA.shape[1])
    restore_mode(mode)


@parallel
def _derivative_shares(code: int, dA: Any, A: Any, Z: Any, dZ: Any, parts: int) -> None:
    for t in prange(parts):
        _derivative_share(code, dA, A, Z, dZ, np.int64(t), parts)


def activate(activation: str | int, Z: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """A = f(Z), element by element; softmax row by row.

    Args:
        activation: a name of `tables.ACTIVATIONS` or its code.
        Z: pre-activations (n, k), C-contiguous float32 or float64.
        out: array for A, like Z; may be Z itself. Default: a new one.

    Returns:
        A (n, k). Denormals count as 0, but identity hands them on; NaN stays NaN, except that
        softmax spreads it over its row.

    Raises:
        ValueError, TypeError: an unknown activation, or an array of another kind.

    >>> activate("relu", np.array([[-1.0, 2.0]])).tolist()
    [[0.0, 2.0]]
    """
    code = code_of("activation", activation, ACTIVATIONS)
    Z = array("Z", Z, (None, None))
    A = output("out", out, Z.shape, Z.dtype, {"Z": Z}, in_place=("Z",))
    launch(_activate_share, _activate_shares, Z.size, code, Z, A)
    return A if out is None else out


def apply_derivative(
    activation: str | int,
    dA: np.ndarray,
    A: np.ndarray,
    Z: np.ndarray | None = None,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """dL/dZ = dL/dA * f'(Z); for softmax the Jacobian's product with each row, a (dA - sum a dA).

    At the kinks step' is 0 (as everywhere), relu'(0) is 0, leaky_relu'(0) is its slope below 0.
    A dA that is inf or NaN is NaN where f' is 0; where the training loop takes relu' as it forms
    dL/dA, that is 0.

    Args:
        activation: a name of `tables.ACTIVATIONS` or its code.
        dA: dL/dA (n, k), C-contiguous float32 or float64.
        A: the outputs f(Z), like dA.
        Z: the pre-activations, like dA; needed where the table says from_output=False.
        out: array for dL/dZ, like dA; may be dA itself. Default: a new one.

    Returns:
        dL/dZ (n, k).

    Raises:
        ValueError, TypeError: an unknown activation, a missing Z, or an array of another kind.

    >>> apply_derivative("tanh", np.array([[2.0]]), np.array([[0.5]])).tolist()
    [[1.5]]
    """
    code = code_of("activation", activation, ACTIVATIONS)
    dA = array("dA", dA, (None, None))
    A = array("A", A, dA.shape, dA.dtype)
    name = name_of(code, ACTIVATIONS)
    check_derivative(name, has_Z=Z is not None)
    Z = A if Z is None else array("Z", Z, dA.shape, dA.dtype)
    dZ = output("out", out, dA.shape, dA.dtype, {"dA": dA, "A": A, "Z": Z}, in_place=("dA",))
    launch(_derivative_share, _derivative_shares, dA.size, code, dA, A, Z, dZ)
    return dZ if out is None else out
