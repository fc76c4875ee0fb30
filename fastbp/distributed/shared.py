"""Memory of one machine that all of its ranks reach: a window of MPI's, for as long as a fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..engine import Array
from ..kernels.cpu.ranks import TOTAL

_FILES: Final = Path("/dev/shm")  # noqa: S108 - where Linux has the memory that processes share
_PAGE: Final = 4096


class Shared:
    """The ranks' gradients, each rank's its own to write, and the vector of their sum.

    Attributes:
        gradient: (size,) of this rank.
        numbers: what `kernels/cpu/ranks.py` wants to know, from TOTAL on.
    """

    def __init__(self, mpi: Any, comm: Any, size: int, dtype: Any) -> None:
        dtype = np.dtype(dtype)
        room = _pages(size * dtype.itemsize)
        parts = 2 if comm.Get_rank() == 0 else 1  # the first rank's has the sum behind it
        self._window = mpi.Win.Allocate_shared(parts * room + _PAGE, 1, comm=comm)
        starts = [self._start(rank) for rank in range(comm.Get_size())]
        self.numbers = np.array([(at, size) for at in (starts[0] + room, *starts)]).ravel()
        buffer = self._window.Shared_query(comm.Get_rank())[0]
        own = starts[comm.Get_rank()] - buffer.address
        self.gradient: Array = np.frombuffer(buffer, dtype, size, own)

    def _start(self, rank: int) -> int:
        """Where a rank's part begins, on a page of its own."""
        return _pages(int(self._window.Shared_query(rank)[0].address))

    def tell(self, world: Array) -> Array:
        """The vector that tells compiled code of the ranks, and of this memory."""
        return np.concatenate([world[:TOTAL], self.numbers])

    def free(self) -> None:
        """Give the memory back, on all ranks; nobody may look at it any more."""
        self._window.Free()


def fits(size: int, dtype: Any, ranks: int) -> bool:
    """The machine has room for it; where it is kept as files, twice as much as it takes.

    Containers often allow no more than 64 MB, and who writes beyond them is killed.
    """
    if not _FILES.is_dir():
        return True
    found = os.statvfs(_FILES)
    need = (ranks + 1) * (_pages(size * np.dtype(dtype).itemsize) + _PAGE)
    return 2 * need <= found.f_bavail * found.f_frsize


def _pages(count: int) -> int:
    """Bytes, or an address, up to the next page."""
    return -(-count // _PAGE) * _PAGE
