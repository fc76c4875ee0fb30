"""Activations, batch norm, losses, updates and random numbers against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from fastbp import kernels
from fastbp.kernels import philox as cpu_philox
from fastbp.kernels import reference
from fastbp.kernels.cpu import random as cpu_random
from fastbp.kernels.cpu import update as cpu_update
from fastbp.kernels.cuda import activation, batchnorm, loss, memory, random, update
from fastbp.kernels.tables import ACTIVATIONS, LOSSES, UPDATES

DTYPES = [np.float32, np.float64]
SHAPES = [(1, 1), (5, 3), (9, 17), (3, 70)]


def units(found, wanted, dtype, scale=1.0):
    """The largest error in units of eps of what is wanted, or of `scale` where that is more."""
    wanted = np.asarray(wanted, np.float64)
    size = np.maximum(np.abs(wanted), scale)
    return float(
        (np.abs(np.asarray(found, np.float64) - wanted) / size).max() / np.finfo(dtype).eps
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, dtype):
    """8 eps of max(|f|, 1): libdevice's errors, and as much for the formula around them."""
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        Z, dA = (3 * rng.standard_normal(shape)).astype(dtype), rng.standard_normal(shape)
        dA = dA.astype(dtype)
        exact = reference.activate(name, Z.astype(np.float64))
        assert units(activation.activate(name, Z), exact, dtype) <= 8
        A = exact.astype(dtype)
        wanted = reference.apply_derivative(name, *(x.astype(np.float64) for x in (dA, A, Z)))
        found = activation.apply_derivative(name, dA, A, Z)
        assert units(found, wanted, dtype, 1 + np.abs(dA).max()) <= 8 + shape[1] / 4


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_is_handed_on(name):
    Z = np.array([[np.nan, 1.0], [2.0, -1.0]], np.float32)
    A = activation.activate(name, Z)
    assert np.isnan(A[0, 0])
    assert np.isfinite(A[1]).all()
    if name != "step":  # its slope is 0 everywhere
        assert np.isnan(activation.apply_derivative(name, np.ones_like(Z), A, Z)[0, 0]) or (
            name == "identity"
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_has_no_formula_is_nan(dtype):
    """A line in a table without its branch in the kernels passes for no other name."""
    unknown, x = 99, np.full(4, 0.5, dtype)
    there, out = memory.upload(x, "x"), memory.upload(x, "out")
    losses = memory.upload(np.zeros(4), "losses")
    forward, gradient, both = loss._kernels[dtype]
    for kernel, written, *given in (
        (activation._activate, out, unknown, there, out, 4, 1),
        (activation._derivative, out, unknown, there, there, there, out, 4, 1),
        (forward, losses, unknown, there, there, there, 0, losses, 4, 1),
        (gradient, out, unknown, there, there, there, 0, out, 4, 1),
        (both, losses, unknown, there, there, there, 0, losses, out, 4, 1),
    ):
        memory.fill(written, np.zeros(4, written.dtype))
        kernel.launch(1, *given)
        found = np.zeros(4, written.dtype)
        memory.read(written, found)
        assert np.isnan(found).all(), kernel.__name__


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus", "silu", "gelu", "softmax", "elu"])
def test_no_overflow_far_out(name):
    Z = np.array([[-1e4, 1e4, -80.0, 80.0]], np.float32)
    A = activation.activate(name, Z)
    assert np.isfinite(A).all()
    np.testing.assert_allclose(A, reference.activate(name, Z), rtol=1e-6, atol=1e-30)


def test_in_place():
    Z = np.array([[-1.0, 2.0]])
    assert activation.activate("relu", Z, out=Z) is Z
    assert Z.tolist() == [[0.0, 2.0]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["sqrt", "sigma"])
@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (40, 37)])
def test_batch_norm(shape, form, dtype):
    """n eps of the terms that are summed, n rows."""
    rng = np.random.default_rng(3)
    Z, dU = rng.standard_normal((2, *shape)).astype(dtype)
    gamma, beta = rng.standard_normal((2, shape[1])).astype(dtype)
    mean, variance = batchnorm.batch_statistics(Z)
    exact = reference.batch_statistics(Z.astype(np.float64))
    assert units(mean, exact[0], dtype) <= shape[0]
    assert units(variance, exact[1], dtype) <= shape[0]
    mean, variance = (x.astype(dtype) for x in exact)
    wide = [x.astype(np.float64) for x in (Z, mean, variance, gamma, beta)]
    out, normalized = batchnorm.batchnorm_forward(Z, mean, variance, gamma, beta, form=form)
    wanted, zhat = reference.batchnorm_forward(*wide, form=form)
    size = float(np.abs(zhat).max() * (1 + np.abs(gamma).max()) + 1)
    assert units(out, wanted, dtype, size) <= 16
    assert units(normalized, zhat, dtype, size) <= 16
    found = batchnorm.batchnorm_backward(dU, zhat.astype(dtype), variance, gamma, form=form)
    exact_three = reference.batchnorm_backward(
        dU.astype(np.float64), zhat.astype(dtype).astype(np.float64), wide[2], wide[3], form=form
    )
    scale = float((1 / np.sqrt(variance + 1e-5)).max() * np.abs(gamma).max() + 1)
    largest = float(np.abs(dU).max() * np.abs(zhat).max() ** 2 + 1)
    for one, other in zip(found, exact_three, strict=True):
        assert units(one, other, dtype, scale * largest) <= 4 * shape[0]


