"""What a network made of held-out data, small enough to travel with a history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .kernels.tables import LOSSES
from .scores import labels_of

if TYPE_CHECKING:
    from .engine import Array
    from .network import Network

MOST_CLASSES: Final = 1000
"""Beyond these a table of counts would outweigh the network."""
POINTS: Final = 1000
"""Pairs of truth and prediction that are kept of a regression, evenly over the rows."""


@dataclass(frozen=True)
class Confusion:
    """Counts of rows by true class (rows) and predicted class (columns).

    >>> Confusion([[3, 1], [0, 4]]).accuracy
    0.875
    """

    counts: list[list[int]]

    @property
    def accuracy(self) -> float:
        """Share on the diagonal."""
        table = np.array(self.counts)
        return float(table.trace() / max(table.sum(), 1))


@dataclass(frozen=True)
class Residuals:
    """Pairs of truth and prediction: all outputs of the rows, or 1000 of them."""

    truth: list[float]
    predicted: list[float]


Outcome = Confusion | Residuals


def judge(network: Network, outputs: Array, truth: Array) -> Outcome | None:
    """What the network predicts, against the truth.

    Args:
        network: a classifier (log loss) or a regression.
        outputs: (n, outputs), the network's.
        truth: (n,) classes, or targets (n, outputs).

    Returns:
        None for several labels a row, and for more than 1000 classes.
    """
    classes = LOSSES[network.loss_name].classes
    if classes == "each" and outputs.shape[1] > 1:
        return None
    if classes:
        return _confusion(truth, outputs)
    if truth.ndim == 1:
        truth = np.eye(outputs.shape[1])[truth]
    pairs = np.column_stack([truth.ravel(), outputs.ravel()]).astype(np.float64)
    chosen = np.linspace(0, len(pairs) - 1, min(len(pairs), POINTS)).astype(np.int64)
    return Residuals(pairs[chosen, 0].tolist(), pairs[chosen, 1].tolist())


def _confusion(truth: Array, outputs: Array) -> Confusion | None:
    classes = max(outputs.shape[1], 2)
    if classes > MOST_CLASSES:
        return None
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels_of(truth), labels_of(outputs)), 1)
    rows: list[list[int]] = counts.tolist()
    return Confusion(rows)


def outcome_of(network: Network, X: Any, y: Any) -> Outcome | None:
    """`judge` for data as people have it, checked at the door."""
    matrix = network._as_matrix(X, sparse=True)
    batch = network._batch(matrix, y, None)
    truth = batch.labels if batch.labels.size else batch.targets
    return judge(network, network._infer(matrix, logits=False), truth)
