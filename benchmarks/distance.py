"""How far apart are the cores? Nanoseconds that threads take to meet, now.

    python -m benchmarks.distance [--seconds 10]

Two threads of an EPYC (Zen 4) meet in 50 to 70 ns where their cores share an L3, in 330 where they
do not. A virtual machine may be moved from the one to the other within seconds, so timings of
several threads say little without these beside them.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from fastbp import budget, threads
from fastbp.kernels.cpu.barrier import SYNC_SIZE, barrier
from fastbp.kernels.cpu.jit import serial

MEETINGS = 20_000


@serial
def meet(t: int, T: int, sync: Any, count: int) -> None:  # noqa: ARG001 - `threads.run` gives it
    """Meet so many times."""
    for _ in range(count):
        barrier(sync, T)


def main() -> None:
    """Print one figure a second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10)
    asked = parser.parse_args()
    cores, sync = budget.available_cores(), np.zeros(SYNC_SIZE, np.int64)
    meet(0, 1, sync, 1)
    for _ in range(asked.seconds):
        start = time.perf_counter()
        threads.run(meet, cores, (sync, MEETINGS))
        print(f"{(time.perf_counter() - start) / MEETINGS * 1e9:.0f} ns", flush=True)
        time.sleep(1.0)


if __name__ == "__main__":
    main()
