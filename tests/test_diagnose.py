"""The diagnosis names the planted layer in ten sick networks, and nothing in ten healthy ones.

The networks are trained here, by a small multilayer perceptron in NumPy that records what the
Trainer records.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from fastbp import Dense, Network, Trainer
from fastbp.diagnose import Diagnosis, Finding, LayerFacts, diagnose, layer_facts
from fastbp.history import History

Array = np.ndarray

ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "identity": (lambda z: z, lambda z, a: np.ones_like(z)),
    "relu": (lambda z: np.maximum(z, 0), lambda z, a: z > 0),
    "tanh": (np.tanh, lambda z, a: 1 - a * a),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-np.clip(z, -700, 700))), lambda z, a: a * (1 - a)),
    "step": (lambda z: (z >= 0) * 1.0, lambda z, a: np.zeros_like(z)),
}


class Net:
    """Dense layers, batch norm before the activation where asked, squared error or softmax."""

    def __init__(
        self, sizes: Sequence[int], hidden: str, output: str = "softmax", norm: bool = False
    ) -> None:
        rng = np.random.default_rng(len(sizes))
        self.acts = [hidden] * (len(sizes) - 2) + [output]
        self.norm = [norm] * (len(sizes) - 2) + [False]
        self.W, self.b = [], [np.zeros(n) for n in sizes[1:]]
        for m, n, act in zip(sizes, sizes[1:], self.acts, strict=False):
            variance = 2 / m if act == "relu" else 2 / (m + n)
            self.W.append(rng.standard_normal((m, n)) * np.sqrt(variance))

    @property
    def facts(self) -> list[LayerFacts]:
        rows = zip(self.W, self.acts, self.norm, strict=True)
        return [LayerFacts(*W.shape, act, norm) for W, act, norm in rows]

    def gradient(self, X: Array, Y: Array) -> tuple[list[Array], list[Array], dict[str, Any]]:
        """dL/dW and dL/db of the mean loss, and what the history records."""
        outputs, kept = [X], []
        for W, b, act, norm in zip(self.W, self.b, self.acts, self.norm, strict=True):
            Z = outputs[-1] @ W
            sigma = np.sqrt(Z.var(axis=0) + 1e-5) if norm else np.ones(1)
            N = (Z - Z.mean(axis=0)) / sigma if norm else Z
            U = N + b
            if act == "softmax":
                E = np.exp(U - U.max(axis=1, keepdims=True))
                outputs.append(E / E.sum(axis=1, keepdims=True))
            else:
                outputs.append(ACTIVATIONS[act][0](U))
            kept.append((U, N, sigma))
        d = (outputs[-1] - Y) / len(X)
        dW, db, delta, dead = [], [], [], []
        for layer in range(len(self.W) - 1, -1, -1):
            U, N, sigma = kept[layer]
            A, act = outputs[layer + 1], self.acts[layer]
            if layer < len(self.W) - 1:
                d = d * ACTIVATIONS[act][1](U, A)
            db.insert(0, d.sum(axis=0))
            if self.norm[layer]:
                d = (d - d.mean(axis=0) - N * (d * N).mean(axis=0)) / sigma
            delta.insert(0, float(np.sqrt(np.mean(d * d))))
            dead.insert(0, float((A <= 0).all(axis=0).mean()) if act == "relu" else np.nan)
            dW.insert(0, outputs[layer].T @ d)
            d = d @ self.W[layer].T
        return dW, db, {"delta_rms": delta, "dead_relu": dead, "weight_norm": self.norms()}

    def norms(self) -> list[float]:
        return [float(np.linalg.norm(W)) for W in self.W]


def train(net: Net, X: Array, Y: Array, epochs: int, lr: float, adam: bool) -> History:
    """SGD or Adam on batches of 32; the figures are those of each epoch's last step."""
    rng, history, t = np.random.default_rng(0), History(), 0
    history.start = net.gradient(X[:32], Y[:32])[2]
    numbers = [*net.W, *net.b]
    first = [np.zeros_like(p) for p in numbers]
    second = [np.zeros_like(p) for p in numbers]
    for _ in range(epochs):
        order = rng.permutation(len(X))
        for rows in np.split(order, range(32, len(X), 32)):
            t += 1
            dW, db, figures = net.gradient(X[rows], Y[rows])
            updates = []
            for p, g, m, v in zip(numbers, [*dW, *db], first, second, strict=True):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                scaled = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
                updates.append(-lr * (scaled if adam else g))
                p += updates[-1]
        update = [float(np.linalg.norm(u)) for u in updates[: len(net.W)]]
        history.append_epoch(**{**figures, "weight_norm": net.norms(), "update_norm": update})
    return history


