"""A fit under way as plain data: what a checkpoint keeps of it, and what it must meet again."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from .distrusted import Memory, array_like, count, part
from .engine import Array
from .errors import shown
from .history import History
from .kernels.cpu.slots import RESULTS
from .restarts import Attempts
from .samples import Data
from .snapshot import Snapshot
from .sparse import parts

if TYPE_CHECKING:
    from .stopping import Stopping
    from .trainer import Trainer

_ROWS: Final = 64  # that a fingerprint looks at


@dataclass(frozen=True)
class Fingerprint:
    """By which a resumed fit recognises its data: sizes, and a checksum of some of their rows."""

    samples: int
    steps: int
    held: int
    checksum: int


def fingerprint(data: Data, held: Data | None, steps: int) -> Fingerprint:
    """The fingerprint of a fit's data; `steps` are those of an epoch."""
    checksum = 0
    for one in (data, held):
        if one is None:
            continue
        few = one.indices[np.linspace(0, one.samples - 1, min(_ROWS, one.samples)).astype(int)]
        for array in (
            *parts(one.X[few]),
            *(a[few] for a in (one.labels, one.targets, one.weights) if len(a)),
        ):
            checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
    return Fingerprint(data.samples, steps, 0 if held is None else held.samples, checksum)


@dataclass
class FitState:
    """A fit between two of its steps.

    Attributes:
        epochs: how many it was asked for.
        first: the place of its first epoch in the trainer's history.
        history: of its finished epochs.
        best: numbers of the best epoch so far, where a stopping rule wants them.
        begun: steps done of the epoch under way.
        results: what the compiled loop has summed up in that epoch, a row a rank.
        total: the trainer's steps when the fit ends, which some schedules span.
        spent: seconds that the epoch under way has taken.
        rules: names and memories of the stopping rules.
        data: their fingerprint.
        attempts: of a trainer with restarts.
    """

    epochs: int
    first: int
    history: History
    best: Snapshot | None
    begun: int
    results: Array
    total: int
    spent: float
    rules: list[Memory]
    data: Fingerprint
    attempts: Attempts | None

    def memory(self) -> Memory:
        """What a checkpoint keeps."""
        return {
            "epochs": self.epochs,
            "first": self.first,
            "history": self.history.memory(),
            "best": None if self.best is None else self.best.memory(),
            "begun": self.begun,
            "results": self.results,
            "total": self.total,
            "spent": self.spent,
            "rules": self.rules,
            "data": asdict(self.data),
            "attempts": None if self.attempts is None else self.attempts.memory(),
        }

    @classmethod
    def recalled(cls, memory: Memory, trainer: Trainer) -> Self:
        """The fit that `memory` was of."""
        best, attempts = memory["best"], memory["attempts"]
        rules = memory["rules"]
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            raise ValueError(f"its rules are {shown(rules)}, not a list of groups of values")
        sizes = {name: count(memory, name) for name in ("epochs", "first", "begun", "total")}
        data = part(memory, "data")
        return cls(
            **sizes,
            history=History.recalled(part(memory, "history")),
            best=None if best is None else Snapshot.recalled(part(memory, "best"), trainer.network),
            results=_sums(memory),
            spent=float(memory["spent"]),
            rules=[{"rule": rule["rule"], "seen": part(rule, "seen")} for rule in rules],
            data=Fingerprint(**{name: count(data, name) for name in data}),
            attempts=None if attempts is None else Attempts.recalled(memory["attempts"], trainer),
        )

    def left(self, starts: int) -> int:
        """Epochs still to be run at most, the one under way included; by so many starts in all."""
        here = 0 if self.history.stopped else self.epochs - len(self.history)
        further = 0 if self.attempts is None else starts - self.attempts.made - 1
        return here + max(further, 0) * self.epochs

    def end(self, trainer: Trainer) -> None:
        """Leave the trainer as a fit that has no epoch left leaves it: at its best weights."""
        history, past = self.history, trainer.history
        past.stopped = history.stopped
        for rule, kept in zip(trainer._all_rules, self.rules, strict=False):
            place = kept["seen"].get("best_epoch")
            if rule.restore_best and self.best is not None and place is not None:  # one rule's
                self.best.restore(trainer.network)
                history.best_epoch, past.best_epoch = place, self.first + place
        if self.attempts is not None:
            self.attempts.offer(history, trainer)
            assert self.attempts.kept is not None
            self.attempts.kept.restore(trainer)

    def check(self, epochs: int, data: Fingerprint, rules: list[str]) -> None:
        """Raise ValueError unless the call that goes on is the one that was cut short."""
        pairs: list[tuple[str, Any, Any]] = [
            ("epochs", epochs, self.epochs),
            ("samples", data.samples, self.data.samples),
            ("steps an epoch", data.steps, self.data.steps),
            ("samples held out", data.held, self.data.held),
            ("stopping rules", rules, [rule["rule"] for rule in self.rules]),
        ]
        differing = [f"{name}: {now}, not {then}" for name, now, then in pairs if now != then]
        if not differing and data.checksum != self.data.checksum:
            differing = ["other numbers in X, y, weights or validation"]
        if not differing and self.begun >= data.steps:
            differing = [f"{self.begun} steps of an epoch made, of {data.steps}"]
        if differing:
            raise ValueError(
                "this fit is not the one that the checkpoint was written in "
                f"({'; '.join(differing)}); repeat that call with the same data, or begin a new "
                "fit from its weights: resume(PATH, finish=False)."
            )


def _sums(memory: Memory) -> Array:
    """What the loop has summed up, a row a rank; older files have one row, as a vector."""
    found: Any = memory.get("results")
    ranks = np.shape(found)[:1] if np.ndim(found) == 2 else ()
    return array_like(memory, "results", np.zeros((*ranks, RESULTS))).reshape(-1, RESULTS)


def recall_rule(rule: Stopping, memory: Memory) -> None:
    """Give a stopping rule back what it had seen."""
    if is_dataclass(rule) and memory.keys() != rule.memory().keys():
        raise ValueError(f"the checkpoint's {type(rule).__name__} has seen {shown(memory)}.")
    rule.recall(memory)
