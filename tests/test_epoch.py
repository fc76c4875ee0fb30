"""The compiled step against its own kernels in plain NumPy, and against itself cut otherwise."""

from __future__ import annotations

import inspect
import itertools
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

from fastbp.engine import Batch, Recipe, Workspace, aligned
from fastbp.kernels import reference
from fastbp.kernels.cpu import epoch as loop
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.cpu.learn import (
    DEAD,
    DELTA_RMS,
    GRADIENT_NORM,
    UPDATE_NORM,
    WEIGHT_NORM,
)
from fastbp.kernels.cpu.shares import PANELS, SHARED_BYTES
from fastbp.kernels.layout import (
    BN_AFTER,
    BN_BEFORE,
    FORM_SIGMA,
    LayerSpec,
    parameter_slots,
)
from fastbp.kernels.tables import LOSSES, UPDATES

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="threads need compiled code")

SAMPLES, BATCH = 23, 8  # the last batch holds 7
BOUNDS = np.array([0, 8, 16, 23])
DTYPES = ["float32", "float64"]
FORMS = ["sqrt", "sigma"]


@dataclass(frozen=True)
class Case:
    """A network, a loss and a way to learn."""

    layers: list[LayerSpec]
    loss: str = "cross_entropy"
    reduction: str = "mean"
    optimizer: str = "momentum"
    labelled: bool = True
    weighted: bool = False
    recipe: Recipe = field(default_factory=Recipe)


def net(*sizes: int, activations: str = "relu softmax", **first: Any) -> list[LayerSpec]:
    """Layers of these sizes; `first` describes all but the last further."""
    names = activations.split()
    pairs = list(itertools.pairwise(sizes))
    hidden = [LayerSpec(m, n, f, **first) for (m, n), f in zip(pairs[:-1], names, strict=False)]
    return [*hidden, LayerSpec(*pairs[-1], names[-1])]


BEFORE, AFTER = {"batch_norm": BN_BEFORE}, {"batch_norm": BN_AFTER}
SQUARE = {"loss": "squared_error", "labelled": False}
CASES = {
    "pair": Case(net(5, 19, 3)),
    "deep": Case(net(5, 17, 33, 3, activations="tanh elu softmax")),
    "one layer": Case(net(5, 3, activations="softmax")),
    "no pair": Case(net(5, 9, 3, activations="relu sigmoid"), "squared_error"),
    "softmax inside": Case(net(5, 9, 4, 3, activations="softmax silu identity"), **SQUARE),
    "softmax, square": Case(net(5, 9, 3, activations="gelu softmax"), **SQUARE),
    "absolute": Case(net(5, 9, 2, activations="softplus identity"), **{
        **SQUARE, "loss": "absolute_error"
    }),
    "binary": Case(net(5, 9, 1, activations="leaky_relu sigmoid"), "binary_cross_entropy",
                   labelled=False),
    "poisson": Case(net(5, 9, 2, activations="tanh exp"), "poisson", labelled=False),
    "poisson, no pair": Case(net(5, 9, 2, activations="exp softplus"), "poisson", labelled=False),
    "held": Case(net(5, 9, 1, activations="relu sigmoid"), "binary_cross_entropy", labelled=False,
                 weighted=True, recipe=Recipe(least=0.3, most=0.9)),
    "held softmax": Case(net(5, 9, 3), weighted=True, recipe=Recipe(least=0.3, most=0.9)),
    "step": Case(net(5, 9, 9, 2, activations="relu step identity"), **SQUARE),
    "dense targets": Case(net(5, 19, 3), labelled=False, reduction="sum"),
    "weights": Case(net(5, 19, 3), weighted=True),
    "weights, sum": Case(net(5, 9, 2, activations="tanh identity"), **SQUARE, weighted=True,
                         reduction="sum"),
    "norm before": Case(net(5, 37, 3, **BEFORE)),
    "norm after": Case(net(5, 37, 3, **AFTER)),
    "sigma before": Case(net(5, 37, 3, **BEFORE, form=FORM_SIGMA, eps=0.1)),
    "sigma after": Case(net(5, 37, 3, activations="gelu softmax", **AFTER, form=FORM_SIGMA)),
    "norm at the end": Case([LayerSpec(5, 7, "silu", **BEFORE),
                             LayerSpec(7, 2, "tanh", **AFTER, dropout=0.3)], **SQUARE),
    "norm and pair": Case([LayerSpec(5, 7, "relu"), LayerSpec(7, 3, "softmax", **BEFORE)]),
    "dropout": Case(net(5, 37, 3, dropout=0.4)),
    "dropout of tanh": Case(net(5, 37, 9, 3, activations="tanh gelu softmax", dropout=0.2)),
    "dropout and norm": Case(net(5, 37, 3, dropout=0.5, **AFTER), weighted=True),
    "noise": Case(net(5, 9, 3), recipe=Recipe(noise=0.3)),
    "decay": Case(net(5, 19, 3, **BEFORE), recipe=Recipe(l2=0.02)),
    "shared decay": Case(net(5, 90, 60, 3, activations="relu tanh softmax"), weighted=True,
                         recipe=Recipe(shared_l2=0.3, l2=0.01, clip_value=0.05)),
    "decoupled": Case(net(5, 19, 3), optimizer="adam", recipe=Recipe(decoupled=0.1)),
    "clipped": Case(net(5, 19, 3, **BEFORE), recipe=Recipe(clip_value=0.01, l2=0.01)),
    "clipped norm": Case(net(5, 70, 70, 3, activations="tanh tanh softmax"),
                         recipe=Recipe(clip_norm=0.1, clip_value=0.05)),
    **{name: Case(net(5, 19, 3), optimizer=name) for name in UPDATES},
}  # fmt: skip


