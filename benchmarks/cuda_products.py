"""A card's tiles, formed again and again in one launch, beside cuBLAS; and what a meeting costs.

    python -m benchmarks.cuda_products
    NUMBA_ENABLE_CUDASIM=1 python -m benchmarks.cuda_products --rehearse

A launch from Python takes longer than most of these products. So each is repeated in one
cooperative launch, its blocks meeting after each time as they do in training, and the time of three
times as many less that of as many is taken; cuBLAS is captured in a CUDA graph by PyTorch, where
that is installed. Every product is checked against NumPy's in float64.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from fastbp.kernels.cuda.cut import cut
from fastbp.kernels.cuda.linear import stored
from fastbp.kernels.cuda.machine import (
    block,
    blocks,
    cooperative,
    kernel,
    shared_reals,
    sync_grid,
)
from fastbp.kernels.cuda.product import LAYOUTS, tile_of
from fastbp.kernels.cuda.shim import SIMULATED, cuda
from fastbp.kernels.cuda.tiles import LARGE, SMALL, TILES, WIDE

SHAPES = [
    ("A W", 256, 784, 512), ("A W", 256, 512, 512), ("A W", 512, 1024, 2048),
    ("A W", 512, 2048, 2048), ("A W", 128, 784, 128), ("A W", 2048, 2048, 2048),
    ("dZ W^T", 256, 512, 512), ("dZ W^T", 512, 2048, 2048), ("A^T dZ", 784, 256, 512),
    ("A^T dZ", 512, 256, 512), ("A^T dZ", 1024, 512, 2048), ("A^T dZ", 2048, 512, 2048),
    ("A^T dZ", 784, 128, 128),
]  # fmt: skip
"""Which product, and its rows, terms and columns."""
REHEARSED = [("A W", 9, 5, 6), ("dZ W^T", 8, 3, 17), ("A^T dZ", 5, 9, 4)]
BLOCKS, TIMES, REPEATS = (2, 2, 1) if SIMULATED else (132, 40, 5)
PRODUCTS = ("A W", "dZ W^T", "A^T dZ")
SIZES = {SMALL: "small", WIDE: "wide", LARGE: "large"}


def _again(which: int) -> Any:
    tile = tile_of(np.float32, stored, which)
    of_a, of_b = LAYOUTS[which]

    @kernel
    def again(
        size: int, tall: int, broad: int, A: Any, lda: int, B: Any, ldb: int, C: Any, rows: int,
        terms: int, columns: int, times: int,
    ) -> None:  # fmt: skip
        """The same product so many times, all blocks meeting in between."""
        cooperative()
        shared = shared_reals(A)
        across = (columns + broad - 1) // broad
        for _ in range(times):
            for item in range(block(), (rows + tall - 1) // tall * across, blocks()):
                i0, j0 = item // across * tall, item % across * broad
                tile(
                    size, (C, columns), A, i0 * lda if of_a else i0, lda, lda % 4 == 0,
                    B, j0 * ldb if of_b else j0, ldb, ldb % 4 == 0, i0, j0, rows, columns, terms,
                    shared,
                )  # fmt: skip
            sync_grid()

    return again


kernels = {what: _again(which) for which, what in enumerate(PRODUCTS)}


def seconds_of(launch: Callable[[int], None]) -> float:
    """Seconds of one repeat of a kernel that `launch(times)` has repeat something."""

    def run(times: int) -> float:
        cuda.synchronize()
        start = time.perf_counter()
        launch(times)
        cuda.synchronize()
        return time.perf_counter() - start

    run(1)
    return median((run(3 * TIMES) - run(TIMES)) / (2 * TIMES) for _ in range(REPEATS))


@dataclass
class Product:
    """One product's factors as they lie in training.

    Attributes:
        A, B: factors as they lie in memory; of_a, of_b: whether their terms are neighbours.
    """

    what: str
    rows: int
    terms: int
    columns: int

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        a = rng.standard_normal((self.rows, self.terms)).astype(np.float32)
        b = rng.standard_normal((self.terms, self.columns)).astype(np.float32)
        self.exact = a.astype(np.float64) @ b
        of_a, of_b = LAYOUTS[PRODUCTS.index(self.what)]
        self.A = a if of_a else np.ascontiguousarray(a.T)
        self.B = np.ascontiguousarray(b.T) if of_b else b
        self.of_a, self.of_b = of_a, of_b

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.terms * self.columns

    def ours(self, size: int) -> float:
        """Seconds of one by tiles of this size; wrong results raise."""
        A, B = (cuda.to_device(x.reshape(-1)) for x in (self.A, self.B))
        C = cuda.to_device(np.full(self.exact.size, np.nan, np.float32))
        tile, lda, ldb = TILES[np.float32][size], self.A.shape[1], self.B.shape[1]
        seconds = seconds_of(
            lambda times: kernels[self.what].launch(
                BLOCKS, size, tile.rows, tile.columns, A, lda, B, ldb, C, self.rows, self.terms,
                self.columns, times,
            )
        )  # fmt: skip
        found = C.copy_to_host().reshape(self.exact.shape)
        # A sum of n products of N(0, 1): n eps of their sizes, which add up to about n.
        bound = self.terms * np.finfo(np.float32).eps * max(self.terms, 16)
        np.testing.assert_allclose(found, self.exact, rtol=0, atol=bound)
        return seconds

    def cublas(self) -> float:
        """Seconds of one by torch.mm in float32, tensor cores off."""
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        A, B = torch.from_numpy(self.A).cuda(), torch.from_numpy(self.B).cuda()
        A, B = A if self.of_a else A.T, B.T if self.of_b else B
        C = torch.empty(self.exact.shape, device="cuda")
        for _ in range(3):
            torch.mm(A, B, out=C)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(TIMES):
                torch.mm(A, B, out=C)
        times = []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            graph.replay()
            torch.cuda.synchronize()
            times.append((time.perf_counter() - start) / TIMES)
        return median(times[1:])


def meeting(count: int) -> float:
    """Seconds that so many blocks take to meet: between products without rows."""
    x = cuda.to_device(np.zeros(1, np.float32))
    return seconds_of(
        lambda times: kernels["A W"].launch(count, SMALL, 32, 32, x, 1, x, 1, x, 0, 1, 1, times)
    )


def measured(shapes: list[tuple[str, int, int, int]], beside: bool) -> list[dict[str, Any]]:
    """A row a shape: microseconds by each size of tile, which is chosen, and cuBLAS's."""
    rows = []
    for shape in shapes:
        product = Product(*shape)
        times = {name: product.ours(size) * 1e6 for size, name in SIZES.items()}
        made = cut([(product.rows, product.columns)], product.terms, np.float32, whole=True)
        chosen = SIZES[made.size]
        row: dict[str, Any] = {"product": shape[0], "shape": shape[1:], "us": times}
        row |= {"chosen": chosen, "tflops": product.flops / times[chosen] / 1e6}
        if beside:
            row["of cuBLAS"] = product.cublas() * 1e6 / times[chosen]
        rows.append(row)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", action="store_true", help="tiny products, without cuBLAS")
    given = parser.parse_args()
    for row in measured(REHEARSED if given.rehearse else SHAPES, not given.rehearse):
        print(row, flush=True)
    for count in (1, 2) if given.rehearse else (1, 2, 8, 32, 132):
        print(f"a meeting of {count} blocks: {meeting(count) * 1e6:.2f} us", flush=True)


if __name__ == "__main__":
    main()
