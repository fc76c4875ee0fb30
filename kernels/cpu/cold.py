"""A cold cache, on all cores: processes beside this one compile what it has not come to yet.

Numba and LLVM compile one function at a time in a process. The bodies do not know each other, so
several processes walk their list and meet in the cache: who compiles an entry holds its lock
(`entries.py`), the others pass by. On two cores the first fit ever waits for 10 s in place of 16.

A helper is this Python with this process's paths. What it cannot do, this process does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from .entries import LOCKS, open_lock, take
from .jit import cache_directory

MOST: Final = 4
"""Processes that pay: the training loop alone takes a quarter of all the compiling."""

_HELP: Final = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from importlib import import_module
home = sys.argv[2]
for name in ("loop", "infer"):
    import_module(home + "." + name)
import_module(home + ".table").help_out(sys.argv[3], sys.argv[4])
"""


@contextlib.contextmanager
def leading(path: Path) -> Iterator[bool]:
    """Whether this is the process to speak and to call helpers, of those that find a cold cache."""
    lock = open_lock(path)
    try:
        yield lock is None or take(lock)
    finally:
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def helpers(dtype: Any, count: int) -> Iterator[int]:
    """So many processes that compile the bodies of `dtype` meanwhile; how many there are."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        if _python_can_be_started():
            with contextlib.suppress(OSError):  # no more processes allowed: do without
                for _ in range(count):
                    started.append(_start(dtype))
        yield len(started)
    finally:
        for process in started:  # all is compiled, or the caller was interrupted
            process.terminate()
            process.wait()


def _python_can_be_started() -> bool:
    """Whether `sys.executable` is Python, not a program that has Python inside, and locks work."""
    name = Path(sys.executable or "").name.lower()
    return LOCKS and name.startswith("python") and not getattr(sys, "frozen", False)


def _start(dtype: Any) -> subprocess.Popen[bytes]:
    arguments = [json.dumps([*map(str, sys.path)]), __package__, str(dtype), str(cache_directory())]
    return subprocess.Popen(  # noqa: S603 - this Python, a constant program
        [sys.executable, "-P", "-c", _HELP, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
