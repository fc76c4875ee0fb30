"""What the compiler may use of the processor."""

from __future__ import annotations

from typing import Any

import pytest
from processors import AVX2

from fastbp.kernels.cpu import host
from fastbp.kernels.cpu.jit import JIT_DISABLED

ASK = """
import re
import numba, numpy as np
from fastbp.kernels.cpu import bf16, host, product
tiles = product.host_tiles()
print(tiles and tiles.name, host.vector_bytes(), host.HAS_FMA, bf16.instructions())

@numba.njit(fastmath={"contract"})
def contracted(a, b, c):
    return a * b + c

contracted(1.0, 2.0, 3.0)
(text,) = contracted.inspect_asm().values()
print(bool(re.search(r"\\bvfn?m", text)))
"""


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
@pytest.mark.skipif(not {"avx512f", "fma"} <= host.FEATURES, reason="a processor with AVX-512")
@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"NUMBA_CPU_NAME": "generic"}, "None 16 False ()"),
        ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+avx2,+fma"}, "avx2 32 True ()"),
        ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+avx2"}, "None 32 False ()"),
        ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+avx512f"}, "avx512 64 True ()"),
        ({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}, "avx2 32 True ()"),
        ({"NUMBA_CPU_FEATURES": "-avx512f"}, "avx2 32 True ()"),
        ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+no-such-one"}, "None 16 False ()"),
        ({"NUMBA_ENABLE_AVX": "0"}, None),  # what LLVM is left with depends on the processor
        (AVX2, "avx2 32 True ()"),
    ],
)
def test_what_numba_may_not_use_no_generator_uses(
    environment: dict[str, str], found: str | None, python: Any
) -> None:
    """And `fma` is one exactly where LLVM contracts: else bits would depend on where it does."""
    done = python("-c", ASK, **environment)
    assert done.returncode == 0, done.stderr
    told, contracts = done.stdout.splitlines()
    assert found in (None, told)
    assert contracts == told.split()[2]
