"""The three products by their public functions: shapes, shares of threads, outputs, refusals."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import pytest
from product_support import DEEP, DTYPES, FAR, integers, same, shapes

from fastbp.kernels import input_gradient, linear_forward, reference, weight_gradient
from fastbp.kernels.cpu import doors
from fastbp.kernels.cpu import linear as bodies
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.cpu.operands import SCRATCH_BYTES
from fastbp.kernels.cpu.tile_table import bind_tiles

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="thousands of shapes need compiled loops")


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


def test_results_may_not_lie_in_one_another() -> None:
    A, W, D = np.ones((4, 4)), np.ones((4, 4)), np.ones((4, 4))
    room = np.empty((4, 4))
    with pytest.raises(ValueError, match="Z: shares memory with out"):
        linear_forward(A, W, activation="relu", out=room, Z=room)
    with pytest.raises(ValueError, match="bias_out: shares memory with out"):
        weight_gradient(A, D, out=room, bias_out=room[3])
