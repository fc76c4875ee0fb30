"""Columns by name: what every kind of data file comes down to."""

from __future__ import annotations

import gzip
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..engine import Array
from ..errors import nearest, shown

MISSING = ""
"""A text that is not there; a number that is not there is NaN."""


Wanted = Callable[[str], bool]
"""Whether a column of this name is to be read."""


@dataclass
class Table:
    """Columns of equal length by name.

    Attributes:
        columns: arrays (n,) of float64 (NaN: missing) or of str objects ("": missing); or, for
            names of blocks, arrays (n, m) of numbers whose columns belong together.
        first: number of the first row in the file, for messages: 2 under a header line.
        rows: of some rows alone, their places among those of the file.
        texts: of the columns that were asked for, (n,) of str objects as they were written: `01`
            is not `1`, and no digit of a long number is lost.
        header: the file names its columns.
    """

    columns: dict[str, Array]
    first: int = 0
    rows: Array | None = None
    texts: dict[str, Array] = field(default_factory=dict)
    header: bool = True

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def column(self, name: str, what: str) -> Array:
        """One column; ValueError names the nearest where there is none."""
        if name in self.columns:
            return self.columns[name]
        guess = nearest(name, self.columns)
        hint = f"; did you mean {guess!r}?" if guess else "."
        names = ", ".join(repr(each) for each in list(self.columns)[:12])
        more = f", ... ({len(self.columns)} in all)" if len(self.columns) > 12 else ""
        raise ValueError(f"{what} {shown(name)} is not in the data{hint} It has {names}{more}.")

    def written(self, name: str) -> Array:
        """The texts (n,) of a column: as they were written, where that is known."""
        return self.texts[name] if name in self.texts else written(self.columns[name])

    def without(self, names: Iterable[str]) -> Table:
        """The table less some columns."""
        left = set(names)
        return replace(self, columns={n: c for n, c in self.columns.items() if n not in left})

    def take(self, rows: Array) -> Table:
        """Some rows alone."""
        columns, texts = (
            {name: column[rows] for name, column in group.items()}
            for group in (self.columns, self.texts)
        )
        kept = rows if self.rows is None else self.rows[rows]
        return replace(self, columns=columns, texts=texts, rows=kept)

    def number(self, row: int) -> int:
        """The number of a row in the file."""
        return self.first + int(row if self.rows is None else self.rows[row])

    def checked(self, path: Path) -> Table:
        """The table, if it has rows, all columns of one length.

        Raises:
            ValueError: it has not.
        """
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            text = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ValueError(f"{str(path)!r}: its arrays differ in length ({text})")
        if not len(self):
            raise ValueError(f"{str(path)!r} has no rows")
        return self


def content(path: Path) -> bytes:
    """The file's bytes, unpacked where it is gzip's.

    Raises:
        ValueError: it ends in .gz and is not gzip's, or is cut off.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    if path.suffix.lower() != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} cannot be unpacked: {error}") from None


def check_unlike(names: Iterable[str], path: Path) -> None:
    """Refuse two columns of one name.

    Raises:
        ValueError: there are.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{str(path)!r} has two columns named {twice[0]!r}")


def unread(rows: int) -> Array:
    """What stands for a column that nobody wants: its name is known, whatever it holds.

    >>> unread(2).tolist()
    [nan, nan]
    """
    return np.broadcast_to(np.nan, rows)


def numbers(cells: Array) -> Array:
    """float64 of numbers and booleans of any kind.

    >>> numbers(np.array([True, False])).tolist()
    [1.0, 0.0]
    """
    return np.asarray(cells, dtype=np.float64)


def written(cells: Array) -> Array:
    """Texts (n,) of numbers or booleans: whole numbers without a point.

    >>> written(np.array([1.0, 2.5])).tolist(), written(np.array([True])).tolist()
    (['1', '2.5'], ['True'])
    """
    if cells.dtype.kind == "f":
        return np.array([spelt(value) for value in cells.tolist()], dtype=object)
    return cells if cells.dtype.kind == "O" else cells.astype(str).astype(object)


def spelt(value: float) -> str:
    """A label that is a number, as a text.

    >>> spelt(3.0), spelt(2.5)
    ('3', '2.5')
    """
    if math.isnan(value):
        return MISSING
    return str(int(value)) if value.is_integer() else repr(value)
