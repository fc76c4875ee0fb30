"""`Trainer`: what a fit means to the last bit, and what it promises when things go wrong."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import BatchNorm, Dense, DivergenceError, Network, Trainer
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.optimizers import OPTIMIZERS
from fastbp.sampling import batch_bounds, fill_order

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64) + (X[:, 2] > 0.5)


def _net(dtype: str = "float32", **kwargs: Any) -> Network:
    layers = [
        Dense(24, "relu", batch_norm=True, dropout=0.2),
        Dense(9, "gelu"),
        Dense(3, "softmax"),
    ]
    return Network(6, layers, **{"dtype": dtype, "seed": 7, **kwargs})


def _plain(**kwargs: Any) -> Network:
    layers = [Dense(8, "tanh"), Dense(3, "softmax")]
    return Network(6, layers, **{"dtype": "float64", "seed": 3, **kwargs})


def _bits(net: Network) -> list[bytes]:
    return [view.tobytes() for view in net.tensors().values()]


# --- one fit or many, one thread or many ----------------------------------------------------------

MANNERS: dict[str, dict[str, Any]] = {
    "shuffle": {},
    "order": {"sampling": "order"},
    "replacement": {"sampling": "replacement", "optimizer": "sgd"},
    "full batch": {"batch_size": None, "optimizer": "rmsprop"},
    "perturbation": {"perturbation": 0.1, "weight_decay": 1e-3, "optimizer": "nesterov"},
    "inverse time": {"optimizer": fastbp.Adam(fastbp.InverseTime(0.01, decay=0.05))},
    "cosine": {"optimizer": fastbp.AdamW(fastbp.Cosine(0.01, steps=50))},
    "plateau": {"optimizer": fastbp.SGD(fastbp.ReduceOnPlateau(0.1, patience=1))},
    "callable": {"optimizer": fastbp.Adam(lambda step: 0.01 / (1 + step))},
    "clips": {"clip_norm": 0.5, "clip_value": 0.1, "optimizer": "momentum"},
}


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("validation", [None, 0.2])
def test_four_epochs_are_four_fits_of_one(manner: str, validation: Any) -> None:
    options = {"optimizer": "adam", "batch_size": 8, "metrics": "accuracy", **MANNERS[manner]}
    once, often = (Trainer(_net(), **options) for _ in range(2))
    whole = once.fit(X, Y, epochs=4, validation=validation)
    parts = [often.fit(X, Y, epochs=1, validation=validation) for _ in range(4)]
    assert _bits(once.network) == _bits(often.network)
    assert once.state.tobytes() == often.state.tobytes()
    assert (once.epoch, once.step) == (often.epoch, often.step)
    for name in whole:
        if name != "seconds":
            expected = np.array([part[name][0] for part in parts])
            assert np.array_equal(np.array(whole[name]), expected, equal_nan=True), name
            assert np.array_equal(whole[name], often.history[name], equal_nan=True), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("manner", ["shuffle", "perturbation", "clips", "full batch"])
def test_the_number_of_threads_changes_no_bit(manner: str, dtype: str) -> None:
    found = []
    for threads in (1, 2, 4):
        options = {"optimizer": "adam", "batch_size": 16, **MANNERS[manner]}
        trainer = Trainer(_net(dtype), n_threads=threads, **options)
        history = trainer.fit(X, Y, epochs=3, validation=0.2)
        found.append((_bits(trainer.network), trainer.state.tobytes(), history.gradient_norm))
    assert found[0] == found[1] == found[2]


def test_the_seed_of_the_trainer_decides_the_order() -> None:
    fits = []
    for seed in (None, 7, 8):
        trainer = Trainer(_net(), seed=seed, batch_size=8)
        trainer.fit(X, Y)
        fits.append(_bits(trainer.network))
    assert fits[0] == fits[1] != fits[2]


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_goes_on_as_the_original_would(copied: Callable[[Trainer], Trainer]) -> None:
    trainer = Trainer(_net(), optimizer="adam", batch_size=8, early_stopping=True)
    trainer.fit(X, Y, epochs=2, validation=0.2)
    other = copied(trainer)
    middle = _bits(trainer.network)
    other.fit(X, Y, epochs=2, validation=0.2)
    assert _bits(trainer.network) == middle
    assert trainer.epoch == 2
    assert len(trainer.history) == 2
    trainer.fit(X, Y, epochs=2, validation=0.2)
    assert _bits(trainer.network) == _bits(other.network)
    assert trainer.state.tobytes() == other.state.tobytes()


def test_other_forms_of_the_data_change_nothing() -> None:
    read_only = X.copy()
    read_only.flags.writeable = False
    strided = np.repeat(X, 2, axis=1)[:, ::2]
    forms = [X, X.tolist(), np.asfortranarray(X), strided, read_only, X.astype(object), X[:, :]]
    found = set()
    for form in forms:
        for labels in (Y, Y.astype(np.int32), Y.tolist()):
            trainer = Trainer(_plain(dtype="float32"), batch_size=8)
            trainer.fit(form, labels)
            found.add(trainer.network.parameters.tobytes())
    assert len(found) == 1


# --- each step against NumPy ----------------------------------------------------------------------


def _replay(net: Network, trainer: Trainer, epochs: int, step: Callable[..., None]) -> list[float]:
    """Epochs by hand: `step(net, X, y, t)` for each batch of the trainer's order; mean losses."""
    bounds = batch_bounds(len(X), trainer.batch_size or len(X), False)
    order, losses, t = np.empty(len(X), np.int64), [], 0
    for epoch in range(epochs):
        fill_order(order, np.arange(len(X)), trainer.sampling, trainer.seed, epoch)
        met = 0.0
        for lo, hi in pairwise(bounds):
            rows = order[lo:hi]
            met += net.loss(X[rows], Y[rows], training=True) * len(rows)
            step(net, X[rows], Y[rows], t)
            t += 1
        losses.append(met / len(X))
    return losses


