"""A network as a fitted scikit-learn perceptron, and such a perceptron as a network.

Both store W as (inputs, units). Two classes are one logistic output there: softmax over logits
z_0, z_1 gives the second class 1 / (1 + e^-(z_1 - z_0)), so the difference of the columns does it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..errors import plural, shown
from ..layers import Dense
from .folding import Linear, folded

if TYPE_CHECKING:
    from ..network import Network

THEIRS: Final = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
"""Activations of hidden layers, by our name and theirs."""

OURS: Final = {theirs: ours for ours, theirs in THEIRS.items()} | {
    "softmax": "softmax",
    "exp": "exp",
}

LOSS_OF: Final = {
    "softmax": "cross_entropy",
    "logistic": "binary_cross_entropy",
    "identity": "half_squared_error",
    "exp": "poisson",
}
"""What their estimator minimises, by its output activation."""

OUTPUT_OF: Final = {
    ("softmax", "cross_entropy"): "softmax",
    ("sigmoid", "binary_cross_entropy"): "logistic",
    ("exp", "poisson"): "exp",
}


# --- out -----------------------------------------------------------------------------------------


def export(net: Network, classes: Sequence[Any] | None) -> Any:
    """`Network.to_sklearn`."""
    layers, behind = folded(net)
    if behind is not None:
        raise ValueError(
            "batch norm behind the last activation has no place in scikit-learn's perceptron; use "
            "batch_norm='before' in the last layer, or net.to_onnx"
        )
    hidden = _hidden_activation(layers[:-1])
    last = layers[-1]
    squared = net.loss_name in {"squared_error", "half_squared_error"}
    out = "identity" if last.activation == "identity" and squared else None
    out = OUTPUT_OF.get((last.activation, net.loss_name), out)
    if out is None:
        raise ValueError(
            f"the last layer ({last.activation}, loss {net.loss_name}) has no counterpart in "
            "scikit-learn, which has softmax with cross_entropy, sigmoid with "
            "binary_cross_entropy, exp with poisson, and identity with a squared error"
        )
    if out == "softmax" and last.W.shape[1] == 2:
        W, b = last.W.astype(np.float64), last.b.astype(np.float64)
        W, b = W[:, 1:] - W[:, :1], b[1:] - b[:1]
        layers[-1], out = Linear(W.astype(net.dtype), b.astype(net.dtype), "sigmoid"), "logistic"
        return _classifier(layers, hidden, out, classes, 2)
    if out in {"identity", "exp"}:
        if classes is not None:
            raise ValueError(f"classes={shown(classes)}, but the network is a regression")
        return _finish(_regressor(hidden, layers, out), layers, out)
    outputs = last.W.shape[1]
    if out == "softmax" and outputs == 1:
        raise ValueError("softmax over one output is always 1: there is nothing to classify")
    return _classifier(layers, hidden, out, classes, 2 if outputs == 1 else outputs)


def _hidden_activation(layers: list[Linear]) -> str:
    names = sorted({layer.activation for layer in layers})
    if len(names) > 1:
        raise ValueError(
            f"the hidden layers have {', '.join(names)}; scikit-learn has one activation for all"
        )
    if names and names[0] not in THEIRS:
        raise ValueError(f"scikit-learn has no activation {names[0]!r}; it has {', '.join(THEIRS)}")
    return THEIRS[names[0]] if names else "relu"


def _widths(layers: list[Linear]) -> tuple[int, ...]:
    return tuple(layer.W.shape[1] for layer in layers[:-1])


def _regressor(hidden: str, layers: list[Linear], out: str) -> Any:
    from sklearn.neural_network import MLPRegressor

    # Its argument `loss` came with scikit-learn 1.7: named only where it is needed.
    loss = {"loss": "poisson"} if out == "exp" else {}
    return MLPRegressor(hidden_layer_sizes=_widths(layers), activation=hidden, **loss)


def _classifier(
    layers: list[Linear], hidden: str, out: str, classes: Sequence[Any] | None, count: int
) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import LabelBinarizer

    several = out == "logistic" and layers[-1].W.shape[1] > 1  # labels a row
    names = np.arange(count) if classes is None else np.asarray(classes)
    texts = {isinstance(name, str) for name in names.flat}
    ordered = len(texts) <= 1 and None not in names.flat
    if names.shape != (count,) or not ordered or len(np.unique(names)) != count:
        raise ValueError(f"classes={shown(classes)} must be {plural(count, 'different label')}")
    if several and not np.array_equal(names, np.arange(count)):
        raise ValueError("classes: with several labels a row scikit-learn numbers them 0, 1, ...")
    if not np.array_equal(names, np.sort(names)):
        raise ValueError(
            f"classes={shown(classes)} must be sorted, as scikit-learn sorts them; reorder the "
            "last layer's columns likewise"
        )
    estimator = MLPClassifier(hidden_layer_sizes=_widths(layers), activation=hidden)
    estimator._label_binarizer = LabelBinarizer().fit(
        np.eye(count, dtype=int) if several else names
    )
    estimator.classes_ = estimator._label_binarizer.classes_
    return _finish(estimator, layers, out)


def _finish(estimator: Any, layers: list[Linear], out: str) -> Any:
    """The attributes of a fitted estimator; those of training as before its first step."""
    fitted = {
        "coefs_": [layer.W for layer in layers],
        "intercepts_": [layer.b for layer in layers],
        "out_activation_": out,
        "n_features_in_": layers[0].W.shape[0],
        "n_layers_": len(layers) + 1,
        "n_outputs_": layers[-1].W.shape[1],
        "n_iter_": 0,
        "t_": 0,
        "loss_": np.inf,
        "best_loss_": np.inf,
        "loss_curve_": [],
        "validation_scores_": None,
        "best_validation_score_": None,
        "_no_improvement_count": 0,
    }
    for name, value in fitted.items():
        setattr(estimator, name, value)
    return estimator


# --- in ------------------------------------------------------------------------------------------


def read(cls: Any, estimator: Any, seed: int) -> Any:
    """`Network.from_sklearn`. fastbp's own estimators have a network, which says more."""
    for name in ("coefs_", "intercepts_", "activation", "out_activation_"):
        if not hasattr(estimator, name):
            raise TypeError(
                f"estimator={shown(estimator)} has no {name}: give a fitted MLPClassifier or "
                "MLPRegressor (of a Pipeline, its last step)"
            )
    if hasattr(estimator, "_ready") and type(estimator).__module__.startswith("fastbp."):
        own = copy.deepcopy(estimator._ready())
        own.seed = seed
        return own
    for name in (estimator.activation, estimator.out_activation_):
        if name not in OURS:
            raise ValueError(
                f"estimator has the activation {name!r}, which a network has not; it has "
                f"{', '.join(OURS)}"
            )
    coefs, out = estimator.coefs_, estimator.out_activation_
    names = [OURS[estimator.activation]] * (len(coefs) - 1) + [OURS[out]]
    layers = [Dense(W.shape[1], name) for W, name in zip(coefs, names, strict=True)]
    dtype = "float32" if all(W.dtype == np.float32 for W in coefs) else "float64"
    net = cls(coefs[0].shape[0], layers, loss=LOSS_OF[out], dtype=dtype, seed=seed)
    for layer, W, b in zip(net.layers, coefs, estimator.intercepts_, strict=True):
        layer.W, layer.b = W, b
    return net
