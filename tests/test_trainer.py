"""`Trainer`: what a fit means to the last bit, and each of its steps against NumPy."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from small_fits import X, Y, bits_of, make_net, plain_net

import fastbp
from fastbp import BatchNorm, Dense, Network, Trainer, kernels
from fastbp.sampling import batch_bounds, fill_order

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
    once, often = (Trainer(make_net(), **options) for _ in range(2))
    whole = once.fit(X, Y, epochs=4, validation=validation)
    parts = [often.fit(X, Y, epochs=1, validation=validation) for _ in range(4)]
    assert bits_of(once.network) == bits_of(often.network)
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
        trainer = Trainer(make_net(dtype), n_threads=threads, **options)
        history = trainer.fit(X, Y, epochs=3, validation=0.2)
        found.append((bits_of(trainer.network), trainer.state.tobytes(), history.gradient_norm))
    assert found[0] == found[1] == found[2]


def test_the_seed_of_the_trainer_decides_the_order() -> None:
    fits = []
    for seed in (None, 7, 8):
        trainer = Trainer(make_net(), seed=seed, batch_size=8)
        trainer.fit(X, Y)
        fits.append(bits_of(trainer.network))
    assert fits[0] == fits[1] != fits[2]


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_goes_on_as_the_original_would(copied: Callable[[Trainer], Trainer]) -> None:
    trainer = Trainer(make_net(), optimizer="adam", batch_size=8, early_stopping=True)
    trainer.fit(X, Y, epochs=2, validation=0.2)
    other = copied(trainer)
    middle = bits_of(trainer.network)
    other.fit(X, Y, epochs=2, validation=0.2)
    assert bits_of(trainer.network) == middle
    assert trainer.epoch == 2
    assert len(trainer.history) == 2
    trainer.fit(X, Y, epochs=2, validation=0.2)
    assert bits_of(trainer.network) == bits_of(other.network)
    assert trainer.state.tobytes() == other.state.tobytes()


def test_other_forms_of_the_data_change_nothing() -> None:
    read_only = X.copy()
    read_only.flags.writeable = False
    strided = np.repeat(X, 2, axis=1)[:, ::2]
    forms = [X, X.tolist(), np.asfortranarray(X), strided, read_only, X.astype(object), X[:, :]]
    found = set()
    for form in forms:
        for labels in (Y, Y.astype(np.int32), Y.tolist()):
            trainer = Trainer(plain_net(dtype="float32"), batch_size=8)
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
    trainer = Trainer(
        plain_net(), fastbp.SGD(eta), batch_size=8, sampling=sampling, weight_decay=lam
    )
    history = trainer.fit(X, Y, epochs=3)
    hand = plain_net()

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
    trainer = Trainer(plain_net(), fastbp.AdamW(lr, weight_decay=lam), batch_size=8)
    trainer.fit(X, Y, epochs=2)
    hand = plain_net()
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
    mean = Trainer(plain_net(), fastbp.SGD(0.5), batch_size=None, weight_decay=0.25 / n)
    total = Trainer(
        plain_net(reduction="sum"), fastbp.SGD(0.5 / n), batch_size=None, weight_decay=0.25
    )
    one, two = mean.fit(X[:n], Y[:n], epochs=5), total.fit(X[:n], Y[:n], epochs=5)
    np.testing.assert_allclose(
        mean.network.parameters, total.network.parameters, rtol=0, atol=1e-14
    )
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-13)  # history.loss is a mean in both


@pytest.mark.parametrize("limit", [1e-3, 1e3])
def test_clip_norm_scales_the_whole_gradient(limit: float) -> None:
    trainer = Trainer(plain_net(), fastbp.SGD(1.0), batch_size=None, clip_norm=limit)
    hand = plain_net()
    gradient = hand.gradients(X, Y)
    norm = np.linalg.norm(gradient)
    trainer.fit(X, Y)
    factor = min(1.0, limit / norm)
    expected = hand.parameters - factor * gradient
    np.testing.assert_allclose(trainer.network.parameters, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("clips", [{"clip_norm": 1e-3}, {"clip_value": 1e-4}])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_figures_are_of_the_gradient_as_it_was_before_it_is_clipped(
    clips: dict[str, float], n_threads: int
) -> None:
    trainer = Trainer(plain_net(), fastbp.SGD(0.1), None, n_threads=n_threads, **clips)
    g, net = plain_net().gradients(X, Y), trainer.network
    history = trainer.fit(X, Y)
    ends = np.cumsum([part for layer in net.layers for part in (layer.W.size, layer.b.size)])
    norms = [np.linalg.norm(part) for part in np.split(g, ends[:-1])]
    np.testing.assert_allclose(history.gradient_norm[0], norms[::2], rtol=1e-12)
    np.testing.assert_allclose(history.shift_norm[0], norms[1::2], rtol=1e-12)
    still = fastbp.SmallGradient(1e-2)
    assert not Trainer(plain_net(), batch_size=None, stopping=still, **clips).fit(X, Y, 2).stopped


def test_clip_value_bounds_each_element() -> None:
    trainer = Trainer(plain_net(), fastbp.SGD(1.0), batch_size=None, clip_value=1e-3)
    hand = plain_net()
    expected = hand.parameters - np.clip(hand.gradients(X, Y), -1e-3, 1e-3)
    trainer.fit(X, Y)
    np.testing.assert_allclose(trainer.network.parameters, expected, rtol=0, atol=1e-15)


def test_the_norm_of_gamma_and_beta_in_the_history() -> None:
    net = Network(6, [Dense(8, "relu", batch_norm=True), Dense(3, "softmax")], dtype="float64")
    gradient = net.gradients(X, Y)
    history = Trainer(net, fastbp.SGD(0.1), batch_size=None).fit(X, Y)
    expected = np.linalg.norm(gradient[48:64]), np.linalg.norm(gradient[-3:])
    assert history.shift_norm[0] == pytest.approx(expected, rel=1e-12)


def test_norms_and_dead_units_in_the_history() -> None:
    net = Network(6, [Dense(8, "relu"), Dense(3, "softmax")], dtype="float64", seed=2)
    net.layers[0].b[:2] = -100.0  # two of eight units see nothing
    start = copy.deepcopy(net)
    history = Trainer(net, fastbp.SGD(0.1), batch_size=None).fit(X, Y)
    gradient = start.gradients(X, Y)[:48]
    assert history.gradient_norm[0][0] == pytest.approx(np.linalg.norm(gradient), rel=1e-12)
    shift = np.linalg.norm(start.gradients(X, Y)[48:56])
    assert history.shift_norm[0][0] == pytest.approx(shift, rel=1e-12)
    assert history.weight_norm[0][0] == pytest.approx(np.linalg.norm(net.layers[0].W), rel=1e-12)
    change = np.linalg.norm(net.layers[0].W - start.layers[0].W)
    assert history.update_norm[0][0] == pytest.approx(change, rel=1e-12)
    assert history.dead_relu[0][0] == 0.25
    assert np.isnan(history.dead_relu[0][1])
    delta = start.trace(X, Y)["dL/dZ"][0]
    assert history.delta_rms[0][0] == pytest.approx(np.sqrt((delta**2).mean()), rel=1e-12)


@pytest.mark.parametrize("norm", [None, "after"])
def test_dropped_units_are_not_taken_for_dead(norm: str | None) -> None:
    """Of units that dropout kept for one sample at least; two of eight see nothing, six always."""
    batch_norm = BatchNorm(position=norm) if norm else False
    layers = [Dense(8, "relu", dropout=0.7, batch_norm=batch_norm), Dense(3, "softmax")]
    net = Network(6, layers, dtype="float64", seed=2)
    net.layers[0].W[...] = 0.0
    net.layers[0].b[...] = 1.0
    net.layers[0].b[:2] = -100.0
    history = Trainer(net, fastbp.SGD(0.0), batch_size=2, seed=9).fit(X[:8], Y[:8], epochs=6)
    for epoch, found in enumerate(history.dead_relu):
        _, mask = kernels.dropout(np.ones((2, 8)), 0.7, seed=9, epoch=epoch, step=3, layer=0)
        kept = mask.any(axis=0) if norm is None else np.ones(8, bool)
        assert found[0] == kept[:2].sum() / kept.sum()


# --- settings that change between fits ------------------------------------------------------------


def test_another_optimizer_of_the_same_rule_may_be_set() -> None:
    trainer = Trainer(make_net(), fastbp.Adam(1e-3), batch_size=8)
    trainer.fit(X, Y)
    rows = trainer.state.copy()
    trainer.optimizer = fastbp.Adam(fastbp.Constant(1e-5))
    assert trainer.state.tobytes() == rows.tobytes()
    assert trainer.fit(X, Y).lr == [1e-5]


def test_an_optimizer_of_another_rule_needs_a_trainer_of_its_own() -> None:
    trainer = Trainer(make_net(), fastbp.SGD(0.1), batch_size=8)
    with pytest.raises(ValueError, match=r"is not 'sgd', whose rows this trainer has; make a new"):
        trainer.optimizer = fastbp.Adam(1e-3)
    assert trainer.optimizer == fastbp.SGD(0.1)


def test_an_optimizer_that_is_set_within_a_fit_is_refused() -> None:
    def change(state: fastbp.State) -> None:
        state.trainer.optimizer = fastbp.Adam(0.5)

    trainer = Trainer(make_net(), "adam", batch_size=8)
    with pytest.raises(RuntimeError, match=r"was set while the network is trained; set it between"):
        trainer.fit(X, Y, callbacks=[change])
    assert trainer.optimizer == fastbp.Adam()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", -4, "batch_size=-4"),
        ("batch_size", 0, "batch_size=0"),
        ("n_threads", 0, "n_threads=0"),
        ("sampling", "random", "sampling='random'"),
        ("clip_norm", -1.0, "clip_norm=-1"),
        ("on_divergence", "note", "on_divergence='note'"),
        ("network", plain_net(), "is not the network that this trainer has"),
    ],
)
@pytest.mark.parametrize("how", ["fit", "fit_stream", "fit_many"])
def test_what_was_set_since_is_looked_at_before_a_fit(
    how: str, name: str, value: Any, message: str
) -> None:
    trainer = Trainer(make_net(), batch_size=8)
    setattr(trainer, name, value)
    before = bits_of(trainer.network)
    begin: Callable[[], Any] = {
        "fit": lambda: trainer.fit(X, Y),
        "fit_stream": lambda: trainer.fit_stream([(X, Y)]),
        "fit_many": lambda: fastbp.fit_many([trainer], X, Y, 1),
    }[how]
    with pytest.raises(ValueError, match=message):
        begin()
    assert bits_of(trainer.network) == before
    assert trainer.step == 0


def test_settings_may_have_the_forms_that_the_constructor_takes() -> None:
    seen: list[int] = []
    trainer = Trainer(make_net(), batch_size=8)
    trainer.metrics, trainer.early_stopping = ["accuracy"], True
    trainer.stopping, trainer.every = fastbp.TimeBudget(60), "5 steps"
    trainer.callbacks = [lambda state: seen.append(state.epoch)]
    history = trainer.fit(X, Y, epochs=2, validation=0.2)
    assert len(history["validation_accuracy"]) == 2
    assert seen == [0, 1]


def test_a_network_that_is_put_in_by_a_callback_is_refused() -> None:
    def change(state: fastbp.State) -> None:
        state.trainer.network = plain_net()

    trainer = Trainer(make_net(), batch_size=8)
    with pytest.raises(RuntimeError, match=r"trainer.network was set by a callback"):
        trainer.fit(X, Y, epochs=2, callbacks=[change])


def test_optimizer_rows_belong_to_one_network() -> None:
    trainer = Trainer(plain_net())
    trainer.fit(X, Y)
    trainer.network = plain_net()
    with pytest.raises(ValueError, match="is not the network that this trainer has"):
        trainer.fit(X, Y)
    for twin in (copy.deepcopy(Trainer(plain_net())), pickle.loads(pickle.dumps(trainer))):
        twin.network = twin._owner
        twin.fit(X, Y)


def test_a_schedule_that_is_none_is_refused() -> None:
    trainer = Trainer(plain_net())
    trainer.schedule = "cosine"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="lr='cosine'"):
        trainer.fit(X, Y)


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 4), ("stopping", fastbp.TimeBudget(9)), ("early_stopping", True)],
)
def test_what_a_fit_is_laid_out_by_stays_during_it(name: str, value: Any) -> None:
    """It was ignored, and a checkpoint told of it."""
    trainer = Trainer(make_net(), batch_size=8, progress=False)

    def change(state: fastbp.State) -> None:
        setattr(state.trainer, name, value)

    with pytest.raises(RuntimeError, match=f"trainer.{name} was set by a callback, and this fit"):
        trainer.fit(X, Y, epochs=2, callbacks=[change])
    assert len(trainer.history) == 1
