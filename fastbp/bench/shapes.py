"""The networks that are timed: six named shapes, and any other written as `784-128-10:128`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .. import Dense, Network

EPOCHS = 3
"""Epochs of one repeat, one fit: what a fit costs once weighs as little as it does in use."""

# An epoch takes about this much arithmetic, within limits. With 12 steps at least, what the last
# step of an epoch records for the history is a small part, and so is waking the threads.
_WORK, _LEAST, _MOST = 4e9, 12, 600
# A card takes tens of microseconds for any of them: so many bytes of samples, within limits.
_BYTES, _MOST_ON_A_CARD = 2.5e8, 2000

_PATTERN = re.compile(r"(\d+(?:-\d+)+):(\d+)")


@dataclass(frozen=True)
class Shape:
    """A network (widths from the inputs to the outputs) and the size of its batches.

    asked_steps: training steps of an epoch; by default as many as its work asks for.

    Example:
        >>> SHAPES["mnist"].flops
        52363264
    """

    name: str
    widths: tuple[int, ...]
    batch: int
    asked_steps: int | None = None

    @cached_property
    def flops(self) -> int:
        """Floating-point operations of a training step's products.

        Each weight is met by every sample in the forward product, in the gradient of the weights
        and, but for the first layer, in the gradient of the inputs.
        """
        weights = [m * k for m, k in pairwise(self.widths)]
        return 2 * self.batch * (3 * sum(weights) - weights[0])

    @cached_property
    def steps(self) -> int:
        """Training steps of an epoch."""
        return self.asked_steps or int(min(max(_WORK / self.flops, _LEAST), _MOST))

    def on_a_card(self) -> Shape:
        """The same shape with the steps of an epoch on a card, unless others were asked for."""
        many = int(_BYTES / (4 * self.batch * self.widths[0]))
        steps = self.asked_steps or min(max(many, _LEAST), _MOST_ON_A_CARD)
        return replace(self, asked_steps=steps)

    def __str__(self) -> str:
        """The widths and the batch, as `parse` reads them."""
        return f"{'-'.join(map(str, self.widths))}:{self.batch}"


_NAMED: Final = {
    "online": "784-30-10:1",
    "notes": "784-10-10:32",
    "tabular": "20-64-64-2:32",
    "mnist": "784-128-10:128",
    "wide": "784-512-512-10:256",
    "large": "1024-2048-2048-10:512",
}


def parse(text: str, steps: int | None = None) -> Shape:
    """A named shape, or one written as `inputs-units-...-classes:batch`.

    steps: of an epoch; None: see `Shape`.

    Raises:
        ValueError: neither a name nor such a text.

    Example:
        >>> parse("20-16-3:8")
        Shape(name='20-16-3:8', widths=(20, 16, 3), batch=8, asked_steps=None)
    """
    found = _PATTERN.fullmatch(_NAMED.get(text, text))
    widths = tuple(map(int, found[1].split("-"))) if found else ()
    if not found or min(widths) < 1 or widths[-1] < 2 or int(found[2]) < 1:
        raise ValueError(
            f"shape {text!r} is neither one of {', '.join(_NAMED)} nor widths and batch such as "
            "784-128-10:128 (positive, with at least two classes)"
        )
    return Shape(text, widths, int(found[2]), steps)


SHAPES: Final = {name: parse(name) for name in _NAMED}


def network_of(shape: Shape, fields: dict[str, Any] | None = None, **given: Any) -> Network:
    """A network of that shape: hidden layers of relu, softmax and cross entropy at the end.

    fields: of the hidden layers, beside their units; `given`: of the network.

    Example:
        >>> network_of(SHAPES["notes"], {"activation": "tanh"}, dtype="float64").dtype
        dtype('float64')
    """
    inputs, *hidden, classes = shape.widths
    fields = {"activation": "relu", **(fields or {})}
    layers = [Dense(units, **fields) for units in hidden]
    return Network(
        inputs, [*layers, Dense(classes, "softmax")], loss="cross_entropy", seed=0, **given
    )


@dataclass(frozen=True)
class Task:
    """What every peer trains on: start weights, data in the order of the batches, and rates."""

    shape: Shape
    weights: list[NDArray[np.float32]]
    biases: list[NDArray[np.float32]]
    X: NDArray[np.float32]
    y: NDArray[np.int64]
    lr: float = 0.01
    momentum: float = 0.9


def make_task(shape: Shape) -> Task:
    """The same task in every process: drawn from one seed."""
    rng = np.random.default_rng(0)
    pairs = list(pairwise(shape.widths))
    rows = shape.steps * shape.batch
    y = rng.integers(shape.widths[-1], size=rows)
    y[: shape.widths[-1]] = np.arange(shape.widths[-1])[:rows]  # every class, early on
    X: NDArray[Any] = rng.random((rows, shape.widths[0]), dtype=np.float32)
    X[np.arange(rows), y % shape.widths[0]] += 1  # something to learn
    weights = [(rng.standard_normal(pair) * (2 / pair[0]) ** 0.5) for pair in pairs]
    return Task(
        shape,
        [weight.astype(np.float32) for weight in weights],
        [np.zeros(k, np.float32) for _, k in pairs],
        X,
        y.astype(np.int64),
    )
