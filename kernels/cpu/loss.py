"""Losses, their derivatives and the short pairs over rows: serial bodies (a first, plain version)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..tables import LOSSES
from .jit import inline, serial

SQUARED, HALF_SQUARED, ABSOLUTE, BINARY, CROSS = (loss.code for loss in LOSSES.values())


@inline
def _clamp(a: Any, low: float, high: float) -> Any:
    return low if a < low else min(a, high)


@inline
def _value(loss: int, a: Any, y: Any, low: float, high: float) -> Any:
    if loss == SQUARED:
        return (a - y) * (a - y)
    if loss == HALF_SQUARED:
        return 0.5 * (a - y) * (a - y)
    if loss == ABSOLUTE:
        return abs(a - y)
    a = _clamp(a, low, high)
    if loss == CROSS:
        return -y * math.log(a)
    return -(y * math.log(a) + (1.0 - y) * math.log1p(-a))


@inline
def _slope(loss: int, a: Any, y: Any, low: float, high: float) -> Any:
    if loss == SQUARED:
        return 2.0 * (a - y)
    if loss == HALF_SQUARED:
        return a - y
    if loss == ABSOLUTE:
        return 1.0 if a > y else -1.0 if a < y else a - y
    a = _clamp(a, low, high)
    if loss == CROSS:
        return -y / a
    return (a - y) / (a * (1.0 - a))


@serial
def loss_rows(
    loss: int, A: Any, Y: Any, weight: Any, losses: Any, lo: int, hi: int, n: int
) -> None:
    """losses[i] = weight[i] L(A[i], Y[i]); losses is float64."""
    low, high = np.finfo(A.dtype).tiny, 1.0 - 0.5 * np.finfo(A.dtype).eps
    for i in range(lo, hi):
        total = 0.0
        for j in range(n):
            total += _value(loss, A[i, j], Y[i, j], low, high)
        losses[i] = weight[i] * total


@serial
def loss_gradient_rows(
    loss: int, A: Any, Y: Any, weight: Any, scale: float, dA: Any, lo: int, hi: int, n: int
) -> None:
    """dA = scale weight[i] dL/dA."""
    low, high = np.finfo(A.dtype).tiny, 1.0 - 0.5 * np.finfo(A.dtype).eps
    for i in range(lo, hi):
        for j in range(n):
            dA[i, j] = scale * weight[i] * _slope(loss, A[i, j], Y[i, j], low, high)


@serial
def pair_rows(
    loss: int,
    Z: Any,
    A: Any,
    Y: Any,
    weight: Any,
    scale: float,
    losses: Any,
    dZ: Any,
    lo: int,
    hi: int,
    n: int,
) -> None:
    """losses, A = f(Z) and dZ = scale weight[i] dL/dZ from logits, for a loss and its activation."""
    for i in range(lo, hi):
        c = scale * weight[i]
        if loss == CROSS:
            top = Z[i, 0]
            for j in range(n):
                top = max(top, Z[i, j])
            total = 0.0
            mass = 0.0
            lost = 0.0
            for j in range(n):
                lost += Y[i, j] * (top - Z[i, j])
                mass += Y[i, j]
                A[i, j] = math.exp(Z[i, j] - top)
                total += A[i, j]
            losses[i] = weight[i] * (lost + mass * math.log(total))
            for j in range(n):
                A[i, j] /= total
                dZ[i, j] = c * (A[i, j] * mass - Y[i, j])
        else:
            lost = 0.0
            for j in range(n):
                z = Z[i, j]
                y = Y[i, j]
                a = z
                if loss == BINARY:
                    e = math.exp(-abs(z))
                    a = (1.0 if z >= 0 else e) / (1.0 + e)
                    lost += (z if z > 0 else 0.0) - z * y + math.log1p(e)
                elif loss == SQUARED:
                    lost += (z - y) * (z - y)
                else:
                    lost += 0.5 * (z - y) * (z - y)
                A[i, j] = a
                dZ[i, j] = (c + c if loss == SQUARED else c) * (a - y)
            losses[i] = weight[i] * lost
