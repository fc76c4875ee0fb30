"""ONNX's own node cases that fit a multilayer perceptron, at their rtol of 1e-5: peers' numbers.

The cases come from the `onnx` package. Each operator is put together from the kernels, those of the
CPU and NumPy's, and what ONNX words otherwise is translated here. EXCEPTIONS names each case of
these operators that is not run, and why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fastbp import kernels
from fastbp.kernels import reference

onnx = pytest.importorskip("onnx")
Array = np.ndarray[Any, Any]
Operator = Callable[[ModuleType, dict[str, Any], list[Any]], list[Any]]

EXCEPTIONS = {
    "test_training_dropout_default_mask": "the mask is NumPy's generator's, not ours",
    "test_training_dropout_mask": "the mask is NumPy's generator's, not ours",
    "test_dropout_random_old": "an identity of an operator set that is gone, on three axes",
    "test_elu": "alpha is 2; ours is 1",
    "test_elu_example": "alpha is 2; ours is 1",
    "test_leakyrelu": "the slope is 0.1; ours is 0.01",
    "test_leakyrelu_example": "the slope is 0.1; ours is 0.01",
    "test_gelu_tanh_1": "the approximation by tanh; ours is exact",
    "test_gelu_tanh_2": "the approximation by tanh; ours is exact",
}


def rows(x: Array, axis: int = 1) -> tuple[Array, Callable[[Array], Array]]:
    """x with `axis` as columns and all else as rows, and the way back."""
    moved = np.moveaxis(x, axis, -1)
    flat = np.ascontiguousarray(moved.reshape(-1, x.shape[axis]))
    return flat, lambda y: np.moveaxis(y.reshape(moved.shape), -1, axis)


def activation(name: str, last: bool = False) -> Operator:
    def operator(k: ModuleType, given: dict[str, Any], inputs: list[Array]) -> list[Array]:
        (x,) = inputs
        flat, back = rows(np.atleast_1d(x), given.get("axis", -1) if last else -1)
        return [back(k.activate(name, flat)).reshape(x.shape)]

    return operator


def minus_log_softmax(k: ModuleType, flat: Array) -> Array:
    """Of every class, by the loss from logits."""
    classes = flat.shape[1]
    columns = []
    for j in range(classes):
        Y = np.zeros_like(flat)
        Y[:, j] = 1
        columns.append(k.loss_and_delta("cross_entropy", "softmax", flat, Y)[0])
    return np.stack(columns, axis=1)


def log_softmax(k: ModuleType, given: dict[str, Any], inputs: list[Array]) -> list[Array]:
    flat, back = rows(inputs[0], given.get("axis", -1))
    return [back(-minus_log_softmax(k, flat))]


def reduced(losses: Array, weights: Array, given: dict[str, Any], shape: Any) -> Array:
    how = given.get("reduction", b"mean").decode()
    if how == "none":
        return losses.reshape(shape)
    return losses.sum() if how == "sum" else losses.sum() / weights.sum()


def targets(labels: Array, classes: int, inputs: list[Array], given: dict[str, Any]) -> Any:
    """One-hot rows, and the weight of each: the class's, 0 for those to be ignored."""
    flat = labels.reshape(-1)
    kept = flat != given.get("ignore_index", np.iinfo(np.int64).min)
    class_weights = inputs[2] if len(inputs) > 2 else np.ones(classes, np.float32)
    known = np.where(kept, flat, 0)
    return np.eye(classes)[known], np.where(kept, class_weights[known], 0.0)


def softmax_cross_entropy(k: ModuleType, given: Any, inputs: list[Array]) -> list[Array]:
    flat, back = rows(inputs[0])
    Y, weights = targets(inputs[1], flat.shape[1], inputs, given)
    losses, _ = k.loss_and_delta(
        "cross_entropy", "softmax", flat, Y.astype(flat.dtype), weight=weights.astype(flat.dtype)
    )
    return [reduced(losses, weights, given, inputs[1].shape), back(-minus_log_softmax(k, flat))]


