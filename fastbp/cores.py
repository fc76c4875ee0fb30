"""Where the threads of the worker pool start: on cores apart, where the system lets them (Linux).

A thread that is woken starts where it last ran or on the core of who wakes it, unless the scheduler
finds an idle core in the little time it looks for one. Two that share a core go on so until one of
them is moved, some milliseconds later: a fit of 784-128-10 on 30 MB took 58 ms on two threads after
0.2 s of rest, 35 without the rest, and 59 on one thread (two virtual cores, Linux 6.18).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Sequence
from typing import Final, Protocol


class Waiting(Protocol):
    """A thread that waits: the system's number of it, and where it last ran.

    mask: the cores it may use, kept while it may start on some of them only; else None.
    """

    core: int
    mask: set[int] | None

    @property
    def native_id(self) -> int | None: ...


UNKNOWN: Final = -1
"""In place of a core's number."""

try:
    # The interpreter's lock is kept: to give it up would cost more than the call.
    _core_of_caller = ctypes.PyDLL(None).sched_getcpu if hasattr(os, "sched_setaffinity") else None
except (AttributeError, OSError, TypeError):  # a C library without it
    _core_of_caller = None


def current_core() -> int:
    """The core this thread runs on now; UNKNOWN where the system does not tell."""
    return UNKNOWN if _core_of_caller is None else int(_core_of_caller())


def deal(free: set[int], last: Sequence[int]) -> list[set[int]]:
    """Cores for threads that last ran on `last`: to each its own if it is free, shares of the rest.

    No core is given twice; where there are more threads than cores, some get none.

    Example:
        >>> deal({1, 2, 3}, [0, 2])
        [{1}, {2, 3}]
    """
    dealt: list[set[int]] = []
    left = set(free)
    for core in last:
        dealt.append({core} & left)
        left -= dealt[-1]
    hands = sorted(dealt, key=len)  # those with nothing first
    for k, core in enumerate(sorted(left)):
        hands[k % len(hands)].add(core)
    return dealt


def keep_apart(workers: Sequence[Waiting]) -> None:
    """Before they are woken: none of the workers may start on the caller's core or on another's.

    3.5 us a worker (EPYC, Zen 5). `settle` takes the restriction back.
    """
    own = current_core()
    if own == UNKNOWN or not workers:
        return
    free = os.sched_getaffinity(0) - {own}
    for worker, cores in zip(workers, deal(free, [w.core for w in workers]), strict=True):
        if cores and worker.native_id is not None:
            try:
                if worker.mask is None:
                    worker.mask = os.sched_getaffinity(worker.native_id)
                os.sched_setaffinity(worker.native_id, cores)
            except OSError:  # not allowed here, or a core has gone: it starts where it may
                worker.mask = None


def settle(worker: Waiting) -> None:
    """Called by a worker that has started: it may run anywhere again."""
    if worker.mask is not None:
        with contextlib.suppress(OSError):  # cores have gone since: what is left is its mask
            os.sched_setaffinity(0, worker.mask)
        worker.mask = None
