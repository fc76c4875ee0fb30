"""The worker pool: threads that wait in Python and run compiled code side by side, without GIL.

They are ordinary Python threads, so they are real under every Numba threading layer, and the
training loop never opens a parallel region. They are daemons (an exit waits for none), a fork
starts a new pool, and a call holds its workers until every one of them has returned.
"""

from __future__ import annotations

import itertools
import operator
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

from . import cores


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
