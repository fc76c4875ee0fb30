"""Activations and their derivatives: one number, the elements or rows of a window, the doors.

The formulas are those of `reference/activation.py` on libdevice's functions: exp, expm1, log1p and
tanh err by at most 2 ulp in float32 and 1 in float64, erfc by 4 and 5 (CUDA C++ Programming Guide,
"Mathematical functions"). Denormals are numbers here: they cost a card nothing. An activation
without a branch is NaN, so that a new one cannot pass for another.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from ..checks import code_of, name_of
from ..tables import ACTIVATIONS, LEAKY_SLOPE
from ..values import check_derivative
from .arith import erfc, exp, expm1, log1p, tanh
from .doors import Door, grid_for
from .machine import block, blocks, device, fma, kernel, like, shared_reals, thread
from .reduce import block_maximum, block_total
from .tiles import THREADS

(
    IDENTITY, STEP, RELU, LEAKY, ELU, SIGMOID, TANH, SOFTPLUS, SILU, GELU, SOFTMAX, EXP,
) = (ACTIVATIONS[name].code for name in (
    "identity", "step", "relu", "leaky_relu", "elu", "sigmoid", "tanh", "softplus", "silu",
    "gelu", "softmax", "exp",
))  # fmt: skip
FAR: Final = 1e4
_ROOT_HALF: Final = math.sqrt(0.5)
_DENSITY: Final = math.sqrt(0.5 / math.pi)
SHORT: Final = 64
"""Rows up to so long are a thread's; a longer one is a block's."""


@device
def absolute(x: Any) -> Any:
    """|x|."""
    return -x if x < 0 else x


@device
def sigmoid(z: Any) -> Any:
    """1 / (1 + e^-z), for z < 0 as e^z / (1 + e^z)."""
    e = exp(-absolute(z))
    one = like(z, 1.0)
    return (e if z < 0 else one) / (one + e)


@device
def normal_cdf(z: Any) -> Any:
    """Phi(z) = erfc(-z / sqrt 2) / 2."""
    return erfc(-z * like(z, _ROOT_HALF)) * like(z, 0.5)


@device
def bounded(x: Any, low: float, high: float) -> Any:
    """x held in [low, high]; NaN stays NaN."""
    if x < low:
        return like(x, low)
    if x > high:
        return like(x, high)
    return x


@device
def bend(code: int, z: Any) -> Any:
    """f(z) of the activations that are made of lines; the others' `curve`. NaN stays NaN."""
    zero, one = like(z, 0.0), like(z, 1.0)
    if code == STEP:
        if z >= zero:
            return one
        return zero if z < zero else z
    if code == RELU:
        return zero if z <= zero else z
    if code == LEAKY:
        return z if z > zero else z * like(z, LEAKY_SLOPE)
    return z


@device
def curve(code: int, z: Any) -> Any:
    """f(z) of the smooth activations."""
    zero = like(z, 0.0)
    if code == ELU:
        return z if z > zero else expm1(z)
    if code == SIGMOID:
        return sigmoid(z)
    if code == TANH:
        return tanh(z)
    if code == SOFTPLUS:
        return (zero if z <= zero else z) + log1p(exp(-absolute(z)))
    if code == EXP:
        return exp(z)
    held = like(z, -FAR) if z < -FAR else z
    if code == SILU:
        return held * sigmoid(z)
    return held * normal_cdf(z) if code == GELU else like(z, np.nan)


@device
def value(code: int, z: Any) -> Any:
    """f(z), element by element: all but softmax."""
    return bend(code, z) if code <= LEAKY else curve(code, z)


@device
def kinked(a: Any, below: Any) -> Any:
    """1 where a > 0, `below` where a <= 0, NaN where a is NaN."""
    if a > 0:
        return like(a, 1.0)
    return below if a <= 0 else a


@device
def slope(code: int, x: Any) -> Any:
    """f'(z) from x = f(z); from x = z where the table says from_output=False."""
    one = like(x, 1.0)
    if code == IDENTITY:
        return one
    if code == STEP:
        return like(x, 0.0)
    if code == RELU:
        return kinked(x, like(x, 0.0))
    if code == LEAKY:
        return kinked(x, like(x, LEAKY_SLOPE))
    if code == ELU:
        return kinked(x, x + one)
    if code == SIGMOID:
        return x * (one - x)
    if code == TANH:
        return (one - x) * (one + x)
    if code == SOFTPLUS:
        return -expm1(-x)
    if code == EXP:
        return x
    z = bounded(x, -FAR, FAR)
    if code == SILU:
        s = sigmoid(z)
        return s * fma(z, one - s, one)
    if code == GELU:
        return fma(z, exp(z * z * like(x, -0.5)) * like(x, _DENSITY), normal_cdf(z))
    return like(x, np.nan)


NEED_INPUT: Final = tuple(f.code for f in ACTIVATIONS.values() if not f.from_output)
"""Whose f' is computed from z, not from f(z)."""


@device
def needs_input(code: int) -> bool:
    """f' is computed from z, not from f(z)."""
    return code in NEED_INPUT


