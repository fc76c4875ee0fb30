"""A thread's scratch memory during training: one vector of the network's dtype, in four parts.

operands packed for one product | panels of dL/dZ kept | a block of dL/dW | the step's constants
"""

from __future__ import annotations

from typing import Any, Final

from ..layout import LD, M, N
from .bf16_learn import BF16_LEARN_BYTES
from .jit import inline, view
from .memory import segment
from .operands import PACK_ROWS, PACK_STRIDE_BYTES, SCRATCH_BYTES

ROOM: Final = 32768
"""Elements of dL/dW formed before they are applied; blocks of wider layers go to the gradient."""
CONSTANTS: Final = 64
"""Elements for the step's optimizer constants."""
KEPT_BYTES: Final = 32 << 20
"""Panels of dL/dZ that all threads together keep, at most; of larger ones each is packed anew for
every block of rows of dL/dW. A 2048-unit layer's take 4 MB a thread for batches of 512."""
_LINE: Final = 16  # elements that panels' columns and parts are padded to: a vector, a line or two


@view
def constants_of(scratch: Any) -> Any:
    """The part for the step's constants."""
    return segment(scratch, scratch.size - CONSTANTS, CONSTANTS)


@view
def room_of(scratch: Any) -> Any:
    """The part for a block of dL/dW."""
    return segment(scratch, scratch.size - CONSTANTS - ROOM, ROOM)


@inline
def keeps_panels(scratch: Any, batch: int, ld: int, n: int, half: int) -> bool:
    """Whether panels of dL/dZ, (batch, n) in rows of `ld`, are packed, and scratch has room."""
    itemsize = scratch.itemsize
    packed = half == 0 and batch >= PACK_ROWS and ld * itemsize >= PACK_STRIDE_BYTES
    room = scratch.size - CONSTANTS - ROOM - SCRATCH_BYTES // itemsize
    return packed and batch * ((n + _LINE - 1) // _LINE * _LINE) <= room


def scratch_elements(
    plan: Any, rows: int, itemsize: int, tall: int, *, half: bool, count: int
) -> int:
    """Elements of each of `count` threads' scratch for batches of up to `rows` samples.

    plan: the network's table of int64. tall: rows of dL/dW formed at once.
    """
    packing = max(SCRATCH_BYTES, BF16_LEARN_BYTES if half else 0) // itemsize
    shared = [p for p in plan if p[M] > tall and p[LD] * itemsize >= PACK_STRIDE_BYTES]
    widest = max((-(-int(p[N]) // _LINE) * _LINE for p in shared), default=0)
    kept = 0 if half or widest * rows * itemsize * count > KEPT_BYTES else widest * rows
    return packing + kept + ROOM + CONSTANTS