@pytest.mark.parametrize("sampling", ["shuffle", "order", "replacement"])
def test_sgd_with_weight_decay_by_hand(sampling: str) -> None:
    eta, lam = 0.1, 0.01
    trainer = Trainer(_plain(), fastbp.SGD(eta), batch_size=8, sampling=sampling, weight_decay=lam)
    history = trainer.fit(X, Y, epochs=3)
    hand = _plain()

    def step(net: Network, rows: Any, labels: Any, t: int) -> None:
        gradient = net.gradients(rows, labels)
        shrunk = net.parameters.copy()
        for layer in net.layers:
            layer.W *= 1.0 - 2.0 * lam * eta
        shrunk[...] = net.parameters
        net.parameters[...] = shrunk - eta * gradient

    losses = _replay(hand, trainer, 3, step)
    # Hundreds of operations of one rounding each, on numbers of about 1.
    np.testing.assert_allclose(trainer.network.parameters, hand.parameters, rtol=0, atol=1e-13)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-13)
    assert history.lr == [eta] * 3


def test_adamw_decays_weights_alone_apart_from_the_gradient() -> None:
    lr, lam = 0.01, 0.1
    trainer = Trainer(_plain(), fastbp.AdamW(lr, weight_decay=lam), batch_size=8)
    trainer.fit(X, Y, epochs=2)
    hand = _plain()
    m = v = np.zeros(hand.parameters.size)

    def step(net: Network, rows: Any, labels: Any, t: int) -> None:
        nonlocal m, v
        g = net.gradients(rows, labels)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        for layer in net.layers:
            layer.W *= 1.0 - lr * lam
        m_hat, v_hat = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.999 ** (t + 1))
        net.parameters[...] -= lr * m_hat / (np.sqrt(v_hat) + 1e-8)

    _replay(hand, trainer, 2, step)
    # Adam divides by sqrt(v): a rounding of g counts g / sqrt(v) times, up to about 10.
    np.testing.assert_allclose(trainer.network.parameters, hand.parameters, rtol=0, atol=1e-11)


def test_weight_decay_shrinks_by_one_minus_two_lambda_eta() -> None:
    """Where the data has no gradient, decay is all: powers of two make the arithmetic exact."""
    net = Network(2, [Dense(3)], dtype="float64", seed=1)
    start = net.layers[0].W.copy()
    trainer = Trainer(net, fastbp.SGD(0.25), batch_size=None, weight_decay=0.5)
    zeros = np.zeros((4, 2))
    trainer.fit(zeros, np.zeros((4, 3)))  # b is 0, so the outputs are right and every gradient is 0
    assert np.array_equal(net.layers[0].W, start * (1.0 - 2.0 * 0.5 * 0.25))
    assert not net.layers[0].b.any()
    decoupled = Network(2, [Dense(3)], dtype="float64", seed=1)
    adamw = Trainer(decoupled, fastbp.AdamW(0.25, weight_decay=0.5), batch_size=None)
    adamw.fit(zeros, np.zeros((4, 3)))
    assert np.array_equal(decoupled.layers[0].W, start * (1.0 - 0.5 * 0.25))


