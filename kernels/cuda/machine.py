"""What a kernel asks of the machine: its thread, its block, barriers, shared memory, launches.

Kernels import these names from here alone. On a card they are Numba's and LLVM's (`device.py`,
`tile_parts.py`); in the simulator they are Python (`simulated.py`), so that each kernel is also a
plain Python function.
"""

from __future__ import annotations

from .shim import SIMULATED

if SIMULATED:
    from .simulated import (
        accumulation,
        async_copy,
        blanking,
        block,
        blocks,
        commit_group,
        cooperative,
        device,
        fma,
        kernel,
        like,
        noinline,
        shared_doubles,
        shared_integers,
        shared_load,
        shared_reals,
        shared_store,
        shuffle_xor,
        store_fragments,
        sync_block,
        sync_grid,
        thread,
        wait_group,
    )
else:
    from .device import (  # type: ignore[assignment]
        block,
        blocks,
        cooperative,
        device,
        fma,
        kernel,
        like,
        noinline,
        shared_doubles,
        shared_integers,
        shared_load,
        shared_reals,
        shared_store,
        shuffle_xor,
        sync_block,
        sync_grid,
        thread,
    )
    from .tile_parts import (  # type: ignore[assignment]
        accumulation,
        async_copy,
        blanking,
        commit_group,
        store_fragments,
        wait_group,
    )

__all__ = [
    "accumulation", "async_copy", "blanking", "block", "blocks", "commit_group", "cooperative",
    "device", "fma", "kernel", "like", "noinline", "shared_doubles", "shared_integers",
    "shared_load", "shared_reals", "shared_store", "shuffle_xor", "store_fragments", "sync_block",
    "sync_grid", "thread", "wait_group",
]  # fmt: skip