class Bench:
    """One case set up in one dtype: data, parameters, buffers."""

    def __init__(self, case: Case, dtype: str, rows: int = BATCH, **changes: Any) -> None:
        self.case, self.dtype = case, dtype
        rng = np.random.default_rng(7)
        layers = case.layers
        self.slots, size, running = parameter_slots(layers)
        k = layers[-1].units
        self.parameters = aligned(size, dtype)
        self.parameters[:] = rng.normal(size=size) * 0.5
        for slot, layer in zip(self.slots, layers, strict=True):
            if layer.batch_norm:
                self.parameters[slot.gamma : slot.gamma + layer.units] += 1
        self.running = aligned(running, dtype)
        self.running[:] = 0.25
        self.gradient = aligned(size, dtype)
        update = UPDATES[case.optimizer]
        self.state = np.zeros((len(update.rows), size), dtype)
        X = rng.normal(size=(SAMPLES, layers[0].inputs)).astype(dtype)
        labels = rng.integers(0, k, SAMPLES) if case.labelled else np.empty(0, np.int64)
        targets = np.empty((0, k), dtype)
        if not case.labelled:
            targets = rng.random((SAMPLES, k)).astype(dtype)
        weights = np.empty(0, dtype)
        if case.weighted:
            weights = rng.random(SAMPLES).astype(dtype)
            weights[::5] = 0
        order = rng.permutation(SAMPLES)
        self.batch = Batch(X, labels, targets, weights, order, BOUNDS)
        self.recipe = replace(
            case.recipe,
            code=update.code,
            hyper=tuple(value for _, value in update.hyper),
            seed=11,
            epoch=3,
            rates=np.array([0.1, 0.05, 0.2]),
            **changes,
        )
        self.work = Workspace(layers, case.loss, case.reduction, dtype, rows, size)

    def run(self, first: int = 0, count: int = 3, threads: int = 1, mode: int = loop.TRAIN) -> int:
        """Steps first .. first + count of the epoch."""
        recipe = replace(
            self.recipe,
            first_step=first,
            first_update=first,
            rates=self.recipe.rates[first : first + count],
        )
        batch = replace(self.batch, bounds=BOUNDS[first : first + count + 1])
        return self.work.run(
            mode, batch, recipe, self.parameters, self.gradient, self.state, self.running,
            training=True, n_threads=threads,
        )  # fmt: skip

    def numbers(self) -> list[bytes]:
        """Everything that training leaves behind, bit by bit."""
        held = (self.parameters, self.state, self.running, self.work.results)
        return [x.tobytes() for x in (*held, self.work.figures)]


