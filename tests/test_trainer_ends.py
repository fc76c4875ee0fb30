"""How a fit ends: by rules and callbacks, by divergence, by bad rows, from several starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_fits import X, Y, bits_of, make_net, plain_net

import fastbp
from fastbp import Dense, DivergenceError, Network, Trainer
from fastbp.kernels.cpu.jit import JIT_DISABLED

# --- stopping, callbacks, restarts ----------------------------------------------------------------


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
    from fastbp import threads

    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", 4)
    seen = []
    trainer = Trainer(make_net(), n_threads=1, batch_size=8)
    trainer.fit(X, Y, callbacks=[lambda state: seen.append(threads.available_cores())])
    assert seen == [1]
    assert threads.available_cores() > 1 or threads._quota() == 1


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
    assert bits_of(trainer.network) == bits_of(same.network)
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
    assert bits_of(trainer.network) == bits_of(shorter.network)
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
    trainer = Trainer(make_net(), batch_size=4, sampling="order", restarts=restarts)
    trainer.fit(X, Y)
    before, state = bits_of(trainer.network), trainer.state.tobytes()
    losses = list(trainer.history.loss)
    with pytest.raises(ValueError, match=rf"X\[37, 4\]={value} is not finite.*Nothing has changed"):
        trainer.fit(_mapped(tmp_path / "X.npy", bad), Y, epochs=3)
    assert bits_of(trainer.network) == before
    assert trainer.state.tobytes() == state
    assert (trainer.epoch, trainer.step, trainer.history.loss) == (1, 13, losses)


def test_a_bad_target_of_a_memory_map_is_named(tmp_path: Path) -> None:
    targets = np.zeros((50, 3), np.float32)
    targets[21, 2] = np.nan
    net = Network(6, [Dense(3)])
    before = bits_of(net)
    mapped = _mapped(tmp_path / "y.npy", targets)
    with pytest.raises(ValueError, match=r"y\[21, 2\]=nan is not finite"):
        Trainer(net, batch_size=4).fit(X, mapped)
    assert bits_of(net) == before
    with pytest.raises(ValueError, match=r"y\[21, 2\]=nan is not finite"):
        net.loss(X, mapped)


def test_every_door_names_a_bad_row_of_a_memory_map(tmp_path: Path) -> None:
    bad = X.copy()
    bad[3, 5] = np.inf
    mapped, net = _mapped(tmp_path / "X.npy", bad), plain_net(dtype="float32")
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
    one, two = Trainer(make_net(), batch_size=8), Trainer(make_net(), batch_size=8)
    one.fit(X, Y, epochs=2, validation=0.2)
    two.fit(
        _mapped(tmp_path / "X.npy", X), _mapped(tmp_path / "y.npy", Y), epochs=2, validation=0.2
    )
    assert bits_of(one.network) == bits_of(two.network)
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
