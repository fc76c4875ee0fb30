"""Metrics by name: asked for, computed, and watched. The metrics themselves are in `scores.py`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .data import as_labels, as_weights
from .epochs import BY_LAYER, SCALARS
from .errors import check_entries, check_name, check_real, shown, unknown_name
from .kernels.tables import LOSSES
from .scores import METRICS, Metric, top

Custom = Callable[[Any, Any], float]
Asked = str | Custom | Iterable[str | Custom] | Mapping[str, str | Custom]

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
        return top(int(match[1]))
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
        if not isinstance(name, str) or name in {"", "epoch", *SCALARS, *BY_LAYER}:
            raise ValueError(f"metrics: {shown(name)} names something else in the history.")
    return named


def check_outputs(metrics: Mapping[str, str | Custom], outputs: int) -> None:
    """Raise ValueError where a metric needs more outputs than a network has."""
    for metric in metrics.values():
        if isinstance(metric, str) and get_metric(metric).outputs > outputs:
            raise ValueError(
                f"metrics: {metric!r} ranks classes, and one output has none; take 'accuracy'."
            )


def _decide_each(loss: str | None, y: NDArray[Any], outputs: int) -> bool:
    """Whether each output is a decision of its own, above 0.5, as `Network.predict` has it.

    The loss says so. One of numbers says nothing: then rows of targets that do not all sum to 1.
    """
    classes = "" if loss is None else LOSSES[loss].classes
    if classes:
        return classes == "each" and outputs > 1
    return y.ndim == 2 and y.shape[1] > 1 and not np.allclose(y.sum(axis=1), 1.0, atol=1e-4)


def compute(
    metrics: Asked,
    y: ArrayLike,
    outputs: ArrayLike,
    weight: ArrayLike | None = None,
    loss: str | None = None,
) -> dict[str, float]:
    """Values of the metrics by name.

    Args:
        metrics: a name, a callable f(y, outputs), a sequence of these, or a dict by name.
        y: labels (n,), or float targets (n,) or (n, k). Of several outputs a vector is labels.
        outputs: (n, k) or (n,).
        weight: (n,) weights of the rows, or None; callables do not get them.
        loss: of the network: whether one output is the class or each decides. None: the targets
            tell, each does where their rows do not all sum to 1.

    Returns:
        The values by name. Where an output is NaN so are all but the callables'.

    Raises:
        ValueError, TypeError: an unknown name, unequal numbers of rows, weights that are negative,
            not finite or all 0, labels that are none, or a callable's value that is not a finite
            number.

    >>> compute("accuracy", [0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    {'accuracy': 0.6666666666666666}
    """
    target, raw = np.asarray(y), np.asarray(outputs)
    if len(target) != len(raw) or not len(raw):
        raise ValueError(f"y has {len(target)} rows and outputs {len(raw)}; both need as many.")
    table = raw.reshape(len(raw), -1)
    if target.ndim == 1 and table.shape[1] > 1:
        target = as_labels(target, table.shape[1], "y")
    weights = np.ones(len(raw))
    if weight is not None:
        weights = as_weights(weight, len(raw), np.float64, "weight")
    asked, lost = resolve(metrics), bool(np.isnan(table).any())
    check_outputs(asked, table.shape[1])
    each = _decide_each(loss, target, table.shape[1])
    # They may be the caller's own, and read-only; and what one metric wrote another would read.
    truth, guess = target.view(), raw.view()
    truth.flags.writeable = guess.flags.writeable = False
    values = {}
    for name, metric in asked.items():
        if not isinstance(metric, str):
            values[name] = check_real(f"metric {name}(y, outputs)", metric(truth, guess))
        elif lost:
            values[name] = float("nan")
        else:
            known = get_metric(metric)
            function = known.each if each and known.each else known.function
            values[name] = function(target, table, weights)
    return values


def higher_is_better(name: str) -> bool:
    """Which way is up for a recorded name, with or without "validation_" before it.

    Raises:
        ValueError: a name whose direction is not known (a custom metric's).

    >>> higher_is_better("validation_accuracy"), higher_is_better("loss")
    (True, False)
    """
    plain = name.removeprefix("validation_")
    if plain == "loss":
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
    return best is None or bool(value - best > least if higher else best - value > least)
