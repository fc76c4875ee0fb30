"""Products of bfloat16 operands: rounding, sums and bounds, over every instruction there is."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import product_support
import pytest
from product_support import same

from fastbp.kernels import input_gradient, linear_forward, reference, weight_gradient
from fastbp.kernels.cpu import bf16
from fastbp.kernels.cpu.bf16_learn import BLOCK_ROWS
from fastbp.kernels.cpu.bf16_product import (
    COLUMNS,
    DEEP,
    DEPTH,
    FEW_COLUMNS,
    SLICE,
    bind_bf16,
)
from fastbp.kernels.cpu.layer_products import NO_PREFETCH, gradient_rows, input_rows, linear_rows
from fastbp.kernels.cpu.tiles import FINISH_MASK, FINISH_RELU
from fastbp.kernels.reference.bf16 import rounded

OFFERED = bf16.instructions()
pytestmark = pytest.mark.skipif(not OFFERED, reason=f"no bfloat16 products: {bf16.missing()}")

SIZES = [1, 2, 5, 15, 16, 17, 31, 32, 33, 64]
SCRATCH = product_support.SCRATCH["float32"]
ODD = [1, 3, 15, 16, 17, 31, 32, 33, 47, 49, 63, 65, 97, 129]


@pytest.fixture(params=[bf16.AMX, bf16.AVX512_BF16])
def instruction(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction by force; the fastest is put back."""
    if request.param not in OFFERED:
        pytest.skip(f"this process may not use {request.param}")
    bind_bf16(request.param)
    yield request.param
    bind_bf16(OFFERED[0])


forward, gradient, backward = (
    functools.partial(call, bf16=1)
    for call in (product_support.forward, product_support.gradient, product_support.backward)
)


def integers(rng: Any, *shape: int) -> np.ndarray:
    return product_support.integers(rng, "float32", *shape)


