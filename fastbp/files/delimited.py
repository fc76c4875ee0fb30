"""CSV and its kin, by Python's own reader: a header line, then a row a line."""

from __future__ import annotations

import collections
import csv
import io
import itertools
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..engine import Array
from ..errors import plural
from .table import MISSING, Table, Wanted, check_unlike, content, unread

BLANK: Final = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""Cells that stand for a missing value, in lower case."""

MOST_OF_A_LINE: Final = 1_000_000
"""Characters of a header that are looked at for the delimiter."""

_DELIMITERS: Final = ",;\t|"
_TOLD: Final = re.compile(r"sep=([,;\t|])(?=[\r\n])", re.IGNORECASE)  # its end is a blank line
_TRUTH: Final = {"true": 1.0, "false": 0.0}
_LINE: Final = re.compile(r"[^\r\n]*")
_QUOTED: Final = re.compile(r'(^|[,;\t|\r\n]) *"(?:[^"]|"")*"')  # with what comes before the cell
_COMMA: Final = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")  # a number with a decimal comma
_THOUSANDS: Final = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # and one that may have another


def read_delimited(path: Path, texts: Collection[str], wanted: Wanted) -> Table:
    """A table with a header line; without one columns are c0, c1, ...

    The delimiter is that of , ; tab | which the first line has most of, outside of quotes. A column
    is one of numbers where every cell that is not blank is a number, or every one true or false;
    else one of texts. Where cells are not separated by commas, numbers may have a decimal comma.

    Raises:
        ValueError: it is no such table, or what its commas mean cannot be told.
    """
    delimiter, rows, numbers = _rows(path)
    if not rows:
        raise ValueError(f"{str(path)!r} is empty")
    names = [cell.strip() for cell in rows[0]]
    header = _is_header(names, delimiter)
    if not header:
        names = [f"c{index}" for index in range(len(names))]
    else:
        rows, numbers = rows[1:], numbers[1:]
    check_unlike(filter(wanted, names), path)
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != len(names):
            raise ValueError(
                f"{str(path)!r}: row {number} has {plural(len(row), 'cell')}, the first "
                f"line has {len(names)}"
            )
    columns, kept = {}, {}
    for place, name in enumerate(names):
        if not wanted(name):
            columns[name] = unread(len(rows))
            continue
        cells = _stripped([row[place] for row in rows])
        columns[name] = _column(cells, delimiter)
        if name in texts:
            kept[name] = _texts(cells)
        if delimiter != "," and columns[name].dtype.kind == "f":
            _check_commas(cells, f"{str(path)!r}: column {name!r}")
    # Blank lines have numbers, too.
    return Table(columns, rows=np.array(numbers), texts=kept, header=header).checked(path)


def _rows(path: Path) -> tuple[str, list[list[str]], list[int]]:
    """The delimiter, the rows less the blank ones, and their numbers in the file.

    Excel's first line, `sep=;`, and DOS's last character, Ctrl-Z, are no rows.
    """
    try:
        text = content(path).decode("utf-8-sig").removesuffix("\x1a")
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is not a text in UTF-8 ({error.reason})") from None
    told = _TOLD.match(text)
    delimiter = told[1] if told else _delimiter(text)
    read = _read(text[told.end() :] if told else text, delimiter, path)
    several = any(len(row) > 1 for row in read)  # else a blank cell is a row with a missing value
    rows, numbers = [], []
    for number, row in enumerate(read, start=1):
        if len(row) > 1 or (row and (row[0].strip() or not several)):
            rows.append(row)
            numbers.append(number)
    return delimiter, rows, numbers


def _read(text: str, delimiter: str, path: Path) -> list[list[str]]:
    """The rows, the blank lines among them.

    Raises:
        ValueError: a quote is open at the end: what follows it was taken for one cell.
    """
    # A quote may come after a space, as cells have no spaces around them.
    how: Any = {"delimiter": delimiter, "skipinitialspace": True}
    reader = csv.reader(io.StringIO(text, newline=""), **how)
    rows: list[list[str]] = []
    before = last = 0  # lines up to the last row, and with it
    try:
        for row in reader:
            rows.append(row)
            before, last = last, reader.line_num
    except csv.Error as error:
        where = f"{str(path)!r}: row {len(rows) + 1} cannot be read: {error}"
        raise ValueError(f"{where}; is a quote open there?") from None
    lines = list(itertools.islice(io.StringIO(text, newline=""), before, None))
    try:
        collections.deque(csv.reader(lines, **how, strict=True), maxlen=0)
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise ValueError(
                f"{str(path)!r}: row {len(rows)} opens a quote that is never closed; "
                f"{plural(len(lines), 'line')} would be one cell"
            ) from None
    return rows


def _delimiter(text: str) -> str:
    """That which the first line with anything in it has most of, cells in quotes left out."""
    head = _QUOTED.sub(r"\1", text.lstrip("\r\n")[:MOST_OF_A_LINE])
    return max(_DELIMITERS, key=_LINE.match(head)[0].count)  # type: ignore[index]


def _is_header(cells: list[str], delimiter: str) -> bool:
    """Whether a first line has names: not numbers alone, but for pandas' own, 0, 1, 2, ..."""
    own = len(cells) > 1 and cells == [*map(str, range(len(cells)))]
    return own or not all(_is_number(_pointed(cell, delimiter)) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().lower() not in BLANK and _plain(cell.strip())


def _plain(cell: str) -> bool:
    """Python also reads 1_0 and other scripts' digits as numbers: here these are texts."""
    return cell.isascii() and "_" not in cell


def _stripped(cells: list[str]) -> list[str]:
    """The cells without spaces around them; blank ones are MISSING."""
    stripped = (cell.strip() for cell in cells)
    return [MISSING if cell.lower() in BLANK else cell for cell in stripped]


def _pointed(cell: str, delimiter: str) -> str:
    """A number with a decimal comma as one with a point; anything else as it is."""
    return cell.replace(",", ".") if delimiter != "," and _COMMA.fullmatch(cell) else cell


def _column(cells: list[str], delimiter: str) -> Array:
    """Numbers where all that is there are numbers, or true and false; texts otherwise."""
    if all(map(_plain, cells)):
        with suppress(ValueError):
            pointed = [_pointed(cell, delimiter) or "nan" for cell in cells]
            return np.array(pointed, dtype=np.float64)
        with suppress(KeyError):
            return np.array([_TRUTH[cell.lower()] if cell else np.nan for cell in cells])
    return _texts(cells)


def _check_commas(cells: list[str], where: str) -> None:
    """Refuse numbers whose commas may be for thousands: 1,234 beside no other, or beside 1.5.

    Raises:
        ValueError: they are such.
    """
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    points = [cell for cell in cells if "." in cell]
    if commas and (points or all(map(_THOUSANDS.fullmatch, commas))):
        beside = f" and {points[0]!r}" if points else ""
        raise ValueError(
            f"{where} has {commas[0]!r}{beside}: a comma that may be a decimal one or one for "
            "thousands; write such numbers with a point, or without a comma"
        )


def _texts(cells: list[str]) -> Array:
    return np.array(cells, dtype=object)
