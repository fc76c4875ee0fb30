"""What the tests run on several ranks; alone, it is the one process to compare with.

mpiexec -n 2 python tests/ranks.py same DIRECTORY      every recipe; rank r writes r.npz
mpiexec -n 2 python tests/ranks.py apart DIRECTORY     a few recipes, as over several hosts
mpiexec -n 2 python tests/ranks.py threads DIRECTORY   a few recipes, two threads a rank
mpiexec -n 2 python tests/ranks.py stream DIRECTORY    a stream for each rank
mpiexec -n 2 python tests/ranks.py MISHAP DIRECTORY    see `mishap`
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import fastbp
from fastbp import Dense, Network, Trainer
from fastbp.datasets import load_digits

RANK, SIZE = 0, 1
if __name__ == "__main__":
    from mpi4py import MPI

    RANK, SIZE = MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()
HISTORY = ("loss", "validation_loss", "lr", "validation_accuracy", "accuracy")
FIGURES = ("gradient_norm", "shift_norm", "weight_norm", "update_norm", "delta_rms", "dead_relu")


def network(dtype: str, seed: int = 3, reduction: str = "mean", **fields: Any) -> Network:
    layers = [Dense(48, "relu", **fields), Dense(24, "tanh", **fields), Dense(10, "softmax")]
    return Network(64, layers, dtype=dtype, seed=seed, reduction=reduction)


# Name: (fields of the hidden layers, options of the Trainer, arguments of fit).
RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {"optimizer": fastbp.SGD(0.05, momentum=0.9)}, {}),
    "all": (
        {"batch_norm": True, "dropout": 0.2},
        {"optimizer": fastbp.SGD(fastbp.Cosine(0.1)), "perturbation": 0.05, "clip_norm": 1.0,
         "weight_decay": 1e-4, "metrics": ("accuracy",)},
        {"validation": 0.2},
    ),
    "after": (
        {"batch_norm": fastbp.BatchNorm("after", eps=0.01)},
        {"clip_value": 0.01, "optimizer": fastbp.SGD(0.05)},
        {},
    ),
    "weights": ({}, {"batch_size": 50, "metrics": ("accuracy",)}, {"sample_weight": True}),
    "drawn": ({"dropout": 0.5}, {"sampling": "replacement", "optimizer": fastbp.SGD(0.05)}, {}),
    "stopping": (
        {},
        {"early_stopping": fastbp.EarlyStopping(patience=2), "optimizer": fastbp.SGD(0.3)},
        {"validation": 0.3, "epochs": 30},
    ),
    "restarts": ({}, {"restarts": 2}, {"validation": 0.1, "epochs": 2}),
    "sum": ({"reduction": "sum"}, {"optimizer": fastbp.SGD(1e-4)}, {}),
    "full": (
        {"batch_norm": True},
        {"batch_size": None, "optimizer": fastbp.SGD(0.1)},
        {"epochs": 20},
    ),
    "tail": ({}, {"batch_size": 898}, {}),  # 1797 = 2 * 898 + 1: one row for many ranks
}  # fmt: skip


FEW = ("plain", "all", "after")


def train(
    name: str, dtype: str, distributed: str | None, n_threads: int | None = None
) -> dict[str, Any]:
    """The end of a recipe's training: numbers by name."""
    fields, options, fitted = RECIPES[name]
    options = {**options, "n_threads": n_threads}
    reduction = fields.get("reduction", "mean")
    fields = {key: value for key, value in fields.items() if key != "reduction"}
    net = network(dtype, reduction=reduction, **fields)
    trainer = Trainer(net, **options, distributed=distributed, progress=False)
    X, y = load_digits()
    X = X.astype(dtype)
    if fitted.get("sample_weight"):
        fitted = {**fitted, "sample_weight": np.linspace(0.0, 2.0, len(X)).astype(dtype)}
    history = trainer.fit(X, y, **{"epochs": 5, **fitted})
    columns = [np.ravel(history[key]) for key in HISTORY if key in history]
    figures = [np.ravel(history[key]) for key in FIGURES]
    return {
        "parameters": net.parameters, "running": net._running, "state": np.ravel(trainer.state),
        "history": np.concatenate(columns), "figures": np.nan_to_num(np.concatenate(figures)),
        "steps": np.array([trainer.step, trainer.epoch, len(history)]),
    }  # fmt: skip


def same(directory: Path, names: Iterable[str] = RECIPES, n_threads: int | None = None) -> None:
    """These recipes in both dtypes."""
    found = {}
    for dtype in ("float32", "float64"):
        for name in names:
            for key, value in train(name, dtype, "mpi", n_threads).items():
                found[f"{name} {dtype} {key}"] = value
    np.savez(directory / f"{RANK}.npz", **found)


