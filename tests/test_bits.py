"""The promise: same machine, versions and seed, same bits; on any number of threads, any layer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib, itertools, sys
import numpy as np
import fastbp
from fastbp import Dense

# Layers of every kind, the losses' shapes, optimizers with and without state; batches that the
# shares of 1, 2, 4 and 8 threads cut differently, and a last one that is shorter.
NETS = {
    "relu": ([Dense(37, "relu"), Dense(5, "softmax")], "cross_entropy"),
    "tanh": ([Dense(64, "tanh", dropout=0.2), Dense(16, "sigmoid"), Dense(1)], "squared_error"),
    "norm": ([Dense(33, "gelu", batch_norm=True), Dense(3, "softmax")], "cross_entropy"),
    "wide": ([Dense(300, "silu"), Dense(130, "elu"), Dense(2, "sigmoid")], "binary_cross_entropy"),
}
OPTIMIZERS = [fastbp.SGD(0.05, 0.9), fastbp.Adam(1e-3), fastbp.Adadelta()]
rng = np.random.default_rng(0)
found = {}
for (name, (layers, loss)), optimizer in itertools.product(NETS.items(), OPTIMIZERS):
    outputs = layers[-1].units
    X = rng.normal(size=(330, 50))
    y = rng.integers(0, outputs, 330) if loss == "cross_entropy" else rng.random((330, outputs))
    for threads in map(int, sys.argv[1].split(",")):
        net = fastbp.Network(50, layers, loss=loss, seed=3)
        options = {"weight_decay": 1e-4, "clip_norm": 1.0 if name == "tanh" else None}
        trainer = fastbp.Trainer(
            net, optimizer, batch_size=100, n_threads=threads, progress=False, **options
        )
        history = trainer.fit(X, y, epochs=2)
        seen = net.parameters.tobytes() + np.array(history.loss).tobytes()
        seen += net.forward(X).tobytes()
        key = f"{name} {type(optimizer).__name__}"
        found.setdefault(key, set()).add(hashlib.sha256(seen).hexdigest())
assert len(found) == 12
for key, digests in found.items():
    assert len(digests) == 1, f"{key}: {len(digests)} results"
print(*(next(iter(found[key])) for key in found))
"""


def digests(layer: str, threads: str) -> str:
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    command = [sys.executable, "-c", SCRIPT, threads]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def layers() -> list[str]:
    """The threading layers that are there; the loop has threads of its own under each."""
    try:
        from numba.np.ufunc import tbbpool  # noqa: F401 - loads the library, whose package has none
    except ImportError:
        return ["workqueue", "omp"]
    return ["workqueue", "omp", "tbb"]


def test_same_bits_on_any_number_of_threads_under_every_layer() -> None:
    first, *others = layers()
    found = digests(first, "1,2,4,8")
    assert len(found.split()) == 12
    assert [digests(layer, "1,8") for layer in others] == [found] * len(others)


@pytest.mark.slow
def test_the_same_with_every_number_under_every_layer() -> None:
    assert len({digests(layer, "1,2,3,4,8") for layer in layers()}) == 1
