"""Sizes of the tiles that products are cut into, by dtype; small ones in the simulator.

A block of THREADS threads forms a tile of `side` x `side` results, each thread `micro` x `micro` of
them in registers, from `depth` columns at a time of both factors in shared memory. `slices` groups
of threads have a share of the sum each, which are added up in order: a tile is small, so that more
of the card works on a small product, and a thread's part of it is not. Which tile a product takes
follows from its shape alone, so the bits do not depend on the card or on the number of blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from .shim import SIMULATED


@dataclass(frozen=True)
class Tile:
    """One size of tile.

    Attributes:
        side: rows and columns of results.
        micro: rows and columns of a thread's results: 4 or 8.
        slices: groups of threads that share a sum.
        depth: terms of the sum in shared memory at a time.
        rate: share of a multiprocessor's peak that it reaches: 15 and 24 of an H100's 67 TFLOP/s
            (docs/cuda.md); float64's large tile was not measured, and is taken for a fifth faster.
    """

    side: int
    micro: int
    slices: int
    depth: int
    rate: float

    def __post_init__(self) -> None:
        # The loads of a stage are dealt out to the threads column by column, or row by row.
        assert THREADS % self.side == self.depth % (THREADS // self.side) == 0
        assert THREADS % self.depth == self.side % (THREADS // self.depth) == 0
        assert self.slices * (self.side // self.micro) ** 2 == THREADS

    @property
    def across(self) -> int:
        """Threads along a side."""
        return self.side // self.micro

    @property
    def group(self) -> int:
        """Elements from a thread's first four rows or columns to its next four."""
        return 4 * self.across

    @property
    def pitch(self) -> int:
        """Elements from one row in shared memory to the next: whole vectors, other banks."""
        return self.side + 8

    @property
    def loads(self) -> int:
        """Elements of a stage that each thread brings, of either factor."""
        return self.side * self.depth // THREADS

    @property
    def cost(self) -> int:
        """Time of a tile a term of its sums: in fused multiply-adds at a multiprocessor's peak."""
        return round(self.side * self.side / self.rate)

    @property
    def stage(self) -> int:
        """Elements of a stage: `depth` columns of both factors."""
        return 2 * self.depth * self.pitch

    @property
    def area(self) -> int:
        """Results of a band."""
        return self.side * self.side // (self.micro // 4)

    def stages(self, itemsize: int) -> int:
        """Stages in shared memory: one is worked on while the others are on their way."""
        return min(STAGES, ROOM // (self.stage * itemsize))

    def room(self, itemsize: int) -> int:
        """Elements of shared memory: the stages, or the slices' sums of a band."""
        return max(self.stages(itemsize) * self.stage, self.slices * self.area)


THREADS: Final = 16 if SIMULATED else 256
"""Threads of a block."""
WARP: Final = 4 if SIMULATED else 32
"""Neighbours that exchange registers."""
STAGES: Final = 4
ROOM: Final = 44_000
"""Bytes of shared memory that stages may take: 48 KB are a block's without asking."""

if SIMULATED:
    _SMALL = Tile(8, 4, 4, 8, 0.5)
    _LARGE = {4: Tile(16, 8, 4, 8, 0.8), 8: Tile(16, 4, 1, 4, 0.6)}
else:
    _SMALL = Tile(32, 4, 4, 32, 0.23)
    _LARGE = {4: Tile(64, 8, 4, 16, 0.36), 8: Tile(64, 4, 1, 8, 0.28)}

SMALL: Final = _SMALL
LARGE: Final = {np.float32: _LARGE[4], np.float64: _LARGE[8]}
PROCESSORS: Final = 1 if SIMULATED else 132
"""Multiprocessors that tiles are chosen for, whatever the card has: an H100's."""


def room(real: Any) -> int:
    """Elements of shared memory that a kernel of this dtype needs."""
    return max(tile.room(np.dtype(real).itemsize) for tile in (SMALL, LARGE[real]))
