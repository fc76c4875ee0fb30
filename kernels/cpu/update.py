"""The optimizers' updates of flat vectors (`update_rules`), and what is done to a gradient before.

The definitions are PyTorch's; `classical_momentum`, `classical_nesterov` and `adam_epsilon_hat` are
scikit-learn's. Per-step constants (the step size, Adam's bias corrections) are
computed once in float64 by `prepare_rates`; the passes over the parameters are element-wise, with
every rounding written out (`fma`), so that a cut at any place leaves the same bits.

A rule first multiplies w by `shrink` (decoupled weight decay: 1 - lr * decay; else 1)
and adds `l2` * w to the gradient (2 * lambda for weights, 0 for all else).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import prange

from ..checks import array, code_of, name_of, output
from ..tables import UPDATES
from ..values import check_rates, hyperparameters
from . import update_rules as rules
from .doors import launch
from .jit import inline, parallel, serial
from .memory import flush_denormals, restore_mode, segment
from .outer import stream_outer
from .shares import FLAT, share
from .stream import square_sum, stream

SGD: Final = UPDATES["sgd"].code
MOMENTUM: Final = UPDATES["momentum"].code
NESTEROV: Final = UPDATES["nesterov"].code
ADAGRAD: Final = UPDATES["adagrad"].code
ADADELTA: Final = UPDATES["adadelta"].code
RMSPROP: Final = UPDATES["rmsprop"].code
ADAM: Final = UPDATES["adam"].code
CLASSICAL_MOMENTUM: Final = UPDATES["classical_momentum"].code
CLASSICAL_NESTEROV: Final = UPDATES["classical_nesterov"].code
ADAM_EPSILON_HAT: Final = UPDATES["adam_epsilon_hat"].code

SMALLEST_SINGLE: Final = float(np.finfo(np.float32).tiny)
SMALLEST_DOUBLE: Final = float(np.finfo(np.float64).tiny)
RATES: Final = 6
"""Length of the vector that `prepare_rates` fills."""


@inline
def _above_0(eps: float, given: float, least: float) -> float:
    """An eps that is not 0 held above what counts as 0: a gradient of 0 divides 0 by it."""
    return max(eps, least) if given > 0 else eps


@serial
def prepare_rates(code: int, hyper: Any, lr: float, step: int, rates: Any) -> None:
    """Fill `rates` with the constants of step `step` (from 1), rounded once from float64.

    hyper: the momenta [mu]; adagrad [eps]; adadelta [rho, eps]; rmsprop [alpha, eps];
    the Adams [beta1, beta2, eps]. rates[0] is always the negative step size.
    """
    least = SMALLEST_SINGLE if rates.itemsize == 4 else SMALLEST_DOUBLE
    rates[0] = -lr
    if code == ADADELTA or code == RMSPROP:
        rates[1] = hyper[0]
        rates[2] = 1.0 - hyper[0]
        rates[3] = _above_0(hyper[1], hyper[1], least)
    elif code == ADAM or code == ADAM_EPSILON_HAT:
        # lr m_hat / (sqrt(v_hat) + eps) with m_hat = m / c1, v_hat = v / c2 is, both sides times
        # sqrt(c2), (lr sqrt(c2) / c1) m / (sqrt(v) + eps sqrt(c2)): two operations an element less.
        c1 = 1.0 - hyper[0] ** step
        root = np.sqrt(1.0 - hyper[1] ** step)
        rates[0] = -lr * root / c1
        rates[1] = hyper[0]
        rates[2] = 1.0 - hyper[0]
        rates[3] = hyper[1]
        rates[4] = 1.0 - hyper[1]
        eps = hyper[2] * root if code == ADAM else hyper[2]
        rates[5] = _above_0(eps, hyper[2], least)
    elif code == ADAGRAD:
        rates[1] = _above_0(hyper[0], hyper[0], least)
    else:
        rates[1] = hyper[0]


@serial
def prepare_steps(code: int, hyper: Any, lrs: Any, first: int, stride: int, rates: Any) -> None:
    """The same of a step for each of `lrs`, from `first` on, each `stride` elements after the last.

    A card is told the constants of thousands of steps at once.
    """
    for k in range(lrs.size):
        prepare_rates(code, hyper, lrs[k], first + k, segment(rates, k * stride, RATES))


_no_state = stream_outer({SGD: rules.sgd}, 1)
_one_rate = stream_outer(
    {
        MOMENTUM: rules.momentum,
        NESTEROV: rules.nesterov,
        ADAGRAD: rules.adagrad,
        CLASSICAL_MOMENTUM: rules.classical_momentum,
        CLASSICAL_NESTEROV: rules.classical_nesterov,
    },
    2,
)
_rms = stream_outer({RMSPROP: rules.rmsprop}, 2)
_delta = stream_outer({ADADELTA: rules.adadelta}, 3)
_moments = stream_outer({ADAM: rules.adam}, 3)


@serial
def update_rows(
    code: int, parameters: Any, gradient: Any, state: Any, rates: Any, l2: float, shrink: float,
    at: int, rows: int, n: int, factors: Any,
) -> None:  # fmt: skip
    """One optimizer step on the matrix (rows, n) at parameters[at] and on its state, in place.

    Its gradient is the outer product of `factors` and gradient[:n]: that of W for a batch of one,
    read and never formed (gradient[n : n + outer.REPEATED] must repeat its start). With rows = 0 it
    is parameters[at : at + n], by gradient[:n]. `state` is a window (rows, len(parameters)) with as
    many rows as `UPDATES` names (0 for sgd).
    """
    size = state.shape[1]
    span = max(rows, 1) * n
    w = segment(parameters, at, span)
    g = segment(gradient, 0, n)
    r, outer = rates, (rows, factors)
    if code == SGD:
        _no_state(code, (w, g), n, (r[0], l2, shrink), *outer)
        return
    a = segment(state, at, span)
    if code == RMSPROP:
        _rms(code, (w, a, g), n, (r[0], r[1], r[2], r[3], l2, shrink), *outer)
    elif code == ADADELTA:
        b = segment(state, size + at, span)
        _delta(code, (w, a, b, g), n, (r[0], r[1], r[2], r[3], l2, shrink), *outer)
    elif code == ADAM or code == ADAM_EPSILON_HAT:
        b = segment(state, size + at, span)
        constants = (r[0], r[1], r[2], r[3], r[4], r[5], l2, shrink)
        _moments(ADAM, (w, a, b, g), n, constants, *outer)
    else:
        _one_rate(code, (w, a, g), n, (r[0], r[1], l2, shrink), *outer)


_scaled = stream({0: rules.scale}, 1)
_clipped = stream({0: rules.clip_value}, 1)


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


@serial
def _update_share(
    code: int, parameters: Any, gradient: Any, state: Any, rates: Any, l2: float, shrink: float,
    part: int, parts: int,
) -> None:  # fmt: skip
    mode = flush_denormals()
    lo, hi = share(parameters.shape[0], FLAT, part, parts)
    own = segment(gradient, lo, hi - lo)
    update_rows(code, parameters, own, state, rates, l2, shrink, lo, 0, hi - lo, rates)
    restore_mode(mode)


@parallel
def _update_shares(
    code: int, parameters: Any, gradient: Any, state: Any, rates: Any, l2: float, shrink: float,
    parts: int,
) -> None:  # fmt: skip
    for t in prange(parts):
        _update_share(code, parameters, gradient, state, rates, l2, shrink, np.int64(t), parts)


def update(
    optimizer: str | int,
    parameters: np.ndarray,
    gradient: np.ndarray,
    state: np.ndarray,
    *,
    step: int,
    lr: float,
    l2: float = 0.0,
    shrink: float = 1.0,
    **hyper: float,
) -> None:
    """One step of an optimizer on flat vectors, in place.

    Args:
        optimizer: a name of `tables.UPDATES` or its code.
        parameters: (P,), C-contiguous float32 or float64; updated in place.
        gradient: (P,), like parameters; only read.
        state: (rows, P), like parameters, as many rows as the table names; zeros before step 1.
        step: number of this step, from 1 (Adam's bias correction).
        lr: step size, >= 0.
        l2: l2 * w is added to the gradient: 2 * lambda for a penalty lambda ||w||^2.
        shrink: w is multiplied by this first: 1 - lr * decay for decoupled weight decay.
        **hyper: momentum; eps; rho, eps; alpha, eps; beta1, beta2, eps, as the table has them.

    Raises:
        ValueError, TypeError: an unknown name, a value out of range, or an array of another kind.

    >>> w, state = np.array([1.0, 1.0]), np.zeros((1, 2))
    >>> for step in (1, 2):
    ...     update("momentum", w, np.array([1.0, 2.0]), state, step=step, lr=0.1, momentum=0.5)
    >>> w.round(2).tolist(), state.tolist()
    ([0.75, 0.5], [[1.5, 3.0]])
    """
    code = code_of("optimizer", optimizer, UPDATES)
    name = name_of(code, UPDATES)
    gradient = array("gradient", gradient, (None,))
    size, dtype = gradient.shape, gradient.dtype
    check_rates(step, lr=lr, l2=l2, shrink=shrink)
    values = hyperparameters(name, hyper)
    inputs = {"gradient": gradient}
    w = _in_place("parameters", parameters, size, dtype, inputs)
    inputs["parameters"] = w
    rows = _in_place("state", state, (len(UPDATES[name].rows), *size), dtype, inputs)
    rates = np.zeros(RATES, dtype)
    prepare_rates(code, values, float(lr), int(step), rates)
    rest = (gradient, rows, rates, float(l2), float(shrink))
    launch(_update_share, _update_shares, w.size, code, w, *rest)


def _in_place(argument: str, value: Any, shape: Any, dtype: Any, inputs: Any) -> np.ndarray:
    if value is None:
        raise TypeError(f"{argument}: expected a NumPy array, got None")
    return output(argument, value, shape, dtype, inputs)