def negative_log_likelihood(k: ModuleType, given: Any, inputs: list[Array]) -> list[Array]:
    """The cases' "log probabilities" are above 0: shifted by c, -log exp(x - c) = -x + c."""
    flat, _ = rows(inputs[0].astype(np.float64))
    Y, weights = targets(inputs[1], flat.shape[1], inputs, given)
    c = flat.max() + 1.0
    weights = weights.astype(np.float64)
    losses = k.loss_forward("cross_entropy", np.exp(flat - c), Y, weight=weights) - weights * c
    return [reduced(losses, weights, given, inputs[1].shape)]


def gemm(k: ModuleType, given: dict[str, Any], inputs: list[Array]) -> list[Array]:
    A, B, *rest = inputs
    alpha, beta = (np.float32(given.get(name, 1.0)) for name in ("alpha", "beta"))
    C = beta * (rest[0] if rest else np.zeros(1, np.float32))
    left, right = given.get("transA", 0), given.get("transB", 0)
    if left and not right:
        return [alpha * k.weight_gradient(A, B)[0] + C]
    if right and not left:
        return [alpha * k.input_gradient(A, B) + C]
    A, B = (np.ascontiguousarray(x.T if turn else x) for x, turn in ((A, left), (B, right)))
    if C.size == B.shape[1]:
        return [k.linear_forward(alpha * A, B, C.reshape(-1).copy())]
    return [k.linear_forward(alpha * A, B) + C]


def batch_normalization(k: ModuleType, given: Any, inputs: list[Array]) -> list[Array]:
    x, gamma, beta, mean, variance = inputs
    flat, back = rows(x)
    eps, old = given.get("epsilon", 1e-5), given.get("momentum", 0.9)
    if not given.get("training_mode", 0):
        return [back(k.batchnorm_forward(flat, mean, variance, gamma, beta, eps=eps)[0])]
    m, v = k.batch_statistics(flat)
    out = back(k.batchnorm_forward(flat, m, v, gamma, beta, eps=eps)[0])
    return [out, old * mean + (1 - old) * m, old * variance + (1 - old) * v]


def dropout(k: ModuleType, given: dict[str, Any], inputs: list[Any]) -> list[Any]:
    """The mask is drawn by another generator: what both keep must be scaled alike."""
    x, *rest = inputs
    share = float(rest[0]) if rest else given.get("ratio", 0.5)
    training = bool(rest[1]) if len(rest) > 1 else False
    flat, back = rows(x, -1)
    out, mask = k.dropout(flat, share if training else 0.0, seed=1)
    return [back(out), back(mask).astype(bool)]


def parts(inputs: list[Array], rows_of_state: int) -> tuple[Any, Any, list[list[Array]]]:
    """Rate, count, and for each tensor its value, gradient and state."""
    rate, count, *tensors = inputs
    n = len(tensors) // (2 + rows_of_state)
    return float(rate), int(count), [tensors[i::n] for i in range(n)]


def updated(results: list[tuple[Array, Array]]) -> list[Array]:
    """New values, then new state rows, in ONNX's order."""
    states = zip(*(state for _, state in results), strict=True)
    return [w for w, _ in results] + [row for group in states for row in group]


def step(k: ModuleType, name: str, w: Array, g: Array, state: list[Array], **more: Any) -> Any:
    w, S = w.copy(), np.stack(state)
    k.update(name, w, g, S, **more)
    return w, S


def adagrad(k: ModuleType, given: dict[str, Any], inputs: list[Array]) -> list[Array]:
    rate, count, tensors = parts(inputs, 1)
    rate /= 1 + count * given.get("decay_factor", 0.0)
    more = {"eps": given["epsilon"], "l2": given["norm_coefficient"], "lr": rate, "step": 1}
    return updated([step(k, "adagrad", w, g, s, **more) for w, g, *s in tensors])


