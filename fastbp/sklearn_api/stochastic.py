"""Training by "sgd", "adam" or an optimizer of fastbp: epochs of compiled steps, and their rules.

The steps are the engine's; what is here happens once an epoch, in scikit-learn's order: shuffle,
train, report the loss, score the held-out part, move the rate, decide whether to stop.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Final

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from ..engine import Array, Recipe, aligned
from ..errors import too_few_for_norm
from ..kernels.cpu import slots
from ..network import Network
from ..pace import Pace
from ..progress import Progress, make_progress
from ..run import CHUNK_SECONDS
from ..samples import Data
from ..sampling import batch_bounds
from ..snapshot import Snapshot
from ..warn import warn
from .hooks import Hooks
from .solvers import Solver, make_solver

WARNS: Final = "sklearn.neural_network._multilayer_perceptron"
"""Whose warnings these are: a filter with module="sklearn" holds for them, as it did before."""


class Runner:
    """Runs epochs of one fit on one set of data."""

    def __init__(
        self, estimator: Any, net: Network, data: Data, samples: int, incremental: bool
    ) -> None:
        e = self.estimator = estimator
        self.net, self.data = net, data
        self.bounds = batch_bounds(samples, _batch_size(e, samples), net._normed)
        sizes = np.diff(self.bounds)
        rows = int(sizes.max())
        if net._normed and sizes.min() < 2:
            way_out = "give batch_size=2 or more, more samples, or batch_norm=False"
            raise ValueError(too_few_for_norm(way_out))
        self.work = net._workspace(rows)
        self.gradient = aligned(net.parameters.size, net.dtype)
        self.pace = Pace(net._work(rows), rows, e.n_threads)
        self.samples, self.steps = samples, len(self.bounds) - 1
        self.seen = len(e.loss_curve_)  # epochs of earlier calls: dropout draws on from there
        self.shares = e._loss_shares(net)
        self.solver: Solver = e._optimizer
        # A schedule may span the fit; nobody knows how often partial_fit will be called.
        self.total = None if incremental else self.solver.step + e.max_iter * self.steps
        optimizer = self.solver.optimizer
        least, most = e._loss_bounds(net.dtype)
        self.alpha = float(e.alpha)
        self.recipe = Recipe(
            code=optimizer.code, hyper=optimizer.hyper(), shared_l2=self.alpha,
            decoupled=e.decoupled_decay or optimizer.decoupled_decay,
            clip_norm=e.clip_norm or 0.0, noise=e.perturbation, seed=net.seed,
            least=least, most=most, heedless=True,
        )  # fmt: skip

    def epoch(self, order: Array, number: int, progress: Progress) -> np.float64:
        """Train on the samples in this order; scikit-learn's loss of the epoch.

        It is the mean over samples of what their batch cost on average, its penalty
        alpha / 2 ||W||^2 / (sum of the batch's weights) included.
        """
        results = self.work.results
        results[:] = 0.0
        done = 0
        while done < self.steps:
            count = min(self.pace.steps(CHUNK_SECONDS), self.steps - done)
            self._chunk(order, number, done, count)
            done += count
            progress.update(number * self.steps + done)
        penalty = 0.5 * self.alpha * results[slots.ROWS_SQUARES]
        return np.float64((results[slots.ROWS_LOSS] / self.shares + penalty) / self.samples)

    def _chunk(self, order: Array, number: int, first: int, count: int) -> None:
        solver, net = self.solver, self.net
        recipe = replace(
            self.recipe, epoch=self.seen + number, first_step=first, first_update=solver.step,
            rates=solver.rates(count, self.total),
        )  # fmt: skip
        before = self.work.results[slots.STEPS]
        clock = time.perf_counter()
        try:
            self.work.run(
                slots.TRAIN, self.data.batch(order, self.bounds[first : first + count + 1]), recipe,
                net._parameters, self.gradient, solver.state, net._running, training=True,
                n_threads=self.pace.threads,
            )  # fmt: skip
        finally:  # an interrupt may have come: what was done counts
            solver.step += int(self.work.results[slots.STEPS] - before)
        self.pace.took(time.perf_counter() - clock, count)


def _batch_size(estimator: Any, samples: int) -> int:
    if estimator.batch_size == "auto":
        return min(200, samples)
    if estimator.batch_size > samples:
        warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            UserWarning,
            WARNS,
        )
    return int(np.clip(estimator.batch_size, 1, samples))


def _split(estimator: Any, data: Data) -> tuple[Array, Data]:
    """Indices to train on and the held-out part, drawn as scikit-learn draws them."""
    train, held = train_test_split(
        data.indices,
        random_state=estimator._random_state,
        test_size=estimator.validation_fraction,
        stratify=estimator._stratify(data),
    )
    if len(held) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    return train, data.taken(held)


def fit_stochastic(
    estimator: Any, net: Network, data: Data, held: Data | None, incremental: bool, hooks: Hooks
) -> None:
    """Train `net`, which is the estimator's; the estimator's attributes tell how it went."""
    e = estimator
    samples, held = _prepare(e, net, data, held, incremental)
    runner = Runner(e, net, data, len(samples), incremental)
    best = Snapshot.of(net)
    order = samples
    try:
        e.n_iter_ = 0
        epochs = 1 if incremental else e.max_iter
        with net._data_kept(), make_progress(bool(e.progress), epochs, runner.steps) as progress:
            net._keep(data, held)
            for number in range(e.max_iter):
                began = time.perf_counter()
                if e.shuffle:
                    places = np.arange(len(samples))
                    e._random_state.shuffle(places)
                    order = order[places]
                hooks.begin()
                values = _epoch(runner, order, number, progress)
                if _judge(e, net, held, values):
                    best.take(net)
                e._optimizer.iteration_ends(e.t_)
                e._optimizer.observe(values)
                values["seconds"] = time.perf_counter() - began
                progress.update((number + 1) * runner.steps, values)
                asked = hooks.end(values)
                if _stops(e) or asked or incremental:
                    break
                if e.n_iter_ == e.max_iter:
                    _warn_unfinished(e)
    except KeyboardInterrupt:
        warn("Training interrupted by user.", UserWarning, WARNS)
    if e.early_stopping:
        best.restore(net)


def _prepare(
    e: Any, net: Network, data: Data, held: Data | None, incremental: bool
) -> tuple[Array, Data | None]:
    """Make the estimator ready; the samples to train on, and the held-out part if any."""
    state = e._optimizer.state if incremental and hasattr(e, "_optimizer") else None
    # Someone may have put coefficients of other shapes in place of those the state belongs to.
    if state is None or (state.shape[1], state.dtype) != (net.parameters.size, net.dtype):
        e._optimizer = make_solver(e, net.parameters.size, net.dtype)
    if e.early_stopping and incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    samples = data.indices
    if e.early_stopping and held is None:
        samples, held = _split(e, data)
    if e.early_stopping and e.validation_scores_ is None:  # earlier fits had none
        e.validation_scores_, e.best_validation_score_, e.best_loss_ = [], -np.inf, None
    if e.validation_curve and not hasattr(e, "validation_loss_curve_"):
        e.validation_loss_curve_ = []
    return samples, held


def _epoch(runner: Runner, order: Array, number: int, progress: Progress) -> dict[str, Any]:
    """Train for an epoch and count it; its values by name."""
    e = runner.estimator
    e.loss_ = runner.epoch(order, number, progress)
    e.n_iter_ += 1
    e.t_ += len(order)
    e.loss_curve_.append(e.loss_)
    if e.verbose:
        print(f"Iteration {e.n_iter_}, loss = {e.loss_:.8f}")
    return {"loss": e.loss_, "lr": e._optimizer.last_rate()}


def _warn_unfinished(e: Any) -> None:
    warn(
        f"Stochastic Optimizer: Maximum iterations ({e.max_iter:d}) reached and the "
        "optimization hasn't converged yet.",
        ConvergenceWarning,
        WARNS,
    )


def _judge(e: Any, net: Network, held: Data | None, values: dict[str, Any]) -> bool:
    """Compare the epoch with those before, by its held-out score or loss; whether to keep it."""
    if held is not None and e.validation_curve:
        values["validation_loss"] = _mean_loss(e, net, held)
        e.validation_loss_curve_.append(values["validation_loss"])
    if not e.early_stopping:
        loss = e.loss_curve_[-1]
        e._no_improvement_count = e._no_improvement_count + 1 if loss > e.best_loss_ - e.tol else 0
        if loss < e.best_loss_:
            e.best_loss_ = loss
        return False
    assert held is not None
    score = e._held_out_score(net, held)
    values["validation_score"] = score
    e.validation_scores_.append(score)
    if e.verbose:
        print(f"Validation score: {score:f}")
    worse = score < e.best_validation_score_ + e.tol
    e._no_improvement_count = e._no_improvement_count + 1 if worse else 0
    better: bool = score > e.best_validation_score_
    if better:
        e.best_validation_score_ = score
    return better


def _mean_loss(e: Any, net: Network, held: Data) -> float:
    """The data term on held-out samples, in the units of `loss_`."""
    batch = held.batch(held.indices, held.indices[:0])
    return float(net._loss(batch, None)) / e._loss_shares(net)


def _stops(e: Any) -> bool:
    """Whether `n_iter_no_change` epochs in a row were no better, and no smaller rate is tried."""
    if e._no_improvement_count <= e.n_iter_no_change:
        return False
    what = "Validation score" if e.early_stopping else "Training loss"
    message = (
        f"{what} did not improve more than tol={e.tol:f} for {e.n_iter_no_change:d} consecutive "
        "epochs."
    )
    if e._optimizer.trigger_stopping(message, e.verbose):
        return True
    e._no_improvement_count = 0
    return False
