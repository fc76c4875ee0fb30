"""Sums over the rows of a batch: the bias gradient."""

from __future__ import annotations

from typing import Any

from .jit import serial
from .memory import segment
from .stream import stream


def _sum_8(t: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    return t + (((a + b) + (c + d)) + ((e + f) + (g + h)))


def _sum_1(total: Any, a: Any) -> Any:
    return total + a


_add_eight = stream({8: _sum_8}, 1)
_add_one = stream({1: _sum_1}, 1)


@serial
def column_sums(D: Any, out: Any, rows: int, lo: int, hi: int) -> None:
    """out[j] = sum over the rows of D[:, j] for columns [lo, hi): by eights, then one by one.

    The sums so far are in memory: row by row each waits for the store of the one before it, which
    takes twice as long (32 rows of 64: 0.11 us instead of 0.055; EPYC, Zen 5).
    """
    n, ld = hi - lo, D.shape[1]
    total = segment(out, lo, n)
    if rows == 1:
        for j in range(n):
            total[j] = D[0, lo + j]
        return
    for j in range(n):
        total[j] = 0
    full = rows - rows % 8
    for i in range(0, full, 8):
        at = i * ld + lo
        a, b = segment(D, at, n), segment(D, at + ld, n)
        c, d = segment(D, at + 2 * ld, n), segment(D, at + 3 * ld, n)
        e, f = segment(D, at + 4 * ld, n), segment(D, at + 5 * ld, n)
        g, h = segment(D, at + 6 * ld, n), segment(D, at + 7 * ld, n)
        _add_eight(8, (total, a, b, c, d, e, f, g, h), n, ())
    for i in range(full, rows):
        _add_one(1, (total, segment(D, i * ld + lo, n)), n, ())
