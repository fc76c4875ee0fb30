"""The screening pass finds the first NaN or inf wherever it stands, on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastbp.kernels.cpu import screen
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.reference import screen as reference

DTYPES = [np.float32, np.float64]
# Around the vector width, the early exit's block, and the share's grain.
SIZES = [1, 2, 15, 17, 63, 65] if JIT_DISABLED else [1, 2, 15, 16, 17, 63, 65, 2047, 2049, 8193]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_every_place_is_looked_at(dtype: Any, size: int, bad: float) -> None:
    X = np.zeros(size, dtype=dtype)
    assert screen.first_not_finite(X) is None
    for place in {0, size // 2, size - 1}:
        X[:] = 0
        X[place] = bad
        assert screen.first_not_finite(X) == (place, 0)
        X[place:] = bad
        assert screen.first_not_finite(X) == (place, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_and_smallest_numbers_are_finite(dtype: Any) -> None:
    info = np.finfo(dtype)
    X = np.array([info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, 1.0], dtype=dtype)
    assert screen.first_not_finite(np.tile(X, 20)) is None


@pytest.mark.parametrize("payload", [0x7F80_0001, 0xFF80_0001, 0x7FFF_FFFF, 0xFFC0_0000])
def test_every_kind_of_nan_counts(payload: int) -> None:
    X = np.full(70, 1.0, dtype=np.float32)
    X.view(np.uint32)[66] = payload
    assert screen.first_not_finite(X) == (66, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_and_columns_as_the_reference_says(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        X = rng.standard_normal((rng.integers(1, 40), rng.integers(1, 9))).astype(dtype)
        X[rng.random(X.shape) < 0.02] = np.nan
        assert screen.first_not_finite(X) == reference.first_not_finite(X)


def test_threads_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "PARALLEL_FROM", 1)
    X = np.zeros((201, 101), dtype=np.float32)
    assert [screen.first_not_finite(X, threads) for threads in (None, 1, 2, 3, 7)] == [None] * 5
    for places in ([(200, 100)], [(0, 0)], [(150, 3), (90, 7), (90, 8)], [(40, 57), (41, 0)]):
        X[:] = 0
        for place in places:
            X[place] = np.inf
        found = [screen.first_not_finite(X, threads) for threads in (None, 1, 2, 3, 7)]
        assert found == [min(places)] * 5


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_a_read_only_array_compiles_nothing_more() -> None:
    X = np.zeros((3, 4), dtype=np.float32)
    screen.first_not_finite(X)
    before = list(screen._screen_share.signatures)
    X[2, 1] = np.nan
    X.flags.writeable = False
    assert screen.first_not_finite(X) == (2, 1)
    assert screen._screen_share.signatures == before


def test_what_it_refuses() -> None:
    with pytest.raises(TypeError, match="float16"):
        screen.first_not_finite(np.zeros(3, dtype=np.float16))
    with pytest.raises(ValueError, match="not C-contiguous"):
        screen.first_not_finite(np.zeros((3, 4)).T)
