"""What a network is made of, checked: layers and settings; and how it is kept and made again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import DTypeLike

from . import io
from .devices import check_device, check_place
from .engine import Workspace, aligned
from .errors import check_entries, check_integer, check_name, shown
from .exclusive import is_training
from .kernels.cpu.bf16 import is_bf16
from .kernels.layout import parameter_slots
from .kernels.values import MOST_LAYERS
from .layers import BatchNorm, Dense, Layer
from .losses import choose_loss
from .parameters import Parameters

if TYPE_CHECKING:
    from .cuda.card import Card


class Architecture(Parameters):
    """The description of a `Network`."""

    device: str
    inputs: int
    _precision: str | None
    _loss_name: str
    _reduction: str
    _card_made: Card | None

    def _describe(
        self,
        inputs: int,
        layers: Sequence[Dense],
        *,
        loss: str | None = None,
        dtype: DTypeLike = "float32",
        seed: int = 0,
        reduction: str = "mean",
        device: str = "cpu",
        precision: str | None = None,
    ) -> None:
        """All of a network but its numbers, which are 0."""
        self.inputs = check_integer("inputs", inputs, least=1)
        self.dtype = _dtype(dtype)
        self.seed = seed
        self._reduction = check_name("reduction", reduction, ("mean", "sum"))
        self.device = check_device(device)
        self._card_made = None
        is_bf16(precision, self.dtype)
        check_place(self.device, precision)
        self._precision = precision
        self.layers = self._bind(layers)
        self._loss_name = choose_loss(loss, self.layers[-1].description, len(self.layers) - 1)
        self._specs = [layer.description.spec(layer.inputs) for layer in self.layers]
        self._slots, size, running = parameter_slots(self._specs)
        try:
            self._parameters = aligned(size, self.dtype)
        except (MemoryError, ValueError):  # NumPy's words for sizes beyond 2^63
            raise no_memory(size, self.dtype) from None
        self._running = aligned(running, self.dtype)
        self._workspaces: list[Workspace] = []
        # Two operations a weight in each of three products; one in float64 counts twice.
        weights = sum(spec.inputs * spec.units for spec in self._specs)
        self._work_a_row = 3 * 2 * weights * self.dtype.itemsize // 4

    def _bind(self, layers: Sequence[Dense]) -> tuple[Layer, ...]:
        if isinstance(layers, Dense):
            layers = [layers]
        allowed = "a sequence of fastbp.Dense(...)"
        if isinstance(layers, set | frozenset | dict):
            raise TypeError(f"layers={shown(layers)} has no order; give {allowed}")
        entries = check_entries("layers", layers, allowed)
        bound, width = [], self.inputs
        for index, layer in enumerate(entries):
            if not isinstance(layer, Dense):
                raise TypeError(f"layers[{index}]={shown(layer)} must be a fastbp.Dense(...)")
            if index == MOST_LAYERS:
                raise ValueError(f"layers has more than {MOST_LAYERS} entries")
            least, norm = float(np.finfo(self.dtype).tiny), layer.batch_norm
            if norm and norm.eps < least:  # it would count as 0, and a constant column as 0 / 0
                raise ValueError(
                    f"layers[{index}].batch_norm.eps={norm.eps:g} must be at least {least:.3g}, "
                    f"the least normal number of {self.dtype}; 1e-5 is usual"
                )
            bound.append(Layer(self, index, layer, width))
            width = layer.units
        if not bound:
            raise ValueError("layers is empty; give at least one Dense(...), the output layer")
        return tuple(bound)

    @property
    def reduction(self) -> str:
        """What becomes of the samples' losses, "mean" or "sum"; as the network was made."""
        return self._reduction

    @property
    def loss_name(self) -> str:
        """Name of the loss, one of `fastbp.kernels.tables.LOSSES`; as the network was made."""
        return self._loss_name

    @property
    def precision(self) -> str | None:
        """Of the operands of products: None, as `dtype`, or "bfloat16"; may be set between fits."""
        return self._precision

    @precision.setter
    def precision(self, precision: str | None) -> None:
        is_bf16(precision, self.dtype)
        check_place(self.device, precision)
        if is_training(self):
            raise RuntimeError(
                f"precision={precision!r} was set while the network is trained; set it between fits"
            )
        self._precision = precision
        self._workspaces = []

    def architecture(self) -> dict[str, Any]:
        """The network without its numbers, as plain JSON types; `from_architecture` reads it.

        >>> import fastbp
        >>> fastbp.Network(2, [fastbp.Dense(1)]).architecture()["loss"]
        'squared_error'
        """
        return {
            "inputs": self.inputs,
            "layers": [asdict(layer.description) for layer in self.layers],
            "loss": self.loss_name,
            "reduction": self.reduction,
            "dtype": self.dtype.name,
            "precision": self.precision,
            "seed": self.seed,
        }

    @classmethod
    def from_architecture(cls, architecture: Mapping[str, Any]) -> Self:
        """A network from what `architecture()` gave; its numbers are 0 until they are set.

        Raises:
            KeyError, TypeError, ValueError: it is something else.

        >>> import fastbp
        >>> net = fastbp.Network(2, [fastbp.Dense(1)])
        >>> fastbp.Network.from_architecture(net.architecture())
        Network(2-1, identity, loss='squared_error', float32, 3 parameters)
        """
        fields = dict(architecture)
        if "device" in fields:
            raise ValueError("an architecture has no device; net.to(device) moves a network")
        layers = []
        for entry in fields.pop("layers"):
            entry = dict(entry)
            norm = entry.get("batch_norm", False)
            if isinstance(norm, Mapping):
                entry["batch_norm"] = BatchNorm(**norm)
            layers.append(Dense(**entry))
        net = cls.__new__(cls)
        net._describe(fields.pop("inputs"), layers, **fields)
        return net

    def save(self, path: str | os.PathLike[str]) -> None:
        """Store architecture, parameters and running statistics as safetensors.

        A file that is there is replaced when the new one is whole, or stays as it is.

        Args:
            path: the file.

        Raises:
            OSError: the file cannot be written.

        >>> import fastbp
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/net.safetensors"
        >>> fastbp.Network(2, [fastbp.Dense(1)]).save(path)
        >>> fastbp.Network.load(path)
        Network(2-1, identity, loss='squared_error', float32, 3 parameters)
        """
        io.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, precision: str | None = "stored") -> Self:
        """A network that `save` wrote; the file is distrusted and runs no code.

        Args:
            path: the file.
            precision: "stored": the file's; else as for `Network`, whatever the file says.

        Raises:
            ValueError, TypeError: the file is no such network, is damaged, or is of a newer format;
                or an argument is of another kind.
            RuntimeError: its products are of bfloat16 and cannot be here; give precision=None.
            OSError: the file cannot be read.
        """
        if precision is not None:
            check_name("precision", precision, ["stored", "bfloat16"])
        return io.load(path, cls, {} if precision == "stored" else {"precision": precision})


def _dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        kind = None if dtype is None else np.dtype(dtype)
    except Exception:  # noqa: BLE001 - NumPy shows the value, whose repr may fail
        kind = None
    # NumPy takes None for float64, in comparisons, too.
    if kind is None or kind.name not in {"float32", "float64"} or not kind.isnative:
        raise ValueError(f"dtype={shown(dtype)} must be 'float32' or 'float64'")
    return kind


def no_memory(parameters: int, dtype: Any) -> MemoryError:
    """The error of a network that is too large for this machine."""
    count = f"{parameters:,}" if parameters < 2**63 else "over 2^63"
    return MemoryError(f"layers: this machine has no memory for {count} parameters in {dtype}")
