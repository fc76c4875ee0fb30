"""What the compiler may use of the processor, and the tiles of a lesser one run on this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastbp.kernels.cpu import host
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.cpu.product import host_tiles

ROOT = Path(__file__).resolve().parent.parent
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2",
}


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        cwd=ROOT,
    )


ASK = """
from fastbp.kernels.cpu import bf16, host, product
tiles = product.host_tiles()
print(tiles and tiles.name, host.vector_bytes(), host.HAS_FMA, bf16.instructions())
"""


@pytest.mark.skipif(not {"avx512f", "fma"} <= host.FEATURES, reason="a processor with AVX-512")
@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"NUMBA_CPU_NAME": "generic"}, "None 16 False ()"),
        ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"}, "avx2 32 True ()"),
        ({"NUMBA_CPU_FEATURES": "+avx2,-avx512f,+avx"}, "None 32 False ()"),
        ({"NUMBA_ENABLE_AVX": "0"}, "None 16 True ()"),
        ({"NUMBA_CPU_FEATURES": "+avx512f,+no-such-feature"}, "avx512 64 False ()"),
        (AVX2, "avx2 32 True ()"),
    ],
    ids=["generic", "named", "taken away", "no AVX", "unknown", "Haswell"],
)
def test_what_numba_may_not_use_no_generator_uses(environment: dict[str, str], found: str) -> None:
    done = python("-c", ASK, **environment)
    assert done.stdout.strip() == found, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
@pytest.mark.skipif(
    host_tiles() is None or host_tiles().name != "avx512", reason="the tiles of AVX2 run as it is"
)
def test_products_on_the_vectors_of_avx2(tmp_path: Path) -> None:
    """The processors that most people have: exact on thousands of shapes, with every edge."""
    done = python(
        "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/test_products.py",
        "tests/test_update.py", **AVX2, NUMBA_CACHE_DIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
