"""Weights in and out: one file for each library a network can go to or come from.

The libraries are extras and are imported by the method that needs them. What a library cannot
express is an error that says so; nothing is approximated and nothing is dropped in silence.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from ..errors import check_flag
from ..extras import require

if TYPE_CHECKING:
    from ..layers import Dense


class Bridges:
    """The methods of a `Network` by which it leaves and enters."""

    def to_torch(self, *, logits: bool = False) -> Any:
        """The network as a `torch.nn.Sequential` with copies of its numbers.

        Linear, BatchNorm1d, the activation and Dropout, layer by layer; a linear layer before its
        batch norm has no bias. It is in evaluation mode, where it computes `net.forward`; after
        `.train()` it trains as the network does.

        Args:
            logits: leave off the last activation, as `torch.nn.CrossEntropyLoss` and
                `BCEWithLogitsLoss` want it; only where the last layer has neither batch norm
                after it nor dropout.

        Returns:
            A module of the network's dtype, on the CPU.

        Raises:
            ImportError: PyTorch is not installed (extra `torch`).
            ValueError: logits are asked for where the last activation is not the last thing.
            TypeError: logits is not a bool.

        Example (needs PyTorch):
            module = net.to_torch()
            torch.save(module.state_dict(), "net.pt")
        """
        check_flag("logits", logits)
        require("torch", "torch", "net.to_torch")
        from .to_pytorch import export

        return export(self, logits)  # type: ignore[arg-type]

    @classmethod
    def from_torch(
        cls,
        source: Any,
        layers: Sequence[Dense | str] | None = None,
        *,
        output: str | None = None,
        loss: str | None = None,
        dtype: Any = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> Self:
        """A network with the numbers of a PyTorch module or state dict.

        Args:
            source: an `nn.Sequential` of Linear, BatchNorm1d, activations and Dropout (nested
                ones, Identity and a Flatten at the front are fine), or the state dict of any
                module that applies its Linear and BatchNorm1d in the order of the dict. One that
                a file hands out by the alphabet (safetensors) is put in the order of the numbers
                in its names. What `affine=False` leaves out is gamma = 1 and beta = 0, which
                training may change.
            layers: for a state dict, which has no activations: a `Dense` for each Linear, or the
                name of its activation alone. Where batch norm stands comes from the `Dense`; with
                a name alone it is taken to be before the activation.
            output: activation to put behind a module that ends in logits, such as "softmax" after
                training with `CrossEntropyLoss`.
            loss: name of the loss; None as for `Network`.
            dtype: None: float64 where the weights are float64, else float32.
            seed, reduction: as for `Network`.

        Raises:
            ImportError: PyTorch is not installed (extra `torch`).
            TypeError: neither an `nn.Sequential` nor a state dict, or a state dict without layers.
            ValueError: a module, an order or a setting that a network does not have; the message
                names it. Or a state dict in alphabetical order, whose layers fit together in
                several.

        Example (needs PyTorch):
            net = fastbp.Network.from_torch(module, output="softmax")
            net = fastbp.Network.from_torch(torch.load("net.pt"), ["relu", "softmax"])
        """
        require("torch", "torch", "Network.from_torch")
        from .from_pytorch import read

        return read(cls, source, layers, output, loss=loss, dtype=dtype, seed=seed,
                    reduction=reduction)  # fmt: skip

    def to_sklearn(self, classes: Sequence[Any] | None = None) -> Any:
        """The network as a fitted scikit-learn `MLPClassifier` or `MLPRegressor`.

        A log loss makes it a classifier. Batch norm is folded into the weights and dropout left
        out, neither of which changes a prediction; softmax over two classes becomes the one
        logistic output that scikit-learn has for them. `predict`, `predict_proba` and `score` work,
        and `partial_fit` trains on from the weights, with scikit-learn's defaults.

        Args:
            classes: labels of the classes, in order; None: 0, 1, ...

        Raises:
            ImportError: scikit-learn is not installed (extra `sklearn`).
            ValueError: what scikit-learn has no word for: hidden layers that differ in their
                activation or have another than identity, sigmoid, tanh, relu; other last layers
                than softmax or sigmoid with its log loss, exp with poisson, or identity with a
                squared error; batch norm at the very end. Or `classes` are not so many different
                labels in order.

        >>> model = Network(4, [Dense(8, "relu"), Dense(3, "softmax")]).to_sklearn(["a", "b", "c"])
        >>> model.predict([[0.0, 0.0, 0.0, 0.0]]).shape
        (1,)
        """
        require("sklearn", "sklearn", "net.to_sklearn")
        from .scikit_learn import export

        return export(self, classes)  # type: ignore[arg-type]

    @classmethod
    def from_sklearn(cls, estimator: Any, *, seed: int = 0) -> Self:
        """A network with the numbers of a fitted scikit-learn `MLPClassifier` or `MLPRegressor`.

        `net.forward` gives `predict_proba` (the second class's column alone where there are two) or
        the outputs of the regression; `estimator.classes_[net.predict(X)]` the labels.

        Args:
            estimator: fitted; anything with `coefs_`, `intercepts_`, `activation` and
                `out_activation_` will do, and scikit-learn itself is not needed.
            seed: of what the network may draw in training.

        Raises:
            TypeError: not such an estimator, or one that is not fitted.
            ValueError: an activation that a network does not have.

        >>> from sklearn.neural_network import MLPRegressor
        >>> model = MLPRegressor(hidden_layer_sizes=5, solver="lbfgs", random_state=0)
        >>> Network.from_sklearn(model.fit([[0.0], [1.0]], [1.0, 3.0]))
        Network(1-5-1, relu, identity, loss='half_squared_error', float64, 16 parameters)
        """
        from .scikit_learn import read

        return read(cls, estimator, seed)

    def to_onnx(
        self, path: str | os.PathLike[str] | None = None, *, fold_batch_norm: bool = False
    ) -> Any:
        """The network as an ONNX model that computes `net.forward`, checked by ONNX's own checker.

        Input `X` (n, inputs) and output `outputs` (n, k), both of the network's dtype; n is free.
        Initializers are named as `net.tensors()`. Opset 17 and IR version 8, which every runtime
        since 2022 reads. Dropout does nothing at inference and is not there.

        Args:
            path: where to write it, whole or not at all; None: nowhere.
            fold_batch_norm: multiply batch norm into the weights beside it instead of keeping its
                nodes; at the very end of a network it becomes a scale and a shift.

        Returns:
            The `onnx.ModelProto`.

        Raises:
            ImportError: onnx is not installed (extra `onnx`).
            ValueError: the parameters take 2 GiB or more, which one ONNX file cannot hold.
            TypeError: fold_batch_norm is not a bool.
            OSError: the file cannot be written.

        >>> model = Network(4, [Dense(8, "relu"), Dense(3, "softmax")]).to_onnx()
        >>> [node.op_type for node in model.graph.node]
        ['Gemm', 'Relu', 'Gemm', 'Softmax']
        """
        check_flag("fold_batch_norm", fold_batch_norm)
        require("onnx", "onnx", "net.to_onnx")
        from .onnx_graph import export

        return export(self, path, fold_batch_norm)  # type: ignore[arg-type]


def register_skl2onnx(*estimators: type) -> None:
    """Teach skl2onnx fastbp's estimators, alone and within Pipelines; once in a process is enough.

    Labels, probabilities and the options `zipmap`, `nocl` and `output_class_labels` are as for
    scikit-learn's own. `target_opset` may be 13 or more, of which 17 is used at most.

    Args:
        estimators: classes like scikit-learn's MLPClassifier and MLPRegressor; by default
            `fastbp.MLPClassifier` and `fastbp.MLPRegressor`.

    Raises:
        ImportError: skl2onnx is not installed (extra `skl2onnx`).

    Example (needs skl2onnx):
        fastbp.bridges.register_skl2onnx()
        model = skl2onnx.to_onnx(pipeline, X[:1])
    """
    require("skl2onnx", "skl2onnx", "register_skl2onnx")
    from .skl2onnx_converter import register

    if not estimators:
        import fastbp

        estimators = (fastbp.MLPClassifier, fastbp.MLPRegressor)
    register(estimators)
