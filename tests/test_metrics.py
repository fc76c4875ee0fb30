"""Metrics against scikit-learn and against sums written out, and what bad ones get."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest

from fastbp import Dense, Network, Trainer
from fastbp import metrics as m

RNG = np.random.default_rng(7)
N, K = 200, 5
LABELS = RNG.integers(0, K, N)
SCORES = RNG.random((N, K)) + np.eye(K)[LABELS] * 0.4
PROBABILITIES = SCORES / SCORES.sum(axis=1, keepdims=True)
WEIGHT = RNG.random(N)
BINARY = RNG.integers(0, 2, N)
SIGMOID = np.clip(RNG.random((N, 1)) * 0.5 + BINARY[:, None] * 0.4, 0.01, 0.99)
VALUES = RNG.standard_normal((N, 3))
GUESSES = VALUES + 0.3 * RNG.standard_normal((N, 3))
# Sums of 200 terms of size about 1 in float64: 200 * 2^-53 = 2e-14, twice (theirs and ours).
RTOL = 1e-13


def _sklearn(name: str, y: Any, outputs: Any, weight: Any) -> float:
    judge = pytest.importorskip("sklearn.metrics")
    labels = outputs.argmax(axis=1) if outputs.shape[1] > 1 else outputs[:, 0] > 0.5
    table = {
        "accuracy": lambda: judge.accuracy_score(y, labels, sample_weight=weight),
        "f1_macro": lambda: judge.f1_score(y, labels, average="macro", sample_weight=weight),
        "log_loss": lambda: judge.log_loss(y, outputs, sample_weight=weight),
        "top_3": lambda: judge.top_k_accuracy_score(y, outputs, k=3, sample_weight=weight),
        "mean_squared_error": lambda: judge.mean_squared_error(y, outputs, sample_weight=weight),
        "mean_absolute_error": lambda: judge.mean_absolute_error(y, outputs, sample_weight=weight),
        "r2": lambda: judge.r2_score(y, outputs, sample_weight=weight),
    }
    return float(table[name]())


CASES: list[tuple[str, Any, Any]] = [
    *((name, LABELS, PROBABILITIES) for name in ("accuracy", "f1_macro", "log_loss", "top_3")),
    *((name, BINARY, SIGMOID) for name in ("accuracy", "f1_macro")),
    *((name, VALUES, GUESSES) for name in ("mean_squared_error", "mean_absolute_error", "r2")),
    *((name, VALUES[:, :1], GUESSES[:, :1]) for name in ("mean_squared_error", "r2")),
]


@pytest.mark.parametrize(("name", "y", "outputs"), CASES)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["even", "weighted"])
def test_scikit_learn_agrees(name: str, y: Any, outputs: Any, weight: Any) -> None:
    ours = m.compute(name, y, outputs, weight)[name]
    assert ours == pytest.approx(_sklearn(name, y, outputs, weight), rel=RTOL)


def test_targets_of_every_form_give_the_same() -> None:
    one_hot = np.eye(K)[LABELS]
    names = ("accuracy", "f1_macro", "log_loss", "top_3", "mean_squared_error")
    assert m.compute(names, LABELS, PROBABILITIES) == m.compute(names, one_hot, PROBABILITIES)
    for y in (BINARY.astype(float), BINARY[:, None].astype(np.float32)):
        assert m.compute("accuracy", y, SIGMOID) == m.compute("accuracy", BINARY, SIGMOID[:, 0])


def test_binary_log_loss_and_several_labels_a_row() -> None:
    a, y = SIGMOID[:, 0], BINARY
    own = -np.mean(y * np.log(a) + (1 - y) * np.log(1 - a))
    assert m.compute("log_loss", y, SIGMOID)["log_loss"] == pytest.approx(own, rel=RTOL)
    many = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    guess = np.array([[0.9, 0.8], [0.4, 0.6], [0.7, 0.2]])
    result = m.compute(("accuracy", "log_loss"), many, guess)
    assert result["accuracy"] == pytest.approx(2 / 3)
    own = -np.mean((many * np.log(guess) + (1 - many) * np.log(1 - guess)).sum(axis=1))
    assert result["log_loss"] == pytest.approx(own, rel=RTOL)


def test_log_loss_stays_finite() -> None:
    for dtype in (np.float32, np.float64):
        outputs = np.array([[0.0, 1.0], [1.0, 0.0]], dtype=dtype)
        value = m.compute("log_loss", [0, 0], outputs)["log_loss"]
        assert value == pytest.approx(-np.log(float(np.finfo(dtype).tiny)) / 2, rel=1e-6)


def test_r2_of_a_constant_target() -> None:
    assert m.compute("r2", [1.0, 1.0], [[1.0], [1.0]])["r2"] == 1.0
    assert m.compute("r2", [1.0, 1.0], [[1.0], [2.0]])["r2"] == 0.0


def test_a_constant_target_is_known_as_one_though_its_mean_is_rounded() -> None:
    """Of seven tenths the mean is not a tenth: the spread is about 1e-33."""
    outputs = np.linspace(0, 1, 14).reshape(7, 2)
    assert m.compute("r2", np.full(7, 0.1), outputs[:, :1])["r2"] == 0.0
    assert m.compute("r2", np.full((7, 2), 0.1), np.full((7, 2), 0.1))["r2"] == 1.0
    one = np.column_stack([np.full(7, 0.1), np.arange(7.0)])
    assert m.compute("r2", one, outputs)["r2"] == pytest.approx(
        (0.0 + m.compute("r2", one[:, 1], outputs[:, 1:])["r2"]) / 2, rel=1e-14
    )


def test_all_right_is_one() -> None:
    """Weights are added up once: 1/6 six times is not 1."""
    for n in range(1, 400):
        labels = np.arange(n) % 3
        found = m.compute(["accuracy", "top_3", "f1_macro"], labels, np.eye(3)[labels])
        assert set(found.values()) == {1.0}


def test_one_row_and_one_class() -> None:
    result = m.compute(("accuracy", "f1_macro", "top_3"), [1], [[0.1, 0.9]])
    assert result == {"accuracy": 1.0, "f1_macro": 1.0, "top_3": 1.0}


def test_top_k_counts_from_above() -> None:
    outputs = np.array([[0.1, 0.2, 0.3, 0.4]])
    got = [m.compute(f"top_{k}", [1], outputs)[f"top_{k}"] for k in (1, 2, 3, 4)]
    assert got == [0.0, 0.0, 1.0, 1.0]


def test_callables_are_named() -> None:
    def worst(y: Any, outputs: Any) -> float:
        return np.float32(np.abs(y - outputs[:, 0]).max())

    result = m.compute([worst, "r2"], [1.0, 2.0], [[1.5], [2.0]])
    assert result["worst"] == 0.5
    assert type(result["worst"]) is float
    assert list(m.compute({"a": worst, "b": "r2"}, [1.0, 2.0], [[1.5], [2.0]])) == ["a", "b"]


def test_every_metric_of_the_table_knows_its_direction() -> None:
    for name, metric in m.METRICS.items():
        perfect = m.compute(name, BINARY, np.eye(2)[BINARY] * 0.98 + 0.01)[name]
        poor = m.compute(name, BINARY, np.eye(2)[1 - BINARY] * 0.98 + 0.01)[name]
        assert (perfect > poor) == metric.higher or name.startswith("top_")
        assert m.higher_is_better(name) == m.higher_is_better(f"validation_{name}") == metric.higher
    assert not m.higher_is_better("validation_loss")


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [(lambda: m.resolve("acuracy"), ValueError, "did you mean 'accuracy'"),
     (lambda: m.resolve([3]), TypeError, "metric=3"),
     (lambda: m.resolve(["r2", "r2"]), ValueError, "'r2' is there twice"),
     (lambda: m.resolve({"loss": "r2"}), ValueError, "names something else in the history"),
     (lambda: m.resolve({"dead_relu": "r2"}), ValueError, "names something else"),
     (lambda: m.resolve("top_0"), ValueError, "metric='top_0' is not known"),
     (lambda: m.compute("r2", [1.0], [[1.0], [2.0]]), ValueError, "1 rows and outputs 2"),
     (lambda: m.compute("r2", [], []), ValueError, "0 rows"),
     (lambda: m.compute({"f": lambda y, a: "x"}, [1.0], [[1.0]]), TypeError, r"metric f\(y,"),
     (lambda: m.compute({"f": lambda y, a: np.nan}, [1.0], [[1.0]]), ValueError, "=nan must be a")],
)  # fmt: skip
def test_bad_metrics_are_named(call: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_improves() -> None:
    nan = float("nan")
    assert not any(m.improves("loss", v, None, 0.0, None) for v in (nan, float("inf")))
    for value, best in itertools.product((1.0, 2.0, 3.0), repeat=2):
        assert m.improves("loss", value, best, 0.5, None) == (value < best - 0.5)
        assert m.improves("x", value, best, 0.5, "max") == (value > best + 0.5)


def test_several_labels_a_row_are_classes_of_their_own() -> None:
    judge = pytest.importorskip("sklearn.metrics")
    truth = (RNG.random((60, 4)) > 0.6).astype(float)
    truth[:, 3] = 0.0
    outputs = np.clip(truth + 0.6 * RNG.standard_normal((60, 4)), 0.01, 0.99)
    outputs[:, 3] = 0.1  # never there and never said: left out
    own = m.compute("f1_macro", truth, outputs)["f1_macro"]
    wanted = judge.f1_score(truth[:, :3] > 0.5, outputs[:, :3] > 0.5, average="macro")
    assert own == pytest.approx(wanted, rel=RTOL)


def test_outputs_that_are_nan_are_not_right() -> None:
    outputs = np.full((3, 4), np.nan)
    found = m.compute(["accuracy", "top_3", "f1_macro", "log_loss"], [0, 1, 2], outputs)
    assert all(np.isnan(value) for value in found.values())


def test_classes_are_ranked_among_several_outputs() -> None:
    net = Network(2, [Dense(1, "sigmoid")])
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match=r"'top_3' ranks classes, and one output has none"):
        Trainer(net, metrics="top_3").fit(np.eye(2), [0, 1])
    assert net.parameters.tobytes() == before


def test_a_metric_cannot_write_into_the_callers_targets() -> None:
    y = np.array([0, 1])
    y.flags.writeable = False
    net = Network(2, [Dense(2, "softmax")])
    with pytest.raises(ValueError, match="read-only"):
        net.evaluate(np.eye(2), y, lambda truth, outputs: truth.sort())
    assert y.tolist() == [0, 1]


def test_two_metrics_of_one_name_are_refused_whatever_they_are() -> None:
    with pytest.raises(ValueError, match="the name 'partial' is there twice"):
        m.resolve([functools.partial(max), functools.partial(min)])


def test_the_loss_says_whether_each_output_decides() -> None:
    """As `Network.predict` has it: no row of the targets changes what the others are judged by."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 4)), np.eye(3, dtype=int)[rng.integers(0, 3, 60)]
    asked = ("accuracy", "f1_macro", "log_loss")
    each = Network(4, [Dense(3, "sigmoid")], loss="binary_cross_entropy", dtype="float64", seed=1)
    one = Network(4, [Dense(3, "softmax")], loss="cross_entropy", dtype="float64", seed=1)
    other = Y.copy()
    other[0] = 1 - other[0]
    for targets in (Y, other):
        found = each.evaluate(X, targets, asked)
        right = (each.predict(X) == targets).all(axis=1).mean()
        assert found["accuracy"] == pytest.approx(right, rel=1e-14)
        assert found["log_loss"] == pytest.approx(found["loss"], rel=1e-13)
        found = one.evaluate(X, targets, asked)
        assert found["log_loss"] == pytest.approx(found["loss"], rel=1e-13)
        right = (one.predict(X) == targets.argmax(axis=1)).mean()
        assert found["accuracy"] == pytest.approx(right, rel=1e-14)
    labels = Y.argmax(axis=1)
    found = each.evaluate(X, labels, asked)
    assert found["log_loss"] == pytest.approx(found["loss"], rel=1e-13)
    likeliest = each.forward(X).argmax(axis=1)
    assert found["accuracy"] == pytest.approx((likeliest == labels).mean(), rel=1e-14)


def test_float_labels_of_several_outputs_are_labels() -> None:
    labels, outputs = [0, 1, 2, 2], np.eye(4)[[0, 1, 2, 2]]
    asked = ["accuracy", "f1_macro", "log_loss"]
    assert m.compute(asked, np.array(labels, float), outputs) == m.compute(asked, labels, outputs)
    with pytest.raises(ValueError, match=r"y\[1\]=7.0 is not a class"):
        m.compute(asked, np.array([0.0, 7.0]), outputs[:2])


@pytest.mark.parametrize("weight", [[-1.0, 2.0], [0.0, 0.0], [1.0], [np.nan, 1.0]])
def test_weights_are_looked_at(weight: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^weight"):
        m.compute("accuracy", [0, 1], np.eye(2), weight)
