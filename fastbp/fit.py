"""One call of `Trainer.fit`: its epochs, and what they leave behind."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .callbacks import State, run_callbacks
from .diagnose import layer_facts, starting_figures
from .distrusted import Memory
from .divergence import DivergenceError, give_up
from .fit_state import FitState, recall_rule
from .history import History
from .outcome import outcome_of_outputs
from .progress import Progress, make_progress
from .run import Run
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .trainer import Trainer

_LAID_OUT_BY: Final = ("batch_size", "stopping", "early_stopping")
"""Settings that a fit looks at once; it looks at the others before each epoch."""


class Fit:
    """Epochs of training from one start, to their end or until a rule stops them."""

    def __init__(
        self,
        trainer: Trainer,
        run: Run,
        epochs: int | None,
        hooks: list[Any],
        at: FitState | None = None,
        bar: Progress | None = None,
    ) -> None:
        self.trainer, self.run, self.epochs, self.hooks = trainer, run, epochs, hooks
        self.bar = bar or make_progress(run.progress, epochs, run.steps)
        self.history = History()
        self.best: Snapshot | None = None
        self.laid_out_by = {name: getattr(trainer, name) for name in _LAID_OUT_BY}
        self.first = len(trainer.history)
        if at is not None:
            self._go_on(at)
        else:
            self.history.start = starting_figures(trainer.network)
            # Why an earlier fit stopped, and whose weights it went back to.
            trainer.history.stopped, trainer.history.best_epoch = "", None
        self.history.layers = layer_facts(trainer.network, run.rows)
        trainer.history.layers = self.history.layers
        trainer.history.start = trainer.history.start or self.history.start
        self.history.summary = trainer.history.summary = trainer.network.summary()
        trainer.history.outcome = None  # that of the fit before
        # Whether callbacks may change something: some rank's.
        self.watched = bool(trainer._world.reason("callbacks" if hooks else ""))

    def train(self) -> History:
        """Train to the end and leave trainer and network there."""
        trainer, history, run = self.trainer, self.history, self.run
        with self.bar as progress:
            while not self._over():
                started = time.perf_counter()
                try:
                    values = run.epoch(progress)
                except BaseException:
                    self._count_made()
                    raise
                run.made = {}
                if not values:  # stopped before an epoch's end
                    history.stopped = run.stopped
                    break
                values.setdefault("seconds", time.perf_counter() - started)
                world = trainer._world
                values = world.of_first(values)
                with world.agreeing():
                    self._finish_epoch(values)
                history.stopped = world.reason(history.stopped)
                progress.update(run.done, history.record())
                if self.watched and not self._sound():
                    history.stopped = run.stopped
                    break
                if not self._over():
                    run.keep_after_epoch()
        self._restore_best()
        trainer.history.stopped = history.stopped
        self._judge_held()
        return history

    @property
    def wrote(self) -> Path | None:
        """The checkpoint that was written meanwhile."""
        return self.run.keeper.wrote

    @property
    def diverged(self) -> bool:
        """It ended because numbers were not finite."""
        return self.run.diverged

    def _restore_best(self) -> None:
        """Back to the best epoch's weights, where a rule wants them."""
        watcher = next((rule for rule in self.run.rules if rule.restore_best), None)  # there is one
        if watcher is not None and self.best is not None:
            self.best.restore(self.trainer.network)
            self.history.best_epoch = watcher.best_epoch
            self.trainer.history.best_epoch = self.first + (watcher.best_epoch or 0)

    def _judge_held(self) -> None:
        """What the network makes of the held-out data in the end."""
        net, held = self.trainer.network, self.run.held
        if held is not None:
            outcome = outcome_of_outputs(net, held.outputs(net), held.truth)
            self.history.outcome = self.trainer.history.outcome = outcome

    def _sound(self) -> bool:
        """Callbacks have left finite numbers; else the fit ends as one that diverges."""
        trainer, run = self.trainer, self.run
        if not trainer._world.reason("" if run.guard.finite() else "not finite"):
            trainer._check_ranks()  # they have changed the same on each
            return True
        error = DivergenceError(
            "a parameter, a running statistic or an optimizer's row is not finite after the "
            f"callbacks of epoch {trainer.epoch - 1}, and was before them:",
            "what they set must be finite numbers.",
        )
        give_up(run, error)
        return False

    def _count_made(self) -> None:
        """An epoch that was made counts, though a metric failed, or Ctrl-C fell into it."""
        run, trainer = self.run, self.trainer
        if run.made:
            for history in (self.history, trainer.history):
                history.append_epoch(**run.made)
            trainer.epoch += 1
            run.begun, run.made = 0, {}

    def _over(self) -> bool:
        return bool(self.history.stopped) or len(self.history) == self.epochs

    def _finish_epoch(self, values: dict[str, Any]) -> None:
        """Tell schedule, histories, stopping rules and callbacks of an epoch."""
        trainer, history = self.trainer, self.history
        trainer.schedule.observe(trainer.schedule_state, {**values, "step": trainer.step})
        history.append_epoch(**values)
        trainer.history.append_epoch(**values)
        trainer.epoch += 1
        record = history.record()
        reasons = [reason for rule in self.run.rules if (reason := rule.update(record))]
        if any(rule.restore_best and rule.improved for rule in self.run.rules):
            self.best = self.best or Snapshot.of(trainer.network)
            self.best.take(trainer.network)
        history.stopped = reasons[0] if reasons else ""
        if self.hooks:
            trainer.network._hand_out()  # they may hold views from before
            place = self.first + len(history) - 1
            state = State(place, trainer.history, trainer.network, trainer, record)
            asked = run_callbacks(self.hooks, state)
            self._check_trainer()
            history.stopped = history.stopped or asked or ""
        if self.run.ended and len(history) != self.epochs:
            history.stopped = history.stopped or "the batches ended"

    def _check_trainer(self) -> None:
        """What callbacks have left of the trainer's settings can be trained with.

        Raises:
            RuntimeError: they have put another network into it, or set what a fit is laid out by.
            ValueError, TypeError: a setting that is no good.
        """
        if self.trainer.network is not self.run.net:
            raise RuntimeError(
                "trainer.network was set by a callback, while its network is trained; set it "
                "between two fits"
            )
        self.trainer._check_settings()
        for name, before in self.laid_out_by.items():
            if getattr(self.trainer, name) != before:
                raise RuntimeError(
                    f"trainer.{name} was set by a callback, and this fit goes by what it was; set "
                    "it between two fits"
                )

    def state(self) -> FitState | None:
        """Where this fit is, between two of its steps; None where it cannot be gone on with."""
        run, data = self.run, self.run.fingerprint()
        if data is None or self.epochs is None or run.total is None:
            return None
        return FitState(
            epochs=self.epochs,
            first=self.first,
            history=self.history,
            best=self.best,
            begun=run.begun,
            results=run.kept_results,
            total=run.total,
            spent=run.spent,
            rules=[{"rule": type(rule).__name__, "seen": rule.memory()} for rule in run.rules],
            data=data,
            attempts=None,
        )

    def memory(self) -> Memory | None:
        """What a checkpoint keeps of it."""
        at = self.state()
        return None if at is None else at.memory()

    def _go_on(self, at: FitState) -> None:
        """Take up a fit that was cut short, with the same data and arguments."""
        run, data = self.run, self.run.fingerprint()
        assert self.epochs is not None
        assert data is not None
        at.check(self.epochs, data, [type(rule).__name__ for rule in run.rules])
        for rule, kept in zip(run.rules, at.rules, strict=True):
            recall_rule(rule, kept["seen"])
        self.first, self.history, self.best = at.first, at.history, at.best
        run.begun, run.total, run.spent = at.begun, at.total, at.spent
        run.take_up(at.results)
        run.done = len(at.history) * run.steps + at.begun
