"""Batch norm against the reference, finite differences, float64 truth, and itself cut otherwise."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from fastbp.kernels.cpu import batchnorm as bodies
from fastbp.kernels.cpu import batchnorm_doors as doors
from fastbp.kernels.cpu.batchnorm_doors import (
    batch_statistics,
    batchnorm_backward,
    batchnorm_forward,
)
from fastbp.kernels.reference import batchnorm as truth

DTYPES = ["float32", "float64"]
SHAPES = [(1, 1), (2, 3), (7, 16), (13, 17), (31, 101), (128, 64), (5, 131)]
FORMS = ["sqrt", "sigma"]


def batch(shape: tuple[int, int], dtype: Any = "float64", seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, *shape])
    columns = shape[1]
    made = {
        "Z": rng.normal(size=shape) * 3 + 1,
        "dU": rng.normal(size=shape),
        "gamma": rng.uniform(0.5, 2, columns),
        "beta": rng.normal(size=columns),
    }
    return {name: value.astype(dtype) for name, value in made.items()}


def close(got: np.ndarray, want: np.ndarray, rows: int, size: float, dtype: str) -> None:
    """Sums of `rows` terms of the size `size`: rows + 8 roundings of half a unit, with slack 2."""
    bound = (rows + 8) * np.finfo(dtype).eps * size
    assert np.abs(got.astype(float) - want.astype(float)).max() <= bound


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_agree_with_the_reference(shape: tuple[int, int], dtype: str) -> None:
    Z = batch(shape, dtype)["Z"]
    mean, variance = batch_statistics(Z)
    exact_mean, exact_variance = truth.batch_statistics(Z.astype(float))
    spread = np.abs(Z - Z[0]).max() + np.abs(Z).max()
    close(mean, exact_mean, shape[0], spread, dtype)
    close(variance, exact_variance, shape[0], spread**2, dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward_agree_with_the_reference(
    shape: tuple[int, int], dtype: str, form: str
) -> None:
    given = batch(shape, dtype)
    mean, variance = truth.batch_statistics(given["Z"])
    # With one row the variance is 0 and the scale 1 / sqrt(eps): eps = 1 keeps the bound simple.
    eps = 1.0
    wide = {name: value.astype(float) for name, value in given.items()}
    out, normalized = batchnorm_forward(
        given["Z"], mean, variance, given["gamma"], given["beta"], eps=eps, form=form
    )
    want, want_normalized = truth.batchnorm_forward(
        wide["Z"], mean.astype(float), variance.astype(float), wide["gamma"], wide["beta"],
        eps=eps, form=form,
    )  # fmt: skip
    close(normalized, want_normalized, 0, np.abs(wide["Z"]).max(), dtype)
    close(out, want, 0, 4 * np.abs(wide["Z"]).max(), dtype)
    got = batchnorm_backward(given["dU"], normalized, variance, given["gamma"], eps=eps, form=form)
    wanted = truth.batchnorm_backward(
        wide["dU"], normalized.astype(float), variance.astype(float), wide["gamma"],
        eps=eps, form=form,
    )  # fmt: skip
    size = np.abs(wide["dU"]).max() * (1 + np.abs(normalized).max()) ** 2 * 8
    for value, exact in zip(got, wanted, strict=True):
        close(value, exact, shape[0], size * shape[0], dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_backward_is_the_derivative_of_the_whole_function(form: str, eps: float) -> None:
    """Central differences of sum(C * U) through the statistics; step h leaves O(h^2) ~ 1e-9."""
    given = batch((11, 5))
    C = given["dU"]

    def total(Z: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> float:
        mean, variance = batch_statistics(Z)
        U, _ = batchnorm_forward(Z, mean, variance, gamma, beta, eps=eps, form=form)
        return float((C * U).sum())

    point = [given["Z"], given["gamma"], given["beta"]]
    mean, variance = batch_statistics(given["Z"])
    _, normalized = batchnorm_forward(
        given["Z"], mean, variance, given["gamma"], given["beta"], eps=eps, form=form
    )
    gradients = batchnorm_backward(C, normalized, variance, given["gamma"], eps=eps, form=form)
    h = 1e-5
    for at, gradient in enumerate(gradients):
        for index in np.ndindex(point[at].shape):
            values = []
            for sign in (1, -1):
                moved = [a.copy() for a in point]
                moved[at][index] += sign * h
                values.append(total(*moved))
            assert abs((values[0] - values[1]) / (2 * h) - gradient[index]) < 1e-8


def test_no_cancellation_where_the_mean_is_a_million_sigmas() -> None:
    """float32 mean 1e6, sigma 1: the mean cannot be better than half a unit of float32 there, 1/32;
    the variance is taken about the unrounded mean, so it keeps its digits."""
    Z = (1e6 + np.random.default_rng(0).normal(size=(1000, 37))).astype(np.float32)
    mean, variance = batch_statistics(Z)
    wide = Z.astype(np.float64)
    assert np.abs(mean - wide.mean(axis=0)).max() <= 1 / 32 + 1e-4
    assert np.abs(variance / wide.var(axis=0) - 1).max() < 250 * np.finfo(np.float32).eps
    # The naive E[z^2] - E[z]^2 is wrong by more than the variance itself.
    naive = (Z * Z).mean(axis=0) - Z.mean(axis=0) ** 2
    assert np.abs(naive - wide.var(axis=0)).max() > 100


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_columns_have_variance_zero_and_finite_gradients(dtype: str) -> None:
    given = batch((9, 4), dtype)
    Z = np.full((9, 4), 0.1, dtype)
    mean, variance = batch_statistics(Z)
    assert (mean == Z[0]).all()
    assert (variance == 0).all()
    for form in FORMS:
        out, normalized = batchnorm_forward(
            Z, mean, variance, given["gamma"], given["beta"], form=form
        )
        assert (normalized == 0).all()
        assert (out == given["beta"]).all()
        dZ, dgamma, _ = batchnorm_backward(
            given["dU"], normalized, variance, given["gamma"], form=form
        )
        assert np.isfinite(dZ).all()
        assert (dgamma == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_or_inf_stays_in_its_column(dtype: str) -> None:
    Z = batch((6, 5), dtype)["Z"]
    Z[3, 1], Z[2, 4] = np.nan, np.inf
    mean, variance = batch_statistics(Z)
    assert np.isnan(variance).tolist() == [False, True, False, False, True]
    assert np.isfinite(mean).tolist() == [True, False, True, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cuts", [[0, 101], [0, 1, 101], [0, 16, 48, 101], [0, 7, 8, 70, 101]])
def test_no_cut_changes_a_bit(dtype: str, cuts: list[int]) -> None:
    """The bodies in a padded window, columns and rows cut anywhere, against one pass."""
    rows, n, ld = 29, 101, 112
    given = batch((rows, n), dtype)
    mean, variance = batch_statistics(given["Z"])
    out, normalized = batchnorm_forward(
        given["Z"], mean, variance, given["gamma"], given["beta"], form="sigma"
    )
    dZ, dgamma, dbeta = batchnorm_backward(
        given["dU"], normalized, variance, given["gamma"], form="sigma"
    )
    padded = {name: np.full((rows, ld), 7, dtype) for name in ("Z", "dU", "H")}
    padded["Z"][:, :n], padded["dU"][:, :n] = given["Z"], given["dU"]
    m, v, s, r, dg, db = np.zeros((6, n), dtype)
    spans = list(itertools.pairwise(cuts))
    for lo, hi in spans:
        bodies.statistics_columns(padded["Z"], m, v, rows, lo, hi)
        bodies.scale_columns(v, 1e-5, 1, s, r, lo, hi)
    shares = [(lo, min(hi, rows)) for lo, hi in spans if lo < rows]
    for lo, hi in shares:
        bodies.normalize_rows(
            padded["Z"], m, s, given["gamma"], given["beta"], padded["H"], padded["Z"], lo, hi, n
        )
    for lo, hi in spans:
        bodies.batchnorm_sums_columns(padded["dU"], padded["H"], dg, db, rows, lo, hi)
    for lo, hi in shares:
        bodies.batchnorm_backward_rows(
            padded["dU"], padded["H"], given["gamma"], s, r, dg, db, rows, padded["dU"], lo, hi, n
        )
    pairs = [
        (m, mean), (v, variance), (dg, dgamma), (db, dbeta), (padded["Z"][:, :n], out),
        (padded["H"][:, :n], normalized), (padded["dU"][:, :n], dZ),
    ]  # fmt: skip
    for got, want in pairs:
        assert got.tobytes() == want.tobytes()
    assert all((p[:, n:] == 7).all() for p in padded.values())


def test_the_parallel_shares_give_the_bits_of_one() -> None:
    dtype = "float32"  # one is enough: each parallel region takes seconds to compile
    given = batch((67, 83), dtype)
    Z = given["Z"]
    found = []
    for parts in (1, 2, 3, 7):
        m, v, s, r, dg, db = np.zeros((6, 83), dtype)
        H, U, D = np.zeros((3, *Z.shape), dtype)
        doors._statistics_shares(Z, m, v, parts)
        doors._scale_share(v, 1e-5, 0, s, r)
        doors._normalize_shares(Z, m, s, given["gamma"], given["beta"], H, U, parts)
        doors._sums_shares(given["dU"], H, dg, db, parts)
        doors._backward_shares(given["dU"], H, given["gamma"], s, r, dg, db, D, parts)
        found.append(b"".join(a.tobytes() for a in (m, v, H, U, dg, db, D)))
    assert len(set(found)) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "unbiased"), [(8, 8 / 7), (1, 1)])
def test_running_statistics(rows: int, unbiased: float, dtype: str) -> None:
    """The new statistic weighs `momentum`, the variance unbiased: PyTorch's convention.

    One row has no unbiased variance: its 0 stays.
    """
    rng = np.random.default_rng(3)
    mean, variance, running_mean, running_variance = rng.uniform(1, 2, (4, 21)).astype(dtype)
    want_mean = 0.9 * running_mean + 0.1 * mean
    want_variance = 0.9 * running_variance + 0.1 * variance * unbiased
    bodies.running_columns(mean, variance, running_mean, running_variance, rows, 0.1, 0, 21)
    eps = np.finfo(dtype).eps
    assert np.abs(running_mean / want_mean - 1).max() < 4 * eps
    assert np.abs(running_variance / want_variance - 1).max() < 4 * eps


def test_it_is_what_pytorch_computes() -> None:
    torch = pytest.importorskip("torch")
    given = batch((19, 6))
    Z = torch.tensor(given["Z"], requires_grad=True)
    layer = torch.nn.BatchNorm1d(6, dtype=torch.float64)
    with torch.no_grad():
        layer.weight[:] = torch.tensor(given["gamma"])
        layer.bias[:] = torch.tensor(given["beta"])
    U = layer(Z)
    U.backward(torch.tensor(given["dU"]))
    mean, variance = batch_statistics(given["Z"])
    out, normalized = batchnorm_forward(given["Z"], mean, variance, given["gamma"], given["beta"])
    dZ, dgamma, dbeta = batchnorm_backward(given["dU"], normalized, variance, given["gamma"])
    # Both sum 19 float64 terms of size < 10: 1e-13 is some 20 roundings.
    for got, want in (
        (out, U.detach()), (dZ, Z.grad), (dgamma, layer.weight.grad), (dbeta, layer.bias.grad)
    ):  # fmt: skip
        assert np.abs(got - want.numpy()).max() < 1e-13
    running_mean, running_variance = np.zeros(6), np.ones(6)
    bodies.running_columns(mean, variance, running_mean, running_variance, 19, 0.1, 0, 6)
    assert np.abs(running_mean - layer.running_mean.numpy()).max() < 1e-14
    assert np.abs(running_variance - layer.running_var.numpy()).max() < 1e-14


def test_outputs_are_filled_in_place_without_a_copy() -> None:
    given = batch((6, 5))
    Z, dU = given["Z"], given["dU"]
    mean, variance = np.empty((2, 5))
    assert batch_statistics(Z, mean=mean, variance=variance)[0] is mean
    want, want_normalized = batchnorm_forward(Z, mean, variance, given["gamma"], given["beta"])
    normalized = np.empty_like(Z)
    got = batchnorm_forward(
        Z, mean, variance, given["gamma"], given["beta"], out=Z, normalized=normalized
    )
    assert got[0] is Z
    assert got[1] is normalized
    assert (want == Z).all()
    assert (normalized == want_normalized).all()
    dZ, _, _ = batchnorm_backward(dU, normalized, variance, given["gamma"])
    assert batchnorm_backward(dU, normalized, variance, given["gamma"], out=dU)[0] is dU
    assert (dZ == dU).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "std"}, "form: expected 'sqrt' or 'sigma', got 'std'"),
        ({"eps": -1.0}, "eps: expected a finite number >= 0, got -1.0"),
        ({"gamma": np.ones(4)}, r"gamma: expected shape \(5\), got \(4,\)"),
        ({"mean": np.ones(5, "f")}, "mean: expected float64 like the other arrays, got float32"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], message: str) -> None:
    given = {"Z": np.ones((3, 5)), **{k: np.ones(5) for k in ("mean", "variance", "gamma", "beta")}}
    with pytest.raises((ValueError, TypeError), match=message):
        batchnorm_forward(**{**given, **change})


def test_an_empty_batch_has_no_statistics() -> None:
    with pytest.raises(ValueError, match="Z: has no rows; a batch needs at least one sample"):
        batch_statistics(np.ones((0, 3)))
