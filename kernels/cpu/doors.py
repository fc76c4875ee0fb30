"""How a public door runs its shares: side by side where that pays, else here and now."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numba

GRAIN: Final = 16384
"""Elements a thread must get to be worth a parallel region (some 10 us of an activation)."""

# Numba's workqueue layer aborts the process when two threads enter it at once.
_entry = threading.Lock()
_forked = False


def _after_fork() -> None:
    """GNU OpenMP kills a forked child at its first region if the parent has had one."""
    global _entry, _forked
    _entry = threading.Lock()
    try:
        _forked = _forked or numba.threading_layer() == "omp"
    except ValueError:  # no region yet
        pass


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def region() -> Iterator[bool]:
    """Whether a parallel region may be opened within: no other thread of ours is in one."""
    free = not _forked and _entry.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            _entry.release()


def launch(share: Callable[..., Any], shares: Callable[..., Any], work: int, *args: Any) -> None:
    """Run shares(*args, parts), or share(*args, 0, 1) where `work` elements are few.

    Also alone while another Python thread is in a parallel region. The bits are the same.
    """
    parts = min(numba.get_num_threads(), work // GRAIN)
    if parts > 1:
        with region() as free:
            if free:
                shares(*args, parts)
                return
    share(*args, 0, 1)
