"""Where training breaks: it diverges, a row of a memory map is bad, gradients vanish or explode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_fits import X, Y, bits_of, make_net, plain_net

import fastbp
from fastbp import Dense, DivergenceError, Network, Trainer

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


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [("weight_decay", -1.0, ValueError), ("weight_decay", "x", TypeError), ("seed", -5, ValueError),
     ("clip_norm", -1.0, ValueError), ("perturbation", float("nan"), ValueError),
     ("sampling", "shuffel", ValueError)],
)  # fmt: skip
def test_settings_that_a_callback_leaves_are_looked_at(
    name: str, value: Any, kind: type[Exception]
) -> None:
    def change(state: fastbp.State) -> None:
        setattr(state.trainer, name, value)

    trainer = Trainer(plain_net(), callbacks=[change])
    with pytest.raises(kind, match=f"{name}="):
        trainer.fit(X, Y, epochs=3)
    assert (trainer.epoch, len(trainer.history)) == (1, 1)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_a_callback_spoils_is_met(label: int) -> None:
    labels = Y.astype(np.int64).copy()

    def spoil(state: fastbp.State) -> None:
        labels[7] = label

    with pytest.raises(ValueError, match=r"y\[7\]="):
        Trainer(plain_net(), callbacks=[spoil]).fit(X, labels, epochs=2)


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
