"""The step size that follows what the epochs show: the one schedule with something to remember."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import check_fraction, check_integer, check_not_negative
from .metrics import check_monitor, improves, monitored
from .rates import Rates, Schedule, ScheduleState


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """lr, multiplied by `factor` each time `patience` epochs in a row bring no improvement.

    Args:
        lr: the first rate.
        factor: what the rate is multiplied by, between 0 and 1.
        patience: how many epochs without improvement it takes (Keras' meaning; PyTorch's waits
            one epoch more).
        threshold: share of the best value by which a better one must differ, as in PyTorch.
        least: the rate never falls below it.
        monitor: the name of what is watched in `History`; None: the validation loss where there
            is one, the loss otherwise.
        mode: "min" or "max": which way is up; None: as the table of metrics says.

    Raises:
        ValueError, TypeError: an argument out of its range.

    >>> schedule = ReduceOnPlateau(1.0, factor=0.5, patience=2)
    >>> state = schedule.initial_state()
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.observe(state, {"loss": loss})
    >>> schedule.rates(0, 1, state=state).tolist()
    [0.5]
    """

    lr: float
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    least: float = 0.0
    monitor: str | None = None
    mode: str | None = None

    def __post_init__(self) -> None:
        check_not_negative("lr", self.lr)
        check_fraction("factor", self.factor)
        check_integer("patience", self.patience, least=1)
        check_not_negative("threshold", self.threshold)
        check_not_negative("least", self.least)
        check_monitor(self.monitor, self.mode)

    def at(self, steps: Rates, total: int | None, state: ScheduleState) -> Rates:
        rate = self.lr * self.factor ** state["reductions"]
        return np.full(len(steps), max(rate, min(self.least, self.lr)))

    def initial_state(self) -> ScheduleState:
        return {"best": None, "waited": 0, "reductions": 0}

    def observe(self, state: ScheduleState, record: Mapping[str, Any]) -> None:
        name, value = monitored(record, self.monitor)
        best = state["best"]
        margin = 0.0 if best is None else self.threshold * abs(best)
        if improves(name, value, best, margin, self.mode):
            state.update(best=value, waited=0)
            return
        state["waited"] += 1
        if state["waited"] >= self.patience:
            state.update(waited=0, reductions=state["reductions"] + 1)
