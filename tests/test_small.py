"""What the long tests show on many shapes, on a few small ones: these run with the JIT off, too."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp import BatchNorm, Dense, Network, Trainer, passes

RNG = np.random.default_rng(0)
NETS = {
    "dropout after relu": [Dense(4, "relu", dropout=0.4), Dense(2, "softmax")],
    "dropout after tanh": [Dense(4, "tanh", dropout=0.4), Dense(3, "gelu"), Dense(2, "softmax")],
    "norm before": [Dense(4, "sigmoid", batch_norm=True), Dense(2, "softmax")],
    "norm after": [Dense(4, "relu", batch_norm="after", dropout=0.3), Dense(2, "softmax")],
    "sigma": [Dense(4, "tanh", batch_norm=BatchNorm(form="sigma")), Dense(2, "softmax")],
    "softmax within": [Dense(4, "softmax"), Dense(3, "silu"), Dense(2, "softmax")],
    "wide softmax": [Dense(40, "softmax"), Dense(2, "softmax")],
}


@pytest.mark.parametrize("name", NETS)
def test_gradients(name: str) -> None:
    net = Network(3, NETS[name], dtype="float64", seed=3)
    X, y = RNG.normal(size=(6, 3)), np.arange(6) % 2
    found = fastbp.check_gradients(net, X, y, seed=5)
    assert found, str(found)


@pytest.mark.parametrize(
    ("optimizer", "decay"),
    [("sgd", 0.0), ("sgd", 0.01), ("momentum", 0.0), ("nesterov", 0.0), ("adam", 0.0),
     ("adamw", 0.0), ("rmsprop", 0.0), ("adagrad", 0.0), ("adadelta", 0.0)],
)  # fmt: skip
@pytest.mark.parametrize("units", [5, 8, 11, 30])
def test_a_batch_of_one_learns_what_a_batch_of_it_twice_learns(
    units: int, optimizer: str, decay: float
) -> None:
    """The mean over a sample and its double is the sample's own; most inputs are 0.

    Rows of W narrower than a vector, whole vectors, and such as end within one.
    Float64; some 60 steps of a few roundings each, relative to weights of about 1: 1e-12.
    """
    X = RNG.normal(size=(12, 20)) * (RNG.random((12, 20)) < 0.3)
    y = np.arange(12) % 3
    nets = []
    for times in (1, 2):
        net = Network(20, [Dense(units, "tanh"), Dense(3, "softmax")], dtype="float64", seed=1)
        trainer = Trainer(
            net, optimizer, batch_size=times, sampling="order", weight_decay=decay,
            progress=False,
        )  # fmt: skip
        trainer.fit(X.repeat(times, axis=0), y.repeat(times), epochs=5)
        nets.append(net.parameters)
    assert np.abs(nets[0] - nets[1]).max() < 1e-12


def test_passes_in_pieces_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network(3, [Dense(4, "tanh"), Dense(2, "softmax")], dtype="float64", seed=3)
    X, y = RNG.normal(size=(23, 3)), np.arange(23) % 2
    weights = RNG.random(23)
    whole = net.forward(X), net.loss(X, y), net.evaluate(X, y, "accuracy", sample_weight=weights)
    monkeypatch.setattr(passes, "INFERENCE_ROWS", 4)
    monkeypatch.setattr(passes, "PIECE", 1)
    assert net._piece() == 4
    assert np.array_equal(net.forward(X), whole[0])
    assert net.loss(X, y) == pytest.approx(whole[1], rel=1e-14)
    assert net.evaluate(X, y, "accuracy", sample_weight=weights) == pytest.approx(
        whole[2], rel=1e-14
    )


def test_a_step_may_be_the_interval_of_a_decay() -> None:
    assert fastbp.StepDecay(1.0, every=1, factor=0.5).rates(0, 3).tolist() == [1.0, 0.5, 0.25]


def test_biases_are_started_and_started_anew() -> None:
    net = Network(3, [Dense(4, "tanh", bias_init="he_uniform"), Dense(2, "softmax")], seed=3)
    first = net.layers[0].b.copy()
    assert np.abs(first).min() > 0.0
    assert not net.layers[1].b.any()
    net.layers[0].b = net.layers[1].b = 7.0
    net.initialize(3)
    assert np.array_equal(net.layers[0].b, first)
    assert not net.layers[1].b.any()
