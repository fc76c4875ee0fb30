"""Are there cliffs? Steps of neighbouring widths and batch sizes, timed in turns.

    python benchmarks/sweep.py [--turns 9] [--threads N]

Networks 64-w-w-10 (relu, momentum SGD) of width w and w + 1, and batches of b and b + 1: the time
of a whole step per operation of its products. Prints every pair's ratio (the greater over the less,
medians over the turns) and the worst: above 1.3 is a cliff from width 64 and batch 16 up, above
1.6 below.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from statistics import median

import numpy as np

import fastbp

WIDTHS = (8, 15, 16, 17, 24, 31, 32, 33, 40, 47, 48, 49, 56, 63, 64, 65, 79, 80, 81, 95, 96, 97)
WIDE = (111, 112, 127, 128, 129, 159, 160, 191, 192, 255, 256, 257, 319, 383, 384, 511, 512)
BATCHES = (1, 2, 3, 4, 6, 7, 8, 11, 12, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 63, 64, 95)
LARGE = (96, 127, 128, 129, 191, 192, 255, 256)
SECONDS = 0.02  # of one timing


class Shape:
    """A network in training, and what one operation of its step costs."""

    def __init__(self, width: int, batch: int, threads: int | None) -> None:
        self.width, self.batch = width, batch
        weights = (64 * width, width * width, width * 10)
        self.work = 2 * batch * (3 * sum(weights) - weights[0])
        self.steps = max(4, int(SECONDS * 3e10 / self.work)) if batch > 1 else 1500
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.steps * batch, 64), np.float32)
        self.data = X, rng.integers(0, 10, len(X))
        layers = [fastbp.Dense(width, "relu"), fastbp.Dense(width, "relu")]
        net = fastbp.Network(64, [*layers, fastbp.Dense(10, "softmax")], loss="cross_entropy")
        self.trainer = fastbp.Trainer(
            net, fastbp.SGD(1e-3, 0.9), batch_size=batch, n_threads=threads, progress=False
        )
        self.cost()

    def cost(self) -> float:
        """Nanoseconds an operation, now."""
        start = time.perf_counter()
        self.trainer.fit(*self.data, epochs=2)
        return (time.perf_counter() - start) / (2 * self.steps * self.work) * 1e9


def pairs() -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(width, batch) and its neighbour."""
    for batch in (16, 32, 128):
        for width in (*WIDTHS, *WIDE):
            yield (width, batch), (width + 1, batch)
    for width in (16, 64, 128):
        for batch in (*BATCHES, *LARGE):
            yield (width, batch), (width, batch + 1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=None)
    asked = parser.parse_args()
    worst = {True: 0.0, False: 0.0}
    for one, other in pairs():
        shapes = Shape(*one, asked.threads), Shape(*other, asked.threads)
        costs = [[shape.cost() for shape in shapes] for _ in range(asked.turns)]
        jump = median(b / a for a, b in costs)
        jump = max(jump, 1 / jump)
        large = min(one[0], other[0]) >= 64 and min(one[1], other[1]) >= 16
        worst[large] = max(worst[large], jump)
        mark = "  cliff" if jump > (1.3 if large else 1.6) else ""
        step = f"width {one[0]:4} -> {other[0]:4}  batch {one[1]:4} -> {other[1]:4}"
        print(f"{step}  {jump:.2f}{mark}")
    print(f"worst: {worst[True]:.2f} from width 64 and batch 16 up, {worst[False]:.2f} below")


if __name__ == "__main__":
    main()
