"""How many threads a training runs on: those that pay, by the work of a step and by the clock.

Where a step is short, a second thread may gain a third or lose half, as other programs have it: a
BLAS whose threads spin for 0.1 s after each call, cores that share no cache, a machine lent out
twice. So short steps are timed on all threads that pay and on one, and the faster goes on; now and
then the other is looked at again. Results do not depend on the number of threads.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from .threads import WORK_A_THREAD, choose_threads

SURE: Final = 16 * WORK_A_THREAD
"""Operations of a step beyond which nothing is tried: a chunk on one thread would cost too much."""
AGAIN: Final = 16
"""Chunks after which the slower number is looked at again: 2% of the time if it takes 1.3 times."""
LOOKS: Final = 2
"""Last chunks by which a number is judged, by the faster of them: anything may disturb one."""


class Pace:
    """The number of threads for the next chunk of steps.

    Args:
        work: operations of a step.
        rows: samples of a step.
        asked: a number of threads, which nothing changes.
        grain: as for `choose_threads`.

    >>> pace = Pace(3 * WORK_A_THREAD, 100, asked=3)
    >>> pace.took(9.0)
    >>> pace.threads
    3
    """

    def __init__(
        self, work: int, rows: int, asked: int | None = None, grain: int = WORK_A_THREAD
    ) -> None:
        most = choose_threads(work, rows, asked, grain)
        fixed = asked is not None or most == 1 or work > SURE
        self.times = {n: deque[float](maxlen=LOOKS) for n in ([most] if fixed else [most, 1])}
        self.chunks = 0
        self.threads = most

    def took(self, seconds: float) -> None:
        """A step of the last chunk, on `threads`, took so long."""
        if len(self.times) == 1:
            return
        self.times[self.threads].append(seconds)
        self.chunks += 1
        # What has not been tried counts as the faster.
        faster, slower = sorted(self.times, key=lambda n: min(self.times[n], default=0.0))
        self.threads = slower if self.chunks % AGAIN == 0 else faster
