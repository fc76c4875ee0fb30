"""Numbers set aside, to go back to: of a network, and of all that a trainer has made."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from .engine import Array

if TYPE_CHECKING:
    from .network import Network
    from .trainer import Trainer

PROGRESS = ("history", "epoch", "step", "schedule_state", "state")
"""What changes in a Trainer as it trains."""


@dataclass
class Snapshot:
    """Parameters, running statistics and, where wanted, optimizer rows at one moment."""

    parameters: Array
    running: Array
    state: Array | None = None

    @classmethod
    def of(cls, network: Network, state: Array | None = None) -> Self:
        """Copies of the numbers now."""
        rows = None if state is None else state.copy()
        return cls(network.parameters.copy(), network._running.copy(), rows)

    def take(self, network: Network, state: Array | None = None) -> None:
        """Copy the numbers now, into the arrays that are there."""
        self.parameters[...], self.running[...] = network.parameters, network._running
        if state is not None and self.state is not None:
            self.state[...] = state

    def restore(self, network: Network, state: Array | None = None) -> None:
        """Put the numbers back."""
        network.parameters[...], network._running[...] = self.parameters, self.running
        if state is not None and self.state is not None:
            state[...] = self.state


class Standing:
    """Where a trainer stands: its network's numbers, its history, counters and optimizer rows."""

    def __init__(self, trainer: Trainer) -> None:
        self.numbers = Snapshot.of(trainer.network)
        self.progress: dict[str, Any] = {
            name: copy.deepcopy(getattr(trainer, name)) for name in PROGRESS
        }

    def restore(self, trainer: Trainer) -> None:
        """Take the trainer back there."""
        self.numbers.restore(trainer.network)
        for name, value in self.progress.items():
            setattr(trainer, name, copy.deepcopy(value))
