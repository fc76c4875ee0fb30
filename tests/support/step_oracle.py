"""The compiled training step on a bench, and the same step by the reference kernels in NumPy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastbp.engine import Batch, Recipe, Workspace, aligned
from fastbp.kernels import reference
from fastbp.kernels.cpu import slots
from fastbp.kernels.layout import (
    BN_AFTER,
    BN_BEFORE,
    FORM_SIGMA,
    LayerSpec,
    parameter_slots,
)
from fastbp.kernels.tables import LOSSES, UPDATES

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

    def run(self, first: int = 0, count: int = 3, threads: int = 1, mode: int = slots.TRAIN) -> int:
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
