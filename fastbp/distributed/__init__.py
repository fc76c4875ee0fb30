"""Training on several processes, on one machine or many, through MPI (mpi4py).

Imported when a Trainer is told `distributed="mpi"`: it needs the extra fastbp[mpi].
"""

from .mpi import MPIWorld, world
from .run import Ranked, RankedStream

__all__ = ["MPIWorld", "Ranked", "RankedStream", "world"]
