"""The network that an estimator's parameters describe, drawn as scikit-learn draws it."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

import numpy as np

from ..engine import Array
from ..errors import check_name, shown
from ..kernels.tables import ACTIVATIONS
from ..layers import BatchNorm, Dense
from ..network import Network

NAMES: Final = {"logistic": "sigmoid"}
"""scikit-learn's names of activations that are called otherwise here."""


def hidden_sizes(hidden_layer_sizes: Any) -> list[int]:
    """The widths of the hidden layers as a list; one number is one layer.

    >>> hidden_sizes(50), hidden_sizes((50, 20))
    ([50], [50, 20])
    """
    one = not hasattr(hidden_layer_sizes, "__iter__")
    sizes = [hidden_layer_sizes] if one else list(hidden_layer_sizes)
    if not all(isinstance(size, numbers.Integral) for size in sizes):
        raise TypeError(f"hidden_layer_sizes must be whole numbers, one a layer, got {sizes}.")
    if np.any(np.array(sizes) <= 0):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return sizes


def spread(argument: str, value: Any, layers: int) -> list[Any]:
    """One value for each of `layers` hidden layers: the same for all, or a sequence of them.

    >>> spread("dropout", 0.2, 2), spread("dropout", [0.2, 0.5], 2)
    ([0.2, 0.2], [0.2, 0.5])
    """
    if isinstance(value, str | bool | int | float | BatchNorm) or not isinstance(value, Iterable):
        return [value] * layers
    values = list(value)
    if len(values) != layers:
        raise ValueError(
            f"{argument}={shown(value)} has {len(values)} entries for {layers} hidden layers; give "
            "one for each, or one value for all"
        )
    return values


def activation_names(estimator: Any, layers: int) -> list[str]:
    """Our names of the hidden layers' activations."""
    given = estimator.activations
    if given is None:
        return [NAMES.get(estimator.activation, estimator.activation)] * layers
    names = [NAMES.get(name, name) for name in spread("activations", given, layers)]
    return [check_name("activations", name, (*ACTIVATIONS, *NAMES)) for name in names]


def build(estimator: Any, units: list[int], dtype: Any, seed: int = 0) -> Network:
    """A network of `units` (inputs, hidden widths, outputs) by the estimator's parameters."""
    hidden = len(units) - 2
    columns = (
        activation_names(estimator, hidden),
        spread("batch_norm", estimator.batch_norm, hidden),
        spread("dropout", estimator.dropout, hidden),
    )
    layers = [
        Dense(n, activation, batch_norm=norm, dropout=dropout)
        for n, activation, norm, dropout in zip(units[1:-1], *columns, strict=True)
    ]
    end = estimator.out_activation_
    layers.append(Dense(units[-1], NAMES.get(end, end)))
    return Network(
        units[0],
        layers,
        loss=estimator._loss_name(),
        dtype=dtype,
        seed=seed,
        device=estimator.device,
        precision=estimator.precision,
    )


def draw(net: Network, activation: str, random_state: np.random.RandomState) -> None:
    """Weights and biases from `random_state`, in scikit-learn's order and bounds.

    Uniform within sqrt(6 / (inputs + units)), sqrt(2 / ...) where the hidden units are logistic
    (Glorot and Bengio, 2010), or would be: `activation` counts where there are none. With batch
    norm the drawn biases are not used.
    """
    hidden = [layer.activation for layer in net.layers[:-1]] or [NAMES.get(activation, activation)]
    factors = [2.0 if name == "sigmoid" else 6.0 for name in (*hidden, hidden[-1])]
    for layer, factor in zip(net.layers, factors[-len(net.layers) :], strict=True):
        bound = np.sqrt(factor / (layer.inputs + layer.units))
        layer.W = random_state.uniform(-bound, bound, (layer.inputs, layer.units))
        biases = random_state.uniform(-bound, bound, layer.units)
        if layer.b is not None:
            layer.b = biases


def coefficients(net: Network) -> tuple[list[Array], list[Array]]:
    """Views of the weights and of the biases, layer by layer; beta is the bias of a batch norm."""
    biases = [layer.beta if layer.b is None else layer.b for layer in net.layers]
    return [layer.W for layer in net.layers], biases


def dtype_of(coefs: list[Any]) -> np.dtype[Any]:
    """float32 if no weight matrix is of more than that, else float64: what can hold them all.

    >>> dtype_of([np.zeros((2, 1), np.float32), np.zeros((1, 1), np.int64)])
    dtype('float64')
    """
    common = np.result_type(*(np.asarray(W).dtype for W in coefs), np.float32)
    return common if common == np.float32 else np.dtype(np.float64)


def units_of(coefs: list[Any]) -> list[int]:
    """Inputs, hidden widths and outputs of weight matrices in turn.

    >>> units_of([np.zeros((4, 3)), np.zeros((3, 1))])
    [4, 3, 1]
    """
    shapes = [np.shape(W) for W in coefs]
    if any(a[1] != b[0] for a, b in pairwise(shapes)):
        raise ValueError(f"coefs_ have the shapes {shapes}, which do not follow one another")
    return [shapes[0][0], *(shape[1] for shape in shapes)]
