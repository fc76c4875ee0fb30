"""Every quantity of the notes, computed one kernel at a time: for looking, not for speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import kernels
from .canonical import is_memory_map, unfit
from .data import as_targets
from .errors import check_seed

if TYPE_CHECKING:
    from .network import Network

Array = NDArray[Any]


class Trace(dict[str, list[Any]]):
    """Quantities by the notes' name, each a list over the layers; index 0 is the first layer.

    With n samples, m inputs and k units of a layer: "Z", "A", "dL/dA", "dL/dZ" (n, k); "dA/dZ"
    (n, k) where f is element-wise (the diagonal of the Jacobian), (n, k, k) for softmax;
    "dL/dW" (m, k); "dL/dW0" (k,), None where the layer has no bias. "input" is [X], "loss" the
    per-sample losses.

    "Z" is what the linear part gives, "U" what goes into the activation (Z, or Z batch-normalised),
    "A" what comes out of it, and "output" what the next layer reads (A, or A batch-normalised or
    after dropout). So A = f(U), and dA/dZ is taken at U; "dL/dgamma" and "dL/dbeta" are None
    without batch norm.

    >>> import fastbp
    >>> net = fastbp.Network(2, [fastbp.Dense(1, "sigmoid")], loss="nll", seed=3)
    >>> t = net.trace([[1.0, 2.0]], [1])
    >>> bool(np.allclose(t["dL/dZ"][0], t["A"][0] - 1))
    True
    """


_BY_LAYER = (
    "Z", "U", "A", "output", "dL/dA", "dA/dZ", "dL/dZ", "dL/dW", "dL/dW0", "dL/dgamma", "dL/dbeta",
)  # fmt: skip


def trace(
    network: Network, X: Any, y: Any, *, training: bool = False, seed: int | None = None
) -> Trace:
    """Forward, then backward: derivatives of the objective's data term over X as one batch.

    Args:
        network: the network.
        X: (n, inputs).
        y: labels (n,) or targets (n, outputs).
        training: batch statistics and dropout, as in training.
        seed: of the dropout masks; None: the network's.
    """
    A = np.asarray(network._as_matrix(X))
    if is_memory_map(A) and (message := unfit(A, "X")):
        raise ValueError(message)
    network._check_rows(len(A), training)
    Y = as_targets(
        network._on_host(y), len(A), network.layers[-1].units, network.dtype, network.loss_name
    )
    if is_memory_map(Y) and (message := unfit(Y, "y")):
        raise ValueError(message)
    if Y.ndim == 1:
        Y = np.eye(network.layers[-1].units, dtype=network.dtype)[Y]
    seed = network.seed if seed is None else check_seed(seed)
    result = Trace()
    result["input"] = [A.copy()]  # it may be the caller's own, and read-only
    steps = []
    for layer in network.layers:
        steps.append(_forward(layer, A, training, seed, network.precision))
        A = steps[-1]["output"]
    result["loss"] = [_losses(network, steps[-1], Y)]
    scale = 1.0 / len(A) if network.reduction == "mean" else 1.0
    dA, dZ = _end(network, steps[-1], Y, scale)
    for layer, step in zip(reversed(network.layers), reversed(steps), strict=True):
        dA = _backward(layer, step, dA, dZ, training, network.precision)
        dZ = None
    for name in _BY_LAYER:
        result[name] = [step.get(name) for step in steps]
    return result


def _forward(
    layer: Any, A: Array, training: bool, seed: int, precision: str | None
) -> dict[str, Any]:
    step: dict[str, Any] = {"input": A}
    Z = kernels.linear_forward(A, layer.W, layer.b, precision=precision)
    step["Z"] = U = Z
    norm = layer.batch_norm
    if norm and norm.position == "before":
        U = _normalize(layer, Z, step, training)
    step["U"] = U
    out = step["A"] = kernels.activate(layer.activation, U)
    if norm and norm.position == "after":
        out = _normalize(layer, out, step, training)
    if training and layer.dropout > 0:
        out, step["mask"] = kernels.dropout(out, layer.dropout, seed=seed, layer=layer.index)
    step["output"] = out
    return step


def _normalize(layer: Any, Z: Array, step: dict[str, Any], training: bool) -> Array:
    norm = layer.batch_norm
    mean, variance = layer.running_mean, layer.running_variance
    if training:
        mean, variance = kernels.batch_statistics(Z)
    out, step["normalized"] = kernels.batchnorm_forward(
        Z, mean, variance, layer.gamma, layer.beta, eps=norm.eps, form=norm.form
    )
    step["variance"] = variance
    return out


def _losses(network: Network, step: dict[str, Any], Y: Array) -> Array:
    """The losses of the samples, from logits where training computes them so."""
    if network._specs[-1].ends_in_logits(network.loss_name):
        last = network.layers[-1].activation
        return kernels.loss_and_delta(network.loss_name, last, step["U"], Y)[0]
    return kernels.loss_forward(network.loss_name, step["output"], Y)


def _end(
    network: Network, step: dict[str, Any], Y: Array, scale: float
) -> tuple[Array, Array | None]:
    """dL/dA of the last layer and, where the loss is computed from logits, dL/dZ."""
    last = network.layers[-1]
    weight = np.full(len(Y), scale, network.dtype)
    dA = kernels.loss_gradient(network.loss_name, step["output"], Y, weight=weight)
    if network._specs[-1].ends_in_logits(network.loss_name):
        _, dZ = kernels.loss_and_delta(
            network.loss_name, last.activation, step["U"], Y, weight=weight
        )
        return dA, dZ
    return dA, None


def _backward(
    layer: Any, step: dict[str, Any], dA: Array, dZ: Array | None, training: bool,
    precision: str | None,
) -> Array:  # fmt: skip
    """Fill in the layer's derivatives; dL/dA of the layer before is returned."""
    norm = layer.batch_norm
    if "mask" in step:
        keep = np.array(1.0 / (1.0 - layer.dropout), dA.dtype)
        dA = np.where(step["mask"] != 0, dA * keep, dA.dtype.type(0))
    if norm and norm.position == "after":
        dA = _normalize_backward(layer, step, dA, training)
    step["dL/dA"] = dA
    step["dA/dZ"] = derivative(layer.activation, step["A"], step["U"])
    if dZ is None:
        dZ = kernels.apply_derivative(layer.activation, dA, step["A"], step["U"])
    if norm and norm.position == "before":
        dZ = _normalize_backward(layer, step, dZ, training)
    step["dL/dZ"] = dZ
    step["dL/dW"], bias = kernels.weight_gradient(step["input"], dZ, precision=precision)
    step["dL/dW0"] = None if layer.b is None else bias
    return kernels.input_gradient(dZ, layer.W, precision=precision)


def _normalize_backward(layer: Any, step: dict[str, Any], dU: Array, training: bool) -> Array:
    norm = layer.batch_norm
    dZ, step["dL/dgamma"], step["dL/dbeta"] = kernels.batchnorm_backward(
        dU, step["normalized"], step["variance"], layer.gamma, eps=norm.eps, form=norm.form
    )
    if training:
        return dZ
    root = np.sqrt(step["variance"])  # constants: nothing flows back through the statistics
    spread = np.sqrt(step["variance"] + norm.eps) if norm.form == "sqrt" else root + norm.eps
    return (dU * layer.gamma / spread).astype(dU.dtype)


def derivative(activation: str, A: Array, Z: Array) -> Array:
    """dA/dZ: (n, k), the Jacobian's diagonal; (n, k, k) for softmax, whose Jacobian is full."""
    if activation == "softmax":
        return np.einsum("ij,jk->ijk", A, np.eye(A.shape[1], dtype=A.dtype)) - np.einsum(
            "ij,ik->ijk", A, A
        )
    return kernels.apply_derivative(activation, np.ones_like(A), A, Z)
