"""Find the first element that is NaN or inf, in one pass without temporary arrays.

The elements are read as integers: NaN and inf are the numbers whose exponent bits are all ones, and
a count of integers vectorises where an ordered comparison with an early exit does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np

from ..checks import writable_type
from .doors import region
from .jit import parallel, serial
from .memory import segment
from .shares import FLAT, share

EXIT_EVERY: Final = 2048
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
    for start in range(lo, hi, EXIT_EVERY):
        n = min(EXIT_EVERY, hi - start)
        block = segment(bits, start, n)
        carried = kind(0)
        for i in range(n):
            carried |= kind((block[i] & exponent) + carry)
        if carried & sign:
            for i in range(n):
                if (block[i] & exponent) == exponent:
                    return start + i
    return -1


@serial
def _screen_share(part: int, parts: int, bits: Any, exponent: Any, found: Any) -> None:
    """found[part]: what `screen_span` says of this share."""
    lo, hi = share(bits.shape[0], FLAT, part, parts)
    found[part] = screen_span(bits, exponent, lo, hi)


@parallel
def _screen_shares(bits: Any, exponent: Any, found: Any) -> None:
    parts = found.shape[0]
    for t in numba.prange(parts):
        _screen_share(np.int64(t), parts, bits, exponent, found)


def _in_region(bits: np.ndarray, exponent: Any, found: np.ndarray) -> None:
    """All shares in a parallel region, or one after another where none may be opened."""
    with region() as free:
        if free:
            _screen_shares(bits, exponent, found)
        else:
            for t in range(len(found)):
                _screen_share(t, len(found), bits, exponent, found)


def first_not_finite(
    X: np.ndarray, n_threads: int | None = None, *, run: Callable[..., Any] | None = None
) -> tuple[int, int] | None:
    """Row and column of the first element, in C order, that is NaN or inf; None if all are finite.

    Args:
        X: C-contiguous float32 or float64, (n, k) or (n,); of (n,) the column is 0.
        n_threads: threads to use at most; None: as many as Numba has. The answer does not depend
            on it.
        run: `run(share, threads, args)` calls share(t, threads, *args) for t = 0 .. threads-1 side
            by side. None: a region of Numba's threads. Those of OpenMP spin for milliseconds
            after it, which a caller with threads of its own will not want.

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
    bits = writable_type(X).reshape(-1).view(kind)
    size = bits.shape[0]
    threads = 1
    if size >= PARALLEL_FROM:
        threads = numba.get_num_threads() if n_threads is None else n_threads
    found = np.full(threads, -1, dtype=np.int64)
    if threads == 1:
        _screen_share(0, 1, bits, exponent, found)
    elif run is None:
        _in_region(bits, exponent, found)
    else:
        run(_screen_share, threads, (bits, exponent, found))
    index = next((int(i) for i in found if i >= 0), -1)
    if index < 0:
        return None
    columns = X.shape[1] if X.ndim == 2 else 1
    return int(index) // columns, int(index) % columns
