"""What happened, epoch by epoch: plain lists by name, and ways to look at them."""

from __future__ import annotations

import copy
from collections.abc import (
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .epochs import Epochs
from .errors import plural

if TYPE_CHECKING:
    from .diagnose import Diagnosis, LayerFacts
    from .network import Network
    from .outcome import Outcome
    from .summary import Summary


class History(Epochs):
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
        super().__init__(columns)
        self.stopped = ""
        self.best_epoch: int | None = None
        self.layers: list[LayerFacts] = []
        self.start: dict[str, list[float]] = {}
        self.summary: Summary | None = None
        self.outcome: Outcome | None = None

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

        >>> history = History({"loss": [0.5, 0.25], "lr": [0.1, 0.1]})
        >>> [axes.get_title() for axes in history.plot().axes]
        ['Loss', 'Rate']
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

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     page = Path(folder, "run.html")
        ...     History({"loss": [0.5, 0.25]}).report(page, title="Two epochs")
        ...     page.read_text(encoding="utf-8").count("<h1>Two epochs</h1>")
        1
        """
        from .report import report

        report(self, path, network, data, title, classes)

    def _repr_html_(self) -> str:
        from .report import notebook

        return notebook(self)