def normal(rng: Any, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def shapes() -> list[tuple[int, ...]]:
    """(rows, inputs, outputs): a grid, draws, and one for every block and slice of the product."""
    rng = np.random.default_rng(0)
    edges = [
        (300, 40, 70), (7, SLICE + 1, 40), (33, DEPTH + SLICE + 33, FEW_COLUMNS + 17),
        (5, DEEP + 35, 33), (40, 65, COLUMNS + 37), (DEPTH + 5, 50, 37), (257, 289, COLUMNS),
    ]  # fmt: skip
    draws = [tuple(int(x) for x in s) for s in rng.choice(ODD, (150, 3))]
    return [*itertools.product(SIZES, repeat=3), *draws, *edges]


# --- rounding -----------------------------------------------------------------------------------


def test_the_reference_rounds_to_nearest_even() -> None:
    """Against the definition: the nearer of the two neighbours, of two as near the even one."""
    rng = np.random.default_rng(1)
    x = (normal(rng, 20_000) * 10 ** rng.uniform(-30, 30, 20_000)).astype(np.float32)
    bits = x.view(np.uint32)
    bits[:5000] = (bits[:5000] & np.uint32(0xFFFF0000)) | np.uint32(0x8000)  # ties
    down = (bits & np.uint32(0xFFFF0000)).view(np.float32)
    up = ((bits & np.uint32(0xFFFF0000)) + np.uint32(0x10000)).view(np.float32)
    to_down, to_up = (np.abs(y.astype("f8") - x) for y in (down, up))
    even = (down.view(np.uint32) >> 16) & 1 == 0
    want = np.where((to_down < to_up) | ((to_down == to_up) & even), down, up)
    assert rounded(x).tobytes() == want.tobytes()


def specials() -> np.ndarray:
    largest = np.finfo(np.float32).max
    values = [
        0.0,
        -0.0,
        1.0,
        np.inf,
        -np.inf,
        np.nan,
        largest,
        -largest,
        1e-40,
        -1e-45,
        1.1754944e-38,
    ]
    noise = np.random.default_rng(2).integers(0, 2**32, 5001, np.uint32).view(np.float32)
    return np.concatenate([np.array(values, np.float32), noise])


def test_operands_are_rounded_as_the_reference_rounds(instruction: str) -> None:
    """x * 1 alone in its sum is x rounded: by every way of packing, NaN, inf and denormals too."""
    x = specials()
    want = rounded(x)
    one = np.ones((1, 1), np.float32)
    none = np.empty(0, np.float32)
    ways = {
        "A flat": forward(x[:, None].copy(), one, none)[:, 0],
        "B tall": forward(one, x[None, :].copy(), none)[0],
        "A tall": gradient(x[None, :].copy(), one)[:, 0],
        "B flat": backward(one, x[:, None].copy())[0],
    }
    for name, got in ways.items():
        assert np.array_equal(np.isnan(got), np.isnan(want)), name
        there = ~np.isnan(want)
        assert same(got[there], want[there]), name


# --- sums ---------------------------------------------------------------------------------------


def test_integers_are_exact(instruction: str) -> None:
    rng = np.random.default_rng(3)
    for n, m, k in shapes():
        A, W, b, D = (integers(rng, *s) for s in ((n, m), (m, k), (k,), (n, k)))
        shape = f"{n}x{m}x{k}"
        assert same(forward(A, W, b), reference.linear_forward(A, W, b)), shape
        assert same(forward(A, W, b[:0]), reference.linear_forward(A, W)), shape
        relu = reference.linear_forward(A, W, b, "relu")
        assert same(forward(A, W, b, FINISH_RELU), relu), shape
        assert same(gradient(A, D), reference.weight_gradient(A, D)[0]), shape
        dA = reference.input_gradient(D, W)
        assert same(backward(D, W), dA), shape
        assert same(backward(D, W, A), np.where(A > 0, dA, 0)), shape


def bound(A: np.ndarray, B: np.ndarray, b: Any = 0) -> np.ndarray:
    """gamma_(k+2) (|A||B| + |b|), entry by entry: the products are exact in float32, every sum of
    k + 1 terms errs by at most that in whatever order; a flushed sum by 2^-126 more.
    """
    unit = float(np.finfo(np.float32).eps) / 2
    terms = A.shape[1] + 2
    gamma = terms * unit / (1 - terms * unit)
    A, B = (np.abs(rounded(x)).astype(np.float64) for x in (A, B))
    return gamma * (A @ B + np.abs(b)) * (1 + 1e-10) + terms * 2.0**-126


def test_reals_are_within_the_bound_of_the_reference(instruction: str) -> None:
    rng = np.random.default_rng(4)
    for n, m, k in [(1, 1, 1), (7, 300, 5), (65, 131, 97), (40, 1031, 300), (2, 17, 613)]:
        A, W, D, b = (normal(rng, *s) for s in ((n, m), (m, k), (n, k), (k,)))
        A *= 10 ** rng.uniform(-3, 3, A.shape).astype(np.float32)
        a, w, d = (rounded(x).astype(np.float64) for x in (A, W, D))
        assert (np.abs(forward(A, W, b) - (a @ w + b)) <= bound(A, W, b)).all()
        relu = np.maximum(a @ w + b, 0)
        assert (np.abs(forward(A, W, b, FINISH_RELU) - relu) <= bound(A, W, b)).all()
        assert (np.abs(gradient(A, D) - a.T @ d) <= bound(A.T, D)).all()
        assert (np.abs(backward(D, W) - d @ w.T) <= bound(D, W.T)).all()


def test_any_cut_of_the_rows_leaves_the_same_bits(instruction: str) -> None:
    rng = np.random.default_rng(5)
    for n, m, k in [(29, 37, 23), (70, DEPTH + 300, FEW_COLUMNS + 60), (290, 300, 90)]:
        A, W, D, b = (normal(rng, *s) for s in ((n, m), (m, k), (n, k), (k,)))
        whole = forward(A, W, b), forward(A, W, b, FINISH_RELU), backward(D, W, A), gradient(A, D)
        for cuts in [(1,), (4,), (16, 17), (n // 2,), (3, 3, n - 1)]:
            assert same(forward(A, W, b, cuts=cuts), whole[0])
            assert same(forward(A, W, b, FINISH_RELU, cuts=cuts), whole[1])
            assert same(backward(D, W, A, cuts=cuts), whole[2])
            assert same(gradient(A, D, cuts=cuts), whole[3])


def test_padding_is_neither_read_nor_written(instruction: str) -> None:
    rng = np.random.default_rng(6)

    def window(x: np.ndarray, pad: int, filler: float) -> np.ndarray:
        wide = np.full((x.shape[0], x.shape[1] + pad), filler, np.float32)
        wide[:, : x.shape[1]] = x
        return wide

    for n, m, k in [(1, 1, 1), (13, 7, 17), (9, 33, 15), (37, DEPTH + 9, FEW_COLUMNS + 1)]:
        A, W, D, b = (integers(rng, *s) for s in ((n, m), (m, k), (n, k), (k,)))
        for pad in (1, 16, 23):
            a, d, c = window(A, pad, np.nan), window(D, pad, np.nan), window(D, pad, -77)
            linear_rows(a, W, b, c, 0, n, m, k, FINISH_RELU, 1, SCRATCH, NO_PREFETCH, c)
            assert same(c[:, :k], np.maximum(A @ W + b, 0))
            assert (c[:, k:] == -77).all()
            g = np.full((m, k), -77, np.float32)
            gradient_rows(a, d, g, 0, 0, m, n, k, 1, SCRATCH, g[0, :0], 0)
            assert same(g, A.T @ D)
            c = window(A, pad, -77)
            input_rows(d, W, a, c, 0, n, k, m, FINISH_MASK, 1, SCRATCH)
            assert same(c[:, :m], np.where(A > 0, D @ W.T, 0))
            assert (c[:, m:] == -77).all()


def test_nan_and_infinities_stay_in_their_rows(instruction: str) -> None:
    for n, m, k in [(1, 1, 1), (13, 5, 17), (40, 2, 70)]:
        A, W, b = np.ones((n, m), "f4"), -np.ones((m, k), "f4"), np.zeros(k, "f4")
        A[n // 2] = np.nan
        out = forward(A, W, b, FINISH_RELU)
        assert np.isnan(out[n // 2]).all()
        assert np.isnan(out).sum() == k
        A[n // 2] = np.inf
        out = forward(A, W, b)
        assert (out[n // 2] == -np.inf).all()
        assert np.isfinite(out).sum() == (n - 1) * k
        D, judge = np.ones((n, k), "f4"), np.ones((n, m), "f4")
        judge[n // 2] = np.nan  # a NaN output of relu does not stop the gradient
        assert (backward(D, W, judge) == -k).all()
        judge[:] = 0
        assert (backward(D, W, judge) == 0).all()


def test_denormal_sums_are_flushed(instruction: str) -> None:
    """Both instructions count denormals as 0, whatever the thread's mode; a bias is kept beside."""
    tiny = np.full((1, 1), 2.0**-70, np.float32)
    assert forward(tiny, tiny, np.empty(0, np.float32))[0, 0] == 0
    assert forward(tiny, tiny, np.ones(1, np.float32))[0, 0] == 1


# --- doors --------------------------------------------------------------------------------------


def test_doors_agree_with_the_reference() -> None:
    rng = np.random.default_rng(7)
    for n, m, k in [(1, 1, 1), (65, 40, 33), (300, 130, 70)]:
        A, W, b, D = (normal(rng, *s) for s in ((n, m), (m, k), (k,), (n, k)))
        how = {"precision": "bfloat16"}
        for f in ("identity", "relu"):
            error = linear_forward(A, W, b, f, **how) - reference.linear_forward(A, W, b, f, **how)
            assert (np.abs(error) <= bound(A, W, b)).all()
        Z = np.empty((n, k), np.float32)
        linear_forward(A, W, b, "tanh", Z=Z, **how)
        assert (np.abs(Z - reference.linear_forward(A, W, b, **how)) <= bound(A, W, b)).all()
        (dW, db), want = weight_gradient(A, D, **how), reference.weight_gradient(A, D, **how)
        assert (np.abs(dW - want[0]) <= bound(A.T, D)).all()
        assert db.tobytes() == weight_gradient(A, D)[1].tobytes()  # no product: not rounded
        error = input_gradient(D, W, **how) - reference.input_gradient(D, W, **how)
        assert (np.abs(error) <= bound(D, W.T)).all()
    with pytest.raises(ValueError, match="needs float32 beside"):
        linear_forward(A.astype("f8"), W.astype("f8"), precision="bfloat16")
    with pytest.raises(ValueError, match="precision='half' must be None"):
        input_gradient(D, W, precision="half")


OVERRUN = """
import ctypes, mmap, sys
import numpy as np
from fastbp.kernels import linear_forward, weight_gradient, input_gradient
from fastbp.kernels.cpu.bf16_product import bind_bf16

libc = ctypes.CDLL(None, use_errno=True)
page, kept = mmap.PAGESIZE, []

def guarded(*shape):
    "An array that ends where memory ends: one element further is a segmentation fault."
    size = 4 * int(np.prod(shape))
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(start + room), ctypes.c_size_t(page), 0) == 0
    kept.append(memory)
    flat = np.frombuffer(memory, np.float32, int(np.prod(shape)), room - size)
    flat[:] = 1
    return flat.reshape(shape)

bind_bf16(sys.argv[1])
for n, m, k in [(1, 1, 1), (5, 3, 2), (13, 17, 33), (7, 31, 65), (33, 520, 257), (32, 64, 32)]:
    A, W, b, D = (guarded(*s) for s in ((n, m), (m, k), (k,), (n, k)))
    out, dW, db, dA = (guarded(*s) for s in ((n, k), (m, k), (k,), (n, m)))
    for f in ("identity", "relu"):
        linear_forward(A, W, b, f, out=out, precision="bfloat16")
        assert (out == m + 1).all()
    weight_gradient(A, D, out=dW, bias_out=db, precision="bfloat16")
    input_gradient(D, W, out=dA, precision="bfloat16")
    assert (dW == n).all() and (db == n).all() and (dA == k).all()
import os
os._exit(0)  # the guarded pages are still looked at: no tidy end
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_no_tile_reads_or_writes_beyond_an_array(instruction: str) -> None:
    command = [sys.executable, "-c", OVERRUN, instruction]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"died of signal {-done.returncode}"


def test_a_block_of_rows_of_the_weight_phase_is_whole_tiles() -> None:
    assert BLOCK_ROWS % 32 == 0
