"""The plain NumPy loop: what a student writes, and what all others are checked against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..shapes import Task

Array = NDArray[np.float32]


class Implementation:
    """Momentum SGD on relu layers, softmax and cross entropy; threads are OpenBLAS's."""

    def __init__(self, task: Task, threads: int) -> None:
        self._task, self._rng = task, np.random.default_rng(1)
        self._reset()
        self.train(1)

    def _reset(self) -> None:
        self._parameters = [a.copy() for a in (*self._task.weights, *self._task.biases)]
        self._velocity = [np.zeros_like(a) for a in self._parameters]

    def losses(self, steps: int) -> float:
        """See `Peer`."""
        self._reset()
        return self._train(np.arange(steps * self._task.shape.batch))

    def train(self, epochs: int) -> None:
        """See `Peer`."""
        for _ in range(epochs):
            self._train(self._rng.permutation(len(self._task.X)))

    def _train(self, order: NDArray[np.int64]) -> float:
        task, batch, total = self._task, self._task.shape.batch, 0.0
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            loss, gradients = self._step(task.X[rows], task.y[rows])
            total += loss
            for parameter, velocity, gradient in zip(
                self._parameters, self._velocity, gradients, strict=True
            ):
                velocity *= task.momentum
                velocity += gradient
                parameter -= task.lr * velocity
        return total / (len(order) // batch)

    def _step(self, X: Array, y: NDArray[np.int64]) -> tuple[float, list[Array]]:
        """The mean loss of a batch and its gradients, weights first."""
        depth = len(self._task.weights)
        weights, biases = self._parameters[:depth], self._parameters[depth:]
        outputs = [X]
        for index, (W, b) in enumerate(zip(weights, biases, strict=True)):
            Z = outputs[-1] @ W + b
            outputs.append(Z if index == depth - 1 else np.maximum(Z, 0))
        logits = outputs[-1] - outputs[-1].max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        sums = exponentials.sum(axis=1, keepdims=True)
        samples = np.arange(len(y))
        loss = float((np.log(sums[:, 0]) - logits[samples, y]).mean())
        delta = exponentials / sums
        delta[samples, y] -= 1
        delta /= np.float32(len(y))
        dW: list[Array] = [delta] * depth
        db: list[Array] = [delta] * depth
        for index in reversed(range(depth)):
            dW[index], db[index] = outputs[index].T @ delta, delta.sum(axis=0)
            if index:
                delta = delta @ weights[index].T
                delta *= outputs[index] > 0
        return loss, dW + db
