"""A network's numbers in two places, and which of them holds.

The host's arrays are the network's face: views of them are handed out and may be written at any
time between two calls. The card's are what is computed with. They are copied up when the host's may
have changed, and down when somebody looks: while a fit runs and nobody does, never.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any, Final

import numpy as np

from ..kernels.cuda import memory

Array = np.ndarray[Any, Any]

_KEPT: Final = 8
"""Arrays of a fit that stay on the card: X, y and weights, to train on and held out."""


def _holders(array: Array) -> int:
    """References to an array and to the memory that it is a view of."""
    return sys.getrefcount(array) + sys.getrefcount(array.base)


def _holders_alone() -> int:
    """The same of an array that only a network and its card hold: here two lists."""
    network = [np.zeros(2)[:1]]
    card = [network[0]]
    return sum(_holders(array) for array in card)


class Card:
    """Parameters, running statistics and optimizer rows of one network on the card."""

    def __init__(self, parameters: Array, running: Array) -> None:
        self._host = {"parameters": parameters, "running": running}
        self.parameters = memory.upload(parameters, "the network's parameters")
        self.running = memory.upload(running, "running statistics")
        self.gradient = memory.allocate(parameters.size, parameters.dtype, "the gradient")
        self.rows: Array | None = None  # the host's optimizer rows
        self.state = memory.allocate(1, parameters.dtype, "the optimizer's rows")
        self._alone = 2 * _holders_alone()
        self._touched = False
        self.ahead = False  # the card's numbers are newer than the host's
        self.unfit = False  # the last training launch met a number that is not finite
        self._fits = 0
        self._kept: OrderedDict[int, tuple[Any, Any]] = OrderedDict()

    def _count(self) -> int:
        return sum(_holders(array) for array in self._host.values())

    # --- numbers -------------------------------------------------------------------------------

    def settle(self) -> None:
        """Bring the host's arrays up to the card's."""
        if not self.ahead:
            return
        memory.read(self.parameters, self._host["parameters"])
        memory.read(self.running, self._host["running"])
        if self.rows is not None:
            memory.read(self.state, self.rows)
        self.ahead = False

    def touch(self) -> None:
        """The host's arrays are being handed out: they may change from now on."""
        self.settle()
        self._touched = True

    def ready(self, rows: Array | None = None) -> None:
        """Bring the card's numbers up to the host's; `rows`: the optimizer's, to train with."""
        if rows is not None and rows is not self.rows:
            self.settle()
            self.state = memory.upload(rows, "the optimizer's rows")
            self.rows = rows
        # Whoever holds a view may have written through it.
        if self.ahead or not (self._touched or self._count() > self._alone):
            return
        memory.fill(self.parameters, self._host["parameters"])
        memory.fill(self.running, self._host["running"])
        if self.rows is not None:
            memory.fill(self.state, self.rows)
        self._touched = False

    def trained(self) -> None:
        """A launch has changed the card's numbers."""
        self.ahead, self._touched = True, False

    # --- data ----------------------------------------------------------------------------------

    def hold(self) -> None:
        """A fit begins: its data stay on the card until `release`."""
        self._fits += 1
        self._touched = True

    def release(self) -> None:
        """A fit has ended."""
        self._fits -= 1
        self.settle()
        if not self._fits:
            self._kept.clear()

    def given(self, array: Any, what: str) -> Any:
        """An array of data on the card: itself, the copy made before in this fit, or a new one."""
        flat = getattr(array, "flat", None)
        if flat is not None and not isinstance(array, np.ndarray):
            return flat
        kept = self._kept.get(id(array))
        if kept is not None and kept[0] is array:
            self._kept.move_to_end(id(array))
            return kept[1]
        there = memory.upload(array, what)
        if self._fits:
            self._kept[id(array)] = array, there
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return there
