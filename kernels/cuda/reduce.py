"""Sums and maxima over a block of threads, in one order: a tree whose shape never changes."""

from __future__ import annotations

from typing import Any

from .machine import apart, device, meet, peek, poke, thread
from .tiles import THREADS


@device
def block_total(value: Any, shared: Any) -> Any:
    """The sum of every thread's value, for every thread; `shared` holds THREADS elements."""
    apart()
    t = thread()
    meet()
    poke(shared, t, value)
    meet()
    width = THREADS // 2
    while width > 0:
        if t < width:
            poke(shared, t, peek(shared, t) + peek(shared, t + width))
        meet()
        width //= 2
    return peek(shared, 0)


@device
def block_maximum(value: Any, shared: Any) -> Any:
    """The largest of every thread's value; a NaN may be lost, its row is NaN all the same."""
    t = thread()
    meet()
    poke(shared, t, value)
    meet()
    width = THREADS // 2
    while width > 0:
        if t < width and peek(shared, t + width) > peek(shared, t):
            poke(shared, t, peek(shared, t + width))
        meet()
        width //= 2
    return peek(shared, 0)
