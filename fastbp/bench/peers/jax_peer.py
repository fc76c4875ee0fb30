"""JAX at its best: one jitted `lax.scan` over the whole epoch, buffers donated."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a card is shared with the peers
import jax
import jax.numpy as jnp
import numpy as np

from ..shapes import Task


def _loss(parameters: Any, X: Any, y: Any) -> Any:
    *hidden, last = parameters
    for W, b in hidden:
        X = jax.nn.relu(X @ W + b)
    W, b = last
    scores = jax.nn.log_softmax(X @ W + b)
    return -jnp.take_along_axis(scores, y[:, None], axis=1).mean()


@partial(jax.jit, donate_argnums=(0, 1))
def _epoch(
    parameters: Any, velocity: Any, X: Any, y: Any, order: Any, lr: float, momentum: float
) -> Any:
    def step(carry: Any, rows: Any) -> Any:
        parameters, velocity = carry
        loss, gradients = jax.value_and_grad(_loss)(parameters, X[rows], y[rows])
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, gradients)
        parameters = jax.tree.map(lambda p, v: p - lr * v, parameters, velocity)
        return (parameters, velocity), loss

    (parameters, velocity), losses = jax.lax.scan(step, (parameters, velocity), order)
    return parameters, velocity, losses.mean()


class Implementation:
    """Threads are those of the cores that the process may use."""

    def __init__(self, task: Task, threads: int, *, device: str = "cpu") -> None:
        if device != "cpu" and jax.default_backend() != "gpu":
            raise RuntimeError("this JAX has no CUDA device: pip install 'jax[cuda12]'")
        # float32 is float32 for every peer: no products of 10-bit mantissas on tensor cores.
        jax.config.update("jax_default_matmul_precision", "highest")
        self._task, self._rng = task, np.random.default_rng(1)
        self._X, self._y = jnp.asarray(task.X), jnp.asarray(task.y)
        self._reset()
        self.train(1)

    def _reset(self) -> None:
        pairs = zip(self._task.weights, self._task.biases, strict=True)
        self._parameters: Any = [(jnp.array(W), jnp.array(b)) for W, b in pairs]
        self._velocity: Any = jax.tree.map(jnp.zeros_like, self._parameters)

    def losses(self, steps: int) -> float:
        """See `Peer`."""
        self._reset()
        return self._train(np.arange(steps * self._task.shape.batch))

    def train(self, epochs: int) -> None:
        """See `Peer`."""
        for _ in range(epochs):
            self._train(self._rng.permutation(len(self._task.X)))

    def _train(self, order: Any) -> float:
        task = self._task
        batches = order.reshape(-1, task.shape.batch).astype(np.int32)
        self._parameters, self._velocity, loss = _epoch(
            self._parameters, self._velocity, self._X, self._y, batches, task.lr, task.momentum
        )
        return float(loss)  # waits for the epoch