def test_biases_gamma_and_beta_do_not_decay() -> None:
    net = Network(2, [Dense(3, batch_norm="after", bias_init="normal")], dtype="float64", seed=1)
    bias = net.layers[0].b.copy()
    Trainer(net, fastbp.SGD(0.25), batch_size=None, weight_decay=0.5).fit(
        np.zeros((4, 2)), np.zeros((4, 3))
    )
    assert np.array_equal(net.layers[0].gamma, np.ones(3))
    assert np.array_equal(net.layers[0].beta, np.zeros(3))
    assert np.array_equal(net.layers[0].b, bias)


def test_a_sum_and_a_mean_take_the_same_steps() -> None:
    """docs/mathematics.md: n eta and lambda / n under the mean. n is a power of two: exact."""
    n = 32
    mean = Trainer(_plain(), fastbp.SGD(0.5), batch_size=None, weight_decay=0.25 / n)
    total = Trainer(
        _plain(reduction="sum"), fastbp.SGD(0.5 / n), batch_size=None, weight_decay=0.25
    )
    one, two = mean.fit(X[:n], Y[:n], epochs=5), total.fit(X[:n], Y[:n], epochs=5)
    np.testing.assert_allclose(
        mean.network.parameters, total.network.parameters, rtol=0, atol=1e-14
    )
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-13)  # history.loss is a mean in both


@pytest.mark.parametrize("limit", [1e-3, 1e3])
def test_clip_norm_scales_the_whole_gradient(limit: float) -> None:
    trainer = Trainer(_plain(), fastbp.SGD(1.0), batch_size=None, clip_norm=limit)
    hand = _plain()
    gradient = hand.gradients(X, Y)
    norm = np.linalg.norm(gradient)
    history = trainer.fit(X, Y)
    factor = min(1.0, limit / norm)
    expected = hand.parameters - factor * gradient
    np.testing.assert_allclose(trainer.network.parameters, expected, rtol=0, atol=1e-14)
    weights = hand.layers[0].W.size
    np.testing.assert_allclose(
        history.gradient_norm[0][0], factor * np.linalg.norm(gradient[:weights]), rtol=1e-12
    )


def test_clip_value_bounds_each_element() -> None:
    trainer = Trainer(_plain(), fastbp.SGD(1.0), batch_size=None, clip_value=1e-3)
    hand = _plain()
    expected = hand.parameters - np.clip(hand.gradients(X, Y), -1e-3, 1e-3)
    trainer.fit(X, Y)
    np.testing.assert_allclose(trainer.network.parameters, expected, rtol=0, atol=1e-15)


def test_norms_and_dead_units_in_the_history() -> None:
    net = Network(6, [Dense(8, "relu"), Dense(3, "softmax")], dtype="float64", seed=2)
    net.layers[0].b[:2] = -100.0  # two of eight units see nothing
    start = copy.deepcopy(net)
    history = Trainer(net, fastbp.SGD(0.1), batch_size=None).fit(X, Y)
    gradient = start.gradients(X, Y)[:48]
    assert history.gradient_norm[0][0] == pytest.approx(np.linalg.norm(gradient), rel=1e-12)
    assert history.weight_norm[0][0] == pytest.approx(np.linalg.norm(net.layers[0].W), rel=1e-12)
    change = np.linalg.norm(net.layers[0].W - start.layers[0].W)
    assert history.update_norm[0][0] == pytest.approx(change, rel=1e-12)
    assert history.dead_relu[0][0] == 0.25
    assert np.isnan(history.dead_relu[0][1])
    delta = start.trace(X, Y)["dL/dZ"][0]
    assert history.delta_rms[0][0] == pytest.approx(np.sqrt((delta**2).mean()), rel=1e-12)


