"""The three products: exact on integers, within their error bound on reals, one order of sums."""

from __future__ import annotations

import itertools
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest

from fastbp.kernels import input_gradient, linear_forward, reference, weight_gradient
from fastbp.kernels.cpu import doors
from fastbp.kernels.cpu import linear as bodies
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.cpu.layer_products import NO_ASK, gradient_rows, input_rows, linear_rows
from fastbp.kernels.cpu.operands import (
    A_COLUMNS,
    DEPTH_BLOCK_BYTES,
    PACK_ROWS,
    PACK_STRIDE_BYTES,
    SCRATCH_BYTES,
)
from fastbp.kernels.cpu.product import TILE_TABLE, bind_tiles, host_tiles
from fastbp.kernels.cpu.tiles import (
    CLAIM_C,
    CLAIM_JUDGE,
    FINISH_MASK,
    FINISH_NONE,
    FINISH_RELU,
)

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="thousands of shapes need compiled loops")

DTYPES = ["float32", "float64"]
SIZES = [1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 64]
"""1, primes, and both sides of every vector and tile."""
ODD = [1, 2, 11, 19, 23, 24, 25, 37, 47, 48, 49, 63, 65, 67, 97, 128, 131]


def shapes() -> list[tuple[int, int, int]]:
    """(rows, inputs, outputs): a grid of small ones and draws of larger ones."""
    rng = np.random.default_rng(0)
    return [*itertools.product(SIZES, repeat=3), *(tuple(s) for s in rng.choice(ODD, (350, 3)))]


