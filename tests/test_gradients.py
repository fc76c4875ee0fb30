"""Gradients of random networks against central differences and the complex step.

The bounds are shares of a network's largest gradient. Central differences, extrapolated, err by
O(h^4) and by eps |loss| / h: at h = 1e-5 about 3e-11. The complex step has no such errors; what is
left is the rounding of two backward passes, some tens of eps times a condition below 1e3.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import BatchNorm, Dense, Network, check_gradients
from fastbp.kernels.tables import ACTIVATIONS, LOSSES
from fastbp.losses import output_range

NETWORKS, ANALYTIC, GROUP = 330, 120, 10
NORMS = [False, *(BatchNorm(p, f) for p in ("before", "after") for f in ("sqrt", "sigma"))]
SMOOTH = [name for name, entry in ACTIVATIONS.items() if entry.analytic]


def _fits(loss: str, last: Dense) -> bool:
    low, high = output_range(last)
    return LOSSES[loss].low <= low and high <= LOSSES[loss].high


def _case(
    index: int, names: list[str], losses: list[str]
) -> tuple[Network, Any, Any, dict[str, Any]]:
    """A network with everything drawn, its data and the options of the check.

    Depth, activations, losses and norms go round with the index, so that each is met often. The
    activations go round the faster of the losses' steps: all pairs of the two turn up.
    """
    rng = np.random.default_rng([7, index])
    depth = 1 + index % 4
    layers = []
    for position in range(depth):
        dropout = float(rng.choice([0.0, 0.0, 0.3]))
        units, activation = (
            int(rng.integers(2, 6)),
            names[(index + index // 12 + 3 * position) % len(names)],
        )
        norm = NORMS[(index // 2 + position) % len(NORMS)] if rng.random() < 0.5 else False
        layers.append(
            Dense(units, activation, batch_norm=norm, dropout=dropout, bias_init="normal")
        )
    loss = losses[index % len(losses)]
    if not _fits(loss, layers[-1]):
        layers[-1] = replace(layers[-1], dropout=0.0, batch_norm=NORMS[index % 3])
    if not _fits(loss, layers[-1]):
        ends = ["softplus", "exp"] if loss == "poisson" else ["sigmoid", "softmax"]
        layers[-1] = replace(layers[-1], activation=ends[index // 2 % 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a step function at the end
        net = Network(
            int(rng.integers(1, 6)),
            layers,
            loss=loss,
            dtype="float64",
            seed=index,
            reduction=["mean", "sum"][index // 3 % 2],
        )
    rows, k = int(rng.integers(5, 12)), layers[-1].units
    for layer in net.layers:
        if layer.gamma is not None:
            layer.gamma = rng.uniform(0.5, 1.5, layer.units)
            layer.beta = rng.normal(size=layer.units)
            layer.running_mean = rng.normal(size=layer.units)
            layer.running_variance = rng.uniform(0.5, 2.0, layer.units)
    X = rng.normal(size=(rows, net.inputs))
    y: Any = rng.integers(0, k, rows)
    if rng.random() < 0.5:
        y = rng.uniform(0.05, 0.95, (rows, k))
    weights = rng.uniform(0.0, 2.0, rows) if rng.random() < 0.5 else None
    options = {"sample_weight": weights, "training": bool(rng.random() < 0.8), "seed": index + 1}
    return net, X, y, options


@pytest.mark.parametrize("group", range(NETWORKS // GROUP))
def test_central_differences(group: int) -> None:
    kinks = checked = 0
    for index in range(group * GROUP, (group + 1) * GROUP):
        net, X, y, options = _case(index, list(ACTIVATIONS), list(LOSSES))
        result = check_gradients(net, X, y, **options)
        assert result.error <= 1e-8, (index, net, result)
        assert result
        kinks, checked = kinks + len(result.kinks), checked + result.checked
    assert kinks <= 0.02 * checked


@pytest.mark.parametrize("group", range(ANALYTIC // GROUP))
def test_complex_step(group: int) -> None:
    smooth = [name for name, entry in LOSSES.items() if entry.smooth]
    for index in range(group * GROUP, (group + 1) * GROUP):
        net, X, y, options = _case(1000 + index, SMOOTH, smooth)
        result = check_gradients(net, X, y, method="complex", **options)
        assert result.error <= 1e-12, (index, net, result)
        assert result.checked == net.parameters.size
        assert not result.kinks


def test_the_random_networks_cover_the_ground() -> None:
    met: Counter[Any] = Counter()
    for index in range(NETWORKS):
        net, _, y, options = _case(index, list(ACTIVATIONS), list(LOSSES))
        met[len(net.layers)] += 1
        met[net.loss_name] += 1
        met[net.reduction] += 1
        met["weights"] += options["sample_weight"] is not None
        met["dropout"] += options["training"] and any(layer.dropout for layer in net.layers)
        met["inference"] += not options["training"]
        met["labels"] += np.ndim(y) == 1
        for layer in net.layers:
            place = "last" if layer.index == len(net.layers) - 1 else "hidden"
            met[layer.activation, place] += 1
            if layer.batch_norm:
                met[layer.batch_norm.position, layer.batch_norm.form] += 1
    wanted = [1, 2, 3, 4, *LOSSES, "mean", "sum", "weights", "dropout", "inference", "labels"]
    wanted += [(name, place) for name in ACTIVATIONS for place in ("hidden", "last")]
    wanted += [(norm.position, norm.form) for norm in NORMS[1:]]
    assert {name: met[name] for name in wanted if met[name] < 5} == {}


# --- what the check itself is worth ---------------------------------------------------------------


@pytest.mark.parametrize("method", ["central", "complex"])
@pytest.mark.parametrize(
    ("place", "name"),
    [(0, "layers.0.W[0, 0]"), (7, "layers.0.W[1, 3]"), (20, "layers.1.W[2, 0]")],
)
def test_a_wrong_gradient_is_caught_and_named(
    monkeypatch: pytest.MonkeyPatch, place: int, name: str, method: str
) -> None:
    net = Network(3, [Dense(4, "tanh"), Dense(2, "softmax")], seed=1)
    right = Network.gradients

    def wrong(self: Network, *args: Any, **kwargs: Any) -> Any:
        gradient = right(self, *args, **kwargs)
        gradient[place] += 1e-6
        return gradient

    X, y = np.eye(3), [0, 1, 1]
    assert check_gradients(net, X, y, method=method)
    monkeypatch.setattr(Network, "gradients", wrong)
    result = check_gradients(net, X, y, method=method)
    assert not result
    assert result.worst == name
    assert 1e-7 < result.error < 1e-4


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu"])
def test_a_wrong_slope_is_no_kink(monkeypatch: pytest.MonkeyPatch, activation: str) -> None:
    net = Network(3, [Dense(5, activation), Dense(1)], dtype="float64", seed=3)
    right = Network.gradients
    monkeypatch.setattr(Network, "gradients", lambda self, *a, **k: 1.01 * right(self, *a, **k))
    result = check_gradients(net, np.eye(3), [1.0, 2.0, 3.0])
    assert not result
    assert result.kinks == ()
    assert result.error == pytest.approx(0.01 / 1.01, rel=1e-6)


def test_a_gradient_that_is_nan_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network(2, [Dense(1)], dtype="float64")
    monkeypatch.setattr(Network, "gradients", lambda self, *a, **k: np.full(3, np.nan))
    result = check_gradients(net, np.eye(2), [0.0, 1.0])
    assert not result
    assert result.kinks == ()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "step"])
def test_kinks_are_found_not_failed_on(activation: str) -> None:
    """The bias is such that a pre-activation is exactly 0: every step straddles the kink."""
    net = Network(1, [Dense(2, activation), Dense(1)], dtype="float64", seed=2)
    net.layers[0].W[...] = [[1.0, 1.0]]
    net.layers[0].b[...] = [-1.0, 0.5]
    net.layers[1].W[...] = [[1.0], [1.0]]
    result = check_gradients(net, [[1.0], [2.0]], [5.0, 7.0])
    assert result
    assert result.kinks == ("layers.0.W[0, 0]", "layers.0.b[0]")
    assert result.checked == net.parameters.size - 2


def test_the_kink_of_an_absolute_error_is_found() -> None:
    net = Network(1, [Dense(1)], loss="absolute_error", dtype="float64")
    net.parameters = [2.0, 0.0]
    result = check_gradients(net, [[1.0], [2.0]], [2.0 + 1e-8, 7.0])
    assert result.kinks == ("layers.0.W[0, 0]", "layers.0.b[0]")
    assert check_gradients(net, [[1.0], [2.0]], [2.5, 7.0]).kinks == ()
    # At the kink itself the slope is taken as 0, and so it is by differences.
    assert check_gradients(net, [[1.0], [2.0]], [2.0, 7.0]).kinks == ()


def test_a_kink_within_the_first_step_costs_a_smaller_one() -> None:
    net = Network(1, [Dense(1, "relu"), Dense(1)], dtype="float64")
    net.parameters = [1.0, -1.0 + 3e-4, 1.0, 0.0]  # z = 3e-4, crossed by the step 1e-3
    result = check_gradients(net, [[1.0]], [5.0])
    assert result
    assert result.kinks == ()


def test_a_network_is_not_changed_by_the_check() -> None:
    net = Network(3, [Dense(4, "relu", batch_norm=True, dropout=0.5), Dense(2, "softmax")], seed=5)
    before = {name: view.copy() for name, view in net.tensors().items()}
    assert check_gradients(net, np.random.default_rng(0).normal(size=(8, 3)), np.arange(8) % 2)
    assert net.dtype == np.float32
    for name, view in net.tensors().items():
        assert view.tobytes() == before[name].tobytes(), name


def test_a_selection_of_parameters() -> None:
    net = Network(10, [Dense(20, "tanh"), Dense(3, "softmax")], seed=1)
    result = check_gradients(net, np.eye(10), np.arange(10) % 3, parameters=17)
    assert result
    assert result.checked == 17


@pytest.mark.parametrize(
    ("layers", "loss", "named"),
    [([Dense(2, "relu"), Dense(1)], None, "layer 0 is 'relu'"),
     ([Dense(2, "tanh"), Dense(1)], "absolute_error", "the loss is 'absolute_error'")],
)  # fmt: skip
def test_the_complex_step_refuses_what_is_not_analytic(
    layers: list[Dense], loss: str | None, named: str
) -> None:
    net = Network(2, layers, loss=loss)
    with pytest.raises(ValueError, match=f"{named}; use method='central'"):
        check_gradients(net, np.eye(2), [0.0, 1.0], method="complex")


def test_every_gradient_below_a_step_is_zero() -> None:
    net = Network(3, [Dense(4, "tanh"), Dense(5, "step"), Dense(2, "softmax")], seed=1)
    gradient = net.gradients(np.eye(3), [0, 1, 0])
    below = net.layers[0].W.size + net.layers[0].b.size + net.layers[1].W.size + 5
    assert not gradient[:below].any()
    assert gradient[below:].any()
    with pytest.warns(UserWarning, match="layer 1, the last, is a step function"):
        last = Network(3, [Dense(4, "tanh"), Dense(2, "step")], loss="squared_error")
    assert not last.gradients(np.eye(3), [0, 1, 0]).any()


def test_public_names() -> None:
    assert fastbp.check_gradients is check_gradients


@pytest.mark.parametrize("method", ["central", "complex"])
def test_a_gradient_that_is_zero_is_right(method: str) -> None:
    """To the rounding of the losses: at a perfect fit, and where samples cancel."""
    X = np.random.default_rng(0).standard_normal((6, 3))
    net = Network(3, [Dense(4, "tanh"), Dense(1)], dtype="float64", seed=1)
    assert check_gradients(net, X, net.forward(X), method=method)
    line = Network(3, [Dense(1)], dtype="float64")
    design = np.column_stack([X, np.ones(6)])
    best, *_ = np.linalg.lstsq(design, X[:, :1] ** 2, rcond=None)
    line.layers[0].W, line.layers[0].b = best[:3], best[3]
    assert check_gradients(line, X, X[:, :1] ** 2, method=method)


@pytest.mark.parametrize("unit", [1e-5, 1.0, 1e5])
def test_large_targets_are_no_wrong_gradients(monkeypatch: pytest.MonkeyPatch, unit: float) -> None:
    """House prices: the losses are 1e11, and round to 1e-5."""
    net = Network(3, [Dense(4, "tanh"), Dense(1)], seed=1)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(6, 3)), unit * rng.uniform(1e5, 5e5, 6)
    found = check_gradients(net, X, y)
    assert found
    assert (found.resolution > 1e-8) == (unit >= 1.0)
    gradients = Network.gradients
    for share, right in ((1e-10, True), (max(1e-5, 1e-5 * unit), False)):
        monkeypatch.setattr(
            Network, "gradients", lambda *a, s=share, **k: (1.0 + s) * gradients(*a, **k)
        )
        assert bool(check_gradients(net, X, y)) == right


def test_a_small_gradient_that_is_wrong_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).standard_normal((6, 3))
    net = Network(3, [Dense(4, "tanh"), Dense(1)], dtype="float64", seed=1)
    targets = net.forward(X) + 1e-7
    assert check_gradients(net, X, targets)
    right = Network.gradients
    monkeypatch.setattr(Network, "gradients", lambda *a, **k: 1.001 * right(*a, **k))
    assert not check_gradients(net, X, targets)