def adam(k: ModuleType, given: dict[str, Any], inputs: list[Array]) -> list[Array]:
    """At T = 0 ONNX leaves the correction out: the rate here undoes it."""
    rate, count, tensors = parts(inputs, 2)
    beta1, beta2 = given["alpha"], given["beta"]
    if count == 0:
        rate *= (1 - beta1) / np.sqrt(1 - beta2)
    more = {"beta1": beta1, "beta2": beta2, "eps": given["epsilon"], "lr": rate,
            "l2": given["norm_coefficient"], "step": max(count, 1)}  # fmt: skip
    return updated([step(k, "adam_epsilon_hat", w, g, s, **more) for w, g, *s in tensors])


def momentum(k: ModuleType, given: dict[str, Any], inputs: list[Array]) -> list[Array]:
    """ONNX weighs the gradient in the velocity by beta, but not in Nesterov's look ahead."""
    rate, count, tensors = parts(inputs, 1)
    nesterov = given["mode"] == b"nesterov"
    beta = 1.0 if count == 0 else given["beta"]
    assert beta == 1.0 or not nesterov
    more = {"momentum": given["alpha"], "lr": rate, "step": 1}
    found = []
    for w, g, *s in tensors:
        g = np.float32(beta) * (g + np.float32(given["norm_coefficient"]) * w)
        found.append(step(k, "nesterov" if nesterov else "momentum", w, g, s, **more))
    return updated(found)


def matmul(k: ModuleType, given: dict[str, Any], inputs: list[Array]) -> list[Array]:
    return [k.linear_forward(*inputs)]


OPERATORS: dict[str, Operator] = {
    "Adagrad": adagrad,
    "Adam": adam,
    "Momentum": momentum,
    "BatchNormalization": batch_normalization,
    "SoftmaxCrossEntropyLoss": softmax_cross_entropy,
    "NegativeLogLikelihoodLoss": negative_log_likelihood,
    "Softmax": activation("softmax", last=True),
    "LogSoftmax": log_softmax,
    "Gemm": gemm,
    "MatMul": matmul,
    "Dropout": dropout,
    "Relu": activation("relu"),
    "Sigmoid": activation("sigmoid"),
    "Tanh": activation("tanh"),
    "Elu": activation("elu"),
    "LeakyRelu": activation("leaky_relu"),
    "Softplus": activation("softplus"),
    "Gelu": activation("gelu"),
    "Swish": activation("silu"),
}


def collected() -> dict[str, Any]:
    """Cases by name: one node of an operator of ours, floats, two axes for a product."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx makes its own numbers, infinities among them
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    chosen = {}
    for case in cases:
        nodes = case.model.graph.node
        ours = len(nodes) == 1 and nodes[0].op_type in OPERATORS and "expanded" not in case.name
        if ours and (nodes[0].op_type != "MatMul" or case.name == "test_matmul_2d"):
            chosen[case.name] = case
    return chosen


CASES = collected()
BACKENDS = {"cpu": kernels, "reference": reference}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", sorted(CASES.keys() - EXCEPTIONS.keys()))
def test_case(name: str, backend: str) -> None:
    case = CASES[name]
    (node,) = case.model.graph.node
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    operator = OPERATORS[node.op_type]
    for inputs, outputs in case.data_sets:
        found = operator(BACKENDS[backend], given, [np.asarray(x) for x in inputs])
        if name.startswith("test_training_dropout") and "zero_ratio" not in name:
            both = (np.asarray(outputs[0]) != 0) & (found[0] != 0)
            assert both.any()
            found, outputs = [found[0][both]], [np.asarray(outputs[0])[both]]
        for have, want in zip(found, outputs, strict=False):
            np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-7)
        assert len(found) >= len(outputs)


def test_there_are_enough_cases_and_each_exception_is_one() -> None:
    assert EXCEPTIONS.keys() <= CASES.keys()
    assert len(CASES) - len(EXCEPTIONS) >= 105
    assert {case.model.graph.node[0].op_type for case in CASES.values()} == OPERATORS.keys()
