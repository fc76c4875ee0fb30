"""What is done to one column: learnt from the rows to train on, and applied alike later."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from .engine import Array
from .errors import plural, shown
from .files.table import MISSING, Table, spelt, written

MOST_CATEGORIES: Final = 100
"""Texts of a column that get an input of 0 or 1 each; names and keys have more."""
_CODE: Final = re.compile(r"[+-]?(0\d|\d{16})")
"""Digits that are no number: a zero leads them, or a float holds not all of them."""
_BOOLEANS: Final = frozenset({"True", "False"})


class BadCell(ValueError):
    """Something is wrong in a row: what, where (counted from 0 in the column), and the rest."""

    def __init__(self, what: str, row: int, rest: str) -> None:
        super().__init__(f"{what} in row {row}{rest}")
        self.what, self.row, self.rest = what, row, rest


@dataclass(frozen=True)
class Numeric:
    """A column or block of numbers: (x - mean) / scale, one mean and scale; missing is the mean.

    One that was constant in training has scale 0, and is 0 ever after: of how it matters when it
    is another nothing was learnt.

    Attributes:
        width: inputs of the network that it takes.
    """

    name: str
    width: int
    mean: float
    scale: float

    @classmethod
    def learn(cls, name: str, column: Array) -> Numeric:
        """Mean and standard deviation of what is there."""
        there = column[np.isfinite(column)] if column.dtype.kind == "f" else column
        if not there.size:
            raise ValueError(f"column {name!r} has no number to train on; leave it out: --ignore")
        mean, scale = _moments(there, f"column {name!r}")
        return cls(name, 1 if column.ndim == 1 else column.shape[1], mean, scale)

    def inputs(self, table: Table) -> Array:
        """(n, width) float32."""
        column = table.column(self.name, "the input column")
        if column.dtype.kind == "O":
            raise _no_number(f"column {self.name!r}", column)
        block = column.reshape(len(column), -1)
        if block.shape[1] != self.width:
            raise ValueError(
                f"{self.name!r} has {plural(block.shape[1], 'column')}, and was trained on with "
                f"{self.width}"
            )
        # Pixels of one byte need no more than float32 on the way, and there are many.
        exact: Array = block.astype(np.float32 if block.dtype.itemsize == 1 else np.float64)
        with np.errstate(over="ignore"):
            scaled: Array = (exact - self.mean) / (self.scale or 1.0)
            scaled[np.isnan(scaled)] = 0.0
            result = scaled.astype(np.float32)
        if (infinite := np.isinf(result).any(axis=1)).any():
            what = f"column {self.name!r} is infinite or far too large"
            raise BadCell(what, int(infinite.argmax()), "; leave such rows out")
        return result if self.scale else np.zeros_like(result)


@dataclass(frozen=True)
class Category:
    """A column of texts: an input of 0 or 1 for each that was trained on, missing among them.

    A text that was not there in training is 0 everywhere.
    """

    name: str
    values: tuple[str, ...]

    @property
    def width(self) -> int:
        """Inputs of the network that it takes."""
        return len(self.values)

    @classmethod
    def learn(cls, name: str, column: Array) -> Category:
        """The texts, sorted."""
        values = tuple(sorted(set(column.tolist())))
        if len(values) > MOST_CATEGORIES:
            way_out = "leave it out: --ignore"
            if all(any(map(str.isdecimal, text)) for text in values if text):
                way_out = f"if they are numbers, write them plainly (1234.5), or {way_out}"
            raise ValueError(
                f"column {name!r} has {len(values):,} different texts, such as "
                f"{shown(next(filter(None, values)))}, more than the {MOST_CATEGORIES} that get an "
                f"input each; {way_out}"
            )
        return cls(name, values)

    def inputs(self, table: Table) -> Array:
        """(n, width) float32."""
        column = table.column(self.name, "the input column")
        texts = table.written(self.name)
        if column.dtype.kind != "O" and self.stranger(table):
            raise ValueError(
                f"column {self.name!r} holds numbers, and was trained on as texts (such as "
                f"{shown(next((v for v in self.values if v), ''))}), none of which they are; "
                "write it as in the data to train on"
            )
        return (texts[:, None] == np.array(self.values, dtype=object)).astype(np.float32)

    def stranger(self, table: Table) -> str:
        """A text of the column, where none of them was there in training; else nothing."""
        there = {*table.written(self.name).tolist()} - {MISSING}
        return min(there) if there and there.isdisjoint(self.values) else MISSING


@dataclass(frozen=True)
class Classes:
    """A target of classes, by their labels as texts in the order of the outputs."""

    name: str
    labels: tuple[str, ...]

    @classmethod
    def learn(cls, name: str, table: Table) -> Classes:
        """Labels in order: of numbers where all are numbers, else of the alphabet.

        In a column of numbers `1.0` is `1`; but not where one is a code, such as `01`. Several
        spellings of true and of false are one of each, `True` and `False`.
        """
        found = set(table.written(name).tolist())
        if table.columns[name].dtype.kind != "O":
            spellings = {_respelt(text) for text in found}
            alike = spellings <= _BOOLEANS and len(spellings) == len(found)  # `true` stays `true`
            if None not in spellings and not alike:
                found = {text for text in spellings if text}
        labels = sorted(found, key=_order)
        if len(labels) < 2:
            raise ValueError(
                f"target {name!r} is {labels[0]!r} in every row to train on: nothing to learn"
            )
        return cls(name, tuple(labels))

    def places(self, texts: Array) -> Array:
        """Class numbers (n,); -1 for a label that was not trained on."""
        own = {label: place for place, label in enumerate(self.labels)}
        alike = {_respelt(label) or label: place for label, place in own.items()} | own
        places = {text: own.get(text, alike.get(_respelt(text) or text, -1)) for text in set(texts)}
        return np.array([places[text] for text in texts.tolist()], dtype=np.int64)

    def targets(self, table: Table) -> Array:
        """Class numbers (n,); ValueError for a label that was not trained on."""
        texts, column = table.written(self.name), table.column(self.name, "the target")
        found = self.places(texts)
        if (found < 0).any() and column.dtype.kind != "O":  # a model of before texts were kept
            found = np.where(found < 0, self.places(written(column)), found)
        if (new := found < 0).any():
            row = int(new.argmax())
            known = f", which no row to train on has (it has {', '.join(self.labels[:10])})"
            raise BadCell(f"target {self.name!r} is {texts[row]!r}", row, known)
        return found


@dataclass(frozen=True)
class Scaled:
    """A target of numbers: the network learns (y - mean) / scale."""

    name: str
    mean: float
    scale: float

    @classmethod
    def learn(cls, name: str, column: Array) -> Scaled:
        """Mean and standard deviation."""
        mean, scale = _moments(column, f"target {name!r}")
        if not scale:
            raise ValueError(
                f"target {name!r} is {column[0]:g} in every row to train on: nothing to learn"
            )
        return cls(name, mean, scale)

    def targets(self, table: Table) -> Array:
        """(n, 1)."""
        column = table.column(self.name, "the target")
        if column.dtype.kind == "O":
            raise _no_number(f"target {self.name!r}", column)
        scaled: Array = ((column - self.mean) / self.scale)[:, None]
        return scaled

    def restored(self, outputs: Array) -> Array:
        """(n,) in the target's own unit."""
        values: Array = outputs.reshape(len(outputs)).astype(np.float64) * self.scale + self.mean
        return values


