"""What a Trainer is told, and what of it may be: each setting alone, and with the data of a fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .budget import MOST_THREADS
from .callbacks import Named, as_callbacks
from .canonical import as_array, as_floats
from .checkpoint import as_path
from .errors import (
    check_flag,
    check_integer,
    check_name,
    check_not_negative,
    check_positive,
    check_seed,
    shown,
    too_few_for_norm,
)
from .keeper import Every
from .metrics import check_outputs, higher_is_better, monitored, resolve
from .network import Network
from .optimizers import Optimizer, get_optimizer
from .ranks import World, world_of
from .rates import Schedule, as_schedule
from .samples import Data
from .sampling import SAMPLINGS
from .stopping import EarlyStopping, Stopping, as_early_stopping, as_stopping

if TYPE_CHECKING:
    from .fit import Fit
    from .fit_state import FitState
    from .restarts import BestOf


def _unless_none(check: Callable[..., Any], **limits: Any) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value, **limits)


_SETTINGS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "batch_size": _unless_none(check_integer, least=1),
    "sampling": lambda name, value: check_name(name, value, SAMPLINGS),
    "weight_decay": check_not_negative,
    "perturbation": check_not_negative,
    "clip_norm": _unless_none(check_positive),
    "clip_value": _unless_none(check_positive),
    "early_stopping": lambda _, value: as_early_stopping(value),
    "stopping": lambda _, value: as_stopping(value),
    "metrics": lambda _, value: resolve(value),
    "callbacks": lambda _, value: as_callbacks(value),
    "checkpoint": lambda _, value: as_path(value),
    "every": lambda _, value: value if isinstance(value, Every) else Every.of(value),
    "restarts": lambda name, value: check_integer(name, value, least=1),
    "on_divergence": lambda name, value: check_name(name, value, ("raise", "warn")),
    "seed": lambda name, value: check_seed(value),
    "schedule": lambda _, value: as_schedule(value),
    "n_threads": _unless_none(check_integer, least=1, most=MOST_THREADS),
    "progress": _unless_none(check_flag),
    "distributed": lambda name, value: None if value is None else check_name(name, value, ("mpi",)),
}
"""What each setting may be; they may be set between two fits."""


class Settings:
    """The settings of a `Trainer`, and their checks."""

    network: Network
    batch_size: int | None
    sampling: str
    weight_decay: float
    perturbation: float
    clip_norm: float | None
    clip_value: float | None
    early_stopping: EarlyStopping | None
    stopping: list[Stopping]
    metrics: dict[str, Any]
    callbacks: list[Named]
    restarts: int
    on_divergence: str
    seed: int
    n_threads: int | None
    progress: bool | None
    checkpoint: Path | None
    every: Every
    distributed: str | None
    schedule: Schedule
    schedule_state: dict[str, Any]
    _owner: Network  # whose rows `_state` has
    _optimizer: Optimizer
    _state: NDArray[Any]
    _cut_short: FitState | None  # what the next fit goes on with
    _job: Fit | BestOf | None  # the fit under way

    @property
    def _world(self) -> World:
        """Who takes part in the training."""
        return world_of(self.distributed)

    @property
    def _all_rules(self) -> list[Any]:
        """The stopping rules, early stopping last."""
        return [*self.stopping, *([self.early_stopping] if self.early_stopping else [])]

    def _check_settings(self) -> None:
        """Refuse what may not be, of the constructor's arguments and of what was set since.

        Raises:
            ValueError, TypeError: one is out of range or unknown, or the network is another one.
        """
        for name, check in _SETTINGS.items():
            setattr(self, name, check(name, getattr(self, name)))
        if self.network.device != "cpu" and self._world.size > 1:
            raise ValueError(
                f"distributed={self.distributed!r} trains on processors, and the network is on a "
                "card: net.to('cpu'), or one process without it."
            )
        fresh = self.schedule.initial_state()
        if self.schedule_state.keys() != fresh.keys():  # another kind was set
            self.schedule_state = fresh
        wanted = len(self.optimizer.rows), self._owner._parameters.size
        fits = (self._state.shape, self._state.dtype) == (wanted, self._owner.dtype)
        if self.network is not self._owner or not fits:
            raise ValueError(
                f"trainer.network={shown(self.network)} is not the network that this trainer has "
                "optimizer rows for; make a new Trainer for it."
            )

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer. Another one of the same rule may be set between two fits.

        The optimizer's rows stay, and the trainer's steps are counted on: by its schedule as well.

        Raises:
            ValueError, TypeError: one of another rule is set, or none.
            RuntimeError: it is set while the network is trained.
        """
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Any) -> None:
        new, old = get_optimizer(optimizer), vars(self).get("_optimizer")
        if old is not None and old.name != new.name:
            raise ValueError(
                f"optimizer={shown(optimizer)} is not {old.name!r}, whose rows this trainer has; "
                "make a new one: Trainer(trainer.network, optimizer)"
            )
        if vars(self).get("_job") is not None:
            raise RuntimeError(
                f"optimizer={shown(optimizer)} was set while the network is trained; set it "
                "between two fits, or give a schedule: SGD(fastbp.Cosine(0.1))"
            )
        self._optimizer = new
        self.schedule = new.schedule
        self.schedule_state = self.schedule.initial_state()
        if old is None:
            size = self.network._parameters.size
            self._state = np.zeros((len(new.rows), size), self.network.dtype)

    @property
    def state(self) -> NDArray[Any]:
        """The optimizer's rows, (rows, parameters), of the network's dtype; writable.

        Momentum has one row, Adam two (`UPDATES` names them). What is assigned is copied.
        """
        self.network._hand_out(rows=True)
        return self._state

    @state.setter
    def state(self, rows: ArrayLike) -> None:
        array = as_array(rows, "state")
        if array.shape != self._state.shape:
            raise ValueError(
                f"state has shape {array.shape}; this trainer's has {self._state.shape}"
            )
        self.state[...] = as_floats(array, self._state.dtype, "state")

    def _check_fit(self, data: Data, held: Data | None) -> None:
        """What can be known to be wrong with a fit before anything has changed."""
        self._check_batch_norm(min(self.batch_size or data.samples, data.samples))
        self._check_monitors(held)

    def _check_stream(self, held: Data | None) -> None:
        """What can be known to be wrong with a fit of a stream before an item has come."""
        if self.metrics and held is None:
            raise ValueError(
                f"metrics={shown(list(self.metrics))} are measured on held-out data where batches "
                "come one by one; give fit_stream(..., validation=(Xv, yv))"
            )
        self._check_monitors(held)
        if self._cut_short is not None:
            raise ValueError(
                "resume(PATH) has a fit of arrays to be gone on with: call fit with its data, or "
                "begin anew from the checkpoint's weights: resume(PATH, finish=False)."
            )

    def _check_batch_norm(self, batch: int | None) -> None:
        if batch == 1 and self.network._normed:
            way_out = "give batch_size=2 or more, more samples, or layers without batch_norm"
            raise ValueError(too_few_for_norm(way_out))

    def _check_monitors(self, held: Data | None) -> None:
        """What rules and schedule watch will be recorded; one rule at most restores weights."""
        restoring = [rule for rule in self._all_rules if rule.restore_best]
        if len(restoring) > 1:
            raise ValueError(
                f"early_stopping and stopping have {len(restoring)} rules with restore_best=True "
                f"({', '.join(map(shown, restoring))}); a fit ends with the weights of one epoch: "
                "give restore_best=False to the others"
            )
        prefix = "" if held is None else "validation_"
        record = {"loss": 0.0, "lr": 0.0, "seconds": 0.0}
        record |= {prefix + name: 0.0 for name in ("loss", *self.metrics)}
        check_outputs(self.metrics, self.network.layers[-1].units)
        schedules = [self.schedule]
        while hasattr(schedules[-1], "schedule"):  # after a warm-up
            schedules.append(schedules[-1].schedule)
        for watcher in [*self._all_rules, *schedules]:
            if hasattr(watcher, "monitor"):
                name, _ = monitored(record, watcher.monitor)
                if getattr(watcher, "mode", "min") is None:
                    higher_is_better(name)
