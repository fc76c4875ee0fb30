"""The examples of the lecture notes, as numbers, and every derivative against finite differences.

Tolerances are error bounds: a sum of n products is off by at most about n rounding units of the sum
of their magnitudes (``rounding``), a central difference by its truncation and rounding
(``fd_bound``).
"""

from __future__ import annotations

import ast
import doctest
import importlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from fastbp import notes
from fastbp.notes import column

EPS = float(np.finfo(np.float64).eps)
STEP = 6e-6  # the default step of numerical_jacobian
SMOOTH = [name for name in notes.ACTIVATIONS if name not in ("step", "relu", "leaky_relu", "elu")]
MODULES = ("activations", "jacobians", "losses", "network", "normalisation", "training")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rounding(terms: int, size: float = 1.0) -> float:
    """Bound for a sum of ``terms`` products whose magnitudes add up to ``size``, computed twice."""
    return 2 * (terms + 2) * EPS * size


def fd_bound(size: float, third: float) -> float:
    """Central difference: h^2/6 |f'''| of truncation; each f is off by some units, over 2h."""
    return STEP**2 / 6 * third + 8 * EPS * size / (2 * STEP)


def assert_within(actual: object, expected: object, bound: float) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module):
    result = doctest.testmod(importlib.import_module(f"fastbp.notes.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_public_functions_are_documented():
    for name in notes.__all__:
        thing = getattr(notes, name)
        if callable(thing) and getattr(thing, "__module__", "").startswith("fastbp.notes"):
            assert thing.__doc__, name


def test_notes_depend_on_numpy_alone():
    """They are what the kernels are checked against, so they must not share code with them."""
    allowed = {"__future__", "collections", "math", "typing", "numpy"}
    for path in Path(notes.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom):
                sibling = node.level == 1
                assert sibling or (node.module or "").split(".")[0] in allowed, path


# ---- one neuron: 000 7.5.2-7.5.5, 004 6.5.2-6.5.5, 001 ------------------------------------------


def test_forward_pass_of_nested_functions():
    """f(x) = x + 2, g = 3f, h = sin(g) at x = 10: 12, 36, sin 36 (004 section 6.5.4)."""
    x = column(10)
    f = notes.linear(column(1), column(2), x)
    g = notes.linear(column(3), column(0), f)
    assert (f.item(), g.item()) == (12.0, 36.0)
    assert math.sin(g.item()) == math.sin(3 * (10 + 2))


def test_logistic_classifier():
    """dL/dw = (sigma - y) x and dL/dw0 = sigma - y (004 6.1-6.6)."""
    w, w0, x = column([0.5, -1.0, 2.0]), column(0.25), column([1.0, 3.0, -2.0])
    for y in (0.0, 1.0):
        last = notes.trace([(w, w0, "sigmoid")], x, [y], "nll")[-1]
        sigma = 1.0 / (1.0 + math.exp(-((w.T @ x).item() + 0.25)))
        # dL/da . da/dz multiplies 1/(sigma (1 - sigma)) by its inverse: a few units of each factor.
        assert_within(last["dL/dW"], (sigma - y) * x, rounding(8, 3.0))
        assert_within(last["dL/dW0"], [[sigma - y]], rounding(8))


def test_nll_is_minus_the_log_likelihood():
    """004 (6.2) prints y log g + (1-y) log(1-g), which is never positive; (6.44) is right."""
    a, y = column(0.8), column(1.0)
    printed = (y * np.log(a) + (1 - y) * np.log(1 - a)).item()
    assert notes.loss_value("nll", a, y) == -printed > 0
    # 6.44 is the derivative of the loss with the sign, not of 6.2.
    assert notes.loss_derivative("nll", a, y).item() == -1 / 0.8


def relu_neuron_cost(w, b, X, y):
    """1/(2m) sum (y_i - a_i)^2 with a = relu(w^T x + b): notes 001."""
    return notes.batch_loss([(w, b, "relu")], X, y, "half_squared_error")


def test_relu_neuron_under_mean_squared_error():
    """dC/dw = mean e_i x_i and dC/db = mean e_i with e_i = w^T x_i + b - y_i (notes 001)."""
    X = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]])
    w, b, y = column([2.0, 1.0]), column(0.5), np.array([[1.0, 2.0, 5.0]])
    Z = w.T @ X + b
    assert (Z > 0).all()
    e = Z - y  # (2, 1.5, 3.5)
    [(dw, db)] = notes.batch_gradient([(w, b, "relu")], X, y, "half_squared_error")
    assert_within(dw, column([15.5 / 3, 6.5 / 3]), rounding(3, 16.0))
    assert_within(db, [[7.0 / 3]], rounding(3, 7.0))
    assert_within(dw, (X @ e.T) / 3, rounding(3, 16.0))
    by_difference = notes.numerical_jacobian(lambda w: relu_neuron_cost(w, b, X, y), w)
    assert_within(dw, by_difference, fd_bound(3.1, third=0))  # quadratic: no third derivative


