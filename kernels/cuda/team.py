"""Who does what: meetings of a block or of all blocks, and shares of elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from .machine import blocks, device, noinline, sync_block, sync_grid, thread
from .tiles import THREADS

BITS = THREADS.bit_length() - 1
U = np.uint64
"""Of an index: it is not counted from the end, which takes three instructions."""


@device
def everyone() -> None:
    """All threads of all blocks meet; what was written before is seen after."""
    noinline()
    if blocks() > 1:
        sync_grid()
    else:
        sync_block()


@device
def sync_team(alone: bool) -> None:
    """Those meet who share the rows: a block that works alone on its own, else everyone."""
    if alone:
        sync_block()
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
    """The logarithm of the threads that share a row of so many columns: at most a block's."""
    bits, columns = BITS, columns if columns > 0 else 1
    while (1 << bits) >> 1 >= columns:
        bits -= 1
    return bits


@device
def divided(a: int, b: int) -> tuple[int, int]:
    """a // b and the rest, of numbers under 2^32: in 64 bits a card takes four times as long."""
    quotient: Any = np.int64(np.uint32(a) // np.uint32(b))
    return quotient, a - quotient * b


@device
def pick(four: Any, q: int) -> Any:
    """The q-th of four values that are in registers."""
    low, high = (four[1], four[3]) if q & 1 == 1 else (four[0], four[2])
    return high if q >= 2 else low


@device
def four_at(x: Any, at: int, count: int) -> Any:
    """x[at : at + count], the first once more where there are less: four loads at once."""
    a = x[U(at)]
    b, c, d = a, a, a
    if count > 1:
        b = x[U(at + 1)]
    if count > 2:
        c = x[U(at + 2)]
    if count > 3:
        d = x[U(at + 3)]
    return a, b, c, d


@device
def put_four(x: Any, at: int, count: int, four: Any) -> None:
    """x[at : at + count] = the first of four values."""
    x[U(at)] = four[0]
    if count > 1:
        x[U(at + 1)] = four[1]
    if count > 2:
        x[U(at + 2)] = four[2]
    if count > 3:
        x[U(at + 3)] = four[3]
