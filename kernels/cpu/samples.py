"""One sample on its way into a batch: prefetched, copied or unpacked, screened."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..layout import CACHE_LINE
from .jit import inline
from .memory import segment, window
from .prefetch import prefetch
from .spans import span


def _same(x: Any) -> Any:
    return x


_copied = span({0: _same}, outputs=1, inputs=1)


@inline
def copy_row(X: Any, sample: int, into: Any, i: int, m: int) -> None:
    """into[i, :m] = X[sample, :m]."""
    source, target = window(X, sample * X.shape[1], 1, m), window(into, i * into.shape[1], 1, m)
    _copied(0, target, source, 0, m, ())


@inline
def prefetch_row(X: Any, sample: int, m: int) -> None:
    """Have X[sample, :m] brought into the L2, to be read within a step."""
    line = CACHE_LINE // X.itemsize
    for j in range(0, m, line):
        prefetch(X, sample * m + j)


@inline
def finite_row(X: Any, i: int, n: int) -> bool:
    """No NaN or inf in X[i, :n]: 0 times any of them is NaN.

    Flags of integers may be gathered in any order, so many at once; a sum of floats may not.
    """
    row = segment(X, i * X.shape[1], n)
    nought, bad = X.dtype.type(0), np.uint32(0)
    for j in range(n):
        bad |= np.uint32(row[j] * nought != nought)
    return bad == 0


@inline
def unpack_row(X: Any, columns: Any, starts: Any, sample: int, into: Any, i: int, m: int) -> None:
    """into[i, :m] = row `sample` of the sparse matrix; values of one place add up, as in SciPy."""
    target = segment(into, i * into.shape[1], m)
    for j in range(m):
        target[j] = 0
    values = segment(X, 0, X.size)
    for k in range(starts[sample], starts[sample + 1]):
        target[columns[k]] += values[k]
