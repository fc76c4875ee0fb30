"""A network's numbers in two places, and which of them holds.

The host's arrays are the network's face: views of them are handed out and may be written at any
time between two calls. The card's are what is computed with. They are copied up when the host's may
have changed, and down when somebody looks or holds a view: while a fit runs and nobody does, never.

Threads take turns: whoever looks while a launch is under way waits for its end (50 ms; at the first
one it is compiled).
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np

from ..kernels.cuda import memory

Array = np.ndarray[Any, Any]


def _holders(array: Array) -> int:
    """References to an array and to the memory that it is a view of."""
    return sys.getrefcount(array) + sys.getrefcount(array.base)


def _holders_alone() -> int:
    """The same of an array that only a network and its card hold: here two lists."""
    network = [np.zeros(2)[:1]]
    card = [network[0]]
    return sum(_holders(array) for array in card)


class Card:
    """Parameters, running statistics and optimizer rows of one network on the card.

    Attributes:
        lock: held by whoever uses any of it.
        rows: the host's optimizer rows.
        ahead: the card's numbers are newer than the host's.
        unfit: the last training launch met a number that is not finite.
        device: the number of the card.
    """

    def __init__(self, parameters: Array, running: Array, *, lent: bool = False) -> None:
        """lent: the optimizer's rows have been handed out before."""
        self.lock = threading.RLock()
        self.device = memory.current_device()
        self._host = {"parameters": parameters, "running": running}
        self.parameters = memory.upload(parameters, "the network's parameters")
        self.running = memory.upload(running, "running statistics")
        self.gradient = memory.allocate(parameters.size, parameters.dtype, "the gradient")
        self.rows: Array | None = None
        self.state = memory.allocate(1, parameters.dtype, "the optimizer's rows")
        self._alone = 2 * _holders_alone()
        self._touched, self._lent = False, lent
        self.ahead = self.unfit = False
        self._fits = 0
        self._own: dict[int, Any] = {}
        self._kept: dict[int, Any] = {}

    def _watched(self) -> bool:
        """Somebody holds a view, or has been given the optimizer's rows: may look, and may write.

        Callers of a workspace hand the arrays themselves over, and keep no name for them.
        """
        return self._lent or sum(_holders(array) for array in self._host.values()) > self._alone

    # --- numbers -------------------------------------------------------------------------------

    def settle(self) -> None:
        """Bring the host's arrays up to the card's.

        Raises:
            ValueError: this thread's current device is another card; so does `ready`.
        """
        with self.lock:
            if not self.ahead:
                return
            memory.check_device(self.device, "the network lies")
            memory.read(self.parameters, self._host["parameters"])
            memory.read(self.running, self._host["running"])
            if self.rows is not None:
                memory.read(self.state, self.rows)
            self.ahead = False

    def touch(self, *, rows: bool = False) -> None:
        """The host's arrays are being handed out: they may change from now on.

        rows: the optimizer's rows are handed out as well; who holds them cannot be counted.
        """
        with self.lock:
            self.settle()
            self._touched = True
            self._lent = self._lent or rows

    def ready(self, rows: Array | None = None) -> None:
        """Bring the card's numbers up to the host's; `rows`: the optimizer's, to train with."""
        with self.lock:
            memory.check_device(self.device, "the network lies")
            if rows is not None and rows is not self.rows:
                self.settle()
                self.state = memory.upload(rows, "the optimizer's rows")
                self.rows = rows
            watched = self._watched()
            if self.ahead or not (self._touched or watched):
                return
            memory.fill(self.parameters, self._host["parameters"])
            memory.fill(self.running, self._host["running"])
            if self.rows is not None:
                memory.fill(self.state, self.rows)
            self._touched = watched  # who holds a view may write, let go of it, and then call

    def changed(self) -> None:
        """The card's numbers change from now on: a launch trains, or they are put back."""
        self.ahead, self._touched = True, self._watched()

    def show(self) -> None:
        """They have changed: whoever holds a view sees it."""
        if self._watched():
            self.settle()

    # --- data ----------------------------------------------------------------------------------

    def hold(self) -> None:
        """A fit begins, until `release`."""
        with self.lock:
            self._fits += 1
            self._touched = True

    def release(self) -> None:
        """A fit has ended."""
        with self.lock:
            self._fits -= 1
            self.settle()
            if not self._fits:
                self._own.clear()
                self._kept.clear()

    def keep(self, *arrays: Array) -> None:
        """These are the data of the fit under way: what is copied of them stays on the card."""
        with self.lock:
            if self._fits:
                self._own |= {id(array): array for array in arrays}

    def given(self, array: Any, what: str) -> Any:
        """An array of data on the card: itself, the copy made before in this fit, or a new one."""
        flat = getattr(array, "flat", None)
        if flat is not None and not isinstance(array, np.ndarray):
            return flat
        if id(array) not in self._own:
            return memory.upload(array, what)
        if id(array) not in self._kept:
            self._kept[id(array)] = memory.upload(array, what)
        return self._kept[id(array)]
