"""A thread's scratch memory during training: one vector of the network's dtype, in four parts.

operands packed for one product | panels of dL/dZ kept | a block of dL/dW | the step's constants
"""

from __future__ import annotations

from typing import Any, Final

from ..layout import LD, M
from .bf16_learn import BF16_LEARN_BYTES
from .jit import inline, view
from .memory import segment
from .operands import FORGET, KEEP, KEPT, NEAR_ELEMENTS, PACK_STRIDE_BYTES, SCRATCH_BYTES
from .shares import TALL

ROOM: Final = NEAR_ELEMENTS
"""Elements of dL/dW formed before they are applied; blocks of wider layers go to the gradient."""
CONSTANTS: Final = 64
"""Elements for the step's optimizer constants."""
KEPT_BYTES: Final = 32 << 20
"""Panels of dL/dZ that all threads together keep, at most; of larger ones each is packed anew for
every block of rows of dL/dW. A 2048-unit layer's take 4 MB a thread for batches of 512."""
DEEP: Final = 32
"""Samples from which panels are packed: two vectors, as for other products."""


@view
def constants_of(scratch: Any) -> Any:
    """The part for the step's constants."""
    return segment(scratch, scratch.size - CONSTANTS, CONSTANTS)


@view
def room_of(scratch: Any) -> Any:
    """The part for a block of dL/dW."""
    return segment(scratch, scratch.size - CONSTANTS - ROOM, ROOM)


@inline
def keeps_panels(scratch: Any, batch: int, ld: int, bf16: int) -> bool:
    """Whether panels of dL/dZ, `batch` rows of `ld`, are worth packing, and scratch has room."""
    itemsize = scratch.itemsize
    room = scratch.size - CONSTANTS - ROOM - SCRATCH_BYTES // itemsize
    packed = bf16 == 0 and batch >= DEEP and ld * itemsize >= PACK_STRIDE_BYTES
    return packed and batch * ld <= room


@inline
def panels_of_block(keeps: bool, first: bool) -> int:
    """What becomes of the panels when a block of rows of dL/dW is formed."""
    if not keeps:
        return FORGET
    return KEEP if first else KEPT


def scratch_elements(plan: Any, rows: int, itemsize: int, *, bf16: bool, count: int) -> int:
    """Elements of each of `count` threads' scratch for batches of up to `rows` samples.

    plan: the network's table of int64. Panels take no more room than dL/dZ: its rows are whole
    cache lines, and a vector is at most one.
    """
    packing = max(SCRATCH_BYTES, BF16_LEARN_BYTES if bf16 else 0) // itemsize
    shared = (int(p[LD]) for p in plan if p[M] > TALL and p[LD] * itemsize >= PACK_STRIDE_BYTES)
    kept = 0 if bf16 else max(shared, default=0) * rows
    if kept * itemsize * count > KEPT_BYTES:
        kept = 0
    return packing + kept + ROOM + CONSTANTS