# --- losses, validation, metrics, rates -----------------------------------------------------------


def test_the_loss_of_an_epoch_is_the_weighted_mean_of_those_met() -> None:
    weights = np.random.default_rng(1).uniform(0.0, 2.0, len(X))
    trainer = Trainer(_plain(), fastbp.SGD(0.1), batch_size=8, sampling="order")
    history = trainer.fit(X, Y, sample_weight=weights, validation=(X[:7], Y[:7], weights[:7]))
    net, total = _plain(), 0.0
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
    trainer = Trainer(_net(), batch_size=8)
    trainer.fit(X, Y, validation=0.2)
    assert trainer.step == 5  # 40 samples
    marked = X.copy()
    seen = [trainer.fit(marked, Y, validation=0.2).validation_loss[0] for _ in range(2)]
    assert seen[0] != seen[1]
    from fastbp.sampling import split

    train, held = split(50, 0.2, trainer.seed)
    one, two = Trainer(_net(), batch_size=8), Trainer(_net(), batch_size=8)
    garbled = Y.copy()
    garbled[held] = (garbled[held] + 1) % 3
    one.fit(X, Y, epochs=2, validation=0.2)
    two.fit(X, garbled, epochs=2, validation=0.2)
    assert _bits(one.network) == _bits(two.network)
    assert one.history.validation_loss != two.history.validation_loss
    assert len(train) + len(held) == 50


def test_validation_loss_is_a_mean_under_reduction_sum() -> None:
    trainer = Trainer(_plain(reduction="sum"), fastbp.SGD(1e-3), batch_size=8)
    history = trainer.fit(X, Y, validation=(X[:9], Y[:9]))
    assert history.validation_loss[0] == pytest.approx(trainer.network.loss(X[:9], Y[:9]) / 9)


def test_metrics_are_of_the_held_out_data_where_there_are_any() -> None:
    def share_of_zero(y: Any, outputs: Any) -> float:
        return float((outputs.argmax(axis=1) == 0).mean())

    trainer = Trainer(_plain(), metrics=["accuracy", share_of_zero])
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
    trainer = Trainer(_plain(), fastbp.SGD(lr), batch_size=25, sampling="order")
    history = trainer.fit(X, Y, epochs=3)
    np.testing.assert_allclose(history.lr, [rate(1), rate(3), rate(5)], rtol=1e-14)
    net = _plain()
    for t in range(6):
        part = slice(25 * (t % 2), 25 * (t % 2) + 25)
        net.parameters[...] -= rate(t) * net.gradients(X[part], Y[part])
    np.testing.assert_allclose(trainer.network.parameters, net.parameters, rtol=0, atol=1e-13)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns(optimizer: str) -> None:
    trainer = Trainer(_net(), optimizer, batch_size=8)
    history = trainer.fit(X, Y, epochs=15)
    assert history.loss[-1] < history.loss[0]


# --- batches --------------------------------------------------------------------------------------


def test_the_last_short_batch_is_trained_on() -> None:
    trainer = Trainer(_plain(), batch_size=16)
    trainer.fit(X, Y)
    assert trainer.step == 4  # 16 + 16 + 16 + 2


def test_with_batch_norm_a_last_batch_of_one_joins_the_one_before() -> None:
    with_norm, without = Trainer(_net(), batch_size=7), Trainer(_plain(), batch_size=7)
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
    net = _net()
    before = _bits(net)
    with pytest.raises(ValueError, match="batch norm needs at least 2 samples"):
        Trainer(net, batch_size=batch_size).fit(X[:rows], Y[:rows])
    assert _bits(net) == before
    for call in (net.loss, net.gradients, net.trace):
        with pytest.raises(ValueError, match="1 row, and batch norm in training needs at least 2"):
            call(X[:1], Y[:1], training=True)
    with pytest.raises(ValueError, match="batch norm in training needs at least 2"):
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


# --- stopping, callbacks, restarts ----------------------------------------------------------------


