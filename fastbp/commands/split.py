"""What `fastbp train` trains on and what it judges by: a table cut in two, and prepared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import options

if TYPE_CHECKING:
    from ..engine import Array
    from ..files import Table
    from ..preparation import Preparation


@dataclass
class Split:
    """The two parts of the data, prepared, and how they were prepared."""

    preparation: Preparation
    X: Array
    y: Array
    Xv: Array
    yv: Array

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes; None for a regression."""
        return getattr(self.preparation.target, "labels", None)


def load(data: Path, target: str, ignore: list[str]) -> tuple[Table, str]:
    """The table with its target, less what is to be ignored; and the target's name in it."""
    import numpy as np

    table = options.table(
        "DATA", data, [target], [target, *ignore], lambda name: name not in ignore
    )
    if list(table.columns) == ["pixels"]:  # images: their labels are in a file of their own
        labels = options.table("--target", Path(target), ["labels"])
        if list(labels.columns) != ["labels"] or len(labels) != len(table):
            raise options.refuse("--target", f"{target!r} does not hold {len(table)} labels.")
        target = "labels"
        table.columns[target], table.texts[target] = labels.columns[target], labels.texts[target]
    with options.blaming("--target"):
        truth = table.column(target, "the target")
    with options.blaming("--ignore"):
        for name in ignore:
            table.column(name, "the column")
    if target in ignore:
        raise options.refuse("--ignore", f"{target!r} is the target.")
    if truth.ndim == 2 and truth.shape[1] == 1:
        truth = table.columns[target] = truth[:, 0]
    if truth.ndim > 1:
        raise options.refuse("--target", f"{target!r} has {truth.shape[1]} columns; give one.")
    missing = (truth == "") if truth.dtype.kind == "O" else truth != truth
    if missing.any():
        words = " (blank, or a word such as NA or none)" if truth.dtype.kind == "O" else ""
        raise options.refuse(
            "--target",
            f"{target!r} is missing{words} in {int(missing.sum())} of {len(table)} rows, first in "
            f"row {table.number(int(missing.argmax()))}; leave them out.",
        )
    if truth.dtype.kind == "f" and (infinite := np.isinf(truth)).any():
        row = table.number(int(infinite.argmax()))
        raise options.refuse("--target", f"{target!r} is infinite in row {row}; leave it out.")
    return table.without(ignore), target


def cut(table: Table, target: str, task: str, share: float, seed: int) -> Split:
    """Held-out rows drawn at random; the preparation is learnt on the others alone.

    A class that is held out as a whole is not: its rows are trained on.
    """
    import numpy as np

    from ..columns import Classes
    from ..preparation import learn
    from ..sampling import split

    if len(table) < 2:
        raise options.refuse("DATA", "there is one row; training and judging need two.")
    chosen, held = split(len(table), share, seed)
    part, rest = table.take(chosen), table.take(held)
    with options.blaming("DATA"):
        preparation = learn(part, target, task)
        if isinstance(preparation.target, Classes):  # rows of a class that has none to train on
            new = preparation.target.places(rest.written(target)) < 0
            if new.all():
                raise ValueError(
                    f"target {target!r} has a class of its own in every row held out; hold more "
                    "rows out, or give more of each class"
                )
            if new.any():
                chosen, held = np.sort(np.append(chosen, held[new])), held[~new]
                part, rest = table.take(chosen), table.take(held)
                preparation = learn(part, target, task)
        y, yv = preparation.targets(part), preparation.targets(rest)
        return Split(preparation, preparation.inputs(part), y, preparation.inputs(rest), yv)
