"""Data files for the command line: CSV, Parquet, NPZ and IDX, read as named columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from .delimited import read_delimited
from .idx import read_idx
from .numpy_archive import read_npz
from .parquet import read_parquet
from .table import Table, Wanted

__all__ = ["FORMATS", "Table", "format_of", "read"]

FORMATS: Final[dict[str, Callable[[Path, Collection[str], Wanted], Table]]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".txt": read_delimited,
    ".parquet": read_parquet,
    ".npz": read_npz,
    ".idx": read_idx,
}

_INDEX: Final = re.compile(r"__index_level_\d+__")
"""pandas' name for a level of an index that has none."""


def read(
    path: Path,
    texts: Collection[str] = (),
    keep: Collection[str] = (),
    wanted: Wanted = lambda name: True,
) -> Table:
    """The table in a file; its ending says how it is written, `.gz` after it that it is packed.

    IDX files have no ending of their own: `train-images-idx3-ubyte` is one by its name. Of the
    columns named in `texts` what was written is kept. Names of rows (a first column without a name,
    as pandas and R write them to CSV, and pandas' unnamed index in Parquet) are left out, but for
    those in `keep`. A column that is not wanted is there by its name alone, and may hold anything.

    Raises:
        ValueError: an ending that is not known, or a file that is not what its ending says; one
            line that names the place.
        OSError: the file cannot be read.
        ImportError: a package for this kind of file is missing; the extra is named.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; name a file")
    suffix = format_of(path)
    if suffix not in FORMATS:
        raise ValueError(
            f"{str(path)!r} has no ending that says what it is; known are "
            f"{', '.join(FORMATS)} (IDX by '-idx' in the name)"
        )
    table = FORMATS[suffix](path, texts, wanted)
    first = next(iter(table.columns))
    nameless = first == "" and FORMATS[suffix] is read_delimited
    rows = [n for n in table.columns if _INDEX.fullmatch(n) or (nameless and n == first)]
    return table.without(set(rows) - set(keep)) if len(rows) < len(table.columns) else table


def format_of(path: Path) -> str:
    """The ending that says how a file is written, whether it is in the table or not.

    >>> format_of(Path("train-images-idx3-ubyte.gz")), format_of(Path("A.CSV"))
    ('.idx', '.csv')
    """
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    suffix = plain.suffix.lower()
    named = "-idx" in plain.name or ".idx" in plain.name
    return ".idx" if suffix not in FORMATS and named else suffix
