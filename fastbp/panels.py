"""What there is to draw of a history: `History.plot` and the report draw the same panels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .history import History


class Panel(NamedTuple):
    """Curves over the epochs.

    Attributes:
        title: above it.
        note: what the numbers are.
        curves: values by name; NaN leaves a gap.
        log: a logarithmic axis suits it, where `logarithmic` says so of its values.
        ordered: the curves are steps of one thing (layers): shades, not colours.
        marked: the best epoch is to be seen in it.
    """

    title: str
    note: str
    curves: Mapping[str, Sequence[float]]
    log: bool = False
    ordered: bool = False
    marked: bool = False


def panels(history: History) -> list[Panel]:
    """The panels that there is something to show in."""
    labels = {"loss": "training", "validation_loss": "held out"}
    loss = {label: history[name] for name, label in labels.items() if name in history}
    metrics = {word(name, history): values for name, values in history.metrics.items()}
    rate = {"rate": history.lr} if "lr" in history else {}
    by_layer = zip(*history.gradient_norm, strict=True)
    norms = {f"layer {layer}": list(values) for layer, values in enumerate(by_layer)}
    every = [
        Panel("Loss", "mean of the samples' losses", loss, log=True, marked=True),
        Panel("Metrics", "after each epoch", metrics, marked=True),
        Panel("Rate", "step size of an epoch's last step", rate, log=True),
        Panel("Gradient norm", "||dL/dW|| of an epoch's last step, by layer", norms,
              log=True, ordered=True),
    ]  # fmt: skip
    return [panel for panel in every if panel.curves]


def word(name: str, history: History) -> str:
    """A metric's name in words, unless another metric's would be the same."""

    def plain(name: str) -> str:
        held = "held-out " if name.startswith("validation_") else ""
        return held + name.removeprefix("validation_").replace("_", " ").strip()

    alone = [plain(other) for other in history.metrics].count(plain(name)) == 1
    return plain(name) if alone else name


def logarithmic(values: Iterable[float]) -> bool:
    """A logarithmic axis shows these better: all that are finite are above 0, and spread.

    >>> logarithmic([1.0, float("nan"), 0.01]), logarithmic([1.0, 2.0]), logarithmic([0.0, 9.0])
    (True, False, False)
    """
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > 3
