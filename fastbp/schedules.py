"""Step sizes by formula, and a climb to them; `rates.py` says what one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import (
    check_fraction,
    check_integer,
    check_not_negative,
    check_positive,
    shown,
)
from .rates import Rates, Schedule, ScheduleState, as_schedule


@dataclass(frozen=True)
class InverseTime(Schedule):
    """lr / (1 + decay t)^power.

    With 1/2 < power <= 1 the rates sum to infinity and their squares do not: the conditions of
    Robbins and Monro, "A stochastic approximation method" (1951), under which stochastic gradient
    descent converges. decay = 1 and power = 0.5 is scikit-learn's "invscaling", where t counts
    samples instead of steps.

    Args:
        lr: the first rate, 0 or more; so is `decay`, a share of it a step, and `power`.

    Raises:
        ValueError, TypeError: one is out of its range.

    >>> InverseTime(1.0, decay=0.5).rates(0, 3).round(4).tolist()
    [1.0, 0.6667, 0.5]
    """

    lr: float
    decay: float
    power: float = 1.0

    def __post_init__(self) -> None:
        check_not_negative("lr", self.lr)
        check_not_negative("decay", self.decay)
        check_not_negative("power", self.power)

    def at(self, steps: Rates, total: int | None, state: ScheduleState) -> Rates:
        rates: Rates = self.lr / (1.0 + self.decay * steps) ** self.power
        return rates


@dataclass(frozen=True)
class StepDecay(Schedule):
    """lr times `factor` for each time that `every` steps have passed.

    `every` is a number of steps, or an increasing tuple of the steps at which the rate falls. An
    epoch has ceil(n / batch_size) of them (one less where batch norm has a last batch of one sample
    join the one before). PyTorch's StepLR and MultiStepLR, which count epochs.

    Args:
        lr: the first rate, 0 or more; so is `factor`.

    Raises:
        ValueError, TypeError: one is out of its range, or `every` does not increase.

    >>> StepDecay(1.0, every=2, factor=0.5).rates(0, 5).tolist()
    [1.0, 1.0, 0.5, 0.5, 0.25]
    >>> StepDecay(1.0, every=(1, 3), factor=0.5).rates(0, 5).tolist()
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    lr: float
    every: int | tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_not_negative("lr", self.lr)
        check_not_negative("factor", self.factor)
        if not isinstance(self.every, tuple | list):
            check_integer("every", self.every, least=1)
            return
        steps = tuple(check_integer("every", step, least=1) for step in self.every)
        if list(steps) != sorted(set(steps)):
            raise ValueError(f"every={shown(self.every)} must be increasing.")
        object.__setattr__(self, "every", steps)

    def at(self, steps: Rates, total: int | None, state: ScheduleState) -> Rates:
        if isinstance(self.every, tuple):
            falls = np.searchsorted(np.asarray(self.every, dtype=np.float64), steps, side="right")
        else:
            falls = (steps // self.every).astype(np.int64)
        rates: Rates = self.lr * np.float64(self.factor) ** falls
        return rates


@dataclass(frozen=True)
class Exponential(Schedule):
    """lr factor^(t / every): the rate falls by `factor` over each `every` steps, smoothly.

    PyTorch's ExponentialLR (which counts epochs) and Keras' ExponentialDecay.

    Args:
        lr: the first rate, 0 or more.
        factor: above 0, at most 1.
        every: steps, at least 1.

    Raises:
        ValueError, TypeError: one is out of its range.

    >>> Exponential(1.0, factor=0.25, every=2).rates(0, 4).tolist()
    [1.0, 0.5, 0.25, 0.125]
    """

    lr: float
    factor: float
    every: int = 1

    def __post_init__(self) -> None:
        check_not_negative("lr", self.lr)
        if check_positive("factor", self.factor) > 1.0:
            raise ValueError(f"factor={self.factor!r} must be at most 1: the rate would explode.")
        check_integer("every", self.every, least=1)

    def at(self, steps: Rates, total: int | None, state: ScheduleState) -> Rates:
        rates: Rates = self.lr * np.float64(self.factor) ** (steps / self.every)
        return rates


@dataclass(frozen=True)
class Cosine(Schedule):
    """From lr to `final` along half a cosine over `steps` steps, and `final` ever after.

    final + (lr - final) (1 + cos(pi t / steps)) / 2: Loshchilov and Hutter, "SGDR" (2017), without
    restarts. With steps=None it spans the whole training up to the end of the `fit` at hand; give
    `steps` if training is to be the same however it is cut into fits.

    Args:
        lr, final: the first and the last rate, 0 or more.
        steps: at least 1, or None.

    Raises:
        ValueError, TypeError: one is out of its range; or, in a fit, steps=None where nobody knows
            how long it will be (`fit_stream` without `epochs`).

    >>> Cosine(1.0, steps=4).rates(0, 5).round(4).tolist()
    [1.0, 0.8536, 0.5, 0.1464, 0.0]
    """

    lr: float
    steps: int | None = None
    final: float = 0.0

    def __post_init__(self) -> None:
        check_not_negative("lr", self.lr)
        check_not_negative("final", self.final)
        if self.steps is not None:
            check_integer("steps", self.steps, least=1)

    def at(self, steps: Rates, total: int | None, state: ScheduleState) -> Rates:
        span = _span("Cosine", self.steps, total)
        return _half_cosine(self.lr, self.final, steps / span)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from lr / start_divisor to lr, then down to that / final_divisor, along cosines.

    Smith and Topin, "Super-convergence" (2018), in PyTorch's form (OneCycleLR), without its cycle
    of the momentum. The rise takes the share `rise` of `steps`; with steps=None the cycle spans
    the whole training up to the end of the `fit` at hand.

    Args:
        lr: the highest rate, 0 or more.
        steps: at least 1, or None.
        rise: a share, above 0 and below 1.
        start_divisor, final_divisor: above 0.

    Raises:
        ValueError, TypeError: as for `Cosine`.

    >>> OneCycle(1.0, steps=11, rise=0.5, start_divisor=10).rates(0, 11).round(3).tolist()
    [0.1, 0.205, 0.472, 0.775, 0.973, 0.98, 0.827, 0.571, 0.292, 0.079, 0.0]
    """

    lr: float
    steps: int | None = None
    rise: float = 0.3
    start_divisor: float = 25.0
    final_divisor: float = 1e4

    def __post_init__(self) -> None:
        check_not_negative("lr", self.lr)
        check_fraction("rise", self.rise)
        check_positive("start_divisor", self.start_divisor)
        check_positive("final_divisor", self.final_divisor)
        if self.steps is not None:
            check_integer("steps", self.steps, least=1)

    def at(self, steps: Rates, total: int | None, state: ScheduleState) -> Rates:
        span = _span("OneCycle", self.steps, total)
        start = self.lr / self.start_divisor
        peak = self.rise * span - 1.0
        up = _half_cosine(start, self.lr, steps / max(peak, 1.0))
        fall = span - 1.0 - peak
        low = start / self.final_divisor
        down = _half_cosine(self.lr, low, (steps - peak) / (fall if fall > 0 else 1.0))
        return np.where(steps <= peak, up, down)


@dataclass(frozen=True)
class Warmup(Schedule):
    """A linear climb over `steps` steps to the first rate of `schedule`, which then starts.

    At t < steps the rate is (t + 1) / steps of it.

    Args:
        schedule: a schedule, a float or a callable of the step.
        steps: at least 1.

    Raises:
        ValueError, TypeError: one is none of these.

    >>> Warmup(Cosine(1.0, steps=2), steps=4).rates(0, 6).round(4).tolist()
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.5]
    """

    schedule: Schedule
    steps: int

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, least=1)
        object.__setattr__(self, "schedule", as_schedule(self.schedule, "schedule"))

    @property
    def in_blocks(self) -> bool:
        return self.schedule.in_blocks

    def at(self, steps: Rates, total: int | None, state: ScheduleState) -> Rates:
        rest = None if total is None else max(total - self.steps, 1)
        later = self.schedule.at(np.maximum(steps - self.steps, 0.0), rest, state)
        rates: Rates = later * np.minimum((steps + 1.0) / self.steps, 1.0)
        return rates

    def initial_state(self) -> ScheduleState:
        return self.schedule.initial_state()

    def observe(self, state: ScheduleState, record: Mapping[str, Any]) -> None:
        if record.get("step", self.steps) >= self.steps:  # it has started
            own = {**record, "step": record["step"] - self.steps} if "step" in record else record
            self.schedule.observe(state, own)


def _span(name: str, steps: int | None, total: int | None) -> float:
    if steps is None and total is None:
        raise ValueError(
            f"{name}(steps=None) spans the training, whose length is not known here: "
            f"give {name}(..., steps=...), or epochs=... where there is such an argument."
        )
    return float(steps if steps is not None else max(total or 1, 1))


def _half_cosine(start: float, end: float, share: Rates) -> Rates:
    """From start (share 0) to end (share 1) along half a cosine; beyond, the nearer of them."""
    wave = 0.5 * (1.0 + np.cos(np.pi * np.clip(share, 0.0, 1.0)))
    rates: Rates = end + (start - end) * wave
    return rates
