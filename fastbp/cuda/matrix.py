"""Samples that lie on the card already: looked at in place, checked in the words of the host's."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..canonical import check_finite
from ..errors import plural
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
    there = memory.view(X)
    if there.dtype.kind not in "fiu":
        raise TypeError(f"{name} is of {there.dtype}; give floats or integers.")
    if there.ndim != 2 or there.shape[1] != columns:
        raise ValueError(
            f"{name} has shape {tuple(there.shape)} but the network has "
            f"{plural(columns, 'input')}; {name} must be of shape (n, {columns}), one row a sample."
        )
    if there.size == 0:
        raise ValueError(
            f"{name} is empty (shape {tuple(there.shape)}); at least one row is needed."
        )
    if not there.is_c_contiguous():
        raise ValueError(
            f"{name} has strides {there.strides}: on a card it must be C-contiguous; copy it "
            "(.contiguous(), cupy.ascontiguousarray)."
        )
    flat = there.reshape(there.size)
    if there.dtype != dtype:
        flat = screen.cast(flat, dtype)
    matrix = CardMatrix(flat, len(there), columns, X)
    if finite and not screen.all_finite(flat):
        check_finite(np.asarray(matrix), name)
    return matrix


def to_host(value: Any) -> Any:
    """A card's array in the host's memory; anything else as it is."""
    from ..devices import is_on_card

    return memory.view(value).copy_to_host() if is_on_card(value) else value
