"""bfloat16 products: which instruction of this machine multiplies pairs of bfloat16 into float32.

    amx             AMX tiles, `tdpbf16ps`: 16 x 16 sums over 32 products each
    avx512_bf16     `vdpbf16ps`: 16 sums over 2 products each

Both add in float32, flush denormals (of operands and of results) and round to nearest even whatever
the thread's mode is. Their orders of summation differ, so their last bits do. Nothing is run that
the processor, the operating system and the compiler do not all offer.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from typing import Any, Final

import llvmlite.binding as llvm
import numpy as np

from .host import FEATURES, X86
from .jit import JIT_DISABLED

BFLOAT16: Final = "bfloat16"
AMX: Final = "amx"
AVX512_BF16: Final = "avx512_bf16"

_NEEDS: Final = {
    AMX: {"avx512f", "avx512bw", "avx512bf16", "amx-tile", "amx-bf16"},
    AVX512_BF16: {"avx512f", "avx512bw", "avx512bf16"},
}
# Linux lends the 8 KB of tile state to a process that asks:
# arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA).
_ARCH_PRCTL: Final = 158
_ARCH_REQ_XCOMP_PERM: Final = 0x1023
_XTILEDATA: Final = 18


@functools.cache
def tiles_granted() -> bool:
    """Ask the system, once a process, for the tiles' registers; threads and forks share them."""
    if not (X86 and sys.platform.startswith("linux")):
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return False
    call.restype = ctypes.c_long
    arguments = (ctypes.c_long(n) for n in (_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA))
    return int(call(*arguments)) == 0


@functools.cache
def instructions() -> tuple[str, ...]:
    """What this process may multiply bfloat16 with, the fastest first; empty where nothing."""
    if JIT_DISABLED:
        return ()
    offered = [name for name, needed in _NEEDS.items() if needed <= FEATURES]
    return tuple(name for name in offered if name != AMX or tiles_granted())


def missing() -> str:
    """Why `instructions` is empty, as the end of a sentence."""
    if JIT_DISABLED:
        return "NUMBA_DISABLE_JIT is set"
    if not X86:
        return f"this processor ({platform.machine()}) is no x86"
    if llvm.get_host_cpu_features().get("avx512bf16"):
        return "NUMBA_CPU_FEATURES, NUMBA_CPU_NAME or NUMBA_ENABLE_AVX leaves avx512bf16 out"
    return "this processor has no AVX512_BF16"


def is_bf16(precision: Any, dtype: Any) -> bool:
    """Whether products are to be of bfloat16 operands: what the argument `precision` says.

    Raises:
        ValueError: it is neither None nor "bfloat16", or the numbers beside are not float32.
        RuntimeError: this process has nothing that multiplies bfloat16.
    """
    if precision is None:
        return False
    if not isinstance(precision, str) or precision != BFLOAT16:
        number = isinstance(precision, int | float) and abs(precision) < 2**63
        plain = isinstance(precision, str) or number  # others may have no repr, or a long one
        what = repr(precision)[:60] if plain else f"({type(precision).__name__})"
        raise ValueError(f"precision={what} must be None, products in dtype, or {BFLOAT16!r}")
    if np.dtype(dtype) != np.float32:
        raise ValueError(
            f"precision={BFLOAT16!r} needs float32 beside, of parameters and sums, not "
            f"{np.dtype(dtype)}; give dtype='float32', or precision=None"
        )
    if not instructions():
        raise RuntimeError(
            f"precision={BFLOAT16!r} is not available: {missing()}. Give precision=None, products "
            "in float32; a stored network is loaded so by Network.load(path, precision=None)."
        )
    return True
