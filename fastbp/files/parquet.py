"""Parquet files, by PyArrow (an extra)."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..engine import Array
from ..extras import require
from .table import MISSING, Table, Wanted, check_unlike, spelt, unread

_FRACTION: Final = re.compile(r"(?:\.0+|(\.\d*[1-9])0*)(?!\d)")  # of a second, with trailing zeros


def read_parquet(path: Path, texts: Collection[str], wanted: Wanted) -> Table:
    """Numbers and booleans as float64, all else as texts."""
    parquet = require("pyarrow.parquet", "parquet", f"reading {path.name!r}")
    pyarrow = require("pyarrow", "parquet", f"reading {path.name!r}")
    try:
        with path.open("rb") as file:  # a path may be taken for a URI
            table = parquet.ParquetFile(file).read()
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise ValueError(f"{str(path)!r} is not a Parquet file: {_line(error)}") from None
    check_unlike(filter(wanted, table.column_names), path)
    columns, kept = {}, {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not wanted(name):
            columns[name] = unread(len(column))
            continue
        columns[name] = _column(column, name, path, pyarrow)
        if name in texts:
            kept[name] = columns[name] if columns[name].dtype.kind == "O" else _written(column)
    return Table(columns, 1, texts=kept).checked(path)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:120]


def _column(column: Any, name: str, path: Path, pyarrow: Any) -> Array:
    types, kind = pyarrow.types, column.type
    if types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if types.is_null(kind):  # nothing but missing values, as a column of blanks
        return np.full(len(column), np.nan)
    if types.is_boolean(kind):
        column, kind = column.cast("int8"), pyarrow.int8()
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return np.asarray(column.cast("float64", safe=False).to_numpy(), dtype=np.float64)
    try:  # dates and times among them: as categories they are too many, and --ignore is advised
        texts = column.cast("string").to_pylist()
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        raise ValueError(
            f"{str(path)!r}: column {name!r} is of type {kind}; write the file without it"
        ) from None
    if types.is_temporal(kind):
        texts = [text and _date(text) for text in texts]
    return np.array([MISSING if text is None else text for text in texts], dtype=object)


def _date(text: str) -> str:
    """One spelling whatever unit it is kept in: without zeros of a fraction, or midnight's.

    >>> _date("2020-01-01 00:00:00.000"), _date("2020-01-01 12:00:00.250000Z")
    ('2020-01-01', '2020-01-01 12:00:00.25Z')
    """
    return _FRACTION.sub(r"\1", text).removesuffix(" 00:00:00")


def _written(column: Any) -> Array:
    """Numbers and booleans as texts, whole numbers to their last digit."""
    texts = [
        MISSING if value is None else spelt(value) if isinstance(value, float) else str(value)
        for value in column.to_pylist()
    ]
    return np.array(texts, dtype=object)
