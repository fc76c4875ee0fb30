"""Losses, derivatives and short pairs against the reference, differences, and the kernel rules."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numba
import numpy as np
import pytest

import fastbp
from fastbp.kernels.cpu import loss as cpu
from fastbp.kernels.cpu.activation import activate, apply_derivative
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.reference import loss as reference
from fastbp.kernels.tables import ACTIVATIONS, LOSS_ALIASES, LOSSES

Array = np.ndarray[Any, Any]

DTYPES = [np.float32, np.float64]
NAMES = list(LOSSES)
PAIRS = [(name, f) for name, entry in LOSSES.items() for f in entry.pairs]
SHAPES = [(1, 1), (4, 2), (3, 10), (5, 16), (2, 45), (3, 300)]


def sample(name: str, dtype: Any, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Outputs in the loss's domain, targets that fit them, weights."""
    rng = np.random.default_rng(0)
    if LOSSES[name].low == 0:
        A, Y = rng.uniform(0.001, 0.999, shape), rng.uniform(0, 1, shape)
        Y.flat[::3] = 0
    else:
        A, Y = rng.standard_normal(shape) * 3, rng.standard_normal(shape)
    return A.astype(dtype), Y.astype(dtype), rng.uniform(0, 2, shape[0]).astype(dtype)


def terms_size(name: str, A: Array, Y: Array, weight: Array) -> Array:
    """What the roundings of a loss are counted in: itself, and for poisson, whose terms have two
    signs, their absolute values.
    """
    if name != "poisson":
        return np.abs(reference.loss_forward(name, A, Y, weight=weight))
    parts = Y * (np.abs(reference.log_of_count(Y)) + np.abs(np.log(A))) + Y + A
    return weight * parts.sum(axis=1)


