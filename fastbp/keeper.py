"""When checkpoints are due: each so many epochs, steps or seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import checkpoint
from .errors import check_integer, shown

if TYPE_CHECKING:
    from .trainer import Trainer

_UNITS: Final = {
    "epoch": ("epochs", 1.0),
    "step": ("steps", 1.0),
    "second": ("seconds", 1.0),
    "minute": ("seconds", 60.0),
    "hour": ("seconds", 3600.0),
}
_NEVER: Final = 1 << 62  # steps


@dataclass(frozen=True)
class Every:
    """How often: `count` of epochs, steps or seconds."""

    count: float
    unit: str

    @classmethod
    def of(cls, value: Any) -> Every:
        """What the argument `every` means: a number of epochs, or a number and a unit.

        Raises:
            ValueError, TypeError: anything else.

        >>> for value in (5, "500 steps", "2 minutes"):
        ...     print(Every.of(value))
        Every(count=5, unit='epochs')
        Every(count=500, unit='steps')
        Every(count=120.0, unit='seconds')
        """
        if not isinstance(value, str):
            return cls(check_integer("every", value, 1, way_out=_ALLOWED), "epochs")
        number, _, word = value.strip().partition(" ")
        unit, factor = _UNITS.get(word.strip().removesuffix("s"), ("", 1.0))
        try:
            times = float(number) * factor
        except ValueError:
            times = 0.0
        if not unit or not 0.0 < times < _NEVER or (unit != "seconds" and times % 1.0):
            raise ValueError(f"every={shown(value)} is not understood. {_ALLOWED}")
        return cls(times if unit == "seconds" else int(times), unit)


_ALLOWED: Final = (
    "Give a number of epochs, or text such as '1 epoch', '500 steps', '30 seconds', '10 minutes' "
    "or '1 hour'."
)


class Keeper:
    """Writes the checkpoints of a trainer's fit when they are due."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.every = trainer, trainer.every
        self.written = time.monotonic()
        self.wrote: Path | None = None  # the file written last
        self.turn = self._turn()

    @property
    def on(self) -> bool:
        """There is a file to write to; a callback may change it."""
        return self.trainer.checkpoint is not None

    def _turn(self) -> int:
        """How many intervals of `every` steps have passed."""
        return self.trainer.step // int(self.every.count) if self.every.unit == "steps" else 0

    def room(self, step: int) -> int:
        """Steps that may be made at once after `step`: no more than up to the next checkpoint."""
        if not self.on or self.every.unit != "steps":
            return _NEVER
        return int(self.every.count) - step % int(self.every.count)

    def due_within_epoch(self) -> bool:
        """A checkpoint is due between two steps of an epoch."""
        return self.on and self._due()

    def due_after_epoch(self) -> bool:
        """A checkpoint is due between two epochs."""
        whole = self.every.unit == "epochs" and self.trainer.epoch % int(self.every.count) == 0
        return self.on and (whole or self._due())

    def _due(self) -> bool:
        if self.every.unit == "steps":
            return self._turn() > self.turn
        since = time.monotonic() - self.written
        return self.every.unit == "seconds" and since >= self.every.count

    def write(self) -> None:
        """Write one now."""
        path = self.trainer.checkpoint
        assert path is not None
        checkpoint.write(self.trainer, path)
        self.written, self.wrote, self.turn = time.monotonic(), path, self._turn()
