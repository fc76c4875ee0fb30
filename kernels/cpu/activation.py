"""Activations and their derivatives over rows: serial bodies (a first, plain version)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..tables import ACTIVATIONS, LEAKY_SLOPE
from .jit import inline, serial

IDENTITY, STEP, RELU, LEAKY_RELU, ELU, SIGMOID, TANH, SOFTPLUS, SILU, GELU, SOFTMAX = (
    activation.code for activation in ACTIVATIONS.values()
)


@inline
def _value(code: int, z: Any) -> Any:
    if code == IDENTITY or z != z:
        return z
    if code == STEP:
        return 1.0 if z >= 0 else 0.0
    if code == RELU:
        return z if z > 0 else 0.0
    if code == LEAKY_RELU:
        return z if z > 0 else LEAKY_SLOPE * z
    if code == ELU:
        return z if z > 0 else math.expm1(z)
    if code == TANH:
        return math.tanh(z)
    e = math.exp(-abs(z))
    if code == SOFTPLUS:
        return max(z, 0.0) + math.log1p(e)
    sigmoid = (1.0 if z >= 0 else e) / (1.0 + e)
    if code == SIGMOID:
        return sigmoid
    if code == SILU:
        return z * sigmoid
    return 0.5 * z * (1.0 + math.erf(z * math.sqrt(0.5)))


@inline
def _slope(code: int, a: Any, z: Any) -> Any:
    if code == IDENTITY:
        return 1.0
    if code == STEP:
        return 0.0
    if a != a:
        return a
    if code == RELU:
        return 1.0 if a > 0 else 0.0
    if code == LEAKY_RELU:
        return 1.0 if a > 0 else LEAKY_SLOPE
    if code == ELU:
        return 1.0 if a > 0 else a + 1.0
    if code == SIGMOID:
        return a * (1.0 - a)
    if code == TANH:
        return 1.0 - a * a
    if code == SOFTPLUS:
        return -math.expm1(-a)
    if code == SILU:
        e = math.exp(-abs(z))
        s = (1.0 if z >= 0 else e) / (1.0 + e)
        return s * (1.0 + z * (1.0 - s))
    phi = math.exp(-0.5 * z * z) * math.sqrt(0.5 / math.pi)
    return 0.5 * (1.0 + math.erf(z * math.sqrt(0.5))) + z * phi


@serial
def activate_rows(code: int, Z: Any, A: Any, lo: int, hi: int, n: int) -> None:
    """A[lo:hi, :n] = f(Z[lo:hi, :n]); A may be Z."""
    for i in range(lo, hi):
        if code == SOFTMAX:
            top = Z[i, 0]
            for j in range(n):
                top = max(top, Z[i, j])
            total = 0.0
            for j in range(n):
                A[i, j] = np.exp(Z[i, j] - top)
                total += A[i, j]
            for j in range(n):
                A[i, j] /= total
        else:
            for j in range(n):
                A[i, j] = _value(code, Z[i, j])


@serial
def derivative_rows(code: int, dA: Any, A: Any, Z: Any, dZ: Any, lo: int, hi: int, n: int) -> None:
    """dZ = dA f'(z) for rows lo..hi, first n columns; dZ may be dA."""
    for i in range(lo, hi):
        if code == SOFTMAX:
            total = 0.0
            for j in range(n):
                total += A[i, j] * dA[i, j]
            for j in range(n):
                dZ[i, j] = A[i, j] * (dA[i, j] - total)
        else:
            for j in range(n):
                z = Z[i, j] if code == SILU or code == GELU else A[i, j]
                dZ[i, j] = dA[i, j] * _slope(code, A[i, j], z)
