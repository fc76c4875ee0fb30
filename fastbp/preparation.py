"""What is done to a table before it reaches a network (`columns.py`), learnt, stored and applied.

A preparation is learnt on the rows to train on, stored as JSON beside the network's numbers, and
applied alike to whatever comes later. It is read from files that are distrusted: all is checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from .columns import BadCell, Category, Classes, Numeric, Scaled
from .engine import Array
from .errors import shown
from .files.table import Table

FEW_NUMBERS: Final = 20
"""A target of so many different whole numbers counts as classes."""
FORMAT: Final = 1


@contextmanager
def _in_file(table: Table) -> Iterator[None]:
    """Rows are named by their numbers in the file."""
    try:
        yield
    except BadCell as error:
        where = f"row {table.number(error.row)}"
        raise ValueError(f"{error.what} in {where}{error.rest}") from None


Column = Numeric | Category
Target = Classes | Scaled
_KINDS: Final = {"numeric": Numeric, "category": Category, "classes": Classes, "scaled": Scaled}


@dataclass(frozen=True)
class Preparation:
    """Of every input column and of the target."""

    columns: tuple[Column, ...]
    target: Target

    @property
    def names(self) -> list[str]:
        """Names of all columns, the target's the last."""
        return [part.name for part in (*self.columns, self.target)]

    @property
    def texts(self) -> list[str]:
        """Names of the columns that are texts, whatever they look like in a file."""
        parts = (*self.columns, self.target)
        return [part.name for part in parts if isinstance(part, Category | Classes)]

    @property
    def width(self) -> int:
        """Inputs of the network."""
        return sum(column.width for column in self.columns)

    def inputs(self, table: Table) -> Array:
        """(n, width) float32; ValueError for a column that is not there or has changed its kind."""
        with _in_file(table):
            parts = [column.inputs(table) for column in self.columns]
        return np.ascontiguousarray(np.hstack(parts))

    def targets(self, table: Table) -> Array:
        """What the network is to learn; ValueError for a label that was not trained on."""
        with _in_file(table):
            return self.target.targets(table)

    def to_json(self) -> str:
        """Everything, as one line of text."""
        names = {kind: name for name, kind in _KINDS.items()}
        described = [{"kind": names[type(c)], **asdict(c)} for c in (*self.columns, self.target)]
        return json.dumps({"format": FORMAT, "columns": described[:-1], "target": described[-1]})

    @classmethod
    def from_json(cls, text: str) -> Preparation:
        """What `to_json` wrote.

        Raises:
            ValueError: it is something else; the text is distrusted.
        """
        try:
            found = json.loads(text)
            if found["format"] != FORMAT:
                raise ValueError(f"its format {shown(found['format'])} is not known")
            columns = tuple(_part(entry, Numeric | Category) for entry in found["columns"])
            target = _part(found["target"], Classes | Scaled)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the preparation of its columns is not valid: {error}") from None
        return cls(columns, target)


def learn(table: Table, target: str, task: str) -> Preparation:
    """The preparation of a table to train on.

    Args:
        table: the rows to train on, target and inputs alone.
        target: name of the target's column.
        task: "classification", "regression", or "auto": classes where the target is of texts, or
            of at most 20 different whole numbers.

    Raises:
        ValueError: a column that is no good, or no input column.
    """
    truth = table.columns[target]
    rest = table.without([target])
    if not rest.columns:
        raise ValueError(f"the data have no column besides the target {target!r}")
    columns = tuple(
        Category.learn(name, column) if column.dtype.kind == "O" else Numeric.learn(name, column)
        for name, column in rest.columns.items()
    )
    if task == "regression" and truth.dtype.kind == "O":
        raise ValueError(f"target {target!r} holds texts, which is no regression")
    classes = task == "classification" or (task == "auto" and _are_classes(truth))
    if classes:
        return Preparation(columns, Classes.learn(target, table))
    return Preparation(columns, Scaled.learn(target, truth))


def _are_classes(column: Array) -> bool:
    if column.dtype.kind == "O":
        return True
    return bool((column == np.floor(column)).all()) and len(np.unique(column)) <= FEW_NUMBERS


def _part(entry: Any, allowed: Any) -> Any:
    """A column or target of its JSON object, with every field checked."""
    fields = dict(entry)
    kind = _KINDS[fields.pop("kind")]
    for name in ("values", "labels"):
        if name in fields:
            fields[name] = _strings(name, fields[name])
    part = kind(**fields)
    if not isinstance(part, allowed) or not isinstance(part.name, str):
        raise ValueError(f"{shown(entry)} is out of place")
    if isinstance(part, Numeric | Scaled):
        numbers = (part.mean, part.scale)
        finite = all(isinstance(v, float | int) and math.isfinite(v) for v in numbers)
        if not finite or part.scale < 0 or (part.scale == 0 and isinstance(part, Scaled)):
            raise ValueError(f"{part.name!r} has mean and scale {numbers}")
    if isinstance(part, Numeric) and (type(part.width) is not int or part.width < 1):
        raise ValueError(f"{part.name!r} has the width {shown(part.width)}")
    return part


def _strings(name: str, values: Sequence[Any]) -> tuple[str, ...]:
    if not values or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name}={shown(values)} are not texts")
    return tuple(values)
