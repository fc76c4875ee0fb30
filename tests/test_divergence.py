"""Twenty ways to ruin a training: each is noticed at its batch, and costs no finite step.

Every recipe is run twice: in chunks as long as they come, where the step that went wrong is found
by halving and replay, and in chunks of one step, after each of which every number is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import (
    SGD,
    BatchNorm,
    Dense,
    DivergenceError,
    Network,
    Trainer,
    canonical,
    guard,
    run,
    snapshot,
)

RNG = np.random.default_rng(3)
X = RNG.normal(size=(64, 6)).astype(np.float32)
T = X[:, :2] @ np.array([[1.0], [-2.0]], np.float32) + 0.5
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 2] > 0.5)
HIDDEN, LINEAR = [Dense(8, "relu")], Dense(1)
LARGEST = float(np.finfo(np.float32).max)

Recipe = tuple[Trainer, Any, Any, dict[str, Any]]


def made(
    optimizer: Any,
    *,
    X: Any = X,
    y: Any = T,
    hidden: Any = HIDDEN,
    last: Dense = LINEAR,
    dtype: str = "float32",
    weights: Any = None,
    loss: str | None = None,
    reduction: str = "mean",
    **options: Any,
) -> Recipe:
    kept = {"loss": loss, "dtype": dtype, "reduction": reduction, "seed": 2}
    net = Network(X.shape[1], [*hidden, last], **kept)
    trainer = Trainer(net, optimizer, batch_size=8, progress=False, **options)
    return trainer, X, y, {} if weights is None else {"sample_weight": weights}


def deep(activation: str, scale: float) -> list[Dense]:
    return [Dense(8, activation, init="normal", init_scale=scale)] * 40


def jump(step: int) -> float:
    return 3e38 if step == 37 else 1e-3


RECIPES: dict[str, Callable[[], Recipe]] = {
    "rate 1e6": lambda: made(SGD(1e6)),
    "rate 1e6, momentum": lambda: made(SGD(1e6, momentum=0.9)),
    "rate 1e6, nesterov": lambda: made(SGD(1e6, momentum=0.9, nesterov=True)),
    "rate 1e30, Adam": lambda: made(fastbp.Adam(1e30)),
    "rate 1e20, Adagrad": lambda: made(fastbp.Adagrad(1e20)),
    "rate 1e20, RMSprop": lambda: made(fastbp.RMSprop(1e20)),
    "rate 1e25, Adadelta": lambda: made(fastbp.Adadelta(1e25)),
    "rate 1e300 in float64": lambda: made(SGD(1e300), dtype="float64"),
    "AdamW whose decay overshoots": lambda: made(fastbp.AdamW(1e3, weight_decay=1e3)),
    "weight decay that overshoots": lambda: made(SGD(0.1), weight_decay=1e9),
    "inputs near the largest float": lambda: made("sgd", X=X / np.abs(X).max() * LARGEST),
    "targets near the largest float": lambda: made("sgd", y=T / np.abs(T).max() * LARGEST),
    "weights of samples near the largest float": lambda: made(
        SGD(0.1), weights=np.full(64, LARGEST), reduction="sum"
    ),
    "noise near the largest float": lambda: made("sgd", perturbation=1e38),
    "exploding depth, relu": lambda: made(SGD(1e-3), hidden=deep("relu", 30.0)),
    "exploding depth, silu": lambda: made(SGD(1e-3), hidden=deep("silu", 30.0)),
    "a sum over the batch": lambda: made(SGD(0.5), reduction="sum", y=100 * T),
    "batch norm's gamma": lambda: made(
        SGD(1e6), hidden=[Dense(8, "relu", batch_norm=BatchNorm("after"))]
    ),
    "running statistics": lambda: made(
        SGD(0.0), X=1e30 * X, hidden=[Dense(8, "tanh", batch_norm=True)]
    ),
    "classes, inputs of 1e30": lambda: made(
        SGD(1.0), X=1e30 * X, y=Y, last=Dense(3, "softmax"), hidden=[Dense(8, "relu")]
    ),
    "one step's rate": lambda: made(SGD(jump)),
    "clipping an infinite norm": lambda: made(SGD(0.1), X=1e30 * X, clip_norm=1.0),
    "squares that overflow in Adam": lambda: made("adam", y=1e25 * T, loss="squared_error"),
    "-inf, which relu takes for 0": lambda: made(
        SGD(jump), y=50 + T, hidden=[Dense(8, "relu")] * 2, last=Dense(1, "relu")
    ),
}


def diverged(recipe: Recipe, epochs: int = 20) -> tuple[Trainer, str]:
    trainer, inputs, targets, more = recipe
    with pytest.raises(DivergenceError) as caught:
        trainer.fit(inputs, targets, epochs=epochs, **more)
    return trainer, str(caught.value)


def bits(trainer: Trainer) -> list[bytes]:
    numbers = [trainer.network.parameters, trainer.network._running, trainer.state]
    return [array.tobytes() for array in numbers]


@pytest.mark.parametrize("name", RECIPES)
def test_the_step_is_named_and_the_last_finite_one_kept(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, message = diverged(RECIPES[name]())
    for numbers in (trainer.network.parameters, trainer.network._running, trainer.state):
        assert np.isfinite(numbers).all()
    epoch, batch = (int(n) for n in re.findall(r"epoch (\d+), batch (\d+):", message)[0])
    assert trainer.step == 8 * epoch + batch
    assert trainer.epoch == epoch == len(trainer.history)
    assert f"({trainer.step} steps made)" in message
    assert "Try a smaller rate" in message
    assert np.isfinite(trainer.history.loss).all()
    monkeypatch.setattr(run, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(guard, "PATIENCE", 0.0)
    step_by_step, same = diverged(RECIPES[name]())
    assert same == message
    assert bits(step_by_step) == bits(trainer)
    if not trainer.step:
        assert bits(trainer) == bits(RECIPES[name]()[0])


def test_there_are_enough_recipes() -> None:
    assert len(RECIPES) >= 20


FINITE: dict[str, Callable[[], Recipe]] = {
    "a = 0 and 1 in NLL": lambda: made(SGD(1e3), y=(T > 0), last=Dense(1, "step"), loss="nll"),
    "a = 0 in NLLM": lambda: made(
        SGD(1e3), y=Y, last=Dense(3, "sigmoid", init="normal", init_scale=100.0), loss="nllm"
    ),
    "logits of 1e6": lambda: made(
        SGD(1e-3), y=Y, last=Dense(3, "softmax", init="normal", init_scale=1e6)
    ),
    "a variance of 0": lambda: made(
        SGD(0.1), X=np.ones_like(X), hidden=[Dense(8, "tanh", batch_norm=True)]
    ),
    "a variance of 0, sigma": lambda: made(
        SGD(0.1), X=np.ones_like(X), hidden=[Dense(8, batch_norm=BatchNorm("before", "sigma"))]
    ),
    "rate 1e6 under a clip": lambda: made(SGD(1e6), clip_value=1e-9, clip_norm=1e-6),
}


@pytest.mark.parametrize("name", FINITE)
@pytest.mark.filterwarnings("ignore:.*step:UserWarning", "ignore:.*step:RuntimeWarning")
def test_what_sounds_like_a_ruin_and_is_none(name: str) -> None:
    trainer, inputs, targets, more = FINITE[name]()
    history = trainer.fit(inputs, targets, epochs=5, **more)
    assert np.isfinite(history.loss).all()
    assert np.isfinite(trainer.network.parameters).all()


@pytest.mark.parametrize("name", ["rate 1e6", "one step's rate", "squares that overflow in Adam"])
def test_a_warning_instead(name: str) -> None:
    raised, message = diverged(RECIPES[name]())
    trainer, inputs, targets, more = RECIPES[name]()
    trainer.on_divergence = "warn"
    with pytest.warns(RuntimeWarning, match="training diverged") as caught:
        history = trainer.fit(inputs, targets, epochs=20, **more)
    assert str(caught[0].message) == message == history.stopped
    assert caught[0].filename == __file__
    assert bits(trainer) == bits(raised)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_is_not_finite_to_begin_with_is_refused(value: float) -> None:
    trainer, inputs, targets, _ = made("adam")
    trainer.network.layers[0].W[2, 3] = value
    before = bits(trainer)
    with pytest.raises(
        ValueError, match=rf"parameters\[19\]={value} is not finite before the first"
    ):
        trainer.fit(inputs, targets)
    assert bits(trainer) == before


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_large_numbers_are_looked_at_and_set_aside_by_threads(cores, monkeypatch):
    for module in (canonical, snapshot):
        monkeypatch.setattr(module, "available_cores", lambda: cores)
    net = Network(1200, [Dense(900), Dense(1)], seed=1)
    trainer = Trainer(net, SGD(0.1, momentum=0.9), progress=False)
    assert net.parameters.size > snapshot.PARALLEL_FROM
    assert guard.all_finite(trainer)
    kept = snapshot.Snapshot.like(net, trainer.state)
    trainer.state[...] = np.arange(net.parameters.size)
    kept.take(net, trainer.state)
    assert kept.parameters.tobytes() == net.parameters.tobytes()
    assert kept.state.tobytes() == trainer.state.tobytes()
    for numbers in (net.parameters, trainer.state.reshape(-1)):
        for place in (0, numbers.size // 2, numbers.size - 1):
            was, numbers[place] = numbers[place], np.inf
            assert not guard.all_finite(trainer)
            numbers[place] = was
    assert guard.all_finite(trainer)
