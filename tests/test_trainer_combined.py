"""What only shows where features meet: restarts after a fit, callbacks that move the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import Adam, Dense, EarlyStopping, Network, OneCycle, Trainer
from fastbp.stopping import Stopping

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype(np.float32)
Y = RNG.normal(size=64).astype(np.float32)


def make(seed: int = 1) -> Network:
    return Network(3, [Dense(8, "tanh"), Dense(1)], seed=seed)


def test_a_restart_begins_with_no_step_made() -> None:
    """Adam's corrections and a schedule count from it, whatever was trained before."""
    trainer = Trainer(make(), Adam(fastbp.Cosine(0.01)), 8)
    trainer.fit(X, Y, 2)
    trainer.network.parameters[...] *= 1e3  # the second start will be the better one
    trainer.restarts = 2
    trainer.fit(X, Y, 1)
    assert trainer.step == len(X) // 8
    alone = Trainer(make(2), Adam(fastbp.Cosine(0.01)), 8, seed=1)
    alone.epoch = 2  # whose shuffles it has
    alone.fit(X, Y, 1)
    assert trainer.network.parameters.tobytes() == alone.network.parameters.tobytes()
    assert trainer.state.tobytes() == alone.state.tobytes()


def test_resume_counts_the_starts_that_are_left(tmp_path: Path) -> None:
    path, calls = tmp_path / "run", [0]

    def save(state: fastbp.State) -> None:
        calls[0] += 1
        if calls[0] == 4:  # the last epoch of the first of 3 starts
            state.trainer.save(path)

    Trainer(make(), Adam(0.05), 8, restarts=3).fit(X, Y, 4, callbacks=[save])
    trainer = Trainer(make(), Adam(0.05), 8, restarts=3)
    assert trainer.resume(path) == 8
    trainer.fit(X, Y, 4)
    assert calls == [12]


@pytest.mark.parametrize(
    "other",
    [EarlyStopping("loss", patience=3), EarlyStopping("lr", patience=2, mode="min"), None],
)
def test_other_rules_are_warned_of(other: Any, tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = Trainer(make(), Adam(0.05), 16, early_stopping=EarlyStopping("loss", patience=2))
    first.fit(X, Y, 3)
    first.save(path)
    rule = EarlyStopping("loss", patience=np.int64(2), min_delta=0)  # type: ignore[arg-type]
    Trainer(make(), Adam(0.05), 16, early_stopping=rule).resume(path)  # what it saw is no setting
    with pytest.warns(RuntimeWarning, match="it had EarlyStopping.*patience=2.0"):
        Trainer(make(), Adam(0.05), 16, early_stopping=other).resume(path)


def test_a_callback_may_turn_checkpoints_off_and_on(tmp_path: Path) -> None:
    path = tmp_path / "run"

    def off(state: fastbp.State) -> None:
        state.trainer.checkpoint = None

    trainer = Trainer(make(), checkpoint=path)
    assert len(trainer.fit(X, Y, 3, callbacks=[off])) == 3
    assert not path.exists()

    def on(state: fastbp.State) -> None:
        if state.epoch == 1:
            state.trainer.checkpoint = path
        if state.epoch == 2:
            assert path.exists()

    assert len(Trainer(make()).fit(X, Y, 3, callbacks=[on])) == 3


def test_a_bad_row_rewrites_the_file_that_was_written(tmp_path: Path) -> None:
    """Though a callback has turned checkpoints off meanwhile."""
    path = tmp_path / "run"
    table = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (64, 3))
    table[:] = X
    table[40] = np.nan
    trainer = Trainer(make(), batch_size=4, sampling="order", checkpoint=path, every="1 step")
    before = trainer.network.parameters.tobytes()

    class Off(Stopping):
        def update(self, record: Any) -> None:
            """Never stop."""

        def due(self) -> bool:
            if path.exists():
                trainer.checkpoint = None
            return False

    trainer.stopping = [Off()]
    with pytest.raises(ValueError, match=rf"Nothing has changed \({path} was written meanwhile"):
        trainer.fit(table, Y, 1)
    assert trainer.network.parameters.tobytes() == before
    assert Network.load(path).parameters.tobytes() == before


def test_divergence_says_what_the_network_holds() -> None:
    rates = fastbp.SGD(lambda step: 1e38 if step == 12 else 0.01)
    for rule, words in (
        (None, "last finite step .13 steps"),
        ("loss", "weights of its best epoch"),
    ):
        stopping = None if rule is None else EarlyStopping(rule)
        trainer = Trainer(make(), rates, 8, on_divergence="warn", early_stopping=stopping)
        with pytest.warns(RuntimeWarning, match=words):
            history = trainer.fit(X, Y, 5)
        assert (history.best_epoch is None) == (rule is None)


def test_one_sample_under_batch_norm_is_named_by_its_number() -> None:
    net = Network(3, [Dense(4, batch_norm=True), Dense(1)])
    batches = [(X[:4], Y[:4])] * 2 + [(X[:1], Y[:1])]
    with pytest.raises(ValueError, match=r"batches\[2\]: batch norm needs at least 2 samples"):
        Trainer(net).fit_stream(batches)


def test_a_fold_without_weight_is_refused() -> None:
    weights = np.ones(64)
    weights[:10] = 0
    net = Network(3, [Dense(1)], seed=0)
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match="sample_weight is 0 for every row to train on"):
        fastbp.fit_many(
            [net], X, Y, 2, folds=[(np.arange(10), None)], sample_weight=weights, weight_decay=0.1
        )
    assert net.parameters.tobytes() == before


@pytest.mark.parametrize(("steps", "rise"), [(3, 0.9), (2, 0.9), (5, 0.9), (9, 0.95), (4, 1.0)])
def test_one_cycle_ends_at_its_last_rate(steps: int, rise: float) -> None:
    """As PyTorch's: the fall takes what the rise leaves of it, less than a step, too."""
    rates = OneCycle(1.0, steps=steps, rise=min(rise, 0.999)).rates(0, steps)
    assert rates[-1] == pytest.approx(1 / 25 / 1e4, rel=1e-6)


def test_rates_far_apart_and_a_part_without_weight() -> None:
    found = Trainer(make(), Adam(), None).find_rate(X, Y, low=1e-310, high=0.1, steps=2)
    assert (found.rates[0], found.rates[-1]) == (1e-310, 0.1)  # their ratio is no float
    weights = np.zeros(64)
    weights[:2] = 1
    with pytest.raises(ValueError, match="sample_weight is 0 for all of the 2 rows"):
        Trainer(make(), Adam(), 1).find_rate(X, Y, steps=4, sample_weight=weights)
