"""scikit-learn's `MLPClassifier.fit`, an epoch a call, going on by `warm_start`.

With two classes it has one sigmoid output instead of two softmax outputs: the same loss at the
start, another training. `losses` then tells the loss of the first batch alone, whatever is asked.
"""

from __future__ import annotations

import warnings
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from ..shapes import Task


class Implementation:
    """`MLPClassifier(solver="sgd")` with the same rates and no penalty; threads are OpenBLAS's."""

    def __init__(self, task: Task, threads: int) -> None:
        self._task = task
        self._model: Any = MLPClassifier(
            task.shape.widths[1:-1],
            solver="sgd",
            alpha=0.0,
            batch_size=task.shape.batch,
            learning_rate_init=task.lr,
            momentum=task.momentum,
            nesterovs_momentum=False,
            max_iter=1,
            tol=0.0,
            warm_start=True,
            random_state=1,
        )
        self.epoch()

    def _reset(self) -> None:
        weights = [weight.copy() for weight in self._task.weights]
        biases = [bias.copy() for bias in self._task.biases]
        if self._model.n_outputs_ == 1:
            weights[-1] = weights[-1][:, 1:] - weights[-1][:, :1]
            biases[-1] = biases[-1][1:] - biases[-1][:1]
        self._model.coefs_, self._model.intercepts_ = weights, biases

    def losses(self, steps: int) -> float:
        """See `Peer`."""
        self._reset()
        self._model.shuffle = False
        self._fit(steps * self._task.shape.batch)
        self._model.shuffle = True
        return float(self._model.loss_)

    def epoch(self) -> None:
        """See `Peer`."""
        self._fit(len(self._task.X))

    def _fit(self, rows: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of one epoch: as asked
            self._model.fit(self._task.X[:rows], self._task.y[:rows])
