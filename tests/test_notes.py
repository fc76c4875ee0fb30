"""`fastbp.notes` as a package, and its examples of one neuron and of chains, as numbers.

Tolerances are error bounds: a sum of n products is off by at most about n rounding units of the sum
of their magnitudes (`notes_support.rounding`), a central difference by its truncation and rounding
(`notes_support.fd_bound`).
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
from notes_support import assert_within, fd_bound, rounding

from fastbp import notes
from fastbp.notes import column

SMOOTH = [name for name in notes.ACTIVATIONS if name not in ("step", "relu", "leaky_relu", "elu")]
MODULES = ("activations", "jacobians", "losses", "network", "normalisation", "training")


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
