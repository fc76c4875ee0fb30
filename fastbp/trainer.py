"""`Trainer`: fits a network by compiled steps; Python is back about every 50 ms and each epoch."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .callbacks import as_callbacks
from .errors import (
    check_flag,
    check_integer,
    check_name,
    check_not_negative,
    check_positive,
    shown,
)
from .fitting import Fitting
from .history import History
from .metrics import resolve
from .network import Network
from .optimizers import get_optimizer
from .passes import SEEDS
from .run import BadRowError, Run
from .samples import door, given
from .sampling import SAMPLINGS
from .snapshot import Standing
from .stopping import EarlyStopping, Stopping, as_early_stopping, as_stopping
from .stream import Stream

if TYPE_CHECKING:
    from .finder import RateSearch


class Trainer(Fitting):
    """Fits a `Network`; goes on where the last `fit` stopped.

    Args:
        network: what to train; its parameters change in place.
        optimizer: an optimizer, its class or its name.
        batch_size: samples a step; None: all of them (full batch).
        sampling: "shuffle", "order", or "replacement" (the notes' SGD-NEURAL-NET).
        weight_decay: lambda in objective + lambda ||W||^2 (gradient 2 lambda W); weights only.
        perturbation: standard deviation of the noise added to inputs each time they are seen.
        clip_norm: largest norm of the whole gradient (data term); None: unbounded.
        clip_value: largest absolute value of its elements; None: unbounded.
        early_stopping: an `EarlyStopping`; True for its defaults; None or False for none.
        stopping: further rules: `NoChange`, `SmallGradient`, `TimeBudget`, ...
        metrics: names or functions measured after each epoch, on the held-out data where there
            are any, else on the training data.
        callbacks: functions of a `State`, or objects with `on_epoch_end(state)`; true stops.
        restarts: train so many times from other starts, and keep the best.
        on_divergence: "raise" `DivergenceError`, or "warn" and stop.
        seed: of shuffles, dropout and noise; None: the network's.
        n_threads: None: as many as pay. The results do not depend on it.
        progress: a progress bar; None: in a terminal and in a notebook.

    Raises:
        ValueError, TypeError: an argument is out of range or unknown.

    >>> net = Network(2, [Dense(8, "tanh"), Dense(1, "sigmoid")], seed=1)
    >>> trainer = Trainer(net, optimizer="adam", batch_size=4)
    >>> history = trainer.fit([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], epochs=300)
    >>> history.loss[-1] < history.loss[0]
    True
    """

    def __init__(
        self,
        network: Network,
        optimizer: Any = "adam",
        batch_size: int | None = 32,
        *,
        sampling: str = "shuffle",
        weight_decay: float = 0.0,
        perturbation: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        early_stopping: EarlyStopping | bool | None = None,
        stopping: Stopping | Iterable[Stopping] = (),
        metrics: Any = (),
        callbacks: Iterable[Any] = (),
        restarts: int = 1,
        on_divergence: str = "raise",
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool | None = None,
    ) -> None:
        if not isinstance(network, Network):
            raise TypeError(f"network={shown(network)} must be a fastbp.Network")
        self.network = network
        self.optimizer = get_optimizer(optimizer)
        self.batch_size = (
            None if batch_size is None else check_integer("batch_size", batch_size, least=1)
        )
        self.sampling = check_name("sampling", sampling, SAMPLINGS)
        self.weight_decay = check_not_negative("weight_decay", weight_decay)
        self.perturbation = check_not_negative("perturbation", perturbation)
        self.clip_norm = None if clip_norm is None else check_positive("clip_norm", clip_norm)
        self.clip_value = None if clip_value is None else check_positive("clip_value", clip_value)
        self.early_stopping = as_early_stopping(early_stopping)
        self.stopping = as_stopping(stopping)
        self.metrics = resolve(metrics)
        self.callbacks = as_callbacks(callbacks)
        self.restarts = check_integer("restarts", restarts, least=1)
        self.on_divergence = check_name("on_divergence", on_divergence, ("raise", "warn"))
        self.seed = network.seed if seed is None else check_integer("seed", seed, 0, SEEDS)
        self.n_threads = None if n_threads is None else check_integer("n_threads", n_threads, 1)
        self.progress = progress if progress is None else check_flag("progress", progress)
        self._check_batch_norm(self.batch_size)
        self.history = History()
        self.epoch = 0
        self.step = 0
        self.schedule = self.optimizer.schedule
        self.schedule_state = self.schedule.initial_state()
        size = network.parameters.size
        self.state = np.zeros((len(self.optimizer.rows), size), network.dtype)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        epochs: int = 1,
        *,
        validation: Any = None,
        sample_weight: ArrayLike | None = None,
        callbacks: Iterable[Any] = (),
    ) -> History:
        """Train for up to `epochs` epochs and return their history.

        Args:
            X: (n, inputs). A C-contiguous array of the network's dtype is not copied.
            y: labels (n,) or targets (n, outputs).
            epochs: passes over the data, at least 1.
            validation: (Xv, yv), (Xv, yv, weights), or the share of the samples to hold out.
            sample_weight: (n,); a batch's mean is normalised by their sum.
            callbacks: further ones, for this fit.

        Returns:
            The history of this fit; `trainer.history` holds all fits'.

        Raises:
            ValueError, TypeError: bad data; nothing has changed then.
            DivergenceError: a loss or weight is not finite; the network has the weights of the
                last finite step.
        """
        epochs = check_integer("epochs", epochs, least=1)
        hooks = self.callbacks + as_callbacks(callbacks)
        data, held = door(self.network, X, y, sample_weight, validation, self.seed)
        self._check_batch_norm(min(self.batch_size or data.samples, data.samples))
        self._check_monitors(held)
        before = Standing(self) if data.screen else None
        try:
            if self.restarts == 1:
                return self._fit(Run(self, data, held, epochs, self._rules()), epochs, hooks)
            return self._restarted(data, held, epochs, hooks)
        except BadRowError as error:
            assert before is not None
            before.restore(self)
            raise ValueError(f"{error} Nothing has changed.") from None

    def fit_stream(
        self,
        batches: Iterable[Any],
        epochs: int | None = None,
        *,
        steps_per_epoch: int = 100,
        validation: Any = None,
        callbacks: Iterable[Any] = (),
    ) -> History:
        """Train on an iterator of batches, one step each, as they come: for data without an end.

        `batch_size`, `sampling` and `restarts` play no part: an item is a batch, of any size. An
        epoch is so many steps, after which the history gets an entry, held-out data are measured,
        and rules, schedules and callbacks are asked.

        Args:
            batches: gives (X, y) or (X, y, weights), X (n, inputs) as for `fit`; a generator, a
                loader, a list. One item more than has been trained on is fetched ahead.
            epochs: when to stop; None: when the batches end, or a rule says so.
            steps_per_epoch: steps that make an epoch; the last epoch may have fewer.
            validation: (Xv, yv) or (Xv, yv, weights).
            callbacks: further ones, for this fit.

        Returns:
            The history of this fit; `trainer.history` holds all fits'.

        Raises:
            ValueError, TypeError: bad data. What is wrong with an item is said, by its number,
                when its turn comes: the steps before it are made, and stay.
            DivergenceError: as for `fit`.

        >>> net = Network(1, [Dense(1)], seed=1)
        >>> batches = (([[x], [1 - x]], [2 * x, 2 - 2 * x]) for x in np.linspace(0, 1, 200))
        >>> history = Trainer(net, SGD(0.1)).fit_stream(batches, steps_per_epoch=50)
        >>> len(history), history.loss[-1] < history.loss[0]
        (4, True)
        """
        epochs = None if epochs is None else check_integer("epochs", epochs, least=1)
        steps = check_integer("steps_per_epoch", steps_per_epoch, least=1)
        hooks = self.callbacks + as_callbacks(callbacks)
        held = None if validation is None else given(self.network, validation)
        if self.metrics and held is None:
            raise ValueError(
                f"metrics={shown(list(self.metrics))} are measured on held-out data where batches "
                "come one by one; give fit_stream(..., validation=(Xv, yv))"
            )
        self._check_monitors(held)
        return self._fit(Stream(self, batches, held, steps, epochs, self._rules()), epochs, hooks)

    def find_rate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        low: float = 1e-5,
        high: float = 10.0,
        steps: int = 400,
        sample_weight: ArrayLike | None = None,
    ) -> RateSearch:
        """Which constant step size brings the loss down furthest in so many steps.

        Trains copies of the network, from where this trainer stands, with four rates a decade, and
        takes the best that is not on the edge of failing. The trainer and its network stay as they
        are; a schedule is left out, and the optimizer's other settings are kept.

        Args:
            X, y, sample_weight: as for `fit`; of much data a random part is used.
            low, high: the rates to try lie between.
            steps: of each trial, about; two epochs at least. More find smaller rates.

        Returns:
            `.rate`, the suggestion; `.rates`, `.losses` and `.plot()`.

        Raises:
            ValueError, TypeError: bad data or arguments.
            DivergenceError: every rate diverged.

        >>> from fastbp.datasets import load_digits
        >>> trainer = Trainer(Network(64, [Dense(10, "softmax")]), "adam")
        >>> found = trainer.find_rate(*load_digits(), steps=100)
        >>> trainer = Trainer(trainer.network, Adam(found.rate))
        """
        from .finder import find_rate

        return find_rate(self, X, y, low, high, steps, sample_weight)

    def __copy__(self) -> Trainer:
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        return (
            f"Trainer({self.network!r}, {self.optimizer!r}, batch_size={self.batch_size}, "
            f"epoch={self.epoch}, step={self.step})"
        )
