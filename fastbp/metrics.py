"""Metrics by name: what a network's outputs are worth against the targets.

A metric is a function of canonical targets, outputs and weights (see `data.as_targets`): labels
(n,) as int64, or a float array shaped like the outputs. Adding one is a function and a line in
the table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import check_entries, check_name, check_real, shown, unknown_name
from .history import BY_LAYER, SCALARS

Floats = NDArray[np.float64]
Custom = Callable[[Any, Any], float]
Asked = str | Custom | Iterable[str | Custom] | Mapping[str, str | Custom]


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


def _dense(y: NDArray[Any], outputs: NDArray[Any]) -> Floats:
    """Targets shaped like the outputs (n, k): labels become one-hot."""
    if y.ndim == 1 and outputs.shape[1] > 1:
        return np.eye(outputs.shape[1])[y.astype(np.int64)]
    return y.reshape(outputs.shape).astype(np.float64)


def _several_labels(y: NDArray[Any]) -> bool:
    """More than one output may be 1 in a row: neither labels nor rows that sum to 1."""
    return y.ndim == 2 and y.shape[1] > 1 and not np.allclose(y.sum(axis=1), 1.0, atol=1e-4)


def _mean(weight: Floats, values: NDArray[Any]) -> Any:
    """Weighted mean over the rows; of equal weights and ones it is 1, to the last bit."""
    return weight @ values / weight.sum()


def accuracy(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """Share of rows whose class is right; with several labels a row, all of them must be."""
    if _several_labels(y):
        right = ((y > 0.5) == (outputs > 0.5)).all(axis=1)
    else:
        right = labels_of(y) == labels_of(outputs)
    return float(_mean(weight, right))


def _top(k: int) -> Metric:
    def top_k(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
        own = np.take_along_axis(outputs, labels_of(y)[:, None], axis=1)
        return float(_mean(weight, (outputs > own).sum(axis=1) < k))

    doc = f"share of rows whose class is among the {k} likeliest"
    return Metric(top_k, higher=True, doc=doc, outputs=2)


def f1_macro(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """Mean over the classes of 2 tp / (2 tp + fp + fn), classes that occur or were predicted.

    With several labels a row each output is a class of its own.
    """
    if _several_labels(y):
        said, meant = outputs > 0.5, y > 0.5
        sums = weight @ said + weight @ meant
        seen = sums > 0
        scores = 2.0 * (weight @ (said & meant))[seen] / sums[seen]
        return float(scores.mean()) if seen.any() else 0.0
    truth, guess = labels_of(y), labels_of(outputs)
    classes = max(truth.max(), guess.max()) + 1
    hits = np.bincount(truth[truth == guess], weight[truth == guess], classes)
    totals = np.bincount(truth, weight, classes) + np.bincount(guess, weight, classes)
    seen = totals > 0
    return float(np.mean(2.0 * hits[seen] / totals[seen]))


def mean_squared_error(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """Mean over rows and outputs of (a - y)^2."""
    return float(_mean(weight, ((outputs - _dense(y, outputs)) ** 2).mean(axis=1)))


def mean_absolute_error(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """Mean over rows and outputs of |a - y|."""
    return float(_mean(weight, np.abs(outputs - _dense(y, outputs)).mean(axis=1)))


def r2(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """1 - sum (a - y)^2 / sum (y - mean y)^2, averaged over the outputs.

    A constant target counts 1 where it is met exactly and 0 where not, as in scikit-learn.
    """
    target = _dense(y, outputs)
    residual = weight @ (outputs - target) ** 2
    spread = weight @ (target - _mean(weight, target)) ** 2
    counted = target[weight > 0]
    constant = (counted == counted[0]).all(axis=0)  # the mean is rounded, and its spread not 0
    score = 1.0 - residual / np.where(constant, 1.0, spread)
    return float(np.where(constant, residual == 0.0, score).mean())


def log_loss(y: NDArray[Any], outputs: NDArray[Any], weight: Floats) -> float:
    """-sum_j y_j log a_j, or the binary one summed over outputs with several labels a row.

    a is clamped to [tiny, 1 - eps / 2] of the outputs' dtype.
    """
    target, a = _dense(y, outputs), outputs.astype(np.float64)
    kind = np.finfo(outputs.dtype if outputs.dtype.kind == "f" else np.float64)
    a = np.clip(a, float(kind.tiny), 1.0 - float(kind.eps) / 2.0)
    losses = target * np.log(a)
    if outputs.shape[1] == 1 or _several_labels(y):
        losses += (1.0 - target) * np.log1p(-a)
    return float(-_mean(weight, losses.sum(axis=1)))


@dataclass(frozen=True)
class Metric:
    """A metric's function, which way is up, what it is, and how many outputs it needs."""

    function: Callable[[NDArray[Any], NDArray[Any], Floats], float]
    higher: bool
    doc: str
    outputs: int = 1


