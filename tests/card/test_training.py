"""Networks on the card against the CPU's: outputs, losses, gradients, fits and their figures."""

from __future__ import annotations

import numpy as np
import pytest

from fastbp import SGD, Adadelta, Adagrad, Adam, AdamW, BatchNorm, Dense, Network, RMSprop, Trainer
from fastbp.kernels.cuda.tiles import SMALL, TILES

SIDE = TILES[np.float32][SMALL].rows

CASES = {
    "plain": ([Dense(7, "relu"), Dense(3, "softmax")], "cross_entropy", {}),
    "weighted": ([Dense(7, "relu"), Dense(3, "softmax")], "cross_entropy", {"weighted": True}),
    "summed": ([Dense(7, "relu"), Dense(3)], "squared_error", {"reduction": "sum", "lr": 1e-3}),
    "dropout": (
        [Dense(7, "tanh", dropout=0.3), Dense(9, "relu", dropout=0.2), Dense(3, "softmax")],
        "cross_entropy", {"optimizer": Adam(0.01)},
    ),
    "batch norm": (
        [Dense(7, "relu", batch_norm=True), Dense(9, "gelu", batch_norm="after", dropout=0.1),
         Dense(3, "softmax")], "cross_entropy", {"optimizer": Adam(0.01)},
    ),
    "sigma, last": (
        [Dense(5, "sigmoid", batch_norm=BatchNorm(form="sigma")), Dense(2, batch_norm="after")],
        "squared_error", {"lr": 0.01},
    ),
    "softmax within": (
        [Dense(6, "softmax"), Dense(4, "softmax", batch_norm=True, dropout=0.2),
         Dense(4, "softmax", batch_norm="after"), Dense(2, "sigmoid")],
        "binary_cross_entropy", {"optimizer": RMSprop(0.01)},
    ),
    "clipped norm": (
        [Dense(6, "silu"), Dense(2, "softmax")], "squared_error",
        {"optimizer": Adadelta(), "clip_norm": 0.1},
    ),
    "clipped, decayed": (
        [Dense(6, "elu"), Dense(2)], "half_squared_error",
        {"optimizer": AdamW(0.01, weight_decay=0.1), "weight_decay": 0.01, "clip_value": 0.05},
    ),
    "noise": (
        [Dense(6, "softplus"), Dense(2, "exp")], "poisson",
        {"optimizer": Adagrad(0.1), "perturbation": 0.1},
    ),
    "nesterov": (
        [Dense(6, "leaky_relu"), Dense(2)], "absolute_error",
        {"optimizer": SGD(0.01, momentum=0.9, nesterov=True)},
    ),
    "drawn": ([Dense(4, "relu"), Dense(2)], "squared_error", {"sampling": "replacement"}),
    "one layer, dropped": ([Dense(3, "sigmoid", dropout=0.4)], "squared_error", {}),
    "long rows": (
        [Dense(7, "relu"), Dense(70, "softmax"), Dense(66, "softmax")], "cross_entropy",
        {"epochs": 1, "rows": 19},
    ),
}  # fmt: skip
NEAR = {"float64": 1e-9, "float32": 2e-4}
"""Agreement of two orders of summation after a few steps; a wrong term is off by 1e-2 and more."""


def data(m, layers, loss, rows, rng):
    X, k = rng.standard_normal((rows, m)), layers[-1].units
    return X, rng.integers(0, k, rows) if loss == "cross_entropy" else rng.random((rows, k))


def both(layers, loss, dtype, reduction="mean", m=5):
    given = {"loss": loss, "dtype": dtype, "seed": 3, "reduction": reduction}
    return Network(m, layers, **given), Network(m, layers, device="cuda", **given)


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("case", CASES)
def test_as_the_cpu(case, dtype):
    layers, loss, given = CASES[case]
    given, near = dict(given), NEAR[dtype]
    rng = np.random.default_rng(0)
    rows = given.pop("rows", 41)
    X, y = data(5, layers, loss, rows, rng)
    w = rng.random(rows) if given.pop("weighted", False) else None
    cpu, card = both(layers, loss, dtype, given.pop("reduction", "mean"))
    agree = {"rtol": near, "atol": near}
    np.testing.assert_allclose(card.forward(X), cpu.forward(X), **agree)
    for training in (False, True):
        one = card.forward(X, training=training, seed=4)
        np.testing.assert_allclose(one, cpu.forward(X, training=training, seed=4), **agree)
        asked = {"training": training, "seed": 4, "sample_weight": w}
        np.testing.assert_allclose(card.loss(X, y, **asked), cpu.loss(X, y, **asked), **agree)
        found, wanted = card.gradients(X, y, **asked), cpu.gradients(X, y, **asked)
        np.testing.assert_allclose(found, wanted, rtol=near, atol=near * np.abs(wanted).max())
    optimizer = given.pop("optimizer", None) or SGD(given.pop("lr", 0.05), momentum=0.9)
    epochs = given.pop("epochs", 2)
    trainers = [
        Trainer(net, optimizer, batch_size=8, progress=False, **given) for net in (cpu, card)
    ]
    fits = [t.fit(X, y, epochs=epochs, sample_weight=w, validation=0.2) for t in trainers]
    np.testing.assert_allclose(card.parameters, cpu.parameters, rtol=50 * near, atol=50 * near)
    np.testing.assert_allclose(card._running, cpu._running, rtol=50 * near, atol=50 * near)
    np.testing.assert_allclose(trainers[1].state, trainers[0].state, rtol=50 * near, atol=50 * near)
    for name in (
        "loss", "lr", "validation_loss", "gradient_norm", "shift_norm", "weight_norm",
        "update_norm", "delta_rms", "dead_relu",
    ):  # fmt: skip
        np.testing.assert_allclose(
            fits[1][name], fits[0][name], rtol=100 * near, atol=near, err_msg=name
        )


