"""Sparse samples: a CSR matrix in the one form that the compiled loop takes.

It is never made dense as a whole: the loop unpacks the rows of a batch. Any SciPy format is taken
(CSC and COO are converted to CSR once); SciPy itself is not imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .canonical import Array, as_array, as_floats, find_not_finite
from .engine import NO_COLUMNS, NO_STARTS
from .errors import not_finite, wrong_width
from .kernels.checks import writable_type


def is_sparse(value: Any) -> bool:
    """A sparse matrix or array, of SciPy or of what looks like it."""
    return hasattr(value, "tocsr")


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse matrix of samples (rows, inputs).

    Attributes:
        values: (1, nnz) of the network's dtype, C-contiguous.
        columns: (nnz,) int32.
        starts: (rows + 1,) int64: where each row's values begin.
    """

    values: Array
    columns: Array
    starts: Array

    @classmethod
    def of(cls, X: Any, dtype: np.dtype[Any], name: str = "X") -> Self:
        """Any sparse matrix of numbers; copied only where its form is another.

        Raises:
            ValueError: it is not 2-D, its index arrays do not fit its shape, or `dtype` cannot hold
                one of its values.
            TypeError: its values are no real numbers.
        """
        if len(X.shape) != 2:
            raise ValueError(f"{name} is sparse, of shape {X.shape}; give two dimensions.")
        check_given(X, name)
        X = X.tocsr()
        _check_places(X.indices, X.indptr, X.shape, X.data.size, name)
        columns = writable_type(np.ascontiguousarray(X.indices, np.int32))
        starts = writable_type(np.ascontiguousarray(X.indptr, np.int64))
        values = as_floats(as_array(X.data, f"{name}.data"), dtype, f"{name}.data")
        return cls(values.reshape(1, -1), columns, starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, indices: Array) -> Sparse:
        """Copies of some rows alone."""
        first, last = self.starts[indices], self.starts[indices + 1]
        lengths = last - first
        starts = np.append(0, np.cumsum(lengths))
        places = np.arange(starts[-1]) + np.repeat(first - starts[:-1], lengths)
        return Sparse(self.values[:, places].copy(), self.columns[places], starts)

    def check_finite(self, name: str) -> None:
        """Refuse NaN and inf, naming the first.

        Raises:
            ValueError: an element is NaN or inf.
        """
        place = find_not_finite(self.values)
        if place is not None:
            row = int(np.searchsorted(self.starts, place[1], side="right")) - 1
            where = f"{name}[{row}, {self.columns[place[1]]}]"
            raise ValueError(not_finite(where, self.values[place]))


def parts(matrix: Array | Sparse) -> tuple[Array, Array, Array]:
    """What the engine takes: X or its values; columns and starts, which are empty where dense."""
    if isinstance(matrix, Sparse):
        return matrix.values, matrix.columns, matrix.starts
    return matrix, NO_COLUMNS, NO_STARTS


def as_sparse(X: Any, inputs: int, dtype: np.dtype[Any], name: str) -> Sparse:
    """The door for sparse X: shape, places and values checked.

    Raises:
        ValueError: another number of columns, no rows, NaN or inf, or as for `Sparse.of`.
        TypeError: its values are no real numbers.
    """
    found = Sparse.of(X, dtype, name)
    if X.shape[1] != inputs:
        raise ValueError(wrong_width(name, X.shape[1], inputs))
    if not len(found):
        raise ValueError(f"{name} is empty (shape {X.shape}); at least one row is needed.")
    found.check_finite(name)
    return found


def check_given(X: Any, name: str) -> None:
    """Refuse a sparse matrix of another format that lies, before SciPy makes CSR of it.

    SciPy writes where the places say.

    Raises:
        ValueError: its places do not fit its shape.
    """
    kind, shape = getattr(X, "format", ""), X.shape
    if kind == "csc":
        _check_places(X.indices, X.indptr, shape[::-1], X.data.size, name)
    elif kind == "bsr":
        blocks = shape[0] // X.blocksize[0], shape[1] // X.blocksize[1]
        _check_places(X.indices, X.indptr, blocks, len(X.data), name)
    elif kind == "lil":
        pairs = zip(X.rows, X.data, strict=False)
        if not len(X.rows) == len(X.data) == shape[0] or any(len(a) != len(b) for a, b in pairs):
            raise ValueError(
                f"{name} is a sparse matrix whose rows and data differ in length; build it anew."
            )
    elif kind == "coo":
        for places, size in ((X.row, shape[0]), (X.col, shape[1])) if len(shape) == 2 else ():
            if places.size and not 0 <= places.min() <= places.max() < size:
                raise ValueError(
                    f"{name} is a sparse matrix whose row or col do not fit its shape; build it "
                    "anew."
                )


def _check_places(
    columns: Array, starts: Array, shape: tuple[int, int], values: int, name: str
) -> None:
    """A matrix whose index arrays lie would make the loop write outside its buffers."""
    inside = not columns.size or (columns.min() >= 0 and columns.max() < shape[1])
    # Compared, not subtracted: differences of unsigned or short integers wrap around.
    ordered = len(starts) == shape[0] + 1 and starts[0] == 0 and (starts[:-1] <= starts[1:]).all()
    if not (inside and ordered and starts[-1] <= min(values, columns.size)):
        raise ValueError(
            f"{name} is a sparse matrix whose indices or indptr do not fit its shape; build it "
            f"anew, and call {name}.check_format() to see what is wrong."
        )