def _moments(numbers: Array, what: str) -> tuple[float, float]:
    """Mean and standard deviation; a spread within the rounding of equal numbers' mean is 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(numbers.mean(dtype=np.float64)), float(numbers.std(dtype=np.float64))
    if not (math.isfinite(mean) and math.isfinite(scale)):
        raise ValueError(f"{what} has numbers too large for their mean and spread; scale it first")
    return mean, 0.0 if scale <= 8 * np.finfo(np.float64).eps * abs(mean) else scale


def _no_number(what: str, column: Array) -> BadCell:
    """The error for texts where there were numbers: the first that is none, if there is one."""
    row = next((row for row, text in enumerate(column) if text and _respelt(text) is None), 0)
    found = f"{what} holds texts, and was trained on as numbers: it is {shown(column[row])}"
    return BadCell(found, row, "")


def _respelt(text: str) -> str | None:
    """A label that is a number as `spelt` has it, or a boolean; None where it is neither."""
    if text.capitalize() in _BOOLEANS:
        return text.capitalize()
    if _CODE.match(text) or not text.isascii() or "_" in text:
        return None
    try:
        return spelt(float(text)) or None
    except ValueError:
        return None


def _order(label: str) -> tuple[bool, float, str]:
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (True, 0.0, label) if math.isnan(number) else (False, number, label)