def weights_after(blocks, layers, rows, apart, monkeypatch):
    from fastbp.cuda import programs

    monkeypatch.setattr(programs, "processors", lambda: blocks)
    monkeypatch.setattr(programs, "ALONE", 1)
    monkeypatch.setattr(programs, "PIECES", 4 if apart else 10**9)
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((rows, 6)).astype(np.float32), rng.integers(0, 4, rows)
    net = Network(6, layers, device="cuda", seed=2)
    trainer = Trainer(net, Adam(0.01), batch_size=rows // 2, clip_norm=1.0, progress=False)
    history = trainer.fit(X, y, epochs=2, validation=0.25)
    return net.parameters.tobytes(), trainer.state.tobytes(), history.loss, history.weight_norm


@pytest.mark.parametrize("apart", [False, True])
def test_the_same_bits_on_any_number_of_blocks(apart, monkeypatch):
    layers = [Dense(20, "relu", dropout=0.2), Dense(4, "softmax")]
    if not apart:
        layers.insert(1, Dense(9, "tanh", batch_norm=True))
    given = layers, 80, apart, monkeypatch
    one, three = weights_after(1, *given), weights_after(3, *given)
    assert one == three


def test_an_epoch_goes_on_where_the_last_one_stopped():
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((30, 4)).astype(np.float32), rng.integers(0, 3, 30)

    def trained(*epochs):
        net = Network(4, [Dense(5, "relu", dropout=0.3), Dense(3, "softmax")], device="cuda")
        trainer = Trainer(net, "adam", batch_size=7, progress=False)
        for count in epochs:
            trainer.fit(X, y, epochs=count)
        return net.parameters.tobytes()

    assert trained(3) == trained(1, 1, 1)


def test_a_step_that_diverges_is_found_and_undone():
    from fastbp import DivergenceError

    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((32, 4)).astype(np.float32), rng.integers(0, 3, 32)
    words = []
    for device in ("cpu", "cuda"):
        net = Network(4, [Dense(4), Dense(3, "softmax")], device=device, seed=1)
        with pytest.raises(DivergenceError) as caught:
            Trainer(net, SGD(1e30), batch_size=8, progress=False).fit(X, y, epochs=2)
        assert np.isfinite(net.parameters).all()
        words.append(str(caught.value))
    assert words[0] == words[1]


@pytest.mark.parametrize("row", [None, 3, 37, 99])
def test_a_batch_of_many_turns_a_thread_and_what_its_map_holds(row, tmp_path):
    """100 rows: some are loaded four at once, some alone."""
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((100, 4)).astype(np.float32), rng.integers(0, 3, 100)
    if row is not None:
        X[row, 2] = np.nan
    np.save(tmp_path / "X.npy", X)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    found = []
    for net in both([Dense(5, "relu"), Dense(3, "softmax")], "cross_entropy", "float32", m=4):
        trainer = Trainer(net, SGD(0.1), batch_size=100, progress=False)
        if row is None:
            found.append(trainer.fit(X, y, epochs=1).loss)
            continue
        with pytest.raises(ValueError, match=rf"X\[{row}, 2\]=nan is not finite"):
            trainer.fit(X, y, epochs=1)
    if found:
        np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_an_item_of_a_stream_does_not_depend_on_larger_ones_before():
    """float64, whose large tiles sum in another order than the small ones."""
    rng = np.random.default_rng(4)
    items = [(rng.standard_normal((n, 20)), rng.integers(0, 3, n)) for n in (2 * SIDE, SIDE)]

    def trained(*streams):
        layers = [Dense(2 * SIDE, "tanh"), Dense(3, "softmax")]
        net = Network(20, layers, device="cuda", seed=1, dtype="float64")
        trainer = Trainer(net, SGD(0.1), progress=False)
        for stream in streams:
            trainer.fit_stream(stream, epochs=1)
        return net.parameters.tobytes()

    assert trained(items) == trained(items[:1], items[1:])
