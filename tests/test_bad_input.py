"""What bad data gets, at every public door: one clear error, and nothing changed.

Each message names the argument, shows the value, says what is allowed and, where there is one, the
way out; it is one of ours, never Numba's or NumPy's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from refusal_support import check_message

import fastbp
from fastbp import Dense, Network, Trainer

N, M, K = 10, 4, 3
X = np.random.default_rng(0).normal(size=(N, M)).astype(np.float32)
Y = np.arange(N) % K


def _network() -> Network:
    return Network(M, [Dense(5, "relu", batch_norm=True), Dense(K, "softmax")], seed=1)


def _with(value: float, row: int = 2, column: int = 1) -> Any:
    bad = X.copy()
    bad[row, column] = value
    return bad


def _weights(value: float) -> Any:
    weights = np.ones(N)
    weights[3] = value
    return weights


Door = Callable[[Network], Any]

_NAN, _INF = _with(np.nan), _with(np.inf)
DATA: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "NaN in X": (_NAN, Y, ValueError, "X[2, 1]=nan is not finite"),
    "inf in X": (_INF, Y, ValueError, "X[2, 1]=inf is not finite"),
    "X with more columns": (
        np.ones((N, M + 1)),
        Y,
        ValueError,
        "X has 5 columns but the network has 4 inputs",
    ),
    "X with fewer columns": (
        X[:, :2],
        Y,
        ValueError,
        "X has 2 columns but the network has 4 inputs",
    ),
    "X of one dimension": (
        X[0],
        Y,
        ValueError,
        "X has one dimension, shape (4,); give two: X.reshape(1, -1)",
    ),
    "X of three dimensions": (X[None], Y, ValueError, "X has 3 dimensions, shape (1, 10, 4)"),
    "X a number": (3.0, Y, ValueError, "X=3.0 is a single number"),
    "X empty": (X[:0], Y[:0], ValueError, "X is empty (shape (0, 4)); at least one row"),
    "X missing": (None, Y, TypeError, "X=None; give an array of numbers"),
    "X complex": (X + 1j, Y, TypeError, "X is complex (complex64)"),
    "X text": (X.astype(str), Y, TypeError, "X holds text"),
    "X dates": (np.zeros((N, M), "M8[s]"), Y, TypeError, "X holds dates"),
    "X ragged": (
        [[1.0] * 4, [1.0] * 3],
        [0, 1],
        ValueError,
        "X: row 1 has length 3 and row 0 has 4",
    ),
    "X of objects": (np.full((N, M), "a", object), Y, TypeError, "X[0, 0]='a' (str) is no number"),
    "X too large for float32": (
        X.astype(np.float64) * 1e39,
        Y,
        ValueError,
        "is too large for float32",
    ),
    "X masked": (np.ma.masked_less(X, 0), Y, ValueError, "X has masked values"),
    "y shorter": (X, Y[:-1], ValueError, "y has 9 rows but X has 10"),
    "y longer": (X, np.append(Y, 0), ValueError, "y has 11 rows but X has 10"),
    "y missing": (X, None, TypeError, "y=None; give an array of numbers"),
    "labels too large": (X, Y + 1, ValueError, "y[2]=3 is not a class of a network with 3 outputs"),
    "labels below 0": (X, Y - 1, ValueError, "y[0]=-1 is not a class"),
    "labels no whole numbers": (X, Y + 0.5, ValueError, "y[0]=0.5 is not a class"),
    "labels NaN": (X, np.where(Y == 1, np.nan, Y), ValueError, "y[1]=nan is not a class"),
    "labels text": (X, Y.astype(str), TypeError, "y holds text"),
    "targets with more columns": (
        X,
        np.ones((N, 4)),
        ValueError,
        "y has shape (10, 4) but the network has 3 outputs",
    ),
    "targets NaN": (X, np.full((N, 3), np.nan), ValueError, "y[0, 0]=nan is not finite"),
    "targets outside [0, 1]": (
        X,
        np.full((N, 3), 1.5),
        ValueError,
        "y[0, 0]=1.5 is outside [0, 1]",
    ),
    "y of three dimensions": (X, np.ones((N, 3, 1)), ValueError, "y has shape (10, 3, 1)"),
}

WEIGHTS: dict[str, tuple[Any, type[Exception], str]] = {
    "too few": (np.ones(N - 1), ValueError, "sample_weight has shape (9,) but X has 10 rows"),
    "below 0": (_weights(-1.0), ValueError, "sample_weight[3]=-1.0 must be finite and 0 or more"),
    "NaN": (_weights(np.nan), ValueError, "sample_weight[3]=nan must be finite"),
    "inf": (_weights(np.inf), ValueError, "sample_weight[3]=inf must be finite"),
    "all 0": (np.zeros(N), ValueError, "sample_weight is 0 for every row"),
    "text": (["a"] * N, TypeError, "sample_weight holds text"),
}


class Unchanged:
    """A network and a trainer that has trained; at the end both are what they were."""

    def __init__(self) -> None:
        self.net = _network()
        self.trainer = Trainer(self.net, batch_size=4)
        self.trainer.fit(X, Y)
        self.before = self._now()

    def _now(self) -> Any:
        trainer = self.trainer
        numbers = {name: view.tobytes() for name, view in self.net.tensors().items()}
        counters = trainer.epoch, trainer.step, trainer.history.to_dict()
        return numbers, counters, trainer.state.tobytes(), dict(trainer.schedule_state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._now() == self.before


@pytest.fixture(scope="module")
def trained() -> Unchanged:
    return Unchanged()


DOORS: dict[str, Callable[[Unchanged, Any, Any], Any]] = {
    "fit": lambda u, X, y: u.trainer.fit(X, y),
    "loss": lambda u, X, y: u.net.loss(X, y),
    "gradients": lambda u, X, y: u.net.gradients(X, y),
    "trace": lambda u, X, y: u.net.trace(X, y),
    "evaluate": lambda u, X, y: u.net.evaluate(X, y, metrics="accuracy"),
    "check_gradients": lambda u, X, y: fastbp.check_gradients(u.net, X, y),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind_of_data", DATA)
def test_data(trained: Unchanged, door: str, kind_of_data: str) -> None:
    if (door, kind_of_data) == ("check_gradients", "X too large for float32"):
        return  # the check is made in float64
    bad, y, kind, words = DATA[kind_of_data]
    with trained, pytest.raises(kind) as caught:
        DOORS[door](trained, bad, y)
    check_message(caught, kind, words)


@pytest.mark.parametrize(
    "kind_of_data", [name for name in DATA if name.startswith(("X", "NaN", "inf"))]
)
def test_inputs_alone(trained: Unchanged, kind_of_data: str) -> None:
    bad, _, kind, words = DATA[kind_of_data]
    for call in (trained.net.forward, trained.net.predict):
        with trained, pytest.raises(kind) as caught:
            call(bad)
        check_message(caught, kind, words)
    with trained, pytest.raises(kind) as caught:
        trained.net.forward(bad, training=True)
    check_message(caught, kind, words)


@pytest.mark.parametrize("kind_of_weights", WEIGHTS)
def test_sample_weights(trained: Unchanged, kind_of_weights: str) -> None:
    weights, kind, words = WEIGHTS[kind_of_weights]
    net, trainer = trained.net, trained.trainer
    for call in (trainer.fit, net.loss, net.gradients, net.evaluate):
        with trained, pytest.raises(kind) as caught:
            call(X, Y, sample_weight=weights)
        check_message(caught, kind, words)


FIT: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no epochs": ({"epochs": 0}, ValueError, "epochs=0 must be an integer of at least 1"),
    "epochs a float": ({"epochs": 1.5}, TypeError, "epochs=1.5 is of type float"),
    "share of 1": (
        {"validation": 1.0},
        ValueError,
        "validation=1.0 must be (X, y), (X, y, weights), or a share",
    ),
    "share below 0": ({"validation": -0.1}, ValueError, "validation=-0.1 must be"),
    "share True": ({"validation": True}, ValueError, "validation=True must be"),
    "share text": ({"validation": "some"}, ValueError, "validation='some' must be"),
    "share of figures": ({"validation": "0.25"}, ValueError, "validation='0.25' must be"),
    "one part": ({"validation": (X,)}, ValueError, "validation has 1 part; give (X, y)"),
    "held-out NaN": (
        {"validation": (_NAN, Y)},
        ValueError,
        "validation[0][2, 1]=nan is not finite",
    ),
    "held-out columns": ({"validation": (X[:, :2], Y)}, ValueError, "validation[0] has 2 columns"),
    "held-out labels": (
        {"validation": (X, Y + 9)},
        ValueError,
        "validation[1][0]=9 is not a class",
    ),
    "held-out weights": (
        {"validation": (X, Y, np.ones(3))},
        ValueError,
        "validation[2] has shape (3,)",
    ),
    "callback a class": ({"callbacks": Unchanged}, TypeError, "callbacks: Unchanged is a class"),
}


@pytest.mark.parametrize("case", FIT)
def test_fit(trained: Unchanged, case: str) -> None:
    arguments, kind, words = FIT[case]
    with trained, pytest.raises(kind) as caught:
        trained.trainer.fit(X, Y, **arguments)
    check_message(caught, kind, words)


def test_what_is_watched_must_be_recorded() -> None:
    def odd(y: Any, outputs: Any) -> float:
        return 0.0

    cases: list[tuple[dict[str, Any], str]] = [
        ({"early_stopping": True}, "monitor='validation_loss' needs held-out data"),
        (
            {"early_stopping": fastbp.EarlyStopping("los")},
            "monitor='los' is not known; did you mean 'loss'",
        ),
        ({"stopping": fastbp.NoChange(monitor="accuracy")}, "monitor='accuracy' is not known"),
        (
            {"optimizer": fastbp.SGD(fastbp.ReduceOnPlateau(0.1, monitor="validation_loss"))},
            "needs held-out data",
        ),
        (
            {"early_stopping": fastbp.EarlyStopping("odd"), "metrics": odd},
            "which way is up is not known",
        ),
    ]
    for arguments, words in cases:
        net = _network()
        before = net.parameters.copy()
        trainer = Trainer(net, batch_size=4, **arguments)
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            trainer.fit(X, Y)
        check_message(caught, ValueError, words)
        assert np.array_equal(net.parameters, before)
        assert trainer.step == len(trainer.history) == 0


@pytest.mark.parametrize("rate", [-0.5, np.nan, "x"])
def test_a_callable_rate_is_checked_before_its_steps(rate: Any) -> None:
    net = _network()
    before = net.parameters.copy()
    trainer = Trainer(net, fastbp.SGD(lambda step: 0.1 if step == 0 else rate), batch_size=4)
    with pytest.raises((ValueError, TypeError), match=r"lr\(1\)="):
        trainer.fit(X, Y)
    assert np.array_equal(net.parameters, before)


NET: dict[str, tuple[Door, type[Exception], str]] = {
    "metric misspelt": (
        lambda net: net.evaluate(X, Y, metrics="accurracy"),
        ValueError,
        "did you mean 'accuracy'",
    ),
    "seed below 0": (
        lambda net: net.gradients(X, Y, seed=-1),
        ValueError,
        "seed=-1 must be an integer, 0 to",
    ),
    "seed too large": (
        lambda net: net.loss(X, Y, training=True, seed=2**63),
        ValueError,
        "seed=9223372036854775808",
    ),
    "seed of trace": (
        lambda net: net.trace(X, Y, seed=1.5),
        TypeError,
        "seed=1.5 is of type float",
    ),
    "parameters of another size": (
        lambda net: setattr(net, "parameters", [1.0]),
        ValueError,
        "parameters has shape (1,); this network has",
    ),
    "parameters text": (
        lambda net: setattr(net, "parameters", "abc"),
        TypeError,
        "parameters holds text",
    ),
    "W of another shape": (
        lambda net: setattr(net.layers[0], "W", np.ones(3)),
        ValueError,
        "W has shape (3,); it must be (4, 5)",
    ),
    "W complex": (
        lambda net: setattr(net.layers[0], "W", np.ones((4, 5)) + 1j),
        TypeError,
        "W is complex",
    ),
    "a bias where there is none": (
        lambda net: setattr(net.layers[0], "b", 0.0),
        ValueError,
        "layer 0 has no b; it cannot be set",
    ),
    "method unknown": (
        lambda net: fastbp.check_gradients(net, X, Y, method="forward"),
        ValueError,
        "method='forward' is not known",
    ),
    "no parameters to check": (
        lambda net: fastbp.check_gradients(net, X, Y, parameters=0),
        ValueError,
        "parameters=0 must be",
    ),
    "one row with batch norm": (
        lambda net: net.gradients(X[:1], Y[:1]),
        ValueError,
        "X: batch norm needs at least 2 samples in a batch, and there is 1; give more rows",
    ),
    "a folder that is not there": (
        lambda net: net.save("/nowhere/net"),
        FileNotFoundError,
        "'/nowhere' is not a directory: make it first",
    ),
}


@pytest.mark.parametrize("case", NET)
def test_network_methods(trained: Unchanged, case: str) -> None:
    call, kind, words = NET[case]
    with trained, pytest.raises(kind) as caught:
        call(trained.net)
    check_message(caught, kind, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be loaded as a network"),
        (b"\x80\x04K\x01.", "cannot be loaded"),
        (b"{}", "cannot be loaded"),
    ],
)
def test_load(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        Network.load(tmp_path / "net")
    check_message(caught, ValueError, words)
    with pytest.raises(FileNotFoundError):
        Network.load(tmp_path / "another")


def test_there_are_enough_kinds() -> None:
    assert sum(len(table) for table in (DATA, WEIGHTS, FIT, NET)) >= 55
