"""What is changed where nothing may change, and numbers that cannot be: refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import SGD, Dense, Network, ReduceOnPlateau, Trainer, Warmup
from fastbp.metrics import compute

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4))
Y = RNG.integers(0, 3, 64)


def make(**options: Any) -> Network:
    return Network(4, [Dense(8, "tanh"), Dense(3, "softmax")], seed=0, **options)


def test_a_trace_is_not_the_data(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X.astype("f4"))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    traced = make().trace(mapped, Y)["input"][0]
    assert not np.shares_memory(traced, mapped)
    assert traced.tobytes() == mapped.tobytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [("description", Dense(8, "relu")), ("index", 1), ("inputs", 7), ("_network", None)],
)
def test_a_layer_stays_what_it_is(name: str, value: Any) -> None:
    net = make()
    before = net.forward(X).tobytes()
    with pytest.raises(AttributeError, match=f"{name} cannot be set"):
        setattr(net.layers[0], name, value)
    assert net.forward(X).tobytes() == before


@pytest.mark.parametrize("layers", [{Dense(7), Dense(3)}, {Dense(7): 1}])
def test_layers_have_an_order(layers: Any) -> None:
    with pytest.raises(TypeError, match=r"layers=.* has no order"):
        Network(4, layers)


def test_an_architecture_names_no_device() -> None:
    architecture = make().architecture() | {"device": "cuda"}
    with pytest.raises(ValueError, match="an architecture has no device"):
        Network.from_architecture(architecture)


def test_precision_is_set_between_fits() -> None:
    net = make()

    def change(state: fastbp.State) -> None:
        state.network.precision = None

    with pytest.raises(RuntimeError, match="precision=None was set while the network is trained"):
        Trainer(net).fit(X, Y, callbacks=[change])
    net.precision = None


def test_the_first_of_equally_likely_classes_counts() -> None:
    """As for accuracy: a network that gives all classes 0.1 does not know them all."""
    y = RNG.integers(0, 10, 500)
    flat = np.full((500, 10), 0.1)
    found = compute(["accuracy", "top_1", "top_3"], y, flat)
    assert found["top_1"] == found["accuracy"] == (y == 0).mean()
    assert found["top_3"] == (y < 3).mean()


def test_a_metric_cannot_write_into_the_outputs() -> None:
    def wipe(y: Any, outputs: Any) -> float:
        outputs.fill(0)
        return 1.0

    with pytest.raises(ValueError, match="read-only"):
        make().evaluate(X, Y, {"wipe": wipe, "accuracy": "accuracy"})


def test_another_kind_of_schedule_may_be_set_between_fits() -> None:
    trainer = Trainer(make(), SGD(0.1))
    trainer.fit(X, Y, 1)
    trainer.schedule = ReduceOnPlateau(0.05)
    assert trainer.fit(X, Y, 2).lr == [0.05, 0.05]
    trainer.schedule = 0.01
    assert trainer.fit(X, Y, 1).lr == [0.01]


def test_warm_ups_within_one_another_count_their_own_steps() -> None:
    def plateau() -> ReduceOnPlateau:
        return ReduceOnPlateau(1e-9, patience=1, factor=0.5, threshold=0.5)

    nested = Trainer(make(), SGD(Warmup(Warmup(plateau(), 3), 3)), batch_size=64)
    rates = nested.fit(X, Y, 12).lr
    assert rates[5] == pytest.approx(1e-9)
    assert rates[-1] < 1e-9
    trainer = Trainer(make(), SGD(Warmup(Warmup(ReduceOnPlateau(0.1, monitor="nope"), 3), 3)))
    with pytest.raises(ValueError, match="nope"):
        trainer.fit(X, Y)
    assert trainer.step == 0


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        (lambda n: np.full(n, -0.5), "gave -0.5 for step 0"), (lambda n: np.full(n, np.nan), "nan"),
        (lambda n: 0.5, r"gave shape \(\)"), (lambda n: np.ones(2), r"gave shape \(2,\)"),
    ],
)  # fmt: skip
def test_a_schedule_of_ones_own_is_looked_at(rates: Any, words: str) -> None:
    class Own(fastbp.Schedule):
        def at(self, steps: Any, total: Any, state: Any) -> Any:
            return rates(len(steps))

    net = make()
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match=words):
        Trainer(net, SGD(Own())).fit(X, Y)
    assert net.parameters.tobytes() == before


def test_weights_whose_sum_is_no_number_are_refused() -> None:
    net = make(dtype="float64")
    with pytest.raises(ValueError, match="sample_weight is too large: its sum"):
        net.loss(X, Y, sample_weight=np.full(64, 1e307))
    assert net.loss(X, Y, sample_weight=np.full(64, 1e305)) == pytest.approx(net.loss(X, Y))
