"""One fit under way: chunks of compiled steps, and what an epoch leaves behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .divergence import go_back
from .engine import Batch, Recipe, aligned
from .fit_state import Fingerprint, fingerprint
from .guard import guard_of
from .keeper import Keeper
from .kernels.cpu import slots
from .kernels.cpu.figures import (
    DEAD,
    DELTA_RMS,
    GRADIENT_NORM,
    SHIFT_NORM,
    UPDATE_NORM,
    WEIGHT_NORM,
)
from .metrics import compute
from .pace import Pace
from .sampling import fill_order

if TYPE_CHECKING:
    from .samples import Data
    from .trainer import Trainer

CHUNK_SECONDS = 0.05  # between two looks at the clock, Ctrl-C and the progress bar


_FIGURES = {
    "gradient_norm": GRADIENT_NORM,
    "shift_norm": SHIFT_NORM,
    "weight_norm": WEIGHT_NORM,
    "update_norm": UPDATE_NORM,
    "delta_rms": DELTA_RMS,
    "dead_relu": DEAD,
}


class Run:
    """Runs the epochs of one `fit`."""

    def __init__(
        self, trainer: Trainer, data: Data, held: Data | None, epochs: int, rules: list[Any]
    ) -> None:
        self._begin(trainer, held, rules)
        self.data = data
        self.net._keep(data)
        self.bounds = trainer._bounds(data.samples)
        self.order = np.empty(data.samples, np.int64)
        rows = max(self._own(int(size)) for size in {*np.diff(self.bounds).tolist()})
        self.work = self.net._workspace(rows)
        self.pace = Pace(self.net._work(rows), rows, trainer.n_threads)
        self.steps = len(self.bounds) - 1
        self.total: int | None = trainer.step + epochs * self.steps

    def _own(self, rows: int) -> int:
        """How many of a batch's rows are taken here: all of them, but where ranks share it."""
        return rows

    def _begin(self, trainer: Trainer, held: Data | None, rules: list[Any]) -> None:
        """What does not depend on the data to train on."""
        self.trainer, self.net, self.held, self.rules = trainer, trainer.network, held, rules
        self.net._keep(held)
        self.keeper = Keeper(trainer)
        self.gradient = aligned(self.net._parameters.size, self.net.dtype)
        self.guard = guard_of(trainer)
        self.done = 0  # steps of this fit
        self.begun = 0  # steps of the epoch under way
        self.spent = 0.0  # seconds that it has taken
        self.rate = 0.0  # of the last step
        self.stopped = ""
        self.diverged = False
        self.on_divergence = trainer.on_divergence
        self.progress = trainer.progress
        self.ended = False  # there are no more data
        self.made: dict[str, Any] = {}  # of an epoch made and not yet measured: what is known

    def fingerprint(self) -> Fingerprint | None:
        """By which a resumed fit recognises its data; None: a stream, which cannot be replayed."""
        return fingerprint(self.data, self.held, self.steps)

    @property
    def rows(self) -> int:
        """Samples of an epoch's last batch."""
        return int(self.bounds[-1] - self.bounds[-2])

    def epoch(self, progress: Any) -> dict[str, Any]:
        """One epoch, or the rest of the one under way; its values by name.

        Nothing where a rule or divergence stopped it.
        """
        try:
            return self._epoch(progress)
        except BaseException:
            # Ctrl-C comes with the end of a chunk, which may be the epoch's. (Ranks would have to
            # meet for its values, and one may be gone.)
            ended = self.begun > 0 and self._is_recorded(self.begun)
            if ended and not self.made and self.trainer._world.size == 1:
                self._known()
            raise

    def _epoch(self, progress: Any) -> dict[str, Any]:
        trainer = self.trainer
        fill_order(self.order, self.data.indices, trainer.sampling, trainer.seed, trainer.epoch)
        if not self.begun:
            self.work.results[:] = 0.0
        self.guard.renew(self.begun)  # a callback may have changed the numbers
        clock, before = time.perf_counter(), self.spent
        while self.begun < self.steps:
            if not self._chunk(self.begun, self._count()):
                return {}
            self.spent = before + time.perf_counter() - clock
            progress.update(self.done)
            if self.begun < self.steps:
                reason, keep, look = self._due()
                if reason or keep or look:
                    if not self._sound(self.begun):
                        return {}
                    self.guard.renew(self.begun)
                if reason:
                    self.stopped = reason
                    return {}
                if keep:
                    self.keep()
        if not self._sound(self.steps):
            return {}
        values = self._values()
        values["seconds"] = before + time.perf_counter() - clock
        self.begun, self.spent = 0, 0.0
        return values

    def _count(self) -> int:
        """Steps to make before Python looks around again."""
        count = min(self.pace.steps(CHUNK_SECONDS), self.keeper.room(self.trainer.step))
        return max(1, min(count, self.steps - self.begun))

    def _due(self) -> tuple[str, bool, bool]:
        """Between two chunks: why to stop, if at all; whether to write a checkpoint; to look."""
        due = [rule for rule in self.rules if rule.due()]
        reason = (due[0].update({}) or "a rule asked for it") if due else ""
        return reason, self.keeper.due_within_epoch(), self.guard.due()

    def keep(self) -> None:
        """Write a checkpoint."""
        self.keeper.write()

    def keep_after_epoch(self) -> None:
        """Write a checkpoint between two epochs, if one is due."""
        if self.keeper.due_after_epoch():
            self.keep()

    @property
    def kept_results(self) -> Any:
        """What the compiled loop has summed up in the epoch under way; of ranks, a row each."""
        return self.work.results

    def take_up(self, results: Any) -> None:
        """Go on from the sums of a checkpoint, a row a rank."""
        self.work.results[...] = results.sum(axis=0)

    def _recipe(self, first: int, count: int, step: int) -> Recipe:
        """Of the steps from `first` on of the epoch, before which the trainer has made `step`."""
        trainer, optimizer = self.trainer, self.trainer.optimizer
        rates = trainer.schedule.rates(step, count, self.total, trainer.schedule_state)
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
            first_update=step,
            record=self._is_recorded(first + count),
            screen=self.data.screen,
            rates=rates,
        )

    def _chunk(self, first: int, count: int) -> bool:
        """Steps first .. first + count of the epoch; False where a loss was not finite."""
        trainer = self.trainer
        recipe = self._recipe(first, count, trainer.step)
        before = self.work.results[slots.STEPS]
        self.rate = float(recipe.rates[-1])
        clock = time.perf_counter()
        try:
            done = self._steps(first, count, recipe)
        finally:
            # Read from where the compiled loop counts: an interrupt may have taken the answer.
            made = int(self.work.results[slots.STEPS] - before)
            trainer.step += made
            self.begun, self.done = first + made, self.done + made
        if done == count:
            self.pace.took(time.perf_counter() - clock, count)
            return True
        go_back(self, first + done)
        return False

    def _sound(self, first: int) -> bool:
        """All numbers are finite after `first` steps of the epoch; else back, and False."""
        if self.guard.finite():
            return True
        go_back(self, first)
        return False

    def _steps(self, first: int, count: int, recipe: Recipe) -> int:
        return self.work.run(
            slots.TRAIN,
            self._batch(first, count),
            recipe,
            self.net._parameters,
            self.gradient,
            self.trainer._state,
            self.net._running,
            training=True,
            n_threads=self.pace.threads,
        )

    def _batch(self, first: int, count: int) -> Batch:
        return self.data.batch(self.order, self._bounds(first, count))

    def _bounds(self, first: int, count: int) -> Any:
        return self.bounds[first : first + count + 1]

    def _is_recorded(self, steps: int) -> bool:
        """The last of so many steps of an epoch leaves the figures by layer."""
        return steps == self.steps

    def _unfit(self, rows: Any) -> str | None:
        """What to say of the first of these rows that is not finite."""
        return self.data.unfit(rows)

    def _values(self) -> dict[str, Any]:
        """The finished epoch's values for the history."""
        values, by_layer = self._known()
        measured = {} if self.held is None else {"validation_loss": self._held_loss()}
        if self.trainer.metrics:
            measured |= self._metrics()
        return values | measured | by_layer

    def _known(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is known of the epoch before anything is measured; it is kept as `made`."""
        results, figures = self.totals(), self._figures()
        loss = _ratio(results[slots.LOSS_SUM], results[slots.WEIGHT_SUM])
        values = {"loss": loss, "lr": self.rate}
        by_layer = {name: figures[:, column].tolist() for name, column in _FIGURES.items()}
        self.made = values | by_layer
        return values, by_layer

    def totals(self) -> Any:
        """What the compiled loop has summed up in the epoch so far."""
        return self.work.results

    def _figures(self) -> Any:
        """The last step's figures, a row a layer."""
        return self.work.figures

    def _held_loss(self) -> float:
        """Mean loss of the held-out data."""
        return self.net._mean_loss(self.held)

    def _metrics(self) -> dict[str, float]:
        prefix, data = ("", self.data) if self.held is None else ("validation_", self.held)
        outputs = self._outputs(data)
        with self.trainer._world.agreeing():
            found = compute(
                self.trainer.metrics, data.truth, outputs, data.weights_or_none, self.net.loss_name
            )
        return {prefix + name: value for name, value in found.items()}

    def _outputs(self, data: Data) -> Any:
        """The network's outputs of all samples."""
        return data.outputs(self.net)


def _ratio(losses: float, weights: float) -> float:
    """The mean loss; NaN where samples drawn with replacement have no weight together."""
    return float(losses / weights) if weights else float("nan")
