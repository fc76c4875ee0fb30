"""The ranks as MPI knows them: who is there, what they agree on, and how they end together."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..budget import at_most, available_cores
from ..divergence import BadRowError, DivergenceError
from ..engine import Array, aligned
from ..errors import shown
from ..extras import require
from ..kernels.cpu import ranks as kernel
from ..kernels.cpu.jit import JIT_DISABLED
from ..kernels.cpu.shares import SAMPLES
from ..ranks import RankError, World
from .lifeline import Lifeline
from .shared import Shared, fits

_AGREED = "_fastbp_agreed"  # mark of an error that every rank raises


class MPIWorld(World):
    """All ranks of MPI's world.

    Attributes:
        comm: a communicator of fastbp's own, so that its messages meet nobody else's.
        cores: of this machine, for this rank.
        interrupted: Ctrl-C was pressed and not yet heard.
    """

    def __init__(self, mpi: Any) -> None:
        self.mpi, self.comm = mpi, mpi.COMM_WORLD.Dup()
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()
        near = self.comm.Split_type(mpi.COMM_TYPE_SHARED)
        self.cores = self._cores(near)
        self.interrupted = False
        self._depth = 0
        self.one_host = bool(self.comm.allreduce(near.Get_size() == self.size, op=mpi.LAND))
        self.lifeline = Lifeline(self.comm, self.one_host) if self.size > 1 else None
        self._shared: dict[tuple[int, int], Shared] = {}
        near.Free()

    def _cores(self, near: Any) -> int:
        """This rank's part of the cores that it may use: each is shared by those that may use it.

        A launcher that binds ranks to cores leaves each its own; one that does not leaves all of
        them to all.
        """
        affinity = getattr(os, "sched_getaffinity", None)
        mine = affinity(0) if affinity else set(range(os.cpu_count() or 1))
        everyone = near.allgather(mine)
        part = sum(1 / sum(core in theirs for theirs in everyone) for core in mine)
        return max(1, min(int(part + 1e-9), available_cores()))

    def vector(self, dtype: Any) -> Array:
        """Who this rank is, and how compiled code calls MPI (`kernels/cpu/ranks.py`)."""
        mpi, numbers = self.mpi, kernel.ALONE.copy()
        kind = mpi.FLOAT if np.dtype(dtype).itemsize == 4 else mpi.DOUBLE
        library = ctypes.CDLL(mpi.__file__)  # finds what it is linked with: the MPI in use
        numbers[kernel.RANK], numbers[kernel.RANKS] = self.rank, self.size
        for place, name in ((kernel.ALLREDUCE, "MPI_Allreduce"), (kernel.BARRIER, "MPI_Barrier")):
            numbers[place] = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        numbers[kernel.IN_PLACE] = int(mpi.IN_PLACE)
        handles = (kind, mpi.SUM, self.comm)
        bits = np.array([mpi._handleof(one) for one in handles], np.uint64)
        numbers[[kernel.TYPE, kernel.SUM, kernel.COMM]] = bits.view(np.int64)
        return numbers

    def gradient(self, size: int, dtype: Any) -> tuple[Array, Array]:
        """Room for this rank's gradient until the fit ends, and the `vector` that goes with it.

        All ranks reach it, where they are on one machine and that has the room.
        """
        vector = self.vector(dtype)
        if not (self.one_host and self.of_first(fits(size, dtype, self.size))):
            return aligned(size, dtype), vector
        known = size, np.dtype(dtype).itemsize  # by an earlier start of the same fit
        if known not in self._shared:
            self._shared[known] = Shared(self.mpi, self.comm, size, dtype)
        return self._shared[known].gradient, self._shared[known].tell(vector)

    # --- agreeing ------------------------------------------------------------------------------

    def of_first(self, value: Any) -> Any:
        """The first rank's value."""
        return self.comm.bcast(value, root=0)

    def gathered(self, values: Array) -> Array:
        """Every rank's values, in the order of the ranks."""
        everyone = np.empty((self.size, *values.shape), values.dtype)
        self.comm.Allgather(np.ascontiguousarray(values), everyone)
        return everyone

    def total(self, values: Array) -> Array:
        """Sums over the ranks, a copy: added in the order of the ranks, and the same on each."""
        everyone = self.gathered(values)
        result = everyone[0].copy()
        for other in everyone[1:]:
            result += other
        return result

    def joined(self, rows: Array) -> Array:
        """The ranks' rows, one rank's behind the other's."""
        return np.concatenate(self.comm.allgather(rows))

    def part(self, rows: int) -> slice:
        """This rank's rows of a batch, as the compiled loop cuts it (`own_rows`)."""
        blocks = -(-rows // SAMPLES)
        first, last = (blocks * r // self.size * SAMPLES for r in (self.rank, self.rank + 1))
        return slice(min(first, rows), min(last, rows))

    def share(self, count: int) -> slice:
        """This rank's part of so many things."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def reason(self, reason: str) -> str:
        """The first reason that a rank has, in their order."""
        return next(filter(None, self.comm.allgather(reason)), "")

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """What fails within on one rank fails on all of them, when all have come to its end."""
        error: Exception | None = None
        try:
            yield
        except Exception as found:  # noqa: BLE001 - raised below, when all know of it
            error = found
        text = None if error is None else f"{type(error).__name__}: {error}"
        found_by = [(r, t) for r, t in enumerate(self.comm.allgather(text)) if t is not None]
        if not found_by:
            return
        first, words = found_by[0]
        if error is None:
            raise agreed(RankError(f"rank {first} of {self.size} failed: {words}")) from None
        if any(t != words for _, t in found_by) or len(found_by) < self.size:
            error.add_note(f"raised on rank {self.rank} of {self.size}")
        raise agreed(error)

    def check_same(self, facts: dict[str, Any]) -> None:
        """Raise ValueError, on all ranks, where one has other facts than the first."""
        everyone = self.comm.allgather(facts)
        for rank, theirs in enumerate(everyone):
            for name, value in theirs.items():
                if repr(value) != repr(everyone[0][name]):
                    raise agreed(ValueError(
                        f"rank {rank} differs from rank 0 in {name}: {shown(value)}, not "
                        f"{shown(everyone[0][name])}; all ranks must be given the same."
                    ))  # fmt: skip

    # --- a fit ---------------------------------------------------------------------------------

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """A fit is under way: an interrupt is heard by all ranks, and a failure ends all.

        Errors that all ranks raise leave as they are. After any other one the rest would wait for
        this rank for ever: it says what happened, and ends them.
        """
        if self.size == 1 or self._depth:
            yield
            return
        if JIT_DISABLED:
            raise RuntimeError("distributed='mpi' needs compiled code: unset NUMBA_DISABLE_JIT.")
        assert self.lifeline is not None
        self._depth, self.interrupted = 1, False
        handled = sys.exc_info()[1]  # fit may be called while another's error is
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, self._hear) if main else None
        try:
            with at_most(self.cores), self.lifeline.watching():
                try:
                    yield
                    self._close()
                except BaseException as error:
                    if not is_agreed(error, handled):
                        self._end(error)
                    raise
                finally:
                    while self._shared:
                        self._shared.popitem()[1].free()
        finally:
            self._depth = 0
            if main:
                signal.signal(signal.SIGINT, before)
        if self.interrupted:  # too late for the fit, not for what follows
            signal.raise_signal(signal.SIGINT)

    def _close(self) -> None:
        """An interrupt after the last chunk is heard by all ranks, too.

        Raises:
            KeyboardInterrupt: a rank was interrupted.
        """
        if self.comm.allreduce(self.interrupted, op=self.mpi.LOR):
            self.interrupted = False
            raise agreed(KeyboardInterrupt())

    def _hear(self, number: int, frame: Any) -> None:
        self.interrupted = True

    def pulse(self, count: int) -> int:
        """Between two chunks: the first rank's count of steps to make; Ctrl-C on all ranks.

        Raises:
            KeyboardInterrupt: a rank was interrupted.
        """
        mine = np.array([count if self.leads else 0, self.interrupted])
        both = np.empty_like(mine)
        self.comm.Allreduce(mine, both, op=self.mpi.MAX)
        if both[1]:
            self.interrupted = False
            raise agreed(KeyboardInterrupt())
        return int(both[0])

    def check_call(self, vector: Array) -> None:
        """Raise RankError where the compiled loop's calls of MPI failed."""
        code = int(vector[kernel.ERROR])
        if code:
            what = self.mpi.Get_error_string(code)
            raise RankError(f"a sum over the ranks failed on rank {self.rank}: {what}")

    def _end(self, error: BaseException) -> None:
        """Say what happened on this rank, and end all of them."""
        traceback.print_exception(error, file=sys.stderr)
        where = f"rank {self.rank} of {self.size} failed: {type(error).__name__}: {error}"
        print(f"fastbp: {where}\nfastbp: all ranks are ended", file=sys.stderr, flush=True)
        assert self.lifeline is not None
        self.lifeline.excuse()
        self.comm.Abort(1)


def agreed(error: Any) -> Any:
    """The error, marked as one that every rank raises."""
    setattr(error, _AGREED, True)
    return error


def is_agreed(error: BaseException | None, handled: BaseException | None = None) -> bool:
    """The error is one that every rank raises, or was raised in place of such a one.

    All ranks have the same numbers, so what diverges does on all of them. handled: what was being
    handled before, of which nothing follows.
    """
    while error is not None and error is not handled:
        if getattr(error, _AGREED, False) or isinstance(error, DivergenceError | BadRowError):
            return True
        error = error.__cause__ or error.__context__
    return False


@functools.cache
def world() -> MPIWorld:
    """MPI's world, when it is first asked for.

    Raises:
        ImportError: mpi4py is not installed, or finds no MPI.
    """
    try:
        mpi = require("mpi4py.MPI", "mpi", "distributed='mpi'")
    except RuntimeError as error:  # mpi4py is there, but no library of MPI
        raise ImportError(
            f"distributed='mpi' needs an MPI library beside mpi4py: pip install 'fastbp[mpi]' "
            f"({error})"
        ) from error
    return MPIWorld(mpi)
