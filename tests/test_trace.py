"""`net.trace`: the quantities of the notes, by name and layer, and the gradient that they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_fits import labelled

from fastbp import BatchNorm, Dense, Network, notes
from fastbp.kernels.tables import ACTIVATIONS, LOSSES


def test_a_trace_looks_at_the_rows_of_a_memory_map(tmp_path: Path) -> None:
    rows = np.ones((3, 2), np.float32)
    rows[2, 1] = -np.inf
    np.save(tmp_path / "X.npy", rows)
    net = Network(2, [Dense(4, "relu"), Dense(1)])
    with pytest.raises(ValueError, match=r"X\[2, 1\]=-inf"):
        net.trace(np.load(tmp_path / "X.npy", mmap_mode="r"), [0.0, 0.0, 0.0])


def _flat(net: Network, trace: Any) -> Any:
    parts = []
    for index, layer in enumerate(net.layers):
        for name, key in (
            ("W", "dL/dW"),
            ("b", "dL/dW0"),
            ("gamma", "dL/dgamma"),
            ("beta", "dL/dbeta"),
        ):
            if getattr(layer, name) is not None:
                parts.append(np.ravel(trace[key][index]))
    return np.concatenate(parts)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "norm", [False, *(BatchNorm(p, f) for p in ("before", "after") for f in ("sqrt", "sigma"))]
)
def test_a_trace_holds_the_gradient(norm: Any, training: bool) -> None:
    layers = [
        Dense(5, "gelu", batch_norm=norm, dropout=0.3),
        Dense(4, "softmax", dropout=0.2),
        Dense(3, "tanh", batch_norm=norm),
    ]
    net = Network(6, layers, dtype="float64", seed=3)
    for layer in net.layers:
        if layer.gamma is not None:
            layer.running_mean, layer.running_variance = 0.3, 0.8
    X, y = labelled()
    trace = net.trace(X, y, training=training, seed=11)
    gradient = net.gradients(X, y, training=training, seed=11)
    # Two roundings of the same sums: a few eps of the largest.
    assert np.abs(_flat(net, trace) - gradient).max() <= 1e-13 * np.abs(gradient).max()
    assert trace["loss"][0].mean() == pytest.approx(
        net.loss(X, y, training=training, seed=11), rel=1e-13
    )
    assert np.allclose(trace["output"][-1], net.forward(X, training=training, seed=11), rtol=1e-13)
    for index, activation in enumerate(("gelu", "softmax", "tanh")):
        if activation == "softmax":
            dU = np.einsum("ijk,ik->ij", trace["dA/dZ"][index], trace["dL/dA"][index])
        else:
            dU = trace["dA/dZ"][index] * trace["dL/dA"][index]
        if not net.layers[index].batch_norm or norm.position == "after":
            assert np.allclose(dU, trace["dL/dZ"][index], rtol=1e-11, atol=1e-15)


NOTES_PAIRS = [
    (activation, loss)
    for activation in ACTIVATIONS
    for loss in LOSSES
    if ACTIVATIONS[activation].low >= LOSSES[loss].low
    and ACTIVATIONS[activation].high <= LOSSES[loss].high
    and activation != "step"
    and (activation, loss) != ("relu", "poisson")  # relu gives 0, where the notes' 1/a is not held
]


@pytest.mark.parametrize(("activation", "loss"), NOTES_PAIRS)
def test_one_sample_is_the_notes_chain_of_jacobians(activation: str, loss: str) -> None:
    net = Network(
        4, [Dense(5, activation), Dense(3, "tanh"), Dense(2, activation)],
        loss=loss, dtype="float64", seed=2, reduction="sum",
    )  # fmt: skip
    rng = np.random.default_rng(1)
    for layer in net.layers:
        layer.b = rng.normal(size=layer.units)
    x, y = rng.normal(size=4), np.array([0.25, 0.75])
    layers = [(layer.W, notes.column(layer.b), layer.activation) for layer in net.layers]
    records = notes.trace(layers, notes.column(x), notes.column(y), loss)
    trace = net.trace(x[None], y[None])
    gradient = net.gradients(x[None], y[None])
    largest = np.abs(gradient).max()
    for index, record in enumerate(records[1:]):
        for name in ("Z", "A", "dL/dA", "dL/dZ", "dL/dW0"):
            assert np.allclose(
                np.ravel(trace[name][index]), record[name].ravel(), rtol=1e-11, atol=1e-13 * largest
            )
        jacobian = trace["dA/dZ"][index][0]
        jacobian = jacobian if jacobian.ndim == 2 else np.diag(jacobian)
        assert np.allclose(jacobian, record["dA/dZ"], rtol=1e-11, atol=1e-14)
        assert np.allclose(trace["dL/dW"][index], record["dL/dW"], rtol=1e-11, atol=1e-13 * largest)
        chained = notes.chain_product(records, index + 1)
        assert np.allclose(
            trace["dL/dZ"][index].ravel(), chained.ravel(), rtol=1e-10, atol=1e-13 * largest
        )
    assert np.abs(_flat(net, trace) - gradient).max() <= 1e-13 * largest


@pytest.mark.parametrize(
    ("units", "output", "loss", "logit", "label", "wanted"),
    [
        (1, "sigmoid", "nll", 30.0, 0, 30.0), (2, "softmax", "cross_entropy", 100.0, 1, 200.0),
        (1, "exp", "poisson", -200.0, 3, 600.0),
    ],
)  # fmt: skip
def test_losses_from_logits_are_those_of_training(
    units: int, output: str, loss: str, logit: float, label: int, wanted: float
) -> None:
    """Beyond what the outputs, held off 0 and 1, can tell."""
    net = Network(1, [Dense(units, output)], loss=loss, dtype="float32")
    net.layers[0].W[:] = [[1.0, -1.0]] if units == 2 else 1.0
    found = net.trace([[logit]], [label])["loss"][0]
    assert found == pytest.approx([net.loss([[logit]], [label])], rel=1e-6)
    assert found == pytest.approx([wanted], rel=1e-2)


def test_targets_of_a_memory_map_are_looked_at(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.array([[1.0], [np.nan]], np.float32))
    y = np.load(tmp_path / "y.npy", mmap_mode="r")
    with pytest.raises(ValueError, match=r"y\[1, 0\]=nan is not finite"):
        Network(2, [Dense(1)]).trace([[1, 2], [3, 4]], y)
