"""The notes' examples in matrix form, and their tables of activations and losses, as numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from notes_support import EPS, assert_within, fd_bound, random_net, rng, rounding

from fastbp import notes
from fastbp.notes import column

SMOOTH = [name for name in notes.ACTIVATIONS if name not in ("step", "relu", "leaky_relu", "elu")]


# ---- matrices: 004 6.5.15-6.5.17, 003 -----------------------------------------------------------


def test_square_activation_has_a_diagonal_jacobian():
    """f(z) = z^2 at (1, 2, 3): dA/dZ = diag(2, 4, 6) (004 6.46-6.48)."""
    z = column([1, 2, 3])
    jacobian = notes.diagonal(2 * z)
    assert jacobian.tolist() == [[2, 0, 0], [0, 4, 0], [0, 0, 6]]
    by_difference = notes.numerical_jacobian(lambda z: z**2, z)
    assert_within(by_difference, jacobian, fd_bound(9.0, third=0))


def linear_layer():
    """Notes 003: m = 4 inputs, n = 3 outputs, square loss."""
    r = rng()
    return r.standard_normal((4, 3)), r.standard_normal((3, 1)), r.standard_normal((4, 1))


def test_one_linear_layer_with_square_loss():
    """dL/dW = x (2 (A - y))^T, (4, 3), and dL/dW0 = 2 (A - y), (3, 1) (notes 003)."""
    W, W0, x = linear_layer()
    y = column([1.0, -1.0, 0.5])
    _, last = notes.trace([(W, W0, "identity")], x, y, "squared_error")
    A = W.T @ x + W0
    assert last["dL/dW"].shape == (4, 3)
    assert np.array_equal(last["dL/dW"], x @ (2 * (A - y)).T)
    assert np.array_equal(last["dL/dW0"], 2 * (A - y))
    loss = notes.numerical_jacobian(
        lambda W: notes.batch_loss([(W, W0, "identity")], x, y, "squared_error"), W
    )
    assert_within(last["dL/dW"], loss.reshape(4, 3), fd_bound(20.0, third=0))


def test_derivatives_of_the_linear_part():
    """dZ/dA = W; dZ_k/dW_ij = A_i [k = j], which A stands for (004 Notation 17)."""
    W, W0, A = linear_layer()
    bound = fd_bound(8.0, third=0)
    by_input = notes.numerical_jacobian(lambda A: notes.linear(W, W0, A), A)
    assert_within(notes.linear_by_input(W), by_input, bound)
    by_weights = notes.numerical_jacobian(lambda W: notes.linear(W, W0, A), W).reshape(4, 3, 3)
    expected = np.einsum("i,jk->ijk", notes.linear_by_weights(A)[:, 0], np.eye(3))
    assert_within(by_weights, expected, bound)


def test_product_of_jacobians_does_not_commute():
    """Notes 003: dA/dW0 . dL/dA is (3, 1); the other order does not even multiply."""
    W, W0, x = linear_layer()
    layers = [(W, W0, "softmax")]
    _, last = notes.trace(layers, x, [1, 0, 0], "squared_error")
    assert notes.chain(last["dA/dZ"], last["dL/dA"]).shape == (3, 1)
    with pytest.raises(ValueError, match="mismatch"):
        notes.chain(last["dL/dA"], last["dA/dZ"])
    # Two square Jacobians multiply both ways, to different results.
    W2 = rng(1).standard_normal((3, 3))
    assert not np.allclose(notes.chain(last["dA/dZ"], W2), notes.chain(W2, last["dA/dZ"]))


def test_weight_gradient_needs_the_transpose():
    """The pseudo-code of 004 6.6.2 (line 32) drops the transpose of Notation 16."""
    W, W0, x = linear_layer()
    _, last = notes.trace([(W, W0, "tanh")], x, [1, 0, 0], "squared_error")
    with pytest.raises(ValueError, match="mismatch"):
        last["dZ/dW"] @ last["dL/dZ"]
    assert (last["dZ/dW"] @ last["dL/dZ"].T).shape == W.shape


def test_backward_equals_the_whole_product():
    """Sharing dL/dZ between layers changes nothing but rounding (004 Notation 16)."""
    layers = random_net(["softmax", "tanh", "gelu"])
    records = notes.trace(layers, rng(1).standard_normal(4), [0.5, -1], "squared_error")
    for layer in (1, 2, 3):
        product = notes.chain_product(records, layer)
        # at most 6 factors of at most 5 terms; all magnitudes here are below 10
        assert_within(product, records[layer]["dL/dZ"], rounding(30, 10.0))
    names = [name for name, _ in notes.chain_factors(records, 2)]
    assert names == ["dA2/dZ2", "dZ3/dA2", "dA3/dZ3", "dL/dA3"]


def test_records_have_the_names_and_shapes_of_the_notes():
    layers = random_net(["relu", "tanh", "softmax"])
    records = notes.trace(layers, np.ones(4), [1, 0], "nllm")
    assert sorted(records[0]) == ["A", "dL/dA"]
    for (W, _, _), record in zip(layers, records[1:], strict=True):
        m, n = W.shape
        assert {name: value.shape for name, value in record.items()} == {
            "Z": (n, 1), "A": (n, 1), "dL/dA": (n, 1), "dA/dZ": (n, n), "dL/dZ": (n, 1),
            "dZ/dA": (m, n), "dZ/dW": (m, 1), "dL/dW": (m, n), "dL/dW0": (n, 1),
        }  # fmt: skip


@pytest.mark.parametrize("activation", SMOOTH)
def test_network_gradients_by_finite_differences(activation):
    layers = random_net([activation, "tanh", activation])
    x, y = rng(1).standard_normal((4, 1)), np.array([[0.5], [-1.0]])
    records = notes.trace(layers, x, y, "squared_error")
    # exp of exp: the third derivative of its square is that many times larger
    bound = fd_bound(10.0, third=1000 if activation == "exp" else 100)

    def loss_at(layer, part):
        def loss(value):
            changed = list(layers)
            W, W0, name = layers[layer]
            changed[layer] = (value, W0, name) if part == "W" else (W, value, name)
            return notes.batch_loss(changed, x, y, "squared_error")

        return loss

    for layer, (W, W0, _) in enumerate(layers):
        by_W = notes.numerical_jacobian(loss_at(layer, "W"), W).reshape(W.shape)
        by_W0 = notes.numerical_jacobian(loss_at(layer, "W0"), W0)
        assert_within(records[layer + 1]["dL/dW"], by_W, bound)
        assert_within(records[layer + 1]["dL/dW0"], by_W0, bound)
    by_x = notes.numerical_jacobian(lambda x: notes.batch_loss(layers, x, y, "squared_error"), x)
    assert_within(records[0]["dL/dA"], by_x, bound)


def test_four_equations_of_back_propagation():
    """Notes 001 and 002, with W^l as they store it (a unit's weights in a row)."""
    layers = random_net(["tanh", "sigmoid", "sigmoid"])
    y = column([0.5, -1.0])
    records = notes.trace(layers, rng(1).standard_normal(4), y, "half_squared_error")
    rows = [None] + [W.T for W, _, _ in layers]
    slope = [None] + [
        notes.ACTIVATION_DERIVATIVES[name](record["Z"])
        for (_, _, name), record in zip(layers, records[1:], strict=True)
    ]
    delta = [None, None, None, (records[3]["A"] - y) * slope[3]]  # 1: the last layer
    for layer in (2, 1):
        delta[layer] = (rows[layer + 1].T @ delta[layer + 1]) * slope[layer]  # 2: any layer
    for layer in (1, 2, 3):
        bound = rounding(20, 10.0)
        assert_within(records[layer]["dL/dZ"], delta[layer], bound)
        assert_within(records[layer]["dL/dW0"], delta[layer], bound)  # 3: biases
        weight_gradient = delta[layer] @ records[layer - 1]["A"].T  # 4: weights
        assert_within(records[layer]["dL/dW"].T, weight_gradient, bound)


def test_sigmoid_regression():
    """delta = (a - y) * sigma(z) * (1 - sigma(z)) (notes 002)."""
    W, W0, x = linear_layer()
    y = column([0.1, 0.9, 0.5])
    _, last = notes.trace([(W, W0, "sigmoid")], x, y, "half_squared_error")
    sigma = 1 / (1 + np.exp(-last["Z"]))
    assert_within(last["dL/dZ"], (sigma - y) * sigma * (1 - sigma), rounding(6))


# ---- tables of activations and losses -----------------------------------------------------------


@pytest.mark.parametrize("name", notes.ACTIVATIONS)
def test_activation_derivatives_by_finite_differences(name):
    z = column([-3.0, -1.2, -0.4, 0.3, 1.1, 2.6])  # no point within a step of a kink
    by_difference = notes.numerical_jacobian(notes.ACTIVATIONS[name], z)
    # |f'''| of these functions stays below 2 and |f| below 3 on [-3, 3]
    assert_within(notes.activation_jacobian(name, z), by_difference, fd_bound(3.0, third=2))


def test_activation_values():
    """Against the defining formulas, at points where those lose nothing."""
    z = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
    e = np.exp(z)
    phi = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in z])
    expected = {
        "identity": z,
        "step": [0, 0, 1, 1, 1],
        "relu": [0, 0, 0, 0.5, 2],
        "leaky_relu": [-0.02, -0.005, 0, 0.5, 2],
        "elu": np.where(z > 0, z, e - 1),
        "sigmoid": e / (1 + e),
        "tanh": (e**2 - 1) / (e**2 + 1),
        "softplus": np.log(1 + e),
        "silu": z * e / (1 + e),
        "gelu": z * phi,
        "softmax": e / e.sum(),
        "exp": e,
    }
    assert list(expected) == list(notes.ACTIVATIONS)
    for name, values in expected.items():
        assert_within(notes.ACTIVATIONS[name](z), values, rounding(8, 8.0))


