"""The products: exact on small integers, within the error bound on others, whatever the shape."""

from __future__ import annotations

import numpy as np
import pytest

from fastbp.kernels import reference
from fastbp.kernels.cuda import linear, memory
from fastbp.kernels.cuda.cut import Cut
from fastbp.kernels.cuda.tiles import LARGE, SMALL, TILES, WIDE

SIDE = TILES[np.float32][SMALL].rows
SHAPES = [
    (1, 1, 1), (1, 3, 2), (5, 7, 3), (SIDE, SIDE, SIDE), (SIDE + 1, 2 * SIDE + 1, SIDE - 1),
    (2 * SIDE, 1, 40), (3, 50, 1), (33, 8, 70), (1, 40, 33),
]  # fmt: skip
DTYPES = [np.float32, np.float64]


def integers(rng, *shape, dtype):
    return rng.integers(-4, 5, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n,m,k", SHAPES)
def test_exact_on_small_integers(n, m, k, dtype):
    rng = np.random.default_rng(n * 100 + m)
    A, W, b = (integers(rng, *s, dtype=dtype) for s in ((n, m), (m, k), (k,)))
    D = integers(rng, n, k, dtype=dtype)
    Z = np.full((n, k), np.nan, dtype)
    out = linear.linear_forward(A, W, b, "relu", Z=Z)
    assert np.array_equal(Z, A @ W + b)
    assert np.array_equal(out, np.maximum(A @ W + b, 0))
    dW, db = linear.weight_gradient(A, D)
    assert np.array_equal(dW, A.T @ D)
    assert np.array_equal(db, D.sum(axis=0))
    assert np.array_equal(linear.input_gradient(D, W), D @ W.T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [SMALL, WIDE, LARGE])
@pytest.mark.parametrize("odd", [0, 3])  # 0: all that is read lies on 16 bytes
def test_every_tile_in_every_product(odd, size, dtype, monkeypatch):
    tile = TILES[dtype][size]
    monkeypatch.setattr(linear, "cut", lambda *args, whole: Cut(size, 1, 0, 0))
    n, m, k = 2 * tile.rows - odd, 3 * tile.depth - odd, tile.columns + 4 + odd
    rng = np.random.default_rng(1)
    A, W, D = (integers(rng, *s, dtype=dtype) for s in ((n, m), (m, k), (n, k)))
    assert np.array_equal(linear.linear_forward(A, W), A @ W)
    assert np.array_equal(linear.weight_gradient(A, D)[0], A.T @ D)
    assert np.array_equal(linear.input_gradient(D, W), D @ W.T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_within_the_bound_of_a_sum(dtype):
    """|error| <= gamma_(m + 2) (|A| |W| + |b|), entry by entry (Higham, section 3.1)."""
    rng = np.random.default_rng(2)
    n, m, k = 11, 70, 9
    A, W, b = (rng.standard_normal(s).astype(dtype) for s in ((n, m), (m, k), (k,)))
    exact = A.astype(np.longdouble) @ W.astype(np.longdouble) + b
    unit = np.finfo(dtype).eps / 2 * (m + 2)
    bound = unit / (1 - unit) * (np.abs(A) @ np.abs(W) + np.abs(b)).astype(np.float64)
    found = linear.linear_forward(A, W, b)
    assert (np.abs(found - exact) <= bound).all()


def test_a_product_of_float32_is_off_by_2_to_minus_21_at_most():
    """What splitting factors costs is largest where their rests have all bits; gamma_3 besides."""
    rng = np.random.default_rng(3)
    A, W = (
        (1 + rng.integers(4000, 4096, shape) * 2.0**-23).astype(np.float32)
        for shape in ((20, 1), (1, 20))
    )
    exact = A.astype(np.float64) * W
    bound = (2.0**-21 + 3 * 2.0**-24 / (1 - 3 * 2.0**-24)) * exact
    assert (np.abs(linear.linear_forward(A, W) - exact) <= bound).all()


@pytest.mark.parametrize("factor", [np.nan, np.inf, np.finfo(np.float32).max])
def test_what_no_split_can_hold_is_seen(factor):
    """On a card the largest numbers become NaN, too; 2 of them are infinite anywhere."""
    A, W = np.full((1, 3), factor, np.float32), np.full((3, 2), 2.0, np.float32)
    assert not np.isfinite(linear.linear_forward(A, W)).any()
    assert not np.isfinite(linear.input_gradient(A, W.T.copy())).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_no_terms_are_zero(dtype):
    A, W, D = (np.ones(shape, dtype) for shape in ((3, 0), (0, 2), (3, 2)))
    assert np.array_equal(linear.linear_forward(A, W, np.ones(2, dtype)), np.ones((3, 2)))
    assert np.array_equal(linear.weight_gradient(D[:0], D[:0])[0], np.zeros((2, 2)))
    assert np.array_equal(linear.input_gradient(A, np.ones((2, 0), dtype)), np.zeros((3, 2)))


def test_padding_meets_no_nan():
    """Rows and columns beyond the edge are 0, not what lies there."""
    A, W = np.full((3, 5), np.nan, np.float32), np.ones((5, 3), np.float32)
    A[1] = 1
    out = linear.linear_forward(A, W)
    assert np.isnan(out[[0, 2]]).all()
    assert (out[1] == 5).all()


def test_given_outputs_are_filled():
    A, W = np.ones((3, 2)), np.ones((2, 4))
    out = np.empty((3, 4))
    assert linear.linear_forward(A, W, out=out) is out
    assert (out == 2).all()


def test_arrays_of_the_card_stay_there():
    A, W = np.ones((3, 2), np.float32), np.ones((2, 4), np.float32)
    a = memory.upload(A, "A").reshape(3, 2)
    w = memory.upload(W, "W").reshape(2, 4)
    out = linear.linear_forward(a, w)
    assert memory.on_card(out)
    assert out.shape == (3, 4)
    assert np.array_equal(out.copy_to_host(), reference.linear_forward(A, W))


def test_precision_is_none_or_refused():
    A = np.ones((2, 2))
    doors = linear.linear_forward, linear.weight_gradient, linear.input_gradient
    for door in doors:
        door(A, A, precision=None)
        with pytest.raises(ValueError, match="precision='bfloat16' is of device='cpu'"):
            door(A, A, precision="bfloat16")


@pytest.mark.parametrize(
    "change,error,words",
    [
        ({"W": np.ones((3, 3))}, ValueError, r"W: expected shape \(2, any\), got \(3, 3\)"),
        ({"b": np.ones(4, np.float32)}, TypeError, "b: expected float64 like the other arrays"),
        ({"A": np.ones((2, 2), int)}, TypeError, "A: expected float32 or float64, got int64"),
        ({"activation": "rulu"}, ValueError, "did you mean 'relu'"),
    ],
)
def test_refused_in_the_words_of_the_cpu(change, error, words):
    from fastbp import kernels

    given = {"A": np.ones((3, 2)), "W": np.ones((2, 4)), "b": np.ones(4), **change}
    for door in (linear.linear_forward, kernels.linear_forward):
        with pytest.raises(error, match=words):
            door(**given)