def test_early_stopping_restores_the_best_weights() -> None:
    snapshots: list[list[bytes]] = []
    trainer = Trainer(
        _net(),
        fastbp.Adam(0.05),
        batch_size=8,
        early_stopping=fastbp.EarlyStopping(patience=3),
        callbacks=[lambda state: snapshots.append(_bits(state.network))],
    )
    history = trainer.fit(X, Y, epochs=200, validation=0.3)
    best = int(np.argmin(history.validation_loss))
    assert len(history) == best + 4 < 200
    assert history.best_epoch == trainer.history.best_epoch == best
    assert history.stopped == "validation_loss has not improved for 3 epochs"
    assert _bits(trainer.network) == snapshots[best]


def test_early_stopping_may_keep_the_last_weights_and_watch_a_metric() -> None:
    snapshots: list[list[bytes]] = []
    rule = fastbp.EarlyStopping("validation_accuracy", patience=2, restore_best=False)
    trainer = Trainer(_net(), early_stopping=rule, metrics="accuracy")
    history = trainer.fit(
        X, Y, epochs=60, validation=0.3,
        callbacks=[lambda state: snapshots.append(_bits(state.network))],
    )  # fmt: skip
    assert _bits(trainer.network) == snapshots[-1]
    assert history.best_epoch is None
    assert "validation_accuracy" in history.stopped


def test_rules_end_a_fit_and_say_why() -> None:
    still = Trainer(_plain(), fastbp.SGD(0.0), stopping=fastbp.NoChange(1e-9, patience=2))
    history = still.fit(X, Y, epochs=50)
    assert len(history) == 3
    assert history.stopped == "loss has changed by at most 1e-09 for 2 epochs"
    small = Trainer(_plain(), stopping=[fastbp.SmallGradient(1e6), fastbp.TimeBudget(1e4)])
    history = small.fit(X, Y, epochs=50)
    assert len(history) == 1
    assert history.stopped.startswith("the gradient has norm")
    assert small.history.stopped == history.stopped


def test_a_time_budget_ends_within_an_epoch() -> None:
    trainer = Trainer(_plain(), batch_size=1, stopping=fastbp.TimeBudget(1e-9))
    times = 20 if JIT_DISABLED else 2000
    many = np.tile(X, (times, 1))
    history = trainer.fit(many, np.tile(Y, times), epochs=5)
    assert history.stopped == "the time budget of 1e-09 s is spent"
    assert len(history) <= 1
    assert 0 < trainer.step < 5 * len(many)
    assert np.isfinite(trainer.network.parameters).all()


def test_callbacks_see_the_state_and_stop() -> None:
    class Watcher:
        seen: list[int]

        def on_epoch_end(self, state: fastbp.State) -> Any:
            self.seen.append(state.epoch)
            assert state.trainer is trainer
            assert state.network is trainer.network
            assert state.metrics["loss"] == state.history.loss[-1]
            return "that will do" if state.epoch == 4 else None

    watcher = Watcher()
    watcher.seen = []
    trainer = Trainer(_plain(), callbacks=watcher)
    assert len(trainer.fit(X, Y, epochs=3)) == 3
    history = trainer.fit(X, Y, epochs=9, callbacks=[lambda state: None])
    assert watcher.seen == [0, 1, 2, 3, 4]
    assert history.stopped == "that will do"
    assert len(history) == 2


def test_restarts_keep_the_best_of_several_starts() -> None:
    trainer = Trainer(_plain(), batch_size=8, restarts=4)
    history = trainer.fit(X, Y, epochs=3, validation=0.2)
    singles = []
    for attempt in range(4):
        net = _plain()
        if attempt:
            net.initialize(net.seed + attempt)
        single = Trainer(net, batch_size=8)
        single.fit(X, Y, epochs=3, validation=0.2)
        singles.append(single)
    best = min(singles, key=lambda single: single.history.validation_loss[-1])
    assert history.validation_loss == best.history.validation_loss
    assert _bits(trainer.network) == _bits(best.network)
    assert trainer.state.tobytes() == best.state.tobytes()
    assert (trainer.epoch, trainer.step) == (best.epoch, best.step)
    assert len(trainer.history) == 3


def test_an_interrupt_in_a_callback_leaves_a_whole_trainer() -> None:
    def interrupt(state: fastbp.State) -> None:
        if state.epoch == 1:
            raise KeyboardInterrupt

    trainer, other = Trainer(_net(), batch_size=8), Trainer(_net(), batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=5, callbacks=[interrupt])
    assert (trainer.epoch, trainer.step, len(trainer.history)) == (2, 14, 2)
    trainer.fit(X, Y, epochs=2)
    other.fit(X, Y, epochs=4)
    assert _bits(trainer.network) == _bits(other.network)


