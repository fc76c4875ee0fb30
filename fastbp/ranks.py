"""Who takes part in a training: this process alone, or the ranks that share every batch.

A plain `World` is what a Trainer has unless it is told `distributed="mpi"`; there its MPI twin,
`fastbp.distributed.MPIWorld`, stands in. The rest of fastbp asks one of them and knows no MPI.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final


class RankError(RuntimeError):
    """Another rank of a distributed training failed; the message names it and says why."""


class World:
    """One process, unless a subclass says otherwise: nobody to agree with."""

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """This is the rank that draws the bar and writes the files."""
        return self.rank == 0

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """What fails within on one rank fails on all of them, when all have come to its end."""
        yield

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """A fit is under way: an interrupt is heard by all ranks, and a failure ends all."""
        yield

    def of_first(self, value: Any) -> Any:
        """The first rank's value."""
        return value

    def reason(self, reason: str) -> str:
        """The first reason that a rank has, in their order; "" where none has one."""
        return reason

    def check_same(self, facts: dict[str, Any]) -> None:
        """Raise ValueError, on all ranks, where one has other facts than the first."""


ONE_PROCESS: Final = World()


def launched() -> bool:
    """This process is one of several that an MPI launcher started."""
    names = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE")
    return any(os.environ.get(name, "1") not in {"", "1"} for name in names)


def world_of(distributed: str | None) -> World:
    """Who takes part in the training of a Trainer that was given this `distributed`.

    Raises:
        ImportError: mpi4py is not installed.
    """
    if distributed is None:
        return ONE_PROCESS
    from .distributed import world

    return world()