def test_statistics_do_not_cancel():
    Z = (1e6 + np.arange(8.0)[:, None] % 2).astype(np.float32)
    mean, variance = batchnorm.batch_statistics(Z)
    assert (mean.tolist(), variance.tolist()) == ([1000000.5], [0.25])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, dtype):
    """(8 + k) eps of the terms' sum, k outputs."""
    rng = np.random.default_rng(4)
    for shape in SHAPES:
        Y, A = rng.random(shape).astype(dtype), np.clip(rng.random(shape), 0.05, 0.95).astype(dtype)
        w = rng.random(shape[0]).astype(dtype)
        wide = {"weight": w.astype(np.float64)}
        AW, YW = A.astype(np.float64), Y.astype(np.float64)
        found = loss.loss_forward(name, A, Y, weight=w)
        assert found.dtype == np.float64
        wanted = reference.loss_forward(name, AW, YW, **wide)
        assert units(found, wanted, dtype, 1.0) <= 8 + shape[1]
        slopes = reference.loss_gradient(name, AW, YW, **wide)
        assert units(loss.loss_gradient(name, A, Y, weight=w), slopes, dtype, 4.0) <= 16
        for f in LOSSES[name].pairs:
            Z = rng.standard_normal(shape).astype(dtype)
            values, delta = loss.loss_and_delta(name, f, Z, Y, weight=w)
            exact = reference.loss_and_delta(name, f, Z.astype(np.float64), YW, **wide)
            top = float(np.abs(exact[0]).max()) + float(Y.sum(axis=1).max()) + 4
            assert units(values, exact[0], dtype, top) <= 8 + shape[1]
            assert units(delta, exact[1], dtype, top) <= 8 + shape[1]


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0, 0)])
def test_where_nothing_is_the_doors_answer_alike(shape):
    """No outputs, or no rows: what the CPU's doors answer, and no launch of no blocks."""
    none = np.zeros(shape, np.float32)
    for name in LOSSES:
        assert_alike(loss.loss_forward, kernels.loss_forward, name, none, none)
        assert_alike(loss.loss_gradient, kernels.loss_gradient, name, none, none)
        for f in LOSSES[name].pairs:
            assert_alike(loss.loss_and_delta, kernels.loss_and_delta, name, f, none, none)
    for name in ACTIVATIONS:
        assert_alike(activation.activate, kernels.activate, name, none)
    if shape[0]:
        assert_alike(batchnorm.batch_statistics, kernels.batch_statistics, none)


