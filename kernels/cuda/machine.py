"""What a kernel asks of the machine: its thread, its block, meetings, shared memory, launches.

Kernels import these names from here alone. On a card they are Numba's and LLVM's (`device.py`,
`tile_parts.py`); in the simulator they are Python (`simulated.py`), so that each kernel is also a
plain Python function.
"""

from __future__ import annotations

from .shim import SIMULATED

if SIMULATED:
    from .simulated import (
        accumulation,
        apart,
        blanking,
        block,
        blocks,
        bringing,
        device,
        exchanged,
        fma,
        kernel,
        landing,
        laying,
        like,
        meet,
        meet_all,
        peek,
        poke,
        seal,
        shared_doubles,
        shared_integers,
        shared_reals,
        thread,
        together,
    )
else:
    from .device import (  # type: ignore[assignment]
        apart,
        block,
        blocks,
        device,
        exchanged,
        fma,
        kernel,
        like,
        meet,
        meet_all,
        peek,
        poke,
        shared_doubles,
        shared_integers,
        shared_reals,
        thread,
        together,
    )
    from .tile_parts import (  # type: ignore[assignment]
        accumulation,
        blanking,
        bringing,
        landing,
        laying,
        seal,
    )

__all__ = [
    "accumulation", "apart", "blanking", "block", "blocks", "bringing", "device",
    "exchanged", "fma", "kernel", "landing", "laying", "like", "meet", "meet_all", "peek", "poke",
    "seal", "shared_doubles", "shared_integers", "shared_reals", "thread", "together",
]  # fmt: skip
