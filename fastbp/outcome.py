"""What a network made of held-out data, small enough to travel with a history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .kernels.tables import LOSSES
from .samples import Data
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

    Attributes:
        counts: the rows that have a predicted class.
        undecided: how many have none, for their outputs are NaN.

    >>> Confusion([[3, 1], [0, 4]]).accuracy
    0.875
    """

    counts: list[list[int]]
    undecided: int = 0

    @property
    def accuracy(self) -> float:
        """Share on the diagonal, of all rows: NaN is not right."""
        table = np.array(self.counts)
        return float(table.trace() / max(table.sum() + self.undecided, 1))


@dataclass(frozen=True)
class Residuals:
    """Pairs of truth and prediction: all outputs of the rows, or 1000 of them."""

    truth: list[float]
    predicted: list[float]


@dataclass(frozen=True)
class Omitted:
    """There is no table of such predictions, and why."""

    why: str


Outcome = Confusion | Residuals | Omitted


def outcome_of_outputs(network: Network, outputs: Array, truth: Array) -> Outcome:
    """What the network predicts, against the truth.

    Args:
        network: a classifier (log loss) or a regression.
        outputs: (n, outputs), the network's.
        truth: (n,) classes, or targets (n, outputs).

    Returns:
        `Omitted` for several labels a row, and for more than 1000 classes.
    """
    classes = LOSSES[network.loss_name].classes
    if classes == "each" and outputs.shape[1] > 1:
        return Omitted("Of several labels a row there is no confusion matrix.")
    if classes:
        return _confusion(truth, outputs)
    if truth.ndim == 1:
        truth = np.eye(outputs.shape[1])[truth]
    pairs = np.column_stack([truth.ravel(), outputs.ravel()]).astype(np.float64)
    chosen = np.linspace(0, len(pairs) - 1, min(len(pairs), POINTS)).astype(np.int64)
    return Residuals(pairs[chosen, 0].tolist(), pairs[chosen, 1].tolist())


def _confusion(truth: Array, outputs: Array) -> Confusion | Omitted:
    classes = max(outputs.shape[1], 2)
    if classes > MOST_CLASSES:
        return Omitted(f"Of {classes:,} classes no confusion matrix is kept.")
    counts = np.zeros((classes, classes), dtype=np.int64)
    decided = ~np.isnan(outputs).any(axis=1)
    np.add.at(counts, (labels_of(truth)[decided], labels_of(outputs)[decided]), 1)
    rows: list[list[int]] = counts.tolist()
    return Confusion(rows, int(len(outputs) - decided.sum()))


def outcome_of(network: Network, X: Any, y: Any) -> Outcome:
    """`outcome_of_outputs` for data as people have it, checked at the door."""
    data = Data.canonical(network, X, y, None)
    return outcome_of_outputs(network, data.outputs(network), data.truth)
