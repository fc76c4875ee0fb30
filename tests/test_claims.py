"""What the tiles prefetch and claim beside their products: it changes nothing that is there."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
from product_support import DEEP, DTYPES, FAR, SCRATCH, forward, integers, same

from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.cpu.layer_products import NO_PREFETCH, gradient_rows, linear_rows
from fastbp.kernels.cpu.product import host_tiles
from fastbp.kernels.cpu.tile_table import bind_tiles
from fastbp.kernels.cpu.tiles import CLAIM_BESIDE, CLAIM_C, FINISH_NONE, FINISH_RELU

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="only tiles prefetch and claim")


@pytest.fixture(autouse=True)
def _tiles() -> None:
    for dtype in DTYPES:
        bind_tiles(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_prefetched_changes_nothing(dtype: str) -> None:
    """Addresses of rows to be read soon: sensible ones, none at all, and where no memory is.

    Their places are claimed: each keeps what it holds.
    """
    rng = np.random.default_rng(4)
    rows, m, n = 29, 70, 90
    A, W, b = (integers(rng, dtype, *shape) for shape in ((rows, m), (m, n), (n,)))
    wanted = forward(A, W, b)
    places = rng.standard_normal((rows, m)).astype(dtype)
    before = places.tobytes()
    for claimed in (False, True):
        for address in (A.ctypes.data, 0, 8, 2**62):
            C, prefetched = np.empty_like(wanted), np.full((rows, 2), address)
            prefetched[:, 1] = [places[i].ctypes.data if claimed else 0 for i in range(rows)]
            for lo, hi in ((0, 13), (13, rows)):
                linear_rows(
                    A, W, b, C, lo, hi, m, n, FINISH_NONE, 0, SCRATCH[dtype], prefetched.ravel(), C
                )  # fmt: skip
            assert same(C, wanted)
            assert places.tobytes() == before


CLAIMS_READ_ONLY = """
import ctypes, mmap, sys
import numpy as np
from fastbp.kernels.cpu.layer_products import gradient_rows
from fastbp.kernels.cpu.operands import SCRATCH_BYTES
from fastbp.kernels.cpu.tile_table import bind_tiles

bind_tiles("float32")
A, D, G = (np.ones(shape, np.float32) for shape in ((40, 64), (40, 16), (64, 16)))
pages = mmap.mmap(-1, G.nbytes)
W = np.frombuffer(pages, np.float32)
scratch = np.empty(SCRATCH_BYTES // 4, np.float32)
gradient_rows(A, D, G, 0, 0, 64, 40, 16, 0, scratch, W[:0], 0)
print("compiled", flush=True)
address, size = ctypes.c_void_p(W.ctypes.data), ctypes.c_size_t(G.nbytes)
assert ctypes.CDLL(None).mprotect(address, size, mmap.PROT_READ) == 0
gradient_rows(A, D, G, 0, 0, 64, 40, 16, 0, scratch, W[:int(sys.argv[1])], 0)
print("done", flush=True)
"""


@pytest.mark.skipif(host_tiles() is None, reason="plain loops claim nothing")
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by mprotect")
def test_a_claim_is_a_store() -> None:
    """Into pages that cannot be written it kills the process: no compiler has left it out."""
    ends = [
        subprocess.run(
            [sys.executable, "-c", CLAIMS_READ_ONLY, size], capture_output=True, text=True,
            check=False,
        )
        for size in ("0", "1024")
    ]  # fmt: skip
    assert [(end.returncode, end.stdout.split()) for end in ends] == [
        (0, ["compiled", "done"]), (-signal.SIGSEGV, ["compiled"]),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("finish", [FINISH_NONE, FINISH_RELU])
def test_claims_of_the_forward_product_change_nothing(dtype: str, finish: int) -> None:
    """What lies beside C keeps its bytes, and C is what it is without claims."""
    rng = np.random.default_rng(6)
    for rows, m, n in [(1, 1, 1), (13, 7, 17), (29, 70, 90), (33, DEEP[dtype] + 9, FAR[dtype] + 1)]:
        A, W, b = (integers(rng, dtype, *shape) for shape in ((rows, m), (m, n), (n,)))
        wanted, C = forward(A, W, b, finish), np.full((rows, n), np.nan, dtype)
        beside = rng.standard_normal((rows, n)).astype(dtype)
        before = beside.tobytes()
        for lo, hi in ((0, rows // 2), (rows // 2, rows)):
            linear_rows(
                A, W, b, C, lo, hi, m, n, finish + CLAIM_C + CLAIM_BESIDE, 0, SCRATCH[dtype],
                NO_PREFETCH, beside,
            )  # fmt: skip
        assert same(C, wanted)
        assert beside.tobytes() == before


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [5, 40])
@pytest.mark.parametrize("n", [1, 7, 10, 16, 23, 70])
def test_claimed_weights_keep_what_they_hold(dtype: str, batch: int, n: int) -> None:
    """To the byte, and so does what is around them; what is formed meanwhile is the same.

    (No random bytes: OpenBLAS reads freed memory in spare lanes, and warns of what NaN is there.)
    """
    rng = np.random.default_rng(5)
    m, lo, hi = 60, 9, 52
    A, D = integers(rng, dtype, batch, m), integers(rng, dtype, batch, n)
    around = rng.standard_normal(m * n + 32).astype(dtype)
    before = around.tobytes()
    W = around[16 : 16 + m * n]
    wanted, found = (np.full((hi - lo, n), np.nan, dtype) for _ in range(2))
    gradient_rows(A, D, wanted, lo, lo, hi, batch, n, 0, SCRATCH[dtype], W[:0], 0)
    gradient_rows(A, D, found, lo, lo, hi, batch, n, 0, SCRATCH[dtype], W[lo * n : hi * n], 0)
    assert same(found, wanted)
    assert around.tobytes() == before
