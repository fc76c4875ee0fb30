"""Sums and maxima over teams of threads, in one order: trees whose shape never changes.

A team is 2^k neighbours of a warp, who exchange what they have in registers, or a whole block. All
threads of a block call these together.
"""

from __future__ import annotations

from typing import Any, Final

from .machine import device, noinline, shared_load, shared_store, shuffle_xor, sync_block, thread
from .tiles import THREADS, WARP

ROUNDS: Final = WARP.bit_length() - 1
"""Of exchanges over a warp: so many that they are written out, one after the other."""


@device
def larger(x: Any, y: Any) -> Any:
    """A NaN may be lost: its row is NaN all the same."""
    return y if y > x else x


@device
def lanes_total(value: Any, lanes: int) -> Any:
    """The sum over so many neighbours (a power of two, at most a warp), for each of them."""
    for k in range(ROUNDS):
        if lanes > 1 << k:
            value += shuffle_xor(value, 1 << k)
    return value


@device
def lanes_maximum(value: Any, lanes: int) -> Any:
    """The largest of so many neighbours, for each of them."""
    for k in range(ROUNDS):
        if lanes > 1 << k:
            value = larger(value, shuffle_xor(value, 1 << k))
    return value


@device
def block_total(value: Any, shared: Any) -> Any:
    """The sum of every thread's value, for every thread; `shared` holds THREADS elements."""
    noinline()
    value = lanes_total(value, WARP)
    sync_block()
    if thread() % WARP == 0:  # all of its lanes have it
        shared_store(shared, thread() // WARP, value)
    sync_block()
    total = shared_load(shared, 0)
    for warp in range(1, THREADS // WARP):
        total += shared_load(shared, warp)
    return total


@device
def block_maximum(value: Any, shared: Any) -> Any:
    """The largest of every thread's value."""
    noinline()
    value = lanes_maximum(value, WARP)
    sync_block()
    if thread() % WARP == 0:
        shared_store(shared, thread() // WARP, value)
    sync_block()
    most = shared_load(shared, 0)
    for warp in range(1, THREADS // WARP):
        most = larger(most, shared_load(shared, warp))
    return most
