"""How a fit ends: by rules and callbacks, by an interrupt, from several starts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_fits import X, Y, bits_of, make_net, plain_net

import fastbp
from fastbp import Dense, DivergenceError, Network, Trainer
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.run import Run


def test_early_stopping_restores_the_best_weights() -> None:
    snapshots: list[list[bytes]] = []
    trainer = Trainer(
        make_net(),
        fastbp.Adam(0.05),
        batch_size=8,
        early_stopping=fastbp.EarlyStopping(patience=3),
        callbacks=[lambda state: snapshots.append(bits_of(state.network))],
    )
    history = trainer.fit(X, Y, epochs=200, validation=0.3)
    best = int(np.argmin(history.validation_loss))
    assert len(history) == best + 4 < 200
    assert history.best_epoch == trainer.history.best_epoch == best
    assert history.stopped == "validation_loss has not improved for 3 epochs"
    assert bits_of(trainer.network) == snapshots[best]


def test_early_stopping_may_keep_the_last_weights_and_watch_a_metric() -> None:
    snapshots: list[list[bytes]] = []
    rule = fastbp.EarlyStopping("validation_accuracy", patience=2, restore_best=False)
    trainer = Trainer(make_net(), early_stopping=rule, metrics="accuracy")
    history = trainer.fit(
        X, Y, epochs=60, validation=0.3,
        callbacks=[lambda state: snapshots.append(bits_of(state.network))],
    )  # fmt: skip
    assert bits_of(trainer.network) == snapshots[-1]
    assert history.best_epoch is None
    assert "validation_accuracy" in history.stopped


def test_rules_end_a_fit_and_say_why() -> None:
    still = Trainer(plain_net(), fastbp.SGD(0.0), stopping=fastbp.NoChange(1e-9, patience=2))
    history = still.fit(X, Y, epochs=50)
    assert len(history) == 3
    assert history.stopped == "loss has changed by at most 1e-09 for 2 epochs"
    small = Trainer(plain_net(), stopping=[fastbp.SmallGradient(1e6), fastbp.TimeBudget(1e4)])
    history = small.fit(X, Y, epochs=50)
    assert len(history) == 1
    assert history.stopped.startswith("the gradient has norm")
    assert small.history.stopped == history.stopped


def test_a_time_budget_ends_within_an_epoch() -> None:
    trainer = Trainer(plain_net(), batch_size=1, stopping=fastbp.TimeBudget(1e-9))
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
    trainer = Trainer(plain_net(), callbacks=watcher)
    assert len(trainer.fit(X, Y, epochs=3)) == 3
    history = trainer.fit(X, Y, epochs=9, callbacks=[lambda state: None])
    assert watcher.seen == [0, 1, 2, 3, 4]
    assert history.stopped == "that will do"
    assert len(history) == 2


def test_restarts_keep_the_best_of_several_starts() -> None:
    trainer = Trainer(plain_net(), batch_size=8, restarts=4)
    history = trainer.fit(X, Y, epochs=3, validation=0.2)
    singles = []
    for attempt in range(4):
        net = plain_net()
        if attempt:
            net.initialize(net.seed + attempt)
        single = Trainer(net, batch_size=8)
        single.fit(X, Y, epochs=3, validation=0.2)
        singles.append(single)
    best = min(singles, key=lambda single: single.history.validation_loss[-1])
    assert history.validation_loss == best.history.validation_loss
    assert bits_of(trainer.network) == bits_of(best.network)
    assert trainer.state.tobytes() == best.state.tobytes()
    assert (trainer.epoch, trainer.step) == (best.epoch, best.step)
    assert len(trainer.history) == 3


@pytest.mark.parametrize("ended", [0, 2])
def test_an_interrupt_keeps_the_best_start_that_had_ended(ended: int) -> None:
    """None had: the start under way is what there is."""
    calls = 0

    def interrupt(_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3 * ended + 2:
            raise KeyboardInterrupt

    cut, whole = (Trainer(plain_net(), batch_size=8, restarts=n) for n in (4, max(ended, 1)))
    with pytest.raises(KeyboardInterrupt):
        cut.fit(X, Y, epochs=3, validation=0.2, callbacks=[interrupt])
    whole.fit(X, Y, epochs=3 if ended else 2, validation=0.2)
    assert bits_of(cut.network) == bits_of(whole.network)
    assert cut.state.tobytes() == whole.state.tobytes()
    assert (cut.epoch, cut.step) == (whole.epoch, whole.step)
    assert cut.history.validation_loss == whole.history.validation_loss


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_epoch_counts_though_its_metric_fails(
    failure: type[BaseException], streamed: bool
) -> None:
    """Training goes on where it stopped, with the numbers of one that was never interrupted."""
    asked = []

    def fragile(y: np.ndarray, outputs: np.ndarray) -> float:
        asked.append(1)
        if len(asked) == 2:
            raise failure
        return 0.5

    def fit(trainer: Trainer, epochs: int) -> None:
        if not streamed:
            trainer.fit(X, Y, epochs=epochs)
            return
        items = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 32, 8)]
        rounds = (item for _ in range(epochs) for item in items)
        trainer.fit_stream(rounds, steps_per_epoch=4, validation=(X, Y))

    one = Trainer(Network(6, [Dense(3, "softmax")]), batch_size=8, metrics=fragile)
    with pytest.raises(failure):
        fit(one, 4)
    assert (one.epoch, len(one.history)) == (2, 2)
    fit(one, 2)
    two = Trainer(Network(6, [Dense(3, "softmax")]), batch_size=8)
    fit(two, 4)
    assert bits_of(one.network) == bits_of(two.network)
    assert (one.epoch, one.step, one.history.loss) == (two.epoch, two.step, two.history.loss)
    name = "validation_fragile" if streamed else "fragile"
    np.testing.assert_array_equal(one.history[name], [0.5, np.nan, 0.5, 0.5])


def test_what_is_no_network_is_named() -> None:
    trainer = Trainer(Network(6, [Dense(3, "softmax")]))
    trainer.network = 3  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"trainer\.network=3 must be a fastbp\.Network"):
        trainer.fit(X, Y)


def test_a_callbacks_answer_that_is_neither_true_nor_false_is_named() -> None:
    def both(state: fastbp.State) -> np.ndarray:
        return np.array([1, 2])

    trainer = Trainer(Network(6, [Dense(3, "softmax")]), callbacks=both)
    with pytest.raises(TypeError, match=r"the callback both returned array\(\[1, 2\]\)"):
        trainer.fit(X, Y)


def test_an_interrupt_in_a_callback_leaves_a_whole_trainer() -> None:
    def interrupt(state: fastbp.State) -> None:
        if state.epoch == 1:
            raise KeyboardInterrupt

    trainer, other = Trainer(make_net(), batch_size=8), Trainer(make_net(), batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=5, callbacks=[interrupt])
    assert (trainer.epoch, trainer.step, len(trainer.history)) == (2, 14, 2)
    trainer.fit(X, Y, epochs=2)
    other.fit(X, Y, epochs=4)
    assert bits_of(trainer.network) == bits_of(other.network)


def test_a_stopping_rule_that_restores_does_so_wherever_it_was_given() -> None:
    kept = []
    for place in ("early_stopping", "stopping"):
        rule = fastbp.EarlyStopping(patience=3)
        trainer = Trainer(make_net(), fastbp.Adam(0.05), batch_size=8, **{place: rule})
        history = trainer.fit(X, Y, epochs=200, validation=0.3)
        assert history.best_epoch == int(np.argmin(history.validation_loss))
        kept.append(bits_of(trainer.network))
    assert kept[0] == kept[1]


def test_two_rules_that_restore_are_refused_before_anything_changes() -> None:
    trainer = Trainer(make_net(), early_stopping=True, stopping=fastbp.EarlyStopping("loss"))
    before = bits_of(trainer.network)
    with pytest.raises(ValueError, match=r"have 2 rules with restore_best=True .*=False to the"):
        trainer.fit(X, Y, validation=0.3)
    assert bits_of(trainer.network) == before


def test_a_later_fit_has_no_best_epoch_of_an_earlier_one() -> None:
    trainer = Trainer(make_net(), early_stopping=True)
    trainer.fit(X, Y, epochs=3, validation=0.3)
    assert trainer.history.best_epoch is not None
    trainer.early_stopping = None
    trainer.fit(X, Y)
    assert trainer.history.best_epoch is None


class Shift(fastbp.Stopping):
    """Works until the second epoch of the first start is over."""

    across_restarts = True
    begun = epochs = 0

    def start(self) -> None:
        self.begun += 1

    def update(self, record: Any) -> str | None:
        self.epochs += 1
        return "the shift is over" if self.due() else None

    def due(self) -> bool:
        return self.epochs >= 2


def test_what_looks_at_all_starts_together_begins_once_and_ends_them() -> None:
    shift = Shift()
    trainer = Trainer(plain_net(), batch_size=8, restarts=4, stopping=shift)
    history = trainer.fit(X, Y, epochs=5)
    assert (shift.begun, len(history), trainer.step) == (1, 2, 14)
    assert history.stopped == "the shift is over"
    assert fastbp.TimeBudget.across_restarts


@pytest.mark.parametrize("manner", ["raise", "warn", "note"])
def test_a_start_that_diverged_is_the_worst_whatever_is_done_about_it(manner: str) -> None:
    """The first start has the least losses, and then runs away."""
    calls = []

    def push(state: fastbp.State) -> None:
        calls.append(state.epoch)
        if len(calls) == 2:
            state.network.layers[0].W[...] = 1e200

    net = Network(1, [Dense(1)], dtype="float64", seed=3)
    net.layers[0].W[...], net.layers[0].b[...] = 1.0, 0.0
    trainer = Trainer(net, fastbp.SGD(1e-9), None, restarts=2, callbacks=[push], progress=False)
    data = [[1.0], [2.0]], [1.0, 2.0]
    if manner == "note":
        (history,) = fastbp.fit_many([trainer], *data, 3)
    elif manner == "warn":
        trainer.on_divergence = manner
        with pytest.warns(RuntimeWarning, match="diverged in epoch 2"):
            history = trainer.fit(*data, epochs=3)
    else:
        history = trainer.fit(*data, epochs=3)
    assert calls == [0, 1, 0, 1, 2]
    assert len(history) == 3
    assert np.abs(net.parameters).max() < 10


@pytest.mark.parametrize("epochs", [2, 3])
@pytest.mark.parametrize("manner", ["raise", "warn"])
def test_a_callback_that_leaves_nan_is_named(manner: str, epochs: int) -> None:
    """Behind the last epoch, too."""

    def spoil(state: fastbp.State) -> None:
        if state.epoch == 1:
            state.network.layers[0].W[0, 0] = np.nan

    trainer = Trainer(make_net(), batch_size=8, on_divergence=manner)
    words = "not finite after the callbacks of epoch 1, and was before them"
    if manner == "raise":
        with pytest.raises(DivergenceError, match=words):
            trainer.fit(X, Y, epochs=epochs, callbacks=[spoil])
    else:
        with pytest.warns(RuntimeWarning, match=words) as caught:
            history = trainer.fit(X, Y, epochs=epochs, callbacks=[spoil])
        assert words in history.stopped
        assert caught[0].filename == __file__
    assert len(trainer.history) == 2


@pytest.mark.parametrize("label", [-1, 3, 1 << 40])
def test_labels_that_are_changed_during_a_fit_write_nowhere(label: int) -> None:
    y = Y.copy()

    def change(state: fastbp.State) -> None:
        y[17] = label

    trainer = Trainer(make_net(), batch_size=8, sampling="order")
    with pytest.raises(ValueError, match=rf"y\[17\]={label} was changed during the fit: labels"):
        trainer.fit(X, y, epochs=2, callbacks=[change])
    assert trainer.step == 7 + 2  # the second batch of 8 is the last before it
    assert all(np.isfinite(view).all() for view in trainer.network.tensors().values())


def test_an_epoch_without_weight_has_no_loss() -> None:
    trainer = Trainer(plain_net(), sampling="replacement", batch_size=2)
    history = trainer.fit(X[:2], Y[:2], epochs=20, sample_weight=[1.0, 0.0])
    drawn = np.isnan(history.loss)
    assert drawn.any()
    assert not drawn.all()


def test_the_optimizers_rows_are_set_whole_or_not_at_all() -> None:
    trainer = Trainer(plain_net(), fastbp.SGD(0.1, momentum=0.9))
    before = trainer.state.copy()
    for rows, message in (
        (np.zeros((2, 3)), r"state has shape \(2, 3\); this trainer's has \(1, 83\)"),
        ([["a"] * 83], "text"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            trainer.state = rows
    assert trainer.state.tobytes() == before.tobytes()
    rows = np.ones((1, 83), np.float32)
    trainer.state = rows
    assert (trainer.state == 1).all()
    assert trainer.state.dtype == np.float64
    assert not np.shares_memory(trainer.state, rows)


def test_n_threads_holds_for_all_that_a_fit_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastbp import budget

    monkeypatch.setattr(budget.os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    monkeypatch.setattr(budget.config, "NUMBA_NUM_THREADS", 4)
    seen = []
    trainer = Trainer(make_net(), n_threads=1, batch_size=8)
    trainer.fit(X, Y, callbacks=[lambda state: seen.append(budget.available_cores())])
    assert seen == [1]
    assert budget.available_cores() > 1 or budget._quota() == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_ctrl_c_with_an_epochs_last_step_counts_the_epoch(
    monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    """It is raised as the compiled call returns, which has made all steps."""

    def fit(trainer: Trainer, epochs: int) -> fastbp.History:
        if not streamed:
            return trainer.fit(X, Y, epochs=epochs)
        items = [(X[:20], Y[:20]), (X[20:], Y[20:])]
        return trainer.fit_stream(items * epochs, steps_per_epoch=2, epochs=epochs)

    def made() -> Trainer:
        return Trainer(make_net(), batch_size=25, sampling="order")

    one, two = made(), made()
    steps = Run._steps

    def interrupted(self: Any, first: int, count: int, recipe: Any) -> int:
        done = steps(self, first, count, recipe)
        if first + done == 2:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_steps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(one, 5)
    assert (one.epoch, one.step, len(one.history)) == (1, 2, 1)
    fit(one, 1)
    fit(two, 2)
    assert bits_of(one.network) == bits_of(two.network)
    assert one.history.loss == two.history.loss
    assert one.history.gradient_norm == two.history.gradient_norm


def test_ctrl_c_within_an_epoch_counts_its_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(make_net(), batch_size=10)
    count = Run._count

    def interrupted(self: Any) -> int:
        if self.begun == 3:
            raise KeyboardInterrupt
        return min(count(self), 3)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_count", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, Y, epochs=5)
    assert (trainer.epoch, trainer.step, len(trainer.history)) == (0, 3, 0)


def test_each_start_has_numbers_of_its_own() -> None:
    seen = []
    trainer = Trainer(
        make_net(), fastbp.SGD(0.0), restarts=3,
        callbacks=[lambda state: seen.append(state.network.parameters.tobytes())],
    )  # fmt: skip
    trainer.fit(X, Y)
    assert len(set(seen)) == 3
