"""What networks reach on MNIST by seed: the three figures that the project holds itself to.

    python benchmarks/accuracy.py mnist.npz [--seeds 5] [--only notes]

The file holds x (n, 28, 28) uint8 and y (n,): the 60,000 training images. X/255 in float32; the
first 50,000 rows train, the last 10,000 judge, and nothing is chosen by looking at the latter.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastbp
from fastbp import Dense, Network, Trainer

TRAIN = 50_000


@dataclass(frozen=True)
class Task:
    """A network, how it is trained, and what its seeds must reach on average and at least."""

    title: str
    build: Callable[[int], Trainer]
    epochs: int
    mean: float
    least: float


def _mlp(seed: int) -> Trainer:
    net = Network(784, [Dense(128, "relu"), Dense(10, "softmax")], seed=seed)
    return Trainer(net, fastbp.Adam(1e-3), batch_size=128, progress=False)


def _small(seed: int) -> Trainer:
    """Ten hidden units: a rate that falls to 0 settles what the capacity allows."""
    net = Network(784, [Dense(10, "relu"), Dense(10, "softmax")], seed=seed)
    return Trainer(net, fastbp.Adam(fastbp.Cosine(4e-3)), batch_size=32, progress=False)


def _notes(seed: int) -> Trainer:
    """SGD-NEURAL-NET of notes 004: one sample at random, Gaussian weights scaled by 1/sqrt(m).

    The step size falls as 1/t (Robbins and Monro) from 0.5 to 0.1 over the 500,000 steps.
    """
    hidden = Dense(30, "sigmoid", init="normal", bias_init="normal")
    output = Dense(10, "sigmoid", init="normal", bias_init="normal")
    net = Network(784, [hidden, output], loss="squared_error", seed=seed)
    rate = fastbp.InverseTime(0.5, decay=8e-6)
    return Trainer(net, fastbp.SGD(rate), batch_size=1, sampling="replacement", progress=False)


TASKS = {
    "mlp": Task("784-128-10 relu, Adam 1e-3, batch 128, 10 epochs", _mlp, 10, 97.4, 97.2),
    "small": Task(
        "784-10-10 relu, Adam 4e-3 by cosine, batch 32, 10 epochs", _small, 10, 93.0, 0.0
    ),
    "notes": Task(
        "784-30-10 sigmoid, squared error, one sample at a time, 500,000 steps",
        _notes,
        10,
        95.0,
        0.0,
    ),
}


def accuracies(task: Task, data: Any, seeds: int) -> tuple[list[float], float]:
    """Percent right of the judged rows for each seed, and seconds a seed."""
    X, y = data
    found, started = [], time.perf_counter()
    for seed in range(seeds):
        trainer = task.build(seed)
        trainer.fit(X[:TRAIN], y[:TRAIN], epochs=task.epochs)
        guessed = trainer.network.predict(X[TRAIN:])
        if guessed.ndim == 2:  # outputs of a squared error, one a class
            guessed = guessed.argmax(axis=1)
        found.append(100.0 * float((guessed == y[TRAIN:]).mean()))
    return found, (time.perf_counter() - started) / seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="npz file with x (n, 28, 28) uint8 and y (n,)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=TASKS, action="append", help="one task, or several")
    options = parser.parse_args()
    with np.load(options.path) as file:
        X = file["x"].reshape(len(file["x"]), -1).astype(np.float32) / np.float32(255)
        y = file["y"].astype(np.int64)
    print("| network | mean | least | all | wanted | seconds a seed |\n|---|---|---|---|---|---|")
    for name in options.only or TASKS:
        task = TASKS[name]
        found, seconds = accuracies(task, (X, y), options.seeds)
        reached = np.mean(found) >= task.mean and min(found) >= task.least
        wanted = f"mean {task.mean}" + (f", least {task.least}" if task.least else "")
        print(
            f"| {task.title} | {np.mean(found):.2f} | {min(found):.2f} | "
            f"{' '.join(f'{value:.2f}' for value in found)} | {wanted}: "
            f"{'reached' if reached else 'MISSED'} | {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