def items(rank: int, size: int, count: int, weighted: bool) -> Any:
    """The items of a rank: unlike in size, and one more on rank 0."""
    X, y = load_digits()
    rng = np.random.default_rng(0)
    for step in range(count + (rank == 0)):
        sizes = 8 + (np.arange(size) * 5 + step) % 11
        ends = np.append(0, np.cumsum(sizes))
        rows = rng.integers(0, len(X), ends[-1])[ends[rank] : ends[rank + 1]]
        item = (X[rows], y[rows])
        yield (*item, 0.5 + rows % 3) if weighted else item


def stream(directory: Path, ranks: int | None = None) -> dict[str, Any]:
    """A stream a rank; `ranks`: one process that gets what so many ranks get together."""
    found = {}
    for weighted in (False, True):
        net = network("float64", batch_norm=True, dropout=0.3)
        trainer = Trainer(net, "sgd", distributed=None if ranks else "mpi", progress=False)
        batches = items(RANK, SIZE, 30, weighted)
        if ranks:
            parts = zip(*(items(r, ranks, 30, weighted) for r in range(ranks)), strict=False)
            batches = ([np.concatenate(p) for p in zip(*one, strict=True)] for one in parts)
        history = trainer.fit_stream(batches, steps_per_epoch=8)
        found[f"{weighted}"] = net.parameters
        found[f"{weighted} loss"] = np.array(history.loss)
        found[f"{weighted} steps"] = np.array([trainer.step, len(history)])
        assert history.stopped == "the batches ended"
    if not ranks:
        np.savez(directory / f"{RANK}.npz", **found)
    return found


EPOCHS, AT = 12, 5


def resumable(directory: Path, distributed: str | None, **options: Any) -> Trainer:
    """A trainer whose checkpoint is written in the middle of epochs."""
    net = network("float32", batch_norm=True, dropout=0.2)
    return Trainer(
        net, fastbp.Adam(fastbp.Cosine(0.01)), 64, checkpoint=directory / "kept.safetensors",
        every="7 steps", early_stopping=fastbp.EarlyStopping(patience=50), progress=False,
        distributed=distributed, **options,
    )  # fmt: skip


def mishap(what: str, directory: Path) -> None:
    """A training in which something happens in epoch 5, on the last rank."""

    def happen(state: fastbp.State) -> None:
        if what == "settings" and state.epoch == AT:
            state.trainer.clip_norm = -3.0
        if state.epoch != AT or RANK != SIZE - 1:
            return
        if what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "interrupted":
            os.kill(os.getpid(), signal.SIGINT)
        if what == "raised":
            raise LookupError("a callback's own")

    watched = what != "watched by one" or RANK == 0
    mine = resumable(directory, "mpi", callbacks=[happen] if watched else [])
    X, y = load_digits()
    if what == "row" and RANK == SIZE - 1:
        X = X.copy()
        X[7, 5] = np.nan
    if what == "unlike" and RANK == SIZE - 1:
        mine.network.initialize(99)
    if what == "inside":
        mine.schedule = _Broken(RANK == SIZE - 1)
    if what == "resumed":
        mine.resume()
    if what == "mapped":  # a bad row that only some rank meets, while it gathers
        np.save(directory / f"x{RANK}.npy", np.where(np.arange(len(X))[:, None] == 700, np.nan, X))
        X = np.load(directory / f"x{RANK}.npy", mmap_mode="r")
        mine.network = network("float64")
        mine = Trainer(mine.network, distributed="mpi", progress=False)
    if what == "diverged":
        mine.schedule = fastbp.Constant(1e30)
    try:
        mine.fit(X, y, epochs=EPOCHS, validation=0.1)
    except (Exception, KeyboardInterrupt) as error:
        name, ended = type(error).__name__, time.time()
        (directory / f"{RANK}.txt").write_text(f"{name}: {error} [{mine.step}] {ended}")
        if what not in {"interrupted", "mapped", "diverged", "settings"}:
            raise
        return
    np.savez(directory / f"{RANK}.npz", parameters=mine.network.parameters, state=mine.state)


class _Broken(fastbp.Schedule):
    """Fails on one rank alone, between two agreements."""

    def __init__(self, broken: bool) -> None:
        object.__setattr__(self, "broken", broken)

    def __repr__(self) -> str:
        return "_Broken()"

    def at(self, steps: Any, total: Any, state: Any) -> Any:
        if self.broken and steps[0] > 0:
            raise ZeroDivisionError("a schedule's own")
        return np.full(len(steps), 0.01)


if __name__ == "__main__":
    case, place = sys.argv[1], Path(sys.argv[2])
    if case == "same":
        same(place)
    elif case == "apart":
        from fastbp.distributed import mpi

        mpi.world().one_host = False  # as far as the gradient's sum goes
        mpi.Shared = None  # type: ignore[misc,assignment]
        same(place, FEW)
    elif case == "threads":
        same(place, FEW, n_threads=2)
    elif case == "stream":
        stream(place)
    else:
        mishap(case, place)
