"""One fit under way: chunks of compiled steps, snapshots, and what an epoch leaves behind."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .checkpoint import Keeper
from .engine import Recipe, aligned
from .kernels.cpu import epoch as loop
from .kernels.cpu.learn import DEAD, DELTA_RMS, GRADIENT_NORM, UPDATE_NORM, WEIGHT_NORM
from .metrics import compute
from .sampling import batch_bounds, fill_order
from .snapshot import Snapshot
from .threads import choose_threads
from .underway import Fingerprint, fingerprint

if TYPE_CHECKING:
    from .samples import Data
    from .trainer import Trainer

CHUNK_SECONDS = 0.05  # between two looks at the clock, Ctrl-C and the progress bar


_FIGURES = {
    "gradient_norm": GRADIENT_NORM,
    "weight_norm": WEIGHT_NORM,
    "update_norm": UPDATE_NORM,
    "delta_rms": DELTA_RMS,
    "dead_relu": DEAD,
}


class DivergenceError(ArithmeticError):
    """Training met a loss or weight that is not finite; the message says where and what to try."""


class BadRowError(ValueError):
    """A memory-mapped row held NaN or inf; the Trainer takes everything back to before the fit."""


class Run:
    """Runs the epochs of one `fit`."""

    def __init__(
        self, trainer: Trainer, data: Data, held: Data | None, epochs: int, rules: list[Any]
    ) -> None:
        self._begin(trainer, held, rules)
        self.data = data
        size = trainer.batch_size or data.samples
        norm = any(layer.batch_norm for layer in self.net.layers)
        self.bounds = batch_bounds(data.samples, min(size, data.samples), norm)
        self.order = np.empty(data.samples, np.int64)
        rows = int(np.diff(self.bounds).max())
        self.work = self.net._workspace(rows)
        work = self.net._work(rows)
        self.threads = choose_threads(work, rows, trainer.n_threads)
        self.steps = len(self.bounds) - 1
        self.total: int | None = trainer.step + epochs * self.steps
        self.seconds_a_step = max(work / 2e10, 1e-6)

    def _begin(self, trainer: Trainer, held: Data | None, rules: list[Any]) -> None:
        """What does not depend on the data to train on."""
        self.trainer, self.net, self.held, self.rules = trainer, trainer.network, held, rules
        self.keeper = Keeper(trainer)
        self.gradient = aligned(self.net.parameters.size, self.net.dtype)
        self.start = Snapshot.of(self.net, trainer.state)
        self.done = 0  # steps of this fit
        self.begun = 0  # steps of the epoch under way
        self.spent = 0.0  # seconds that it has taken
        self.stopped = ""
        self.ended = False  # there are no more data
        if not self._finite():
            bad = np.flatnonzero(~np.isfinite(self.net.parameters))
            what = f"parameters[{bad[0]}]={self.net.parameters[bad[0]]}" if bad.size else "a number"
            raise ValueError(
                f"{what} is not finite before the first step: give the network finite numbers, "
                "net.initialize(seed), or a new Trainer where its optimizer's rows are meant."
            )

    def fingerprint(self) -> Fingerprint | None:
        """By what the data are known again; None where they cannot be had again."""
        return fingerprint(self.data, self.held, self.steps)

    @property
    def rows(self) -> int:
        """Samples of an epoch's last batch."""
        return int(self.bounds[-1] - self.bounds[-2])

    def epoch(self, progress: Any) -> dict[str, Any]:
        """One epoch, or the rest of the one under way; its values by name.

        Nothing where a rule or divergence stopped it.
        """
        trainer = self.trainer
        fill_order(self.order, self.data.indices, trainer.sampling, trainer.seed, trainer.epoch)
        if not self.begun:
            self.work.results[:] = 0.0
        clock, before = time.perf_counter(), self.spent
        while self.begun < self.steps:
            count = min(int(CHUNK_SECONDS / self.seconds_a_step), self.keeper.room(trainer.step))
            count = max(1, min(count, self.steps - self.begun))
            if not self._chunk(self.begun, count):
                return {}
            self.begun += count
            self.done += count
            self.spent = before + time.perf_counter() - clock
            progress.update(self.done)
            if self.begun < self.steps:
                if due := [rule for rule in self.rules if rule.due()]:
                    self.stopped = due[0].update({}) or "a rule asked for it"
                    return {}
                self.keeper.within_epoch()
        values = self._values()
        values["seconds"] = before + time.perf_counter() - clock
        self.begun, self.spent = 0, 0.0
        return values

    def _recipe(self, first: int, count: int) -> Recipe:
        trainer, optimizer = self.trainer, self.trainer.optimizer
        rates = trainer.schedule.rates(trainer.step, count, self.total, trainer.schedule_state)
        return Recipe(
            code=optimizer.code,
            hyper=optimizer.hyper(),
            l2=2.0 * trainer.weight_decay,
            decoupled=optimizer.decoupled_decay,
            clip_value=trainer.clip_value or 0.0,
            clip_norm=trainer.clip_norm or 0.0,
            noise=trainer.perturbation,
            seed=trainer.seed,
            epoch=trainer.epoch,
            first_step=first,
            first_update=trainer.step,
            record=self._is_recorded(first + count),
            screen=self.data.screen,
            rates=rates,
        )

    def _chunk(self, first: int, count: int) -> bool:
        """Steps first .. first + count of the epoch; False where training diverged and goes on."""
        trainer, net = self.trainer, self.net
        recipe = self._recipe(first, count)
        self.start.take(net, trainer.state)
        before = self.work.results[loop.STEPS]
        clock = time.perf_counter()
        try:
            done = self._steps(first, count, recipe)
        finally:
            # Read from where the compiled loop counts: an interrupt may have taken the answer.
            trainer.step += int(self.work.results[loop.STEPS] - before)
        if done == count and self._finite():
            self.seconds_a_step = max((time.perf_counter() - clock) / count, 1e-7)
            return True
        self._diverged(first, done, recipe)
        return False

    def _steps(self, first: int, count: int, recipe: Recipe) -> int:
        return self.work.run(
            loop.TRAIN,
            self.data.batch(self.order, self._bounds(first, count)),
            recipe,
            self.net.parameters,
            self.gradient,
            self.trainer.state,
            self.net._running,
            training=True,
            n_threads=self.threads,
        )

    def _bounds(self, first: int, count: int) -> Any:
        return self.bounds[first : first + count + 1]

    def _is_recorded(self, steps: int) -> bool:
        """The last of so many steps of an epoch leaves the figures by layer."""
        return steps == self.steps

    def _finite(self) -> bool:
        """All parameters, running statistics and optimizer rows are finite.

        A row of squares that overflows would leave its weights where they are for ever.
        """
        for numbers in (self.net.parameters, self.net._running, self.trainer.state):
            with np.errstate(over="ignore", invalid="ignore"):
                total = numbers.sum()  # one pass; it may overflow where every number is finite
            if not np.isfinite(total) and not np.isfinite(numbers).all():
                return False
        return True

    def _diverged(self, first: int, done: int, recipe: Recipe) -> None:
        """Back to the last finite step of the chunk, then an error or a warning that says so."""
        trainer = self.trainer
        kept = self._last_finite(first, done, recipe)
        trainer.step = recipe.first_update + kept
        step = first + kept  # the one that went wrong
        start, end = self._bounds(step, 1)
        rows = self.order[start:end]
        if self.data.screen and (bad := self.data.unfit(rows)):
            raise BadRowError(bad)
        rate = float(recipe.rates[kept])
        message = (
            f"training diverged in epoch {trainer.epoch}, batch {step}: the loss, a weight or an "
            "optimizer's row is not finite. The network has the weights of the last finite step "
            f"({trainer.step} steps made). Try a smaller rate (it is {rate:g}), clip_norm=1, "
            "inputs scaled to about 1, batch_norm=True, or dtype='float64'."
        )
        self.stopped = message
        if trainer.on_divergence == "raise":
            raise DivergenceError(message)
        warnings.warn(message, RuntimeWarning, stacklevel=7)

    def _last_finite(self, first: int, done: int, recipe: Recipe) -> int:
        """How many of the chunk's `done` steps left all numbers finite; the network stands there.

        What is not finite stays so, so the step is found by halving: a replay has the same bits.
        """
        if self._finite():
            return done
        good, bad = 0, max(done, 1)
        while bad - good > 1:
            middle = (good + bad) // 2
            self._replay(first, middle, recipe)
            good, bad = (middle, bad) if self._finite() else (good, middle)
        self._replay(first, good, recipe)
        return good

    def _replay(self, first: int, count: int, recipe: Recipe) -> None:
        """The first `count` steps of the chunk once more."""
        self.start.restore(self.net, self.trainer.state)
        if count:
            self._steps(first, count, replace(recipe, record=False))

    def _values(self) -> dict[str, Any]:
        """The finished epoch's values for the history."""
        trainer, results = self.trainer, self.work.results
        last = self.trainer.step - 1
        rates = trainer.schedule.rates(last, 1, self.total, trainer.schedule_state)
        values: dict[str, Any] = {
            "loss": float(results[loop.LOSS_SUM] / results[loop.WEIGHT_SUM]),
            "lr": float(rates[0]),
        }
        if self.held is not None:
            values["validation_loss"] = self.net._mean_loss(self.held)
        if trainer.metrics:
            values |= self._metrics()
        for name, column in _FIGURES.items():
            values[name] = self.work.figures[:, column].tolist()
        return values

    def _metrics(self) -> dict[str, float]:
        prefix, data = ("", self.data) if self.held is None else ("validation_", self.held)
        chosen = data if data.samples == len(data.X) else data.taken(data.indices)
        outputs = self.net._infer(chosen.X, logits=False)
        truth = chosen.labels if chosen.labels.size else chosen.targets
        weights = chosen.weights if chosen.weights.size else None
        found = compute(self.trainer.metrics, truth, outputs, weights)
        return {prefix + name: value for name, value in found.items()}