# --- the step in plain NumPy ------------------------------------------------------------------


class Oracle:
    """One training step of a bench, by the reference kernels."""

    def __init__(self, bench: Bench, step: int) -> None:
        self.bench, self.case, self.step = bench, bench.case, step
        self.p = bench.parameters.copy()
        self.running = bench.running.copy()
        self.gradient = np.zeros_like(self.p)
        batch = bench.batch
        rows = batch.order[BOUNDS[step] : BOUNDS[step + 1]]
        self.X = batch.X[rows]
        k = bench.case.layers[-1].units
        self.Y = np.eye(k)[batch.labels[rows]] if batch.labels.size else batch.targets[rows]
        self.weights = batch.weights[rows] if batch.weights.size else np.ones(len(rows))
        self.kept: list[dict[str, Any]] = []

    def vector(self, at: int, n: int) -> np.ndarray:
        return self.p[at : at + n]

    def forward(self) -> None:
        recipe = self.bench.recipe
        A = self.X
        if recipe.noise:
            address = {"seed": recipe.seed, "epoch": recipe.epoch, "step": self.step}
            A = reference.perturb(A, recipe.noise, **address)
        for index, layer in enumerate(self.case.layers):
            A = self.layer(index, layer, A)
        self.A = A

    def layer(self, index: int, layer: LayerSpec, A: np.ndarray) -> np.ndarray:
        slot, n = self.bench.slots[index], layer.units
        W = self.vector(slot.W, layer.inputs * n).reshape(layer.inputs, n)
        b = self.vector(slot.b, n) if layer.biased else None
        kept = {"A": A, "W": W}
        Z = reference.linear_forward(A, W, b)
        if layer.batch_norm == BN_BEFORE:
            Z = self.normalize(index, layer, Z, kept)
        F = reference.activate(layer.activation, Z)
        kept |= {"Z": Z, "F": F}
        if layer.batch_norm == BN_AFTER:
            F = self.normalize(index, layer, F, kept)
        if layer.dropout:
            recipe = self.bench.recipe
            address = {"seed": recipe.seed, "epoch": recipe.epoch, "step": self.step}
            F, kept["mask"] = reference.dropout(F, layer.dropout, layer=index, **address)
        self.kept.append(kept)
        return F

    def normalize(self, index: int, layer: LayerSpec, Z: np.ndarray, kept: Any) -> np.ndarray:
        slot, n, rows = self.bench.slots[index], layer.units, len(Z)
        mean, variance = reference.batch_statistics(Z)
        old = self.running[slot.running : slot.running + 2 * n]
        unbiased = variance * rows / (rows - 1)
        old += layer.momentum * (np.concatenate([mean, unbiased]) - old)
        gamma, beta = self.vector(slot.gamma, n), self.vector(slot.beta, n)
        form = {"eps": layer.eps, "form": FORMS[layer.form]}
        U, normalized = reference.batchnorm_forward(Z, mean, variance, gamma, beta, **form)
        kept["norm"] = normalized, variance, gamma, form
        return U

    def backward(self) -> None:
        case, last = self.case, self.case.layers[-1]
        total = self.weights.sum()
        scale = 1.0 if case.reduction == "sum" else 1 / total
        short = last.activation in LOSSES[case.loss].pairs
        if short and not last.dropout and last.batch_norm != BN_AFTER:
            Z = self.kept[-1]["Z"]
            self.losses, delta = reference.loss_and_delta(
                case.loss, last.activation, Z, self.Y, weight=self.weights
            )
            done = True
        else:
            self.losses = reference.loss_forward(case.loss, self.A, self.Y, weight=self.weights)
            delta = reference.loss_gradient(case.loss, self.A, self.Y, weight=self.weights)
            done = False
        held = self.bench.recipe
        if held.least:  # one output or one label: a sample's loss is one term
            self.losses = np.clip(self.losses, held.least * self.weights, held.most * self.weights)
        self.scale, self.loss, delta = scale, self.losses.sum() * scale, delta * scale
        for index in reversed(range(len(case.layers))):
            delta = self.layer_backward(index, case.layers[index], delta, done)
            self.kept[index]["dZ"] = delta
            delta = reference.input_gradient(delta, self.kept[index]["W"])
            done = False

    def layer_backward(self, index: int, layer: LayerSpec, delta: Any, done: bool) -> np.ndarray:
        kept, slot, n = self.kept[index], self.bench.slots[index], layer.units
        if layer.dropout:
            delta = delta * kept["mask"] / (1 - layer.dropout)
        if layer.batch_norm == BN_AFTER:
            delta = self.normalize_backward(slot, n, delta, kept)
        if not done:
            delta = reference.apply_derivative(layer.activation, delta, kept["F"], kept["Z"])
        if layer.batch_norm == BN_BEFORE:
            delta = self.normalize_backward(slot, n, delta, kept)
        dW, db = reference.weight_gradient(kept["A"], delta)
        self.gradient[slot.W : slot.W + dW.size] = dW.ravel()
        if layer.biased:
            self.gradient[slot.b : slot.b + n] = db
        return delta

    def normalize_backward(self, slot: Any, n: int, delta: Any, kept: Any) -> np.ndarray:
        normalized, variance, gamma, form = kept["norm"]
        delta, dgamma, dbeta = reference.batchnorm_backward(
            delta, normalized, variance, gamma, **form
        )
        self.gradient[slot.gamma : slot.gamma + n] = dgamma
        self.gradient[slot.beta : slot.beta + n] = dbeta
        return delta

    def clip(self, g: np.ndarray) -> np.ndarray:
        recipe = self.bench.recipe
        norm = np.sqrt((g**2).sum())
        if 0 < recipe.clip_norm < norm:
            g *= recipe.clip_norm / norm
        if recipe.clip_value:
            np.clip(g, -recipe.clip_value, recipe.clip_value, out=g)
        return g

    def learn(self, gradient: np.ndarray, state: np.ndarray) -> None:
        """The update of self.p by this gradient: weights decay, all else does not."""
        bench, recipe = self.bench, self.bench.recipe
        lr = recipe.rates[self.step]
        decayed = np.zeros(self.p.size, bool)
        for slot, layer in zip(bench.slots, self.case.layers, strict=True):
            decayed[slot.W : slot.W + layer.inputs * layer.units] = True
        self.squares = (self.p[decayed] ** 2).sum() if recipe.shared_l2 else 0.0
        penalty = recipe.l2 + recipe.shared_l2 * self.scale
        for chosen, l2, decay in ((decayed, penalty, recipe.decoupled), (~decayed, 0.0, 0.0)):
            w, s = self.p[chosen], state[:, chosen]
            reference.update(
                self.case.optimizer, w, gradient[chosen], s, step=self.step + 1, lr=lr, l2=l2,
                shrink=1 - lr * decay,
            )  # fmt: skip
            self.p[chosen], state[:, chosen] = w, s


