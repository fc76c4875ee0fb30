"""Activations and derivatives against the reference, finite differences, and the kernel rules."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from fastbp.kernels.cpu import activation as cpu
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.reference import activation as reference
from fastbp.kernels.tables import ACTIVATIONS

Array = np.ndarray[Any, Any]

DTYPES = [np.float32, np.float64]
NAMES = list(ACTIVATIONS)
SMOOTH = [name for name, entry in ACTIVATIONS.items() if entry.smooth]
SHAPES = [(1, 1), (1, 10), (3, 2), (5, 10), (7, 16), (4, 33), (2, 200)]


def sample(dtype: Any, shape: tuple[int, int] = (40, 37), scale: float = 3.0) -> Array:
    z = np.random.default_rng(0).standard_normal(shape) * scale
    z.flat[:: max(z.size // 5, 2)] = 0.0
    return z.astype(dtype)


def value_error(name: str, Z: Array, A: Array) -> Array:
    """Bound of |A - exact|, from the ULP bounds of `elementary` (2.5 ULP at most: 2.5 eps |A|).

    One more eps is the reference's. silu adds a product; gelu's Phi errs by 1.5 eps of 1. Softmax:
    z - top rounds (eps / 2 of it), the sum adds n / 16 + 4 roundings.
    """
    eps = float(np.finfo(Z.dtype).eps)
    A, Z = A.astype(np.float64), Z.astype(np.float64)
    if name == "gelu":
        return 4 * eps * np.abs(Z)
    if name == "softmax":
        distance = Z.max(axis=1, keepdims=True) - Z
        return eps * (0.5 * distance + Z.shape[1] / 16 + 8) * A
    exact = {"identity", "step", "relu"}
    return (0.0 if name in exact else 4.5) * eps * np.abs(A)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_as_the_reference_says(name: str, dtype: Any, shape: tuple[int, int]) -> None:
    Z = sample(dtype, shape)
    A = cpu.activate(name, Z)
    want = reference.activate(name, Z.astype(np.float64))
    assert A.dtype == dtype
    assert np.all(np.abs(A - want) <= value_error(name, Z, want))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_as_the_reference_says(name: str, dtype: Any, shape: tuple[int, int]) -> None:
    """A product of a few rounded factors: 4 eps; silu and gelu add terms of size 1 + |z|.

    Softmax cancels in dA - sum(a dA), whose error is n / 16 + 4 roundings of the largest |dA|.
    """
    Z, dA = sample(dtype, shape), sample(dtype, shape, 1.0)
    A = reference.activate(name, Z)
    wide = [x.astype(np.float64) for x in (dA, A, Z)]
    want = reference.apply_derivative(name, *wide)
    eps = float(np.finfo(dtype).eps)
    if name == "softmax":
        bound = eps * (shape[1] / 16 + 8) * wide[1] * np.abs(wide[0]).max(axis=1, keepdims=True)
    elif ACTIVATIONS[name].from_output:
        bound = 4 * eps * np.abs(want)
    else:
        bound = 8 * eps * (1 + np.abs(wide[2])) * np.abs(wide[0])
    got = cpu.apply_derivative(name, dA, A, Z)
    assert np.all(np.abs(got - want) <= bound)
    if ACTIVATIONS[name].from_output:
        np.testing.assert_array_equal(cpu.apply_derivative(name, dA, A), got)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_by_central_differences(name: str) -> None:
    """h = 6e-6 leaves h^2 |f'''| / 6 < 2e-11 and rounding 2 eps |f| / h < 4e-10 for |f| <= 5."""
    Z, h = sample(np.float64, (8, 9), 1.0), 6e-6
    if not ACTIVATIONS[name].smooth:
        Z = np.where(np.abs(Z) < 1e-3, 0.5, Z)
    up, down = (cpu.activate(name, Z + s) for s in (h, -h))
    dA = sample(np.float64, (8, 9), 1.0)
    A = cpu.activate(name, Z)
    if name == "softmax":
        want = np.empty_like(Z)
        for j in range(Z.shape[1]):
            E = np.zeros_like(Z)
            E[:, j] = h
            change = cpu.activate(name, Z + E) - cpu.activate(name, Z - E)
            want[:, j] = (dA * change).sum(axis=1) / (2 * h)
    else:
        want = dA * (up - down) / (2 * h)
    np.testing.assert_allclose(cpu.apply_derivative(name, dA, A, Z), want, rtol=0, atol=2e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_far_from_0(dtype: Any) -> None:
    """Its left tail z e^z is not held before it is 0; sigmoid's 2.5 ULP and a few roundings."""
    Z = np.array([[-80, -40, -25, -15, 15, 25, 40, 80]], dtype)
    wide, ones = Z.astype(np.float64), np.ones_like(Z)
    A = cpu.activate("silu", Z)
    slope = cpu.apply_derivative("silu", ones, A, Z)
    rtol = 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(A, reference.activate("silu", wide), rtol=rtol)
    want = reference.apply_derivative("silu", ones.astype(np.float64), wide, wide)
    np.testing.assert_allclose(slope, want, rtol=rtol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kinks(dtype: Any) -> None:
    z, one = np.zeros((1, 1), dtype), np.ones((1, 1), dtype)
    assert cpu.activate("step", z) == 1
    for name, slope in [("step", 0), ("relu", 0), ("leaky_relu", dtype(0.01)), ("elu", 1)]:
        assert cpu.apply_derivative(name, one, cpu.activate(name, z)) == slope


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_nan_is_handed_on(name: str, dtype: Any) -> None:
    Z = sample(dtype, (3, 40))
    Z[1, 17] = np.nan
    A = cpu.activate(name, Z)
    hit = np.isnan(A)
    assert hit[1, 17]
    assert hit.sum() == (40 if name == "softmax" else 1)
    assert name == "softmax" or np.all(np.isfinite(A[~hit]))
    if name != "step":
        clean, ones = cpu.activate(name, np.nan_to_num(Z)), np.ones_like(Z)
        slope = cpu.apply_derivative(name, ones, A, Z)
        assert np.isnan(slope[1, 17]) or name == "identity"
        assert np.isnan(cpu.apply_derivative(name, Z, clean, np.nan_to_num(Z))[1, 17])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_far_out(name: str, dtype: Any) -> None:
    """At +-1e4 and, but for softmax, +-inf: the limits, and derivatives that are finite."""
    Z = np.array([[1e4, -1e4, 0.0]], dtype)
    A = cpu.activate(name, Z)
    np.testing.assert_array_equal(A, reference.activate(name, Z))
    if name == "exp":
        np.testing.assert_array_equal(A, [[np.inf, 0, 1]])
        return
    assert np.all(np.isfinite(A))
    if name == "softmax":
        np.testing.assert_array_equal(A, [[1, 0, 0]])
        return
    Z = np.array([[np.inf, -np.inf]], dtype)
    A = cpu.activate(name, Z)
    np.testing.assert_array_equal(A, reference.activate(name, Z))
    assert not np.any(np.isnan(A))
    assert np.all(np.isfinite(cpu.apply_derivative(name, np.ones_like(Z), A, Z)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_in_place_and_padded_windows_give_the_same_bits(name: str, dtype: Any) -> None:
    code, rows, n = ACTIVATIONS[name].code, 6, 37
    Z, dA = sample(dtype, (rows, n)), sample(dtype, (rows, n), 1.0)
    A = cpu.activate(name, Z)
    dZ = cpu.apply_derivative(name, dA, A, Z)
    again, other = Z.copy(), dA.copy()
    assert cpu.activate(name, again, out=again) is again
    assert cpu.apply_derivative(name, other, A, Z, out=other) is other
    np.testing.assert_array_equal(again, A)
    np.testing.assert_array_equal(other, dZ)

    wide = [np.full((rows, ld), np.nan, dtype) for ld in (48, 40, 64, 41)]
    for window, content in zip(wide, (Z, A, dA, dZ), strict=True):
        window[:, :n] = content
    wZ, wA, wdA, wdZ = wide
    wA[:], wdZ[:] = 7, 7
    cpu.activate_rows(code, wZ, wA, 1, 5, n)
    np.testing.assert_array_equal(wA[1:5, :n], A[1:5])
    assert np.all(wA[:, n:] == 7)
    assert np.all(wA[[0, 5]] == 7)
    wA[:, :n] = A
    cpu.derivative_rows(code, wdA, wA, wZ, wdZ, 1, 5, n)
    np.testing.assert_array_equal(wdZ[1:5, :n], dZ[1:5])
    assert np.all(wdZ[:, n:] == 7)
    assert np.all(wdZ[[0, 5]] == 7)


@pytest.mark.skipif(JIT_DISABLED, reason="one thread without the JIT")
@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_a_bit(dtype: Any) -> None:
    Z, dA = sample(dtype, (1001, 67)), sample(dtype, (1001, 67), 1.0)
    before = numba.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            for name in NAMES:
                A = cpu.activate(name, Z)
                found += [(threads, A), (threads, cpu.apply_derivative(name, dA, A, Z))]
    finally:
        numba.set_num_threads(before)
    one, two = ([a.tobytes() for t, a in found if t == threads] for threads in (1, 2))
    assert one == two


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_one_compiled_version_a_dtype() -> None:
    Z = sample(np.float32, (4, 5))
    fixed = Z.copy()
    fixed.flags.writeable = False
    for name in ("relu", "silu"):
        cpu.activate(name, Z)
        cpu.activate(ACTIVATIONS[name].code, fixed)
        cpu.apply_derivative(name, Z, fixed, Z)
        cpu.apply_derivative(name, fixed, Z, fixed)
    for function in (cpu._activate_share, cpu._derivative_share):
        types = [str(s) for s in function.signatures if "float32" in str(s)]
        assert len(types) == 1


def test_what_bad_arguments_get() -> None:
    Z = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"activation: unknown name 'sigmod'.*'sigmoid'"):
        cpu.activate("sigmod", Z)
    with pytest.raises(ValueError, match="activation: unknown code 99"):
        cpu.activate(99, Z)
    with pytest.raises(TypeError, match="activation: expected a name"):
        cpu.activate(None, Z)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Z: expected a NumPy array, got list; use np\.asarray"):
        cpu.activate("relu", [[1.0]])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Z: expected float32 or float64, got int64"):
        cpu.activate("relu", np.zeros((2, 3), np.int64))
    with pytest.raises(ValueError, match=r"Z: expected shape \(any, any\), got \(3,\)"):
        cpu.activate("relu", Z[0])
    with pytest.raises(ValueError, match="Z: expected a C-contiguous array"):
        cpu.activate("relu", np.zeros((4, 4), np.float32)[:, :3])
    askew = np.frombuffer(bytes(25), np.float32, offset=1).reshape(2, 3)
    with pytest.raises(ValueError, match=r"Z: expected an array aligned .*; use \.copy\(\)"):
        cpu.activate("relu", askew)
    cpu.activate("relu", askew.copy())
    with pytest.raises(TypeError, match="out: expected float32 like the other arrays, got float64"):
        cpu.activate("relu", Z, out=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"out: expected shape \(2, 3\), got \(3, 2\)"):
        cpu.activate("relu", Z, out=np.zeros((3, 2), np.float32))
    block = np.zeros((3, 3), np.float32)
    with pytest.raises(ValueError, match="out: shares memory with Z; it may only be Z itself"):
        cpu.activate("relu", block[:2], out=block[1:])
    block.flags.writeable = False
    with pytest.raises(ValueError, match="out: is read-only"):
        cpu.activate("relu", np.zeros_like(block), out=block)
    with pytest.raises(ValueError, match="Z: gelu' cannot be computed from A alone"):
        cpu.apply_derivative("gelu", Z, Z.copy())
    A = Z.copy()
    with pytest.raises(ValueError, match="out: shares memory with A; it may only be dA itself"):
        cpu.apply_derivative("tanh", Z, A, out=A)


def test_with_the_jit_off(python: Any) -> None:
    """The same doors on NumPy, against the reference; no warning escapes."""
    code = (
        "import warnings, numpy as np; warnings.simplefilter('error');"
        "from fastbp.kernels.cpu import activation as c;"
        "from fastbp.kernels.reference import activation as r;"
        "from fastbp.kernels.tables import ACTIVATIONS as T;"
        "Z = np.linspace(-1e4, 1e4, 60).reshape(6, 10); Z[2] = np.linspace(-3, 3, 10);"
        "ok = dict(rtol=1e-14, atol=1e-15);"
        "[np.testing.assert_allclose(c.activate(f, Z), r.activate(f, Z), **ok) for f in T];"
        "A = {f: r.activate(f, Z) for f in T};"
        "[np.testing.assert_allclose(c.apply_derivative(f, Z, A[f], Z),"
        " r.apply_derivative(f, Z, A[f], Z), rtol=1e-13, atol=1e-11) for f in T]"
    )
    done = python("-c", code, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr


def test_the_slope_of_a_step_hides_no_nan() -> None:
    dA, A = np.array([[np.nan, np.inf, -3.0]]), np.array([[1.0, 0.0, 1.0]])
    for kernels in (cpu, reference):
        with np.errstate(invalid="ignore"):
            found = kernels.apply_derivative("step", dA, A)
        np.testing.assert_array_equal(found, [[np.nan, np.nan, 0.0]])


@pytest.mark.parametrize("name", NAMES)
def test_there_may_be_no_columns(name: str) -> None:
    for kernels in (cpu, reference):
        assert kernels.activate(name, np.empty((3, 0))).shape == (3, 0)


def test_a_mask_is_not_passed_over() -> None:
    Z = np.ma.masked_array(np.ones((1, 2)), [[True, False]])
    with pytest.raises(TypeError, match="Z: expected an array without a mask"):
        cpu.activate("relu", Z)
