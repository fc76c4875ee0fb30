"""The notes on depth, training and normalisation: their examples and derivatives, as numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from notes_support import assert_within, fd_bound, random_net, rng, rounding

from fastbp import notes
from fastbp.notes import column

SMOOTH = [name for name in notes.ACTIVATIONS if name not in ("step", "relu", "leaky_relu", "elu")]


# ---- depth: 004 6.7.3, 003 ----------------------------------------------------------------------


@pytest.mark.parametrize("blocked", [1, 2, 3])
def test_every_gradient_at_and_below_a_step_function_is_zero(blocked):
    """Notes 003's exercise says "above l"; the step layer's own weights get none either."""
    names = ["tanh", "tanh", "tanh"]
    names[blocked - 1] = "step"
    layers = random_net(names)
    records = notes.trace(layers, rng(1).standard_normal(4), [0.5, -1], "squared_error")
    for layer in (1, 2, 3):
        zero = not records[layer]["dL/dW"].any()
        assert zero == (layer <= blocked)


DEPTH, WIDTH = 20, 8


def orthogonal(seed):
    return np.linalg.qr(rng(seed).standard_normal((WIDTH, WIDTH)))[0]


def deep_net(activation, scale, draw=orthogonal):
    zero = np.zeros((WIDTH, 1))
    return [(scale * draw(seed), zero, activation) for seed in range(DEPTH)]


def norms(records):
    return [float(np.linalg.norm(record["dL/dZ"])) for record in records[1:]]


def test_deep_sigmoid_network_vanishes():
    """sigma' <= 1/4, so with ||W|| = 1 each layer takes at least a factor 4 (004 Definition 26)."""
    records = notes.trace(deep_net("sigmoid", 1.0), np.ones(WIDTH), np.ones(WIDTH), "squared_error")
    size = norms(records)
    for below, above in itertools.pairwise(size):
        assert below <= 0.25 * above * (1 + rounding(WIDTH))
    assert size[0] < 1e-11 * size[-1]  # (1/4)^19 = 3.6e-12


def test_large_weights_explode():
    """A linear net with ||W v|| = 10 ||v|| takes a factor 10 each layer (004 Definition 27)."""
    records = notes.trace(
        deep_net("identity", 10.0), np.ones(WIDTH), np.ones(WIDTH), "squared_error"
    )
    size = norms(records)
    assert size[0] / size[-1] == pytest.approx(10.0 ** (DEPTH - 1), rel=rounding(DEPTH * WIDTH))


def deep_weight_gradients(weights, activation, norm):
    """||dL/dW|| of the first and the last layer for a batch of 16, batch norm before f or not."""
    r = rng(99)
    A, one, zero = r.standard_normal((WIDTH, 16)), np.ones((WIDTH, 1)), np.zeros((WIDTH, 1))
    target, tape = r.standard_normal((WIDTH, 16)), []
    for W in weights:
        Z = W.T @ A
        record = notes.batch_norm_forward(Z, one, zero, eps=1e-5) if norm else {"Zhat": Z}
        tape.append((A, W, record))
        A = notes.ACTIVATIONS[activation](record["Zhat"])
    dL_dA, gradients = 2 * (A - target) / 16, []
    for below, W, record in reversed(tape):
        dL_dZ = notes.ACTIVATION_DERIVATIVES[activation](record["Zhat"]) * dL_dA
        if norm:
            dL_dZ = notes.batch_norm_backward(record, one, dL_dZ, eps=1e-5)["dL/dZ"]
        gradients.append(float(np.linalg.norm(below @ dL_dZ.T)))
        dL_dA = W @ dL_dZ
    return gradients[-1], gradients[0]


