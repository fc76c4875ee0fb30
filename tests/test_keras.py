"""Keras' optimizers, sequence by sequence, under their own conventions; test_update has PyTorch's.

Keras keeps the step in the momentum's velocity, adds Adam's eps to sqrt(v), and puts Adagrad's and
RMSprop's under the root: there eps is chosen too small to tell.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp import kernels
from fastbp.kernels import reference
from fastbp.kernels.tables import UPDATES

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("keras", "torch")),
    reason="needs keras with torch",
)
STEPS, SIZE, RATE = 25, 64, 0.01
TINY = 1e-12

# Keras' optimizer, and our update with its constants and the first value of its state rows.
OPTIMIZERS: dict[str, tuple[str, str, dict[str, float], float]] = {
    "SGD": ("SGD(lr)", "sgd", {}, 0.0),
    "momentum": ("SGD(lr, momentum=0.9)", "classical_momentum", {"momentum": 0.9}, 0.0),
    "Nesterov": (
        "SGD(lr, momentum=0.9, nesterov=True)", "classical_nesterov", {"momentum": 0.9}, 0.0,
    ),
    "Adam": ("Adam(lr)", "adam_epsilon_hat", {"eps": 1e-7}, 0.0),
    "Adam, large eps": ("Adam(lr, epsilon=0.1)", "adam_epsilon_hat", {"eps": 0.1}, 0.0),
    "Adadelta": ("Adadelta(lr)", "adadelta", {"rho": 0.95, "eps": 1e-7}, 0.0),
    "Adagrad": (f"Adagrad(lr, epsilon={TINY})", "adagrad", {"eps": TINY}, 0.1),
    "RMSprop": (f"RMSprop(lr, epsilon={TINY})", "rmsprop", {"alpha": 0.9, "eps": TINY}, 0.0),
}  # fmt: skip

CHILD = """
import json, sys
import numpy as np
import keras
w0, gradients, makers, lr = json.load(sys.stdin)
found = {}
for name, text in makers.items():
    w = keras.Variable(np.array(w0, "float32"))
    optimizer = eval(text, {**vars(keras.optimizers), "lr": lr})
    optimizer.build([w])
    for g in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(np.array(g, "float32"))], [w])
    found[name] = keras.ops.convert_to_numpy(w).tolist()
print("ANSWER", json.dumps(found))
"""


def problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    g = rng.uniform(0.1, 2.0, (STEPS, SIZE)) * rng.choice([-1, 1], (STEPS, SIZE))
    return rng.normal(size=SIZE).astype("f4"), g.astype("f4")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    w, g = problem()
    home: Path = tmp_path_factory.mktemp("keras")  # or it writes into the user's
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(home)}
    asked = [w.tolist(), g.tolist(), {k: v[0] for k, v in OPTIMIZERS.items()}, RATE]
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(asked), capture_output=True, text=True,
        env=environment, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.partition("ANSWER")[2])
    return answer


@pytest.mark.parametrize("backend", [kernels, reference], ids=["cpu", "reference"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_sequence_is_kerass(name: str, backend: Any, theirs: dict[str, list[float]]) -> None:
    """To 8 float32 roundings a step, each of at most the weight and the way it has gone."""
    _, update, hyper, start = OPTIMIZERS[name]
    w, gradients = problem()
    first = w.copy()
    rows = UPDATES[update].rows
    state = np.full((len(rows), SIZE), start, "f4")
    for number, g in enumerate(gradients, 1):
        backend.update(update, w, g, state, step=number, lr=RATE, **hyper)
    want = np.array(theirs[name])
    limit = 8 * STEPS * np.finfo("f4").eps * (np.abs(first) + np.abs(want - first) + RATE)
    assert (np.abs(w - want) <= limit).all()
    assert (np.abs(want - first) > 100 * limit).mean() > 0.3 or name == "Adadelta"
