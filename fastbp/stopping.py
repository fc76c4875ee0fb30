"""When to stop before the last epoch: small machines that look at each finished epoch.

`update(record)` gets the epoch's values by name (`History.record`) and answers with the reason to
stop, in words, or None. `start` begins anew at each fit. All of them are plain, picklable data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar

from .errors import (
    check_entries,
    check_flag,
    check_integer,
    check_not_negative,
    check_positive,
    plural,
    shown,
)
from .metrics import check_monitor, improves, monitored

Record = Mapping[str, Any]


class Stopping:
    """Base of the stopping rules, and what the Trainer asks of one."""

    restore_best: bool = False
    """The weights of the best epoch are wanted at the end; of one rule of a fit at most."""

    across_restarts: ClassVar[bool] = False
    """It begins once a fit, not with each of the `restarts`; when it is due no start follows."""

    improved: bool = False
    """The epoch that was looked at last is the best so far: a snapshot of the weights pays."""

    best_epoch: int | None = None
    """Place in the history of the best epoch so far."""

    def start(self) -> None:
        """Forget what was seen: a fit begins."""

    def update(self, record: Record) -> str | None:
        """The reason to stop after this epoch, or None.

        Args:
            record: the epoch's values by name, as `History.record` has them: "epoch", "loss",
                "lr", lists by layer, and "validation_loss" and metrics where there are any.
        """
        raise NotImplementedError

    def due(self) -> bool:
        """Stop now, within an epoch (asked between chunks)."""
        return False

    def memory(self) -> dict[str, Any]:
        """What was seen so far, for a checkpoint: plain values by name, not the arguments."""
        given = {entry.name for entry in fields(self) if entry.init} if is_dataclass(self) else ()
        return {name: value for name, value in vars(self).items() if name not in given}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Go on from what `memory` gave."""
        vars(self).update(memory)


@dataclass
class EarlyStopping(Stopping):
    """Stop when `patience` epochs in a row bring no improvement on held-out data.

    Args:
        monitor: the name of what is watched: "validation_loss", "validation_accuracy", ..., or
            None for the validation loss where there is one, the loss otherwise.
        patience: epochs without improvement after which training stops (Keras' meaning;
            scikit-learn's n_iter_no_change waits one epoch more).
        min_delta: only a change by more than this is an improvement.
        restore_best: go back to the weights of the best epoch when the fit ends.
        mode: "min" or "max": which way is up; None: as the table of metrics says.

    Raises:
        ValueError, TypeError: an argument out of its range.

    Source: notes 004 Definition 30.

    >>> rule = EarlyStopping(patience=2)
    >>> [rule.update({"validation_loss": v}) for v in (1.0, 0.5, 0.6)]
    [None, None, None]
    >>> rule.update({"validation_loss": 0.7}), rule.best, rule.best_epoch
    ('validation_loss has not improved for 2 epochs', 0.5, 1)
    """

    monitor: str | None = "validation_loss"
    patience: int = 10
    min_delta: float = 0.0
    restore_best: bool = True
    mode: str | None = None
    best: float | None = field(default=None, init=False)
    best_epoch: int | None = field(default=None, init=False)
    improved: bool = field(default=False, init=False)
    waited: int = field(default=0, init=False)
    seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        check_monitor(self.monitor, self.mode)
        check_integer("patience", self.patience, least=1)
        check_not_negative("min_delta", self.min_delta)
        check_flag("restore_best", self.restore_best)

    def start(self) -> None:
        self.best = self.best_epoch = None
        self.improved, self.waited, self.seen = False, 0, 0

    def update(self, record: Record) -> str | None:
        name, value = monitored(record, self.monitor)
        self.improved = improves(name, value, self.best, self.min_delta, self.mode)
        if self.improved:
            self.best, self.best_epoch = value, int(record.get("epoch", self.seen))
        self.waited = 0 if self.improved else self.waited + 1
        self.seen += 1
        if self.waited < self.patience:
            return None
        return f"{name} has not improved for {plural(self.patience, 'epoch')}"