@device
def short_softmax(Z: Any, z: int, A: Any, a: int, n: int) -> None:
    """One row of softmax by one thread."""
    top = Z[z]
    for j in range(1, n):
        top = top if top > Z[z + j] else Z[z + j]
    total = like(top, 0.0)
    for j in range(n):
        e = exp(Z[z + j] - top)
        total += e
        A[a + j] = e
    for j in range(n):
        A[a + j] /= total


@device
def long_softmax(Z: Any, z: int, A: Any, a: int, n: int, shared: Any) -> None:
    """One row of softmax by a block."""
    t = thread()
    top = Z[z]
    for j in range(t, n, THREADS):
        top = top if top > Z[z + j] else Z[z + j]
    top = block_maximum(top, shared)
    total = like(top, 0.0)
    for j in range(t, n, THREADS):
        e = exp(Z[z + j] - top)
        total += e
        A[a + j] = e
    total = block_total(total, shared)
    for j in range(t, n, THREADS):
        A[a + j] /= total


@device
def softmax_rows(
    Z: Any, z0: int, ldz: int, A: Any, a0: int, lda: int, lo: int, hi: int, n: int, part: int,
    parts: int, shared: Any,
) -> None:  # fmt: skip
    """Softmax of rows [lo, hi), a thread a short row, a block a long one. A may be Z."""
    if n <= SHORT:
        for i in range(lo + part * THREADS + thread(), hi, parts * THREADS):
            short_softmax(Z, z0 + i * ldz, A, a0 + i * lda, n)
        return
    for i in range(lo + part, hi, parts):
        long_softmax(Z, z0 + i * ldz, A, a0 + i * lda, n, shared)


@device
def softmax_slope_rows(
    dA: Any, d0: int, ldd: int, A: Any, a0: int, lda: int, dZ: Any, z0: int, ldz: int, lo: int,
    hi: int, n: int, part: int, parts: int, shared: Any,
) -> None:  # fmt: skip
    """dL/dZ = a (dL/dA - sum a dL/dA) for rows [lo, hi). dZ may be dA."""
    t = thread()
    if n <= SHORT:
        for i in range(lo + part * THREADS + t, hi, parts * THREADS):
            dot = A.dtype.type(0)
            for j in range(n):
                dot += A[a0 + i * lda + j] * dA[d0 + i * ldd + j]
            for j in range(n):
                dZ[z0 + i * ldz + j] = A[a0 + i * lda + j] * (dA[d0 + i * ldd + j] - dot)
        return
    for i in range(lo + part, hi, parts):
        dot = A.dtype.type(0)
        for j in range(t, n, THREADS):
            dot += A[a0 + i * lda + j] * dA[d0 + i * ldd + j]
        dot = block_total(dot, shared)
        for j in range(t, n, THREADS):
            dZ[z0 + i * ldz + j] = A[a0 + i * lda + j] * (dA[d0 + i * ldd + j] - dot)


@kernel
def _activate(code: int, Z: Any, A: Any, rows: int, n: int) -> None:
    shared = shared_reals(Z)
    if code == SOFTMAX:
        softmax_rows(Z, 0, n, A, 0, n, 0, rows, n, block(), blocks(), shared)
        return
    for e in range(block() * THREADS + thread(), rows * n, blocks() * THREADS):
        A[e] = value(code, Z[e])


@kernel
def _derivative(code: int, dA: Any, A: Any, Z: Any, dZ: Any, rows: int, n: int) -> None:
    shared = shared_reals(A)
    if code == SOFTMAX:
        softmax_slope_rows(dA, 0, n, A, 0, n, dZ, 0, n, 0, rows, n, block(), blocks(), shared)
        return
    for e in range(block() * THREADS + thread(), rows * n, blocks() * THREADS):
        dZ[e] = dA[e] * slope(code, Z[e] if needs_input(code) else A[e])


def activate(activation: str | int, Z: Any, *, out: Any = None) -> Any:
    """A = f(Z), element by element; softmax row by row. As `fastbp.kernels.activate`.

    Arrays are NumPy's or a card's (`__cuda_array_interface__`); results come back where Z lies.
    """
    code = code_of("activation", activation, ACTIVATIONS)
    door = Door()
    z = door.take("Z", Z, (None, None))
    rows, n = door.shape("Z")
    a = door.give("out", out, (rows, n), in_place=("Z",))
    _activate.launch(grid_for(rows * n), code, z, a, rows, n)
    return door.close("out")


def apply_derivative(
    activation: str | int, dA: Any, A: Any, Z: Any = None, *, out: Any = None
) -> Any:
    """dL/dZ from dL/dA. As `fastbp.kernels.apply_derivative`; arrays as for `activate`."""
    code = code_of("activation", activation, ACTIVATIONS)
    door = Door()
    d = door.take("dA", dA, (None, None))
    shape = door.shape("dA")
    a = door.take("A", A, shape)
    name = name_of(code, ACTIVATIONS)
    check_derivative(name, has_Z=Z is not None)
    z = a if Z is None else door.take("Z", Z, shape)
    result = door.give("out", out, shape, in_place=("dA",))
    _derivative.launch(grid_for(shape[0] * shape[1]), code, d, a, z, result, *shape)
    return door.close("out")
