"""Numbers set aside, to go back to: of a network, and of all that a trainer has made."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .engine import Array
from .errors import shown
from .history import History
from .kernels.cpu.screen import PARALLEL_FROM
from .threads import available_cores, run

if TYPE_CHECKING:
    from .network import Network
    from .trainer import Trainer

Memory = dict[str, Any]
"""What is kept of an object in a checkpoint: plain values and arrays, nested."""


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

    def memory(self) -> Memory:
        """What a checkpoint keeps: the arrays themselves."""
        kept = {"parameters": self.parameters, "running": self.running}
        return kept if self.state is None else {**kept, "state": self.state}

    @classmethod
    def recalled(cls, memory: Memory, network: Network, state: Array | None = None) -> Self:
        """The snapshot that `memory` was of, if it is one of such a network."""
        rows = None if state is None else array_like("state", memory, state)
        parameters = array_like("parameters", memory, network.parameters)
        return cls(parameters, array_like("running", memory, network._running), rows)


@dataclass
class Standing:
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
        numbers = Snapshot(network.parameters, network._running, trainer.state)
        state = trainer.schedule_state
        return cls(numbers, trainer.history, trainer.epoch, trainer.step, state)

    def restore(self, trainer: Trainer) -> None:
        """Take the trainer back there."""
        self.numbers.restore(trainer.network, trainer.state)
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
            Snapshot.recalled(part(memory, "numbers"), trainer.network, trainer.state),
            History.recalled(part(memory, "history")),
            count("epoch", memory),
            count("step", memory),
            facts("schedule", memory, trainer.schedule.initial_state()),
        )


# What was read from a file is distrusted: each value's kind is looked at before it is used.


def part(memory: Memory, name: str) -> Memory:
    """A dict within what was read."""
    value = memory.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"its {name} is {shown(value)}, not a group of values")
    return value


def count(name: str, memory: Memory, least: int = 0) -> int:
    """A whole number within what was read."""
    value = memory.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 63:
        raise ValueError(f"its {name} is {shown(value)}, not a whole number from {least} on")
    return value


def facts(name: str, memory: Memory, like: Mapping[str, Any]) -> dict[str, Any]:
    """A dict of plain values with the names of `like`."""
    value = part(memory, name)
    if value.keys() != like.keys():
        raise ValueError(f"its {name} has {shown(sorted(value))}, not {shown(sorted(like))}")
    for key, item in value.items():
        if isinstance(item, np.ndarray):
            raise ValueError(f"its {name} has an array as {shown(key)}")
    return value


def array_like(name: str, memory: Memory, like: Array) -> Array:
    """An array within what was read, of the shape and dtype of `like`."""
    value = memory.get(name)
    if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (like.shape, like.dtype):
        had = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else shown(value)
        raise ValueError(f"its {name} is {had}, not {like.dtype} {like.shape}")
    return value
