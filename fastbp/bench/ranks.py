"""A rank that times training steps of a shape, and the sums over the ranks; rank 0 prints JSON.

    mpiexec -n 2 python -m fastbp.bench.ranks 784-128-10:128 --threads 1

The reply: {"ranks", "threads", "us" of a step, "sum_us" of the flat gradient's sum, "call_us" of a
sum of nothing}. Each is the least of a few.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import fastbp

from ..engine import aligned
from ..kernels.cpu.barrier import SYNC_SIZE
from ..kernels.cpu.ranks import over_ranks
from .shapes import EPOCHS, make_task, network_of, parse

REPEATS = 5


def build(shape: Any, task: Any, threads: int) -> Any:
    """The shape's network and trainer, on all ranks."""
    net = network_of(shape)
    for layer, W in zip(net.layers, task.weights, strict=True):
        layer.W[...] = W
    rule = fastbp.SGD(task.lr, momentum=task.momentum)
    options: dict[str, Any] = {"n_threads": threads, "progress": False, "distributed": "mpi"}
    return fastbp.Trainer(net, rule, shape.batch, **options)


def least(run: Callable[[], Any], times: int) -> float:
    """Microseconds of the fastest of so many runs."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found) * 1e6


@numba.njit(nogil=True, _nrt=False)  # type: ignore[untyped-decorator]
def add_up(world: Any, plan: Any, gradient: Any, sync: Any, count: int) -> None:
    """Sum the ranks' gradients so many times, as a training step does."""
    for _ in range(count):
        over_ranks(0, 1, world, plan, gradient, 0.0, False, sync)


def sums(world: Any, size: int) -> float:
    """Microseconds of one sum of so many float32 over the ranks, of one thread each."""
    if world.size == 1:
        return 0.0
    gradient, vector = world.gradient(size + 1, np.float32)
    plan, sync = np.zeros((0, 1), np.int64), aligned(SYNC_SIZE, np.int64)
    count = max(3, min(2000, 20_000_000 // size))

    def several() -> None:
        add_up(vector, plan, gradient, sync, count)

    several()
    return least(several, REPEATS) / count


def main() -> None:
    """Time a shape, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of an epoch")
    options = parser.parse_args()
    shape = parse(options.shape, options.steps)
    trainer = build(shape, task := make_task(shape), options.threads)
    trainer.fit(task.X, task.y)
    us = least(lambda: trainer.fit(task.X, task.y, epochs=EPOCHS), REPEATS)
    world = trainer._world
    size = trainer.network.parameters.size
    found = {"ranks": world.size, "threads": options.threads, "us": us / (EPOCHS * shape.steps)}
    with world.fitting():
        found["sum_us"], found["call_us"] = (sums(world, n) for n in (size, 1))
    if world.leads:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
