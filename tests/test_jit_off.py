"""With NUMBA_DISABLE_JIT=1 everything runs as plain Python, and gives what compiled code gives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

SCRIPT = """
import json, sys
import numpy as np
import fastbp

X = np.array([[0.0, 0.5], [1.0, -1.0], [0.25, 2.0], [-1.5, 1.0]])
y = np.array([0, 1, 1, 0])
found = {}
for f in ("tanh", "relu", "gelu"):
    for extra in ({}, {"batch_norm": True}, {"dropout": 0.3}):
        layers = [fastbp.Dense(3, f, **extra), fastbp.Dense(2, "softmax")]
        net = fastbp.Network(2, layers, loss="cross_entropy", dtype="float64", seed=5)
        name = f"{f} {' '.join(extra)}"
        found[name] = net.gradients(X, y, seed=1).tolist()
        trainer = fastbp.Trainer(
            net, "adam", batch_size=3, clip_norm=1.0, perturbation=0.1, n_threads=4, progress=False
        )
        history = trainer.fit(X, y, epochs=2, sample_weight=[1.0, 2.0, 0.0, 1.0])
        found[name + " trained"] = net.parameters.tolist() + history.loss
        found[name + " outputs"] = net.forward(X).ravel().tolist()
net = fastbp.Network(2, [fastbp.Dense(3, "sigmoid"), fastbp.Dense(1)], dtype="float64", seed=5)
found["square"] = net.gradients(X, y / 2).tolist() + [net.loss(X, y / 2)]
"""

OFF = """
from fastbp import budget
from fastbp.kernels.cpu import jit, loop, tile_table
import types
assert jit.JIT_DISABLED
assert isinstance(loop.run_steps, types.FunctionType)
assert (tile_table.TILE_TABLE == 0).all()
assert budget.choose_threads(10**12, 10**6) == budget.choose_threads(1, 1, 4) == 1
assert not any(t.name == "fastbp-worker" for t in __import__("threading").enumerate())
"""


def answers(python: Any, code: str, disable: str) -> dict[str, list[float]]:
    done = python("-c", SCRIPT + code + "print(json.dumps(found))", NUMBA_DISABLE_JIT=disable)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.timeout(200)
def test_plain_python_gives_what_compiled_code_gives(python: Any) -> None:
    """To 1e-12 of the largest number of each answer: some hundred roundings of 1.1e-16.

    Plain Python's loops multiply and add with two roundings where compiled ones have one.
    """
    plain, compiled = answers(python, OFF, "1"), answers(python, "", "0")
    assert plain.keys() == compiled.keys()
    assert len(plain) > 20
    for name, numbers in compiled.items():
        limit = 1e-12 * max(1.0, float(np.abs(numbers).max()))
        assert np.abs(np.array(plain[name]) - numbers).max() <= limit, name
