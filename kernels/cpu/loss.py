"""Losses, their derivatives, and the short dL/dZ of loss-activation pairs, over rows.

The log losses hold a in [tiny, 1 - eps/2], the smallest normal number and the largest below 1: the
loss is evaluated there, and so is its derivative's formula (dL/da of the clamped function would be 0
outside, and training would stop where it is most wrong). NaN passes through.
"""

from __future__ import annotations

from typing import Any, Final

from ..tables import LOSSES
from .activation import row_maximum
from .elementary import absolute, clip, exp, log, log1p, scalar_log
from .jit import serial
from .lanes import fma, is_single, select
from .spans import Formula, span

CROSS_ENTROPY: Final = LOSSES["cross_entropy"].code
SQUARED_ERROR: Final = LOSSES["squared_error"].code


def _inside(a: Any) -> Any:
    """a held where both logarithms are finite."""
    if is_single(a):
        return clip(a, 2.0**-126, 1.0 - 2.0**-24)
    return clip(a, 2.0**-1022, 1.0 - 2.0**-53)


def _squared(a: Any, y: Any) -> Any:
    d = a - y
    return d * d


def _half_squared(a: Any, y: Any) -> Any:
    return _squared(a, y) * 0.5


def _absolute(a: Any, y: Any) -> Any:
    return absolute(a - y)


def _binary(a: Any, y: Any) -> Any:
    a = _inside(a)
    return -fma(y, log(a), (1.0 - y) * log1p(-a))


def _cross(a: Any, y: Any) -> Any:
    return -y * log(_inside(a))


def _squared_slope(a: Any, y: Any, c: Any) -> Any:
    return (a - y) * (c + c)


def _half_squared_slope(a: Any, y: Any, c: Any) -> Any:
    return (a - y) * c


def _absolute_slope(a: Any, y: Any, c: Any) -> Any:
    d = a - y
    return c * select(d > 0.0, 1.0, select(d < 0.0, -1.0, d))


def _binary_slope(a: Any, y: Any, c: Any) -> Any:
    a = _inside(a)
    return c * ((a - y) / (a * (1.0 - a)))


def _cross_slope(a: Any, y: Any, c: Any) -> Any:
    return c * (-y / _inside(a))


_FORMULAS: Final[dict[str, tuple[Formula, Formula]]] = {
    "squared_error": (_squared, _squared_slope),
    "half_squared_error": (_half_squared, _half_squared_slope),
    "absolute_error": (_absolute, _absolute_slope),
    "binary_cross_entropy": (_binary, _binary_slope),
    "cross_entropy": (_cross, _cross_slope),
}
"""The term of one output, and c times its derivative by a."""


def _identity_squared(z: Any, y: Any, c: Any) -> tuple[Any, Any, Any]:
    d = z - y
    return z, d * (c + c), d * d


def _identity_half_squared(z: Any, y: Any, c: Any) -> tuple[Any, Any, Any]:
    d = z - y
    return z, d * c, d * d * 0.5


def _sigmoid_binary(z: Any, y: Any, c: Any) -> tuple[Any, Any, Any]:
    """log(1 + e^z) - y z = max(z, 0) - y z + log1p(e^-|z|), from one exponential."""
    e = exp(-absolute(z))
    a = select(z < 0.0, e, 1.0) / (e + 1.0)
    loss = fma(-y, z, select(z > 0.0, z, 0.0)) + log1p(e)
    return a, (a - y) * c, loss


_PAIRS: Final[dict[str, Formula]] = {
    "squared_error": _identity_squared,
    "half_squared_error": _identity_half_squared,
    "binary_cross_entropy": _sigmoid_binary,
}
"""a, dL/dz and the loss's term from z; softmax with cross_entropy takes the whole row, below."""


def _softmax_cross_start(z: Any, y: Any, top: Any) -> tuple[Any, Any, Any, Any]:
    """e^(z - top), its sum, the sum of y and of y (top - z)."""
    below = z - top
    e = exp(below)
    return e, e, y, -y * below


def _softmax_cross_end(e: Any, y: Any, total: Any, mass: Any, c: Any) -> tuple[Any, Any]:
    a = e / total
    return a, c * fma(a, mass, -y)


def _numbered(formulas: dict[str, Any]) -> dict[int, Formula]:
    return {LOSSES[name].code: formula for name, formula in formulas.items()}


_terms = span(
    _numbered({name: pair[0] for name, pair in _FORMULAS.items()}), outputs=0, inputs=2, totals=1
)
_slopes = span(_numbered({name: pair[1] for name, pair in _FORMULAS.items()}), outputs=1, inputs=2)
_pairs = span(_numbered(_PAIRS), outputs=2, inputs=2, totals=1)
_start = span({0: _softmax_cross_start}, outputs=1, inputs=2, totals=3)
_end = span({0: _softmax_cross_end}, outputs=2, inputs=2)


@serial
def loss_rows(
    loss: int, A: Any, Y: Any, weight: Any, losses: Any, lo: int, hi: int, n: int
) -> None:
    """losses[i] = weight[i] L(A[i], Y[i]) for rows lo to hi; losses is float64."""
    for i in range(lo, hi):
        losses[i] = weight[i] * _terms(loss, A, Y, i, n, ())


@serial
def loss_gradient_rows(
    loss: int, A: Any, Y: Any, weight: Any, scale: float, dA: Any, lo: int, hi: int, n: int
) -> None:
    """dA = scale weight[i] dL/dA for rows lo to hi; dA may be A."""
    for i in range(lo, hi):
        _slopes(loss, dA, A, Y, i, n, (scale * weight[i],))


@serial
def pair_rows(
    loss: int, Z: Any, A: Any, Y: Any, weight: Any, scale: float, losses: Any, dZ: Any,
    lo: int, hi: int, n: int,
) -> None:  # fmt: skip
    """From logits Z: A = f(Z), losses (float64) and dZ = scale weight[i] dL/dZ.

    The loss names its pair: squared errors with identity, binary_cross_entropy with sigmoid,
    cross_entropy with softmax: dL/dz = a sum(y) - y, L = sum_j y_j (log sum exp z - z_j). A may be Z.
    """
    for i in range(lo, hi):
        c = scale * weight[i]
        if loss == CROSS_ENTROPY:
            top = row_maximum(0, Z, i, n, ())
            total, mass, below = _start(0, A, Z, Y, i, n, (top,))
            losses[i] = weight[i] * (below + mass * scalar_log(total))
            _end(0, A, dZ, A, Y, i, n, (total, mass, c))
        else:
            losses[i] = weight[i] * _pairs(loss, A, dZ, Z, Y, i, n, (c,))