def test_relu_neuron_counts_only_active_samples():
    """Where w^T x + b <= 0 the error is dropped from the sums; the mean is still over all m."""
    X, y = np.array([[1.0, -1.0]]), np.array([[0.0, 3.0]])
    w, b = column(2.0), column(0.0)  # z = (2, -2): the second sample is silent
    [(dw, db)] = notes.batch_gradient([(w, b, "relu")], X, y, "half_squared_error")
    assert (dw.item(), db.item()) == (1.0, 1.0)
    unmasked = (w.T @ X + b - y).mean()
    assert unmasked != db.item()


def test_activation_slice_of_a_relu_neuron():
    """da/dw through H = w * x, s = sum(H), z = s + b is x where z > 0 (notes 001)."""
    w, x, b = column([1.0, -2.0, 3.0]), column([4.0, 5.0, 6.0]), 0.5
    dH_dw, _ = notes.binary_jacobians("*", w, x)
    z = column((w * x).sum() + b)
    da_dw = notes.chain(
        dH_dw, notes.sum_jacobian(3), column(1.0), notes.activation_jacobian("relu", z)
    )
    assert z.item() > 0
    assert da_dw.tolist() == x.tolist()
    silent = notes.activation_jacobian("relu", -z)
    assert notes.chain(dH_dw, notes.sum_jacobian(3), silent).tolist() == [[0.0]] * 3


def test_layer_of_two_relu_units():
    """Notes 001: z = (90, 150) + (6, 6) = (96, 156), unchanged by relu.

    The printed input (1, 0) and bias (1, 1) give (6, 4); (10, 20) and (6, 6) give what follows.
    """
    W_rows = np.array([[5.0, 2.0], [3.0, 6.0]])  # notes 001 store a unit's weights in a row
    records = notes.forward([(W_rows.T, column([6, 6]), "relu")], [10, 20])
    assert (W_rows @ column([10, 20])).ravel().tolist() == [90.0, 150.0]
    assert records[1]["A"].ravel().tolist() == [96.0, 156.0]
    assert notes.linear(W_rows.T, column([1, 1]), column([1, 0])).ravel().tolist() == [6.0, 4.0]


# ---- chains: 000 7.5.7-7.5.11, 001, 002 ---------------------------------------------------------


def test_two_neuron_chain():
    """dL/dw1 = dL/da2 . da2/dz2 . dz2/da1 . da1/dz1 . dz1/dw1 (004 6.10-6.16), by scalars."""
    x, w1, b1, w2, b2, y = 0.5, 1.5, -0.25, -2.0, 0.75, 0.2
    a1 = math.tanh(w1 * x + b1)
    a2 = 1.0 / (1.0 + math.exp(-(w2 * a1 + b2)))
    dL_dz2 = 2 * (a2 - y) * a2 * (1 - a2)
    dL_dz1 = dL_dz2 * w2 * (1 - a1**2)
    layers = [(column(w1), column(b1), "tanh"), (column(w2), column(b2), "sigmoid")]
    _, first, second = notes.trace(layers, [x], [y], "squared_error")
    assert_within(second["dL/dW"], [[dL_dz2 * a1]], rounding(8))
    assert_within(second["dL/dW0"], [[dL_dz2]], rounding(8))
    assert_within(first["dL/dW"], [[dL_dz1 * x]], rounding(12))
    assert_within(first["dL/dW0"], [[dL_dz1]], rounding(12))


def test_chain_from_a_to_h_has_seven_factors():
    """004 (6.56), dA/dB ... dG/dH: with .1 each it is 1e-7 (printed 1e-8), with 10 each 1e7."""
    steps = list(itertools.pairwise("ABCDEFGH"))
    assert len(steps) == 7
    small = notes.chain(*[column(0.1) for _ in steps]).item()
    large = notes.chain(*[column(10.0) for _ in steps]).item()
    assert small == pytest.approx(1e-7, rel=rounding(7))
    assert large == 1e7


