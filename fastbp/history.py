"""What happened, epoch by epoch: plain lists by name, and ways to look at them."""

from __future__ import annotations

import copy
import os
from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import nearest, plural, shown, unknown_name

if TYPE_CHECKING:
    from .diagnose import Diagnosis, LayerFacts
    from .network import Network
    from .outcome import Outcome
    from .summary import Summary

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


class History:
    """Values of each epoch: a list by name, one entry an epoch.

    `history.loss`, `.validation_loss`, `.lr` and `.seconds` are lists of numbers;
    `.gradient_norm`, `.shift_norm`, `.weight_norm`, `.update_norm`, `.delta_rms` and `.dead_relu`
    have a list of numbers by layer for each epoch. Metrics are in `history.metrics["accuracy"]`, or
    `history["validation_accuracy"]`. A value that an epoch did not give is NaN; a name that no
    epoch gave is an empty list if it is one of the above, and an error otherwise.

    Args:
        columns: lists by name, all of as many values; None: no epochs yet.

    Attributes:
        stopped: why training stopped, in words; "" where all epochs were run.
        best_epoch: the epoch (from 0) whose weights were restored, or None.
        layers: facts about the layers, for `diagnose`.
        summary: the network's table, for `report`; None before a fit.
        outcome: what the network made of the held-out data when the fit ended, for `report`: a
            `fastbp.outcome.Confusion`, `Residuals`, or `Omitted` where there is no such table; None
            without held-out data, and where the fit was cut short.
        start: values by layer before the first step ("weight_norm"), for `diagnose`; empty where
            they were not taken.

    >>> history = History()
    >>> history.append_epoch(loss=0.5, accuracy=0.8)
    >>> history.append_epoch(loss=0.25, accuracy=0.9)
    >>> history.loss, history["accuracy"], len(history)
    ([0.5, 0.25], [0.8, 0.9], 2)
    >>> history
    History(2 epochs: loss 0.5 -> 0.25, accuracy 0.9)
    """

    def __init__(self, columns: Mapping[str, Iterable[Any]] | None = None) -> None:
        self._columns: dict[str, list[Any]] = {}
        self._epochs = 0
        self.stopped = ""
        self.best_epoch: int | None = None
        self.layers: list[LayerFacts] = []
        self.start: dict[str, list[float]] = {}
        self.summary: Summary | None = None
        self.outcome: Outcome | None = None
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

        >>> History({"loss": [0.5, 0.25]}).record()
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

        >>> dict(History({"loss": [0.5, 0.25]}))
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

    def __copy__(self) -> History:
        return copy.deepcopy(self)  # the lists of a history under way grow

    def __repr__(self) -> str:
        parts = []
        for name, column in self._columns.items():
            if name == "loss" and len(column) > 1:
                parts.append(f"loss {column[0]:.4g} -> {column[-1]:.4g}")
            elif name not in {"lr", "seconds"} and not self._by_layer(name):
                parts.append(f"{name} {column[-1]:.4g}")
        if self.best_epoch is not None:
            parts.append(f"best epoch {self.best_epoch}")
        if self.stopped:
            parts.append(f"stopped: {self.stopped}")
        return f"History({plural(len(self), 'epoch')}{': ' if parts else ''}{', '.join(parts)})"

    def to_dict(self) -> dict[str, list[Any]]:
        """The lists by name, copied: plain numbers, ready for JSON or a data frame."""
        return {
            name: [list(value) if isinstance(value, list) else value for value in column]
            for name, column in self._columns.items()
        }

    @classmethod
    def from_dict(
        cls, columns: Mapping[str, Iterable[Any]], stopped: str = "", best_epoch: int | None = None
    ) -> History:
        """A history with these lists, as `to_dict` gives them.

        What is not among them it does not have: `layers`, `start`, `summary` and `outcome`.

        Args:
            columns: lists by name, all of as many values.
            stopped, best_epoch: as the attributes.

        Raises:
            ValueError: the lists are not equally long.

        >>> History.from_dict({"loss": [0.5, 0.25]}).loss
        [0.5, 0.25]
        """
        history = cls(columns)
        history.stopped, history.best_epoch = stopped, best_epoch
        return history

    def memory(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain values, and a float64 array for each name."""
        return {
            "columns": {name: np.array(self[name], np.float64) for name in self if len(self)},
            "stopped": self.stopped,
            "best_epoch": self.best_epoch,
            "layers": [list(astuple(fact)) for fact in self.layers],
            "start": {name: np.array(row, np.float64) for name, row in self.start.items()},
        }

    @classmethod
    def recalled(cls, memory: Mapping[str, Any]) -> History:
        """The history that `memory` was of.

        >>> History.recalled(History({"loss": [0.5, 0.25]}).memory()).loss
        [0.5, 0.25]
        """
        from .layer_figures import LayerFacts

        history = cls({name: rows.tolist() for name, rows in memory["columns"].items()})
        history.stopped, best = memory["stopped"], memory["best_epoch"]
        if not isinstance(history.stopped, str) or not isinstance(best, int | None):
            raise ValueError("its history says neither why it stopped nor where it was best")
        history.best_epoch = best
        history.layers = [LayerFacts(*fact) for fact in memory["layers"]]
        history.start = {name: row.tolist() for name, row in memory["start"].items()}
        return history

    def to_array(self) -> NDArray[Any]:
        """A structured array, one row an epoch: "epoch", and a float64 field for each name.

        Values by layer are a field of shape (layers,).

        >>> History({"loss": [0.5, 0.25]}).to_array()["loss"]
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

    def diagnose(self) -> Diagnosis:
        """Which layers vanish, explode or are dead, and what to try: to be printed, or read.

        See `fastbp.diagnose`.
        """
        from .diagnose import diagnose

        return diagnose(self, self.layers)

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw loss, metrics, rate and the layers' gradient norms against the epochs.

        Args:
            path: where to write the picture; its ending gives the format. None: write nothing.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed (extra `plot`).
            ValueError: there are no epochs to draw, or an ending that matplotlib does not know.
            OSError: the file cannot be written.
        """
        from .plotting import plot_history

        return plot_history(self, path)

    def report(
        self,
        path: str | Path,
        *,
        network: Network | None = None,
        data: tuple[Any, Any] | None = None,
        title: str | None = None,
        classes: Sequence[Any] | None = None,
    ) -> None:
        """Write one self-contained HTML page: curves, results, the network, the diagnosis.

        Curves answer to the pointer, fingers and arrow keys. Nothing is loaded from elsewhere.
        Confusion matrix or predictions against truth are of the held-out data of the fit.

        Args:
            path: where to write it, whole or not at all.
            network, data: judge this network by these (X, y) instead.
            title: of the page.
            classes: names of the classes, in order; None: their numbers.

        Raises:
            ValueError, TypeError: there are no epochs; only one of network and data; another number
                of names than of classes; bad data.
            OSError: the file cannot be written.
        """
        from .outcome import Confusion, outcome_of
        from .report import write_report

        if not len(self):
            raise ValueError("history.report: there are no epochs to report; call fit first.")
        if (network is None) != (data is None):
            raise ValueError("history.report: give network and data, or neither of them")
        if data is not None and (not isinstance(data, tuple | list) or len(data) != 2):
            raise TypeError("history.report: data must be (X, y)")
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"history.report: path={shown(path)} must be a file's name")
        if not isinstance(title, str | None):
            raise TypeError(f"history.report: title={shown(title)} must be a text")
        summary, outcome = self.summary, self.outcome
        if network is not None and data is not None:
            summary, outcome = network.summary(), outcome_of(network, *data)
        names = None if classes is None else [str(name) for name in classes]
        counted = len(outcome.counts) if isinstance(outcome, Confusion) else None
        if names is not None and counted is not None and len(names) != counted:
            raise ValueError(f"classes has {len(names)} names, and there are {counted} classes")
        write_report(self, Path(path), summary, outcome, title, names)

    def _repr_html_(self) -> str:
        from .report import notebook

        return notebook(self)


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
