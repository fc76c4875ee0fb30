"""The three products of a layer against NumPy's OpenBLAS, in turns, on one core.

    OPENBLAS_NUM_THREADS=1 python benchmarks/products.py [--turns 15]

Prints medians over the turns of NumPy's time divided by ours: above 1 is faster than OpenBLAS.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.engine import aligned
from fastbp.kernels.cpu.layer_products import NO_PREFETCH, gradient_rows, input_rows, linear_rows
from fastbp.kernels.cpu.learn import FUSED_ELEMENTS
from fastbp.kernels.cpu.scratch import keeps_panels, panels_of_block, scratch_elements
from fastbp.kernels.cpu.shares import GRADIENT_ROWS, TALL
from fastbp.kernels.cpu.tile_table import bind_tiles
from fastbp.kernels.cpu.tiles import FINISH_NONE
from fastbp.kernels.layout import FIELDS, LD, M, leading_dimension

SHAPES = [
    (32, 64, 64),
    (32, 784, 10),
    (128, 784, 128),
    (256, 784, 512),
    (256, 512, 512),
    (512, 2048, 2048),
]


def _window(rows: int, columns: int, rng: Any, *, padded: bool) -> Any:
    ld = leading_dimension(columns, 4) if padded else columns
    window = aligned(rows * ld, np.float32).reshape(rows, ld)
    window[:] = rng.normal(size=(rows, ld))
    return window


def pairs(b: int, m: int, n: int, rng: Any) -> list[Callable[[], Any]]:
    """A W, A^T dZ and dZ W^T, ours and NumPy's by turns, as the training loop calls them."""
    plan = np.zeros((1, FIELDS), np.int64)
    plan[0, [M, LD]] = m, leading_dimension(n, 4)
    scratch = aligned(scratch_elements(plan, b, 4, bf16=False, count=1), np.float32)
    A, C, D, dA = (_window(b, k, rng, padded=True) for k in (m, n, n, m))
    W, G = (_window(m, n, rng, padded=False) for _ in range(2))
    bias = np.zeros(n, np.float32)
    a, d, c, da, g = A[:, :m].copy(), D[:, :n].copy(), C[:, :n].copy(), A[:, :m].copy(), W.copy()
    tall = max(FUSED_ELEMENTS // n // GRADIENT_ROWS * GRADIENT_ROWS, TALL)
    keeps = m > tall and keeps_panels.py_func(scratch, b, D.shape[1], 0)

    def gradient() -> None:
        for lo in range(0, m, tall):
            panels = panels_of_block.py_func(keeps, lo == 0)
            gradient_rows(A, D, G, 0, lo, min(lo + tall, m), b, n, 0, scratch, G[0, :0], panels)

    return [
        lambda: linear_rows(A, W, bias, C, 0, b, m, n, FINISH_NONE, 0, scratch, NO_PREFETCH, C),
        lambda: np.matmul(a, W, out=c),
        gradient,
        lambda: np.matmul(a.T, d, out=g),
        lambda: input_rows(D, W, A, dA, 0, b, n, m, FINISH_NONE, 0, scratch),
        lambda: np.matmul(d, W.T, out=da),
    ]


def seconds(call: Callable[[], Any], count: int) -> float:
    """Mean time of a call over `count` calls."""
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    turns = parser.parse_args().turns
    bind_tiles(np.float32)
    rng = np.random.default_rng(0)
    print("batch, inputs, units: NumPy's time over ours for A W, A^T dZ, dZ W^T")
    for b, m, n in SHAPES:
        calls = pairs(b, m, n, rng)
        count = max(1, int(1e-3 / (2 * b * m * n / 5e10)))
        for call in calls:
            seconds(call, 2)
        times = np.array([[seconds(call, count) for call in calls] for _ in range(turns)])
        ratios = np.median(times[:, 1::2] / times[:, ::2], axis=0)
        print(f"{b:>4} {m:>5} {n:>5}   " + "  ".join(f"{r:.2f}" for r in ratios), flush=True)


if __name__ == "__main__":
    main()