def assert_alike(door, cpus, *given):
    found, wanted = door(*given), cpus(*given)
    if not isinstance(wanted, tuple):
        found, wanted = (found,), (wanted,)
    for one, other in zip(found, wanted, strict=True):
        assert np.array_equal(one, other, equal_nan=True), given


@pytest.mark.parametrize("name,f", [(n, f) for n in LOSSES for f in LOSSES[n].pairs if f != "exp"])
def test_pairs_are_finite_for_any_logits(name, f):
    Z, Y = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32), np.eye(2, dtype=np.float32)
    values, delta = loss.loss_and_delta(name, f, Z, Y)
    assert np.isfinite(values).all()
    assert np.isfinite(delta).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATES)
def test_updates(name, dtype):
    """Two steps with decay: 32 eps of what is added up."""
    rng = np.random.default_rng(5)
    w = rng.standard_normal(37).astype(dtype)
    state = np.abs(rng.standard_normal((len(UPDATES[name].rows), 37))).astype(dtype)
    exact_w, exact_state = w.astype(np.float64), state.astype(np.float64)
    for step in (1, 2):
        g = rng.standard_normal(37).astype(dtype)
        given = {"step": step, "lr": 0.1, "l2": 0.01, "shrink": 0.9}
        update.update(name, w, g, state, **given)
        reference.update(name, exact_w, g.astype(np.float64), exact_state, **given)
    assert units(w, exact_w, dtype, 4.0) <= 32
    if state.size:
        assert units(state, exact_state, dtype, 4.0) <= 32


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATES)
def test_constants_of_many_steps_are_those_of_each(name, dtype):
    """To the bit: the CPU's loop makes them step by step."""
    code, lrs, first = UPDATES[name].code, 0.1 * 0.99 ** np.arange(300), 7
    hyper = np.zeros(4)
    hyper[: len(UPDATES[name].hyper)] = list(dict(UPDATES[name].hyper).values())
    made = update.constants(code, hyper, lrs, first, 0.3, dtype)
    for k, lr in enumerate(lrs):
        one = np.zeros(cpu_update.RATES, dtype)
        cpu_update.prepare_rates(code, hyper, float(lr), first + k, one)
        assert made[k, : update.SHRINK].tobytes() == one.tobytes()
        assert made[k, update.SHRINK] == dtype(1.0 - float(lr) * 0.3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("p", [0.0, 0.3, 0.999])
def test_the_cpus_masks(shape, p):
    A = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    address = {"seed": 2**62 + 5, "epoch": 3, "step": 2**31, "layer": 7}
    out, mask = random.dropout(A, p, **address)
    wanted, wanted_mask = reference.dropout(A, p, **address)
    assert np.array_equal(mask, wanted_mask)
    assert np.array_equal(out, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_is_the_references(dtype):
    """The same words; float64 and one rounding, so eps of the sum and of the noise."""
    X = np.random.default_rng(7).standard_normal((9, 7)).astype(dtype)
    found = random.perturb(X, 0.3, seed=5, epoch=1, step=2)
    wanted = reference.perturb(X.astype(np.float64), 0.3, seed=5, epoch=1, step=2)
    assert units(found, wanted, dtype, 4.0) <= 4


def test_words_orders_and_draws_are_the_cpus():
    counters = np.arange(12).reshape(3, 4) * 2**28
    assert np.array_equal(random.philox(counters, [7, 9]), cpu_philox(counters, [7, 9]))
    for size in (1, 2, 5, 37):
        mine, cpus = np.arange(size), np.arange(size)
        random.shuffle(mine, 3, 2)
        cpu_random.shuffle(cpus, 3, 2)
        assert np.array_equal(mine, cpus)
        random.sample(mine, size + 3, 3, 2, 5)
        cpu_random.sample(cpus, size + 3, 3, 2, 5)
        assert np.array_equal(mine, cpus)
