"""`Trainer`: fits a network by compiled steps; Python is back about every 50 ms and each epoch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from .budget import at_most
from .callbacks import Callbacks, as_callbacks
from .checkpoint import as_path
from .errors import check_integer, shown
from .exclusive import exclusively, rules_apart
from .fit import Fit
from .fit_state import fingerprint
from .fitting import Fitting
from .guard import check_finite_start
from .history import History
from .network import Network
from .ranks import world_of
from .samples import door, given
from .snapshot import TrainerState
from .stopping import EarlyStopping, Stopping
from .stream import items_of

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
        clip_value: largest absolute value of its elements, after `clip_norm`; None: unbounded.
        early_stopping: an `EarlyStopping`; True for its defaults; None or False for none.
        stopping: further rules: `NoChange`, `SmallGradient`, `TimeBudget`, ...
        metrics: names or functions measured after each epoch, on the held-out data where there
            are any, else on the training data.
        callbacks: functions of a `State`, or objects with `on_epoch_end(state)`; true stops.
        restarts: how many starts to train, keeping the best. The first continues from the trainer's
            present state; each further one has freshly drawn weights, zeroed optimizer rows and a
            step count of 0.
        on_divergence: "raise" `DivergenceError`, or "warn" and stop.
        seed: of shuffles, dropout and noise; None: the network's.
        n_threads: None: as many as pay. The results do not depend on it.
        progress: a progress bar; None: in a terminal and in a notebook.
        checkpoint: a file to keep the training in, for `resume`: written each `every` and when a
            fit ends. None: none.
        every: a number of epochs, or text such as "500 steps", "30 seconds", "10 minutes"; of a
            stream, whose items cannot be had again, at the end of the epoch in which it falls.
        distributed: "mpi": share each batch with the other ranks that `mpiexec` started; see
            docs/distributed.md. None: train in this process alone.

    Attributes:
        history: of all fits.
        epoch, step: how many were made, in all fits.
        schedule, schedule_state: the optimizer's step sizes, and what they have seen.
        state: the optimizer's rows.

    Raises:
        ValueError, TypeError: an argument is out of range or unknown.
        ImportError: distributed="mpi" without the extra fastbp[mpi].

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
        callbacks: Callbacks = (),
        restarts: int = 1,
        on_divergence: str = "raise",
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: int | str = 1,
        distributed: str | None = None,
    ) -> None:
        if not isinstance(network, Network):
            raise TypeError(f"network={shown(network)} must be a fastbp.Network")
        self.network = self._owner = network
        self.optimizer = optimizer
        self.batch_size, self.sampling = batch_size, sampling
        self.weight_decay, self.perturbation = weight_decay, perturbation
        self.clip_norm, self.clip_value = clip_norm, clip_value
        # As they were given: `_check_settings` makes of them what they stand for.
        given: Any = early_stopping, stopping, metrics, callbacks, every
        self.early_stopping, self.stopping, self.metrics, self.callbacks, self.every = given
        self.restarts, self.on_divergence = restarts, on_divergence
        self.seed = network.seed if seed is None else seed
        self.n_threads, self.progress = n_threads, progress
        self.checkpoint = as_path(checkpoint)
        self.distributed = distributed
        self._check_settings()
        world_of(self.distributed)  # what is missing is said now
        self._check_batch_norm(self.batch_size)
        self.history = History()
        self.epoch = 0
        self.step = 0
        self._cut_short = self._job = None

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        epochs: int = 1,
        *,
        validation: Any = None,
        sample_weight: ArrayLike | None = None,
        callbacks: Callbacks = (),
    ) -> History:
        """Train for up to `epochs` epochs and return their history.

        Args:
            X: (n, inputs). A C-contiguous array of the network's dtype is not copied. A sparse
                matrix (SciPy's; on the CPU) is never made dense as a whole.
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
            RuntimeError: the network is being trained already, or a stopping rule is in use.

        >>> net = Network(1, [Dense(1)], seed=1)
        >>> trainer = Trainer(net, SGD(0.1), batch_size=4)
        >>> history = trainer.fit([[0], [1], [2], [3]], [1, 3, 5, 7], epochs=200)
        >>> round(history.loss[-1], 4), net.predict([[4]]).round(2).tolist()
        (0.0, [9.0])
        """
        world = self._world
        with exclusively(self.network), world.fitting():
            with world.agreeing():
                epochs = check_integer("epochs", epochs, least=1)
                further = as_callbacks(callbacks)
                self._check_settings()
            with at_most(self.n_threads), rules_apart(self._all_rules):
                with world.agreeing():
                    data, held = door(self.network, X, y, sample_weight, validation, self.seed)
                    self._check_fit(data, held)
                    check_finite_start(self)
                self._check_ranks(epochs=epochs, **asdict(fingerprint(data, held, 0)))
                before = TrainerState.of(self) if data.screen else None
                job = self._job_of(data, held, epochs, self.callbacks + further)
                return self._train(job, before)

    def fit_stream(
        self,
        batches: Iterable[Any],
        epochs: int | None = None,
        *,
        steps_per_epoch: int = 100,
        validation: Any = None,
        callbacks: Callbacks = (),
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
            DivergenceError, RuntimeError: as for `fit`.

        >>> import numpy as np
        >>> net = Network(1, [Dense(1)], seed=1)
        >>> batches = (([[x], [1 - x]], [2 * x, 2 - 2 * x]) for x in np.linspace(0, 1, 200))
        >>> history = Trainer(net, SGD(0.1)).fit_stream(batches, steps_per_epoch=50)
        >>> len(history), history.loss[-1] < history.loss[0]
        (4, True)
        """
        world = self._world
        with exclusively(self.network), world.fitting():
            with world.agreeing():
                epochs = None if epochs is None else check_integer("epochs", epochs, least=1)
                steps = check_integer("steps_per_epoch", steps_per_epoch, least=1)
                further = as_callbacks(callbacks)
                self._check_settings()
            with at_most(self.n_threads), rules_apart(self._all_rules):
                with world.agreeing():
                    held = None if validation is None else given(self.network, validation)
                    self._check_stream(held)
                    check_finite_start(self)
                    items = items_of(batches)
                known = {} if held is None else asdict(fingerprint(held, None, 0))
                self._check_ranks(epochs=epochs, steps_per_epoch=steps, held=known)
                run = self._kinds()[1](self, items, held, steps, epochs, self._rules())
                return self._train(Fit(self, run, epochs, self.callbacks + further))

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

    @property
    def leads(self) -> bool:
        """This process draws the bar and writes the files: the only one, or the first rank."""
        return self._world.leads

    def __repr__(self) -> str:
        return (
            f"Trainer({self.network!r}, {self.optimizer!r}, batch_size={self.batch_size}, "
            f"epoch={self.epoch}, step={self.step})"
        )
