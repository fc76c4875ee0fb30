"""How many threads a training runs on: those that pay, by the work of a step and by the clock.

Where a step is short, a second thread may gain a third or lose half, as other programs have it: a
BLAS whose threads spin for 0.1 s after each call, cores that share no cache, a machine lent out
twice. So short steps are timed on all threads that pay and on one, shorter ones on one thread and
on two, and the faster goes on; now and then the other is looked at again. A fit goes on with what
the last one of such steps has found, if it was a moment ago. Results do not depend on the number of
threads.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

from .budget import WORK_A_THREAD, choose_threads

SURE: Final = 16 * WORK_A_THREAD
"""Operations of a step beyond which nothing is tried: a chunk on one thread would cost too much."""
TRIED_WORK, TRIED_ROWS = 4, 2
"""A second thread is tried from a 4th of the work and half of the rows that surely pay for it."""
AGAIN, SELDOM, COST = 16, 128, 0.01
"""Chunks after which the slower number is looked at again: so many that it costs 1% of the time."""
LOOKS: Final = 2
"""Last chunks by which a number is judged, by the faster of them: anything may disturb one."""
TRIAL: Final = 0.01
"""Seconds that a look at the slower number takes; its cold start is 1 or 2% of that time."""
LATELY: Final = 10.0
"""Seconds for which a fit believes the one before: cores change their neighbours by the minute."""
KEPT: Final = 64
GUESS: Final = 2e10
"""Operations a second, until a chunk has been timed."""

_lately: dict[Any, tuple[float, dict[int, tuple[float, ...]], int, int]] = {}
"""By kind of step, the last KEPT: when a chunk ended, the times, `since` and `threads` then."""


class Pace:
    """The number of threads for the next chunk of steps.

    Args:
        work: operations of a step.
        rows: samples of a step.
        asked: a number of threads, which nothing changes.
        grain: as for `choose_threads`.

    >>> pace = Pace(3 * WORK_A_THREAD, 100, asked=3)
    >>> pace.took(9.0)  # seconds
    >>> pace.threads
    3
    """

    def __init__(
        self, work: int, rows: int, asked: int | None = None, grain: int = WORK_A_THREAD
    ) -> None:
        most = choose_threads(work, rows, asked, grain)
        numbers = [most]  # the first one first
        if asked is None and most > 1 and work <= SURE:
            numbers = [most, 1]
        if asked is None and most == 1:
            tried = choose_threads(TRIED_WORK * work, TRIED_ROWS * rows, grain=grain)
            numbers = [1, 2] if tried > 1 else [1]
        self.times = {n: deque[float](maxlen=LOOKS) for n in numbers}
        self.since = 0
        self.threads = most
        self._a_step = max(work / GUESS, 1e-6)
        self._kind = work, rows, grain
        ended, times, since, threads = _lately.get(self._kind, (-LATELY, {}, 0, most))
        if times.keys() == self.times.keys() and time.monotonic() - ended < LATELY:
            self.times = {n: deque(times[n], LOOKS) for n in numbers}
            self.since, self.threads = since, threads

    def chunk(self, seconds: float) -> float:
        """How long the next chunk should take, where they usually take `seconds`."""
        known = {n: min(times) for n, times in self.times.items() if times}
        on_trial = known and self.threads != min(known, key=lambda n: known[n])
        return min(seconds, TRIAL) if on_trial else seconds

    def steps(self, seconds: float) -> int:
        """Steps of the next chunk, at least 1, where chunks usually take `seconds`."""
        return max(1, int(self.chunk(seconds) / self._a_step))

    def took(self, seconds: float, steps: int = 1) -> None:
        """The last chunk, so many steps on `threads`, took so long."""
        self._a_step = max(seconds / steps, 1e-7)
        if len(self.times) == 1:
            return
        self.times[self.threads].append(self._a_step)
        self._choose()
        _lately.pop(self._kind, None)  # the last of all, then
        times = {n: tuple(last) for n, last in self.times.items()}
        _lately[self._kind] = time.monotonic(), times, self.since, self.threads
        for kind in list(_lately)[:-KEPT]:
            _lately.pop(kind, None)

    def _choose(self) -> None:
        """The number of threads for the next chunk."""
        self.since += 1
        # What has not been tried counts as the faster.
        best = {n: min(times, default=0.0) for n, times in self.times.items()}
        faster, slower = sorted(best, key=lambda n: best[n])
        self.threads = faster
        once = all(len(times) == 1 for times in self.times.values())
        if once and slower == next(iter(self.times)):
            self.threads = slower  # it began with cold memory and threads asleep: once more
            return
        if best[faster] > 0:
            wait = min(max((best[slower] / best[faster] - 1) / COST, AGAIN), SELDOM)
            if len(self.times[slower]) < LOOKS:  # its only chunk may have loaded code
                wait = AGAIN
            if self.since >= wait:
                self.since, self.threads = 0, slower