def test_multivariate_chain_rule():
    """f = xyz, x = r, y = rs, z = s: df/ds = 2 r^2 s, df/dr = 2 r s^2 (notes 002)."""
    r, s = 3.0, 5.0
    x, y, z = r, r * s, s
    inner = np.array([[1.0, s, 0.0], [0.0, r, 1.0]])  # rows r, s; columns x, y, z
    outer = column([y * z, x * z, x * y])
    assert notes.chain(inner, outer).tolist() == [[2 * r * s**2], [2 * r**2 * s]]


def test_jacobian_chain_rule():
    """f = (sin(x^2 + y), ln y^3) through g = (x^2 + y, y^3): notes 001, in the other layout."""

    def g(v):
        return np.array([v[0] ** 2 + v[1], v[1] ** 3])

    def f(v):
        return np.array([np.sin(v[0]), np.log(v[1])])

    x, y = 0.7, 1.3
    g1, g2 = g([x, y])
    dg_dx = np.array([[2 * x, 1.0], [0.0, 3 * y**2]]).T  # notes 001 print the matrix before .T
    df_dg = notes.diagonal([math.cos(g1), 1 / g2])
    result = notes.chain(dg_dx, df_dg)
    printed = np.array([[2 * x * math.cos(x**2 + y), math.cos(x**2 + y)], [0.0, 3 / y]])
    assert_within(result.T, printed, rounding(4, 3.0))
    assert_within(
        result, notes.numerical_jacobian(lambda v: f(g(v)), [x, y]), fd_bound(1.0, third=30)
    )


def test_jacobians_of_notes_001():
    """(2x + y^3, e^y - 13x), and its variant (2x - y^3, e^x - 13y): rows of J are the gradients."""
    x, y = 2.0, 0.5
    cases = [
        (lambda v: [2 * v[0] + v[1] ** 3, np.exp(v[1]) - 13 * v[0]],
         [[2, 3 * y**2], [-13, math.exp(y)]]),
        (lambda v: [2 * v[0] - v[1] ** 3, np.exp(v[0]) - 13 * v[1]],
         [[2, -3 * y**2], [math.exp(x), -13]]),
    ]  # fmt: skip
    for f, numerator_layout in cases:
        by_difference = notes.numerical_jacobian(f, [x, y])
        assert_within(by_difference.T, numerator_layout, fd_bound(40.0, third=10))


@pytest.mark.parametrize("operation", notes.BINARY_OPERATIONS)
def test_binary_and_expansion_jacobians(operation):
    """Diagonal for two vectors; for an expanded scalar diagonal and a row (notes 001)."""
    v, w, x = column([1.0, -2.0, 0.5]), column([2.0, 3.0, -1.5]), 1.75
    f = notes.BINARY_OPERATIONS[operation][0]
    dF_dv, dF_dw = notes.binary_jacobians(operation, v, w)
    bound = fd_bound(6.0, third=10)
    assert_within(dF_dv, notes.numerical_jacobian(lambda v: f(v, w), v), bound)
    assert_within(dF_dw, notes.numerical_jacobian(lambda w: f(v, w), w), bound)
    dF_dv, dF_dx = notes.expansion_jacobians(operation, v, x)
    ones = np.ones_like(v)
    assert_within(dF_dv, notes.numerical_jacobian(lambda v: f(v, ones * x), v), bound)
    assert_within(dF_dx, notes.numerical_jacobian(lambda x: f(v, ones * x), [x]), bound)


def test_hadamard_jacobian_holds_the_other_vector():
    """d(v * w)/dv = diag(w); notes 001 print v in the diagonal."""
    dF_dv, dF_dw = notes.binary_jacobians("*", [1, 2, 3], [4, 5, 6])
    assert dF_dv.diagonal().tolist() == [4, 5, 6]
    assert dF_dw.diagonal().tolist() == [1, 2, 3]


def test_sum_jacobian():
    """All ones; twice that for the sum of 2v (notes 001)."""
    assert notes.sum_jacobian(4).tolist() == [[1.0]] * 4
    twice = notes.chain(notes.diagonal([2.0] * 4), notes.sum_jacobian(4))
    assert twice.tolist() == [[2.0]] * 4


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


def random_net(activations, seed=0, sizes=(4, 5, 3, 2), scale=0.7):
    return notes.random_layers(sizes, activations, rng(seed), scale)


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
