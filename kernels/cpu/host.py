"""What the compiler may use of this processor: the one place that all code generators ask.

Numba can be told to compile for less than there is (`NUMBA_CPU_NAME=generic`, `NUMBA_CPU_FEATURES`,
`NUMBA_ENABLE_AVX=0`), for a cache that several machines share, say. Vectors and fused products that
it may not use would be taken apart again, into code that is many times slower.
"""

from __future__ import annotations

import platform
from typing import Final

from llvmlite import binding
from numba.core import config

ARM: Final = platform.machine().lower() in {"aarch64", "arm64"}
X86: Final = platform.machine().lower() in {"x86_64", "amd64"}


def _features() -> frozenset[str]:
    try:
        there = {name for name, has in binding.get_host_cpu_features().items() if has}
    except RuntimeError:  # LLVM knows this processor's name alone
        return frozenset()
    if not config.ENABLE_AVX:
        there = {name for name in there if not name.startswith("avx")}
    if config.CPU_FEATURES is not None:
        there &= {name[1:] for name in str(config.CPU_FEATURES).split(",") if name[:1] == "+"}
    return frozenset(there)


FEATURES: Final = _features()
"""Of the processor, those that compiled code may use, by LLVM's names."""

HAS_FMA: Final = ARM or "fma" in FEATURES
"""Where it is False, `fma` is a product and a sum: a library call would take 50 ns, and nothing
could be contracted there, so two roundings are as repeatable as one."""


def vector_bytes() -> int:
    """Bytes of a vector register."""
    if "avx512f" in FEATURES:
        return 64
    return 32 if "avx" in FEATURES else 16