def close(got: Any, want: Any, units: float) -> bool:
    """Within `units` roundings of float64 of the largest number of the array, or of 1."""
    scale = max(1.0, float(np.abs(want).max(initial=0.0)))
    return bool((np.abs(np.asarray(got) - want) <= units * 2.0**-52 * scale).all())


@pytest.mark.parametrize("name", CASES)
def test_steps_are_the_reference_kernels_in_turn(name: str) -> None:
    """Three steps, the last on a short batch.

    Sums have at most 37 terms, five products deep, and batch norm divides by deviations of 0.1 and
    more: 2,000 roundings bound the gradient amply. The update starts from the step's own gradient
    (a quotient such as Adam's magnifies roundings of a gradient near 0): a dozen roundings.
    """
    bench = Bench(CASES[name], "float64")
    sums, reported = np.zeros(2), np.zeros(2)
    for step in range(3):
        oracle = Oracle(bench, step)
        state, before = bench.state.copy(), bench.work.results.copy()
        oracle.forward()
        oracle.backward()
        bench.run(step, 1, mode=loop.GRADIENT)
        assert close(bench.gradient, oracle.gradient, 2000)
        oracle.learn(oracle.clip(bench.gradient.copy()), state)
        bench.work.results[:] = before
        assert bench.run(step, 1) == 1
        assert close(bench.parameters, oracle.p, 50)
        assert close(bench.state, state, 50)
        assert close(bench.running, oracle.running, 100)
        sums += oracle.losses.sum(), oracle.weights.sum()
        results = bench.work.results
        assert close(results[loop.LAST_LOSS], oracle.loss, 200)
        assert close(results[[loop.LOSS_SUM, loop.WEIGHT_SUM]], sums, 500)
        rows = len(oracle.losses)
        reported += rows * oracle.loss, rows * oracle.scale * oracle.squares
        assert close(results[[loop.ROWS_LOSS, loop.ROWS_SQUARES]], reported, 500)
        assert results[loop.STEPS] == step + 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_on_any_number_of_threads(name: str, dtype: str) -> None:
    for changes in ({}, {"record": True}, {"clip_norm": 0.5}):
        found = []
        for threads in (1, 2, 4):
            bench = Bench(CASES[name], dtype, **changes)
            assert bench.run(threads=threads) == 3
            assert np.isfinite(bench.parameters).all()
            found.append(bench.numbers())
        assert found[1] == found[0]
        assert found[2] == found[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_layers_are_cut_among_threads(dtype: str) -> None:
    """Layers of several blocks of rows, columns and flat elements: every thread has some."""
    wide = Case(net(97, 131, 67, 3, activations="relu tanh softmax", **BEFORE, dropout=0.1),
                recipe=Recipe(clip_norm=0.3, l2=0.01), optimizer="adam")  # fmt: skip
    for changes in ({}, {"record": True}, {"clip_norm": 0.0}, {"clip_norm": 0.0, "record": True}):
        found = []
        for threads in (1, 2, 3, 5):
            bench = Bench(wide, dtype, **changes)
            bench.run(threads=threads)
            found.append(bench.numbers())
        assert all(other == found[0] for other in found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("further", [{}, BEFORE, AFTER, {"dropout": 0.2}])
def test_columns_of_large_layers_are_cut_among_threads(further: dict[str, Any], dtype: str) -> None:
    """From 256 KB of W on threads have columns of all rows, where there are enough for them."""
    layers = net(301, 520, 391, 3, activations="relu tanh softmax", **further)
    large = [layer for layer in layers if layer.inputs * layer.units * 4 >= SHARED_BYTES]
    assert [layer.units >= 3 * 2 * PANELS for layer in large] == [True, True]
    found = []
    for threads in (1, 2, 3, 4):  # four: the second layer is too narrow, and cut by rows
        bench = Bench(Case(layers, recipe=Recipe(clip_norm=0.3)), dtype)
        assert bench.run(threads=threads) == 3
        found.append(bench.numbers())
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_fused_and_whole_learning_give_the_same_bits(name: str, dtype: str) -> None:
    """A norm that clips nothing, or recording, completes the gradient before it is applied."""
    case = CASES[name]
    found = []
    for changes in ({}, {"clip_norm": 1e30}, {"record": True}):
        if case.recipe.clip_norm and "clip_norm" in changes:
            continue
        bench = Bench(case, dtype, **changes)
        bench.run()
        found.append(bench.numbers()[:-1])
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["pair", "norm after", "dropout", "noise", "adam", "weights"])
def test_one_call_or_one_a_step(name: str, dtype: str) -> None:
    whole, steps = Bench(CASES[name], dtype), Bench(CASES[name], dtype)
    whole.run()
    for step in range(3):
        steps.run(step, 1)
    assert steps.numbers() == whole.numbers()


@pytest.mark.parametrize("name", ["pair", "deep", "norm before", "decay", "clipped norm"])
def test_figures_are_the_norms_they_claim(name: str) -> None:
    bench = Bench(CASES[name], "float64", record=True)
    bench.run(0, 2)
    oracle = Oracle(bench, 2)
    oracle.forward()
    oracle.backward()
    before = bench.parameters.copy()
    bench.run(2, 1, mode=loop.GRADIENT)
    gradient = bench.gradient.copy()  # before it is clipped
    bench.run(2, 1)
    for index, layer in enumerate(bench.case.layers):
        at, size = bench.slots[index].W, layer.inputs * layer.units
        W = slice(at, at + size)
        figures, kept = bench.work.figures[index], oracle.kept[index]
        wanted = {
            GRADIENT_NORM: gradient[W],
            WEIGHT_NORM: bench.parameters[W],
            UPDATE_NORM: bench.parameters[W] - before[W],
            DELTA_RMS: kept["dZ"] / np.sqrt(kept["dZ"].size),
        }
        for column, x in wanted.items():
            assert figures[column] == pytest.approx(np.sqrt((x**2).sum()), rel=1e-12)
        if layer.activation == "relu":
            assert figures[DEAD] == (kept["F"] <= 0).all(axis=0).mean()
        else:
            assert np.isnan(figures[DEAD])


def test_dead_units_are_counted() -> None:
    bench = Bench(CASES["pair"], "float64", record=True)
    slot = bench.slots[0]
    bench.parameters[slot.b : slot.b + 19] = -1e3
    bench.parameters[slot.b + 4] = 1e3
    bench.run(0, 1)
    assert bench.work.figures[0, DEAD] == 18 / 19


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["pair", "no pair", "norm before", "norm after", "adam"])
def test_a_bad_row_stops_before_its_step(name: str, bad: float, threads: int, dtype: str) -> None:
    """sigmoid, tanh and a relu that is off would hide an inf from the loss: the screen does not."""
    bench, clean = (Bench(CASES[name], dtype, screen=True) for _ in range(2))
    clean.run(0, 1)
    row = bench.batch.order[13]  # of the second batch
    bench.batch.X[row, 2] = bad
    assert bench.run(threads=threads) == 1
    assert bench.work.results[loop.STEPS] == 1
    for field_name in ("parameters", "state", "running"):
        assert getattr(bench, field_name).tobytes() == getattr(clean, field_name).tobytes()
    assert bench.work.results[loop.LOSS_SUM] == clean.work.results[loop.LOSS_SUM]