def test_nothing_overflows():
    z = column([-1e4, 1e4])
    for name, f in notes.ACTIVATIONS.items():
        if name == "exp":  # the one whose values leave double precision
            continue
        assert np.isfinite(f(z)).all(), name
        assert np.isfinite(notes.activation_jacobian(name, z)).all(), name


def test_values_that_the_notes_print_otherwise():
    """ReLU'(0) and sign(0): fastbp takes 0 where the notes print 1."""
    assert set(notes.NOTES_PRINT_OTHERWISE) == {"relu'", "sign"}
    for entry in notes.NOTES_PRINT_OTHERWISE.values():
        assert (entry.at, entry.printed, entry.used) == (0.0, 1.0, 0.0)
    zero = column(0.0)
    assert notes.activation_jacobian("relu", zero).item() == 0.0
    assert notes.loss_derivative("absolute_error", zero, zero).item() == 0.0
    assert notes.step(zero).item() == 1.0  # so ReLU' = step, as printed, fails at 0 only
    z = column([-2.0, -1e-300, 1e-300, 2.0])
    assert np.array_equal(notes.ACTIVATION_DERIVATIVES["relu"](z), notes.step(z))


def test_tanh_derivative_is_the_squared_hyperbolic_secant():
    """1 - tanh^2 = sech^2; 004 section 6.5.12 calls it 1 minus the secant squared."""
    z = np.linspace(-2, 2, 9)
    sech2 = 1 / np.cosh(z) ** 2
    derivative = notes.ACTIVATION_DERIVATIVES["tanh"](z)
    assert_within(derivative, sech2, rounding(4))
    assert np.abs(derivative - (1 - sech2)).max() > 0.9