@pytest.fixture(params=["tiles", "plain"])
def loops(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways of multiplying; the tiles are put back."""
    plain = request.param == "plain"
    if not plain and host_tiles() is None:
        pytest.skip("this CPU has no tiles: plain loops are what it runs")
    for dtype in DTYPES:
        bind_tiles(dtype, plain=plain)
    assert (TILE_TABLE[: len(DTYPES)] == 0).all() == plain  # that of bfloat16 comes after
    yield request.param
    for dtype in DTYPES:
        bind_tiles(dtype)


# From here on B's rows are packed; deeper than this, in several blocks.
FAR = {d: PACK_STRIDE_BYTES // np.dtype(d).itemsize for d in DTYPES}
DEEP = {d: DEPTH_BLOCK_BYTES // np.dtype(d).itemsize for d in DTYPES}
SCRATCH = {d: np.empty(SCRATCH_BYTES // np.dtype(d).itemsize, d) for d in DTYPES}


def forward(A: Any, W: Any, b: Any, finish: int = FINISH_NONE, cuts: Any = ()) -> np.ndarray:
    C = np.full((len(A), W.shape[1]), np.nan, A.dtype)
    edges = [0, *cuts, len(A)]
    for lo, hi in itertools.pairwise(edges):
        linear_rows(A, W, b, C, lo, hi, *W.shape, finish, 0, SCRATCH[A.dtype.name], NO_ASK, C)
    return C


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_asked_for_changes_nothing(dtype: str) -> None:
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
            C, asked = np.empty_like(wanted), np.full((rows, 2), address)
            asked[:, 1] = [places[i].ctypes.data if claimed else 0 for i in range(rows)]
            for lo, hi in ((0, 13), (13, rows)):
                linear_rows(
                    A, W, b, C, lo, hi, m, n, FINISH_NONE, 0, SCRATCH[dtype], asked.ravel(), C
                )  # fmt: skip
            assert same(C, wanted)
            assert places.tobytes() == before


CLAIMS_READ_ONLY = """
import ctypes, mmap, sys
import numpy as np
from fastbp.kernels.cpu.layer_products import gradient_rows
from fastbp.kernels.cpu.operands import SCRATCH_BYTES
from fastbp.kernels.cpu.product import bind_tiles

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
                A, W, b, C, lo, hi, m, n, finish + CLAIM_C + CLAIM_JUDGE, 0, SCRATCH[dtype], NO_ASK,
                beside,
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


def gradient(A: Any, D: Any, cuts: Any = ()) -> np.ndarray:
    G = np.full((A.shape[1], D.shape[1]), np.nan, A.dtype)
    edges = [0, *cuts, len(G)]
    for lo, hi in itertools.pairwise(edges):
        gradient_rows(A, D, G, 0, lo, hi, *D.shape, 0, SCRATCH[A.dtype.name], G[0, :0], 0)
    return G


def backward(D: Any, W: Any, judge: Any = None, cuts: Any = ()) -> np.ndarray:
    C = np.full((len(D), len(W)), np.nan, D.dtype)
    finish = FINISH_NONE if judge is None else FINISH_MASK
    edges = [0, *cuts, len(D)]
    for lo, hi in itertools.pairwise(edges):
        input_rows(
            D, W, D if judge is None else judge, C, lo, hi, W.shape[1], len(W), finish, 0,
            SCRATCH[D.dtype.name],
        )  # fmt: skip
    return C


def integers(rng: Any, dtype: str, *shape: int) -> np.ndarray:
    """Whole numbers whose sums of 600 products are exact in float32: 600 * 64 < 2^24."""
    return rng.integers(-8, 9, shape).astype(dtype)


def same(got: np.ndarray, want: np.ndarray) -> bool:
    """To the last bit; the reference's -0 counts as 0."""
    return got.dtype == want.dtype and (got + 0.0).tobytes() == (want + 0.0).tobytes()


def test_there_are_enough_shapes() -> None:
    distinct = set(shapes())
    assert len(distinct) >= 2000
    assert (1, 1, 1) in distinct


@pytest.mark.parametrize("dtype", DTYPES)
def test_integers_are_exact_on_two_thousand_shapes(dtype: str, loops: str) -> None:
    rng = np.random.default_rng(1)
    for n, m, k in shapes():
        A, W, b = (integers(rng, dtype, *s) for s in ((n, m), (m, k), (k,)))
        D = integers(rng, dtype, n, k)
        Z = reference.linear_forward(A, W, b)
        shape = f"{n}x{m}x{k}"
        assert same(forward(A, W, b), Z), shape
        assert same(forward(A, W, b[:0]), reference.linear_forward(A, W)), shape
        relu = reference.linear_forward(A, W, b, "relu")
        assert same(forward(A, W, b, FINISH_RELU), relu), shape
        assert same(gradient(A, D), reference.weight_gradient(A, D)[0]), shape
        dA = reference.input_gradient(D, W)
        assert same(backward(D, W), dA), shape
        assert same(backward(D, W, A), np.where(A > 0, dA, 0)), shape


@pytest.fixture
def _alone() -> Iterator[None]:
    """One thread: a parallel region on a busy machine waits a time slice."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(threads)


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("dtype", DTYPES)
def test_doors_are_exact_on_two_thousand_shapes(dtype: str) -> None:
    rng = np.random.default_rng(2)
    for n, m, k in shapes():
        A, W, b = (integers(rng, dtype, *s) for s in ((n, m), (m, k), (k,)))
        shape = f"{n}x{m}x{k}"
        for activation in ("identity", "relu", "step"):
            Z, want = np.empty((n, k), dtype), np.empty((n, k), dtype)
            reference.linear_forward(A, W, b, activation, Z=want)
            got = linear_forward(A, W, b, activation, Z=Z)
            assert same(Z, want), shape
            assert same(got, reference.linear_forward(A, W, b, activation)), shape
            assert same(linear_forward(A, W, b, activation), got), shape
        dZ = integers(rng, dtype, n, k)
        for got, want in zip(weight_gradient(A, dZ), reference.weight_gradient(A, dZ), strict=True):
            assert same(got, want), shape
        assert same(input_gradient(dZ, W), reference.input_gradient(dZ, W)), shape


def packed(dtype: str) -> list[tuple[int, int, int]]:
    far, deep, both = FAR[dtype], DEEP[dtype], A_COLUMNS  # of A^T, too, if its rows are FAR apart
    return [
        (PACK_ROWS, deep, both), (PACK_ROWS, deep, both - 1), (PACK_ROWS - 1, deep + 3, far),
        (PACK_ROWS + 5, deep + 1, both + 1), (61, 2 * deep + 17, both + 63), (33, 40, far + 37),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_packed_panels_are_exact(dtype: str, loops: str) -> None:
    rng = np.random.default_rng(3)
    for n, m, k in packed(dtype):
        A, W, b = (integers(rng, dtype, *s) for s in ((n, m), (m, k), (k,)))
        D = integers(rng, dtype, n, k)
        assert same(forward(A, W, b), reference.linear_forward(A, W, b))
        relu = reference.linear_forward(A, W, b, "relu")
        assert same(forward(A, W, b, FINISH_RELU), relu)
        dA = reference.input_gradient(D, W)
        assert same(backward(D, W), dA)
        assert same(backward(D, W, A), np.where(A > 0, dA, 0))
        # A^T, some rows of it at a time: packed, too, where its rows lie far apart.
        for lo, hi in [(0, m), (m - 90, m), (3, 56), (m - 7, m)]:
            if lo >= 0 and hi <= m:
                G = np.full((hi - lo, k), np.nan, dtype)
                gradient_rows(A, D, G, lo, lo, hi, n, k, 0, SCRATCH[dtype], G[0, :0], 0)
                assert same(G, reference.weight_gradient(A, D)[0][lo:hi])
        # The batch is the depth of the weight gradient: here it takes several blocks.
        turned = integers(rng, dtype, m, k)
        X = integers(rng, dtype, m, n)
        assert same(gradient(X, turned), reference.weight_gradient(X, turned)[0])


def gamma(terms: int, dtype: str) -> float:
    """Higham's gamma_n = n u / (1 - n u)."""
    u = float(np.finfo(dtype).eps) / 2
    return terms * u / (1 - terms * u)


def bound(A: np.ndarray, B: np.ndarray, b: Any, dtype: str) -> np.ndarray:
    """gamma_(k+2) (|A| |B| + |b|), entry by entry; the float64 product in it errs by far less."""
    A, B, b = (np.abs(x).astype(np.float64) for x in (A, B, np.asarray(b)))
    return gamma(A.shape[1] + 2, dtype) * (A @ B + b) * (1 + 1e-10)


REAL = [(1, 1, 1), (7, 300, 5), (65, 131, 97), (40, 1031, 300), (2, 17, 613)]


def test_float32_is_within_its_bound_of_float64(loops: str) -> None:
    rng = np.random.default_rng(4)
    for n, m, k in REAL:
        A, W, D = (rng.normal(size=s).astype("f4") for s in ((n, m), (m, k), (n, k)))
        A *= 10 ** rng.uniform(-3, 3, A.shape).astype("f4")  # so that sums cancel badly
        b = rng.normal(size=k).astype("f4")
        wide = [x.astype(np.float64) for x in (A, W, D, b)]
        exact = wide[0] @ wide[1] + wide[3]
        assert (np.abs(forward(A, W, b) - exact) <= bound(A, W, b, "f4")).all()
        relu = np.maximum(exact, 0)
        assert (np.abs(forward(A, W, b, FINISH_RELU) - relu) <= bound(A, W, b, "f4")).all()
        assert (np.abs(gradient(A, D) - wide[0].T @ wide[2]) <= bound(A.T, D, 0, "f4")).all()
        assert (np.abs(backward(D, W) - wide[2] @ wide[1].T) <= bound(D, W.T, 0, "f4")).all()


def exact_product(A: np.ndarray, B: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A B + b, each entry rounded once: halves of 26 bits multiply exactly, fsum adds exactly."""

    def halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        t = x * (2.0**27 + 1)
        high = t - (t - x)
        return high, x - high

    (ah, al), (bh, bl) = halves(A), halves(B)
    left = np.concatenate([ah, ah, al, al, np.ones((len(A), 1))], axis=1)
    right = np.concatenate([bh, bl, bh, bl, b[None, :]])
    terms = left[:, :, None] * right[None, :, :]
    return np.array([[math.fsum(terms[i, :, j]) for j in range(B.shape[1])] for i in range(len(A))])


def test_float64_is_within_its_bound_of_the_exact_sums(loops: str) -> None:
    rng = np.random.default_rng(5)
    for n, m, k in [(1, 1, 1), (7, 61, 5), (13, 2, 17), (3, 1031, 7), (33, 37, 9)]:
        A, W, D = (rng.normal(size=s) for s in ((n, m), (m, k), (n, k)))
        A *= 10 ** rng.uniform(-6, 6, A.shape)
        b = rng.normal(size=k)
        found = forward(A, W, b), gradient(A, D), backward(D, W)
        wanted = (A, W, b), (A.T, D, np.zeros(k)), (D, W.T, np.zeros(m))
        for got, operands in zip(found, wanted, strict=True):
            error = np.abs(got - exact_product(*operands))
            # Half a unit more for the rounding of the exact sum itself.
            limit = bound(*operands, "f8") + np.abs(got) * 2.0**-53
            assert (error <= limit).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_cut_of_the_rows_leaves_the_same_bits(dtype: str, loops: str) -> None:
    rng = np.random.default_rng(6)
    for n, m, k in [(29, 37, 23), (PACK_ROWS + 9, DEEP[dtype] + 5, FAR[dtype] + 3)]:
        A, W, D, b = (rng.normal(size=s).astype(dtype) for s in ((n, m), (m, k), (n, k), (k,)))
        whole = forward(A, W, b), forward(A, W, b, FINISH_RELU), backward(D, W, A), gradient(A, D)
        for cuts in [(c,) for c in range(0, n + 1, 3)] + [(1, 2, 3, 11, 11, 24)]:
            assert same(forward(A, W, b, cuts=cuts), whole[0])
            assert same(forward(A, W, b, FINISH_RELU, cuts=cuts), whole[1])
            assert same(backward(D, W, A, cuts=cuts), whole[2])
            assert same(gradient(A, D, cuts=cuts), whole[3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_is_neither_read_nor_written(dtype: str, loops: str) -> None:
    """Windows wider than n: NaN beyond the inputs, a mark beyond the outputs."""
    rng = np.random.default_rng(7)
    scratch = SCRATCH[dtype]

    def window(x: np.ndarray, pad: int, filler: float) -> np.ndarray:
        wide = np.full((x.shape[0], x.shape[1] + pad), filler, x.dtype)
        wide[:, : x.shape[1]] = x
        return wide

    for n, m, k in [(1, 1, 1), (13, 7, 17), (9, 33, 15), (37, DEEP[dtype] + 9, FAR[dtype] + 1)]:
        A, W, D, b = (integers(rng, dtype, *s) for s in ((n, m), (m, k), (n, k), (k,)))
        for pad in (1, 16, 23):
            a, d, c = window(A, pad, np.nan), window(D, pad, np.nan), window(D, pad, -77)
            linear_rows(a, W, b, c, 0, n, m, k, FINISH_RELU, 0, scratch, NO_ASK, c)
            assert same(c[:, :k], np.maximum(A @ W + b, 0))
            assert (c[:, k:] == -77).all()
            g = np.full((m, k), -77, dtype)
            gradient_rows(a, d, g, 0, 0, m, n, k, 0, scratch, g[0, :0], 0)
            assert same(g, A.T @ D)
            c = window(A, pad, -77)
            input_rows(d, W, a, c, 0, n, k, m, FINISH_MASK, 0, scratch)
            assert same(c[:, :m], np.where(A > 0, D @ W.T, 0))
            assert (c[:, m:] == -77).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_rows_into_a_block_of_its_own(dtype: str, loops: str) -> None:
    """G may hold rows [first, ...) alone: what the fused update forms in its scratch."""
    rng = np.random.default_rng(8)
    A, D = integers(rng, dtype, 19, 41), integers(rng, dtype, 19, 23)
    G = np.full((13, 23), np.nan, dtype)
    gradient_rows(A, D, G, 17, 17, 30, 19, 23, 0, SCRATCH[dtype], G[0, :0], 0)
    assert same(G, (A.T @ D)[17:30])


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_and_masks_hand_nan_on(dtype: str, loops: str) -> None:
    for n, m, k in [(1, 1, 1), (13, 5, 17), (3, 2, 70)]:
        A, W, b = np.ones((n, m), dtype), -np.ones((m, k), dtype), np.zeros(k, dtype)
        A[n // 2] = np.nan
        out = forward(A, W, b, FINISH_RELU)
        assert np.isnan(out[n // 2]).all()
        assert np.isnan(out).sum() == k
        D = np.ones((n, k), dtype)
        D[n // 2] = np.nan
        judge = np.ones((n, m), dtype)
        assert np.isnan(backward(D, W, judge)[n // 2]).all()
        judge[n // 2] = np.nan  # a NaN output of relu does not stop the gradient
        assert np.isnan(backward(D, W, judge)[n // 2]).all()
        judge[:] = 0  # a unit that was off does
        assert (backward(D, W, judge) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_are_those_of_the_sums(dtype: str, loops: str) -> None:
    A = np.array([[np.inf, 1], [-np.inf, 1], [np.inf, -np.inf]], dtype)
    W, none = np.ones((2, 3), dtype), np.empty(0, dtype)
    with np.errstate(invalid="ignore"):
        assert np.array_equal(forward(A, W, none), A @ W, equal_nan=True)
        assert np.array_equal(backward(A, W.T.copy()), A @ W, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_doors_give_the_same_bits_on_any_number_of_threads(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "GRAIN", 1)  # every size goes in parallel
    rng = np.random.default_rng(9)
    threads = numba.get_num_threads()
    try:
        for n, m, k in [(5, 3, 2), (50, 61, 47), (131, DEEP[dtype] + 7, FAR[dtype] + 9)]:
            A, W, D, b = (rng.normal(size=s).astype(dtype) for s in ((n, m), (m, k), (n, k), (k,)))
            found = []
            for count in sorted({1, 2, threads} & set(range(1, threads + 1))):
                numba.set_num_threads(count)
                Z = np.empty((n, k), dtype)
                parts = linear_forward(A, W, b, "tanh", Z=Z), Z, input_gradient(D, W)
                parts += (linear_forward(A, W, b, "relu"), *weight_gradient(A, D))
                found.append([x.tobytes() for x in parts])
            assert all(other == found[0] for other in found)
    finally:
        numba.set_num_threads(threads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_shares_of_the_doors_make_the_whole(dtype: str, parts: int) -> None:
    """More shares than this machine has cores, one after another."""
    rng = np.random.default_rng(10)
    n, m, k = 53, 61, 47
    A, W, D, b = (rng.normal(size=s).astype(dtype) for s in ((n, m), (m, k), (n, k), (k,)))
    scratches = np.empty((parts, SCRATCH_BYTES // np.dtype(dtype).itemsize), dtype)
    bind_tiles(dtype)
    out, dW, db, dA = (np.full(s, np.nan, dtype) for s in ((n, k), (m, k), (k,), (n, m)))
    for t in range(parts):
        none = np.empty((0, k), dtype)
        bodies._linear_share(A, W, b, bodies.RELU, none, out, 0, scratches, t, parts)
        bodies._weight_share(A, D, dW, db, 0, scratches, t, parts)
        bodies._input_share(D, W, dA, 0, scratches, t, parts)
    assert same(out, linear_forward(A, W, b, "relu"))
    assert same(dA, input_gradient(D, W))
    for got, want in zip((dW, db), weight_gradient(A, D), strict=True):
        assert same(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_receives_and_nothing_is_aliased(dtype: str) -> None:
    A, W, D = np.ones((3, 2), dtype), np.ones((2, 4), dtype), np.ones((3, 4), dtype)
    out, dW, db, dA = np.empty_like(D), np.empty_like(W), np.empty(4, dtype), np.empty_like(A)
    assert linear_forward(A, W, out=out) is out
    found = weight_gradient(A, D, out=dW, bias_out=db)
    assert found[0] is dW
    assert found[1] is db
    assert input_gradient(D, W, out=dA) is dA
    with pytest.raises(ValueError, match="out: shares memory with A"):
        linear_forward(A, np.ones((2, 2), dtype), out=A)
    with pytest.raises(ValueError, match=r"W: expected shape \(2, any\), got \(4, 2\)"):
        linear_forward(A, W.T.copy())
    with pytest.raises(TypeError, match="W: expected"):
        linear_forward(A, W.astype("float32" if dtype == "float64" else "float64"))


OVERRUN = """
import ctypes, mmap
import numpy as np
from fastbp.kernels import linear_forward, weight_gradient, input_gradient
from fastbp.kernels.cpu.layer_products import gradient_rows
from fastbp.kernels.cpu.operands import A_COLUMNS, SCRATCH_BYTES

libc = ctypes.CDLL(None, use_errno=True)
page = mmap.PAGESIZE
kept = []

def guarded(shape, dtype):
    "An array that ends where memory ends: one element further is a segmentation fault."
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(start + room), ctypes.c_size_t(page), 0) == 0
    kept.append(memory)
    flat = np.frombuffer(memory, dtype, int(np.prod(shape)), room - size)
    flat[:] = 1
    return flat.reshape(shape)

for dtype in ("float32", "float64"):
    for n, m, k in [(1, 1, 1), (5, 3, 2), (13, 17, 33), (7, 31, 65), (33, 520, 257)]:
        A, W, b, D = (guarded(s, dtype) for s in ((n, m), (m, k), (k,), (n, k)))
        out, dW, db, dA = (guarded(s, dtype) for s in ((n, k), (m, k), (k,), (n, m)))
        for f in ("identity", "relu"):
            linear_forward(A, W, b, f, out=out)
            assert (out == m + 1).all()
        weight_gradient(A, D, out=dW, bias_out=db)
        input_gradient(D, W, out=dA)
        assert (dW == n).all() and (db == n).all() and (dA == k).all()
    A, D = guarded((40, 517), dtype), guarded((40, A_COLUMNS + 3), dtype)
    for lo in (390, 427, 467, 510):  # rows of A^T that are packed, and fewer than a panel has
        G, scratch = guarded((517 - lo, A_COLUMNS + 3), dtype), np.empty(SCRATCH_BYTES // 4, "f4")
        scratch = scratch.view(dtype)
        gradient_rows(A, D, G, lo, lo, 517, 40, A_COLUMNS + 3, 0, scratch, G[0, :0], 0)
        assert (G == 40).all()
import os
os._exit(0)  # the guarded pages are still looked at: no tidy end
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_no_tile_reads_or_writes_beyond_an_array() -> None:
    done = subprocess.run([sys.executable, "-c", OVERRUN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"died of signal {-done.returncode}"


def test_results_may_not_lie_in_one_another() -> None:
    A, W, D = np.ones((4, 4)), np.ones((4, 4)), np.ones((4, 4))
    room = np.empty((4, 4))
    with pytest.raises(ValueError, match="Z: shares memory with out"):
        linear_forward(A, W, activation="relu", out=room, Z=room)
    with pytest.raises(ValueError, match="bias_out: shares memory with out"):
        weight_gradient(A, D, out=room, bias_out=room[3])
