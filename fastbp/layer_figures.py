"""What was recorded of the layers over a stretch of training, and the ratios of a diagnosis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Root mean square of f' under inputs of variance 1, as the limits of a diagnosis count it: of tanh
# (0.68), silu (0.62), elu (0.82) and the others they take 1.
_SLOPE: Final = {"sigmoid": 0.22, "relu": 0.7, "leaky_relu": 0.7, "softplus": 0.6, "gelu": 0.7}


@dataclass(frozen=True)
class LayerFacts:
    """What the diagnosis has to know of a layer.

    Attributes:
        inputs, units: m and n of W (m, n).
        activation: its name.
        batch_norm: the layer is batch-normalised.
        batch: samples in the batch on which the history's figures were taken; None: many.
    """

    inputs: int
    units: int
    activation: str
    batch_norm: bool = False
    batch: int | None = None

    def __str__(self) -> str:
        return f"{self.inputs} -> {self.units}, {self.activation}"


@dataclass(frozen=True)
class Figures:
    """What was recorded by layer, over a stretch of epochs (medians), and the ratios."""

    layers: Sequence[LayerFacts]
    weight: list[float]
    delta: list[float]
    update: list[float]
    dead: list[float]
    early: bool

    @property
    def gain(self) -> list[float]:
        """w of each layer."""
        return [w / math.sqrt(f.units) for w, f in zip(self.weight, self.layers, strict=True)]

    def share_of_usual(self, layer: int) -> float:
        """w over that of Glorot's start, or over 1 where this is larger."""
        m, n = self.layers[layer].inputs, self.layers[layer].units
        return self.gain[layer] / min(1.0, math.sqrt(2.0 * m / (m + n)))

    def step(self, layer: int) -> float:
        """q from layer + 1 down to layer; NaN where it says nothing."""
        below, above = self.layers[layer], self.layers[layer + 1]
        if below.batch_norm or above.batch_norm or not self.delta[layer + 1] > 0.0:
            return math.nan
        width = math.sqrt(below.units / above.units)
        return self.delta[layer] * width / self.delta[layer + 1]

    def slope(self, layer: int) -> float:
        """The usual root mean square of f' in a layer."""
        facts = self.layers[layer]
        usual = 1.0 / facts.units if facts.activation == "softmax" else 1.0
        return _SLOPE.get(facts.activation, usual)

    def name(self, layer: int) -> str:
        return f"Layer {layer} ({self.layers[layer]})"


def figures_of(
    layers: Sequence[LayerFacts], rows: dict[str, list[list[float]]], early: bool
) -> Figures:
    """Medians over a stretch of epochs, from rows by layer under the history's names."""
    nothing = [math.nan] * len(layers)

    def medians(name: str) -> list[float]:
        columns = list(zip(*rows.get(name, []), strict=True))
        return [_median(column) for column in columns] if columns else nothing

    weight, delta = medians("weight_norm"), medians("delta_rms")
    return Figures(layers, weight, delta, medians("update_norm"), medians("dead_relu"), early)


def _median(values: Sequence[float]) -> float:
    known = sorted(value for value in values if not math.isnan(value))
    return known[len(known) // 2] if known else math.nan
