"""A cold cache, on all cores: processes beside this one compile what it has not come to yet.

Numba and LLVM compile one function at a time in a process. The bodies do not know each other, so
several processes walk their list and meet in the cache: who compiles an entry holds its lock
(`entries.py`), the others pass by. On two cores the first fit ever waits for 10 s in place of 16.

A helper is this Python with this process's paths. What it cannot do, this process does.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from .entries import LOCKS, let_go, open_lock, take
from .jit import cache_directory

MOST: Final = 4
"""Processes that pay: the training loop alone takes a quarter of all the compiling."""

FEW: Final = 4
"""Entries that one process compiles alone: some 1.5 s, and a helper starts in 0.6."""

_HELP: Final = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from importlib import import_module
home = sys.argv[2]
for name in ("loop", "infer"):
    import_module(home + "." + name)
import_module(home + ".table").help_out(sys.argv[3], sys.argv[4])
"""


def compile_missing(entries: list[Any], which: int, dtype: Any, cores: Callable[[], int]) -> None:
    """With the other cores' help, where more is missing than starting them takes.

    entries: those of `table.py` that are needed of a dtype, which is number `which` there.
    """
    directory = cache_directory()
    if directory is None:  # nothing that a helper compiled could be had
        _announce(dtype)
        return
    if sum(entry.unclaimed(which) for entry in entries) <= FEW:
        return
    with leading(directory / f"cold-{dtype}.lock") as first:
        if not first:
            return
        _announce(dtype)
        with helpers(dtype, min(cores(), MOST) - 1) as count:
            if count > 0:
                compile_unclaimed(entries, which)


def compile_unclaimed(entries: list[Any], which: int) -> None:
    """Compile what no other process has compiled, or is compiling."""
    for entry in entries:
        if entry.unclaimed(which):
            entry.compile(which)


def _announce(dtype: Any) -> None:
    """One line where compiling takes seconds, so that nobody takes it for the training."""
    place = cache_directory()
    kept = "not kept: no cache directory" if place is None else f"kept in {place}"
    if sys.stderr is not None:
        print(f"fastbp: compiling its kernels for {dtype}, once ({kept})", file=sys.stderr)


@contextlib.contextmanager
def leading(path: Path) -> Iterator[bool]:
    """Whether this is the process to speak and to call helpers, of those that find a cold cache."""
    lock = open_lock(path)
    try:
        yield lock is None or take(lock)
    finally:
        if lock is not None:
            let_go(lock)


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
