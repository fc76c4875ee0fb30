"""How many threads there are to spend, and how many pay: a step's work decides, and the cores."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from numba.core import config

from .kernels.cpu.jit import JIT_DISABLED

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
