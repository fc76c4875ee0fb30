"""`fastbp info`: what fastbp found on this machine, for a bug report or a puzzled look."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import options

_PACKAGES = (
    "fastbp",
    "numpy",
    "numba",
    "llvmlite",
    "numba-cuda",
    "scikit-learn",
    "torch",
    "jax",
    "matplotlib",
)


def info() -> None:
    """Print processor, vector width, threads, cache and versions."""
    console = options.console()
    for name, value in collect().items():
        console.print(f"{name:<16} {value}", soft_wrap=True, markup=False)


def collect() -> dict[str, str]:
    """What `fastbp info` prints, by name."""
    return {
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "processor": processor(),
        "vectors": _vectors(),
        "bfloat16": _bfloat16(),
        "cores": _cores(),
        "threading layer": _threading_layer(),
        "compiled kernels": _cache(),
        "card": _card(),
        "versions": ", ".join(_versions()),
    }


def processor() -> str:
    """The processor's name as its maker gives it, and as the compiler knows it."""
    import llvmlite.binding as llvm

    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{name} ({llvm.get_host_cpu_name()})"


def _vectors() -> str:
    from ..kernels.cpu.jit import JIT_DISABLED
    from ..kernels.cpu.product import host_tiles

    if JIT_DISABLED:
        return "none: NUMBA_DISABLE_JIT is set, kernels run as plain Python"
    tiles = host_tiles()
    if tiles is None:
        return "no known vector instructions: plain loops"
    return (
        f"{tiles.name}: {8 * tiles.vector_bytes} bits, {tiles.vector_bytes // 4} float32 a vector"
    )


def _bfloat16() -> str:
    from ..kernels.cpu import bf16

    found = bf16.instructions()
    if not found:
        return f"no products: {bf16.missing()}"
    return f"products by {found[0]}" + "".join(f" (also {other})" for other in found[1:])


def _cores() -> str:
    from numba.core import config

    from ..budget import available_cores

    return (
        f"{os.cpu_count()}, of which this process may use {available_cores()}; "
        f"Numba starts {config.NUMBA_NUM_THREADS} threads"
    )


def _threading_layer() -> str:
    """The layer that a parallel kernel brings up, and what asked for it."""
    import numba
    import numpy as np
    from numba.core import config

    from ..kernels import activate
    from ..kernels.cpu.jit import JIT_DISABLED

    if JIT_DISABLED:
        return "none"
    activate("relu", np.zeros((64, 64), np.float32))
    try:
        layer = numba.threading_layer()
    except ValueError:  # Numba's word for: no parallel kernel has run
        layer = "none started"
    return f"{layer} (NUMBA_THREADING_LAYER={config.THREADING_LAYER})"


def _cache() -> str:
    from ..kernels.cpu.jit import cache_directory

    path = cache_directory()
    if path is None:
        return "kept nowhere: no directory can be written (set NUMBA_CACHE_DIR)"
    files = [file for file in path.rglob("*.nbc") if file.is_file()]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    return f"{path}: {len(files)} compiled, {megabytes:.1f} MB"


def _card() -> str:
    """The CUDA device, or what is missing for one."""
    from ..devices import cuda_problem

    try:
        problem = cuda_problem()
    except ImportError:
        return "none: Numba's CUDA target is not installed (pip install 'fastbp[cuda12]')"
    if problem:
        return f"none: {problem}"
    from ..cuda.about import card

    return card()


def _versions() -> list[str]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} -")
    return found
