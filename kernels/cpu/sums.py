"""Sums over the rows of a batch: the bias gradient."""

from __future__ import annotations

from typing import Any

from .jit import serial
from .memory import segment


@serial
def column_sums(D: Any, out: Any, rows: int, lo: int, hi: int) -> None:
    """out[j] = sum over the rows of D[:, j], in the order of the rows, for columns [lo, hi)."""
    n = hi - lo
    total = segment(out, lo, n)
    for j in range(n):
        total[j] = 0
    for i in range(rows):
        row = segment(D, i * D.shape[1] + lo, n)
        for j in range(n):
            total[j] += row[j]
