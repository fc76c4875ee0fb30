"""Threads, processes, forks and nesting, under every threading layer: the serial results.

Here a small part of the matrix runs; `python tests/concurrency.py` runs the whole.
"""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import Dense, Network, Trainer
from fastbp.kernels.cpu.jit import JIT_DISABLED

ROOT = Path(__file__).resolve().parent.parent
X = np.random.default_rng(0).normal(size=(60, 4)).astype("f4")
Y = np.arange(60) % 3

compiled = pytest.mark.skipif(JIT_DISABLED, reason="slow without compiled code")


@compiled
@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_a_part_of_the_matrix(layer: str, python: Any) -> None:
    done = python("tests/concurrency.py", "--layer", layer, "--small")
    if "is not installed" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr


def trainer(**options: Any) -> Trainer:
    net = Network(4, [Dense(5, "tanh"), Dense(3, "softmax")], seed=1)
    return Trainer(net, batch_size=8, progress=False, **options)


def test_a_second_fit_at_the_same_time_is_refused_and_harms_nothing() -> None:
    mine, seen = trainer(), []
    inside, go = threading.Event(), threading.Event()

    def wait(state: fastbp.State) -> None:
        inside.set()
        assert go.wait(60)

    thread = threading.Thread(target=lambda: seen.append(mine.fit(X, Y, 2, callbacks=[wait])))
    thread.start()
    assert inside.wait(60)
    others = (mine, Trainer(mine.network, "sgd", progress=False))
    for other in others:
        with pytest.raises(RuntimeError, match="this network is being trained already"):
            other.fit(X, Y)
    with pytest.raises(RuntimeError, match="this network is being trained already"):
        mine.resume("nowhere")
    twin = copy.deepcopy(mine)  # a copy may be trained meanwhile
    assert len(twin.fit(X, Y)) == 1
    go.set()
    thread.join(60)
    alone = trainer()
    alone.fit(X, Y, epochs=2)
    assert len(seen[0]) == 2
    assert mine.network.parameters.tobytes() == alone.network.parameters.tobytes()
    assert len(mine.fit(X, Y)) == 1  # and free again


def test_a_fit_within_its_own_callback_is_refused() -> None:
    mine = trainer()
    with pytest.raises(RuntimeError, match="by the fit that called back"):
        mine.fit(X, Y, callbacks=[lambda state: mine.fit(X, Y)])
    assert len(mine.fit(X, Y)) == 1


def test_a_stopping_rule_is_of_one_fit_at_a_time() -> None:
    """It remembers what it saw: two fits would mix up theirs."""
    rule = fastbp.EarlyStopping("loss")
    mine, other = trainer(early_stopping=rule), trainer(early_stopping=rule)
    with pytest.raises(RuntimeError, match="a stopping rule of this fit is in use by another one"):
        mine.fit(X, Y, epochs=2, callbacks=[lambda state: other.fit(X, Y)])
    assert other.epoch == 0
    assert len(other.fit(X, Y)) == len(mine.fit(X, Y)) == 1  # and free again


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_fit_that_fails_leaves_the_network_free(error: type[BaseException]) -> None:
    mine = trainer()

    def fail(state: fastbp.State) -> None:
        raise error

    with pytest.raises(error):
        mine.fit(X, Y, callbacks=[fail])
    with pytest.raises(ValueError, match="y has 3 rows"):
        mine.fit(X, Y[:3])
    assert len(mine.fit(X, Y)) == 1


@compiled
def test_predictions_during_a_fit_are_of_weights_on_their_way() -> None:
    """Nothing breaks, and the fit ends as it would have: reading changes nothing."""
    mine, outputs = trainer(), []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            outputs.append(mine.network.forward(X))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        mine.fit(X, Y, epochs=50)
    finally:
        stop.set()
        reader.join(60)
    alone = trainer()
    alone.fit(X, Y, epochs=50)
    assert mine.network.parameters.tobytes() == alone.network.parameters.tobytes()
    found: Any = np.array(outputs[:200])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=2), 1.0, rtol=0, atol=1e-5)
