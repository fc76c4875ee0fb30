"""What the tests of products share: shapes, whole numbers, the products over a thread's rows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from fastbp.kernels.cpu.bf16_product import BF16_SCRATCH_BYTES
from fastbp.kernels.cpu.layer_products import NO_PREFETCH, gradient_rows, input_rows, linear_rows
from fastbp.kernels.cpu.operands import DEPTH_BLOCK_BYTES, PACK_STRIDE_BYTES, SCRATCH_BYTES
from fastbp.kernels.cpu.tiles import FINISH_MASK, FINISH_NONE

DTYPES = ["float32", "float64"]
SIZES = [1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 64]
"""1, primes, and both sides of every vector and tile."""
ODD = [1, 2, 11, 19, 23, 24, 25, 37, 47, 48, 49, 63, 65, 67, 97, 128, 131]


def shapes() -> list[tuple[int, int, int]]:
    """(rows, inputs, outputs): a grid of small ones and draws of larger ones."""
    rng = np.random.default_rng(0)
    return [*itertools.product(SIZES, repeat=3), *(tuple(s) for s in rng.choice(ODD, (350, 3)))]


# From here on B's rows are packed; deeper than this, in several blocks.
FAR = {d: PACK_STRIDE_BYTES // np.dtype(d).itemsize for d in DTYPES}
DEEP = {d: DEPTH_BLOCK_BYTES // np.dtype(d).itemsize for d in DTYPES}
ROOM = max(SCRATCH_BYTES, BF16_SCRATCH_BYTES)
SCRATCH = {d: np.empty(ROOM // np.dtype(d).itemsize, d) for d in DTYPES}


def forward(
    A: Any, W: Any, b: Any, finish: int = FINISH_NONE, cuts: Any = (), bf16: int = 0
) -> np.ndarray:
    C = np.full((len(A), W.shape[1]), np.nan, A.dtype)
    edges = [0, *cuts, len(A)]
    for lo, hi in itertools.pairwise(edges):
        scratch = SCRATCH[A.dtype.name]
        linear_rows(A, W, b, C, lo, hi, *W.shape, finish, bf16, scratch, NO_PREFETCH, C)
    return C


def gradient(A: Any, D: Any, cuts: Any = (), bf16: int = 0) -> np.ndarray:
    G = np.full((A.shape[1], D.shape[1]), np.nan, A.dtype)
    edges = [0, *cuts, len(G)]
    for lo, hi in itertools.pairwise(edges):
        gradient_rows(A, D, G, 0, lo, hi, *D.shape, bf16, SCRATCH[A.dtype.name], G[0, :0], 0)
    return G


def backward(D: Any, W: Any, judge: Any = None, cuts: Any = (), bf16: int = 0) -> np.ndarray:
    C = np.full((len(D), len(W)), np.nan, D.dtype)
    finish = FINISH_NONE if judge is None else FINISH_MASK
    edges = [0, *cuts, len(D)]
    for lo, hi in itertools.pairwise(edges):
        input_rows(
            D, W, D if judge is None else judge, C, lo, hi, W.shape[1], len(W), finish, bf16,
            SCRATCH[D.dtype.name],
        )  # fmt: skip
    return C


def integers(rng: Any, dtype: str, *shape: int) -> np.ndarray:
    """Whole numbers, exact in bfloat16; so are sums of 2,000 products in float32: 2^17 < 2^24."""
    return rng.integers(-8, 9, shape).astype(dtype)


def same(got: np.ndarray, want: np.ndarray) -> bool:
    """To the last bit; the reference's -0 counts as 0."""
    return got.dtype == want.dtype and (got + 0.0).tobytes() == (want + 0.0).tobytes()
