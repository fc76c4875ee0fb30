"""From the gradient of one sample to training: batches, steps, and SGD-NEURAL-NET.

Data are columns: X is (m, k) and Y is (n, k), one sample a column (notes 001, last page; notes 004
Clarification 39).  Nothing is changed in place: a step returns new layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .jacobians import Array, column
from .losses import loss_value
from .network import Layer, forward, trace

Gradient = tuple[Array, Array]


def terms(reduction: str, k: int) -> int:
    """What the sum over k samples is divided by: 1 for ``"sum"``, k for ``"mean"``.

    Source: notes 004 Definition 21 (sum); notes 003, "Learning the parameters" (mean).

    >>> terms("sum", 5), terms("mean", 5)
    (1, 5)
    """
    return {"sum": 1, "mean": k}[reduction]


def batch_loss(
    layers: Sequence[Layer], X: Array, Y: Array, loss: str, reduction: str = "mean"
) -> float:
    """The loss of each column of X (m, k) and Y (n, k), as their ``"mean"`` or ``"sum"``.

    Source: notes 003, "Learning the parameters" (mean); notes 004 (6.59) (sum).

    >>> layers = [(column([1]), column([0]), "identity")]
    >>> batch_loss(layers, np.array([[1.0, 3.0]]), np.zeros((1, 2)), "squared_error")
    5.0
    """
    losses = [
        loss_value(loss, forward(layers, x)[-1]["A"], column(y))
        for x, y in zip(X.T, Y.T, strict=True)
    ]
    return float(np.sum(losses)) / terms(reduction, len(losses))


def batch_gradient(
    layers: Sequence[Layer], X: Array, Y: Array, loss: str, reduction: str = "mean"
) -> list[Gradient]:
    """(dL/dW, dL/dW0) of each layer, shapes (m, n) and (n, 1), over the columns of X and Y.

    Source: notes 004 Definitions 21 and 24 (sum); notes 003 and 001 (mean).

    >>> layers = [(column([1]), column([0]), "identity")]
    >>> [(dW, dW0)] = batch_gradient(layers, np.array([[1.0, 3.0]]), np.zeros((1, 2)),
    ...                              "squared_error", reduction="sum")
    >>> dW.tolist(), dW0.tolist()
    ([[20.0]], [[8.0]])
    """
    traces = [trace(layers, x, y, loss) for x, y in zip(X.T, Y.T, strict=True)]
    k = terms(reduction, len(traces))
    return [
        (
            np.sum([records[index]["dL/dW"] for records in traces], axis=0) / k,
            np.sum([records[index]["dL/dW0"] for records in traces], axis=0) / k,
        )
        for index in range(1, len(layers) + 1)
    ]


def weight_decay_step(W: Array, dL_dW: Array, eta: float, lam: float) -> Array:
    """W (1 - 2 lam eta) - eta dL/dW, any shape: one step on J + lam ||W||^2.

    Source: notes 004 (6.63).  (6.62), one line before, prints ||W|| for W.

    >>> weight_decay_step(np.array([[2.0]]), np.array([[1.0]]), eta=0.5, lam=0.1).round(6).tolist()
    [[1.3]]
    """
    return W * (1.0 - 2.0 * lam * eta) - eta * dL_dW


def gradient_step(
    layers: Sequence[Layer], gradients: Sequence[Gradient], eta: float, lam: float = 0.0
) -> list[Layer]:
    """New layers after one step of size eta; weights decay by lam, biases do not.

    Source: notes 004 (6.52) and (6.63); notes 001, theta - alpha grad C.

    >>> layers = [(column([1]), column([2]), "relu")]
    >>> [(W, W0, _)] = gradient_step(layers, [(column([10]), column([1]))], eta=0.1)
    >>> W.tolist(), W0.tolist()
    ([[0.0]], [[1.9]])
    """
    return [
        (weight_decay_step(W, dW, eta, lam), W0 - eta * dW0, activation)
        for (W, W0, activation), (dW, dW0) in zip(layers, gradients, strict=True)
    ]


def random_layers(
    sizes: Sequence[int],
    activations: Sequence[str],
    rng: np.random.Generator,
    scale: float = 1.0,
) -> list[Layer]:
    """Layers sizes[0] -> sizes[1] -> ..., weights and biases drawn from scale * Gaussian.

    Source: notes 004 Concept 20 and section 6.6.2, lines 1-4.

    >>> [(W, W0, name)] = random_layers([4, 3], ["relu"], np.random.default_rng(0))
    >>> W.shape, W0.shape, name
    ((4, 3), (3, 1), 'relu')
    """
    return [
        (scale * rng.standard_normal((m, n)), scale * rng.standard_normal((n, 1)), activation)
        for m, n, activation in zip(sizes[:-1], sizes[1:], activations, strict=True)
    ]


def sgd_neural_net(
    layers: Sequence[Layer],
    X: Array,
    Y: Array,
    loss: str,
    *,
    eta: Callable[[int], float],
    T: int,
    rng: np.random.Generator,
) -> list[Layer]:
    """The notes' algorithm: T steps of size eta(t), t = 1 ... T, each on one random column.

    Two lines differ from the printed pseudo-code: dL/dZ is computed for the last layer too, and all
    gradients are taken before the first weight moves (printed, a layer is updated before the one
    below has used its weights).
    Source: notes 004 section 6.6.2 (000 section 7.6.2).

    >>> x, start = np.array([[1.0, 2.0]]), [(column([0]), column([0]), "identity")]
    >>> [(W, W0, _)] = sgd_neural_net(start, x, 3 * x + 1, "squared_error",
    ...                               eta=lambda t: 0.1, T=500, rng=np.random.default_rng(0))
    >>> W.round(3).tolist(), W0.round(3).tolist()
    ([[3.0]], [[1.0]])
    """
    layers = list(layers)
    for t in range(1, T + 1):
        i = rng.integers(X.shape[1])
        records = trace(layers, X[:, i], Y[:, i], loss)
        gradients = [(record["dL/dW"], record["dL/dW0"]) for record in records[1:]]
        layers = gradient_step(layers, gradients, eta(t))
    return layers