# --- divergence and bad rows ----------------------------------------------------------------------


def _run_away(norm: bool = False, steps: int | None = None) -> tuple[Trainer, Any]:
    """Regression at a rate far too large, in float32."""
    net = Network(6, [Dense(5, batch_norm=norm), Dense(1)], seed=1)
    trainer = Trainer(net, fastbp.SGD(1.0, momentum=0.5), batch_size=5, sampling="order")
    rows = 50 if steps is None else 5 * steps
    return trainer, (100 * X[:rows], Y[:rows])


@pytest.mark.parametrize("norm", [False, True])
def test_divergence_keeps_the_last_finite_step(norm: bool) -> None:
    trainer, data = _run_away(norm)
    with pytest.raises(
        DivergenceError, match=r"diverged in epoch 0, batch (\d+): the loss,"
    ) as caught:
        trainer.fit(*data, epochs=3)
    steps = trainer.step
    assert 0 < steps < 30
    assert f"batch {steps}:" in str(caught.value)
    assert f"({steps} steps made)" in str(caught.value)
    assert np.isfinite(trainer.network.parameters).all()
    same, part = _run_away(norm, steps)
    same.fit(*part)
    assert same.step == steps
    assert _bits(trainer.network) == _bits(same.network)
    assert trainer.state.tobytes() == same.state.tobytes()
    assert len(trainer.history) == trainer.epoch == 0


def test_a_weight_that_overflows_in_an_epochs_last_step_is_seen() -> None:
    """The loss of that step is finite: only the weights tell."""
    net = Network(1, [Dense(1)], dtype="float32")
    net.parameters = [0.0, 0.0]
    trainer = Trainer(net, fastbp.SGD(3e38), batch_size=None)
    with pytest.raises(DivergenceError, match="epoch 0, batch 0"):
        trainer.fit([[1.0], [1.0]], [3.0, 3.0])
    assert net.parameters.tolist() == [0.0, 0.0]
    assert trainer.step == 0


def test_a_step_that_overflows_a_weight_is_undone() -> None:
    """Step 3's own loss is finite; step 4 meets a weight that is not, and step 3 goes too."""

    def made() -> Trainer:
        net = Network(6, [Dense(2, "relu", batch_norm=True), Dense(1)], seed=1)
        rate = fastbp.SGD(lambda step: 3e38 if step == 3 else 1e-3, momentum=0.5)
        return Trainer(net, rate, batch_size=5, sampling="order")

    trainer, shorter = made(), made()
    targets = 10.0 + X[:, 0]
    with pytest.raises(DivergenceError) as caught:
        trainer.fit(X, targets)
    assert "batch 3:" in str(caught.value)
    assert "(it is 3e+38)" in str(caught.value)
    shorter.fit(X[:15], targets[:15])
    assert trainer.step == shorter.step == 3
    assert _bits(trainer.network) == _bits(shorter.network)
    assert trainer.state.tobytes() == shorter.state.tobytes()


def test_divergence_may_be_a_warning() -> None:
    trainer, data = _run_away()
    trainer.on_divergence = "warn"
    with pytest.warns(RuntimeWarning, match="training diverged in epoch 0"):
        history = trainer.fit(*data, epochs=3)
    assert "diverged" in history.stopped
    assert len(history) == 0
    assert np.isfinite(trainer.network.parameters).all()


def test_a_restart_that_diverges_counts_as_the_worst() -> None:
    net = Network(1, [Dense(1)], dtype="float32", seed=0)
    net.parameters = [3e38, 0.0]  # the first start; the others are Glorot's
    trainer = Trainer(net, fastbp.SGD(0.1), batch_size=None, restarts=3)
    history = trainer.fit([[1.0], [2.0]], [3.0, 3.0], epochs=2)
    assert len(history) == 2
    assert np.isfinite(history.loss).all()
    hopeless = Trainer(net, fastbp.SGD(1e38), batch_size=None, restarts=2)
    with pytest.raises(DivergenceError):
        hopeless.fit([[1e3], [2e3]], [3.0, 3.0], epochs=9)


