"""A network as an ONNX graph: what the operators of opset 17 say it with.

ONNX Runtime's CPU kernels of Elu, Softplus and Erf are for float32 alone, and so was, up to 1.30,
that of z sigmoid(z), which it makes one of itself. In float64 all but Erf are spelt out of
operators that it has; Erf, which cannot be, is taken in float32, so that GELU in float64 is exact
to 1e-7 |z|.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..atomic import replacing
from ..engine import Array
from ..errors import entry_for
from ..kernels.tables import ELU_ALPHA, LEAKY_SLOPE
from .folding import divisor, folded

if TYPE_CHECKING:
    from ..network import Network

OPSET: Final = 17
IR_VERSION: Final = 8
MOST_BYTES: Final = (1 << 31) - (1 << 20)  # of a protobuf message, with room for the graph


class Graph:
    """Nodes and initializers in the making; `self.prefix` names what is added.

    Floating-point numbers are given the graph's dtype. All names begin with `root`.
    """

    def __init__(self, dtype: np.dtype[Any], root: str = "") -> None:
        self.dtype, self.root, self.prefix = dtype, root, ""
        self.double = dtype == np.float64
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}

    def number(self, name: str, value: Array) -> str:
        """An initializer under its own name."""
        name = self.root + name
        array = np.ascontiguousarray(value, self.dtype if value.dtype.kind == "f" else None)
        self.initializers[name] = numpy_helper.from_array(array.reshape(value.shape), name)
        return name

    def constant(self, value: float) -> str:
        """An initializer that holds one number of the network's dtype; equal ones are shared."""
        return self.number(f"constant.{value:g}", np.array(value, self.dtype))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node; the name of its output."""
        name = f"{self.root}{self.prefix}.{operator}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [*inputs], [name], name=name, **attributes))
        return name

    def give(self, value: str, name: str) -> None:
        """A value under the name of an output."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"{self.root}{name}"))


def _step(graph: Graph, z: str) -> str:
    on = graph.add("GreaterOrEqual", z, graph.constant(0.0))
    return graph.add("Cast", on, to=helper.np_dtype_to_tensor_dtype(graph.dtype))


def _elu(graph: Graph, z: str) -> str:
    if not graph.double:
        return graph.add("Elu", z, alpha=ELU_ALPHA)
    # max(z, 0) + e^min(z, 0) - 1
    below = graph.add("Exp", graph.add("Min", z, graph.constant(0.0)))
    below = graph.add("Sub", below, graph.constant(1.0))
    return graph.add("Add", graph.add("Relu", z), below)


def _softplus(graph: Graph, z: str) -> str:
    if not graph.double:
        return graph.add("Softplus", z)
    # max(z, 0) + log(1 + e^-|z|)
    small = graph.add("Exp", graph.add("Neg", graph.add("Abs", z)))
    small = graph.add("Log", graph.add("Add", small, graph.constant(1.0)))
    return graph.add("Add", graph.add("Relu", z), small)


def _gelu(graph: Graph, z: str) -> str:
    part = graph.add("Mul", z, graph.constant(math.sqrt(0.5)))
    if graph.double:
        part = graph.add("Cast", part, to=TensorProto.FLOAT)
    part = graph.add("Erf", part)
    if graph.double:
        part = graph.add("Cast", part, to=TensorProto.DOUBLE)
    part = graph.add("Add", part, graph.constant(1.0))
    return graph.add("Mul", graph.add("Mul", z, graph.constant(0.5)), part)


def _silu(graph: Graph, z: str) -> str:
    if not graph.double:
        return graph.add("Mul", z, graph.add("Sigmoid", z))
    # z / (1 + e^-z)
    below = graph.add("Add", graph.add("Exp", graph.add("Neg", z)), graph.constant(1.0))
    return graph.add("Div", z, below)


def _leaky_relu(graph: Graph, z: str) -> str:
    """LeakyRelu's alpha is a float32, whatever it multiplies: in float64 max(z, slope z)."""
    if not graph.double:
        return graph.add("LeakyRelu", z, alpha=LEAKY_SLOPE)
    return graph.add("Max", z, graph.add("Mul", z, graph.constant(LEAKY_SLOPE)))


