"""What a kernel asks of the machine: its thread, its block, meetings, shared memory, launches.

Kernels import these names from here alone. On a card they are Numba's and LLVM's (`device.py`); in
the simulator they are Python (`simulated.py`), so that each kernel is also a plain Python function.
"""

from __future__ import annotations

from .shim import SIMULATED

if SIMULATED:
    from .simulated import (
        accumulation,
        banding,
        blank16,
        blank64,
        block,
        blocks,
        device,
        fma,
        kernel,
        like,
        meet,
        meet_all,
        peek,
        poke,
        registers,
        shared_doubles,
        shared_reals,
        spill,
        take,
        thread,
    )
else:
    from .device import (  # type: ignore[assignment]
        accumulation,
        banding,
        blank16,
        blank64,
        block,
        blocks,
        device,
        fma,
        kernel,
        like,
        meet,
        meet_all,
        peek,
        poke,
        registers,
        shared_doubles,
        shared_reals,
        spill,
        take,
        thread,
    )

__all__ = [
    "accumulation", "banding", "blank16", "blank64", "block", "blocks", "device", "fma", "kernel",
    "like", "meet", "meet_all", "peek", "poke", "registers", "shared_doubles", "shared_reals",
    "spill", "take", "thread",
]  # fmt: skip