def data(kind: str = "classes", n: int = 320) -> tuple[Array, Array]:
    """Inputs (n, 20) of variance 1, and targets that a network can learn."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((n, 20))
    scores = np.tanh(X @ rng.standard_normal((20, 4))) @ rng.standard_normal((4, 5))
    if kind == "values":
        return X, scores[:, :1]
    if kind == "binary":
        return X, (scores[:, :1] > 0) * 1.0
    return X, np.eye(5)[scores.argmax(axis=1)]


SIZES = (20, 48, 32, 24, 5)


def _weights(layer: int, factor: float) -> Callable[[Net], None]:
    return lambda net: net.W[layer].__imul__(factor)


def _bias(layer: int, value: float) -> Callable[[Net], None]:
    return lambda net: net.b[layer].__iadd__(value)


def _all_weights(factor: float) -> Callable[[Net], None]:
    return lambda net: [W.__imul__(factor) for W in net.W] and None


def _one_step_function(net: Net) -> None:
    net.acts[1] = "step"


# Sizes, activation, what is planted; the layer to blame and the kind.
PLANTED: dict[str, tuple[Sequence[int], str, Callable[[Net], Any], int, str]] = {
    "relu, weights 1e-4": (SIZES, "relu", _weights(2, 1e-4), 2, "vanishing"),
    "tanh, weights 1e-4": (SIZES, "tanh", _weights(1, 1e-4), 1, "vanishing"),
    "sigmoid, output weights 1e-4": (SIZES, "sigmoid", _weights(3, 1e-4), 3, "vanishing"),
    "relu, weights x 100": (SIZES, "relu", _weights(1, 100.0), 1, "exploding"),
    "tanh, weights x 100": (SIZES, "tanh", _weights(2, 100.0), 2, "exploding"),
    "sigmoid saturated by its bias": (SIZES, "sigmoid", _bias(1, 30.0), 1, "vanishing"),
    "tanh saturated by its bias": (SIZES, "tanh", _bias(0, -20.0), 0, "vanishing"),
    "dead relu": (SIZES, "relu", _bias(1, -100.0), 1, "dead"),
    "eight sigmoid layers": ((20, *[24] * 8, 5), "sigmoid", _weights(0, 1.0), 0, "vanishing"),
    "large weights in six layers": ((20, *[24] * 6, 5), "relu", _all_weights(4.0), 0, "exploding"),
    "a step function": (SIZES, "tanh", _one_step_function, 1, "vanishing"),
    "first weights 1e-4": (SIZES, "tanh", _weights(0, 1e-4), 0, "vanishing"),
}


@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", PLANTED)
def test_the_planted_layer_is_named(name: str, adam: bool) -> None:
    sizes, hidden, plant, layer, kind = PLANTED[name]
    net = Net(sizes, hidden)
    plant(net)
    with np.errstate(all="ignore"):  # runaway networks overflow
        history = train(net, *data(), epochs=4, lr=1e-3 if adam else 0.05, adam=adam)
    history.layers = net.facts
    diagnosis = history.diagnose()
    assert [(finding.layer, finding.kind) for finding in diagnosis] == [(layer, kind)]
    assert f"ayer {layer} " in str(diagnosis) or f"ayers {layer} " in str(diagnosis)
    assert "Try: " in str(diagnosis)


# Sizes, activation, output, data, batch norm, epochs, scale of X.
HEALTHY: dict[str, tuple[Sequence[int], str, str, str, bool, int, float]] = {
    "relu": (SIZES, "relu", "softmax", "classes", False, 4, 1.0),
    "tanh": (SIZES, "tanh", "softmax", "classes", False, 4, 1.0),
    "sigmoid, two hidden": ((20, 32, 32, 5), "sigmoid", "softmax", "classes", False, 4, 1.0),
    "relu, eight hidden": ((20, *[32] * 8, 5), "relu", "softmax", "classes", False, 4, 1.0),
    "widths up and down": ((20, 256, 8, 128, 5), "relu", "softmax", "classes", False, 4, 1.0),
    "converged": ((20, 32, 32, 5), "tanh", "softmax", "classes", False, 150, 1.0),
    "regression": ((20, 32, 32, 1), "relu", "identity", "values", False, 20, 1.0),
    "binary": ((20, 16, 1), "tanh", "sigmoid", "binary", False, 20, 1.0),
    "batch norm, pixels": (SIZES, "relu", "softmax", "classes", True, 4, 255.0),
    "batch norm, eight sigmoid": ((20, *[24] * 8, 5), "sigmoid", "softmax", "classes", True, 4, 1),
    "one layer": ((20, 5), "relu", "softmax", "classes", False, 4, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_named_in_a_healthy_network(name: str, adam: bool) -> None:
    sizes, hidden, output, kind, norm, epochs, scale = HEALTHY[name]
    net = Net(sizes, hidden, output, norm)
    X, Y = data(kind)
    history = train(net, X * scale, Y, epochs, lr=3e-3 if adam else 0.05, adam=adam)
    if name == "converged" and adam:
        assert max(history.delta_rms[-1]) < 1e-4  # small everywhere, and nothing is wrong
    assert str(diagnose(history, net.facts)) == "No layer vanishes, explodes or is dead."
    history.start = {}
    assert diagnose(history, net.facts) == []


def test_batch_norm_mends_what_depth_broke() -> None:
    for hidden, plant in (("sigmoid", _weights(0, 1.0)), ("relu", _all_weights(8.0))):
        kinds = []
        for norm in (False, True):
            net = Net((20, *[24] * 8, 5), hidden, norm=norm)
            plant(net)
            if norm:
                net.W[-1] /= 8.0 if hidden == "relu" else 1.0  # it has no batch norm
            history = train(net, *data(), epochs=3, lr=1e-3, adam=True)
            kinds.append([finding.kind for finding in diagnose(history, net.facts)])
        assert kinds == [["vanishing" if hidden == "sigmoid" else "exploding"], []]


FACTS = [LayerFacts(64, 64, "tanh")] * 2 + [LayerFacts(64, 10, "softmax")]
GOOD: dict[str, list[float]] = {
    "weight_norm": [8.0, 8.0, 4.0],
    "delta_rms": [0.1, 0.1, 0.2],
    "update_norm": [0.01] * 3,
}


def _history(**changed: list[float]) -> History:
    return History({name: [changed.get(name, row)] * 3 for name, row in GOOD.items()})


def test_a_rate_that_is_too_large_is_named_by_its_jumps() -> None:
    assert diagnose(_history(), FACTS) == []
    diagnosis = diagnose(_history(update_norm=[0.01, 6.0, 0.01]), FACTS)
    assert [(f.layer, f.kind) for f in diagnosis] == [(1, "exploding")]
    assert "one step changes its weights by 75% of their size" in str(diagnosis)
    assert "a smaller rate" in diagnosis[0].advice


def test_a_layer_that_has_recovered_is_named_as_such() -> None:
    history = _history()
    history.start = {"weight_norm": [8.0, 8e-4, 4.0]}
    diagnosis = diagnose(history, FACTS)
    assert diagnosis.layers == [1]
    assert str(diagnosis).startswith("At the start: Layer 1 (64 -> 64, tanh) vanishes")
    assert "It has recovered since." in str(diagnosis)


def test_weights_that_are_not_finite() -> None:
    history = _history()
    history.append_epoch(**{**GOOD, "weight_norm": [8.0, float("nan"), float("inf")]})
    diagnosis = diagnose(history, FACTS)
    assert [(f.layer, f.kind, f.affected) for f in diagnosis] == [(1, "exploding", (1, 2))]
    history.start = {"weight_norm": [8.0, 8.0, 4e4]}
    assert diagnose(history, FACTS).layers == [2]  # the cause comes first


@pytest.mark.parametrize(("batch", "named"), [(None, True), (16, True), (15, False), (1, False)])
def test_units_asleep_for_a_few_samples_are_not_dead(batch: int | None, named: bool) -> None:
    facts = [LayerFacts(64, 64, "relu", batch=batch)] * 2 + [LayerFacts(64, 10, "softmax")]
    history = _history()
    for _ in range(3):
        history.append_epoch(**GOOD, dead_relu=[0.5, 0.9, float("nan")])
    assert [f.kind for f in diagnose(history, facts)] == ["dead"] * named


def test_a_layer_that_gets_nothing_is_not_to_blame() -> None:
    facts = [LayerFacts(64, 64, "relu")] * 2 + [LayerFacts(64, 10, "softmax")]
    rows = {**GOOD, "delta_rms": [0.0, 0.0, 0.2], "dead_relu": [1.0, 1.0, float("nan")]}
    diagnosis = diagnose(History({name: [row] for name, row in rows.items()}), facts)
    assert [(f.layer, f.kind) for f in diagnosis] == [(0, "dead")]


def test_nothing_recorded() -> None:
    for history in (History(), History({"loss": [1.0]})):
        diagnosis = diagnose(history, FACTS)
        assert diagnosis == []
        assert str(diagnosis) == "Nothing was recorded by layer: there is nothing to judge."


def test_a_history_from_lists_says_that_it_does_not_know_its_layers() -> None:
    net = Network(3, [Dense(2)])
    history = Trainer(net, progress=False).fit(np.ones((4, 3)), np.ones((4, 2)))
    lists = History.from_dict(history.to_dict())
    assert str(lists.diagnose()).startswith("This history does not know the layers it is of")
    assert str(diagnose(lists, layer_facts(net))) == str(history.diagnose())


def test_a_perfect_fit_has_no_gradient_and_no_illness() -> None:
    assert diagnose(_history(delta_rms=[0.0, 0.0, 0.0]), FACTS) == []


@pytest.mark.parametrize(("below", "above"), [(4096, 1), (1, 4096)])
def test_widths_are_no_illness(below: int, above: int) -> None:
    # The rows of dL/dZ have equal norms, so a unit's share of it differs 64-fold.
    facts = [LayerFacts(8, below, "tanh"), LayerFacts(below, above, "tanh")]
    rows = {
        "weight_norm": [below**0.5, above**0.5],
        "delta_rms": [below**-0.5, above**-0.5],
        "update_norm": [0.01, 0.01],
    }
    assert diagnose(History({name: [row] for name, row in rows.items()}), facts) == []


def test_findings_are_data() -> None:
    diagnosis = diagnose(_history(weight_norm=[8.0, 8e-4, 4.0]), FACTS)
    assert isinstance(diagnosis, Diagnosis)
    assert isinstance(diagnosis[0], Finding)
    assert diagnosis[0].affected == (0,)
    assert repr(diagnosis) == str(diagnosis)
    again = pickle.loads(pickle.dumps(diagnosis))
    assert again == copy.deepcopy(diagnosis) == diagnosis
    assert str(again) == str(diagnosis)


def test_facts_of_a_network() -> None:
    class Layer:
        inputs, units, activation, batch_norm = 3, 2, "relu", object()

    class Network:
        layers = (Layer(),)

    assert layer_facts(Network(), 32) == [LayerFacts(3, 2, "relu", True, 32)]


@pytest.mark.parametrize(
    ("activation", "layer", "factor", "kind"),
    [
        ("relu", 1, 1e-4, "vanishing"),
        ("tanh", 0, 100.0, "exploding"),
        ("sigmoid", 2, 100.0, "exploding"),
        ("tanh", 1, 1.0, None),
    ],
)
def test_the_trainer_records_what_it_takes(
    activation: str, layer: int, factor: float, kind: str | None
) -> None:
    import fastbp

    X, Y = data()
    layers = [
        fastbp.Dense(24, activation),
        fastbp.Dense(16, activation),
        fastbp.Dense(5, "softmax"),
    ]
    net = fastbp.Network(20, layers, loss="cross_entropy", seed=0)
    net.layers[layer].W *= factor
    trainer = fastbp.Trainer(net, fastbp.Adam(1e-3), progress=False)
    history = trainer.fit(X, Y.argmax(axis=1), epochs=2)
    expected = [] if kind is None else [(layer, kind)]
    for seen in (history, trainer.history):
        assert [(finding.layer, finding.kind) for finding in seen.diagnose()] == expected
