"""The three products: exact on integers, within their error bound on reals, one order of sums."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from product_support import (
    DEEP,
    DTYPES,
    FAR,
    SCRATCH,
    backward,
    forward,
    gradient,
    integers,
    same,
    shapes,
)

from fastbp.kernels import apply_derivative, reference
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.cpu.layer_products import NO_PREFETCH, gradient_rows, input_rows, linear_rows
from fastbp.kernels.cpu.operands import A_COLUMNS, PACK_ROWS
from fastbp.kernels.cpu.product import host_tiles
from fastbp.kernels.cpu.tile_table import TILE_TABLE, bind_tiles
from fastbp.kernels.cpu.tiles import FINISH_MASK, FINISH_RELU

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="thousands of shapes need compiled loops")


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
            linear_rows(a, W, b, c, 0, n, m, k, FINISH_RELU, 0, scratch, NO_PREFETCH, c)
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
def test_relus_derivative_chooses_in_the_product_and_multiplies_by_itself(
    dtype: str, loops: str
) -> None:
    """They differ where dL/dA is not finite and the unit is off, and where its output is NaN."""
    inf, nan = np.inf, np.nan
    dA = np.array([[inf, -inf, nan, 2, 2, inf, 2]], dtype)
    A = np.array([[0, 0, 0, 0, nan, nan, 1]], dtype)
    chosen = backward(np.ones((1, 1), dtype), dA.T.copy(), A)
    np.testing.assert_array_equal(chosen, [[0, 0, 0, 0, 2, inf, 2]])
    for apply in (apply_derivative, reference.apply_derivative):
        np.testing.assert_array_equal(apply("relu", dA, A), [[nan, nan, nan, 0, nan, nan, 2]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_are_those_of_the_sums(dtype: str, loops: str) -> None:
    A = np.array([[np.inf, 1], [-np.inf, 1], [np.inf, -np.inf]], dtype)
    W, none = np.ones((2, 3), dtype), np.empty(0, dtype)
    with np.errstate(invalid="ignore"):
        assert np.array_equal(forward(A, W, none), A @ W, equal_nan=True)
        assert np.array_equal(backward(A, W.T.copy()), A @ W, equal_nan=True)


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
