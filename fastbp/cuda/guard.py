"""Numbers to go back to, set aside on the card: the host copies nothing while training is well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..guard import Guard
from ..kernels.cuda import memory

if TYPE_CHECKING:
    from ..trainer import Trainer


class CardGuard(Guard):
    """As `Guard`; a copy within the card is a matter of microseconds, and is renewed each time."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._card = trainer.network._card
        self._card.ready(trainer._state)
        dtype = self._card.parameters.dtype
        self._copies = [
            memory.allocate(there.size, dtype, "a copy of the numbers to go back to")
            for there in self._present()
        ]
        self.first = self.step = 0

    def _present(self) -> tuple[Any, Any, Any]:
        return self._card.parameters, self._card.running, self._card.state

    def finite(self) -> bool:
        """The last launch found all numbers finite; before it, a look at the host's."""
        return not self._card.unfit if self._card.ahead else super().finite()

    def due(self) -> bool:
        """Always: see above."""
        return True

    def renew(self, first: int) -> None:
        """Take the numbers now, after `first` steps of the epoch; they are finite."""
        self._card.ready(self._trainer._state)
        for there, copy in zip(self._present(), self._copies, strict=True):
            memory.copy(there, copy)
        self.first, self.step = first, self._trainer.step

    def restore(self) -> None:
        """Put the numbers back."""
        with self._card.lock:
            self._put_back()

    def _put_back(self) -> None:
        for there, copy in zip(self._present(), self._copies, strict=True):
            memory.copy(copy, there)
        self._card.changed()
        self._card.show()
