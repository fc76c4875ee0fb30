"""fastbp itself, through its public face."""

from __future__ import annotations

from typing import Any

import fastbp

from ..shapes import Task, network_of


class Implementation:
    """`Trainer.fit` with momentum SGD; threads are those of `n_threads`."""

    def __init__(
        self, task: Task, threads: int, *, device: str = "cpu", precision: str | None = None
    ) -> None:
        self._task, self._threads = task, threads
        self._net = network_of(task.shape, device=device, precision=precision)
        self._X: Any = task.X
        if device != "cpu":  # the peers' data lie on the card, too
            from fastbp.kernels.cuda.shim import cuda

            self._X = cuda.to_device(task.X)
        self._trainer = self._reset("shuffle")
        self.train(1)

    def _reset(self, sampling: str) -> Any:
        for layer, W, b in zip(
            self._net.layers, self._task.weights, self._task.biases, strict=True
        ):
            layer.W[...] = W
            layer.b[...] = b
        return fastbp.Trainer(
            self._net,
            optimizer=fastbp.SGD(self._task.lr, momentum=self._task.momentum),
            batch_size=self._task.shape.batch,
            sampling=sampling,
            n_threads=self._threads,
            progress=False,
        )

    def losses(self, steps: int) -> float:
        """See `Peer`."""
        rows = steps * self._task.shape.batch
        trainer = self._reset("order")
        return float(trainer.fit(self._X[:rows], self._task.y[:rows], epochs=1).loss[-1])

    def train(self, epochs: int) -> None:
        """See `Peer`."""
        self._trainer.fit(self._X, self._task.y, epochs=epochs)