def test_batch_norm_with_relu_mends_both():
    """The same weights: 19 layers lose or gain many orders of magnitude without, few with it."""
    modest = [rng(seed).standard_normal((WIDTH, WIDTH)) for seed in range(DEPTH)]
    large = [10 * W for W in modest]
    first, last = deep_weight_gradients(modest, "sigmoid", norm=False)
    assert first < 1e-6 * last
    first, last = deep_weight_gradients(large, "relu", norm=False)
    # the inputs of a layer grow as its gradient shrinks: the sizes themselves tell
    assert first > 1e15
    for weights in (modest, large):
        first, last = deep_weight_gradients(weights, "relu", norm=True)
        # 19 layers at most a factor 1.5 each way: 1.5^19 is about 2e3
        assert 1 / 2e3 < first / last < 2e3
        assert first < 1e3


# ---- training: 004 6.6.2, 6.7.1, 6.8.1.2 --------------------------------------------------------


def regression(samples=6):
    r = rng(5)
    return (
        random_net(["tanh", "sigmoid", "identity"]),
        r.random((4, samples)),
        r.random((2, samples)),
    )


def test_sum_and_mean_of_the_gradient_agree():
    """The sum with step eta is the mean with step n eta (004 Definition 21, notes 003)."""
    layers, X, Y = regression()
    n, eta = X.shape[1], 0.1
    by_sum = notes.batch_gradient(layers, X, Y, "squared_error", reduction="sum")
    by_mean = notes.batch_gradient(layers, X, Y, "squared_error", reduction="mean")
    total = notes.batch_loss(layers, X, Y, "squared_error", reduction="sum")
    mean = notes.batch_loss(layers, X, Y, "squared_error", reduction="mean")
    assert total == pytest.approx(n * mean, rel=rounding(n))
    stepped = notes.gradient_step(layers, by_sum, eta)
    mean_stepped = notes.gradient_step(layers, by_mean, n * eta)
    for one, other in zip(stepped, mean_stepped, strict=True):
        assert_within(one[0], other[0], rounding(n, 10.0))
        assert_within(one[1], other[1], rounding(n, 10.0))


def test_sum_and_mean_agree_with_weight_decay():
    """lambda under the sum is lambda / n under the mean: both decay by 1 - 2 lambda eta."""
    layers, X, Y = regression()
    n, eta, lam = X.shape[1], 0.1, 0.3
    by_sum = notes.batch_gradient(layers, X, Y, "squared_error", reduction="sum")
    by_mean = notes.batch_gradient(layers, X, Y, "squared_error", reduction="mean")
    stepped = notes.gradient_step(layers, by_sum, eta, lam)
    mean_stepped = notes.gradient_step(layers, by_mean, n * eta, lam / n)
    for one, other in zip(stepped, mean_stepped, strict=True):
        assert_within(one[0], other[0], rounding(n, 10.0))
        assert_within(one[1], other[1], rounding(n, 10.0))


def test_weight_decay_shrinks_the_weights():
    """With no loss gradient, W_t = (1 - 2 lambda eta) W_{t-1} (004 6.63); biases stay."""
    W, zero = np.array([[1.0, -2.0], [3.0, 0.5]]), np.zeros((2, 2))
    assert np.array_equal(notes.weight_decay_step(W, zero, eta=0.5, lam=0.25), 0.75 * W)
    layers, gradients = [(W, column([1, 1]), "relu")], [(zero, column([0, 0]))]
    [(_, W0, _)] = notes.gradient_step(layers, gradients, eta=0.5, lam=0.25)
    assert W0.tolist() == [[1.0], [1.0]]


def test_weight_decay_uses_the_weights_and_not_their_norm():
    """2 lambda W is the gradient of lambda ||W||^2 (6.61); 2 lambda ||W|| (6.62) is not."""
    W, lam = np.array([[1.0, -2.0], [3.0, 0.5]]), 0.25
    gradient = notes.numerical_jacobian(lambda W: lam * (W**2).sum(), W).reshape(W.shape)
    assert_within(gradient, 2 * lam * W, fd_bound(4.0, third=0))
    eta = 0.5
    printed = W - eta * 2 * lam * np.linalg.norm(W)
    decayed = notes.weight_decay_step(W, np.zeros_like(W), eta, lam)
    assert_within(decayed, W - eta * gradient, fd_bound(4.0, third=0))
    assert np.abs(decayed - printed).max() > 0.5


