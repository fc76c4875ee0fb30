"""What a Trainer does beneath its public methods: rules, a fit's run, checks of its arguments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from . import checkpoint as checkpoints
from .divergence import BadRowError
from .errors import shown
from .fit import Fit
from .history import History
from .keeper import Every
from .metrics import check_outputs, higher_is_better, monitored
from .network import Network
from .progress import Progress
from .ranks import World, world_of
from .restarts import BestOf
from .run import Run
from .samples import Data
from .sampling import Indices, batch_bounds
from .snapshot import Standing
from .stopping import EarlyStopping, Stopping
from .stream import Stream
from .underway import Underway


@dataclass
class Aside:
    """What differs in a fit that runs beside others (`fit_many`).

    Attributes:
        bar: what shows its progress.
        on_divergence: in place of the trainer's; "note": stop, and say so in the history alone.
    """

    bar: Progress
    on_divergence: str


class Fitting:
    """What a `Trainer` does beneath its public methods."""

    network: Network
    optimizer: Any
    metrics: dict[str, Any]
    early_stopping: EarlyStopping | None
    stopping: list[Stopping]
    restarts: int
    progress: bool | None
    history: History
    epoch: int
    step: int
    schedule: Any
    schedule_state: dict[str, Any]
    state: Any
    checkpoint: Path | None
    every: Every
    _cut_short: Underway | None  # what the next fit goes on with
    _job: Fit | BestOf | None  # the fit under way
    distributed: str | None

    @property
    def _world(self) -> World:
        """Who takes part in the training."""
        return world_of(self.distributed)

    def _kinds(self) -> tuple[type[Run], type[Stream]]:
        """What runs a fit of arrays, and one of a stream."""
        if self._world.size == 1:
            return Run, Stream
        from .distributed import Ranked, RankedStream

        return Ranked, RankedStream

    @property
    def _all_rules(self) -> list[Any]:
        """The stopping rules, early stopping last."""
        return [*self.stopping, *([self.early_stopping] if self.early_stopping else [])]

    def _rules(self, attempt: int = 0) -> list[Any]:
        """The stopping rules of a fit, or of one of its starts, begun anew."""
        rules = self._all_rules
        for rule in rules:
            if attempt == 0 or not rule.across_restarts:
                rule.start()
        return rules

    def _check_fit(self: Any, data: Data, held: Data | None) -> None:
        """What can be known to be wrong with a fit before anything has changed."""
        self._check_batch_norm(min(self.batch_size or data.samples, data.samples))
        self._check_monitors(held)

    def _job_of(
        self: Any,
        data: Data,
        held: Data | None,
        epochs: int,
        hooks: list[Any],
        aside: Aside | None = None,
    ) -> Fit | BestOf:
        """The fit of canonical data that were checked; it goes on with one that was cut short."""

        def begin(attempt: int, at: Underway | None) -> Fit:
            run = self._kinds()[0](self, data, held, epochs, self._rules(attempt))
            if aside is None:
                return Fit(self, run, epochs, hooks, at)
            run.on_divergence = aside.on_divergence
            return Fit(self, run, epochs, hooks, at, aside.bar)

        at = self._cut_short
        return begin(0, at) if self.restarts == 1 else BestOf(self, begin, at)

    def _train(self: Any, job: Fit | BestOf, before: Standing | None = None) -> History:
        """Run a fit to its end, and keep what it leaves.

        before: where a row that is not finite, met on the way, takes everything back to.
        """
        at = self._cut_short
        self._cut_short = None
        try:
            self._job = job
            history = job.train()
        except BadRowError as error:
            if before is None:
                raise
            before.restore(self)
            self._job, self._cut_short = None, at
            written, text = job.wrote, f"{error} Nothing has changed"
            if written is not None:
                with self._world.agreeing():
                    self.save(written)
                text += f" ({written} was written meanwhile, and is so again)"
            text += "."
            raise ValueError(text) from None
        finally:
            self._job = None
        if self.checkpoint is not None:
            with self._world.agreeing():
                self.save(self.checkpoint)
        return history

    def _check_stream(self: Any, held: Data | None) -> None:
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

    def _check_ranks(self: Any, **given: Any) -> None:
        """On several ranks: all were given the same, and stand where the first does.

        given: facts about the arguments of a fit.
        """
        if self._world.size == 1:
            return
        net = self.network
        facts = given | checkpoints.settings(self)
        facts |= {name: getattr(self, name) for name in ("seed", "epoch", "step", "on_divergence")}
        facts |= {"rules": checkpoints.rules(self), "metrics": list(self.metrics)}
        facts |= {f"network's {name}": value for name, value in net.architecture().items()}
        facts["fit cut short"] = self._cut_short is not None
        facts["schedule_state"] = self.schedule_state
        numbers = {"parameters": net._parameters, "optimizer rows": self._state}
        numbers["running statistics"] = net._running
        for name, array in numbers.items():
            facts[name] = f"checksum {crc32(array.data.cast('B')) if array.size else 0:08x}"
        self._world.check_same(facts)

    def _bounds(self: Any, samples: int) -> Indices:
        """Where the batches of an epoch of so many samples begin, and the end of the last."""
        size = min(self.batch_size or samples, samples)
        return batch_bounds(samples, size, self.network._normed)

    def _check_batch_norm(self, batch: int | None) -> None:
        if batch == 1 and self.network._normed:
            raise ValueError(
                "batch norm needs at least 2 samples in a batch, and there is 1; give "
                "batch_size=2 or more, more samples, or layers without batch_norm"
            )

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
