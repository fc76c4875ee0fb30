"""The optimizers' update of one parameter, and the public door over flat vectors.

The rules are `cpu/update_rules.py`'s, operation by operation; the step's constants are the same
vector, made by the host in float64 (`prepare_steps`) and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import code_of, name_of
from ..cpu.update import (
    ADADELTA,
    ADAGRAD,
    CLASSICAL_MOMENTUM,
    CLASSICAL_NESTEROV,
    MOMENTUM,
    NESTEROV,
    RATES,
    RMSPROP,
    SGD,
    prepare_steps,
)
from ..tables import UPDATES
from ..values import check_rates, hyperparameters
from . import memory
from .arith import root
from .doors import Door, grid_for
from .machine import block, blocks, device, fma, kernel, like, thread
from .team import four_at, put_four
from .tiles import THREADS

SHRINK = RATES
"""After the constants of a step: what weights are multiplied by first."""
STRIDE = SHRINK + 1
"""Elements of a step's constants."""


@device
def rates_at(r: Any, r0: int) -> Any:
    """A step's constants, in registers."""
    return r[r0], r[r0 + 1], r[r0 + 2], r[r0 + 3], r[r0 + 4], r[r0 + 5], r[r0 + SHRINK]


@device
def velocity(code: int) -> bool:
    """Whether the rule keeps a velocity."""
    momentum = code == MOMENTUM or code == NESTEROV
    return momentum or code == CLASSICAL_MOMENTUM or code == CLASSICAL_NESTEROV


@device
def rows_of(code: int) -> int:
    """State rows of a rule: 0, 1 or 2."""
    if code == SGD:
        return 0
    one = code == ADAGRAD or code == RMSPROP or velocity(code)
    return 1 if one else 2


@device
def velocity_rule(code: int, g: Any, v: Any, r: Any) -> tuple[Any, Any]:
    """What is added to the (shrunk) w by the rules that keep a velocity, and the new one."""
    mu, rate = r[1], r[0]
    if code == MOMENTUM or code == NESTEROV:
        v = fma(mu, v, g)
        return rate * (v if code == MOMENTUM else fma(mu, v, g)), v
    step = rate * g
    v = fma(mu, v, step)
    return (v if code == CLASSICAL_MOMENTUM else fma(mu, v, step)), v


@device
def squares_rule(code: int, g: Any, s: Any, x: Any, r: Any) -> tuple[Any, Any, Any]:
    """What is added to w by the rules that keep squares, and their new rows."""
    rate = r[0]
    if code == ADAGRAD:
        s = fma(g, g, s)
        return rate * (g / (root(s) + r[1])), s, x
    if code == RMSPROP:
        s = fma(r[2] * g, g, r[1] * s)
        return rate * (g / (root(s) + r[3])), s, x
    if code == ADADELTA:
        rho, rest, eps = r[1], r[2], r[3]
        s = fma(rest * g, g, rho * s)
        delta = root((x + eps) / (s + eps)) * g
        return rate * delta, s, fma(rest * delta, delta, rho * x)
    m = fma(r[2], g, r[1] * s)
    v = fma(r[4] * g, g, r[3] * x)
    return rate * (m / (root(v) + r[5])), m, v


@device
def updated(
    code: int, w: Any, g: Any, s: Any, x: Any, r: Any, l2: float, shrink: Any
) -> tuple[Any, Any, Any]:
    """The parameter after one step, and its two state rows."""
    d, keep = fma(like(w, l2), w, g), like(w, shrink)
    if code == SGD:
        return fma(r[0], d, keep * w), s, x
    if velocity(code):
        step, s = velocity_rule(code, d, s, r)
    else:
        step, s, x = squares_rule(code, d, s, x, r)
    return fma(keep, w, step), s, x


@device
def clip_by_value(g: Any, clip_value: float) -> Any:
    """g held in [-clip_value, clip_value]; NaN stays NaN. 0: not held."""
    if clip_value > 0:
        high = like(g, clip_value)
        if g > high:
            return high
        return -high if g < -high else g
    return g


@device
def update_four(
    code: int, parameters: Any, state: Any, at: int, size: int, count: int, g: Any, r: Any,
    l2: float, shrink: Any, clip_value: float,
) -> None:  # fmt: skip
    """One step of up to four neighbours by their gradients, which are clipped by value first.

    Row k of the state lies at k size. All is loaded before anything is stored.
    """
    rows, w = rows_of(code), four_at(parameters, at, count)
    s, x = w, w
    if rows > 0:
        s = four_at(state, at, count)
    if rows > 1:
        x = four_at(state, size + at, count)
    a = updated(code, w[0], clip_by_value(g[0], clip_value), s[0], x[0], r, l2, shrink)
    b = updated(code, w[1], clip_by_value(g[1], clip_value), s[1], x[1], r, l2, shrink)
    c = updated(code, w[2], clip_by_value(g[2], clip_value), s[2], x[2], r, l2, shrink)
    d = updated(code, w[3], clip_by_value(g[3], clip_value), s[3], x[3], r, l2, shrink)
    put_four(parameters, at, count, (a[0], b[0], c[0], d[0]))
    if rows > 0:
        put_four(state, at, count, (a[1], b[1], c[1], d[1]))
    if rows > 1:
        put_four(state, size + at, count, (a[2], b[2], c[2], d[2]))


@kernel
def _update(
    code: int, parameters: Any, gradient: Any, state: Any, rates: Any, l2: float, shrink: float,
    size: int,
) -> None:  # fmt: skip
    r = rates_at(rates, 0)
    for e in range(block() * THREADS + thread(), size, blocks() * THREADS):
        g = gradient[e]
        update_four(code, parameters, state, e, size, 1, (g, g, g, g), r, l2, shrink, 0.0)


def constants(
    code: int, hyper: Any, lrs: np.ndarray, first: int, decoupled: float, dtype: Any
) -> np.ndarray:
    """The constants of so many steps, the first of number `first` (from 1): (steps, STRIDE)."""
    made = np.zeros((len(lrs), STRIDE), dtype)
    values, steps = np.zeros(4), np.array(lrs, np.float64)
    values[: len(hyper)] = hyper
    prepare_steps(code, values, steps, first, STRIDE, made.reshape(-1))
    made[:, SHRINK] = 1.0 - steps * decoupled
    return made


def update(
    optimizer: str | int,
    parameters: Any,
    gradient: Any,
    state: Any,
    *,
    step: int,
    lr: float,
    l2: float = 0.0,
    shrink: float = 1.0,
    **hyper: float,
) -> None:
    """One step of an optimizer on flat vectors, in place. As `fastbp.kernels.update`."""
    code = code_of("optimizer", optimizer, UPDATES)
    name = name_of(code, UPDATES)
    door = Door()
    g = door.take("gradient", gradient, (None,))
    size = door.shape("gradient")
    check_rates(step, lr=lr, l2=l2, shrink=shrink)
    values = hyperparameters(name, hyper)
    for argument, value in (("parameters", parameters), ("state", state)):
        if value is None:
            raise TypeError(f"{argument}: expected a NumPy array, got None")
    w = door.give("parameters", parameters, size, filled=True)
    rows = door.give("state", state, (len(UPDATES[name].rows), *size), filled=True)
    rates = memory.upload(
        constants(code, values, np.array([lr]), int(step), 0.0, door.real), "rates"
    )
    _update.launch(grid_for(size[0]), code, w, g, rows, rates, float(l2), float(shrink), size[0])
    door.close("parameters", "state")
