"""Training steps by two or more versions of the package, in turns: did a change pay?

    python benchmarks/turns.py main~1 main [--shape mnist:2 --shape wide:1+adam] [--turns 9]
                               [--rest 0.2]

Each version is a commit (or `.`, the working tree), unpacked into a folder of its own and imported
in a process of its own that lives through the run. A shape is `NAME:THREADS`, a name or widths and
batch as `fastbp bench` takes them, and what the network has besides: adam, bn, dropout, float64, or
an activation. Or it is a product on one thread as `products.py` calls it, such as
`256x784x512/AtdZ` (batch, inputs, units; AW, AtdZ or dZWt): its result lies where the last call
left it. Prints medians in microseconds a step or product and, in brackets, the median over the
turns of the version's time over the first one's. `--rest`: seconds of sleep before each fit, after
which threads and clocks must be woken.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHAPES = ["online:1", "notes:1", "tabular:1", "mnist:1", "mnist:2", "wide:2"]
PRODUCTS = ("AW", "AtdZ", "dZWt")
WORK = 1.2e10  # operations of a timed fit
FEW = 1e8  # of timed products


def unpack(version: str, folder: Path) -> None:
    """The version's package, with its kernels where an installation has them."""
    if version == ".":
        for name in ("fastbp", "kernels"):
            shutil.copytree(ROOT / name, folder / name)
    else:
        command = ["git", "archive", version, "fastbp", "kernels"]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
            archive.extractall(folder, filter="data")
    shutil.move(folder / "kernels", folder / "fastbp" / "kernels")


def trainer_of(shape: str) -> tuple[Callable[[], Any], int]:
    """A function that fits once, and how many steps that are."""
    import numpy as np

    import fastbp
    from fastbp.bench.shapes import parse

    place, *extras = shape.split("+")
    name, threads = place.rsplit(":", 1)
    task, dense, more = parse(name), {}, {}
    activation, optimizer = "relu", fastbp.SGD(0.01, momentum=0.9)
    for extra in extras:
        match extra:
            case "adam":
                optimizer = fastbp.Adam(1e-3)
            case "bn":
                dense["batch_norm"] = True
            case "dropout":
                dense["dropout"] = 0.2
            case "float64":
                more["dtype"] = "float64"
            case _:
                activation = extra
    steps = int(min(max(WORK / task.flops, 12), 6000))
    rng = np.random.default_rng(0)
    X = rng.random((steps * task.batch, task.widths[0])).astype(more.get("dtype", "float32"))
    y = rng.integers(task.widths[-1], size=len(X))
    layers = [fastbp.Dense(units, activation, **dense) for units in task.widths[1:-1]]
    layers.append(fastbp.Dense(task.widths[-1], "softmax"))
    net = fastbp.Network(task.widths[0], layers, loss="cross_entropy", seed=0, **more)
    trainer = fastbp.Trainer(
        net, optimizer, batch_size=task.batch, n_threads=int(threads), progress=False
    )
    return lambda: trainer.fit(X, y, epochs=1), steps


def product_of(shape: str) -> tuple[Callable[[], Any], int]:
    """A function that forms a product some times, and how many times that are."""
    import numpy as np
    import products  # the one beside this file, on the version's kernels

    sizes, name = shape.split("/")
    b, m, n = map(int, sizes.split("x"))
    products.bind_tiles(np.float32)
    call = products.pairs(b, m, n, np.random.default_rng(0))[2 * PRODUCTS.index(name)]
    count = max(int(FEW / (2 * b * m * n)), 1)
    return lambda: products.seconds(call, count), count


def work() -> None:
    """A version's process: answers each shape on standard input with microseconds."""
    known: dict[str, tuple[Callable[[], Any], int]] = {}
    for line in sys.stdin:
        shape = line.strip()
        if shape not in known:
            known[shape] = product_of(shape) if "/" in shape else trainer_of(shape)
            known[shape][0]()
        fit, steps = known[shape]
        start = time.perf_counter()
        fit()
        print(json.dumps((time.perf_counter() - start) / steps * 1e6), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="+")
    parser.add_argument("--shape", action="append")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--rest", type=float, default=0.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for i, version in enumerate(asked.versions):
            place = Path(folder) / str(i)
            place.mkdir()
            unpack(version, place)
            processes.append(
                subprocess.Popen(
                    [sys.executable, __file__, "--work"],
                    env={**os.environ, "PYTHONPATH": str(place)},
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
            )  # fmt: skip

        def ask(process: Any, shape: str) -> float:
            time.sleep(asked.rest)
            process.stdin.write(shape + "\n")
            process.stdin.flush()
            return float(json.loads(process.stdout.readline()))

        for shape in asked.shape or SHAPES:
            times = [[ask(one, shape) for one in processes] for _ in range(asked.turns)]
            cells = (
                f"{version} {median(turn[i] for turn in times):,.1f} "
                f"({median(turn[i] / turn[0] for turn in times):.3f})"
                for i, version in enumerate(asked.versions)
            )
            print(f"{shape:24}", "  ".join(cells), flush=True)
        for process in processes:
            process.communicate()


if __name__ == "__main__":
    work() if sys.argv[1:] == ["--work"] else main()
