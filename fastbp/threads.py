"""Threads that run compiled code side by side: a crew that waits in Python and works without GIL.

They are ordinary Python threads, so they are real under every Numba threading layer, and the
training loop never opens a parallel region. They are daemons (an exit waits for none), a fork
starts a new crew, and a call holds its workers until every one of them has returned.
"""

from __future__ import annotations

import functools
import itertools
import operator
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import config

from . import cores
from .kernels.cpu.jit import JIT_DISABLED


class _Worker(threading.Thread):
    """Waits for a task, runs it, says so."""

    def __init__(self) -> None:
        super().__init__(name="fastbp-worker", daemon=True)
        self.tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.core = cores.UNKNOWN
        self.mask: set[int] | None = None
        self.start()

    def run(self) -> None:
        while True:
            self.core = cores.current_core()
            function, args, done = self.tasks.get()
            try:
                cores.settle(self)
                function(*args)
                done.put(None)
            except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
                done.put(error)
            del function, args, done


_idle: list[_Worker] = []
_lock = threading.Lock()


def _reset() -> None:
    """After a fork: the parent's threads do not exist here."""
    global _lock
    _idle.clear()
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)


def _take(count: int) -> list[_Worker]:
    """`count` workers, or fewer where the system starts no more threads."""
    with _lock:
        taken = [_idle.pop() for _ in range(min(count, len(_idle)))]
    try:
        while len(taken) < count:
            taken.append(_Worker())
    except RuntimeError:  # "can't start new thread": results do not depend on the number
        pass
    return taken


def run(function: Callable[..., Any], threads: int, args: tuple[Any, ...]) -> Any:
    """Call `function(t, T, *args)` for t = 0 .. T-1 at once and return what t = 0 returned.

    The calling thread is t = 0. An interrupt (Ctrl-C) is raised only when all have returned, so
    nothing still writes into the arrays then.
    """
    if threads == 1:
        return function(0, 1, *args)
    workers = _take(threads - 1)
    team = len(workers) + 1
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    calls: list[Any] = [
        (worker.tasks.put, (function, (t, team, *args), done))
        for t, worker in enumerate(workers, 1)
    ]
    calls.append((function, 0, team, *args))
    begun: list[Any] = []
    returned: list[Any] = []
    failure: BaseException | None = None
    try:
        cores.keep_apart(workers)
        # One call of C code, in which Python delivers no signal: an interrupt comes before any
        # share has begun or after the first has returned. In between, the others would wait for
        # the first at a meeting for ever.
        begun.extend(itertools.starmap(operator.call, calls))
    except BaseException as error:  # noqa: BLE001 - raised below, when all have returned
        failure = error
    while True:
        try:
            if len(returned) >= min(len(begun), len(workers)):
                break
            returned.extend(itertools.starmap(done.get, [()]))  # got is counted, likewise
        except KeyboardInterrupt as error:
            failure = error
    with _lock:
        _idle.extend(workers)
    failure = failure or next(filter(None, returned), None)
    if failure is not None:
        raise failure
    return begun[-1]


_own = threading.local()


@contextmanager
def at_most(most: int | None) -> Iterator[None]:
    """What this Python thread computes meanwhile takes no more than `most` threads; None: as many.

    For work that shares the machine with its like; a trainer's own `n_threads` is held down, too.
    """
    before = getattr(_own, "most", None)
    if most is not None:
        _own.most = most if before is None else min(most, before)
    try:
        yield
    finally:
        _own.most = before


def available_cores() -> int:
    """Cores this thread may really use: affinity, a container's quota, Numba's number of threads.

    The last is NUMBA_NUM_THREADS, by which joblib tells its processes how to share the cores.
    Within `at_most` no more than that, and in a task of Dask what Dask gives one.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    most = min(getattr(_own, "most", None) or count or 1, _of_dask() or count or 1)
    return max(1, min(count or 1, most, _quota(), config.NUMBA_NUM_THREADS))


def _of_dask() -> int | None:
    """Threads for a task of Dask; None elsewhere.

    Dask runs as many tasks at once as a machine has cores and tells OpenMP and the BLAS to be one
    thread each, by variables that its configuration holds; Numba's is not among them.
    """
    module = sys.modules.get("distributed.worker")
    if module is None:
        return None
    try:
        module.get_worker()
    except ValueError:  # this thread runs no task
        return None
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else 1


@functools.cache
def _quota() -> int:
    """Whole cores of a Linux control group's CPU quota (version 2, then 1); large where none."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        if quota != "max":
            return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        base = "/sys/fs/cgroup/cpu/cpu.cfs_"
        with open(base + "quota_us") as first, open(base + "period_us") as second:
            quota_us, period_us = int(first.read()), int(second.read())
        if quota_us > 0:
            return max(1, -(-quota_us // period_us))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    return 1 << 20


MOST_THREADS = 1024
"""More are a mistake: each has scratch memory of its own."""
# Operations of a step (one in float64 counts twice), and rows of its batch, that pay for one more
# thread. Its meetings cost less than a microsecond, but half of the weights and of the activations
# change cores at every step. Two threads took 0.74 to 0.80 of one's time at 3 to 6 million
# operations on 64 rows or more, 0.9 to 0.97 on 32 and 1.27 on 16 (784-128-10).
WORK_A_THREAD = 2_000_000
WORK_A_CALL = 10_000_000
"""The same of a call that makes one step or pass: to wake a thread for it takes some 100 us."""
ROWS_A_THREAD = 16


def choose_threads(
    work: int, rows: int, asked: int | None = None, grain: int = WORK_A_THREAD
) -> int:
    """How many threads a step of `work` operations on `rows` samples deserves, at least 1.

    `grain` is the work that pays for one more; of a single call, WORK_A_CALL and all of its work.
    `asked` overrides; results do not depend on the number.
    """
    if JIT_DISABLED:
        return 1
    if asked is not None:
        asked = int(asked)  # a NumPy integer of few bits would overflow in sizes
        return min(asked, getattr(_own, "most", None) or asked)
    paying = min(work // grain, rows // ROWS_A_THREAD)
    return 1 if paying <= 1 else min(available_cores(), paying)