def _mapped(path: Path, array: Any) -> Any:
    np.save(path, array)
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("restarts", [1, 2])
def test_a_bad_row_of_a_memory_map_is_named_and_all_is_as_before(
    tmp_path: Path, value: float, restarts: int
) -> None:
    bad = X.copy()
    bad[37, 4] = value
    trainer = Trainer(_net(), batch_size=4, sampling="order", restarts=restarts)
    trainer.fit(X, Y)
    before, state = _bits(trainer.network), trainer.state.tobytes()
    losses = list(trainer.history.loss)
    with pytest.raises(ValueError, match=rf"X\[37, 4\]={value} is not finite.*Nothing has changed"):
        trainer.fit(_mapped(tmp_path / "X.npy", bad), Y, epochs=3)
    assert _bits(trainer.network) == before
    assert trainer.state.tobytes() == state
    assert (trainer.epoch, trainer.step, trainer.history.loss) == (1, 13, losses)


def test_a_bad_target_of_a_memory_map_is_named(tmp_path: Path) -> None:
    targets = np.zeros((50, 3), np.float32)
    targets[21, 2] = np.nan
    net = Network(6, [Dense(3)])
    before = _bits(net)
    mapped = _mapped(tmp_path / "y.npy", targets)
    with pytest.raises(ValueError, match=r"y\[21, 2\]=nan is not finite"):
        Trainer(net, batch_size=4).fit(X, mapped)
    assert _bits(net) == before
    with pytest.raises(ValueError, match=r"y\[21, 2\]=nan is not finite"):
        net.loss(X, mapped)


def test_every_door_names_a_bad_row_of_a_memory_map(tmp_path: Path) -> None:
    bad = X.copy()
    bad[3, 5] = np.inf
    mapped, net = _mapped(tmp_path / "X.npy", bad), _plain(dtype="float32")
    for call in (net.loss, net.gradients, net.evaluate):
        with pytest.raises(ValueError, match=r"X\[3, 5\]=inf is not finite"):
            call(mapped, Y)
    for call in (net.forward, net.predict):
        with pytest.raises(ValueError, match=r"X\[3, 5\]=inf is not finite"):
            call(mapped)
    trainer = Trainer(net)
    with pytest.raises(ValueError, match=r"validation\[0\]\[3, 5\]=inf is not finite"):
        trainer.fit(X, Y, validation=(mapped, Y))


def test_a_memory_map_trains_as_the_array_does(tmp_path: Path) -> None:
    one, two = Trainer(_net(), batch_size=8), Trainer(_net(), batch_size=8)
    one.fit(X, Y, epochs=2, validation=0.2)
    two.fit(
        _mapped(tmp_path / "X.npy", X), _mapped(tmp_path / "y.npy", Y), epochs=2, validation=0.2
    )
    assert _bits(one.network) == _bits(two.network)
    assert one.history.validation_loss == two.history.validation_loss


# --- vanishing and exploding ----------------------------------------------------------------------


def _first_norms(net: Network) -> list[float]:
    norms = Trainer(net, fastbp.SGD(0.0), batch_size=None).fit(X, Y).gradient_norm[0]
    return [float(norm) for norm in norms]


def test_a_deep_sigmoid_network_vanishes() -> None:
    layers = [*[Dense(16, "sigmoid") for _ in range(8)], Dense(3, "softmax")]
    norms = _first_norms(Network(6, layers, seed=1))
    # Each layer multiplies by a slope of at most 1/4 and weights of norm about 1.
    assert norms[0] < 1e-4 * norms[-1]


def test_large_weights_explode_and_batch_norm_with_relu_mends_both() -> None:
    def deep(norm: bool, scale: float | None) -> Network:
        hidden = [Dense(16, "relu", batch_norm=norm, init="normal", init_scale=scale)] * 8
        return Network(6, [*hidden, Dense(3)], loss="squared_error", seed=1)

    exploding = _first_norms(deep(False, 3.0))
    assert exploding[0] > 1e6
    for scale in (3.0, 1e-3):
        mended = _first_norms(deep(True, scale))
        # W's own gradient goes with 1/scale under batch norm; the figures compared are scale-free.
        shares = [norm * scale for norm in mended[:-1]]
        assert max(shares) < 100 * min(shares)
    vanishing = _first_norms(deep(False, 1e-3))
    assert vanishing[0] < 1e-12