METRICS: Final[dict[str, Metric]] = {
    "accuracy": Metric(accuracy, True, "share of rows whose class is right"),
    "top_3": _top(3),
    "top_5": _top(5),
    "f1_macro": Metric(f1_macro, True, "F1 of each class, averaged over the classes"),
    "log_loss": Metric(log_loss, False, "negative log likelihood of the targets"),
    "mean_squared_error": Metric(mean_squared_error, False, "mean of (a - y)^2"),
    "mean_absolute_error": Metric(mean_absolute_error, False, "mean of |a - y|"),
    "r2": Metric(r2, True, "share of the targets' variance explained"),
}

_TOP = re.compile(r"top_([1-9]\d*)\Z")


def get_metric(name: object) -> Metric:
    """The table's entry; "top_7" works for any number.

    Raises:
        ValueError: an unknown name; the nearest known one is suggested.
        TypeError: not a string.

    >>> get_metric("top_7").doc
    'share of rows whose class is among the 7 likeliest'
    """
    if isinstance(name, str) and (match := _TOP.match(name)):
        return _top(int(match[1]))
    return METRICS[check_name("metric", name, METRICS)]


def resolve(metrics: Asked) -> dict[str, str | Custom]:
    """Metrics by the name under which they are recorded; names are checked.

    A callable f(y, outputs) -> float is recorded under its `__name__`, or under its key in a
    mapping. y and outputs are as the network holds them: labels (n,) or (n, k), and (n, k).

    >>> list(resolve(["accuracy", max]))
    ['accuracy', 'max']
    """
    if isinstance(metrics, Mapping):
        named = dict(metrics)
    else:
        single = isinstance(metrics, str) or callable(metrics)
        names = "a metric's name, a function, or several"
        listed = [metrics] if single else check_entries("metrics", metrics, names)
        named = {}
        for metric in listed:
            own = getattr(metric, "__name__", "") or type(metric).__name__
            name = metric if isinstance(metric, str) else own
            if name in named:
                raise ValueError(
                    f"metrics: the name {name!r} is there twice; give a dict of name to function."
                )
            named[name] = metric
    for name, metric in named.items():
        if not callable(metric):
            get_metric(metric)
        if not isinstance(name, str) or name in {"epoch", *SCALARS, *BY_LAYER}:
            raise ValueError(f"metrics: {shown(name)} names something else in the history.")
    return named


def check_outputs(metrics: Mapping[str, str | Custom], outputs: int) -> None:
    """Raise ValueError where a metric needs more outputs than a network has."""
    for metric in metrics.values():
        if isinstance(metric, str) and get_metric(metric).outputs > outputs:
            raise ValueError(
                f"metrics: {metric!r} ranks classes, and one output has none; take 'accuracy'."
            )


