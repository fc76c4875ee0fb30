"""scikit-learn's `MLPClassifier.partial_fit`: an epoch a call, of the loop that `fit` runs.

With two classes it has one sigmoid output instead of two softmax outputs: the same loss at the
start, another training. `losses` then tells the loss of the first batch alone, whatever is asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
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
            random_state=1,
        )
        self.train(1)

    def _reset(self) -> None:
        weights = [weight.copy() for weight in self._task.weights]
        biases = [bias.copy() for bias in self._task.biases]
        if self._model.n_outputs_ == 1:
            weights[-1] = weights[-1][:, 1:] - weights[-1][:, :1]
            biases[-1] = biases[-1][1:] - biases[-1][:1]
        self._model.coefs_, self._model.intercepts_ = weights, biases
        del self._model._optimizer  # and its velocities

    def losses(self, steps: int) -> float:
        """See `Peer`."""
        self._reset()
        self._model.shuffle = False
        self._fit(steps * self._task.shape.batch)
        self._model.shuffle = True
        return float(self._model.loss_)

    def train(self, epochs: int) -> None:
        """See `Peer`."""
        for _ in range(epochs):
            self._fit(len(self._task.X))

    def _fit(self, rows: int) -> None:
        classes = np.arange(self._task.shape.widths[-1])
        self._model.partial_fit(self._task.X[:rows], self._task.y[:rows], classes=classes)
