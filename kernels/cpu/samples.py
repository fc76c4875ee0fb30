"""One sample on its way into a batch: unpacked from a sparse matrix, screened."""

from __future__ import annotations

from typing import Any

from .jit import inline
from .memory import segment


@inline
def finite_row(X: Any, i: int, n: int) -> bool:
    """No NaN or inf in X[i, :n]: 0 times any of them is NaN."""
    row = segment(X, i * X.shape[1], n)
    nought = X.dtype.type(0)
    total = nought
    for j in range(n):
        total += row[j] * nought
    return total == nought


@inline
def unpack_row(X: Any, columns: Any, starts: Any, sample: int, into: Any, i: int, m: int) -> None:
    """into[i, :m] = row `sample` of the sparse matrix; values of one place add up, as in SciPy."""
    target = segment(into, i * into.shape[1], m)
    for j in range(m):
        target[j] = 0
    values = segment(X, 0, X.size)
    for k in range(starts[sample], starts[sample + 1]):
        target[columns[k]] += values[k]