def test_without_the_screen_a_bounded_activation_hides_an_infinity() -> None:
    bench = Bench(Case(net(5, 9, 3, activations="sigmoid softmax")), "float64")
    bench.batch.X[bench.batch.order[13], 2] = np.inf
    assert bench.run() > 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_loss_that_is_not_finite_returns_early(threads: int) -> None:
    bench, clean = (Bench(CASES["softmax, square"], "float64") for _ in range(2))
    clean.run(0, 2)
    bench.batch.targets[bench.batch.order[20], 1] = 1e200  # its square is inf
    assert bench.run(threads=threads) == 2
    assert bench.parameters.tobytes() == clean.parameters.tobytes()
    assert bench.state.tobytes() == clean.state.tobytes()
    assert not np.isfinite(bench.work.results[loop.LAST_LOSS])
    bench.batch.targets[:] = 0  # the meeting place of the threads is as it was
    assert bench.run(threads=threads) == 3


def test_gradient_and_loss_change_nothing() -> None:
    bench = Bench(CASES["norm before"], "float64")
    before = [x.copy() for x in (bench.parameters, bench.state, bench.running)]
    oracle = Oracle(bench, 1)
    oracle.forward()
    oracle.backward()
    assert bench.run(1, 1, mode=loop.GRADIENT) == 1
    assert close(bench.gradient, oracle.gradient, 2000)
    bench.gradient[:] = -7
    bench.run(1, 1, mode=loop.LOSS)
    assert close(bench.work.results[loop.LAST_LOSS], oracle.loss, 200)
    assert (bench.gradient == -7).all()
    for x, old in zip((bench.parameters, bench.state, bench.running), before, strict=True):
        assert x.tobytes() == old.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_roomier_workspace_gives_the_same_bits(dtype: str) -> None:
    for name in ("pair", "norm before", "dropout of tanh"):
        tight, roomy = Bench(CASES[name], dtype), Bench(CASES[name], dtype, rows=64)
        roomy.work.arena[:] = np.nan  # nothing of it may be read before it is written
        tight.run()
        roomy.run()
        assert roomy.numbers() == tight.numbers()


