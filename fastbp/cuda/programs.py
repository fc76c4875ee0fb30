"""Which list of phases a batch takes, and how many blocks: made once each, kept on the card."""

from __future__ import annotations

from typing import Any, Final

from ..kernels.cuda import memory, phases
from ..kernels.cuda.places import Places
from ..kernels.cuda.program import Program, is_direct
from ..kernels.cuda.shim import SIMULATED, cuda
from ..kernels.layout import LayerSpec

ALONE: Final = 2 if SIMULATED else 6
"""With fewer items of work than this in any phase, one block does them without a meeting."""
KEPT: Final = 8
"""Lists of phases that are kept: of training, of measuring, of short batches."""
PIECES: Final = 16 if SIMULATED else 512
"""With so many pieces of rows, and no layer wider than NARROW, blocks work alone."""
NARROW: Final = 256
LOW_UNITS: Final = 12 if SIMULATED else 64
LOW_INPUTS: Final = 24 if SIMULATED else 256
"""So do they with few rows in layers of at most so many units, and so many inputs or W in shared
memory."""


def processors() -> int:
    """Multiprocessors of the card: blocks that can meet."""
    return 2 if SIMULATED else int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


class Programs:
    """The lists of phases of one network, on the card.

    Attributes:
        scratch: memory for the parts of sums of the longest one.
    """

    def __init__(self, plan: Places, layers: list[LayerSpec], dtype: Any) -> None:
        self._plan, self._layers, self._dtype = plan, layers, dtype
        self._norm = any(layer.batch_norm for layer in layers)
        self._widest = max(max(layer.inputs, layer.units) for layer in layers[1:] or layers)
        self._kept: dict[Any, tuple[Any, int, int]] = {}
        self.scratch = memory.allocate(1, dtype, "parts of sums")

    def tail(self, rows: int) -> int:
        """From which layer on blocks take rows of their own; by the shape: it decides on tiles.

        From the first one where there are rows for all blocks, else from where layers are so small
        that a meeting takes longer than their tiles do one after the other. Batch norm ties the
        rows, in training and on the way back.
        """
        if not self._norm and rows >= PIECES * phases.GRAIN and self._widest <= NARROW:
            return 0
        tail = len(self._layers)
        for layer in reversed(self._layers):
            shape = layer.inputs, layer.units
            fits = all(is_direct(self._dtype.type, rows, *way) for way in (shape, shape[::-1]))
            low = layer.units <= LOW_UNITS and (layer.inputs <= LOW_INPUTS or fits)
            if layer.batch_norm or not low:
                break
            tail -= 1
        return tail

    def _blocks(self, items: int) -> int:
        """Blocks for so many items of work beside each other; results do not depend on it."""
        return min(processors(), items) if items >= ALONE else 1

    def program(
        self, rows: int, mode: int, training: bool, pair: bool, tail: int
    ) -> tuple[Any, int, int]:
        """The phases of a step on the card; their number, and that of blocks."""
        key = rows, mode, training, pair, tail
        if key not in self._kept:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            plan = self._plan
            made = Program(
                plan.ints, self._dtype.type, rows, plan.inputs, mode, training, pair, tail
            )
            if made.scratch > self.scratch.size:
                self.scratch = memory.allocate(made.scratch, self._dtype, "parts of sums")
            blocks = self._blocks(made.items)
            table = made.table(blocks)
            self._kept[key] = memory.upload(table.reshape(-1), "the plan"), len(table), blocks
        return self._kept[key]
