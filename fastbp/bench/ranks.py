"""A rank that times training steps of a shape, and what MPI's sums cost; rank 0 prints JSON.

    mpiexec -n 2 python -m fastbp.bench.ranks 784-128-10:128 --threads 1

The reply: {"ranks", "threads", "us" of a step, "sum_us" of one Allreduce as large as the flat
gradient, "call_us" of one as large as nothing}. Each is the least of a few.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastbp

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


def sums(comm: Any, mpi: Any, size: int) -> float:
    """Microseconds of one Allreduce of so many float32."""
    numbers = np.zeros(size, np.float32)
    count = max(3, min(2000, 20_000_000 // size))

    def several() -> None:
        for _ in range(count):
            comm.Allreduce(mpi.IN_PLACE, numbers)

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
    found["sum_us"], found["call_us"] = (sums(world.comm, world.mpi, n) for n in (size, 1))
    if world.leads:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
