"""exp, log, tanh and their like hold the ULP bounds they state, at every kind of argument."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from decimal import Decimal, getcontext
from typing import Any

import numba
import numpy as np
import pytest

from fastbp.kernels.cpu import elementary
from fastbp.kernels.cpu.host import HAS_FMA
from fastbp.kernels.cpu.jit import FASTMATH, JIT_DISABLED
from fastbp.kernels.cpu.memory import flush_denormals, restore_mode
from fastbp.kernels.cpu.spans import span

Array = np.ndarray[Any, Any]

DTYPES = [np.float32, np.float64]
NAMES = list(elementary.FORMULAS)
# What the module's docstring states; two roundings in place of one fma cost at most one more.
_SPARE = 0.0 if HAS_FMA and not JIT_DISABLED else 1.0
_ALIKE = {"exp": 1.0, "log": 1.0, "log1p": 1.0, "sigmoid": 2.5, "softplus": 2.0, "erf": 2.0}
BOUNDS = {
    np.float32: {**_ALIKE, "expm1": 1.5, "tanh": 2.0},
    np.float64: {**_ALIKE, "expm1": 2.0, "tanh": 2.5},
}
COUNT = 20_000 if JIT_DISABLED else 300_000

_all = span(dict(enumerate(elementary.FORMULAS.values())), outputs=1, inputs=1)


@numba.njit(error_model="numpy", fastmath=FASTMATH)
def _span(code: int, x: Any, y: Any, begin: int, count: int) -> None:
    _all(code, y[begin:].reshape(1, -1), x[begin:].reshape(1, -1), 0, count, ())


@numba.njit(error_model="numpy", fastmath=FASTMATH)
def _flushed(code: int, x: Any, y: Any) -> None:
    mode = flush_denormals()
    _all(code, y.reshape(1, -1), x.reshape(1, -1), 0, x.size, ())
    restore_mode(mode)


def run(name: str, x: Array) -> Array:
    y = np.empty_like(x)
    _span(NAMES.index(name), x, y, 0, x.size)
    return y


def points(dtype: Any) -> Array:
    """More than 10^6 arguments: all magnitudes, the usual range, boundaries, ends and oddities."""
    rng = np.random.default_rng(1)
    info = np.finfo(dtype)
    unsigned = np.dtype(f"u{info.bits // 8}")
    patterns = rng.integers(0, np.iinfo(unsigned).max, COUNT, unsigned, endpoint=True).view(dtype)
    end = math.log(float(info.max))
    # Reductions change at odd multiples of ln 2 / 2, logarithms' at sqrt(2) 2^k and near 1.
    edges = np.concatenate([
        np.arange(-2200, 2200) * (math.log(2) / 2),
        2.0 ** np.arange(-60.0, 60.0, 0.5),
        -(2.0 ** np.arange(-60.0, 1.0, 0.5)),
    ])  # fmt: skip
    steps = [edges.astype(dtype)]
    for _ in range(3):
        steps += [np.nextafter(steps[-1], dtype(np.inf)), np.nextafter(steps[0], dtype(-np.inf))]
    tiny, small = info.tiny, info.smallest_subnormal
    odd = [0.0, -0.0, 1.0, -1.0, np.inf, np.nan, info.max, tiny, small, 7 * small, tiny - small]
    with np.errstate(all="ignore"):
        parts = [
            patterns,
            np.abs(patterns),
            rng.uniform(-1.1 * end, 1.1 * end, COUNT),
            rng.uniform(-3, 3, COUNT),
            rng.standard_normal(COUNT) * 2.0 ** rng.uniform(-70, 3, COUNT),
            1 + rng.standard_normal(COUNT) * 2.0 ** rng.uniform(-50, 0, COUNT),
            *steps,
            np.array(odd),
            -np.array(odd),
        ]
        return np.concatenate([part.astype(dtype) for part in parts])


def erf64(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


TRUTH: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "erf": erf64,
}


def worst(got: Array, want: Array, dtype: Any) -> float:
    """Largest error in ULP; inf where an inf or NaN is not what it should be."""
    with np.errstate(all="ignore"):
        rounded = want.astype(dtype)
        finite = np.isfinite(rounded)
        alike = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        # Just below the largest number an error of one ULP may round to inf.
        near = np.abs(want) > 0.9999999 * float(np.finfo(dtype).max)
        if not np.all(alike[~finite] | near[~finite]):
            return math.inf
        keep = finite & ~near
        unit = np.spacing(np.abs(rounded[keep])).astype(want.dtype)
        return float(np.max(np.abs(got[keep].astype(want.dtype) - want[keep]) / unit))


@pytest.mark.parametrize("name", NAMES)
def test_float32_bound(name: str) -> None:
    x = points(np.float32)
    assert JIT_DISABLED or x.size > 1_000_000
    with np.errstate(all="ignore"):
        want = TRUTH[name](x.astype(np.float64))
    assert worst(run(name, x), want, np.float32) <= BOUNDS[np.float32][name] + _SPARE


@pytest.mark.parametrize("name", NAMES)
def test_float64_bound(name: str) -> None:
    x = points(np.float64)
    assert JIT_DISABLED or x.size > 1_000_000
    # 80-bit truth where the machine has it; libm's own float64 errs by up to one ULP, erf always.
    exact = np.finfo(np.longdouble).nmant > 60 and name != "erf"
    with np.errstate(all="ignore"):
        want = TRUTH[name](x.astype(np.longdouble) if exact else x)
    spare = _SPARE + (0.0 if exact else 1.0)
    assert worst(run(name, x), want, np.float64) <= BOUNDS[np.float64][name] + spare


def test_erf_in_float64_against_its_series() -> None:
    getcontext().prec = 70  # terms up to e^36 cancel: more than 50 digits are left
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620")
    x = np.random.default_rng(2).uniform(0, 6, 400)
    want = []
    for value in map(Decimal, x.tolist()):
        term = total = value
        for n in range(1, 200):
            term *= -value * value / n
            total += term / (2 * n + 1)
        want.append(total * 2 / pi.sqrt())
    got = run("erf", x)
    for g, w in zip(got.tolist(), want, strict=True):
        assert abs(Decimal(g) - w) <= Decimal(2.0 + _SPARE) * Decimal(math.ulp(float(w)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_at_the_ends(dtype: Any) -> None:
    inf, nan, big = math.inf, math.nan, float(np.finfo(dtype).max)
    cases = {
        "exp": {0: 1, inf: inf, -inf: 0, big: inf, -big: 0},
        "expm1": {0: 0, inf: inf, -inf: -1, big: inf, -big: -1},
        "log": {0: -inf, 1: 0, inf: inf, -1: nan, -inf: nan},
        "log1p": {0: 0, -1: -inf, inf: inf, -2: nan, -inf: nan},
        "tanh": {0: 0, inf: 1, -inf: -1, big: 1, -big: -1},
        "sigmoid": {0: 0.5, inf: 1, -inf: 0, big: 1, -big: 0},
        "softplus": {inf: inf, -inf: 0, big: big, -big: 0},
        "erf": {0: 0, inf: 1, -inf: -1, big: 1, -big: -1},
    }
    for name in NAMES:
        x = np.array([*cases[name], nan], dtype)
        want = np.array([*cases[name].values(), nan], dtype)
        np.testing.assert_array_equal(run(name, x), want, err_msg=name)


@pytest.mark.skipif(JIT_DISABLED, reason="the mode is not set without the JIT")
@pytest.mark.parametrize("dtype", DTYPES)
def test_flushed_denormals_count_as_zero(dtype: Any) -> None:
    info = np.finfo(dtype)
    x = np.array([info.smallest_subnormal, info.tiny / 2, -info.tiny / 2], dtype)
    at_zero = {"exp": 1, "log": -np.inf, "sigmoid": 0.5, "softplus": math.log(2)}
    low = dtype(math.log(float(info.tiny)) - 2)  # e^low is denormal
    for code, name in enumerate(NAMES):
        y = np.empty_like(x)
        _flushed(code, x, y)
        np.testing.assert_array_equal(y, np.full(3, at_zero.get(name, 0), dtype), err_msg=name)
        if name in {"exp", "sigmoid", "softplus"}:
            below = np.array([low], dtype)
            assert run(name, below)[0] > 0
            _flushed(code, below, below)
            assert below[0] == 0
    # With normal arguments and results both modes give the same bits.
    x = np.random.default_rng(0).uniform(0.5, 3, 1000).astype(dtype)
    for code, name in enumerate(NAMES):
        y = np.empty_like(x)
        _flushed(code, x, y)
        np.testing.assert_array_equal(y, run(name, x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_place_or_cut(dtype: Any) -> None:
    """Wide vectors, single ones, masked ones and scalars round alike."""
    x = np.abs(np.random.default_rng(0).standard_normal(333)).astype(dtype)
    for code, name in enumerate(NAMES):
        whole = run(name, x)
        for begin, count in [
            (0, 1),
            (1, 15),
            (3, 16),
            (5, 17),
            (7, 63),
            (9, 64),
            (2, 131),
            (0, 332),
        ]:
            part = np.full_like(x, 7)
            _span(code, x, part, begin, count)
            np.testing.assert_array_equal(part[begin : begin + count], whole[begin : begin + count])
            assert np.all(part[:begin] == 7)
            assert np.all(part[begin + count :] == 7)
        door = elementary.scalar(elementary.FORMULAS[name])
        alone = door(x) if JIT_DISABLED else _scalars(name)(x)
        np.testing.assert_array_equal(alone, whole, err_msg=name)


def _scalars(name: str) -> Any:
    door = elementary.scalar(elementary.FORMULAS[name])

    @numba.njit(error_model="numpy", fastmath=FASTMATH)
    def loop(x: Any) -> Any:
        y = np.empty_like(x)
        for i in range(x.size):
            y[i] = door(x[i])
        return y

    return loop


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_loops_over_scalars_vectorise_and_call_no_libm() -> None:
    """LLVM's own vectoriser takes the formulas too: packed fma, no call of expf and the like."""
    for name in ("exp", "tanh", "log", "erf"):
        loop = _scalars(name)
        loop(np.ones(100, np.float32))
        (assembly,) = loop.inspect_asm().values()
        assert "expf" not in assembly
        assert not any(f"{libm}f" in assembly for libm in ("exp", "tanh", "log1p", "log", "erf"))
        if "x86_64" in os.uname().machine and HAS_FMA:
            packed = [w for w in assembly.split() if w.startswith("vf") and w.endswith("ps")]
            assert len(packed) >= 5


def test_with_the_jit_off(python: Any) -> None:
    """The same source on NumPy: within one ULP more, no warning, scalars and arrays."""
    code = (
        "import math, warnings, numpy as np; warnings.simplefilter('error');"
        "from fastbp.kernels.cpu import elementary as e;"
        "x = np.linspace(-200, 200, 1001, dtype=np.float32);"
        "y = e.scalar(e.exp)(x); assert y.dtype == np.float32 and y[-1] == np.inf and y[0] == 0;"
        "assert abs(float(e.scalar(e.tanh)(np.float64(0.5))) - math.tanh(0.5)) < 4e-16;"
        "assert np.isnan(e.scalar_log(np.float32(-1)));"
        "z = np.linspace(-5, 5, 999, dtype=np.float32);"
        "w = np.array([math.erf(v) for v in z.tolist()]);"
        "assert np.all(abs(e.scalar(e.erf)(z) - w) <= 3 * np.spacing(abs(w.astype(np.float32))))"
    )
    done = python("-c", code, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr
