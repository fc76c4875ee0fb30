"""The losses' terms of one output: value, derivative, and the pairs' short dL/dz.

The formulas are those of `cpu/loss_terms.py`: the log losses hold a in [tiny, 1 - eps/2], and NaN
passes through. A loss without a branch is NaN, so that a new one cannot pass for another.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..tables import LOSSES
from .activation import absolute
from .arith import exp, log, log1p
from .machine import device, fma, like

SQUARED, HALF_SQUARED, ABSOLUTE, BINARY, CROSS, POISSON = (
    LOSSES[name].code
    for name in (
        "squared_error",
        "half_squared_error",
        "absolute_error",
        "binary_cross_entropy",
        "cross_entropy",
        "poisson",
    )
)
_BOUNDS: Final[dict[Any, tuple[Any, Any, Any]]] = {
    np.float32: (np.float32(2.0**-126), np.float32(1.0 - 2.0**-24), np.finfo(np.float32).max),
    np.float64: (2.0**-1022, 1.0 - 2.0**-53, float(np.finfo(np.float64).max)),
}


@device
def log_of_count(y: Any) -> Any:
    """log y, and 0 where y = 0; NaN below."""
    return like(y, 0.0) if y == 0 else log(y)


@device
def pair(code: int, z: Any, y: Any) -> Any:
    """f(z), dL/dz and the term of a pair, but for softmax."""
    if code == SQUARED:
        return z, (z - y) + (z - y), (z - y) * (z - y)
    if code == HALF_SQUARED:
        return z, z - y, (z - y) * (z - y) * like(z, 0.5)
    if code == BINARY:
        e = exp(-absolute(z))
        one, zero = like(z, 1.0), like(z, 0.0)
        a = (e if z < 0 else one) / (e + one)
        return a, a - y, fma(-y, z, zero if z <= 0 else z) + log1p(e)
    if code == POISSON:
        a = exp(z)
        return a, a - y, fma(y, log_of_count(y) - z, a - y)
    none = like(z, np.nan)
    return none, none, none


def make_terms(real: Any) -> tuple[Any, Any]:
    """`term` and `slope` of one dtype."""
    tiny, most_a, largest = _BOUNDS[real]

    @device
    def inside(a: Any) -> Any:
        """a held where both logarithms are finite."""
        if a < tiny:
            return tiny
        return most_a if a > most_a else a

    @device
    def above(a: Any) -> Any:
        return tiny if a < tiny else a

    @device
    def term(code: int, a: Any, y: Any) -> Any:
        """The loss's term of one output."""
        d = a - y
        if code == SQUARED:
            return d * d
        if code == HALF_SQUARED:
            return d * d * like(d, 0.5)
        if code == ABSOLUTE:
            return absolute(d)
        if code == POISSON:
            held = above(a)
            return fma(y, log_of_count(y) - log(held), held - y)
        held = inside(a)
        if code == CROSS:
            return -y * log(held)
        if code == BINARY:
            return -fma(y, log(held), (like(y, 1.0) - y) * log1p(-held))
        return like(y, np.nan)

    @device
    def finite(d: Any) -> Any:
        """A derivative held at the largest number of its type."""
        if d < -largest:
            return -largest
        return largest if d > largest else d

    @device
    def slope(code: int, a: Any, y: Any, c: Any) -> Any:
        """c dL/da of one output; the log losses' at the held a, and finite."""
        d = a - y
        if code == SQUARED:
            return (d + d) * c
        if code == HALF_SQUARED:
            return d * c
        if code == ABSOLUTE:
            if d > 0:
                return c
            return -c if d < 0 else d * c
        if code == POISSON:
            held = above(a)
            return finite((held - y) / held * c)
        held = inside(a)
        if code == CROSS:
            return finite(-y / held * c)
        if code == BINARY:
            return finite((held - y) / (held * (like(y, 1.0) - held)) * c)
        return like(y, np.nan)

    return term, slope
