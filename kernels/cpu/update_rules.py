"""The optimizers' rules, as formulas for `stream`: the vectors w, state rows, g; rates; l2, shrink.

`rate` is -eta, d = g + l2 w is what a rule calls the gradient, and w in what it says stands for
shrink w. Every rounding is written out (`fma`). The constants of a step, Adam's corrections among
them, are `update.prepare_rates`'.
"""

from __future__ import annotations

from typing import Any

from .elementary import clip
from .lanes import fma
from .stream import root


def sgd(w: Any, g: Any, rate: Any, l2: Any, shrink: Any) -> Any:
    """w - eta d, the notes' step (004 6.52)."""
    d = fma(l2, w, g)
    return fma(rate, d, shrink * w)


def momentum(w: Any, v: Any, g: Any, rate: Any, mu: Any, l2: Any, shrink: Any) -> Any:
    """v <- mu v + d; w - eta v (Polyak 1964)."""
    v = fma(mu, v, fma(l2, w, g))
    return fma(rate, v, shrink * w), v


def nesterov(w: Any, v: Any, g: Any, rate: Any, mu: Any, l2: Any, shrink: Any) -> Any:
    """v <- mu v + d; w - eta (d + mu v) (Nesterov 1983)."""
    d = fma(l2, w, g)
    v = fma(mu, v, d)
    return fma(rate, fma(mu, v, d), shrink * w), v


def classical_momentum(w: Any, v: Any, g: Any, rate: Any, mu: Any, l2: Any, shrink: Any) -> Any:
    """v <- mu v - eta d; w + v (Sutskever et al. 2013, equations 1 and 2)."""
    v = fma(mu, v, rate * fma(l2, w, g))
    return fma(shrink, w, v), v


def classical_nesterov(w: Any, v: Any, g: Any, rate: Any, mu: Any, l2: Any, shrink: Any) -> Any:
    """v <- mu v - eta d; w + mu v - eta d (the same, 3 and 4)."""
    step = rate * fma(l2, w, g)
    v = fma(mu, v, step)
    return fma(shrink, w, fma(mu, v, step)), v


def adagrad(w: Any, s: Any, g: Any, rate: Any, eps: Any, l2: Any, shrink: Any) -> Any:
    """s <- s + d^2; w - eta d / (sqrt(s) + eps) (Duchi, Hazan and Singer 2011)."""
    d = fma(l2, w, g)
    s = fma(d, d, s)
    return fma(rate, d / (root(s) + eps), shrink * w), s


def rmsprop(
    w: Any, s: Any, g: Any, rate: Any, alpha: Any, rest: Any, eps: Any, l2: Any, shrink: Any
) -> Any:
    """s <- alpha s + (1 - alpha) d^2; w - eta d / (sqrt(s) + eps) (Hinton 2012, lecture 6e)."""
    d = fma(l2, w, g)
    s = fma(rest * d, d, alpha * s)
    return fma(rate, d / (root(s) + eps), shrink * w), s


def adadelta(
    w: Any, s: Any, x: Any, g: Any, rate: Any, rho: Any, rest: Any, eps: Any, l2: Any, shrink: Any
) -> Any:
    """s of d as in rmsprop, x of the steps delta = sqrt((x + eps) / (s + eps)) d (Zeiler 2012)."""
    d = fma(l2, w, g)
    s = fma(rest * d, d, rho * s)
    delta = root((x + eps) / (s + eps)) * d
    return fma(rate, delta, shrink * w), s, fma(rest * delta, delta, rho * x)


def adam(
    w: Any, m: Any, v: Any, g: Any, rate: Any, beta1: Any, rest1: Any, beta2: Any, rest2: Any,
    eps: Any, l2: Any, shrink: Any,
) -> Any:  # fmt: skip
    """m, v: means of d and d^2; w - eta m / (sqrt(v) + eps), corrected (Kingma and Ba 2015)."""
    d = fma(l2, w, g)
    m = fma(rest1, d, beta1 * m)
    v = fma(rest2 * d, d, beta2 * v)
    return fma(rate, m / (root(v) + eps), shrink * w), m, v


def scale(g: Any, factor: Any) -> Any:
    """By the norm's excess (Pascanu, Mikolov and Bengio 2013)."""
    return g * factor


def clip_value(g: Any, limit: Any) -> Any:
    """g held in [-limit, limit]; NaN stays NaN."""
    return clip(g, -limit, limit)
