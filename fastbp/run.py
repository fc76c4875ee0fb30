"""One fit under way: chunks of compiled steps, snapshots, and what an epoch leaves behind."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import as_matrix, as_targets, as_weights, needs_screening
from .engine import Array, Batch, Recipe, aligned
from .kernels.cpu import epoch as loop
from .kernels.cpu.learn import DEAD, DELTA_RMS, GRADIENT_NORM, UPDATE_NORM, WEIGHT_NORM
from .metrics import compute
from .sampling import batch_bounds, fill_order
from .threads import choose_threads

if TYPE_CHECKING:
    from .network import Network
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
    """Training met a loss or a weight that is not finite; the message says where and what to try."""


@dataclass(frozen=True)
class Data:
    """Canonical arrays, and which of their samples count."""

    X: Array
    labels: Array
    targets: Array
    weights: Array
    indices: Array
    screen: bool

    @classmethod
    def canonical(cls, network: Network, X: Any, y: Any, sample_weight: Any) -> Data:
        """X, y and weights through the door; errors name the argument."""
        outputs = network.layers[-1].units
        matrix = as_matrix(X, network.inputs, network.dtype)
        rows = len(matrix)
        labels, targets = np.empty(0, np.int64), np.empty((0, outputs), network.dtype)
        found = as_targets(y, rows, outputs, network.dtype, network.loss_name)
        if found.ndim == 1:
            labels = found
        else:
            targets = found
        weights = np.empty(0, network.dtype)
        if sample_weight is not None:
            weights = as_weights(sample_weight, rows, network.dtype)
        screen = not needs_screening(matrix)
        return cls(matrix, labels, targets, weights, np.arange(rows), screen)

    @property
    def samples(self) -> int:
        """How many count."""
        return len(self.indices)

    def only(self, indices: Array) -> Data:
        """The same arrays, fewer samples."""
        return replace(self, indices=indices)

    def taken(self, indices: Array) -> Data:
        """Copies of some samples alone."""
        parts = (self.X, self.labels, self.targets, self.weights)
        taken = (part[indices] if len(part) else part for part in parts)
        return Data(*taken, np.arange(len(indices)), self.screen)

    def batch(self, order: Array, bounds: Array) -> Batch:
        """What the engine takes."""
        none = np.empty((0, self.targets.shape[1]), self.X.dtype)
        return Batch(self.X, self.labels, self.targets, self.weights, order, bounds, none)


@dataclass
class Snapshot:
    """Parameters, running statistics and optimizer rows at one moment."""

    parameters: Array
    running: Array
    state: Array | None = None

    def restore(self, network: Network, state: Array | None = None) -> None:
        """Put the numbers back."""
        network.parameters[...] = self.parameters
        network._running[...] = self.running
        if state is not None and self.state is not None:
            state[...] = self.state


class Run:
    """Runs the epochs of one `fit`."""

    def __init__(
        self, trainer: Trainer, data: Data, held: Data | None, epochs: int, rules: list[Any]
    ) -> None:
        self.trainer, self.net, self.data, self.held = trainer, trainer.network, data, held
        self.rules = rules
        size = trainer.batch_size or data.samples
        norm = any(layer.batch_norm for layer in self.net.layers)
        self.bounds = batch_bounds(data.samples, min(size, data.samples), norm)
        self.order = np.empty(data.samples, np.int64)
        rows = int(np.diff(self.bounds).max())
        self.work = self.net._workspace(rows)
        self.gradient = aligned(self.net.parameters.size, self.net.dtype)
        self.start = Snapshot(
            np.empty_like(self.net.parameters),
            np.empty_like(self.net._running),
            np.empty_like(trainer.state),
        )
        work = self.net._work(rows)
        self.threads = choose_threads(work, rows, trainer.n_threads)
        self.steps = len(self.bounds) - 1
        self.total = trainer.step + epochs * self.steps
        self.seconds_a_step = max(work / 2e10, 1e-6)
        self.done = 0  # steps of this fit
        self.stopped = ""

    def epoch(self, progress: Any) -> dict[str, Any]:
        """One epoch; its values by name. Without "loss" where a rule or divergence stopped it."""
        trainer = self.trainer
        fill_order(self.order, self.data.indices, trainer.sampling, trainer.seed, trainer.epoch)
        self.work.results[:] = 0.0
        done = 0
        while done < self.steps:
            count = max(1, min(int(CHUNK_SECONDS / self.seconds_a_step), self.steps - done))
            if not self._chunk(done, count):
                return {}
            done += count
            self.done += count
            progress.update(self.done)
            if done < self.steps and (due := [rule for rule in self.rules if rule.due()]):
                self.stopped = due[0].update({}) or "a rule asked for it"
                return {}
        return self._values()

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
            record=first + count == self.steps,
            screen=self.data.screen,
            rates=rates,
        )

    def _chunk(self, first: int, count: int) -> bool:
        """Steps first .. first + count of the epoch; False where training diverged and goes on."""
        trainer, net = self.trainer, self.net
        recipe = self._recipe(first, count)
        self.start.parameters[...] = net.parameters
        self.start.running[...] = net._running
        assert self.start.state is not None
        self.start.state[...] = trainer.state
        before = self.work.results[loop.STEPS]
        clock = time.perf_counter()
        try:
            done = self._steps(first, count, recipe)
        finally:
            # Read from where the compiled loop counts: an interrupt may have taken the answer.
            trainer.step += int(self.work.results[loop.STEPS] - before)
        if done == count and np.isfinite(self.work.figures[:, WEIGHT_NORM]).all():
            self.seconds_a_step = max((time.perf_counter() - clock) / count, 1e-7)
            return True
        self._diverged(first, done, recipe)
        return False

    def _steps(self, first: int, count: int, recipe: Recipe) -> int:
        bounds = self.bounds[first : first + count + 1]
        return self.work.run(
            loop.TRAIN,
            self.data.batch(self.order, bounds),
            recipe,
            self.net.parameters,
            self.gradient,
            self.trainer.state,
            self.net._running,
            training=True,
            n_threads=self.threads,
        )

    def _diverged(self, first: int, done: int, recipe: Recipe) -> None:
        """Back to the last finite step of the chunk, then an error or a warning that says so."""
        trainer, net = self.trainer, self.net
        undone = 0
        self.work.figures[:] = 0.0
        kept = done
        while not np.isfinite(net.parameters).all() and kept > 0:
            kept -= 1
            undone += 1
            self.start.restore(net, trainer.state)
            if kept:
                self._steps(first, kept, replace(recipe, record=False))
        if not np.isfinite(net.parameters).all():
            self.start.restore(net, trainer.state)
        trainer.step = recipe.first_update + kept
        message = self._what_happened(first, done, kept)
        self.stopped = message
        if self.bad_row is not None or trainer.on_divergence == "raise":
            raise (ValueError if self.bad_row is not None else DivergenceError)(message)
        warnings.warn(message, RuntimeWarning, stacklevel=5)

    def _what_happened(self, first: int, done: int, kept: int) -> str:
        step = min(first + done, self.steps - 1)
        rows = self.order[self.bounds[step] : self.bounds[step + 1]]
        finite = np.isfinite(self.data.X[rows]).all(axis=1)
        self.bad_row = None if finite.all() else int(rows[finite.argmin()])
        if self.bad_row is not None:
            column = int(np.isfinite(self.data.X[self.bad_row]).argmin())
            value = self.data.X[self.bad_row, column]
            return (
                f"X[{self.bad_row}, {column}]={value} is not finite; fill or leave out such rows. "
                "The network has the weights of the step before."
            )
        rate = float(self.trainer.schedule.rates(self.trainer.step, 1, self.total)[0])
        return (
            f"training diverged in epoch {self.trainer.epoch}, batch {step}: the loss or a weight "
            "is not finite. The network has the weights of the last finite step "
            f"({self.trainer.step} steps made). Try a smaller rate (it is {rate:g}), clip_norm=1, "
            "inputs scaled to about 1, batch_norm=True, or dtype='float64'."
        )

    bad_row: int | None = None

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

    def snapshot(self, old: Snapshot | None) -> Snapshot:
        """The network's numbers now, into `old` where there is one."""
        net = self.net
        if old is None:
            return Snapshot(net.parameters.copy(), net._running.copy())
        old.parameters[...], old.running[...] = net.parameters, net._running
        return old
