"""What happens between the epochs of a fit: history, rules, callbacks, best weights, restarts."""

from __future__ import annotations

import time
from itertools import count
from typing import Any

import numpy as np

from .callbacks import State, run_callbacks
from .diagnose import layer_facts, starting_figures
from .history import History
from .metrics import higher_is_better, monitored
from .network import Network
from .outcome import judge
from .passes import SEEDS
from .progress import make_progress
from .run import DivergenceError, Run
from .samples import Data
from .snapshot import Snapshot, Standing
from .stopping import EarlyStopping, Stopping


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

    def _rules(self) -> list[Any]:
        """The stopping rules of a fit, started."""
        rules = [*self.stopping, *([self.early_stopping] if self.early_stopping else [])]
        for rule in rules:
            rule.start()
        return rules

    def _fit(self: Any, run: Run, epochs: int | None, hooks: list[Any]) -> History:
        """Run the epochs, and what belongs between them."""
        history, rules = History(), run.rules
        first, best = len(self.history), None
        history.layers = layer_facts(self.network, run.rows)
        history.start = starting_figures(self.network)
        self.history.layers = history.layers
        self.history.start = self.history.start or history.start
        with make_progress(self.progress, epochs, run.steps) as progress:
            for _ in count() if epochs is None else range(epochs):
                started = time.perf_counter()
                values = run.epoch(progress)
                values["seconds"] = time.perf_counter() - started
                if "loss" not in values:  # stopped before an epoch's end
                    history.stopped = run.stopped
                    break
                self.schedule.observe(self.schedule_state, values)
                history.append_epoch(**values)
                self.history.append_epoch(**values)
                self.epoch += 1
                record = history.record()
                reasons = [reason for rule in rules if (reason := rule.update(record))]
                if any(rule.restore_best and rule.improved for rule in rules):
                    best = best or Snapshot.of(self.network)
                    best.take(self.network)
                state = State(first + len(history) - 1, self.history, self.network, self, record)
                if hooks and (asked := run_callbacks(hooks, state)):
                    reasons.append(asked)
                progress.update(len(history) * run.steps, record)
                if run.ended and len(history) != epochs:
                    reasons.append("the batches ended")
                if reasons:
                    history.stopped = reasons[0]
                    break
        early = self.early_stopping
        if early is not None and early.restore_best and best is not None:
            best.restore(self.network)
            history.best_epoch = early.best_epoch
            self.history.best_epoch = first + (early.best_epoch or 0)
        self.history.stopped = history.stopped
        history.summary = self.history.summary = self.network.summary()
        if run.held is not None:
            held = run.held
            history.outcome = judge(self.network, held.X, held.labels, held.targets)
            self.history.outcome = history.outcome
        return history

    def _restarted(
        self: Any, data: Data, held: Data | None, epochs: int, hooks: list[Any]
    ) -> History:
        """The best of several fits, by held-out loss where there is one, else by loss.

        A start that diverges counts as the worst; only if all do, the last one's error is raised.
        """
        start = Standing(self)
        kept: Standing | None = None
        found, least, failure = History(), np.inf, None
        for attempt in range(self.restarts):
            start.restore(self)
            if attempt:
                self.network.initialize((self.network.seed + attempt) % SEEDS)
                self.state[...] = 0.0
            try:
                history = self._fit(Run(self, data, held, epochs, self._rules()), epochs, hooks)
            except DivergenceError as error:
                failure = error
                continue
            losses = history.validation_loss or history.loss or [np.inf]
            place = -1 if history.best_epoch is None else history.best_epoch
            score = losses[place] if np.isfinite(losses[place]) else np.inf
            if kept is None or score < least:
                kept, found, least = Standing(self), history, score
        if kept is None:
            assert failure is not None
            raise failure
        kept.restore(self)
        return found

    def _check_batch_norm(self, batch: int | None) -> None:
        if batch == 1 and any(layer.batch_norm for layer in self.network.layers):
            raise ValueError(
                "batch norm needs at least 2 samples in a batch, and there is 1; give "
                "batch_size=2 or more, more samples, or layers without batch_norm"
            )

    def _check_monitors(self, held: Data | None) -> None:
        """What rules and schedule watch will be recorded, and which way is up is known."""
        prefix = "" if held is None else "validation_"
        record = {"loss": 0.0, "lr": 0.0, "seconds": 0.0}
        record |= {prefix + name: 0.0 for name in ("loss", *self.metrics)}
        watchers: list[Any] = [*self.stopping, self.early_stopping, self.schedule]
        for watcher in watchers:
            if hasattr(watcher, "monitor"):
                name, _ = monitored(record, watcher.monitor)
                if getattr(watcher, "mode", "min") is None:
                    higher_is_better(name)
