"""Products of bfloat16 beside PyTorch's autocast and fastbp's own float32, in turns in one run.

Run `python -m benchmarks.bf16 [SHAPE...] [--repeats N]`; default `wide large` on all cores. With
`--accuracy FILE` (an .npz with x, y of MNIST) it trains 784-128-10 in both precisions from five
seeds instead, and prints the shares of 10,000 judged images that are right.
"""

from __future__ import annotations

import argparse

import numpy as np

import fastbp
from fastbp.bench import runner, shapes, table
from fastbp.bench.peers import installed
from fastbp.budget import available_cores
from fastbp.kernels.cpu import bf16

PEERS = ("fastbp", "fastbp bf16", "torch bf16")


def speed(names: list[str], repeats: int) -> None:
    """A line a shape: microseconds a step, and how many times as long the others take."""
    peers = [name for name in PEERS if name in installed()]
    chosen = [shapes.parse(name) for name in names]
    result = runner.run(chosen, peers, [available_cores()], repeats)
    for entry in result["shapes"]:
        rows = table.best(entry)
        for out in entry["left_out"]:
            print(f"left out: {out['peer']}: {out['why']}")
        ours = rows["fastbp bf16"]["us"]
        others = ", ".join(
            f"{n} {r['us']:,.0f} us ({r['us'] / ours:.2f}x)" for n, r in rows.items()
        )
        print(f"{entry['name']}: {others}", flush=True)


def accuracy(path: str) -> None:
    """Adam 1e-3, 10 epochs, batches of 128, 50,000 images to learn from."""
    data = np.load(path)
    X = data["x"].reshape(len(data["x"]), -1).astype(np.float32) / 255
    y = data["y"].astype(np.int64)
    found: dict[str | None, list[float]] = {None: [], "bfloat16": []}
    for seed in range(5):
        for precision, values in found.items():
            layers = [fastbp.Dense(128, "relu"), fastbp.Dense(10, "softmax")]
            net = fastbp.Network(784, layers, seed=seed, precision=precision)
            trainer = fastbp.Trainer(net, fastbp.Adam(1e-3), batch_size=128, progress=False)
            trainer.fit(X[:50_000], y[:50_000], epochs=10)
            values.append(100 * float((net.predict(X[50_000:]) == y[50_000:]).mean()))
    for precision, values in found.items():
        shown = " ".join(f"{value:.2f}" for value in values)
        print(f"{precision or 'float32'}: mean {np.mean(values):.3f}: {shown}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shapes", nargs="*", default=["wide", "large"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--accuracy")
    options = parser.parse_args()
    if not bf16.instructions():
        parser.error(f"there are no products of bfloat16 to measure: {bf16.missing()}")
    if options.accuracy:
        accuracy(options.accuracy)
    else:
        speed(options.shapes, options.repeats)
