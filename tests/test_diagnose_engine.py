"""The diagnosis on what the compiled loop records: ten sick networks, and ten healthy ones.

test_diagnose.py does the same with a network in NumPy, and tries the limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import Dense, Network, Trainer
from fastbp.kernels.tables import ACTIVATIONS

SIZES = (20, 48, 32, 24, 5)


def _data(kind: str = "classes") -> tuple[Any, Any]:
    """Inputs (320, 20) of variance 1, and targets that a network can learn."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((320, 20))
    scores = np.tanh(X @ rng.standard_normal((20, 4))) @ rng.standard_normal((4, 5))
    if kind == "values":
        return X, scores[:, :1]
    if kind == "binary":
        return X, (scores[:, 0] > 0).astype(np.int64)
    return X, scores.argmax(axis=1)


def _net(
    sizes: Sequence[int] | None, hidden: str, output: str = "softmax", **fields: Any
) -> Network:
    widths = sizes or SIZES
    layers = [Dense(n, hidden, **fields) for n in widths[1:-1]]
    return Network(widths[0], [*layers, Dense(widths[-1], output)], seed=len(widths))


def _scale(layer: int, factor: float) -> Callable[[Network], None]:
    return lambda net: net.layers[layer].W.__imul__(factor)


def _shift(layer: int, value: float) -> Callable[[Network], None]:
    return lambda net: net.layers[layer].b.__iadd__(value)


def _scale_all(factor: float) -> Callable[[Network], None]:
    return lambda net: [layer.W.__imul__(factor) for layer in net.layers] and None


# Sizes, activation, what is planted; the layer to blame and the kind.
PLANTED: dict[str, tuple[Sequence[int] | None, str, Callable[[Network], None], int, str]] = {
    "relu, weights 1e-4": (None, "relu", _scale(2, 1e-4), 2, "vanishing"),
    "tanh, weights 1e-4": (None, "tanh", _scale(1, 1e-4), 1, "vanishing"),
    "sigmoid, output weights 1e-4": (None, "sigmoid", _scale(3, 1e-4), 3, "vanishing"),
    "relu, weights x 100": (None, "relu", _scale(1, 100.0), 1, "exploding"),
    "tanh, weights x 100": (None, "tanh", _scale(2, 100.0), 2, "exploding"),
    "gelu, weights x 100": (None, "gelu", _scale(1, 100.0), 1, "exploding"),
    "sigmoid saturated": (None, "sigmoid", _shift(1, 30.0), 1, "vanishing"),
    "tanh saturated": (None, "tanh", _shift(0, -20.0), 0, "vanishing"),
    "dead relu": (None, "relu", _shift(1, -100.0), 1, "dead"),
    "eight sigmoid": ((20, *[24] * 8, 5), "sigmoid", _scale(0, 1.0), 0, "vanishing"),
    "large weights": ((20, *[24] * 6, 5), "relu", _scale_all(4.0), 0, "exploding"),
}


