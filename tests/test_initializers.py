"""Initial weights: the distribution each name promises, and that addresses do not overlap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fastbp import Dense, Network, initializers
from fastbp.initializers import INITIALIZERS, initialize, initialize_bias

M, N = 300, 200
DRAWN = [name for name, kind in INITIALIZERS.items() if kind.shape != "zeros"]
VARIANCE = {
    "normal": 1 / M,
    "he_normal": 2 / M,
    "he_uniform": 2 / M,
    "glorot_normal": 2 / (M + N),
    "glorot_uniform": 2 / (M + N),
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("scale", [None, 0.5])
def test_moments(name: str, scale: float | None) -> None:
    W = initialize(name, M, N, scale, seed=3, layer=1)
    assert W.shape == (M, N)
    assert W.dtype == np.float64
    assert W.flags.c_contiguous
    variance = VARIANCE[name]
    if scale is not None:
        variance = scale**2 if name == "normal" else scale**2 * variance
    sigma = math.sqrt(variance)
    size = M * N
    # Standard errors: of the mean sigma / sqrt(size), of the variance at most
    # sqrt(2 / size) sigma^2; five of each.
    assert abs(W.mean()) < 5 * sigma / math.sqrt(size)
    assert abs(W.var() - variance) < 5 * math.sqrt(2 / size) * variance
    peak = np.abs(W).max()
    if INITIALIZERS[name].shape == "uniform":
        assert 0.999 * math.sqrt(3) * sigma < peak < math.sqrt(3) * sigma
    else:
        assert 3.5 * sigma < peak < 6.5 * sigma
        inside = (np.abs(W) < sigma).mean()
        assert abs(inside - 0.682689) < 5 * math.sqrt(0.6827 * 0.3173 / size)


def test_known_variances_cover_the_table() -> None:
    assert set(VARIANCE) == set(DRAWN)


@pytest.mark.parametrize("name", DRAWN)
def test_same_address_same_bits_other_address_other_numbers(name: str) -> None:
    first = initialize(name, 20, 10, seed=5, layer=2)
    np.testing.assert_array_equal(first, initialize(name, 20, 10, seed=5, layer=2))
    others = [
        initialize(name, 20, 10, seed=6, layer=2),
        initialize(name, 20, 10, seed=5, layer=3),
        initialize(name, 20, 10, seed=5, layer=1),
        np.broadcast_to(initialize_bias(name, 20, 10, seed=5, layer=2), (20, 10)),
        np.broadcast_to(initialize_bias(name, 20, 10, seed=5, layer=1), (20, 10)),
    ]
    for other in others:
        assert not (first == other).any()


def test_biases() -> None:
    np.testing.assert_array_equal(initialize_bias("zeros", M, N), np.zeros(N))
    b = initialize_bias("normal", M, 5000, scale=0.3, seed=1)
    assert b.shape == (5000,)
    assert abs(b.std() - 0.3) < 5 * 0.3 / math.sqrt(2 * 5000)
    b = initialize_bias("glorot_uniform", M, N, seed=1)
    assert 0.9 * math.sqrt(6 / (M + N)) < np.abs(b).max() < math.sqrt(6 / (M + N))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_pieces_make_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, biases = initialize(name, 30, 41, seed=2), initialize_bias(name, 30, 410, seed=2)
    monkeypatch.setattr(initializers, "PIECE", 64)
    np.testing.assert_array_equal(initialize(name, 30, 41, seed=2), whole)
    np.testing.assert_array_equal(initialize_bias(name, 30, 410, seed=2), biases)
    out = np.empty((30, 41), np.float32)
    assert initialize(name, 30, 41, seed=2, out=out) is out
    np.testing.assert_array_equal(out, whole.astype(np.float32))


def test_numbers_that_the_dtype_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match=r"init_scale=1e\+300 draws numbers too large for float32"):
        Network(3, [Dense(2, init_scale=1e300)])
    assert np.isfinite(Network(3, [Dense(2, init_scale=1e300)], dtype="float64").parameters).all()


def test_zeros() -> None:
    np.testing.assert_array_equal(initialize("zeros", 3, 2, seed=1), np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [(("he", 3, 2), ValueError, "init='he' is not known; did you mean"),
     (("He_Normal", 3, 2), ValueError, "did you mean 'he_normal'"),
     ((None, 3, 2), TypeError, "init=None is of type NoneType"),
     (("normal", 3, 2, -1.0), ValueError, "init_scale=-1.0 must be 0 or more"),
     (("normal", 3, 2, 1.0, -1), ValueError, "seed=-1 must be an integer, 0 to"),
     (("normal", 3, 2, 1.0, 2**63), ValueError, "seed=9223372036854775808"),
     (("normal", 3, 2, 1.0, 0.5), TypeError, "seed=0.5")],
)  # fmt: skip
def test_bad_arguments_are_named(
    arguments: tuple[Any, ...], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        initialize(*arguments)
    with pytest.raises(kind, match=words):
        initialize_bias(*arguments)
