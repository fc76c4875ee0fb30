"""The optimizers' update rules on flat vectors, and what is done to a gradient before.

The definitions are PyTorch's. Per-step constants (the step size, Adam's bias corrections) are
computed once in float64 by `prepare_rates`; the passes over the parameters are element-wise, with
every rounding written out (`fma`), so that a cut at any place leaves the same bits.

`gradient` may be the scratch block of one layer: gradient[i - offset] belongs to parameters[i].
Before a rule sees them, w is multiplied by `shrink` (decoupled weight decay, 1 - lr * decay; else 1)
and `l2` * w is added to the gradient (2 * lambda for weights, 0 for all else).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..tables import UPDATES
from .arith import fma
from .jit import inline, serial
from .memory import segment

SGD: Final = UPDATES["sgd"].code
MOMENTUM: Final = UPDATES["momentum"].code
NESTEROV: Final = UPDATES["nesterov"].code
ADAGRAD: Final = UPDATES["adagrad"].code
ADADELTA: Final = UPDATES["adadelta"].code
RMSPROP: Final = UPDATES["rmsprop"].code
ADAM: Final = UPDATES["adam"].code

RATES: Final = 6
"""Length of the vector that `prepare_rates` fills."""

BLOCK: Final = 4096
"""Elements of one partial sum of `square_sum_block`'s caller: fixed, so that no cut changes a bit."""


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


@inline
def _sgd(w: Any, g: Any, rates: Any, l2: Any, shrink: Any, n: int) -> None:
    rate = rates[0]
    for i in range(n):
        d = fma(l2, w[i], g[i])
        w[i] = fma(rate, d, shrink * w[i])


@inline
def _momentum(w: Any, g: Any, v: Any, rates: Any, l2: Any, shrink: Any, n: int) -> None:
    rate, mu = rates[0], rates[1]
    for i in range(n):
        d = fma(l2, w[i], g[i])
        v[i] = fma(mu, v[i], d)
        w[i] = fma(rate, v[i], shrink * w[i])


@inline
def _nesterov(w: Any, g: Any, v: Any, rates: Any, l2: Any, shrink: Any, n: int) -> None:
    rate, mu = rates[0], rates[1]
    for i in range(n):
        d = fma(l2, w[i], g[i])
        v[i] = fma(mu, v[i], d)
        w[i] = fma(rate, fma(mu, v[i], d), shrink * w[i])


@inline
def _adagrad(w: Any, g: Any, s: Any, rates: Any, l2: Any, shrink: Any, n: int) -> None:
    rate, eps = rates[0], rates[1]
    for i in range(n):
        d = fma(l2, w[i], g[i])
        s[i] = fma(d, d, s[i])
        w[i] = fma(rate, d / (np.sqrt(s[i]) + eps), shrink * w[i])


@inline
def _adadelta(w: Any, g: Any, s: Any, x: Any, rates: Any, l2: Any, shrink: Any, n: int) -> None:
    rate, rho, rest, eps = rates[0], rates[1], rates[2], rates[3]
    for i in range(n):
        d = fma(l2, w[i], g[i])
        s[i] = fma(rest * d, d, rho * s[i])
        delta = np.sqrt((x[i] + eps) / (s[i] + eps)) * d
        x[i] = fma(rest * delta, delta, rho * x[i])
        w[i] = fma(rate, delta, shrink * w[i])


@inline
def _rmsprop(w: Any, g: Any, s: Any, rates: Any, l2: Any, shrink: Any, n: int) -> None:
    rate, alpha, rest, eps = rates[0], rates[1], rates[2], rates[3]
    for i in range(n):
        d = fma(l2, w[i], g[i])
        s[i] = fma(rest * d, d, alpha * s[i])
        w[i] = fma(rate, d / (np.sqrt(s[i]) + eps), shrink * w[i])


@inline
def _adam(w: Any, g: Any, m: Any, v: Any, rates: Any, l2: Any, shrink: Any, n: int) -> None:
    rate, beta1, rest1 = rates[0], rates[1], rates[2]
    beta2, rest2, eps = rates[3], rates[4], rates[5]
    for i in range(n):
        d = fma(l2, w[i], g[i])
        m[i] = fma(rest1, d, beta1 * m[i])
        v[i] = fma(rest2 * d, d, beta2 * v[i])
        w[i] = fma(rate, m[i] / (np.sqrt(v[i]) + eps), shrink * w[i])


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
    decay = parameters.dtype.type(l2)
    kept = parameters.dtype.type(shrink)
    if code == SGD:
        _sgd(w, g, rates, decay, kept, n)
        return
    first = segment(state, lo, n)
    if code == MOMENTUM:
        _momentum(w, g, first, rates, decay, kept, n)
    elif code == NESTEROV:
        _nesterov(w, g, first, rates, decay, kept, n)
    elif code == ADAGRAD:
        _adagrad(w, g, first, rates, decay, kept, n)
    elif code == RMSPROP:
        _rmsprop(w, g, first, rates, decay, kept, n)
    else:
        second = segment(state, size + lo, n)
        if code == ADADELTA:
            _adadelta(w, g, first, second, rates, decay, kept, n)
        else:
            _adam(w, g, first, second, rates, decay, kept, n)


@serial
def scale_span(gradient: Any, factor: float, lo: int, hi: int) -> None:
    """gradient[lo:hi] *= factor, in place."""
    n = hi - lo
    g = segment(gradient, lo, n)
    by = gradient.dtype.type(factor)
    for i in range(n):
        g[i] *= by


@serial
def clip_value_span(gradient: Any, limit: float, lo: int, hi: int) -> None:
    """Clip gradient[lo:hi] to [-limit, limit] in place; NaN stays NaN."""
    n = hi - lo
    g = segment(gradient, lo, n)
    high = gradient.dtype.type(limit)
    low = -high
    for i in range(n):
        x = g[i]
        x = high if x > high else x
        g[i] = low if x < low else x


@serial
def square_sum_block(x: Any, lo: int, hi: int) -> float:
    """Sum of the squares of x[lo:hi] in float64, in one fixed order of 16 partial sums.

    A caller that wants the same bits for any cut adds up blocks [k BLOCK, (k + 1) BLOCK).
    """
    n = hi - lo
    y = segment(x, lo, n)
    total = 0.0
    for i in range(n):
        total += np.float64(y[i]) * np.float64(y[i])
    return total