def compute(
    metrics: Asked,
    y: ArrayLike,
    outputs: ArrayLike,
    weight: ArrayLike | None = None,
) -> dict[str, float]:
    """Values of the metrics by name.

    Args:
        metrics: a name, a callable f(y, outputs), a sequence of these, or a dict by name.
        y: labels (n,), or float targets (n,) or (n, k).
        outputs: (n, k) or (n,).
        weight: (n,) weights of the rows, or None; callables do not get them.

    Returns:
        The values by name. Where an output is NaN so are all but the callables'.

    Raises:
        ValueError: an unknown name, unequal numbers of rows, or a callable's value that is not a
            finite number.

    >>> compute("accuracy", [0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    {'accuracy': 0.6666666666666666}
    """
    target, raw = np.asarray(y), np.asarray(outputs)
    if len(target) != len(raw) or not len(raw):
        raise ValueError(f"y has {len(target)} rows and outputs {len(raw)}; both need as many.")
    table = raw.reshape(len(raw), -1)
    weights = np.ones(len(raw)) if weight is None else np.asarray(weight, dtype=np.float64)
    asked, lost = resolve(metrics), bool(np.isnan(table).any())
    check_outputs(asked, table.shape[1])
    guarded = target.view()
    guarded.flags.writeable = False  # it may be the caller's own, and read-only
    values = {}
    for name, metric in asked.items():
        if not isinstance(metric, str):
            values[name] = check_real(f"metric {name}(y, outputs)", metric(guarded, raw))
        elif lost:
            values[name] = float("nan")
        else:
            values[name] = get_metric(metric).function(target, table, weights)
    return values


def higher_is_better(name: str) -> bool:
    """Which way is up for a recorded name, with or without "validation_" before it.

    Raises:
        ValueError: a name whose direction is not known (a custom metric's).

    >>> higher_is_better("validation_accuracy"), higher_is_better("loss")
    (True, False)
    """
    plain = name.removeprefix("validation_")
    if plain in {"loss", "gradient_norm", "update_norm"}:
        return False
    if plain in METRICS or _TOP.match(plain):
        return get_metric(plain).higher
    raise ValueError(f"monitor={name!r}: which way is up is not known; give mode='max' or 'min'.")


def check_monitor(monitor: Any, mode: Any = None) -> None:
    """Raise TypeError where what is to be watched is no name, ValueError for another mode."""
    if monitor is not None and not isinstance(monitor, str):
        raise TypeError(
            f"monitor={shown(monitor)} must be the name of what the history records, such as "
            "'validation_loss', or None"
        )
    if mode is not None:
        check_name("mode", mode, ("min", "max"))


def monitored(record: Mapping[str, Any], monitor: str | None) -> tuple[str, float]:
    """The name and value to watch in an epoch's record.

    None means the validation loss where there is one, and the loss otherwise.

    Raises:
        ValueError: nothing of that name was recorded.

    >>> monitored({"loss": 0.5, "validation_loss": 0.7}, None)
    ('validation_loss', 0.7)
    """
    if monitor is None:
        monitor = "validation_loss" if record.get("validation_loss") is not None else "loss"
    value = record.get(monitor)
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return monitor, float(value)
    if monitor.startswith("validation_") and not any(k.startswith("validation_") for k in record):
        raise ValueError(
            f"monitor={monitor!r} needs held-out data: fit(..., validation=0.1), or monitor 'loss'."
        )
    numbers = [k for k, v in record.items() if isinstance(v, int | float | np.number)]
    raise unknown_name("monitor", monitor, numbers)


def improves(name: str, value: float, best: float | None, least: float, mode: str | None) -> bool:
    """`value` is better than `best` by more than `least`; NaN and inf never are.

    >>> improves("loss", 0.5, 0.6, 0.0, None), improves("accuracy", 0.5, 0.6, 0.0, None)
    (True, False)
    """
    if not math.isfinite(value):
        return False
    higher = higher_is_better(name) if mode is None else mode == "max"
    return best is None or (value - best > least if higher else best - value > least)
