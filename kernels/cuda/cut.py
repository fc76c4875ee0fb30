"""How products are cut into items of work: which tiles, and into how many parts of their sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .shim import SIMULATED
from .tiles import LARGE, PROCESSORS, SMALL, TILES

FIXED, MEETING, SHORTEST = (10, 20, 16) if SIMULATED else (2500, 4000, 64)
"""Cycles of a tile besides its terms: first loads, results; of a meeting of all blocks, and what
parts of a sum cost besides. Terms that a part has at least."""


@dataclass(frozen=True)
class Cut:
    """How a product, or several of as many terms, is cut into items of work.

    Attributes:
        size: of the tiles.
        parts: of the sum that are formed apart, of `span` terms each.
        span: of whole stages.
        time: cycles that it takes at a guess.
    """

    size: int
    parts: int
    span: int
    time: float


def cut(shapes: list[tuple[int, int]], length: int, real: Any, *, whole: bool = False) -> Cut:
    """The cut that is done first where each multiprocessor takes one item at a time.

    Args:
        shapes: rows and columns of each product.
        length: terms of their sums.
        whole: in one part.

    >>> import numpy as np
    >>> cut([(32, 10)], 784, np.float32).parts > 1
    True
    """
    tiles, found, length = TILES[real], list[Cut](), max(length, 1)
    for size in (SMALL, LARGE):
        tile = tiles[size]
        items = sum(tile.number(*shape) for shape in shapes)
        most = min(PROCESSORS // max(items, 1), length // SHORTEST)
        for parts in {1, 1 if whole else max(most, 1)}:
            span = -(-length // (parts * tile.depth)) * tile.depth
            rounds = -(-items * parts // PROCESSORS)
            time = rounds * (FIXED + span * tile.cost) + (MEETING if parts > 1 else 0)
            found.append(Cut(size, -(-length // span), span, time))
    return min(found, key=lambda one: one.time)
