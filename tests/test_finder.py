"""The rate finder: what it suggests works, and it leaves everything as it was."""

import math

import numpy as np
import pytest

import fastbp
from fastbp import SGD, Adam, BatchNorm, Dense, Network, Trainer
from fastbp.finder import RateSearch, choose

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 3))
y = X @ [1.0, -2.0, 0.5] + 0.1 * RNG.standard_normal(200)


def test_full_batches_of_a_line_have_a_known_best():
    # Squared error, full batch: loss (w - w0)' 2H/2 (w - w0) with H = X'X/n, so descent with rate r
    # contracts by |1 - 2 r h| along each eigenvector; best is r = 1 / (h_min + h_max), and from
    # 1 / h_max on it diverges. Bias included.
    design = np.column_stack([X, np.ones(len(X))])
    h = np.linalg.eigvalsh(design.T @ design / len(X))
    trainer = Trainer(Network(3, [Dense(1)], dtype="float64", seed=1), SGD(0.1), batch_size=None)
    found = trainer.find_rate(X, y, steps=20)
    best = 1 / (h[0] + h[-1])
    # Not on the edge, so below it: at most a step of the grid above, and within 3 of the best.
    assert best / 3 <= found.rate <= best * 10**0.25
    assert all(found.losses[i] > 1 for i, r in enumerate(found.rates) if r > 1.2 / h[-1])


def test_nothing_changes_and_the_bits_repeat():
    norm = BatchNorm(momentum=0.3)
    net = Network(3, [Dense(8, "relu", batch_norm=norm, dropout=0.1), Dense(1)], seed=1)
    rule = fastbp.EarlyStopping(patience=5)
    trainer = Trainer(net, Adam(fastbp.Cosine(1e-3)), 32, early_stopping=rule, progress=False)
    trainer.fit(X, y, epochs=3, validation=0.2)
    before = [net.parameters.copy(), net._running.copy(), trainer.state.copy()]
    counters = (trainer.epoch, trainer.step, len(trainer.history), trainer.schedule, rule.waited)
    first = trainer.find_rate(X, y, steps=20, low=1e-3, high=1.0)
    for a, b in zip(before, [net.parameters, net._running, trainer.state], strict=True):
        assert np.array_equal(a, b)
    now = (trainer.epoch, trainer.step, len(trainer.history), trainer.schedule, rule.waited)
    assert counters == now
    trainer.n_threads = 2
    assert trainer.find_rate(X, y, steps=20, low=1e-3, high=1.0) == first
    assert len(first.rates) == 13
    assert first.rates[0] == 1e-3
    assert first.rates[-1] == pytest.approx(1.0, rel=1e-12)


def test_much_data_is_sampled():
    many = np.tile(X, (50, 1))
    trainer = Trainer(Network(3, [Dense(1)]), "sgd", 10, progress=False)
    found = trainer.find_rate(many, np.tile(y, 50), steps=40, low=1e-3, high=1e-1)
    assert found.steps == 40


def test_the_choice_keeps_off_the_edge_and_takes_the_middle():
    inf = math.inf
    rates = [10.0**p for p in range(-5, 1)]
    assert choose(rates, [1, 0.5, 0.1, 0.09, inf, inf], 1.0) == 1e-3
    assert choose(rates, [1, 0.5, 0.1, 0.05, 0.2, 2], 1.0) == 1e-2
    assert choose(rates, [1, 1e-4, 1e-5, 1e-6, 1e-7, 1], 1.0) == 1e-3
    assert choose(rates, [2e-9] * 6, 2.0) == 1e-3


def test_errors():
    trainer = Trainer(Network(3, [Dense(1)]), "sgd", progress=False)
    with pytest.raises(ValueError, match=r"low=1 must be below high=0.1"):
        trainer.find_rate(X, y, low=1, high=0.1)
    with pytest.raises(ValueError, match="steps=0"):
        trainer.find_rate(X, y, steps=0)
    with pytest.raises(ValueError, match="y has 3 rows but X has 200"):
        trainer.find_rate(X, y[:3])
    with pytest.raises(fastbp.DivergenceError, match=r"every rate from 1e.18 to 1e.20 diverged"):
        trainer.find_rate(X, y, low=1e18, high=1e20, steps=10)


def test_the_plot_shows_what_was_tried(tmp_path):
    pytest.importorskip("matplotlib")
    found = RateSearch(0.1, [0.01, 0.1, 1.0], [0.5, 0.25, math.inf], 100)
    figure = found.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["after 100 steps"].get_ydata().tolist() == [0.5, 0.25]
    assert lines["diverged"].get_xdata().tolist() == [1.0]
    assert lines["suggested: 0.1"].get_xdata() == [0.1, 0.1]
    assert repr(found).startswith("RateSearch(rate=0.1: loss 0.25 after 100 steps")


def test_a_short_last_batch_that_batch_norm_merges_is_no_step() -> None:
    trainer = Trainer(Network(3, [Dense(4, batch_norm=True), Dense(1)]), SGD(0.1), batch_size=4)
    found = trainer.find_rate(X[:9], y[:9], low=1e-3, high=1e-2, steps=6)  # batches of 4 and 5
    assert found.steps == 6


def test_a_loss_of_0_is_said_to_be_0() -> None:
    found = Trainer(Network(3, [Dense(1)]), SGD(0.1)).find_rate(np.zeros((9, 3)), np.zeros(9))
    assert set(found.losses) == {0.0}
    assert "loss 0 after" in repr(found)
