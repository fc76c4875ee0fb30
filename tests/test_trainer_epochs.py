"""What a `Trainer` does of an epoch: losses, validation, metrics, rates, batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_fits import X, Y, bits_of, make_net, plain_net

import fastbp
from fastbp import BatchNorm, Dense, Network, Trainer
from fastbp.optimizers import OPTIMIZERS
from fastbp.sampling import split

# --- losses, validation, metrics, rates -----------------------------------------------------------


def test_the_loss_of_an_epoch_is_the_weighted_mean_of_those_met() -> None:
    weights = np.random.default_rng(1).uniform(0.0, 2.0, len(X))
    trainer = Trainer(plain_net(), fastbp.SGD(0.1), batch_size=8, sampling="order")
    history = trainer.fit(X, Y, sample_weight=weights, validation=(X[:7], Y[:7], weights[:7]))
    net, total = plain_net(), 0.0
    for lo in range(0, 50, 8):
        part = slice(lo, min(lo + 8, 50))
        total += net.loss(X[part], Y[part], sample_weight=weights[part]) * weights[part].sum()
        gradient = net.gradients(X[part], Y[part], sample_weight=weights[part])
        net.parameters[...] -= 0.1 * gradient
    assert history.loss[0] == pytest.approx(total / weights.sum(), rel=1e-13)
    np.testing.assert_allclose(trainer.network.parameters, net.parameters, rtol=0, atol=1e-14)
    held = trainer.network.loss(X[:7], Y[:7], sample_weight=weights[:7])
    assert history.validation_loss[0] == pytest.approx(held, rel=1e-13)


def test_a_share_is_held_out_of_training_and_the_same_in_every_fit() -> None:
    trainer = Trainer(make_net(), batch_size=8)
    trainer.fit(X, Y, validation=0.2)
    assert trainer.step == 5  # 40 samples
    marked = X.copy()
    seen = [trainer.fit(marked, Y, validation=0.2).validation_loss[0] for _ in range(2)]
    assert seen[0] != seen[1]
    train, held = split(50, 0.2, trainer.seed)
    one, two = Trainer(make_net(), batch_size=8), Trainer(make_net(), batch_size=8)
    garbled = Y.copy()
    garbled[held] = (garbled[held] + 1) % 3
    one.fit(X, Y, epochs=2, validation=0.2)
    two.fit(X, garbled, epochs=2, validation=0.2)
    assert bits_of(one.network) == bits_of(two.network)
    assert one.history.validation_loss != two.history.validation_loss
    assert len(train) + len(held) == 50


def test_validation_loss_is_a_mean_under_reduction_sum() -> None:
    trainer = Trainer(plain_net(reduction="sum"), fastbp.SGD(1e-3), batch_size=8)
    history = trainer.fit(X, Y, validation=(X[:9], Y[:9]))
    assert history.validation_loss[0] == pytest.approx(trainer.network.loss(X[:9], Y[:9]) / 9)
    weights = np.arange(9.0)
    history = trainer.fit(X, Y, validation=(X[:9], Y[:9], weights))
    total = trainer.network.loss(X[:9], Y[:9], sample_weight=weights)
    assert history.validation_loss[0] == pytest.approx(total / weights.sum())


@pytest.mark.parametrize(("part", "words"), [(0, "to train on"), (1, "held out for validation")])
def test_a_part_without_weight_is_refused(part: int, words: str) -> None:
    rows, weights = split(50, 0.2, seed=0), np.ones(50)
    weights[rows[part]] = 0.0
    trainer = Trainer(plain_net(), seed=0)
    before = bits_of(trainer.network)
    with pytest.raises(ValueError, match=f"sample_weight is 0 for every row {words}"):
        trainer.fit(X, Y, sample_weight=weights, validation=0.2)
    with pytest.raises(ValueError, match=rf"networks\[0\]: .* is 0 for every row {words}"):
        fastbp.fit_many([trainer], X, Y, sample_weight=weights, folds=[rows])
    assert bits_of(trainer.network) == before
    assert trainer.step == 0


def test_metrics_are_of_the_held_out_data_where_there_are_any() -> None:
    def share_of_zero(y: Any, outputs: Any) -> float:
        return float((outputs.argmax(axis=1) == 0).mean())

    trainer = Trainer(plain_net(), metrics=["accuracy", share_of_zero])
    history = trainer.fit(X, Y, epochs=2)
    net = trainer.network
    assert history.metrics["accuracy"][-1] == float((net.predict(X) == Y).mean())
    assert history["share_of_zero"][-1] == float((net.predict(X) == 0).mean())
    history = trainer.fit(X, Y, epochs=1, validation=(X[:9], Y[:9]))
    assert history["validation_accuracy"][-1] == float((net.predict(X[:9]) == Y[:9]).mean())
    assert np.isnan(trainer.history["accuracy"][-1])


SCHEDULES: dict[str, tuple[Any, Callable[[int], float]]] = {
    "constant": (0.1, lambda t: 0.1),
    "inverse time": (fastbp.InverseTime(0.1, decay=0.5), lambda t: 0.1 / (1 + 0.5 * t)),
    "exponential": (fastbp.Exponential(0.1, 0.9), lambda t: 0.1 * 0.9**t),
    "callable": (lambda step: 0.5 / (step + 1), lambda t: 0.5 / (t + 1)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_of_an_epochs_last_step_is_recorded_and_used(name: str) -> None:
    lr, rate = SCHEDULES[name]
    trainer = Trainer(plain_net(), fastbp.SGD(lr), batch_size=25, sampling="order")
    history = trainer.fit(X, Y, epochs=3)
    np.testing.assert_allclose(history.lr, [rate(1), rate(3), rate(5)], rtol=1e-14)
    net = plain_net()
    for t in range(6):
        part = slice(25 * (t % 2), 25 * (t % 2) + 25)
        net.parameters[...] -= rate(t) * net.gradients(X[part], Y[part])
    np.testing.assert_allclose(trainer.network.parameters, net.parameters, rtol=0, atol=1e-13)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns(optimizer: str) -> None:
    trainer = Trainer(make_net(), optimizer, batch_size=8)
    history = trainer.fit(X, Y, epochs=15)
    assert history.loss[-1] < history.loss[0]


# --- batches --------------------------------------------------------------------------------------


def test_the_last_short_batch_is_trained_on() -> None:
    trainer = Trainer(plain_net(), batch_size=16)
    trainer.fit(X, Y)
    assert trainer.step == 4  # 16 + 16 + 16 + 2


def test_with_batch_norm_a_last_batch_of_one_joins_the_one_before() -> None:
    with_norm, without = Trainer(make_net(), batch_size=7), Trainer(plain_net(), batch_size=7)
    with_norm.fit(X, Y)
    without.fit(X, Y)
    assert (with_norm.step, without.step) == (7, 8)
    assert np.isfinite(with_norm.network.parameters).all()


@pytest.mark.parametrize(
    ("batch_size", "rows"),
    [(1, 50), (32, 1), (None, 1)],
    ids=["batch of 1", "n = 1", "full, n = 1"],
)
def test_batch_norm_with_one_sample_is_refused(batch_size: int | None, rows: int) -> None:
    net = make_net()
    before = bits_of(net)
    with pytest.raises(ValueError, match="batch norm needs at least 2 samples"):
        Trainer(net, batch_size=batch_size).fit(X[:rows], Y[:rows])
    assert bits_of(net) == before
    for call in (net.loss, net.gradients, net.trace):
        with pytest.raises(ValueError, match="X: batch norm needs at least 2 samples"):
            call(X[:1], Y[:1], training=True)
    with pytest.raises(ValueError, match="X: batch norm needs at least 2 samples"):
        net.forward(X[:1], training=True)
    assert np.isfinite(net.loss(X[:1], Y[:1]))


def test_running_statistics_follow_the_batches() -> None:
    net = Network(6, [Dense(4, batch_norm=BatchNorm(momentum=0.25)), Dense(1)], dtype="float64")
    Trainer(net, fastbp.SGD(0.0), batch_size=25, sampling="order").fit(X, Y)
    mean, variance = np.zeros(4), np.ones(4)
    for part in (X[:25], X[25:]):
        Z = part.astype(np.float64) @ net.layers[0].W
        mean = 0.75 * mean + 0.25 * Z.mean(axis=0)
        variance = 0.75 * variance + 0.25 * Z.var(axis=0, ddof=1)
    np.testing.assert_allclose(net.layers[0].running_mean, mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(net.layers[0].running_variance, variance, rtol=1e-12)
