"""Where a batch's quantities lie on the card: the CPU's plan, and what is there twice.

The next batch is gathered while this one's weights are updated, so inputs, targets and weights of
the samples have two places each, which take turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ..layout import CACHE_LINE, FIELDS, IN, P_DROP, LayerSpec, build_plan
from .random import limit_of

LIMIT: Final = FIELDS
"""The plan's column beyond the CPU's: the words below which dropout drops."""


@dataclass(frozen=True)
class Places:
    """The tables of one network for batches of up to `rows` samples.

    Attributes:
        ints: (layers, FIELDS + 1) int64.
        reals: (layers, REALS) float64.
        arena: elements of the network's dtype.
        masks: bytes.
        inputs, targets, weights: two offsets each.
        targets_ld: columns of the targets.
        rows: largest batch.
    """

    ints: np.ndarray
    reals: np.ndarray
    arena: int
    masks: int
    inputs: tuple[int, int]
    targets: tuple[int, int]
    weights: tuple[int, int]
    targets_ld: int
    rows: int


def places(layers: list[LayerSpec], rows: int, itemsize: int) -> Places:
    """Lay out the arena of one network for batches of up to `rows` samples."""
    plan = build_plan(layers, rows, itemsize)
    limits = [[limit_of(p)] for p in plan.reals[:, P_DROP]]
    ints = np.hstack([plan.ints, np.array(limits, np.int64)])
    line = CACHE_LINE // itemsize
    free = -(-plan.arena // line) * line

    def take(size: int) -> int:
        nonlocal free
        start = free
        free += -(-size // line) * line
        return start

    inputs = int(plan.ints[0, IN]), plan.other
    targets = plan.targets, take(rows * plan.targets_ld)
    weights = take(rows), take(rows)
    return Places(
        ints, plan.reals, free, plan.masks, inputs, targets, weights, plan.targets_ld, rows
    )
