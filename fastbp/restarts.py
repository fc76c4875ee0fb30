"""Training from several starts: where each begins, and which is the best so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from .distrusted import Memory, count, part
from .divergence import DivergenceError
from .errors import LARGEST_SEED
from .history import History
from .snapshot import TrainerState

if TYPE_CHECKING:
    from .fit import Fit
    from .fit_state import FitState
    from .trainer import Trainer


@dataclass
class Attempts:
    """Where the best of several starts is sought.

    Attributes:
        made: starts whose fit has ended.
        start: where the trainer stood before them.
        kept: where it stood after the best; None where none has ended well.
        found: that one's history.
        least: that one's loss.
    """

    made: int
    start: TrainerState
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
            TrainerState.recalled(part(memory, "start"), trainer),
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
        self.attempts = Attempts(0, TrainerState.of(trainer), None, History(), float("inf"))
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
                fit = self.fit or self._begin(attempts.made)
                attempts.offer(fit.train(), trainer, diverged=fit.diverged)
            except DivergenceError as error:
                failure = error
            except KeyboardInterrupt:
                if attempts.kept is not None and not self.diverged:
                    attempts.kept.restore(trainer)
                raise
            attempts.made += 1
            self.fit = None
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
        trainer = self.trainer
        self.attempts.start.restore(trainer)
        if attempt:
            trainer.network.initialize((trainer.network.seed + attempt) % LARGEST_SEED)
            # The first start goes on from where the trainer stands; rates and Adam's corrections
            # count no step of a further one. Its epoch, and so its shuffles, is the first's.
            trainer._state[...] = 0.0
            trainer.network._hand_out()
            trainer.step, trainer.schedule_state = 0, trainer.schedule.initial_state()
        self.fit = self.begin(attempt, None)
        return self.fit

    def memory(self) -> Memory:
        """What a checkpoint keeps of them."""
        assert self.fit is not None
        at = self.fit.state()
        assert at is not None
        at.attempts = self.attempts
        return at.memory()
