"""The losses' formulas: the term of one output, its derivative, and the short pairs.

Numbers are those of notes 004. Derivatives are taken with the factor c that meets them.

The log losses hold a in [tiny, 1 - eps/2], the smallest normal number and the largest below 1. The
loss is evaluated there, and so is its derivative's formula: the clamped function's own derivative
would be 0 outside, and training would stop where it is most wrong. That derivative is held finite:
an infinite one, times a slope of 0 of the activation, would be NaN. NaN passes through.
"""

from __future__ import annotations

from typing import Any, Final

from .elementary import absolute, clip, exp, log, log1p
from .lanes import fma, is_single, select
from .spans import Formula


def _inside(a: Any) -> Any:
    """a held where both logarithms are finite."""
    if is_single(a):
        return clip(a, 2.0**-126, 1.0 - 2.0**-24)
    return clip(a, 2.0**-1022, 1.0 - 2.0**-53)


def _above(a: Any) -> Any:
    """a held above 0, where its logarithm is finite."""
    tiny = 2.0**-126 if is_single(a) else 2.0**-1022
    return select(a < tiny, tiny, a)


def _finite(d: Any) -> Any:
    """A derivative held at the largest number of its type."""
    most = (2.0 - 2.0**-23) * 2.0**127 if is_single(d) else (2.0 - 2.0**-52) * 2.0**1023
    return clip(d, -most, most)


def _log_of_count(y: Any) -> Any:
    """log y, and 0 where y = 0; NaN below."""
    return log(select(y > 0.0, y, select(y < 0.0, y, 1.0)))


def _squared(a: Any, y: Any) -> Any:
    """(a - y)^2 (section 6.5.13)."""
    d = a - y
    return d * d


def _half_squared(a: Any, y: Any) -> Any:
    """(a - y)^2 / 2 (notes 002)."""
    return _squared(a, y) * 0.5


def _absolute(a: Any, y: Any) -> Any:
    """|a - y| (section 6.5.13)."""
    return absolute(a - y)


def _binary(a: Any, y: Any) -> Any:
    """-(y log a + (1 - y) log(1 - a)) (section 6.5.13)."""
    a = _inside(a)
    return -fma(y, log(a), (1.0 - y) * log1p(-a))


def _cross(a: Any, y: Any) -> Any:
    """-y log a (section 6.5.13)."""
    return -y * log(_inside(a))


def _poisson(a: Any, y: Any) -> Any:
    """y log(y/a) - y + a, half the deviance (McCullagh and Nelder, 1989)."""
    a = _above(a)
    return fma(y, _log_of_count(y) - log(a), a - y)


def _squared_slope(a: Any, y: Any, c: Any) -> Any:
    """L' = 2 (a - y) (6.40)."""
    return (a - y) * (c + c)


def _half_squared_slope(a: Any, y: Any, c: Any) -> Any:
    """L' = a - y."""
    return (a - y) * c


def _absolute_slope(a: Any, y: Any, c: Any) -> Any:
    """L' = sign(a - y) (6.41), 0 at 0."""
    d = a - y
    return c * select(d > 0.0, 1.0, select(d < 0.0, -1.0, d))


def _binary_slope(a: Any, y: Any, c: Any) -> Any:
    """L' = (a - y) / (a (1 - a)) (6.44)."""
    a = _inside(a)
    return _finite(c * ((a - y) / (a * (1.0 - a))))


def _cross_slope(a: Any, y: Any, c: Any) -> Any:
    """L' = -y / a."""
    return _finite(c * (-y / _inside(a)))


def _poisson_slope(a: Any, y: Any, c: Any) -> Any:
    """L' = 1 - y / a."""
    a = _above(a)
    return _finite(c * ((a - y) / a))


TERMS: Final[dict[str, tuple[Formula, Formula]]] = {
    "squared_error": (_squared, _squared_slope),
    "half_squared_error": (_half_squared, _half_squared_slope),
    "absolute_error": (_absolute, _absolute_slope),
    "binary_cross_entropy": (_binary, _binary_slope),
    "cross_entropy": (_cross, _cross_slope),
    "poisson": (_poisson, _poisson_slope),
}
"""The term of one output, and c times its derivative by a."""


def held(loss: Any, least: Any, most: Any) -> Any:
    """A loss within [least, most]; NaN passes through."""
    return select(loss < least, least, select(loss > most, most, loss))


def _identity_squared(z: Any, y: Any, c: Any, least: Any, most: Any) -> tuple[Any, Any, Any]:
    """a = z, dL/dz = 2 (a - y)."""
    d = z - y
    return z, d * (c + c), d * d


def _identity_half_squared(z: Any, y: Any, c: Any, least: Any, most: Any) -> tuple[Any, Any, Any]:
    """a = z, dL/dz = a - y."""
    d = z - y
    return z, d * c, d * d * 0.5


def _sigmoid_binary(z: Any, y: Any, c: Any, least: Any, most: Any) -> tuple[Any, Any, Any]:
    """log(1 + e^z) - y z = max(z, 0) - y z + log1p(e^-|z|), from one exponential."""
    e = exp(-absolute(z))
    a = select(z < 0.0, e, 1.0) / (e + 1.0)
    loss = fma(-y, z, select(z > 0.0, z, 0.0)) + log1p(e)
    return a, (a - y) * c, held(loss, least, most)


def _exp_poisson(z: Any, y: Any, c: Any, least: Any, most: Any) -> tuple[Any, Any, Any]:
    """a = e^z, dL/dz = a - y; log a = z in the loss."""
    a = exp(z)
    d = a - y
    return a, d * c, fma(y, _log_of_count(y) - z, d)


PAIRS: Final[dict[str, Formula]] = {
    "squared_error": _identity_squared,
    "half_squared_error": _identity_half_squared,
    "binary_cross_entropy": _sigmoid_binary,
    "poisson": _exp_poisson,
}
"""a, dL/dz and the loss's term from z, log losses within [least, most].

Softmax with cross_entropy takes the whole row, below."""


def softmax_cross_start(z: Any, y: Any, top: Any) -> tuple[Any, Any, Any, Any]:
    """e^(z - top), its sum, the sum of y and of y (top - z)."""
    below = z - top
    e = exp(below)
    return e, e, y, -y * below


def softmax_cross_end(e: Any, y: Any, total: Any, mass: Any, c: Any) -> tuple[Any, Any]:
    """a = e / sum e, and c dL/dz = c (a sum_j y_j - y)."""
    a = e / total
    return a, c * fma(a, mass, -y)
