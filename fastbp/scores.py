"""The metrics, and their table: a name, a function, which way is up.

A metric is a function of canonical targets, outputs and weights (see `data.as_targets`): labels
(n,) as int64, or a float array shaped like the outputs. Adding one is a function and a line in
the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Function = Callable[[NDArray[Any], NDArray[Any], Floats], float]


def labels_of(values: ArrayLike) -> NDArray[Any]:
    """Class labels (n,) of targets or outputs.

    Integers (n,) are labels already; of one column the values above 0.5 are class 1 (a sigmoid's
    output, or targets 0 and 1); of more the column of the largest value, the first among equals.

    >>> labels_of([[0.1, 0.9], [0.6, 0.4]]).tolist(), labels_of([[0.2], [0.7]]).tolist()
    ([1, 0], [0, 1])
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] > 1:
        columns: NDArray[Any] = array.argmax(axis=1)
        return columns
    flat = array.reshape(len(array))
    return flat.astype(np.int64) if flat.dtype.kind in "iu" else (flat > 0.5).astype(np.int64)


def _targets_like(y: NDArray[Any], outputs: NDArray[Any]) -> Floats:
    """Targets shaped like the outputs (n, k): labels become one-hot."""
    if y.ndim == 1 and outputs.shape[1] > 1:
        return np.eye(outputs.shape[1])[y.astype(np.int64)]
    return y.reshape(outputs.shape).astype(np.float64)


def _mean(weight: Floats, values: NDArray[Any]) -> Any:
    """Weighted mean over the rows; of equal weights and ones it is 1, to the last bit."""
    return weight @ values / weight.sum()


def accuracy(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """Share of rows whose class is right."""
    return float(_mean(weight, labels_of(y) == labels_of(outputs)))


def accuracy_each(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """Share of rows all of whose outputs are right; of labels (n,) the likeliest is looked at."""
    if y.ndim == 1:
        return accuracy(y, outputs, weight)
    return float(_mean(weight, ((y > 0.5) == (outputs > 0.5)).all(axis=1)))


def top(k: int) -> Metric:
    """Share of rows whose class is among the k likeliest; of equally likely ones the first count.

    >>> top(2).outputs
    2
    """

    def top_k(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
        labels = labels_of(y)[:, None]
        own = np.take_along_axis(outputs, labels, axis=1)
        before = (outputs > own) | ((outputs == own) & (np.arange(outputs.shape[1]) < labels))
        return float(_mean(weight, before.sum(axis=1) < k))

    doc = f"share of rows whose class is among the {k} likeliest"
    return Metric(top_k, higher=True, doc=doc, outputs=2)


def f1_macro(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """Mean over the classes of 2 tp / (2 tp + fp + fn), classes that occur or were predicted."""
    truth, guess = labels_of(y), labels_of(outputs)
    classes = max(truth.max(), guess.max()) + 1
    hits = np.bincount(truth[truth == guess], weight[truth == guess], classes)
    totals = np.bincount(truth, weight, classes) + np.bincount(guess, weight, classes)
    seen = totals > 0
    return float(np.mean(2.0 * hits[seen] / totals[seen]))


def f1_macro_each(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """The same where each output is a class of its own; labels (n,) as for `accuracy_each`."""
    if y.ndim == 1:
        return f1_macro(y, outputs, weight)
    said, meant = outputs > 0.5, y > 0.5
    sums = weight @ said + weight @ meant
    seen = sums > 0
    scores = 2.0 * (weight @ (said & meant))[seen] / sums[seen]
    return float(scores.mean()) if seen.any() else 0.0


def mean_squared_error(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """Mean over rows and outputs of (a - y)^2."""
    return float(_mean(weight, ((outputs - _targets_like(y, outputs)) ** 2).mean(axis=1)))


def mean_absolute_error(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """Mean over rows and outputs of |a - y|."""
    return float(_mean(weight, np.abs(outputs - _targets_like(y, outputs)).mean(axis=1)))


def r2(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """1 - sum (a - y)^2 / sum (y - mean y)^2, averaged over the outputs.

    A constant target counts 1 where it is met exactly and 0 where not, as in scikit-learn.
    """
    target = _targets_like(y, outputs)
    residual = weight @ (outputs - target) ** 2
    spread = weight @ (target - _mean(weight, target)) ** 2
    counted = target[weight > 0]
    constant = (counted == counted[0]).all(axis=0)  # the mean is rounded, and its spread not 0
    score = 1.0 - residual / np.where(constant, 1.0, spread)
    return float(np.where(constant, residual == 0.0, score).mean())


def log_loss(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """-sum_j y_j log a_j; of one output the binary one.

    a is clamped to [tiny, 1 - eps / 2] of the outputs' dtype.
    """
    if outputs.shape[1] == 1:
        return log_loss_each(y, outputs, weight)
    return float(
        -_mean(weight, (_targets_like(y, outputs) * np.log(_clamped(outputs))).sum(axis=1))
    )


def log_loss_each(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """-sum_j (y_j log a_j + (1 - y_j) log(1 - a_j))."""
    target, a = _targets_like(y, outputs), _clamped(outputs)
    losses = target * np.log(a) + (1.0 - target) * np.log1p(-a)
    return float(-_mean(weight, losses.sum(axis=1)))


def _clamped(outputs: NDArray[Any]) -> Floats:
    kind = np.finfo(outputs.dtype if outputs.dtype.kind == "f" else np.float64)
    return np.clip(outputs.astype(np.float64), float(kind.tiny), 1.0 - float(kind.eps) / 2.0)


@dataclass(frozen=True)
class Metric:
    """A metric's function, which way is up, what it is, and how many outputs it needs.

    each: what stands for the function where each output is a decision of its own.
    """

    function: Function
    higher: bool
    doc: str
    outputs: int = 1
    each: Function | None = None


METRICS: Final[dict[str, Metric]] = {
    "accuracy": Metric(accuracy, True, "share of rows whose class is right", each=accuracy_each),
    "top_3": top(3),
    "top_5": top(5),
    "f1_macro": Metric(
        f1_macro, True, "F1 of each class, averaged over the classes", each=f1_macro_each
    ),
    "log_loss": Metric(
        log_loss, False, "negative log likelihood of the targets", each=log_loss_each
    ),
    "mean_squared_error": Metric(mean_squared_error, False, "mean of (a - y)^2"),
    "mean_absolute_error": Metric(mean_absolute_error, False, "mean of |a - y|"),
    "r2": Metric(r2, True, "share of the targets' variance explained"),
}
