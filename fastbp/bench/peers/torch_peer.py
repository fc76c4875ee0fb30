"""PyTorch at its best on a CPU: fused optimizer, index-select batches; eager, compiled, bf16."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from typing import Any

import torch

from ..shapes import Task


class Implementation:
    """`torch.nn.Sequential` under `torch.optim.SGD(fused=True)`."""

    def __init__(
        self,
        task: Task,
        threads: int,
        *,
        compiled: bool = False,
        bfloat16: bool = False,
        device: str = "cpu",
    ) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device(device)
        self._task, self._bfloat16 = task, bfloat16
        self._X = torch.from_numpy(task.X).to(self._device)
        self._y = torch.from_numpy(task.y).to(self._device)
        self._linear = [torch.nn.Linear(m, k) for m, k in pairwise(task.shape.widths)]
        modules: list[Any] = []
        for layer in self._linear:
            modules += [layer, torch.nn.ReLU()]
        self._model: Any = torch.nn.Sequential(*modules[:-1]).to(self._device)
        self._loss: Any = torch.nn.CrossEntropyLoss()
        # On a card the compiled step is captured as CUDA graphs: PyTorch's way to few launches.
        graphs = None if device == "cpu" else "reduce-overhead"
        self._graphs = compiled and graphs is not None
        self._forward = torch.compile(self._evaluate, mode=graphs) if compiled else self._evaluate
        self._reset()
        self.train(1)

    def _reset(self) -> None:
        with torch.no_grad():
            arrays = zip(self._linear, self._task.weights, self._task.biases, strict=True)
            for layer, weight, bias in arrays:
                layer.weight.copy_(torch.from_numpy(weight.T.copy()))
                layer.bias.copy_(torch.from_numpy(bias))
        self._optimizer = torch.optim.SGD(
            self._model.parameters(), lr=self._task.lr, momentum=self._task.momentum, fused=True
        )

    def _evaluate(self, X: Any, y: Any) -> Any:
        return self._loss(self._model(X), y)

    def losses(self, steps: int) -> float:
        """See `Peer`."""
        self._reset()
        losses = self._train(torch.arange(steps * self._task.shape.batch, device=self._device))
        return float(torch.stack(losses).mean())

    def train(self, epochs: int) -> None:
        """See `Peer`."""
        for _ in range(epochs):
            self._train(torch.randperm(len(self._X), device=self._device))
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _train(self, order: Any) -> list[Any]:
        """The losses of the batches, left as tensors: reading each would wait for nothing else."""
        found = []
        cast: Any = contextlib.nullcontext()
        if self._bfloat16:
            cast = torch.autocast("cpu", dtype=torch.bfloat16)
        for rows in order.split(self._task.shape.batch):
            X, y = self._X.index_select(0, rows), self._y.index_select(0, rows)
            self._optimizer.zero_grad(set_to_none=True)
            with cast:
                loss = self._forward(X, y)
            loss.backward()
            self._optimizer.step()
            # A captured graph writes its next loss where this one is.
            found.append(loss.detach().clone() if self._graphs else loss.detach())
        return found