@pytest.mark.parametrize("name", notes.LOSSES)
def test_loss_derivatives_by_finite_differences(name):
    a, y = column([0.3, 0.25, 0.45]), column([1.0, 0.0, 0.5])
    by_difference = notes.numerical_jacobian(lambda a: notes.LOSSES[name](a, y), a)
    # third derivative of the log losses: at most 2 / 0.25^3 = 128
    assert_within(notes.loss_derivative(name, a, y), by_difference, fd_bound(3.0, third=128))


def test_loss_values():
    a, y = column([0.5, 0.25]), column([1.0, 0.0])
    assert notes.squared_error(a, y) == 0.3125
    assert notes.half_squared_error(a, y) == 0.15625
    assert notes.absolute_error(a, y) == 0.75
    log_half, log_rest = math.log(0.5), math.log(0.75)
    assert notes.loss_value("nll", a, y) == pytest.approx(-log_half - log_rest, rel=4 * EPS)
    assert notes.loss_value("nllm", a, y) == -log_half
    assert notes.loss_value("nllm", column([1.0, 0.0]), y) == 0.0  # 0 log 0 = 0


@pytest.mark.parametrize("pair", notes.SHORT_PAIRS)
def test_short_pairs_equal_the_product(pair):
    """dL/dZ^L = dA/dZ . dL/dA in one expression (004 Concept 19), also for soft targets."""
    activation, loss = pair
    z = column([0.3, -1.0, 0.8])
    for y in (column([0, 1, 0]), column([0.2, 0.5, 0.4])):
        a = notes.ACTIVATIONS[activation](z)
        product = notes.activation_jacobian(activation, z) @ notes.loss_derivative(loss, a, y)
        # the log losses multiply by 1/a <= 10 and by a again
        assert_within(notes.SHORT_PAIRS[pair](a, y), product, rounding(6, 10.0))
