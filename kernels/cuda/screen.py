"""Whether all of an array on the card is finite."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import memory
from .doors import grid_for
from .gather import finite
from .machine import block, blocks, kernel, thread
from .tiles import THREADS


@kernel
def _screen(X: Any, size: int, found: Any) -> None:
    for e in range(block() * THREADS + thread(), size, blocks() * THREADS):
        if not finite(X[e]):
            found[0] = 1


@kernel
def _rows(X: Any, order: Any, m: int, count: int, out: Any) -> None:
    for e in range(block() * THREADS + thread(), count * m, blocks() * THREADS):
        out[e] = X[order[e // m] * m + e % m]


@kernel
def _cast(X: Any, size: int, out: Any) -> None:
    for e in range(block() * THREADS + thread(), size, blocks() * THREADS):
        out[e] = X[e]


def all_finite(flat: Any) -> bool:
    """No NaN, no inf in a flat array of floats."""
    found = np.zeros(1, np.int64)
    there = memory.upload(found, "a flag")
    _screen.launch(grid_for(flat.size), flat, flat.size, there)
    memory.read(there, found)
    return not found[0]


def rows_of(flat: Any, columns: int, order: np.ndarray) -> Any:
    """The rows `order` of a flat matrix, copied within the card."""
    out = memory.allocate(len(order) * columns, flat.dtype, "rows of X")
    given = memory.upload(np.ascontiguousarray(order, np.int64), "indices")
    _rows.launch(grid_for(out.size), flat, given, columns, len(order), out)
    return out


def cast(flat: Any, dtype: Any) -> Any:
    """A flat array in another dtype, copied within the card."""
    out = memory.allocate(flat.size, dtype, "X in the network's dtype")
    _cast.launch(grid_for(flat.size), flat, flat.size, out)
    return out
