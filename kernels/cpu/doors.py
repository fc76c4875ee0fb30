"""How a public door runs its shares: side by side where that pays, else here and now."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import numba

GRAIN: Final = 16384
"""Elements a thread must get to be worth a parallel region (some 10 us of an activation)."""

# Numba's workqueue layer aborts the process when two threads enter it at once.
_region = threading.Lock()


def launch(share: Callable[..., Any], shares: Callable[..., Any], work: int, *args: Any) -> None:
    """Run shares(*args, parts), or share(*args, 0, 1) where `work` elements are few.

    Also alone while another Python thread is in a parallel region. The bits are the same.
    """
    parts = min(numba.get_num_threads(), work // GRAIN)
    if parts > 1 and _region.acquire(blocking=False):
        try:
            shares(*args, parts)
        finally:
            _region.release()
    else:
        share(*args, 0, 1)
