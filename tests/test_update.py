"""Optimizer updates against textbook formulas in long double, PyTorch, and themselves cut."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastbp.kernels.cpu import update as bodies
from fastbp.kernels.cpu.outer import REPEATED
from fastbp.kernels.cpu.shares import FLAT
from fastbp.kernels.cpu.update import (
    clip_value_span,
    prepare_rates,
    scale_span,
    square_sum_block,
    update,
    update_rows,
)
from fastbp.kernels.reference.update import update as reference_update
from fastbp.kernels.tables import UPDATES

DTYPES = ["float32", "float64"]
NAMES = list(UPDATES)
STEPS = 1000
LR = {"adadelta": 1.0, "adagrad": 0.1}


def _gradient(step: int, size: int) -> np.ndarray:
    """The same gradients for everyone: some large, some tiny, some zero."""
    rng = np.random.default_rng([step, size])
    return rng.normal(size=size) * 10.0 ** rng.integers(-4, 2, size) * (rng.random(size) > 0.1)


# The textbook, in long double and one vector a symbol: t counts from 1, `k` holds what is kept.
Keep = dict[str, Any]


def _velocity(k: Keep, g: Any, mu: Any) -> Any:
    k["velocity"] = k["velocity"] * mu + g
    return k["velocity"]


def _textbook_adadelta(k: Keep, g: Any, t: int, rho: Any, eps: Any) -> Any:
    """Zeiler (2012), algorithm 1."""
    k["square_average"] = rho * k["square_average"] + (1 - rho) * g**2
    root_delta = np.sqrt(k["delta_average"] + eps)
    root_gradient = np.sqrt(k["square_average"] + eps)
    delta = root_delta / root_gradient * g
    k["delta_average"] = rho * k["delta_average"] + (1 - rho) * delta**2
    return delta


def _textbook_adagrad(k: Keep, g: Any, t: int, eps: Any) -> Any:
    k["square_sum"] = k["square_sum"] + g**2
    return g / (np.sqrt(k["square_sum"]) + eps)


def _textbook_rmsprop(k: Keep, g: Any, t: int, alpha: Any, eps: Any) -> Any:
    k["square_average"] = alpha * k["square_average"] + (1 - alpha) * g**2
    return g / (np.sqrt(k["square_average"]) + eps)


def _textbook_adam(k: Keep, g: Any, t: int, beta1: Any, beta2: Any, eps: Any) -> Any:
    """Kingma and Ba (2015), algorithm 1."""
    k["first_moment"] = beta1 * k["first_moment"] + (1 - beta1) * g
    k["second_moment"] = beta2 * k["second_moment"] + (1 - beta2) * g**2
    m_hat = k["first_moment"] / (1 - beta1**t)
    v_hat = k["second_moment"] / (1 - beta2**t)
    return m_hat / (np.sqrt(v_hat) + eps)


def _classical_momentum(k: Keep, g: Any, t: int, mu: Any, lr: Any) -> Any:
    """Sutskever et al. (2013), equations 1 and 2; minus what they add, over the rate."""
    k["velocity"] = mu * k["velocity"] - lr * g
    return -k["velocity"] / lr


def _classical_nesterov(k: Keep, g: Any, t: int, mu: Any, lr: Any) -> Any:
    k["velocity"] = mu * k["velocity"] - lr * g
    return g - mu * k["velocity"] / lr


def _adam_epsilon_hat(k: Keep, g: Any, t: int, beta1: Any, beta2: Any, eps: Any) -> Any:
    """Kingma and Ba (2015), end of section 2."""
    _textbook_adam(k, g, t, beta1, beta2, eps)
    rate = np.sqrt(1 - beta2**t) / (1 - beta1**t)
    return rate * k["first_moment"] / (np.sqrt(k["second_moment"]) + eps)


TEXTBOOK: dict[str, Callable[..., Any]] = {
    "sgd": lambda k, g, t: g,
    "momentum": lambda k, g, t, mu: _velocity(k, g, mu),
    "nesterov": lambda k, g, t, mu: g + mu * _velocity(k, g, mu),
    "adagrad": _textbook_adagrad,
    "adadelta": _textbook_adadelta,
    "rmsprop": _textbook_rmsprop,
    "adam": _textbook_adam,
    "classical_momentum": _classical_momentum,
    "classical_nesterov": _classical_nesterov,
    "adam_epsilon_hat": _adam_epsilon_hat,
}
KEEPS_STEPS = ("classical_momentum", "classical_nesterov")
HYPER = {
    "sgd": [],
    "momentum": [0.9],
    "nesterov": [0.9],
    "adagrad": [1e-10],
    "adadelta": [0.9, 1e-6],
    "rmsprop": [0.99, 1e-8],
    "adam": [0.9, 0.999, 1e-8],
    "classical_momentum": [0.9],
    "classical_nesterov": [0.9],
    "adam_epsilon_hat": [0.9, 0.999, 1e-8],
}


@pytest.mark.parametrize("run", [update, reference_update])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("l2", "shrink"), [(0.0, 1.0), (0.02, 1.0), (0.0, 0.999)])
def test_a_thousand_steps_follow_the_textbook(
    name: str, l2: float, shrink: float, run: Callable[..., None]
) -> None:
    """Parameters and state to 1e-12 max(1, |exact|): 1000 steps of a few roundings of 1.1e-16."""
    size = 37
    lr = LR.get(name, 1e-2)
    w = np.random.default_rng(0).normal(size=size)
    state = np.zeros((len(UPDATES[name].rows), size))
    exact = w.astype(np.longdouble)
    kept = {row: np.zeros(size, np.longdouble) for row in UPDATES[name].rows}
    hyper = [np.longdouble(value) for value in HYPER[name]]
    for t in range(1, STEPS + 1):
        g = _gradient(t, size)
        run(name, w, g, state, step=t, lr=lr, l2=l2, shrink=shrink)
        penalised = g.astype(np.longdouble) + np.longdouble(l2) * exact
        rate = [np.longdouble(lr)] if name in KEEPS_STEPS else []
        direction = TEXTBOOK[name](kept, penalised, t, *hyper, *rate)
        exact = np.longdouble(shrink) * exact - np.longdouble(lr) * direction
    wanted = [(w, exact), *((state[i], kept[row]) for i, row in enumerate(kept))]
    for got, want in wanted:
        assert (np.abs(got - want) <= 1e-12 * np.maximum(1, np.abs(want))).all()


def _torch_optimizer(torch: Any, name: str, w: Any, lr: float) -> Any:
    name = name.removeprefix("classical_")
    make = {
        "sgd": lambda: torch.optim.SGD([w], lr=lr),
        "momentum": lambda: torch.optim.SGD([w], lr=lr, momentum=0.9),
        "nesterov": lambda: torch.optim.SGD([w], lr=lr, momentum=0.9, nesterov=True),
        "adagrad": lambda: torch.optim.Adagrad([w], lr=lr),
        "adadelta": lambda: torch.optim.Adadelta([w], lr=lr),
        "rmsprop": lambda: torch.optim.RMSprop([w], lr=lr),
        "adam": lambda: torch.optim.Adam([w], lr=lr),
        "adamw": lambda: torch.optim.AdamW([w], lr=lr, weight_decay=0.01),
    }
    return make[name]()


PYTORCHS = [name for name in NAMES if name != "adam_epsilon_hat"]  # its eps weighs otherwise


@pytest.mark.parametrize("name", [*PYTORCHS, "adamw"])
def test_it_is_what_pytorch_computes(name: str) -> None:
    """float32 with the defaults of both, to 1e-5 max(1, |w|) after 1000 steps.

    While the rate is constant, classical momentum is PyTorch's, with v times -lr.
    """
    torch = pytest.importorskip("torch")
    size, lr = 37, LR.get(name, 1e-2)
    w = np.random.default_rng(0).normal(size=size).astype(np.float32)
    theirs = torch.tensor(w.copy(), requires_grad=True)
    optimizer = _torch_optimizer(torch, name, theirs, lr)
    ours, shrink = ("adam", 1 - lr * 0.01) if name == "adamw" else (name, 1.0)
    state = np.zeros((len(UPDATES[ours].rows), size), np.float32)
    for t in range(1, STEPS + 1):
        g = _gradient(t, size).astype(np.float32)
        theirs.grad = torch.tensor(g)
        optimizer.step()
        update(ours, w, g, state, step=t, lr=lr, shrink=shrink)
    want = theirs.detach().numpy()
    assert (np.abs(w - want) <= 1e-5 * np.maximum(1, np.abs(want))).all()


def _problem(name: str, dtype: str, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    w, g = rng.normal(size=(2, size)).astype(dtype)
    state = rng.random((len(UPDATES[name].rows), size)).astype(dtype)
    return w, g, state


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_no_cut_changes_a_bit(name: str, dtype: str) -> None:
    """Cut at random places, each part with a gradient block of its own, against one pass."""
    size, code = 1031, UPDATES[name].code
    w, g, state = _problem(name, dtype, size)
    hyper = np.zeros(4)
    hyper[: len(HYPER[name])] = HYPER[name]
    rates = np.zeros(bodies.RATES, dtype)
    prepare_rates(code, hyper, 0.01, 3, rates)
    once, once_state = w.copy(), state.copy()
    update_rows(code, once, g, once_state, rates, 0.02, 0.999, 0, 0, size, rates)
    assert not (once == w).any()
    rng = np.random.default_rng(6)
    for _ in range(10):
        cuts = [0, *np.sort(rng.integers(0, size, 12)).tolist(), size]
        cut, cut_state = w.copy(), state.copy()
        for lo, hi in itertools.pairwise(cuts):
            block = g[lo:hi].copy()
            update_rows(code, cut, block, cut_state, rates, 0.02, 0.999, lo, 0, hi - lo, rates)
        assert cut.tobytes() == once.tobytes()
        assert cut_state.tobytes() == once_state.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 16, 17, 30, 37, 48])
@pytest.mark.parametrize("name", NAMES)
def test_an_outer_product_is_applied_as_if_it_were_formed(name: str, n: int, dtype: str) -> None:
    """The gradient of W for one sample, a delta^T: the bits of the update by the whole matrix."""
    rows, code = 23, UPDATES[name].code
    w, g, state = _problem(name, dtype, rows * n + 11)
    a, delta = g[:rows].copy(), g[rows : rows + n].copy()
    a[4] = 0
    hyper = np.zeros(4)
    hyper[: len(HYPER[name])] = HYPER[name]
    rates = np.zeros(bodies.RATES, dtype)
    prepare_rates(code, hyper, 0.01, 3, rates)
    formed, formed_state = w.copy(), state.copy()
    whole = np.outer(a, delta).ravel()
    update_rows(code, formed, whole, formed_state, rates, 0.02, 1.0, 7, 0, rows * n, rates)
    outer, outer_state = w.copy(), state.copy()
    twice = np.resize(delta, n + REPEATED)
    update_rows(code, outer, twice, outer_state, rates, 0.02, 1.0, 7, rows, n, a)
    assert outer.tobytes() == formed.tobytes()
    assert outer_state.tobytes() == formed_state.tobytes()
    assert (outer[:7] == w[:7]).all()
    assert (outer[7 + rows * n :] == w[7 + rows * n :]).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_parallel_shares_give_the_bits_of_one(name: str) -> None:
    dtype = "float32"  # one is enough: each parallel region takes seconds to compile
    size, code = 3 * FLAT + 7, UPDATES[name].code
    w, g, state = _problem(name, dtype, size)
    rates = np.full(bodies.RATES, 0.1, dtype)
    found = set()
    for parts in (1, 2, 3, 5):
        cut, cut_state = w.copy(), state.copy()
        bodies._update_shares(code, cut, g, cut_state, rates, 0.0, 1.0, parts)
        found.add(cut.tobytes() + cut_state.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_nan_and_inf_reach_their_own_parameter_alone(name: str, dtype: str) -> None:
    w, g, state = _problem(name, dtype, 40)
    g[3], g[38] = np.nan, np.inf
    update(name, w, g, state, step=1, lr=0.1)
    touched = ~np.isfinite(w)
    # Where the gradient is scaled by its own size, inf / inf is NaN.
    assert touched[[3, 38]].all()
    assert touched.sum() == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaling_and_clipping(dtype: str) -> None:
    g = np.random.default_rng(0).normal(size=77).astype(dtype)
    g[10], g[11], g[12] = np.nan, np.inf, -np.inf
    scaled, clipped = g.copy(), g.copy()
    scale_span(scaled, 0.5, 5, 70)
    want = np.concatenate([g[:5], g[5:70] * g.dtype.type(0.5), g[70:]])
    np.testing.assert_array_equal(scaled, want)
    clip_value_span(clipped, 0.25, 5, 70)
    want = np.concatenate([g[:5], np.clip(g[5:70], -0.25, 0.25), g[70:]])
    np.testing.assert_array_equal(clipped, want)
    assert np.isnan(clipped[10])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 15, 31, 32, 33, 1000, 4096])
def test_sums_of_squares_are_float64_and_in_one_order(dtype: str, size: int) -> None:
    """n / 32 + 5 roundings of 1.1e-16 of a sum of positive terms; the offset changes no bit."""
    x = np.random.default_rng(0).normal(size=size + 9).astype(dtype)
    got = square_sum_block(x, 4, 4 + size)
    want = math.fsum(float(v) ** 2 for v in x[4 : 4 + size])
    assert abs(got - want) <= (size / 32 + 6) * 2.0**-53 * want
    assert got == square_sum_block(x[4 : 4 + size].copy(), 0, size)


def test_a_float32_sum_of_squares_does_not_overflow() -> None:
    assert square_sum_block(np.full(3, 1e38, np.float32), 0, 3) == pytest.approx(3e76)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adm"}, "optimizer: unknown name 'adm'; did you mean 'adam'"),
        ({"step": 0}, r"step: expected an integer from 1 to 2\^63 - 1, got 0"),
        ({"lr": -1.0}, "lr: expected a finite number >= 0, got -1.0"),
        ({"beta1": 1.0}, r"beta1: expected a number in \[0, 1\), got 1.0"),
        ({"eps": -1.0}, "eps: expected a finite number >= 0, got -1.0"),
        ({"rho": 0.9}, "rho: is no hyperparameter of adam; it has: beta1, beta2, eps"),
        ({"state": np.zeros((1, 4))}, r"state: expected shape \(2, 4\), got \(1, 4\)"),
        ({"parameters": None}, "parameters: expected a NumPy array, got None"),
        ({"parameters": np.ones(4, "f")}, "parameters: expected float64 like the other arrays"),
    ],
)
def test_bad_arguments_are_named_and_nothing_moves(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "optimizer": "adam", "parameters": np.ones(4), "gradient": np.ones(4),
        "state": np.zeros((2, 4)), "step": 1, "lr": 0.1,
    }  # fmt: skip
    before = given["parameters"]
    with pytest.raises((ValueError, TypeError), match=message):
        update(**{**given, **change})
    assert (before == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in NAMES if dict(UPDATES[n].hyper).get("eps")])
def test_the_smallest_eps_divides_nothing_by_nothing(name: str, dtype: str) -> None:
    """A denormal counts as 0, and a gradient of 0 has a root of 0."""
    w, rows = np.ones(40, dtype), np.zeros((len(UPDATES[name].rows), 40), dtype)
    gradient = np.zeros(40, dtype)
    gradient[0] = 1.0
    hyper = {**dict(UPDATES[name].hyper), "eps": 5e-324 if dtype == "float64" else 1e-45}
    for step in (1, 2):
        update(name, w, gradient, rows, step=step, lr=0.1, **hyper)
    assert (w[1:] == 1.0).all()
    assert np.isfinite(w[0])


@pytest.mark.parametrize("run", [update, reference_update])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in NAMES if dict(UPDATES[n].hyper).get("eps")])
def test_an_eps_of_0_is_0(name: str, dtype: str, run: Any) -> None:
    """It may be wanted: then a gradient that has been 0 from the start is divided by 0."""
    w, rows = np.ones(40, dtype), np.zeros((len(UPDATES[name].rows), 40), dtype)
    gradient = np.zeros(40, dtype)
    gradient[0] = 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        run(name, w, gradient, rows, step=1, lr=0.1, **{**dict(UPDATES[name].hyper), "eps": 0.0})
    assert np.isnan(w[1:]).all()
    assert np.isfinite(w[0])


def test_a_step_that_no_int64_holds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"step: expected an integer from 1 to 2\^63 - 1"):
        update("sgd", np.ones(1), np.ones(1), np.empty((0, 1)), step=2**80, lr=0.1)


def test_a_small_eps_of_a_double_is_kept() -> None:
    rates = np.zeros(bodies.RATES)
    prepare_rates(UPDATES["rmsprop"].code, np.array([0.9, 1e-100, 0, 0]), 0.1, 1, rates)
    assert rates[3] == 1e-100
