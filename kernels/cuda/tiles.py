"""Sizes of the tiles that products are cut into, by dtype; small ones in the simulator.

A block forms a tile of `rows` x `columns` results, `depth` terms of their sums at a time. Its warps
have a part of the tile each, cut into fragments: what one instruction of the tensor cores adds to,
HEIGHT x WIDTH results by TERMS terms. `slices` groups of warps have a share of the sum each, which
are added up in order: so a tile is small, more of the card works on a small product, and no warp
waits long for its own last sum. Which tile a product takes follows from its shape alone, so the
bits do not depend on the number of blocks, or on how many multiprocessors a card has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from .shim import SIMULATED

THREADS: Final = 16 if SIMULATED else 256
"""Threads of a block."""
WARP: Final = 4 if SIMULATED else 32
"""Neighbours that exchange registers."""
GROUPS: Final = WARP // 4
"""Of four threads in a warp: a thread has two rows of a fragment, two columns of either."""
HEIGHT: Final = 2 * GROUPS
WIDTH: Final = 8
TERMS: Final = 8
ROOM: Final = 42_000
"""Bytes of shared memory that a tile may take: 48 KB are a block's without asking."""
STAGES: Final = 4


@dataclass(frozen=True)
class Tile:
    """One size of tile.

    Attributes:
        rows, columns: of results.
        slices: groups of warps that share a sum.
        down, across: warps of a slice, along rows and columns.
        depth: terms in shared memory at a time.
        cost: cycles a term, of a multiprocessor that has one block.
    """

    rows: int
    columns: int
    slices: int
    down: int
    across: int
    depth: int
    cost: int

    def __post_init__(self) -> None:
        assert self.slices * self.down * self.across * WARP == THREADS
        assert self.rows % (self.down * HEIGHT) == self.columns % (self.across * WIDTH) == 0
        assert self.depth % (self.slices * TERMS) == 0

    @property
    def fragments(self) -> tuple[int, int]:
        """Of a warp, along rows and columns."""
        return self.rows // (self.down * HEIGHT), self.columns // (self.across * WIDTH)

    @property
    def results(self) -> int:
        """Of a thread."""
        down, across = self.fragments
        return 4 * down * across

    @property
    def terms(self) -> int:
        """Of a stage that each slice sums."""
        return self.depth // self.slices

    @property
    def pitch(self) -> int:
        """Elements from one row of results in shared memory to the next: other banks."""
        return self.columns + 8

    def held(self, side: int, along: bool) -> tuple[int, int]:
        """Strides in shared memory of a factor of `side` rows (or columns), and of its terms.

        along: its terms are neighbours. Either way the elements of a fragment lie in 32 banks.
        """
        return (self.depth + 4, 1) if along else (1, side + 8)

    def kept(self, side: int) -> int:
        """Elements of shared memory that a stage of one factor takes, in either order."""
        return max(side * (self.depth + 4), self.depth * (side + 8))

    @property
    def stage(self) -> int:
        """Elements of a stage of both factors."""
        return self.kept(self.rows) + self.kept(self.columns)

    def stages(self, itemsize: int) -> int:
        """Stages in shared memory: one is worked on while the others are on their way."""
        return min(STAGES, ROOM // (self.stage * itemsize))

    def room(self, itemsize: int) -> int:
        """Elements of shared memory: the stages, or the slices' sums."""
        return max(self.stages(itemsize) * self.stage, self.slices * self.rows * self.pitch)

    def number(self, rows: int, columns: int) -> int:
        """Tiles of a product of this shape."""
        return -(-rows // self.rows) * -(-columns // self.columns)


SMALL, WIDE, LARGE = range(3)
"""Names of the tiles: places in `TILES[real]`."""
if SIMULATED:
    _TILES = {
        4: (Tile(8, 8, 2, 2, 1, 16, 8), Tile(4, 16, 1, 2, 2, 8, 16), Tile(16, 16, 1, 2, 2, 8, 20)),
    }
    _TILES[8] = _TILES[4]
else:
    _TILES = {
        4: (
            Tile(32, 32, 4, 1, 2, 32, 8),
            Tile(32, 128, 1, 1, 8, 16, 22),
            Tile(64, 64, 2, 2, 2, 16, 22),
        ),
        8: (
            Tile(32, 32, 4, 1, 2, 32, 12),
            Tile(32, 128, 1, 1, 8, 8, 40),
            Tile(64, 64, 1, 2, 4, 16, 40),
        ),
    }

TILES: Final = {np.float32: _TILES[4], np.float64: _TILES[8]}
PROCESSORS: Final = 8 if SIMULATED else 132
"""Multiprocessors that tiles are chosen for, whatever the card has: an H100's."""


def room(real: Any) -> int:
    """Elements of shared memory that a kernel of this dtype needs."""
    return max(tile.room(np.dtype(real).itemsize) for tile in TILES[real])
