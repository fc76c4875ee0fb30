"""Activations and their derivatives: formulas, serial bodies over rows, and the public doors.

Each is one line of mathematics in a table by code, applied by vector loops (`spans`). relu,
leaky_relu and the derivatives hand NaN on. ULP bounds: sigmoid, tanh and softplus as stated in
`elementary`, elu as expm1; silu and gelu within 4 eps |z| of the exact value (for gelu's left tail
Phi = (1 + erf) / 2 cancels, as it does in PyTorch); softmax within (n + 8) eps of a.
"""

from __future__ import annotations

import math
from typing import Any, Final

from ..tables import ACTIVATIONS, LEAKY_SLOPE
from .elementary import clip, erf, exp, expm1, sigmoid, softplus, tanh
from .jit import serial
from .lanes import fma, like, select
from .spans import Formula, span

SOFTMAX: Final = ACTIVATIONS["softmax"].code
SILU: Final = ACTIVATIONS["silu"].code
GELU: Final = ACTIVATIONS["gelu"].code

# silu, gelu and their derivatives have reached their limits long before, in either dtype; held here,
# inf * 0 cannot turn up.
_FAR = 1e4


def identity(z: Any) -> Any:
    return z


def step(z: Any) -> Any:
    return select(z >= 0.0, 1.0, select(z < 0.0, 0.0, z))


def relu(z: Any) -> Any:
    return select(z <= 0.0, 0.0, z)


def leaky_relu(z: Any) -> Any:
    return select(z > 0.0, z, z * LEAKY_SLOPE)


def elu(z: Any) -> Any:
    return select(z > 0.0, z, expm1(z))


def silu(z: Any) -> Any:
    return select(z < -_FAR, -_FAR, z) * sigmoid(z)


def normal_cdf(z: Any) -> Any:
    return fma(erf(z * math.sqrt(0.5)), 0.5, like(z, 0.5))


def gelu(z: Any) -> Any:
    return select(z < -_FAR, -_FAR, z) * normal_cdf(z)


def _no_slope(g: Any, a: Any) -> Any:
    return like(g, 0.0)


def _identity_slope(g: Any, a: Any) -> Any:
    return g


def _kinked(g: Any, a: Any, below: Any) -> Any:
    """g where a > 0, g * below where a <= 0, NaN where a is NaN."""
    return g * select(a > 0.0, 1.0, select(a <= 0.0, below, a))


def _relu_slope(g: Any, a: Any) -> Any:
    return _kinked(g, a, 0.0)


def _leaky_relu_slope(g: Any, a: Any) -> Any:
    return _kinked(g, a, LEAKY_SLOPE)


def _elu_slope(g: Any, a: Any) -> Any:
    return _kinked(g, a, a + 1.0)


def _sigmoid_slope(g: Any, a: Any) -> Any:
    return g * (a * (1.0 - a))


def _tanh_slope(g: Any, a: Any) -> Any:
    return g * ((1.0 - a) * (1.0 + a))


def _softplus_slope(g: Any, a: Any) -> Any:
    """f' = sigmoid(z) = 1 - e^-a."""
    return g * -expm1(-a)


def _silu_slope(g: Any, z: Any) -> Any:
    z = clip(z, -_FAR, _FAR)
    s = sigmoid(z)
    return g * (s * fma(z, 1.0 - s, like(z, 1.0)))


def _gelu_slope(g: Any, z: Any) -> Any:
    z = clip(z, -_FAR, _FAR)
    density = exp(z * z * -0.5) * math.sqrt(0.5 / math.pi)
    return g * fma(z, density, normal_cdf(z))


_FORMULAS: Final[dict[str, tuple[Formula, Formula]]] = {
    "identity": (identity, _identity_slope),
    "step": (step, _no_slope),
    "relu": (relu, _relu_slope),
    "leaky_relu": (leaky_relu, _leaky_relu_slope),
    "elu": (elu, _elu_slope),
    "sigmoid": (sigmoid, _sigmoid_slope),
    "tanh": (tanh, _tanh_slope),
    "softplus": (softplus, _softplus_slope),
    "silu": (silu, _silu_slope),
    "gelu": (gelu, _gelu_slope),
}
"""f(z), and g f'(z) from g and a = f(z); from g and z for silu and gelu."""


def _numbered(index: int) -> dict[int, Formula]:
    return {ACTIVATIONS[name].code: pair[index] for name, pair in _FORMULAS.items()}


def maximum(z: Any) -> Any:
    return z


def _shifted_exp(z: Any, top: Any) -> tuple[Any, Any]:
    e = exp(z - top)
    return e, e


def _over(e: Any, total: Any) -> Any:
    return e / total


def _dot(g: Any, a: Any) -> Any:
    return a * g


def _softmax_slope(g: Any, a: Any, dot: Any) -> Any:
    return a * (g - dot)


_forward = span(_numbered(0), outputs=1, inputs=1)
_backward = span(_numbered(1), outputs=1, inputs=2)
row_maximum = span({0: maximum}, outputs=0, inputs=1, totals=1, reduction="max")
_row_exp = span({0: _shifted_exp}, outputs=1, inputs=1, totals=1)
_row_over = span({0: _over}, outputs=1, inputs=1)
_row_dot = span({0: _dot}, outputs=0, inputs=2, totals=1)
_row_softmax_slope = span({0: _softmax_slope}, outputs=1, inputs=2)


@serial
def activate_rows(code: int, Z: Any, A: Any, lo: int, hi: int, n: int) -> None:
    """A[lo:hi, :n] = f(Z[lo:hi, :n]) for the activation's code; A may be Z. Softmax by rows."""
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

    A = f(Z) is read; Z is read instead for silu and gelu alone, and else may be any window.
    """
    if code == SOFTMAX:
        for i in range(lo, hi):
            dot = _row_dot(0, dA, A, i, n, ())
            _row_softmax_slope(0, dZ, dA, A, i, n, (dot,))
        return
    X = Z if code == SILU or code == GELU else A
    dense = dA.shape[1] == n and X.shape[1] == n and dZ.shape[1] == n
    rows = hi - lo if dense else 1
    for i in range(lo, hi, max(rows, 1)):
        _backward(code, dZ, dA, X, i, rows * n, ())
