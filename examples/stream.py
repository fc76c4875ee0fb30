"""Data without an end: batches come from a generator, held-out data say how far it is."""

from collections.abc import Iterator
from typing import Any

import numpy as np

import fastbp


def batches(rows: int = 64) -> Iterator[tuple[Any, Any]]:
    """Points of two rings, for ever: is a point in the inner one?"""
    rng = np.random.default_rng(0)
    while True:
        inner = rng.integers(0, 2, rows)
        radius = 1.0 + (inner == 0) + 0.2 * rng.standard_normal(rows)
        angle = rng.uniform(0, 2 * np.pi, rows)
        yield np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]), inner


net = fastbp.Network(2, [fastbp.Dense(16, "relu"), fastbp.Dense(1, "sigmoid")])
trainer = fastbp.Trainer(net, fastbp.Adam(1e-2), metrics="accuracy")
history = trainer.fit_stream(
    batches(), epochs=5, steps_per_epoch=100, validation=next(batches(2000))
)
print(history)
