"""Layers: `Dense`, an immutable description, and `Layer`, the same bound to a network's numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canonical import as_array, as_floats
from .errors import (
    check_flag,
    check_integer,
    check_name,
    check_not_negative,
    check_positive,
    check_probability,
    shown,
)
from .initializers import INITIALIZERS
from .kernels.layout import BN_AFTER, BN_BEFORE, BN_NONE, FORMS, LayerSpec
from .kernels.tables import ACTIVATIONS

if TYPE_CHECKING:
    from .parameters import Parameters

_POSITIONS = {"before": BN_BEFORE, "after": BN_AFTER}


@dataclass(frozen=True)
class BatchNorm:
    """How a layer is batch-normalised (notes 004, section 6.8.3; Ioffe and Szegedy, 2015).

    Args:
        position: "before" the activation, where beta replaces the bias, or "after" it.
        form: "sqrt": (Z - mean) / sqrt(variance + eps), what exchange formats mean; "sigma":
            (Z - mean) / (sigma + eps), as the notes print it.
        eps: above 0.
        momentum: weight of a batch's statistics in the running ones, above 0 and at most 1
            (PyTorch's meaning; Keras and ONNX give the weight of the old).

    Raises:
        ValueError, TypeError: an argument out of its range.

    >>> BatchNorm().position
    'before'
    """

    position: str = "before"
    form: str = "sqrt"
    eps: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        check_name("position", self.position, _POSITIONS)
        check_name("form", self.form, FORMS)
        object.__setattr__(self, "eps", check_positive("eps", self.eps))
        object.__setattr__(self, "momentum", _momentum(self.momentum))


@dataclass(frozen=True)
class Dense:
    """A fully connected layer: A = f(X W + b), with batch norm and dropout where asked.

    The order is linear, batch norm "before", activation, batch norm "after", dropout.

    Args:
        units: outputs n, at least 1.
        activation: a name in the table of activations.
        batch_norm: False; True for `BatchNorm()`; "before" or "after"; or a `BatchNorm`.
        dropout: probability of dropping a unit's output in training, in [0, 1); kept ones are
            scaled by 1 / (1 - dropout), so inference needs nothing.
        init: how weights are drawn; None: the activation's default (he_normal for the relu family,
            glorot_uniform for others).
        init_scale: for "normal" the standard deviation (None: 1 / sqrt(inputs)), for others a
            factor.
        bias_init: how biases are drawn: "zeros" or a name as for `init`.

    Raises:
        ValueError, TypeError: a field is out of range or unknown; the message names it.

    >>> Dense(128, "relu", batch_norm=True, dropout=0.2).batch_norm.position
    'before'
    """

    units: int
    activation: str = "identity"
    batch_norm: Any = False
    dropout: float = 0.0
    init: str | None = None
    init_scale: float | None = None
    bias_init: str = "zeros"

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", check_integer("units", self.units, least=1))
        check_name("activation", self.activation, ACTIVATIONS)
        object.__setattr__(self, "batch_norm", _batch_norm(self.batch_norm))
        object.__setattr__(self, "dropout", check_probability("dropout", self.dropout))
        if self.init is not None:
            check_name("init", self.init, INITIALIZERS)
        if self.init_scale is not None:
            scale = check_not_negative("init_scale", self.init_scale)
            object.__setattr__(self, "init_scale", scale)
        check_name("bias_init", self.bias_init, INITIALIZERS)

    def spec(self, inputs: int) -> LayerSpec:
        """The layer as the kernels see it."""
        norm = self.batch_norm
        if not norm:
            return LayerSpec(inputs, self.units, self.activation, BN_NONE, dropout=self.dropout)
        return LayerSpec(
            inputs,
            self.units,
            self.activation,
            _POSITIONS[norm.position],
            FORMS[norm.form],
            norm.eps,
            norm.momentum,
            self.dropout,
        )


def _momentum(value: Any) -> float:
    """A weight above 0 and at most 1 (1: the last batch alone)."""
    number = check_positive("momentum", value)
    if number > 1.0:
        raise ValueError(f"momentum={shown(value)} must be above 0 and at most 1; 0.1 is usual")
    return number


def _batch_norm(value: Any) -> BatchNorm | bool:
    if isinstance(value, BatchNorm):
        return value
    if isinstance(value, str):
        return BatchNorm(check_name("batch_norm", value, _POSITIONS))
    if isinstance(value, bool | np.bool_):
        return BatchNorm() if check_flag("batch_norm", value) else False
    raise TypeError(
        f"batch_norm={shown(value)} must be True, False, 'before', 'after' or a BatchNorm(...)"
    )


class Layer:
    """One layer of a network: the fields of its `Dense`, and views into the network's numbers.

    `W` (inputs, units), `b` (units,) and, with batch norm, `gamma`, `beta`, `running_mean` and
    `running_variance` (units,); None where the layer has none. Views are writable, and assigning
    to one copies into it.

    Attributes:
        index: the layer's place, from 0.
        inputs: features of its input.
        description: its `Dense`.

    Raises:
        ValueError, TypeError: numbers of another shape or kind are assigned.
        AttributeError: anything else is.

    >>> import fastbp
    >>> layer = fastbp.Network(2, [Dense(3, "relu")]).layers[0]
    >>> layer.W.shape, layer.activation, layer.gamma is None
    ((2, 3), 'relu', True)
    """

    _NUMBERS = ("W", "b", "gamma", "beta", "running_mean", "running_variance")

    # For checkers of types and editors: without values, so that names reach __getattr__. Numbers
    # read as an array or None, and take whatever broadcasts to their shape.
    W: Any
    b: Any
    gamma: Any
    beta: Any
    running_mean: Any
    running_variance: Any
    units: int
    activation: str
    batch_norm: Any
    dropout: float
    init: str | None
    init_scale: float | None
    bias_init: str

    def __init__(self, network: Parameters, index: int, description: Dense, inputs: int) -> None:
        self._network = network
        self.index = index
        self.description = description
        self.inputs = inputs

    if not TYPE_CHECKING:  # a checker that saw it would take any name

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name == "description":
                raise AttributeError(name)
            if name in self._NUMBERS:
                return self._network._view(self.index, name)
            return getattr(self.description, name)

    def __dir__(self) -> list[str]:
        described = [field.name for field in fields(self.description)]
        return sorted({*super().__dir__(), *self._NUMBERS, *described})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in {"_network", "index", "description", "inputs"} and name not in vars(self):
            super().__setattr__(name, value)
            return
        if name not in self._NUMBERS:
            raise AttributeError(
                f"{name} cannot be set: only the numbers of a layer change "
                f"({', '.join(self._NUMBERS)}); build another Network"
            )
        view = self._network._view(self.index, name)
        if view is None:
            raise ValueError(f"layer {self.index} has no {name}; it cannot be set")
        view[...] = _as_shape(name, value, view)

    def __repr__(self) -> str:
        shown_fields = (
            f"{f.name}={getattr(self.description, f.name)!r}"
            for f in fields(self.description)
            if getattr(self.description, f.name) != f.default
        )
        return f"Layer({self.index}, inputs={self.inputs}, {', '.join(shown_fields)})"


def _as_shape(name: str, value: ArrayLike, view: NDArray[Any]) -> NDArray[Any]:
    array = as_array(value, name)
    if array.shape not in {view.shape, ()}:
        raise ValueError(
            f"{name} has shape {array.shape}; it must be {view.shape}, as the network's"
        )
    return as_floats(np.broadcast_to(array, view.shape), view.dtype, name)