@pytest.fixture
def _counted() -> Iterator[None]:
    """Numba counts allocations only where asked to."""
    was = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    yield
    if not was:
        _nrt_python.memsys_disable_stats()


@pytest.mark.usefixtures("_counted")
@pytest.mark.parametrize("name", CASES)
def test_steps_allocate_nothing(name: str) -> None:
    """A call has headers for its arguments; three steps have no more than one, and none stays."""
    bench = Bench(CASES[name], "float32", record=True)
    bench.run()
    counts = []
    for steps in (1, 3):
        before = rtsys.get_allocation_stats()
        bench.run(0, steps)
        after = rtsys.get_allocation_stats()
        assert after.alloc - before.alloc == after.free - before.free
        counts.append(after.alloc - before.alloc)
    assert counts[0] == counts[1]


def test_calls_leave_no_python_objects() -> None:
    bench = Bench(CASES["pair"], "float32")
    bench.run(threads=2)
    tracemalloc.start()
    try:
        bench.run(threads=2)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            bench.run(threads=2)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < 2000  # bytes; 50 calls that kept an array header each would keep 5,600


# --- sparse samples and losses that are not finite --------------------------------------------


def sparse(bench: Bench) -> Bench:
    """The same bench with X as a sparse matrix: its values split in two, and zeros kept."""
    rows, m = bench.batch.X.shape
    columns = np.tile(np.repeat(np.arange(m, dtype=np.int32), 2), rows)
    halves = np.repeat(bench.batch.X.ravel() / 2, 2)[None].copy()
    starts = np.arange(rows + 1) * 2 * m
    bench.batch = replace(bench.batch, X=halves, columns=columns, starts=starts)
    return bench


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_sparse_samples_give_the_bits_of_dense_ones(dtype: str, threads: int) -> None:
    dense = Bench(CASES["noise"], dtype)
    dense.batch.X[dense.batch.X < 0] = 0
    other = Bench(CASES["noise"], dtype)
    other.batch.X[...] = dense.batch.X
    other = sparse(other)
    assert dense.run() == other.run(threads=threads) == 3
    assert dense.numbers() == other.numbers()
    k, X = dense.case.layers[-1].units, dense.batch.X
    outputs = [np.zeros((SAMPLES, k), dtype) for _ in range(2)]
    for bench, out in zip((dense, other), outputs, strict=True):
        given = bench.batch
        bad = bench.work.infer(
            given.X, out, bench.parameters, bench.running, logits=False,
            n_threads=1 if bench is dense else threads, columns=given.columns,
            starts=given.starts,
        )  # fmt: skip
        assert bad == 0
    assert outputs[0].tobytes() == outputs[1].tobytes()
    assert X.any()
    assert outputs[0].any()


def test_heedless_goes_on_where_a_loss_is_not_finite() -> None:
    for heedless, steps in ((False, 1), (True, 3)):
        bench = Bench(CASES["pair"], "float64", heedless=heedless)
        bench.batch.X[bench.batch.order[8], 0] = np.inf
        assert bench.run() == steps
        assert np.isfinite(bench.parameters).all() != heedless


def test_the_loops_arguments_are_those_that_are_declared() -> None:
    taken = inspect.signature(getattr(loop.run_steps, "py_func", loop.run_steps)).parameters
    assert list(taken)[2:] == list(loop.ARGUMENTS)