def logits(dtype: Any, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    Z, Y, weight = (
        rng.standard_normal(shape) * 4,
        rng.uniform(0, 1, shape),
        rng.uniform(0, 2, shape[0]),
    )
    return Z.astype(dtype), Y.astype(dtype), weight.astype(dtype)


def wide(*arrays: Array) -> list[Array]:
    return [a.astype(np.float64) for a in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_as_the_reference_says(name: str, dtype: Any, shape: tuple[int, int]) -> None:
    """Terms of one sign, each within 6 eps, summed in 16 or 8 strands: n / 8 + 4 roundings."""
    A, Y, weight = sample(name, dtype, shape)
    got = cpu.loss_forward(name, A, Y, weight=weight)
    a, y, w = wide(A, Y, weight)
    want = reference.loss_forward(name, a, y, weight=w)
    eps = float(np.finfo(dtype).eps)
    assert got.dtype == np.float64
    assert np.all(np.abs(got - want) <= eps * (shape[1] / 8 + 12) * terms_size(name, a, y, w))
    plain = cpu.loss_forward(LOSSES[name].code, A, Y)
    assert np.all(plain * weight.astype(np.float64) == got)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_as_the_reference_says(name: str, dtype: Any, shape: tuple[int, int]) -> None:
    """A quotient of differences of the data: at most 6 roundings."""
    A, Y, weight = sample(name, dtype, shape)
    got = cpu.loss_gradient(name, A, Y, weight=weight)
    a, y, w = wide(A, Y, weight)
    want = reference.loss_gradient(name, a, y, weight=w)
    assert np.all(np.abs(got - want) <= 6 * float(np.finfo(dtype).eps) * np.abs(want))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_central_differences(name: str) -> None:
    """h = 1e-6 on outputs in [0.2, 0.8]: h^2 |f'''| / 6 < 1e-10, rounding 2 eps |L| / h < 2e-9."""
    A, Y, _ = sample(name, np.float64, (4, 6))
    if LOSSES[name].low == 0:
        A = 0.2 + 0.6 * A
    want, h = np.empty_like(A), 1e-6
    for j in range(A.shape[1]):
        E = np.zeros_like(A)
        E[:, j] = h
        up, down = cpu.loss_forward(name, A + E, Y), cpu.loss_forward(name, A - E, Y)
        want[:, j] = (up - down) / (2 * h)
    np.testing.assert_allclose(cpu.loss_gradient(name, A, Y), want, rtol=0, atol=2e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "f"), PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_as_the_reference_says(name: str, f: str, dtype: Any, shape: tuple[int, int]) -> None:
    """a errs as softmax's and sigmoid's docstrings say, |z - top| <= 40: eps (20 + n / 16 + 8)."""
    Z, Y, weight = logits(dtype, shape)
    losses, delta = cpu.loss_and_delta(name, f, Z, Y, weight=weight)
    z, y, w = wide(Z, Y, weight)
    want_losses, want = reference.loss_and_delta(name, f, z, y, weight=w)
    eps = float(np.finfo(dtype).eps) * (28 + shape[1] / 8)
    mass = y.sum(axis=1, keepdims=True)
    output = np.exp(z) if f == "exp" else np.ones_like(z)  # how large a is, at most
    size = w[:, None] * (np.abs(z) + mass + y + output if f != "softmax" else mass + y)
    assert np.all(np.abs(delta - want) <= eps * size)
    terms = w * (np.abs(z) * (1 + y) + output).sum(axis=1)
    assert np.all(np.abs(losses - want_losses) <= eps * (want_losses + terms))


@pytest.mark.parametrize(("name", "f"), PAIRS)
def test_pairs_are_the_products_of_their_factors(name: str, f: str) -> None:
    """The long way round: loss_gradient, then apply_derivative; both within a few 1e-14 here."""
    Z, Y, weight = logits(np.float64, (5, 7))
    A = activate(f, Z)
    losses, delta = cpu.loss_and_delta(name, f, Z, Y, weight=weight)
    long = apply_derivative(f, cpu.loss_gradient(name, A, Y, weight=weight), A, Z)
    scale = np.maximum(1, A).max() if f == "exp" else 1
    np.testing.assert_allclose(delta, long, rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(losses, cpu.loss_forward(name, A, Y, weight=weight), rtol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_to_ten_thousand(dtype: Any) -> None:
    Z = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [0, -1e4]], dtype)
    Y = np.array([[0, 1]] * 4, dtype)
    losses, delta = cpu.loss_and_delta("cross_entropy", "softmax", Z, Y)
    # log 2 is rounded to the dtype before it becomes float64.
    np.testing.assert_allclose(losses, [2e4, 0, math.log(2), 1e4], rtol=np.finfo(dtype).eps)
    np.testing.assert_array_equal(delta, [[1, -1], [0, 0], [0.5, -0.5], [1, -1]])
    losses, delta = cpu.loss_and_delta("binary_cross_entropy", "sigmoid", Z, Y)
    np.testing.assert_allclose(losses, [2e4, 0, 1e4, 1e4 + math.log(2)], rtol=np.finfo(dtype).eps)
    np.testing.assert_array_equal(delta, [[1, -1], [0, 0], [1, 0], [0.5, -1]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_losses_are_clamped_alike(dtype: Any) -> None:
    """At a = 0 and 1 loss and derivative are those at the clamped a, finite and not 0."""
    info = np.finfo(dtype)
    A, Y = np.array([[0.0, 1.0]], dtype), np.array([[1.0, 0.0]], dtype)
    held = np.array([[info.tiny, 1 - info.epsneg]], dtype)
    for name in ("cross_entropy", "binary_cross_entropy"):
        for door in (cpu.loss_forward, cpu.loss_gradient):
            np.testing.assert_array_equal(door(name, A, Y), door(name, held, Y))
            assert np.all(np.isfinite(door(name, A, Y)))
    slope = cpu.loss_gradient("binary_cross_entropy", A, Y)
    np.testing.assert_allclose(slope, [[-1 / info.tiny, 1 / info.epsneg]], rtol=2 * info.eps)
    assert cpu.loss_gradient("absolute_error", A, A).tolist() == [[0, 0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_poisson_is_taken_from_the_least_normal_number_on(dtype: Any) -> None:
    """Twice as large a number would change the loss by 9 log 2 of 800."""
    info = np.finfo(dtype)
    A = np.array([[0.0], [info.tiny], [2 * info.tiny]], dtype)
    want = 9 * (math.log(9) - np.log(np.maximum(A[:, 0], info.tiny).astype(np.float64))) - 9
    got = cpu.loss_forward("poisson", A, np.full_like(A, 9))
    np.testing.assert_allclose(got, want, rtol=4 * info.eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name, y", [("cross_entropy", 1), ("binary_cross_entropy", 1), ("poisson", 9)]
)
def test_log_losses_have_finite_derivatives(name: str, y: int, dtype: Any) -> None:
    """10 / tiny is beyond the largest number."""
    A, Y, weight = np.zeros((1, 1), dtype), np.full((1, 1), y, dtype), np.full(1, 10, dtype)
    for door in (cpu.loss_gradient, reference.loss_gradient):
        assert door(name, A, Y, weight=weight).tolist() == [[-np.finfo(dtype).max]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, last", [("cross_entropy", "sigmoid"), ("poisson", "relu")])
def test_an_output_of_0_has_the_gradient_0(name: str, last: str, dtype: str) -> None:
    """The loss's derivative there is the largest number, the activation's is 0."""
    net = fastbp.Network(1, [fastbp.Dense(2, last)], loss=name, dtype=dtype)
    net.parameters[:] = [-10, 0, 0, 0]
    y = 9.0 if name == "poisson" else 1.0
    gradient = net.gradients([[100.0]], [[y, 0.0]], sample_weight=[10.0], training=False)
    assert gradient[[0, 2]].tolist() == [0.0, 0.0]
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_nan_is_handed_on(name: str, dtype: Any) -> None:
    A, Y, _ = sample(name, dtype, (3, 20))
    A[1, 18] = np.nan
    assert np.isnan(cpu.loss_forward(name, A, Y)).tolist() == [False, True, False]
    hit = np.isnan(cpu.loss_gradient(name, A, Y))
    assert hit[1, 18]
    assert hit.sum() == 1
    for f in LOSSES[name].pairs:
        losses, delta = cpu.loss_and_delta(name, f, A, Y)
        assert np.isnan(losses).tolist() == [False, True, False]
        assert np.isnan(delta[1, 18])
        assert np.all(np.isfinite(delta[[0, 2]]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_in_place_and_padded_windows_give_the_same_bits(name: str, dtype: Any) -> None:
    code, rows, n, scale = LOSSES[name].code, 6, 21, 0.5
    A, Y, weight = sample(name, dtype, (rows, n))
    dA = cpu.loss_gradient(name, A, Y, weight=weight)
    again = A.copy()
    assert cpu.loss_gradient(name, again, Y, weight=weight, out=again) is again
    np.testing.assert_array_equal(again, dA)

    wide = [np.full((rows, ld), 7, dtype) for ld in (32, 24, 40, 22)]
    for window, content in zip(wide, (A, Y, A, A), strict=True):
        window[:, :n] = content
    wA, wY, wF, wdA = wide
    losses = np.full(rows, 7.0)
    cpu.loss_rows(code, wA, wY, weight, losses, 1, 5, n)
    np.testing.assert_array_equal(losses[1:5], cpu.loss_forward(name, A, Y, weight=weight)[1:5])
    assert losses[0] == losses[5] == 7
    cpu.loss_gradient_rows(code, wA, wY, weight, scale, wdA, 1, 5, n)
    np.testing.assert_array_equal(wdA[1:5, :n], dtype(scale) * dA[1:5])
    assert np.all(wdA[:, n:] == 7)
    for f in LOSSES[name].pairs:
        values, delta = cpu.loss_and_delta(name, f, A, Y, weight=weight)
        cpu.pair_rows(code, wA, wF, wY, weight, scale, 0.0, np.inf, losses, wdA, 1, 5, n)
        np.testing.assert_array_equal(losses[1:5], values[1:5])
        np.testing.assert_array_equal(wdA[1:5, :n], dtype(scale) * delta[1:5])
        # The outputs differ from activate's by their sums' grouping at most; sigmoid's not at all.
        np.testing.assert_array_equal(wF[1:5, :n], activate(f, A)[1:5])
        assert np.all(wF[:, n:] == 7)
        assert np.all(wdA[:, n:] == 7)
        # No rows: nothing.
        cpu.pair_rows(code, wF, wF, wY, weight, scale, 0.0, np.inf, losses, wdA, 0, 0, n)
        over = A.copy()
        cpu.loss_and_delta(name, f, over, Y, weight=weight, out=over)
        np.testing.assert_array_equal(over, delta)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "f"), PAIRS)
def test_the_loss_of_no_outputs_is_0(name: str, f: str, dtype: Any) -> None:
    none = np.empty((2, 0), dtype)
    for backend in (cpu, reference):
        losses, delta = backend.loss_and_delta(name, f, none, none, losses=np.full(2, 7.0))
        assert losses.tolist() == [0, 0]
        assert delta.shape == (2, 0)
        assert backend.loss_forward(name, none, none).tolist() == [0, 0]


@pytest.mark.skipif(JIT_DISABLED, reason="one thread without the JIT")
@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_a_bit(dtype: Any) -> None:
    before = numba.get_num_threads()
    found: dict[int, list[bytes]] = {1: [], 2: []}
    try:
        for threads, bits in found.items():
            numba.set_num_threads(threads)
            for name in NAMES:
                A, Y, weight = sample(name, dtype, (1777, 31))
                bits.append(cpu.loss_forward(name, A, Y, weight=weight).tobytes())
                bits.append(cpu.loss_gradient(name, A, Y, weight=weight).tobytes())
                for f in LOSSES[name].pairs:
                    both = cpu.loss_and_delta(name, f, A, Y, weight=weight)
                    bits += [part.tobytes() for part in both]
    finally:
        numba.set_num_threads(before)
    assert found[1] == found[2]


@pytest.mark.parametrize("alias", LOSS_ALIASES)
def test_aliases(alias: str) -> None:
    A, Y, _ = sample("cross_entropy", np.float64, (2, 3))
    name = LOSS_ALIASES[alias]
    np.testing.assert_array_equal(cpu.loss_forward(alias, A, Y), cpu.loss_forward(name, A, Y))


def test_what_bad_arguments_get() -> None:
    A = np.zeros((2, 3), np.float32)
    Y = np.ones_like(A)
    with pytest.raises(ValueError, match=r"loss: unknown name 'cross_entrpy'.*'cross_entropy'"):
        cpu.loss_forward("cross_entrpy", A, Y)
    with pytest.raises(TypeError, match="Y: expected float32 like the other arrays, got float64"):
        cpu.loss_forward("nll", A, Y.astype(np.float64))
    with pytest.raises(ValueError, match=r"Y: expected shape \(2, 3\), got \(2, 2\)"):
        cpu.loss_gradient("nll", A, np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"weight: expected shape \(2\), got \(3,\)"):
        cpu.loss_gradient("nll", A, Y, weight=np.ones(3, np.float32))
    with pytest.raises(TypeError, match="out: expected float64 like the other arrays, got float32"):
        cpu.loss_forward("nll", A, Y, out=np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="out: shares memory with Y; it may only be A itself"):
        cpu.loss_gradient("nll", A, Y, out=Y)
    with pytest.raises(ValueError, match=r"tanh with cross_entropy has no short dL/dZ.*softmax"):
        cpu.loss_and_delta("cross_entropy", "tanh", A, Y)
    with pytest.raises(ValueError, match="activation: unknown code 50"):
        cpu.loss_and_delta("cross_entropy", 50, A, Y)


def test_codes_are_as_good_as_names() -> None:
    Z, Y, _ = logits(np.float64, (2, 3))
    named = cpu.loss_and_delta("cross_entropy", "softmax", Z, Y)
    coded = cpu.loss_and_delta(LOSSES["cross_entropy"].code, ACTIVATIONS["softmax"].code, Z, Y)
    for a, b in zip(named, coded, strict=True):
        np.testing.assert_array_equal(a, b)


def test_with_the_jit_off(python: Any) -> None:
    """The same doors on NumPy, against the reference; no warning escapes."""
    code = (
        "import warnings, numpy as np; warnings.simplefilter('error');"
        "from fastbp.kernels.cpu import loss as c; from fastbp.kernels.reference import loss as r;"
        "from fastbp.kernels.tables import LOSSES as T;"
        "g = np.random.default_rng(0);"
        "A = g.uniform(0, 1, (4, 9)); Y = g.uniform(0, 1, (4, 9)); A[0, 0] = 0; A[1, 1] = 1;"
        "near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14);"
        "[near(c.loss_forward(k, A, Y), r.loss_forward(k, A, Y)) for k in T];"
        "[near(c.loss_gradient(k, A, Y), r.loss_gradient(k, A, Y)) for k in T];"
        "Z = np.concatenate([9 * A, 1e4 * (A - Y)]); Y = np.concatenate([Y, Y]);"
        "[near(a, b) for k in T for f in T[k].pairs for a, b in"
        " zip(c.loss_and_delta(k, f, Z, Y), r.loss_and_delta(k, f, Z, Y))]"
    )
    done = python("-c", code, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("k", [2, 10, 16, 17])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rows_bits_depend_on_no_other_row(dtype: str, k: int) -> None:
    """Softmax and cross entropy of short rows go a block at a time; no cut changes a bit."""
    rng = np.random.default_rng(k)
    Z = rng.normal(size=(37, k)).astype(dtype)
    Y = np.eye(k, dtype=dtype)[rng.integers(0, k, 37)]
    weight, code = rng.random(37).astype(dtype), LOSSES["cross_entropy"].code

    def passed(cuts: list[int]) -> bytes:
        A, dZ, losses = np.empty_like(Z), np.empty_like(Z), np.zeros(37)
        for lo, hi in itertools.pairwise(cuts):
            cpu.pair_rows(code, Z, A, Y, weight, 0.3, 0.0, np.inf, losses, dZ, lo, hi, k)
        return A.tobytes() + dZ.tobytes() + losses.tobytes()

    assert passed([0, 37]) == passed([0, 1, 5, 21, 22, 37]) == passed([0, 16, 32, 37])


@pytest.mark.parametrize(("name", "f"), [pair for pair in PAIRS if pair[0] != "poisson"])
def test_a_pairs_loss_and_slope_agree_beyond_the_domain(name: str, f: str) -> None:
    """Networks refuse such targets; the kernels do not, and are what the reference is."""
    Z, Y = np.array([[10.0, -1.0]]), np.array([[2.0, -1.0]])
    found, expected = (m.loss_and_delta(name, f, Z, Y) for m in (cpu, reference))
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-13)


@pytest.mark.parametrize(("name", "f"), PAIRS)
def test_there_may_be_no_outputs(name: str, f: str) -> None:
    none = np.empty((3, 0))
    with np.errstate(all="ignore"):  # the logarithm of an empty sum
        losses, delta = cpu.loss_and_delta(name, f, none, none)
    assert delta.shape == (3, 0)
    assert losses.shape == (3,)


@pytest.mark.parametrize("classes", [10, 40])
def test_a_loss_is_held_between_its_bounds(classes: int) -> None:
    """As libraries that clip probabilities have it; short rows and long ones."""
    Z = np.zeros((2, classes))
    Z[0, 0], Z[1, 1] = 1e4, 1e4
    Y = np.zeros((2, classes))
    Y[:, 0] = 1.0
    losses, delta = np.zeros(2), np.zeros((2, classes))
    code, ones = LOSSES["cross_entropy"].code, np.ones(2)
    cpu.pair_rows(code, Z, delta, Y, ones, 1.0, 0.25, 30.0, losses, delta, 0, 2, classes)
    assert losses.tolist() == [0.25, 30.0]