ACTIVATIONS: Final[dict[str, Callable[[Graph, str], str]]] = {
    "identity": lambda graph, z: z,
    "step": _step,
    "relu": lambda graph, z: graph.add("Relu", z),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "sigmoid": lambda graph, z: graph.add("Sigmoid", z),
    "tanh": lambda graph, z: graph.add("Tanh", z),
    "softplus": _softplus,
    "silu": _silu,
    "gelu": _gelu,
    "softmax": lambda graph, z: graph.add("Softmax", z, axis=1),
    "exp": lambda graph, z: graph.add("Exp", z),
}


def _activate(graph: Graph, activation: str, z: str) -> str:
    return entry_for(ACTIVATIONS, activation, "ONNX operators")(graph, z)


def _batch_norm(graph: Graph, x: str, layer: Any) -> str:
    """The node; the divisor's square for its variance and 0 for eps, but in the plain case.

    The node's eps is a float32, whatever it is added to, and added to a square root it cannot be.
    """
    norm, variance, eps = layer.batch_norm, layer.running_variance, layer.batch_norm.eps
    if norm.form == "sigma" or graph.double:
        variance, eps = (divisor(norm, variance) ** 2).astype(graph.dtype), 0.0
    names = ("gamma", "beta", "running_mean")
    inputs = [graph.number(f"{graph.prefix}.{name}", getattr(layer, name)) for name in names]
    inputs.append(graph.number(f"{graph.prefix}.running_variance", variance))
    return graph.add("BatchNormalization", x, *inputs, epsilon=eps)


def _linear(graph: Graph, x: str, W: Array, b: Array | None) -> str:
    inputs = [graph.number(f"{graph.prefix}.W", W)]
    if b is not None:
        inputs.append(graph.number(f"{graph.prefix}.b", b))
    return graph.add("Gemm", x, *inputs)


def add_network(graph: Graph, net: Network, x: str, fold_batch_norm: bool) -> str:
    """The network's nodes after the value `x`; the name of its outputs."""
    if fold_batch_norm:
        layers, behind = folded(net)
        for index, (W, b, activation) in enumerate(layers):
            graph.prefix = f"layers.{index}"
            x = _activate(graph, activation, _linear(graph, x, W, b))
        if behind is not None:
            x = graph.add("Mul", x, graph.number(f"{graph.prefix}.scale", behind.scale))
            x = graph.add("Add", x, graph.number(f"{graph.prefix}.shift", behind.shift))
        return x
    for layer in net.layers:
        graph.prefix = f"layers.{layer.index}"
        position = layer.batch_norm.position if layer.batch_norm else None
        x = _linear(graph, x, layer.W, layer.b)
        if position == "before":
            x = _batch_norm(graph, x, layer)
        x = _activate(graph, layer.activation, x)
        if position == "after":
            x = _batch_norm(graph, x, layer)
    return x


def export(net: Network, path: str | os.PathLike[str] | None, fold_batch_norm: bool) -> Any:
    """`Network.to_onnx`."""
    size = net.parameters.nbytes + net._running.nbytes
    if size > MOST_BYTES:
        raise ValueError(
            f"the network's {size:,} bytes do not fit into an ONNX file (2 GiB); use net.save"
        )
    graph = Graph(net.dtype)
    kind = helper.np_dtype_to_tensor_dtype(net.dtype)
    last = add_network(graph, net, "X", fold_batch_norm)
    assert graph.nodes[-1].output[0] == last
    graph.nodes[-1].output[0] = "outputs"
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "fastbp",
            [helper.make_tensor_value_info("X", kind, ["n", net.inputs])],
            [helper.make_tensor_value_info("outputs", kind, ["n", net.layers[-1].units])],
            list(graph.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fastbp",
        producer_version=version("fastbp"),
    )
    helper.set_model_props(model, {"fastbp": json.dumps(net.architecture())})
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(model.SerializeToString())
    return model
