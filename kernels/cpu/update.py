"""The optimizers' update rules on flat vectors, and what is done to a gradient before.

The definitions are PyTorch's. Per-step constants (the step size, Adam's bias corrections) are
computed once in float64 by `prepare_rates`; the passes over the parameters are element-wise, with
every rounding written out (`fma`), so that a cut at any place leaves the same bits.

`gradient` may be the scratch block of one layer: gradient[i - offset] belongs to parameters[i].
A rule first multiplies w by `shrink` (decoupled weight decay: 1 - lr * decay; else 1)
and adds `l2` * w to the gradient (2 * lambda for weights, 0 for all else).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..tables import UPDATES
from .jit import serial
from .lanes import fma, select
from .memory import segment
from .stream import root, square_sum, stream

SGD: Final = UPDATES["sgd"].code
MOMENTUM: Final = UPDATES["momentum"].code
NESTEROV: Final = UPDATES["nesterov"].code
ADAGRAD: Final = UPDATES["adagrad"].code
ADADELTA: Final = UPDATES["adadelta"].code
RMSPROP: Final = UPDATES["rmsprop"].code
ADAM: Final = UPDATES["adam"].code

RATES: Final = 6
"""Length of the vector that `prepare_rates` fills."""


@serial
def prepare_rates(code: int, hyper: Any, lr: float, step: int, rates: Any) -> None:
    """Fill `rates` with the constants of step `step` (from 1), rounded once from float64.

    hyper: momentum, nesterov [mu]; adagrad [eps]; adadelta [rho, eps]; rmsprop [alpha, eps];
    adam [beta1, beta2, eps]. rates[0] is always the negative step size.
    """
    rates[0] = -lr
    if code == MOMENTUM or code == NESTEROV or code == ADAGRAD:
        rates[1] = hyper[0]
    elif code == ADADELTA or code == RMSPROP:
        rates[1] = hyper[0]
        rates[2] = 1.0 - hyper[0]
        rates[3] = hyper[1]
    elif code == ADAM:
        # lr m_hat / (sqrt(v_hat) + eps) with m_hat = m / c1, v_hat = v / c2 is, both sides times
        # sqrt(c2), (lr sqrt(c2) / c1) m / (sqrt(v) + eps sqrt(c2)): two operations an element less.
        c1 = 1.0 - hyper[0] ** step
        root = np.sqrt(1.0 - hyper[1] ** step)
        rates[0] = -lr * root / c1
        rates[1] = hyper[0]
        rates[2] = 1.0 - hyper[0]
        rates[3] = hyper[1]
        rates[4] = 1.0 - hyper[1]
        rates[5] = hyper[2] * root


# The rules, as formulas for `stream`: the vectors w, state rows, g; the rates; l2 and shrink.


def _sgd(w: Any, g: Any, rate: Any, l2: Any, shrink: Any) -> Any:
    d = fma(l2, w, g)
    return fma(rate, d, shrink * w)


def _momentum(w: Any, v: Any, g: Any, rate: Any, mu: Any, l2: Any, shrink: Any) -> Any:
    v = fma(mu, v, fma(l2, w, g))
    return fma(rate, v, shrink * w), v


def _nesterov(w: Any, v: Any, g: Any, rate: Any, mu: Any, l2: Any, shrink: Any) -> Any:
    d = fma(l2, w, g)
    v = fma(mu, v, d)
    return fma(rate, fma(mu, v, d), shrink * w), v


def _adagrad(w: Any, s: Any, g: Any, rate: Any, eps: Any, l2: Any, shrink: Any) -> Any:
    d = fma(l2, w, g)
    s = fma(d, d, s)
    return fma(rate, d / (root(s) + eps), shrink * w), s


def _rmsprop(
    w: Any, s: Any, g: Any, rate: Any, alpha: Any, rest: Any, eps: Any, l2: Any, shrink: Any
) -> Any:
    d = fma(l2, w, g)
    s = fma(rest * d, d, alpha * s)
    return fma(rate, d / (root(s) + eps), shrink * w), s


def _adadelta(
    w: Any, s: Any, x: Any, g: Any, rate: Any, rho: Any, rest: Any, eps: Any, l2: Any, shrink: Any
) -> Any:
    d = fma(l2, w, g)
    s = fma(rest * d, d, rho * s)
    delta = root((x + eps) / (s + eps)) * d
    return fma(rate, delta, shrink * w), s, fma(rest * delta, delta, rho * x)


def _adam(
    w: Any, m: Any, v: Any, g: Any, rate: Any, beta1: Any, rest1: Any, beta2: Any, rest2: Any,
    eps: Any, l2: Any, shrink: Any,
) -> Any:  # fmt: skip
    d = fma(l2, w, g)
    m = fma(rest1, d, beta1 * m)
    v = fma(rest2 * d, d, beta2 * v)
    return fma(rate, m / (root(v) + eps), shrink * w), m, v


_no_state = stream({SGD: _sgd}, 1)
_one_rate = stream({MOMENTUM: _momentum, NESTEROV: _nesterov, ADAGRAD: _adagrad}, 2)
_rms = stream({RMSPROP: _rmsprop}, 2)
_delta = stream({ADADELTA: _adadelta}, 3)
_moments = stream({ADAM: _adam}, 3)


@serial
def update_span(
    code: int,
    parameters: Any,
    gradient: Any,
    offset: int,
    state: Any,
    rates: Any,
    l2: float,
    shrink: float,
    lo: int,
    hi: int,
) -> None:
    """One optimizer step on parameters[lo:hi] and its state, in place.

    `state` is a window (rows, len(parameters)) with as many rows as `UPDATES` names (0 for sgd).
    """
    n = hi - lo
    size = state.shape[1]
    w = segment(parameters, lo, n)
    g = segment(gradient, lo - offset, n)
    r = rates
    if code == SGD:
        _no_state(code, (w, g), n, (r[0], l2, shrink))
        return
    a = segment(state, lo, n)
    if code == RMSPROP:
        _rms(code, (w, a, g), n, (r[0], r[1], r[2], r[3], l2, shrink))
    elif code == ADADELTA:
        b = segment(state, size + lo, n)
        _delta(code, (w, a, b, g), n, (r[0], r[1], r[2], r[3], l2, shrink))
    elif code == ADAM:
        b = segment(state, size + lo, n)
        _moments(code, (w, a, b, g), n, (r[0], r[1], r[2], r[3], r[4], r[5], l2, shrink))
    else:
        _one_rate(code, (w, a, g), n, (r[0], r[1], l2, shrink))


def _scale(g: Any, factor: Any) -> Any:
    return g * factor


def _clip(g: Any, high: Any) -> Any:
    low = -high
    g = select(g > high, high, g)
    return select(g < low, low, g)


_scaled = stream({0: _scale}, 1)
_clipped = stream({0: _clip}, 1)


@serial
def scale_span(gradient: Any, factor: float, lo: int, hi: int) -> None:
    """gradient[lo:hi] *= factor, in place."""
    _scaled(0, (segment(gradient, lo, hi - lo),), hi - lo, (factor,))


@serial
def clip_value_span(gradient: Any, limit: float, lo: int, hi: int) -> None:
    """Clip gradient[lo:hi] to [-limit, limit] in place; NaN stays NaN."""
    _clipped(0, (segment(gradient, lo, hi - lo),), hi - lo, (limit,))


@serial
def square_sum_block(x: Any, lo: int, hi: int) -> float:
    """Sum of the squares of x[lo:hi] in float64, in one order.

    The order counts from lo: a caller that wants the same bits for any cut adds up blocks whose
    ends are multiples of `shares.FLAT`.
    """
    return square_sum(segment(x, lo, hi - lo), hi - lo)
