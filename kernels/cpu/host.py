"""What the compiler may use of this processor: the one place that all code generators ask.

Numba can be told to compile for less than there is (`NUMBA_CPU_NAME=generic`, `NUMBA_CPU_FEATURES`,
`NUMBA_ENABLE_AVX=0`), for a cache that several machines share, say. Vectors that it may not use
would be taken apart again, into code that is many times slower. And bits are at stake: LLVM may
contract a * b + c in one place and not in another, so formulas say `fma` where a product meets a
sum (`lanes.py`), if there is one.
"""

from __future__ import annotations

import platform
import re
from typing import Final

import llvmlite.binding as llvm
from numba.core import config

from .numba_private import get_host_cpu_features, initialize_llvm

ARM: Final = platform.machine().lower() in {"aarch64", "arm64"}
X86: Final = platform.machine().lower() in {"x86_64", "amd64"}

_PROBE: Final = """
define <16 x float> @sums(<16 x float> %a, <16 x float> %b, <16 x float> %c) {
  %product = fmul contract <16 x float> %a, %b
  %sum = fadd contract <16 x float> %product, %c
  ret <16 x float> %sum
}
define <16 x i32> @integers(<16 x i32> %a, <16 x i32> %b) {
  %sum = add <16 x i32> %a, %b
  ret <16 x i32> %sum
}
"""
_SIGNS: Final = {
    "avx": r"%[yz]mm",
    "avx2": r"vpaddd.*%[yz]mm",
    "fma": r"\bvfn?m\w+",
    "avx512f": r"%zmm",
}


def _features() -> frozenset[str]:
    """The processor's; where Numba is told otherwise, those of them that it makes use of.

    A processor's name and a feature imply others (`+avx512f` those of AVX2 and FMA), so what LLVM
    makes of vectors is looked at rather than looked up.
    """
    try:
        there = {name for name, has in llvm.get_host_cpu_features().items() if has}
    except RuntimeError:  # LLVM knows this processor's name alone
        return frozenset()
    told = config.CPU_FEATURES
    if not X86 or (told is None and config.ENABLE_AVX):
        return frozenset(there)
    told = get_host_cpu_features() if told is None else str(told)
    initialize_llvm()
    module = llvm.parse_assembly(_PROBE)
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=config.CPU_NAME or llvm.get_host_cpu_name(), features=told, opt=3
    )
    text = machine.emit_assembly(module)
    used = {name for name, sign in _SIGNS.items() if re.search(sign, text)}
    named = {word[1:] for word in told.split(",") if word[:1] == "+"} - set(_SIGNS)
    return frozenset(there & (used | named))


FEATURES: Final = _features()
"""Of the processor, those that compiled code may use, by LLVM's names."""

HAS_FMA: Final = ARM or "fma" in FEATURES
"""Where it is False, `fma` is a product and a sum: a library call would take 50 ns. An x86 without
it has nothing to contract them into, so two roundings are as repeatable as one; of other processors
that is not known."""


def vector_bytes() -> int:
    """Bytes of a vector register."""
    if "avx512f" in FEATURES:
        return 64
    return 32 if "avx" in FEATURES else 16
