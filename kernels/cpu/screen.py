"""Find the first element that is NaN or inf, in one pass without temporary arrays.

The elements are read as integers: NaN and inf are the numbers whose exponent bits are all ones, and
a count of integers vectorises where an ordered comparison with an early exit does not.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from .doors import region
from .jit import parallel, serial
from .memory import segment
from .shares import FLAT, share

BLOCK: Final = 2048
"""Elements between two chances to leave early: 8 KB of float32."""

PARALLEL_FROM: Final = 1 << 20
"""Elements from which a second thread pays: 4 MB of float32 take one core about 0.4 ms."""

_EXPONENT: Final = {
    np.dtype(np.float32): (np.uint32, np.uint32(0x7F80_0000)),
    np.dtype(np.float64): (np.uint64, np.uint64(0x7FF0_0000_0000_0000)),
}


@serial
def screen_span(bits: Any, exponent: Any, lo: int, hi: int) -> int:
    """Index of the first element of [lo, hi) whose exponent bits are all ones; -1 if none is.

    Adding the lowest exponent bit to exponent bits that are all ones carries into the sign's place.
    """
    kind = bits.dtype.type
    carry = exponent & (~exponent + kind(1))
    sign = kind(exponent + carry)
    for start in range(lo, hi, BLOCK):
        n = min(BLOCK, hi - start)
        block = segment(bits, start, n)
        carried = kind(0)
        for i in range(n):
            carried |= kind((block[i] & exponent) + carry)
        if carried & sign:
            for i in range(n):
                if (block[i] & exponent) == exponent:
                    return start + i
    return -1


@parallel
def _screen_shares(bits: Any, exponent: Any, found: Any) -> None:
    """found[t]: what `screen_span` says of share t."""
    parts = found.shape[0]
    for t in numba.prange(parts):
        lo, hi = share(bits.shape[0], FLAT, t, parts)
        found[t] = screen_span(bits, exponent, lo, hi)


def _first(bits: np.ndarray, exponent: Any, threads: int) -> int:
    """Index of the first element that is not finite, -1 if all are."""
    if threads > 1:
        with region() as free:
            if free:
                found = np.empty(threads, dtype=np.int64)
                _screen_shares(bits, exponent, found)
                return next((int(i) for i in found if i >= 0), -1)
    return int(screen_span(bits, exponent, 0, bits.shape[0]))


def first_not_finite(X: np.ndarray, n_threads: int | None = None) -> tuple[int, int] | None:
    """Row and column of the first element, in C order, that is NaN or inf; None if all are finite.

    Args:
        X: C-contiguous float32 or float64, (n, k) or (n,); of (n,) the column is 0.
        n_threads: threads to use at most; None: as many as Numba has. The answer does not depend
            on it.

    Raises:
        TypeError: another dtype.
        ValueError: not C-contiguous.

    >>> first_not_finite(np.array([[1.0, 2.0], [3.0, np.inf]]))
    (1, 1)
    """
    if X.dtype not in _EXPONENT:
        raise TypeError(f"X has dtype {X.dtype}; give float32 or float64.")
    if not X.flags.c_contiguous:
        raise ValueError("X is not C-contiguous; give np.ascontiguousarray(X).")
    kind, exponent = _EXPONENT[X.dtype]
    bits = X.reshape(-1).view(kind)
    size = bits.shape[0]
    threads = 1
    if size >= PARALLEL_FROM:
        threads = numba.get_num_threads() if n_threads is None else n_threads
    index = _first(bits, exponent, threads)
    if index < 0:
        return None
    columns = X.shape[1] if X.ndim == 2 else 1
    return int(index) // columns, int(index) % columns
