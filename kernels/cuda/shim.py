"""The one place where a CUDA target of Numba is imported: whichever is installed.

NVIDIA's numba-cuda (extras `fastbp[cuda12]` and `fastbp[cuda13]`) puts itself in place of Numba's
own target, which is deprecated and serves where it is still there. numba-cuda-mlir compiles through
MLIR and takes no intrinsics in LLVM's terms, which the tiles are written in: it is not used.
"""

from __future__ import annotations

import os
from importlib import metadata
from typing import Any, Final

import numba
from numba.core import config


def _no_target(error: Exception) -> str:
    """What is said where the import fails, of whatever an older numba-cuda raises: an
    AttributeError from 0.24 to 0.30.3 beside Numba 0.68.
    """
    try:
        found = f"numba-cuda {metadata.version('numba-cuda')} fails with Numba {numba.__version__}"
    except metadata.PackageNotFoundError:
        found = "Numba's CUDA target is not installed"
    return (
        f"fastbp's CUDA kernels cannot be had: {found}: pip install --upgrade 'fastbp[cuda12]' or "
        f"'fastbp[cuda13]', whichever your driver has (nvidia-smi says) ({error})"
    )


try:
    from numba import cuda
except Exception as error:
    raise ImportError(_no_target(error)) from error

__all__ = ["SIMULATED", "cuda", "implementation", "problem", "version"]

SIMULATED = bool(config.ENABLE_CUDASIM)
"""NUMBA_ENABLE_CUDASIM=1: memory is Numba's simulator's, threads are `simulated.py`'s."""

PER_THREAD: Final = (
    "NUMBA_CUDA_PER_THREAD_DEFAULT_STREAM",
    "CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM",
)
"""Either makes launches of two threads run at once. Blocks meet at a counter of the whole module
(`device.sync_grid`): they would wait for ever."""

LEAST = (8, 0)
"""Compute capability: the first one with asynchronous copies and fragments of float64."""


def implementation() -> str:
    """Which of them it is, for `fastbp info`."""
    if SIMULATED:
        return "simulator"
    built_in = getattr(cuda, "implementation", "Built-in") == "Built-in"
    return "Numba's own CUDA target" if built_in else "numba-cuda"


def version() -> str:
    """Which of them it is, and its version: compiled code is kept under it."""
    package = "numba-cuda" if implementation() == "numba-cuda" else "numba"
    return f"{package} {metadata.version(package)}"


def problem() -> str:
    """Why no kernel can run here, and what to do; nothing where one can.

    >>> isinstance(problem(), str)
    True
    """
    if SIMULATED:
        return ""
    if cuda.is_available():
        asked = [name for name in PER_THREAD if os.environ.get(name, "0") not in ("", "0")]
        if asked:
            return f"{asked[0]} is set, and trainings share the one default stream: unset it"
        major, minor = cuda.get_current_device().compute_capability
        if (major, minor) >= LEAST:
            return ""
        return (
            f"the card has compute capability {major}.{minor}, and the kernels need "
            f"{LEAST[0]}.{LEAST[1]} (Ampere, 2020) or later: another one may be chosen by "
            "CUDA_VISIBLE_DEVICES"
        )
    reason = _driver_error()
    if "library cannot be found" in reason or "libcuda" in reason:
        return (
            "no NVIDIA driver was found (libcuda): install the driver from nvidia.com/drivers, and "
            "check with nvidia-smi; in a container, start it with its GPUs (docker run --gpus all)"
        )
    if not reason or "no CUDA-capable device" in reason or "NO_DEVICE" in reason:
        return "the driver found no card: check nvidia-smi and CUDA_VISIBLE_DEVICES"
    return f"CUDA does not start: {reason}"


def _driver_error() -> str:
    try:
        error: Any = cuda.cuda_error()
    except Exception as failure:  # noqa: BLE001 - whatever the driver's loading raises is the reason
        error = failure
    return " ".join(str(error).split()) if error is not None else ""
