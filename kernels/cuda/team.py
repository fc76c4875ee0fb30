"""Who does what: meetings of a block or of all blocks, and shares of elements."""

from __future__ import annotations

from .machine import apart, blocks, device, meet, meet_all, thread
from .tiles import THREADS


@device
def everyone() -> None:
    """All threads of all blocks meet; what was written before is seen after."""
    apart()
    if blocks() > 1:
        meet_all()
    else:
        meet()


@device
def gather_team(alone: bool) -> None:
    """Those meet who share the rows: a block that works alone on its own, else everyone."""
    if alone:
        meet()
    else:
        everyone()


@device
def first_of(part: int) -> int:
    """The first element of a thread of block `part`, the next one THREADS times the blocks on."""
    return part * THREADS + thread()


@device
def turn(part: int, parts: int, before: int) -> int:
    """The first item of this part in a list that `before` (< parts) items too many precede."""
    first = part - before
    return first if first >= 0 else first + parts


@device
def lanes_of(columns: int) -> int:
    """Threads that share a row of so many columns: a power of two, at most the block."""
    lanes = THREADS
    while lanes // 2 >= columns:
        lanes //= 2
    return lanes


__all__ = ["everyone", "first_of", "gather_team", "lanes_of", "turn"]
