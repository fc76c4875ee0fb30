"""NPZ files: arrays by name, never pickled objects."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..engine import Array
from ..errors import one_line
from .table import Table, Wanted, numbers, unread, written


def read_npz(path: Path, texts: Collection[str], wanted: Wanted) -> Table:
    """Each array is a column (n,), or a block of columns (n, ...), flattened to (n, m)."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{str(path)!r} is not an NPZ file: store with numpy.savez")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            names = stored.files
            arrays = {name: stored[name] for name in filter(wanted, names)}
    except (AttributeError, TypeError):  # a single array, from numpy.save
        raise ValueError(f"{str(path)!r} is not an NPZ file: store with numpy.savez") from None
    except Exception as error:  # noqa: BLE001 - each way of packing has errors of its own
        problem = one_line(error) or type(error).__name__
        raise ValueError(f"{str(path)!r} is not an NPZ file of plain arrays: {problem}") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{str(path)!r} is not an NPZ file: {name!r} in it is no array")
    blocks = {name: _block(name, array, path) for name, array in arrays.items()}
    # Where nobody wants what is there, a name is wrong, which is said elsewhere.
    rows = 1 if names and not blocks else len(Table(blocks).checked(path))
    columns = {name: blocks.get(name, unread(rows)) for name in names}
    kept = {n: written(arrays[n]) for n in texts if n in arrays and arrays[n].ndim == 1}
    return Table(columns, texts=kept)


def _block(name: str, array: Array, path: Path) -> Array:
    if array.ndim == 0:
        raise ValueError(f"{str(path)!r}: {name!r} is a single value, not an array with a row each")
    if array.dtype.kind in "US" and array.ndim == 1:
        try:
            return array.astype(str).astype(object)
        except UnicodeDecodeError as error:
            what = f"holds bytes that are no ASCII ({error.object!r}); decode them first"
            raise ValueError(f"{str(path)!r}: {name!r} {what}") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{str(path)!r}: {name!r} is of dtype {array.dtype}, not numbers or texts")
    return (
        numbers(array) if array.ndim == 1 else array.reshape(len(array), math.prod(array.shape[1:]))
    )
