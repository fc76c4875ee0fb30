"""Threads that train independent networks beside each other, the fits they share, and one bar.

The caller's thread trains nothing: it draws the bar and hears Ctrl-C.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import Any, Final

from .budget import at_most, available_cores
from .errors import plural
from .fitting import Aside
from .history import History
from .progress import Progress
from .samples import Data
from .snapshot import TrainerState
from .trainer import Trainer

_PAUSE: Final = 0.1
"""Seconds between two looks at the bar."""


@dataclass
class Case:
    """One network's fit: what it takes, how far it is, what came of it.

    `copied`: the held-out rows are among those of X, and are copied while the fit needs them.
    """

    place: int
    trainer: Trainer
    data: Data
    held: Data | None
    copied: bool
    steps: int
    work: int
    done: int = 0
    history: History | None = None
    diverged: bool = False
    error: BaseException | None = None


class _Cancelled(BaseException):
    """Ctrl-C was heard: to end a fit between two chunks, past everyone's `except Exception`."""


class Share(Progress):
    """A fit's part of the common bar; it ends the fit where all are to end."""

    def __init__(self, case: Case, fits: SideBySide) -> None:
        super().__init__(None, case.steps)
        self.case, self.fits = case, fits

    def update(self, done: int, record: Any = None) -> None:
        """Note how far the fit is."""
        self.case.done = done
        if self.fits.cancelled:
            raise _Cancelled


class SideBySide:
    """Threads that take the cases one after the other, the largest first."""

    def __init__(self, cases: list[Case], epochs: int, at_once: int, bar: Progress) -> None:
        self.cases, self.epochs, self.bar = cases, epochs, bar
        self.waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
        for case in sorted(cases, key=lambda case: -case.work):
            self.waiting.put(case)
        self.ended: queue.SimpleQueue[Case | None] = queue.SimpleQueue()
        self.count = min(at_once, len(cases))
        self.cores = max(1, available_cores() // self.count)
        self.finished = 0
        self.cancelled = False
        bar.caption = self._caption

    def work(self) -> None:
        """Train all; Ctrl-C is raised when every thread has come to rest."""
        threads = [
            threading.Thread(target=self._member, name="fastbp-many", daemon=True)
            for _ in range(self.count)
        ]
        failure: KeyboardInterrupt | None = None
        with self.bar:
            while True:
                try:  # an interrupt may come anywhere: nobody is left alone with the networks
                    for thread in threads:
                        if thread.ident is None and not self.cancelled:
                            thread.start()
                    while any(thread.is_alive() for thread in threads) or not self.ended.empty():
                        self._look()
                    break
                except KeyboardInterrupt as error:
                    self.cancelled, failure = True, error
        if failure is not None:
            raise failure

    def _look(self) -> None:
        """Wait for a case to end, not for long, and show how far all are."""
        try:
            if self.ended.get(timeout=_PAUSE) is not None:
                self.finished += 1
        except queue.Empty:
            pass
        self.bar.update(sum(case.done for case in self.cases))

    def _caption(self) -> str:
        done = sum(case.done for case in self.cases)
        seconds = self.bar.seconds
        speed = f"  {done / seconds:,.0f} steps/s" if done and seconds > 0 else ""
        return f"{self.finished}/{plural(len(self.cases), 'network')}{speed}"

    def _member(self) -> None:
        """A thread: case after case, on its share of the cores."""
        with at_most(self.cores):
            while not self.cancelled:
                try:
                    case = self.waiting.get_nowait()
                except queue.Empty:
                    break
                self._train(case)
                self.ended.put(case)
        self.ended.put(None)  # who waits looks again at once

    def _train(self, case: Case) -> None:
        trainer = case.trainer
        try:
            aside = Aside(Share(case, self), "note")
            before = TrainerState.of(trainer) if case.data.screen else None
            held = case.held
            if held is not None and case.copied:
                held = held.taken(held.indices)
            with at_most(trainer.n_threads):
                job = trainer._job_of(case.data, held, self.epochs, trainer.callbacks, aside)
                case.history, case.diverged = trainer._train(job, before), job.diverged
            case.done = case.steps
        except _Cancelled:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
            case.error = error
