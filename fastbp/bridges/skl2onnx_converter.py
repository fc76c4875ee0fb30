"""Estimators in scikit-learn's Pipelines to ONNX: the converter that skl2onnx has to be given."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.base import is_classifier

from ..network import Network
from .onnx_graph import OPSET, Graph, add_network

_OPTIONS: Final = {"zipmap": [True, False, "columns"], "nocl": [True, False],
                   "output_class_labels": [False, True]}  # fmt: skip
_OLDEST: Final = 13
"""The opset since which all that a graph is written with means what it does in 17."""


def register(estimators: tuple[type, ...]) -> None:
    """`fastbp.bridges.register_skl2onnx`."""
    for estimator in estimators:
        classifies = bool(is_classifier(estimator()))  # its tags belong to objects
        update_registered_converter(
            estimator,
            f"Fastbp{estimator.__name__}",
            calculate_linear_classifier_output_shapes if classifies else _regressor_shapes,
            convert,
            options=_OPTIONS if classifies else None,
        )


def _regressor_shapes(operator: Any) -> None:
    """skl2onnx's own knows linear models, and takes the number of outputs from them."""
    calculate_linear_regressor_output_shapes(operator)
    shape = operator.outputs[0].type.shape
    operator.outputs[0].type.shape = [shape[0], operator.raw_operator.n_outputs_]


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Add an estimator's network, and for a classifier its labels, to the model under way."""
    estimator, opset = operator.raw_operator, min(container.target_opset, OPSET)
    if opset < _OLDEST:
        raise ValueError(f"target_opset={opset} is too old for a network; give {_OLDEST} or more")
    double = isinstance(operator.inputs[0].type, DoubleTensorType)
    root = f"{scope.get_unique_operator_name('fastbp')}."
    graph = Graph(np.dtype(np.float64 if double else np.float32), root)
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    # Integer columns, too, reach a network as floats.
    x = graph.add("Cast", operator.inputs[0].full_name, to=kind)
    outputs = add_network(graph, Network.from_sklearn(estimator), x, False)
    names = [output.full_name for output in operator.outputs]
    if is_classifier(estimator):
        _classify(graph, estimator, outputs, names)
    else:
        graph.give(outputs, names[0])
    for name, tensor in graph.initializers.items():
        array = numpy_helper.to_array(tensor)
        container.add_initializer(name, tensor.data_type, list(array.shape), array.ravel())
    for node in graph.nodes:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        container.add_node(
            node.op_type,
            list(node.input),
            list(node.output),
            op_domain=node.domain,
            op_version=1 if node.domain else opset,
            name=node.name,
            **attributes,
        )


def _classify(graph: Graph, estimator: Any, outputs: str, names: list[str]) -> None:
    """Labels and probabilities from the network's outputs."""
    graph.prefix = "labels"
    label, probabilities = names
    several = estimator.out_activation_ == "logistic" and estimator.n_outputs_ > 1
    if several:  # labels a row: each output decides for itself
        on = graph.add("Greater", outputs, graph.constant(0.5))
        graph.give(graph.add("Cast", on, to=TensorProto.INT64), label)
        graph.give(outputs, probabilities)
        return
    classes = np.asarray(estimator.classes_)
    if estimator.out_activation_ == "logistic":
        other = graph.add("Sub", graph.constant(1.0), outputs)
        outputs = other if len(classes) == 1 else graph.add("Concat", other, outputs, axis=1)
    if classes.dtype.kind in "iubf":  # skl2onnx declares int64 for all numbers
        classes = classes.astype(np.int64)
    if classes.dtype.kind in "US":
        classes = classes.astype(object)
    table = graph.number("classes", classes)
    place = graph.add("ArgMax", outputs, axis=1, keepdims=0)
    found = graph.add("Gather", table, place, axis=0)
    graph.give(found, label)
    graph.give(outputs, probabilities)
