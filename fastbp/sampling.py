"""Which samples a step takes: the order of an epoch, and where its batches begin and end."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .kernels.cpu.random import sample, shuffle

Indices = NDArray[np.int64]

SAMPLINGS: Final = {
    "shuffle": "every sample once an epoch, in a new random order",
    "order": "every sample once an epoch, as they lie",
    "replacement": "samples drawn at random, with replacement (the notes' SGD-NEURAL-NET)",
}


def batch_bounds(samples: int, batch_size: int, batch_norm: bool) -> Indices:
    """Places where the batches of an epoch begin, and the end of the last.

    The last batch may be short. With batch norm, whose statistics need two samples, a last batch
    of one is merged into the one before.

    >>> batch_bounds(7, 3, False).tolist(), batch_bounds(7, 3, True).tolist()
    ([0, 3, 6, 7], [0, 3, 7])
    """
    bounds = np.append(np.arange(0, samples, batch_size), samples)
    if batch_norm and len(bounds) > 2 and bounds[-1] - bounds[-2] == 1:
        bounds = np.delete(bounds, -2)
    return bounds.astype(np.int64)


def fill_order(order: Indices, samples: Indices, sampling: str, seed: int, epoch: int) -> None:
    """Write the epoch's order of `samples` into `order` (of the same length)."""
    order[:] = samples
    if sampling == "shuffle":
        shuffle(order, seed, epoch)
    elif sampling == "replacement":
        drawn = np.empty(len(samples), np.int64)
        sample(drawn, len(samples), seed, epoch, 0)
        order[:] = samples[drawn]


def split(samples: int, share: float, seed: int) -> tuple[Indices, Indices]:
    """Training and held-out indices: a random `share` (at least one) is held out.

    >>> train, held = split(10, 0.2, seed=0)
    >>> len(train), len(held), len(set(train) | set(held))
    (8, 2, 10)
    """
    held = min(max(round(samples * share), 1), samples - 1)
    order = np.arange(samples)
    shuffle(order, seed, -1)  # epochs count from 0
    return np.sort(order[held:]), np.sort(order[:held])