def test_gradients_are_taken_before_any_weight_moves():
    """Printed, 004 6.6.2 moves layer 2 before layer 1 has used its weights: another gradient."""
    layers, X, Y = regression(samples=1)
    eta = 0.5
    fixed = notes.sgd_neural_net(layers, X, Y, "squared_error", eta=lambda t: eta, T=1, rng=rng())
    records = notes.trace(layers, X, Y, "squared_error")
    expected = layers[0][0] - eta * records[1]["dL/dW"]
    assert np.array_equal(fixed[0][0], expected)
    moved = list(layers)
    for index in (2, 1):  # from the top, each update at once, as printed
        moved[index] = fixed[index]
    again = notes.backward(moved, notes.forward(layers, X), Y, "squared_error")
    assert np.abs(again[1]["dL/dW"] - records[1]["dL/dW"]).max() > 1e-3


def test_sgd_neural_net_learns():
    """The pseudo-code on XOR, with a decreasing step: from chance to a small loss."""
    X = np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    Y = np.array([[0.0, 1.0, 1.0, 0.0]])
    start = notes.random_layers([2, 8, 1], ["tanh", "sigmoid"], rng(0))
    trained = notes.sgd_neural_net(
        start, X, Y, "nll", eta=lambda t: 1 / (1 + t / 500), T=1500, rng=rng(1)
    )
    assert notes.batch_loss(start, X, Y, "nll") > 0.6
    assert notes.batch_loss(trained, X, Y, "nll") < 0.1


def test_sgd_uses_the_step_size_of_its_step():
    """eta(t) is asked once a step, t = 1 ... T; the layers given are left as they are."""
    layers, X, Y = regression()
    before, asked = [W.copy() for W, _, _ in layers], []
    notes.sgd_neural_net(
        layers, X, Y, "squared_error", eta=lambda t: asked.append(t) or 0.1, T=3, rng=rng()
    )
    assert asked == [1, 2, 3]
    assert all(np.array_equal(W, old) for (W, _, _), old in zip(layers, before, strict=True))


def test_dropout_scales_by_the_probability_of_keeping():
    """p drops (004 Definition 33): the expected input of a unit is 1 - p of the full one, not p."""
    p, a, w = 0.25, column([1.0, -2.0, 3.0]), column([0.5, 1.0, 2.0])
    expected = sum(
        math.prod(1 - p if kept else p for kept in mask)
        * notes.linear(w, column(0), column(mask) * a).item()
        for mask in itertools.product([0.0, 1.0], repeat=3)
    )
    full = notes.linear(w, column(0), a).item()
    assert expected == pytest.approx((1 - p) * full, rel=rounding(8))
    assert expected != pytest.approx(p * full)  # Clarification 34 multiplies by p


# ---- normalisation: 004 6.8.3 -------------------------------------------------------------------


def test_standardising_example():
    """(1, 2, 100, 3, 4, 5): the printed figures are those of the sample deviation (004 6.65)."""
    data = np.array([[1.0, 2.0, 100.0, 3.0, 4.0, 5.0]])
    printed = [-0.458, -0.433, 2.04, -0.408, -0.383, -0.358]
    by_sample = (data - data.mean()) / data.std(ddof=1)
    assert_within(by_sample[0], printed, 0.0005)  # half a unit of the third decimal
    by_formula = notes.standardise(data)
    assert_within(by_formula[0], [-0.5022, -0.4746, 2.2346, -0.4469, -0.4193, -0.3916], 0.00005)
    assert by_formula.mean() == pytest.approx(0, abs=rounding(6))
    assert by_formula.std() == pytest.approx(1, rel=rounding(6))


