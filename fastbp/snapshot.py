"""Numbers set aside, to go back to: of a network, and of all that a trainer has made."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .budget import available_cores
from .distrusted import Memory, array_like, count, facts, part
from .engine import Array
from .history import History
from .kernels.cpu.screen import PARALLEL_FROM
from .threads import run

if TYPE_CHECKING:
    from .network import Network
    from .trainer import Trainer


def _copy_share(part: int, parts: int, source: Array, target: Array) -> None:
    share = slice(len(source) * part // parts, len(source) * (part + 1) // parts)
    target[share] = source[share]  # NumPy lets other threads run meanwhile


def copy_on_threads(source: Array, target: Array) -> None:
    """target[:] = source of flat arrays, by the threads that train: one does not fill the bus."""
    threads = available_cores() if len(source) >= PARALLEL_FROM else 1
    run(_copy_share, threads, (source, target))


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

    @classmethod
    def like(cls, network: Network, state: Array) -> Self:
        """Room for the numbers, without them."""
        parameters, running = np.empty_like(network.parameters), np.empty_like(network._running)
        return cls(parameters, running, np.empty_like(state))

    def take(self, network: Network, state: Array | None = None) -> None:
        """Copy the numbers now, into the arrays that are there."""
        copy_on_threads(network.parameters, self.parameters)
        self.running[...] = network._running
        if state is not None and self.state is not None:
            copy_on_threads(state.reshape(-1), self.state.reshape(-1))

    def restore(self, network: Network, state: Array | None = None) -> None:
        """Put the numbers back."""
        network.parameters[...], network._running[...] = self.parameters, self.running
        if state is not None and self.state is not None:
            state[...] = self.state
        network._hand_out()  # a card may have taken half of it meanwhile, for another thread

    def memory(self) -> Memory:
        """What a checkpoint keeps: the arrays themselves."""
        kept = {"parameters": self.parameters, "running": self.running}
        return kept if self.state is None else {**kept, "state": self.state}

    @classmethod
    def recalled(cls, memory: Memory, network: Network, state: Array | None = None) -> Self:
        """The snapshot that `memory` was of, if it is one of such a network."""
        rows = None if state is None else array_like(memory, "state", state)
        parameters = array_like(memory, "parameters", network.parameters)
        return cls(parameters, array_like(memory, "running", network._running), rows)


@dataclass
class TrainerState:
    """Where a trainer stands: its network's numbers, its history, counters and optimizer rows."""

    numbers: Snapshot
    history: History
    epoch: int
    step: int
    schedule_state: dict[str, Any]

    @classmethod
    def of(cls, trainer: Trainer) -> Self:
        """Copies of everything now."""
        return copy.deepcopy(cls.now(trainer))

    @classmethod
    def now(cls, trainer: Trainer) -> Self:
        """The trainer's own objects: to be looked at before anything changes."""
        network = trainer.network
        numbers = Snapshot(network.parameters, network._running, trainer._state)
        state = trainer.schedule_state
        return cls(numbers, trainer.history, trainer.epoch, trainer.step, state)

    def restore(self, trainer: Trainer) -> None:
        """Take the trainer back there."""
        self.numbers.restore(trainer.network, trainer._state)
        trainer.history = copy.deepcopy(self.history)
        trainer.epoch, trainer.step = self.epoch, self.step
        trainer.schedule_state = copy.deepcopy(self.schedule_state)

    def memory(self) -> Memory:
        """What a checkpoint keeps."""
        return {
            "numbers": self.numbers.memory(),
            "history": self.history.memory(),
            "epoch": self.epoch,
            "step": self.step,
            "schedule": self.schedule_state,
        }

    @classmethod
    def recalled(cls, memory: Memory, trainer: Trainer) -> Self:
        """The standing that `memory` was of, if it is one of such a trainer."""
        return cls(
            Snapshot.recalled(part(memory, "numbers"), trainer.network, trainer._state),
            History.recalled(part(memory, "history")),
            count(memory, "epoch"),
            count(memory, "step"),
            facts(memory, "schedule", trainer.schedule.initial_state()),
        )
