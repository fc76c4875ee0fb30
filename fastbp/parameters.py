"""A network's numbers: one flat vector of parameters, running statistics, views of both.

And what cannot change about it, as they would no longer fit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canonical import as_array, as_floats
from .engine import Array, aligned
from .errors import check_seed
from .exclusive import unmarked
from .initializers import initialize, initialize_bias
from .kernels.layout import LayerSpec, Slots
from .kernels.tables import ACTIVATIONS
from .layers import Layer

_FIXED: Final = {
    "inputs": "build another Network",
    "layers": "build another Network, or set a layer's numbers, net.layers[0].W = ...",
    "dtype": "build another Network, and give it these parameters",
    "device": "move the network, net.to('cuda')",
}
"""What a network keeps from its start, and the way out."""


class Parameters:
    """What a `Network` holds; copies of it own their memory."""

    dtype: np.dtype[Any]
    layers: tuple[Layer, ...]
    _specs: list[LayerSpec]
    _slots: list[Slots]
    _parameters: Array
    _running: Array
    _settle: Callable[[], None]
    _hand_out: Callable[..., None]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in vars(self):
            raise AttributeError(f"{name} cannot be set: {_FIXED[name]}")
        if not name.startswith("_") and callable(getattr(type(self), name, None)):
            raise AttributeError(f"{name} cannot be set: it is a method; build another Network")
        if name == "seed":
            value = check_seed(value)
        super().__setattr__(name, value)

    def initialize(self, seed: int) -> None:
        """Draw all weights and biases anew; gamma 1, beta 0, running mean 0, variance 1.

        Args:
            seed: from 0; the same numbers for the same seed, whatever was there before. Each
                layer's `init` says how, by default as its activation has it (`initializers`).
        """
        for index, layer in enumerate(self.layers):
            d, m = layer.description, layer.inputs
            init = d.init or ACTIVATIONS[d.activation].init
            how = m, d.units, d.init_scale, seed, index
            initialize(init, *how, out=layer.W)
            if layer.b is not None:
                initialize_bias(d.bias_init, *how, out=layer.b)
            if layer.gamma is not None:
                layer.gamma, layer.beta = 1.0, 0.0
                layer.running_mean, layer.running_variance = 0.0, 1.0

    @property
    def parameters(self) -> Array:
        """Every parameter in one flat, contiguous vector (P,): by layer W, b, gamma, beta.

        It is writable, and what is assigned is copied into it: ValueError for another shape or a
        number that the network's dtype cannot hold.
        """
        self._hand_out()
        return self._parameters

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        array = as_array(values, "parameters")
        if array.shape != self._parameters.shape:
            raise ValueError(
                f"parameters has shape {array.shape}; this network has {self._parameters.shape}"
            )
        self.parameters[...] = as_floats(array, self.dtype, "parameters")

    def _view(self, index: int, name: str) -> NDArray[Any] | None:
        self._hand_out()
        slot, spec = self._slots[index], self._specs[index]
        n = spec.units
        if name == "W":
            return self._parameters[slot.W : slot.W + spec.inputs * n].reshape(spec.inputs, n)
        if name in {"running_mean", "running_variance"}:
            start = slot.running + (n if name == "running_variance" else 0)
            return None if slot.running < 0 else self._running[start : start + n]
        start = getattr(slot, name)
        return None if start < 0 else self._parameters[start : start + n]

    def tensors(self) -> dict[str, Array]:
        """Views of all parameters and running statistics by name: "layers.0.W", ..."""
        views = {}
        for index, layer in enumerate(self.layers):
            for name in Layer._NUMBERS:
                if (view := getattr(layer, name)) is not None:
                    views[f"layers.{index}.{name}"] = view
        return views

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        return {**unmarked(self.__dict__), "_workspaces": [], "_card_made": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Copies own aligned memory of their own.
        for name in ("_parameters", "_running"):
            old = self.__dict__[name]
            self.__dict__[name] = fresh = aligned(old.size, self.dtype)
            fresh[...] = old
