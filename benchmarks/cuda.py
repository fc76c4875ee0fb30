"""Everything that the card has to reach, in one command on a machine that has one.

    python -m benchmarks.cuda [--json FILE] [--quick]
    NUMBA_ENABLE_CUDASIM=1 python -m benchmarks.cuda --rehearse

--rehearse runs every part on next to nothing, to see the command itself work before a card is paid
for.

1. The kernels' tests, on the card.
2. `fastbp bench --device cuda`: the named shapes and 64-128-128-128-10:4096 beside PyTorch eager,
   PyTorch compiled with CUDA graphs and JAX's scan, interleaved, data on the card.
3. The three products beside cuBLAS, and a meeting of blocks (`benchmarks/cuda_products.py`).
4. `fit` of 784-128-10, batch 128, 10 epochs of 60,000 samples, their way onto the card included.
5. The blocks of a launch, swept: whether `CardWorkspace._blocks` chooses well.
6. The same bits twice.

compute-sanitizer, where the toolkit has it:
    FASTBP_TEST_CARD=1 compute-sanitizer --tool memcheck python -m pytest tests/card
    FASTBP_TEST_CARD=1 compute-sanitizer --tool racecheck python -m pytest tests/card

What was found so far is in docs/cuda.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fastbp
from fastbp.bench.shapes import Shape, make_task, network_of, parse
from fastbp.devices import cuda_problem

from .cuda_products import REHEARSED as TINY
from .cuda_products import SHAPES, measured, meeting

REPEATS = 5


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    steps: of an epoch; None: see `Shape.on_a_card`. fitted, samples: the shape of the whole fit.
    products: shapes of `cuda_products`, beside cuBLAS or not.
    """

    shapes: list[str]
    steps: int | None
    repeats: int
    blocks: list[int]
    fitted: str
    samples: int
    products: list[tuple[str, int, int, int]]
    beside: bool


NAMED = ["online", "notes", "tabular", "mnist", "wide", "large", "64-128-128-128-10:4096"]
WHOLE = Scale(NAMED, None, REPEATS, [1, 2, 4, 8, 16, 32, 64], "mnist", 60_000, SHAPES, True)
QUICK = replace(WHOLE, shapes=[shape for shape in NAMED if shape not in {"wide", "large"}])
REHEARSED = Scale(["5-4-3:4"], 2, 1, [1], "6-5-10:8", 24, TINY, False)


def tests() -> str:
    """The last line of the card's tests."""
    command = [sys.executable, "-m", "pytest", "-q", str(Path(__file__).parents[1] / "tests/card")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "FASTBP_TEST_CARD": "1"}
    )
    return (done.stdout.strip().splitlines() or [done.stderr[-300:]])[-1]


def peers(scale: Scale) -> Any:
    """What `fastbp bench --device cuda --json` stores."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.json"
        command = [sys.executable, "-m", "fastbp", "bench", "--device", "cuda"]
        command += [word for shape in scale.shapes for word in ("--shape", shape)]
        command += ["--steps", str(scale.steps)] if scale.steps else []
        command += ["--repeats", str(scale.repeats), "--json", str(path)]
        subprocess.run(command, check=True)
        return json.loads(path.read_text())


def whole_task(scale: Scale) -> tuple[Shape, Any, Any]:
    """784-128-10 and 60,000 samples of MNIST's form, unless it is a rehearsal."""
    shape, rng = parse(scale.fitted), np.random.default_rng(0)
    X = rng.random((scale.samples, shape.widths[0]), dtype=np.float32)
    return shape, X, rng.integers(shape.widths[-1], size=scale.samples)


def whole_fit(scale: Scale) -> float:
    """Seconds of ten epochs from arrays of the host, after a first one that compiled."""
    shape, X, y = whole_task(scale)
    rule, few = fastbp.SGD(0.1, momentum=0.9), 2 * shape.batch
    trainer = fastbp.Trainer(network_of(shape, device="cuda"), rule, shape.batch, progress=False)
    trainer.fit(X[:few], y[:few])
    start = time.perf_counter()
    trainer.fit(X, y, epochs=10)
    return time.perf_counter() - start


def blocks_swept(scale: Scale) -> dict[str, dict[int, float]]:
    """Microseconds a step by number of blocks, by shape."""
    from fastbp.cuda import programs

    chosen: dict[str, dict[int, float]] = {}
    before = programs.Programs._blocks
    for text in scale.shapes:
        task = make_task(parse(text, scale.steps).on_a_card())
        net = network_of(task.shape, device="cuda")
        trainer = fastbp.Trainer(net, fastbp.SGD(0.01), task.shape.batch, progress=False)
        times = {}
        for count in (*scale.blocks, programs.processors()):
            programs.Programs._blocks = lambda self, items, count=count: count  # type: ignore[assignment, misc]
            trainer.fit(task.X, task.y)
            history = trainer.fit(task.X, task.y, epochs=scale.repeats)
            times[count] = median(history.seconds) / task.shape.steps * 1e6
        chosen[text] = times
    programs.Programs._blocks = before  # type: ignore[method-assign]
    return chosen


def same_bits(scale: Scale) -> bool:
    """Two fits end with the same weights."""
    shape, X, y = whole_task(scale)
    some, found = 50 * shape.batch, []
    for _ in range(2):
        net = network_of(shape, device="cuda")
        fastbp.Trainer(net, "adam", shape.batch, progress=False).fit(X[:some], y[:some])
        found.append(net.parameters.tobytes())
    return found[0] == found[1]


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="without tests, wide and large")
    size.add_argument("--rehearse", action="store_true", help="on next to nothing, without tests")
    given = parser.parse_args()
    if problem := cuda_problem():
        sys.exit(f"there is nothing to measure: {problem}")
    from fastbp.cuda.about import card

    scale = QUICK if given.quick else REHEARSED if given.rehearse else WHOLE
    parts = {
        "card": card,
        "tests": tests if scale is WHOLE else (lambda: "left out"),
        "same bits": lambda: same_bits(scale),
        "seconds of a fit": lambda: whole_fit(scale),
        "products": lambda: measured(scale.products, scale.beside),
        "a meeting, us": lambda: {n: meeting(n) * 1e6 for n in scale.blocks},
        "blocks": lambda: blocks_swept(scale),
        "peers": lambda: peers(scale),
    }
    result = {}
    for name, part in parts.items():
        try:
            result[name] = part()
        except Exception as error:  # noqa: BLE001 - the other parts are worth having
            result[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {json.dumps(result[name], indent=1, default=str)}", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
