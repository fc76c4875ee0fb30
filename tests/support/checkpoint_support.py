"""What the tests of checkpoints share: data, a network, and all that must be equal at an end."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastbp
from fastbp import Dense, Network, Trainer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64) + (X[:, 2] > 0.5)
WEIGHTS = RNG.uniform(0.5, 2.0, len(X))


def network(dtype: str = "float32") -> Network:
    layers = [Dense(12, "relu", batch_norm=True, dropout=0.2), Dense(3, "softmax")]
    return Network(6, layers, dtype=dtype, seed=7)


def standing(trainer: Trainer, fitted: fastbp.History) -> dict[str, Any]:
    """All that must be equal at the end, but for clocks."""
    histories = [
        {name: np.array(h[name]).tobytes() for name in h if name != "seconds"}
        | {"stopped": h.stopped, "best": h.best_epoch, "start": h.start, "layers": h.layers}
        for h in (fitted, trainer.history)
    ]
    return {
        "numbers": [view.tobytes() for view in trainer.network.tensors().values()],
        "rows": trainer.state.tobytes(),
        "counters": (trainer.epoch, trainer.step, trainer.schedule_state, trainer.seed),
        "histories": histories,
    }
