"""What training needs beside the data: no copy of X, and no more than is promised."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp.kernels.tables import UPDATES

SAMPLES, INPUTS, UNITS, BATCH = 150_000, 64, 200, 512
FIXED = 4 << 20
"""Bytes for two threads' scratch and the interpreter; 64 MB are promised."""


def peak_of_fit(X: np.ndarray, y: np.ndarray, optimizer: fastbp.Optimizer) -> tuple[int, int]:
    """Bytes allocated at most during a fit, and the network's number of parameters."""
    layers = [fastbp.Dense(UNITS, "relu"), fastbp.Dense(2, "softmax")]
    net = fastbp.Network(INPUTS, layers, loss="cross_entropy", seed=0)
    trainer = fastbp.Trainer(net, optimizer, batch_size=BATCH, n_threads=2, progress=False)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        trainer.fit(X, y, epochs=1)
        return tracemalloc.get_traced_memory()[1] - before, net.parameters.size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize(
    ("optimizer", "rows"),
    [(fastbp.SGD(1e-3), 0), (fastbp.Adam(1e-3), len(UPDATES["adam"].rows))],
)
def test_training_needs_what_is_promised(
    tmp_path: Path, mapped: bool, optimizer: fastbp.Optimizer, rows: int
) -> None:
    X = np.zeros((SAMPLES, INPUTS), np.float32)
    if mapped:
        path = tmp_path / "X.npy"
        np.lib.format.open_memmap(path, "w+", np.float32, (SAMPLES, INPUTS)).flush()
        X = np.load(path, mmap_mode="r")
    y = np.arange(SAMPLES, dtype=np.int64) % 2
    peak_of_fit(X[:BATCH], y[:BATCH], optimizer)  # compiles, or loads
    peak, parameters = peak_of_fit(X, y, optimizer)
    activations = 2 * BATCH * (INPUTS + 2 * UNITS + 2 * 16) * 4
    promised = parameters * 4 * (4 + 2 * rows) + 8 * SAMPLES + 2 * activations + FIXED
    assert peak <= promised
    assert promised < X.nbytes / 3  # so that a copy of X would be seen


@pytest.mark.parametrize("stopping", [None, fastbp.EarlyStopping(patience=1)])
@pytest.mark.parametrize("optimizer", [fastbp.SGD(1e-3), fastbp.Adam(1e-3)])
def test_restarts_need_what_is_promised(optimizer: fastbp.Optimizer, stopping: Any) -> None:
    X, y = np.random.default_rng(0).normal(size=(64, 4096)).astype(np.float32), np.arange(64) % 2
    found = []
    for restarts in (1, 1, 4):  # the first compiles, or loads
        net = fastbp.Network(4096, [fastbp.Dense(512, "relu"), fastbp.Dense(2, "softmax")], seed=0)
        trainer = fastbp.Trainer(
            net, optimizer, restarts=restarts, early_stopping=stopping, n_threads=2, progress=False
        )
        tracemalloc.start()
        try:
            trainer.fit(X, y, epochs=2, validation=0.25)
            found.append((tracemalloc.get_traced_memory()[1] - FIXED) / net.parameters.nbytes)
        finally:
            tracemalloc.stop()
    _, once, often = found
    activations = 2 * 32 * (4096 + 2 * 512 + 2 * 16) * 4 / net.parameters.nbytes
    assert max(once, often) <= 4 + 2 * len(optimizer.rows) + 2 * activations
    assert often > once + len(optimizer.rows)  # the best of the starts is kept: seen here


@pytest.mark.parametrize("init", ["he_normal", "glorot_uniform"])
def test_a_network_is_drawn_into_its_place(init: str) -> None:
    fastbp.Network(2, [fastbp.Dense(2, init=init)])  # compiles, or loads
    tracemalloc.start()
    try:
        net = fastbp.Network(4096, [fastbp.Dense(1024, init=init)], seed=0)
        assert tracemalloc.get_traced_memory()[1] <= net.parameters.nbytes + FIXED
    finally:
        tracemalloc.stop()


def test_rows_that_are_held_out_stay_where_they_are(tmp_path: Path) -> None:
    """Losses, metrics and the outcome of half of X: 8 MB at once, where all are 19; and alike."""
    rng = np.random.default_rng(0)
    path = tmp_path / "X.npy"
    np.save(path, rng.normal(size=(SAMPLES, INPUTS)).astype(np.float32))
    y = np.arange(SAMPLES) % 2
    found = []
    for X in (np.load(path, mmap_mode="r"), np.load(path)):
        layers = [fastbp.Dense(20, "relu"), fastbp.Dense(2, "softmax")]
        net = fastbp.Network(INPUTS, layers, seed=0)
        trainer = fastbp.Trainer(net, batch_size=BATCH, metrics=["accuracy"], progress=False)
        tracemalloc.start()
        try:
            history = trainer.fit(X, y, epochs=1, validation=0.5)
            found.append((history, tracemalloc.get_traced_memory()[1]))
        finally:
            tracemalloc.stop()
    (mapped, peak), (whole, other) = found
    assert mapped.validation_accuracy == whole.validation_accuracy
    assert mapped.outcome == whole.outcome
    assert mapped.validation_loss == pytest.approx(whole.validation_loss, rel=1e-12)
    copied = SAMPLES // 2 * INPUTS * 4
    assert max(peak, other) < copied


def test_another_dtype_is_converted_once() -> None:
    X, y = np.zeros((SAMPLES, INPUTS)), np.arange(SAMPLES) % 2
    peak, _ = peak_of_fit(X, y, fastbp.SGD(1e-3))
    assert X.nbytes / 2 <= peak <= 1.2 * X.nbytes
