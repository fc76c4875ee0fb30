"""Training from several starts: where each begins, and which is the best so far."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from .distrusted import Memory, array_like, count, part
from .divergence import DivergenceError
from .engine import Array
from .errors import LARGEST_SEED
from .history import History
from .snapshot import TrainerState

if TYPE_CHECKING:
    from .fit import Fit
    from .fit_state import FitState
    from .trainer import Trainer


@dataclass
class Start:
    """What a further start takes from where the trainer stood before the first.

    The rest is made anew: its weights are drawn, its optimizer rows and its count of steps are 0.
    """

    running: Array
    history: History
    epoch: int

    @classmethod
    def of(cls, trainer: Trainer) -> Self:
        """Copies of what is now."""
        running = trainer.network._running.copy()
        return cls(running, copy.deepcopy(trainer.history), trainer.epoch)

    def begin(self, trainer: Trainer, attempt: int) -> None:
        """Put the trainer at its further start number `attempt`, from 1."""
        network = trainer.network
        network.initialize((network.seed + attempt) % LARGEST_SEED)
        network._running[...] = self.running
        trainer._state[...] = 0.0
        network._hand_out()
        trainer.history, trainer.epoch = copy.deepcopy(self.history), self.epoch
        # Rates and Adam's corrections count no step of it; its shuffles are the first start's.
        trainer.step, trainer.schedule_state = 0, trainer.schedule.initial_state()

    def memory(self) -> Memory:
        """What a checkpoint keeps."""
        return {"running": self.running, "history": self.history.memory(), "epoch": self.epoch}

    @classmethod
    def recalled(cls, memory: Memory, trainer: Trainer) -> Self:
        """The start that `memory` was of; older files have all that a trainer has."""
        numbers = part(memory, "numbers") if "numbers" in memory else memory
        running = array_like(numbers, "running", trainer.network._running)
        return cls(running, History.recalled(part(memory, "history")), count(memory, "epoch"))


@dataclass
class Attempts:
    """Where the best of several starts is sought.

    Attributes:
        made: starts whose fit has ended.
        start: what all begin with.
        kept: where it stood after the best; None where none has ended well.
        found: that one's history.
        least: that one's loss.
    """

    made: int
    start: Start
    kept: TrainerState | None
    found: History
    least: float

    def offer(self, history: History, trainer: Trainer, *, diverged: bool = False) -> None:
        """Keep the fit that has just ended if it is the best so far."""
        losses = history.validation_loss or history.loss or [np.inf]
        loss = losses[-1 if history.best_epoch is None else history.best_epoch]
        loss = float("inf") if diverged or not np.isfinite(loss) else float(loss)
        if self.kept is None or loss < self.least:
            self.kept, self.found, self.least = TrainerState.of(trainer), history, loss

    def memory(self) -> Memory:
        """What a checkpoint keeps."""
        return {
            "made": self.made,
            "start": self.start.memory(),
            "kept": None if self.kept is None else self.kept.memory(),
            "found": self.found.memory(),
            "least": self.least,
        }

    @classmethod
    def recalled(cls, memory: Memory, trainer: Trainer) -> Self:
        """The attempts that `memory` was of."""
        kept = memory["kept"]
        return cls(
            count(memory, "made"),
            Start.recalled(part(memory, "start"), trainer),
            None if kept is None else TrainerState.recalled(part(memory, "kept"), trainer),
            History.recalled(part(memory, "found")),
            float(memory["least"]),
        )


class BestOf:
    """The best of several fits, by held-out loss where there is one, else by loss.

    A start that diverges counts as the worst; only if all do, the last one's error is raised. After
    an interrupt the best that had ended is kept, if any had.

    Args:
        trainer: whose fit it is.
        begin: makes the fit of an attempt, counted from 0; one that was cut short is gone on with.
        at: the fit that was cut short, if any.
    """

    def __init__(
        self,
        trainer: Trainer,
        begin: Callable[[int, FitState | None], Fit],
        at: FitState | None = None,
    ) -> None:
        self.trainer, self.begin = trainer, begin
        self.attempts = Attempts(0, Start.of(trainer), None, History(), float("inf"))
        self.fit: Fit | None = None
        if at is not None:
            if at.attempts is None:
                raise ValueError("the checkpoint's fit had restarts=1; give the trainer the same.")
            if at.attempts.made >= trainer.restarts:
                raise ValueError(
                    f"restarts={trainer.restarts}, and the checkpoint's fit is at its start "
                    f"{at.attempts.made + 1}; give the trainer more."
                )
            self.attempts = at.attempts
            self.fit = begin(self.attempts.made, at)

    def train(self) -> History:
        """Train from every start and leave the trainer at the end of the best."""
        trainer, attempts = self.trainer, self.attempts
        failure = None
        while attempts.made < trainer.restarts and not self._spent():
            try:
                self.fit = self.fit or self._begin(attempts.made)
                history, diverged = self.fit.train(), self.fit.diverged
                self.fit = None  # its buffers are free before numbers are copied
                attempts.offer(history, trainer, diverged=diverged)
            except DivergenceError as error:
                failure = error
            except KeyboardInterrupt:
                if attempts.kept is not None and not self.diverged:
                    attempts.kept.restore(trainer)
                raise
            attempts.made, self.fit = attempts.made + 1, None
        if attempts.kept is None:
            assert failure is not None
            raise failure
        attempts.kept.restore(trainer)
        return attempts.found

    @property
    def wrote(self) -> Path | None:
        """The checkpoint that was written meanwhile."""
        return None if self.fit is None else self.fit.wrote

    @property
    def diverged(self) -> bool:
        """Every start has."""
        return self.attempts.kept is None or self.attempts.least == float("inf")

    def _spent(self) -> bool:
        """A rule that looks at all starts together lets no further one begin."""
        if self.fit is not None or self.attempts.made == 0:
            return False
        rules = [rule for rule in self.trainer.stopping if rule.across_restarts]
        return bool(self.trainer._world.of_first(any(rule.due() for rule in rules)))

    def _begin(self, attempt: int) -> Fit:
        """The first start goes on from where the trainer stands."""
        if attempt:
            self.attempts.start.begin(self.trainer, attempt)
        return self.begin(attempt, None)

    def memory(self) -> Memory:
        """What a checkpoint keeps of them."""
        assert self.fit is not None
        at = self.fit.state()
        assert at is not None
        at.attempts = self.attempts
        return at.memory()
