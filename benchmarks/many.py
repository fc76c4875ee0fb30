"""Networks trained side by side by `fit_many`, against one after the other.

    python -m benchmarks.many                  # tabular, 16 networks, 20 epochs of 600 steps
    python -m benchmarks.many notes --networks 8
    python -m benchmarks.many --threads 1      # those one after the other on one thread each

Both train the same networks to the same bits (checked), in turns; the ratio is of each turn.
"""

from __future__ import annotations

import argparse
import functools
import time
from statistics import median
from typing import Any

import fastbp
from fastbp.bench.shapes import SHAPES
from fastbp.budget import available_cores

from .common import make_task, network, trainer

EPOCHS = 20


def after_another(shape: Any, task: Any, count: int, threads: int | None) -> list[Any]:
    """Fits one after the other, each on as many threads; None: as many as pay."""
    nets = [network(shape) for _ in range(count)]
    for seed, net in enumerate(nets):
        net.initialize(seed)
        one = trainer(shape, net)
        one.n_threads = threads
        one.fit(task.X, task.y, epochs=EPOCHS)
    return nets


def side_by_side(shape: Any, task: Any, count: int) -> list[Any]:
    """The same by `fit_many`."""
    nets = [network(shape) for _ in range(count)]
    for seed, net in enumerate(nets):
        net.initialize(seed)
    fastbp.fit_many([trainer(shape, net) for net in nets], task.X, task.y, EPOCHS)
    return nets


def main() -> None:
    """A line a turn, then the median."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", nargs="?", default="tabular", choices=list(SHAPES))
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    task = make_task(shape)
    one_by_one = functools.partial(after_another, threads=options.threads)
    one_by_one(shape, task, 1)  # compiled
    ratios = []
    for _ in range(options.turns):
        seconds, found = [], []
        for run in (one_by_one, side_by_side):
            start = time.perf_counter()
            found.append(run(shape, task, options.networks))
            seconds.append(time.perf_counter() - start)
        for one, other in zip(*found, strict=True):
            if (one.parameters != other.parameters).any():
                raise SystemExit("side by side gave other weights")
        ratios.append(seconds[0] / seconds[1])
        print(f"one after the other {seconds[0]:.3f} s, side by side {seconds[1]:.3f} s: "
              f"{ratios[-1]:.2f}x", flush=True)  # fmt: skip
    print(f"{options.shape}, {options.networks} networks, {available_cores()} cores: "
          f"{median(ratios):.2f}x (median of {options.turns})")  # fmt: skip


if __name__ == "__main__":
    main()
