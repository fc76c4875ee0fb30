"""bfloat16 operands in plain NumPy: what the products of that precision multiply."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def rounded(x: Array) -> Array:
    """x (float32) rounded to the nearest bfloat16, ties to even; float32 again, which holds it.

    NaN stays NaN, infinities stay, denormals become 0 of their sign, and what lies beyond half a
    unit above the largest bfloat16 becomes infinite.

    >>> rounded(np.array([1.00390625, 1.01171875, 1e-40], np.float32)).tolist()
    [1.0, 1.015625, 0.0]
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    even = (bits >> 16) & 1
    upper = (bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)
    upper = np.where(np.isnan(x), (bits | 0x400000) & np.uint32(0xFFFF0000), upper)
    upper = np.where((bits & 0x7F800000) == 0, bits & np.uint32(0x80000000), upper)
    return upper.astype(np.uint32).view(np.float32).reshape(np.shape(x))


def product(A: Array, B: Array, precision: str | None = None) -> Array:
    """A B; with precision "bfloat16" of rounded operands, each sum rounded once to float32.

    >>> product(np.float32([[1.00390625]]), np.float32([[3.0]]), "bfloat16").tolist()
    [[3.0]]
    """
    if precision is None:
        result: Array = A @ B
        return result
    with np.errstate(over="ignore", invalid="ignore"):
        return (rounded(A).astype(np.float64) @ rounded(B)).astype(np.float32)
