"""Samples that lie on the card already: looked at in place, checked in the words of the host's."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import as_matrix
from ..kernels.cuda import memory, screen


class CardMatrix:
    """A matrix (n, m) on the card, as much like an array as passes need.

    Attributes:
        flat: its elements on the card, row by row.
        kept: what keeps them alive.
    """

    ndim = 2

    def __init__(self, flat: Any, rows: int, columns: int, kept: Any = None) -> None:
        self.flat, self.shape, self.kept = flat, (rows, columns), kept
        self.dtype = np.dtype(flat.dtype)
        self.size = rows * columns

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> CardMatrix:
        """Rows by a slice without a step, in place; by indices, copied within the card."""
        m = self.shape[1]
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            return CardMatrix(self.flat[first * m : last * m], last - first, m, self)
        order = np.arange(len(self))[rows]
        return CardMatrix(screen.rows_of(self.flat, m, order), len(order), m)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """A copy in the host's memory."""
        host = np.empty(self.shape, self.dtype)
        memory.read(self.flat, host)
        return host if dtype is None else host.astype(dtype)


def card_matrix(X: Any, columns: int, dtype: Any, name: str, finite: bool = True) -> CardMatrix:
    """X (n, m) of a card as it lies, without a copy where it is C-contiguous and of `dtype`.

    Raises:
        ValueError, TypeError: another shape, NaN or inf, numbers that are no floats or integers.
    """
    # What the host would refuse is refused by the host's own door, in its words.
    there = memory.view(X)
    if there.ndim != 2 or there.shape[1] != columns or not there.size:
        as_matrix(np.broadcast_to(np.zeros((), dtype), there.shape), columns, dtype, name)
    if there.dtype.kind not in "fiu":
        as_matrix(np.zeros((1, columns), there.dtype), columns, dtype, name)
        raise TypeError(f"{name} is of {there.dtype}; on a card give floats or integers.")
    if not there.is_c_contiguous():
        raise ValueError(
            f"{name} has strides {there.strides}: on a card it must be C-contiguous; copy it "
            "(.contiguous(), cupy.ascontiguousarray)."
        )
    flat = there.reshape(there.size)
    casts = there.dtype != dtype
    if casts:
        flat = screen.cast(flat, dtype)
    if (finite or casts) and not screen.all_finite(flat):
        as_matrix(there.copy_to_host(), columns, dtype, name, finite=finite)
    return CardMatrix(flat, len(there), columns, X)
