"""Snapshots to return to when training diverges, taken as often as costs 1/40 of the time at most.

The compiled loop stops by itself at a loss that is not finite. A weight or an optimizer's row may
overflow and leave the loss finite (a sigmoid that saturates); so all numbers are looked at between
two chunks of steps, and copied, for the steps since to be made again, bit for bit, up to the last
one that left them finite. Of a small network that is done every 50 ms. A large one's copy takes as
long as a good part of a step: 15 ms of 75 for 6 million parameters with momentum, a sixth of the
training, if it were done as often.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numpy as np

from .canonical import find_not_finite
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .trainer import Trainer

PATIENCE: Final = 40
"""Looks and copies take at most one part in so many of the training's time."""


class Guard:
    """The numbers of a trainer and its network after some step, and when to renew them.

    Attributes:
        first: steps of the epoch that had been made when they were taken.
        step: the trainer's steps then.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._numbers = Snapshot.like(trainer.network, trainer._state)
        self._cost, self._renewed = 0.0, 0.0
        self.first = self.step = 0

    def finite(self) -> bool:
        """All parameters, running statistics and optimizer rows are finite."""
        return all_finite(self._trainer)

    def due(self) -> bool:
        """The numbers have been left alone for long enough."""
        return time.perf_counter() - self._renewed >= PATIENCE * self._cost

    def renew(self, first: int) -> None:
        """Take the numbers now, after `first` steps of the epoch; they are finite."""
        clock = time.perf_counter()
        trainer = self._trainer
        self._numbers.take(trainer.network, trainer._state)
        self.first, self.step = first, trainer.step
        self._renewed = time.perf_counter()
        self._cost = 2 * (self._renewed - clock)  # a look reads what a copy reads and writes

    def restore(self) -> None:
        """Put the numbers back."""
        self._numbers.restore(self._trainer.network, self._trainer._state)


def all_finite(trainer: Trainer) -> bool:
    """All parameters, running statistics and optimizer rows are finite.

    A row of squares that overflows would leave its weights where they are for ever.
    """
    all_numbers = trainer.network.parameters, trainer.network._running, trainer._state
    return all(find_not_finite(numbers) is None for numbers in all_numbers)


def check_finite_start(trainer: Trainer) -> None:
    """Raise ValueError where training would begin from numbers that are not finite."""
    if all_finite(trainer):
        return
    numbers = trainer.network.parameters
    bad = np.flatnonzero(~np.isfinite(numbers))
    what = f"parameters[{bad[0]}]={numbers[bad[0]]}" if bad.size else "a number"
    raise ValueError(
        f"{what} is not finite before the first step: give the network finite numbers, "
        "net.initialize(seed), or a new Trainer where its optimizer's rows are meant."
    )


def guard_of(trainer: Trainer) -> Guard:
    """A guard where the trainer's numbers are: in the host's memory, or on the card."""
    if trainer.network.device == "cpu":
        return Guard(trainer)
    from .cuda.guard import CardGuard

    return CardGuard(trainer)
