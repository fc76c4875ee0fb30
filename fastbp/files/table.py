"""Columns by name: what every kind of data file comes down to."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..engine import Array
from ..errors import nearest, shown

MISSING = ""
"""A text that is not there; a number that is not there is NaN."""


@dataclass
class Table:
    """Columns of equal length by name.

    Attributes:
        columns: arrays (n,) of float64 (NaN: missing) or of str objects ("": missing); or, for
            names of blocks, arrays (n, m) of numbers whose columns belong together.
        first: number of the first row in the file, for messages: 2 under a header line.
        rows: of some rows alone, their places among those of the file.
    """

    columns: dict[str, Array]
    first: int = 0
    rows: Array | None = None

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

    def without(self, names: Iterable[str]) -> Table:
        """The table less some columns."""
        left = set(names)
        return replace(self, columns={n: c for n, c in self.columns.items() if n not in left})

    def take(self, rows: Array) -> Table:
        """Some rows alone."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, columns=columns, rows=rows if self.rows is None else self.rows[rows])

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
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} cannot be unpacked: {error}") from None


def numbers(cells: Array) -> Array:
    """float64 of numbers and booleans of any kind.

    >>> numbers(np.array([True, False])).tolist()
    [1.0, 0.0]
    """
    return np.asarray(cells, dtype=np.float64)