@dataclass
class NoChange(Stopping):
    """Stop when the loss changes by at most `tolerance` in each of `patience` epochs in a row.

    Unlike `EarlyStopping` it takes a loss that rises for a change.

    Args:
        tolerance: 0 or more, in the units of what is watched.
        patience: how many epochs in a row.
        monitor: the name of what is watched.

    Raises:
        ValueError, TypeError: an argument out of its range.

    Source: notes 004, section 6.8.1.1 (the change in the loss as a termination condition).

    >>> rule = NoChange(tolerance=0.01, patience=2)
    >>> [rule.update({"loss": v}) for v in (1.0, 0.5, 0.495)]
    [None, None, None]
    >>> rule.update({"loss": 0.49})
    'loss has changed by at most 0.01 for 2 epochs'
    """

    tolerance: float = 1e-4
    patience: int = 10
    monitor: str = "loss"
    last: float | None = field(default=None, init=False)
    waited: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        check_monitor(self.monitor)
        check_not_negative("tolerance", self.tolerance)
        check_integer("patience", self.patience, least=1)

    def start(self) -> None:
        self.last, self.waited = None, 0

    def update(self, record: Record) -> str | None:
        name, value = monitored(record, self.monitor)
        still = self.last is not None and abs(value - self.last) <= self.tolerance
        self.waited = self.waited + 1 if still else 0
        self.last = value
        if self.waited < self.patience:
            return None
        return (
            f"{name} has changed by at most {self.tolerance:g} for {plural(self.patience, 'epoch')}"
        )


@dataclass
class SmallGradient(Stopping):
    """Stop when the norm of the gradient, all parameters together, is at most `norm`.

    With `weight_decay` the two forces may balance: then the data term's gradient, which is what
    this looks at, is not small.

    Args:
        norm: above 0; compared with the root of the sum of squares of `gradient_norm` and
            `shift_norm`.

    Raises:
        ValueError, TypeError: an argument out of its range.

    Source: notes 004, section 6.8.1.1 (the size of the gradient as a termination condition).

    >>> SmallGradient(1e-3).update({"gradient_norm": [3e-4, 0.0], "shift_norm": [0.0, 4e-4]})
    'the gradient has norm 0.0005, at most 0.001'
    """

    norm: float = 1e-5

    def __post_init__(self) -> None:
        check_positive("norm", self.norm)

    def update(self, record: Record) -> str | None:
        size = math.hypot(*record["gradient_norm"], *record["shift_norm"])
        if size <= self.norm:
            return f"the gradient has norm {size:.3g}, at most {self.norm:g}"
        return None


@dataclass
class TimeBudget(Stopping):
    """Stop when a fit, all its restarts together, has taken `seconds`; between chunks of 50 ms.

    Args:
        seconds: above 0.

    Raises:
        ValueError, TypeError: an argument out of its range.

    >>> rule = TimeBudget(3600)
    >>> rule.start()
    >>> rule.due(), rule.update({})
    (False, None)
    """

    across_restarts: ClassVar[bool] = True

    seconds: float
    spent: float = field(default=0.0, init=False)
    started: float | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_positive("seconds", self.seconds)

    def start(self) -> None:
        self.spent, self.started = 0.0, time.monotonic()

    def elapsed(self) -> float:
        """Seconds since the fit began, those before a pickle included."""
        running = 0.0 if self.started is None else time.monotonic() - self.started
        return self.spent + running

    def due(self) -> bool:
        return self.elapsed() >= self.seconds

    def update(self, record: Record) -> str | None:
        return f"the time budget of {self.seconds:g} s is spent" if self.due() else None

    def memory(self) -> dict[str, Any]:
        return {"spent": self.elapsed()}

    def recall(self, memory: Mapping[str, Any]) -> None:
        self.spent, self.started = float(memory["spent"]), time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        # Another process has another clock: keep what was spent.
        return {"seconds": self.seconds, "spent": self.elapsed(), "started": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.spent:
            self.started = time.monotonic()


def as_early_stopping(rule: Any) -> EarlyStopping | None:
    """What the Trainer's argument `early_stopping` means.

    Raises:
        TypeError: neither a rule, True, False nor None.

    >>> as_early_stopping(True).patience
    10
    """
    if rule is None or rule is False:
        return None
    if rule is True:
        return EarlyStopping()
    if not isinstance(rule, EarlyStopping):
        raise TypeError(
            f"early_stopping={shown(rule)} must be True, None or a fastbp.EarlyStopping(...)"
        )
    return rule


def as_stopping(rules: Any) -> list[Stopping]:
    """What the Trainer's argument `stopping` means: one rule or several, as a list.

    Raises:
        TypeError: something else among them.

    >>> as_stopping(())
    []
    """
    if isinstance(rules, Stopping):
        return [rules]
    listed = check_entries("stopping", rules, "a stopping rule such as NoChange(), or several")
    for rule in listed:
        if not isinstance(rule, Stopping):
            raise TypeError(f"stopping: {shown(rule)} must be a rule such as fastbp.NoChange()")
    return listed