@pytest.mark.parametrize("optimizer", [fastbp.SGD(1e-3), fastbp.Adam(1e-3)], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", PLANTED)
def test_the_planted_layer_is_named(name: str, optimizer: Any) -> None:
    sizes, hidden, plant, layer, kind = PLANTED[name]
    net = _net(sizes, hidden)
    plant(net)
    trainer = Trainer(net, optimizer, batch_size=32)
    trainer.fit(*_data(), epochs=3)
    diagnosis = trainer.history.diagnose()
    assert [(finding.layer, finding.kind) for finding in diagnosis] == [(layer, kind)]
    assert f"ayer {layer} " in str(diagnosis) or f"ayers {layer} " in str(diagnosis)


# Sizes, hidden activation, output, kind of data, fields of the hidden layers, epochs.
HEALTHY: dict[str, tuple[Sequence[int] | None, str, str, str, dict[str, Any], int]] = {
    "relu": (None, "relu", "softmax", "classes", {}, 4),
    "tanh": (None, "tanh", "softmax", "classes", {}, 4),
    "gelu": (None, "gelu", "softmax", "classes", {}, 4),
    "leaky relu": (None, "leaky_relu", "softmax", "classes", {}, 4),
    "two sigmoid": ((20, 32, 32, 5), "sigmoid", "softmax", "classes", {}, 4),
    "eight relu": ((20, *[32] * 8, 5), "relu", "softmax", "classes", {}, 4),
    "widths up and down": ((20, 256, 8, 128, 5), "relu", "softmax", "classes", {}, 4),
    "converged": ((20, 32, 32, 5), "tanh", "softmax", "classes", {}, 150),
    "regression": ((20, 32, 32, 1), "relu", "identity", "values", {}, 20),
    "binary": ((20, 16, 1), "tanh", "sigmoid", "binary", {}, 20),
    "batch norm": (None, "relu", "softmax", "classes", {"batch_norm": True}, 4),
    "dropout": (None, "relu", "softmax", "classes", {"dropout": 0.3}, 4),
    "one layer": ((20, 5), "relu", "softmax", "classes", {}, 4),
}


@pytest.mark.parametrize("optimizer", [fastbp.SGD(0.05), fastbp.Adam(3e-3)], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_named_in_a_healthy_network(name: str, optimizer: Any) -> None:
    sizes, hidden, output, kind, fields, epochs = HEALTHY[name]
    trainer = Trainer(_net(sizes, hidden, output, **fields), optimizer, batch_size=32)
    history = trainer.fit(*_data(kind), epochs=epochs)
    assert str(history.diagnose()) == "No layer vanishes, explodes or is dead."


def test_who_diverges_in_the_first_epoch_is_told_so() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(64, 4)), rng.normal(size=64)
    net = fastbp.Network(4, [fastbp.Dense(8), fastbp.Dense(1)], seed=1)
    trainer = fastbp.Trainer(net, fastbp.SGD(1e30), on_divergence="warn")
    with pytest.warns(RuntimeWarning, match="diverged"):
        history = trainer.fit(X, y, epochs=3)
    assert str(history.diagnose()).startswith("training diverged in epoch 0")


@pytest.mark.parametrize("mode", ["raise", "warn"])
def test_who_diverges_later_is_told_so(mode: str) -> None:
    """The epochs that were recorded are sound; the one that was not is what the note says."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(640, 5))
    net = fastbp.Network(5, [fastbp.Dense(32, "relu"), fastbp.Dense(1)], seed=0)
    rates = fastbp.SGD(lambda step: 0.01 if step < 105 else 10.0)
    trainer = fastbp.Trainer(net, rates, on_divergence=mode)
    said: Any = pytest.raises(fastbp.DivergenceError) if mode == "raise" else pytest.warns()
    with said:
        trainer.fit(X, X[:, 0] * 3, epochs=10)
    history = trainer.history
    assert len(history) == 5
    assert history.stopped.startswith("training diverged in epoch 5")
    assert str(history.diagnose()) == history.stopped


def test_a_linear_model_may_have_any_weights() -> None:
    X = np.random.default_rng(0).standard_normal((640, 5))
    cases: list[tuple[Any, Any, Any]] = [
        (fastbp.Dense(1), X * 1e3, X @ np.arange(5.0)),
        (fastbp.Dense(1), X, np.zeros(640)),
        (fastbp.Dense(1, "sigmoid", init="zeros"), X, (X[:, 0] > 0).astype(int)),
    ]
    for layer, inputs, y in cases:
        trainer = fastbp.Trainer(fastbp.Network(5, [layer], seed=0), fastbp.Adam(0.01))
        history = trainer.fit(inputs, y, epochs=60)
        assert str(history.diagnose()) == "No layer vanishes, explodes or is dead."


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "elu", "softplus", "tanh"])
def test_advised_is_the_start_that_the_activation_has(activation: str) -> None:
    """gelu, silu, elu and softplus were told glorot_uniform, which is less than they start from."""
    data, y = _data()
    middle = fastbp.Dense(32, activation, init_scale=1e-3)
    layers = [fastbp.Dense(32, activation), middle, fastbp.Dense(5, "softmax")]
    trainer = fastbp.Trainer(fastbp.Network(20, layers, seed=1), "sgd", 32, progress=False)
    advice = str(trainer.fit(data, y, epochs=2).diagnose())
    assert f"init={ACTIVATIONS[activation].init!r}" in advice
