"""From which size on does a second thread pay? One thread and all of them, in turns.

    python -m benchmarks.threads [--turns 15]

Prints microseconds a step of 64-w-w-10 networks and their ratio (above 1: the threads pay), beside
the work by which `fastbp.budget.choose_threads` decides.
"""

from __future__ import annotations

import argparse
from statistics import median

from fastbp.budget import available_cores, choose_threads

from .sweep import Shape

SIZES = [(w, b) for w in (64, 128, 256, 512) for b in (32, 64, 128, 256)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    turns, cores = parser.parse_args().turns, available_cores()
    print(f"width batch  million operations  1 thread  {cores} threads  ratio  chosen")
    for width, batch in SIZES:
        one, all_cores = Shape(width, batch, 1), Shape(width, batch, cores)
        costs = [(one.cost(), all_cores.cost()) for _ in range(turns)]
        work = 6 * batch * (64 * width + width * width + 10 * width)
        a, b = (median(times) * one.work / 1e3 for times in zip(*costs, strict=True))
        ratio = median(x / y for x, y in costs)
        chosen = choose_threads(work, batch)
        print(f"{width:5} {batch:5} {work / 1e6:19.1f} {a:9.1f} {b:10.1f} {ratio:6.2f} {chosen:7}")


if __name__ == "__main__":
    main()
