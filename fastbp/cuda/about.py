"""What `fastbp info` says of the card."""

from __future__ import annotations

from ..kernels.cuda.memory import free_memory
from ..kernels.cuda.shim import SIMULATED, cuda, implementation


def card() -> str:
    """Its name, what it can do, its memory, and which compiler serves it."""
    if SIMULATED:
        return "the simulator (NUMBA_ENABLE_CUDASIM=1)"
    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
    free, total = free_memory()
    major, minor = device.compute_capability
    return (
        f"{name}, compute capability {major}.{minor}, {device.MULTIPROCESSOR_COUNT} "
        f"multiprocessors, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, by {implementation()}"
    )
