"""Values by name, one an epoch: plain lists, reached as a dict's and as attributes."""

from __future__ import annotations

from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import nearest, shown, unknown_name

SCALARS: Final = {
    "loss": "mean of the losses met during the epoch, weighted as the samples",
    "validation_loss": "mean loss of the held-out data after it",
    "lr": "rate of its last step",
    "seconds": "time it took",
}

BY_LAYER: Final = {
    "gradient_norm": "||dL/dW|| of its last step, before it is clipped",
    "shift_norm": "norm of the gradients of b, gamma and beta, likewise",
    "weight_norm": "||W|| after it",
    "update_norm": "||change of W|| in its last step",
    "delta_rms": "root mean square of dL/dZ over batch and units, in its last step",
    "dead_relu": "share of relu units that were active for no sample of its last step for which "
    "dropout kept them; those that it kept for none are left out",
}


class Epochs:
    """The lists of a `History`.

    Args:
        columns: lists by name, all of as many values; None: no epochs yet.

    Raises:
        ValueError: the lists are not equally long.
    """

    # For checkers of types and editors: without values, so that names reach __getattr__.
    loss: list[float]
    validation_loss: list[float]
    lr: list[float]
    seconds: list[float]
    gradient_norm: list[list[float]]
    shift_norm: list[list[float]]
    weight_norm: list[list[float]]
    update_norm: list[list[float]]
    delta_rms: list[list[float]]
    dead_relu: list[list[float]]

    def __init__(self, columns: Mapping[str, Iterable[Any]] | None = None) -> None:
        self._columns: dict[str, list[Any]] = {}
        self._epochs = 0
        if columns is not None:
            lists = {name: list(values) for name, values in columns.items()}
            if len(lengths := {len(values) for values in lists.values()}) > 1:
                raise ValueError(
                    f"columns has lists of {sorted(lengths)} values; every name needs one an epoch"
                )
            for row in zip(*lists.values(), strict=True):
                self.append_epoch(**dict(zip(lists, row, strict=True)))

    def append_epoch(self, /, **values: Any) -> None:
        """Add an epoch's values by name: numbers, or sequences of them by layer; None is none."""
        given = {name: _plain(value) for name, value in values.items() if value is not None}
        for name, value in given.items():
            if self._columns.get(name) and self._by_layer(name) != isinstance(value, list):
                raise ValueError(f"{name}={shown(value)} is of another form than in epochs before")
        for name, value in given.items():
            if name not in self._columns:
                self._columns[name] = [_missing(value) for _ in range(self._epochs)]
        for name, column in self._columns.items():
            del column[self._epochs :]  # an append that Ctrl-C cut short
            column.append(given[name] if name in given else _missing(column[-1]))
        self._epochs += 1

    def record(self, epoch: int = -1) -> dict[str, Any]:
        """The values of one epoch by name, its place under "epoch"; the last one by default.

        Raises:
            IndexError: there is no such epoch.

        >>> Epochs({"loss": [0.5, 0.25]}).record()
        {'epoch': 1, 'loss': 0.25}
        """
        place = epoch + self._epochs if epoch < 0 else epoch
        if not 0 <= place < self._epochs:
            raise IndexError(f"epoch={epoch} is not there: the history has {self._epochs}.")
        return {"epoch": place} | {name: column[place] for name, column in self._columns.items()}

    @property
    def metrics(self) -> dict[str, list[float]]:
        """The metrics' lists by name, those of held-out data under "validation_" + name."""
        own = {*SCALARS, *BY_LAYER}
        return {
            name: column
            for name, column in self._columns.items()
            if name not in own and not self._by_layer(name)
        }

    def _by_layer(self, name: str) -> bool:
        """The values of a name are lists, one entry a layer."""
        return isinstance(next(iter(self._columns[name]), None), list)

    def __getitem__(self, name: str) -> list[Any]:
        if name in self._columns:
            return self._columns[name]
        if name in SCALARS or name in BY_LAYER:
            return []
        raise KeyError(str(unknown_name("history", name, self._columns)))

    if not TYPE_CHECKING:  # a checker that saw it would take any name

        def __getattr__(self, name: str) -> list[Any]:
            # Reached only for names that are no attributes: the columns, and while unpickling.
            if not name.startswith("_"):
                if name in SCALARS or name in BY_LAYER or name in self._columns:
                    return self[name]
                guess = nearest(name, [*self._columns, *SCALARS, *BY_LAYER])
                hint = f"; did you mean {guess!r}?" if guess else "."
                raise AttributeError(f"the history has no {name!r}{hint}")
            raise AttributeError(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._columns, *SCALARS, *BY_LAYER})

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def keys(self) -> KeysView[str]:
        """The names, as of a dict: `dict(history)` has the lists by name.

        >>> dict(Epochs({"loss": [0.5, 0.25]}))
        {'loss': [0.5, 0.25]}
        """
        return self._columns.keys()

    def values(self) -> ValuesView[list[Any]]:
        """The lists, in the order of `keys`."""
        return self._columns.values()

    def items(self) -> ItemsView[str, list[Any]]:
        """Names and lists."""
        return self._columns.items()

    def __len__(self) -> int:
        return self._epochs

    def __bool__(self) -> bool:
        return True

    def to_dict(self) -> dict[str, list[Any]]:
        """The lists by name, copied: plain numbers, ready for JSON or a data frame."""
        return {
            name: [list(value) if isinstance(value, list) else value for value in column]
            for name, column in self._columns.items()
        }

    def to_array(self) -> NDArray[Any]:
        """A structured array, one row an epoch: "epoch", and a float64 field for each name.

        Values by layer are a field of shape (layers,).

        >>> Epochs({"loss": [0.5, 0.25]}).to_array()["loss"]
        array([0.5 , 0.25])
        """
        fields: list[Any] = [("epoch", np.int64)]
        for name, column in self._columns.items():
            sample = column[0] if column else 0.0
            shape = (len(sample),) if isinstance(sample, list) else ()
            fields.append((name, np.float64, shape))
        array = np.zeros(len(self), dtype=fields)
        array["epoch"] = np.arange(len(self))
        for name, column in self._columns.items():
            array[name] = column
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a history is lists: an array of it is a copy")
        return self.to_array() if dtype is None else self.to_array().astype(dtype)


def _plain(value: Any) -> Any:
    """A float, or a list of floats for values by layer."""
    if type(value) is float:  # nearly all are, and NumPy takes a microsecond to find out
        return value
    if np.ndim(value) == 0:
        return float(value)
    return [float(item) for item in value]


def _missing(alike: Any) -> Any:
    """NaN in the form of another plain value."""
    return [float("nan")] * len(alike) if isinstance(alike, list) else float("nan")