@pytest.mark.parametrize("form", ["notes", "sqrt"])
def test_standardised_deviation_is_a_little_below_one(form):
    """sigma / (sigma + eps) or sigma / sqrt(sigma^2 + eps): 1 only for eps = 0 (Concept 38)."""
    Z, eps = rng().standard_normal((3, 10)), 0.1
    _, variance = notes.batch_statistics(Z)
    deviation = notes.standardise(Z, eps, form).std(axis=1, keepdims=True)
    sigma = np.sqrt(variance)
    expected = sigma / {"notes": sigma + eps, "sqrt": np.sqrt(variance + eps)}[form]
    assert_within(deviation, expected, rounding(10))
    assert (deviation < 0.97).all()


@pytest.mark.parametrize("eps", [1e-5, 0.3])
@pytest.mark.parametrize("form", ["notes", "sqrt"])
def test_batch_norm_by_finite_differences(form, eps):
    r = rng(3)
    Z, G, B, C = (r.standard_normal(shape) for shape in ((3, 6), (3, 1), (3, 1), (3, 6)))

    def loss(Z, G, B):
        return (C * notes.batch_norm_forward(Z, G, B, eps, form)["Zhat"] ** 2).sum()

    record = notes.batch_norm_forward(Z, G, B, eps, form)
    back = notes.batch_norm_backward(record, G, 2 * C * record["Zhat"], eps, form)
    bound = fd_bound(60.0, third=500)
    for name, value, by_difference in [
        ("dL/dZ", Z, notes.numerical_jacobian(lambda Z: loss(Z, G, B), Z)),
        ("dL/dG", G, notes.numerical_jacobian(lambda G: loss(Z, G, B), G)),
        ("dL/dB", B, notes.numerical_jacobian(lambda B: loss(Z, G, B), B)),
    ]:
        assert_within(back[name], by_difference.reshape(value.shape), bound)
    # the short formula against the explicit Jacobian, dimension by dimension
    for i in range(3):
        jacobian = notes.standardise_jacobian(Z[i], eps, form)
        by_jacobian = jacobian @ back["dL/dZbar"][i]
        assert_within(back["dL/dZ"][i], by_jacobian, rounding(12, 200.0))
        by_difference = notes.numerical_jacobian(
            lambda z: notes.standardise(z[None, :], eps, form), Z[i]
        )
        assert_within(jacobian, by_difference, bound)


def test_the_two_forms_differ_by_the_factor_on_the_variance_term():
    """At equal divisors the notes' form has (sigma + eps) / sigma there, the other 1."""
    z, s = np.array([[1.0, 2.0, 4.0]]), 2.0
    _, variance = notes.batch_statistics(z)
    sigma = math.sqrt(variance.item())
    eps = {"notes": s - sigma, "sqrt": s**2 - variance.item()}
    one, g = np.ones((1, 1)), np.array([[1.0, 0.0, -2.0]])
    Zbar = (z - z.mean()) / s
    for form, factor in (("notes", s / sigma), ("sqrt", 1.0)):
        record = notes.batch_norm_forward(z, one, one, eps[form], form)
        back = notes.batch_norm_backward(record, one, g, eps[form], form)
        expected = (g - g.mean() - factor * Zbar * (g * Zbar).mean()) / s
        assert_within(back["dL/dZ"], expected, rounding(6, 4.0))


@pytest.mark.parametrize("form", ["notes", "sqrt"])
def test_batch_norm_of_equal_samples(form):
    """sigma = 0: the variance term is taken as 0, and nothing divides by it."""
    Z, one = np.full((1, 4), 3.0), np.ones((1, 1))
    record = notes.batch_norm_forward(Z, one, one, 1e-5, form)
    assert record["Zhat"].tolist() == [[1.0] * 4]
    g = np.array([[1.0, 2.0, 3.0, 6.0]])
    back = notes.batch_norm_backward(record, one, g, 1e-5, form)
    s = {"notes": 1e-5, "sqrt": math.sqrt(1e-5)}[form]
    assert_within(back["dL/dZ"] * s, g - 3.0, rounding(4, 12.0))
    jacobian = notes.standardise_jacobian(Z[0], 1e-5, form)
    assert_within(jacobian @ g[0] * s, g[0] - 3.0, rounding(8, 12.0))
