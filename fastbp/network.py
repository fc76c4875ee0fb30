"""`Network`: a multilayer perceptron as one flat vector of parameters and a table of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .architecture import no_memory
from .bridges import Bridges
from .errors import check_flag, check_seed
from .kernels.cpu import slots
from .kernels.tables import LOSSES
from .layers import Dense
from .metrics import compute
from .passes import Passes
from .placement import Placement
from .samples import NO_TARGETS, Data

if TYPE_CHECKING:
    from .summary import Summary
    from .trace import Trace


class Network(Passes, Placement, Bridges):
    """A multilayer perceptron.

    Args:
        inputs: features of a sample, m^1.
        layers: `Dense` descriptions, first to last.
        loss: name of the per-sample loss (`nll` and `nllm` are aliases); None: cross_entropy after
            softmax, binary_cross_entropy after sigmoid, squared_error otherwise (and where batch
            norm stands behind the last activation).
        dtype: "float32" or "float64", of parameters and arithmetic.
        seed: of initial weights, and of dropout, noise and shuffles in training.
        reduction: "mean" of the losses of a batch, or their "sum" (the notes' batch descent).
        device: "cpu", or "cuda" for an NVIDIA card; `to` moves it later.
        precision: None: products in `dtype`; "bfloat16": their operands are rounded to bfloat16
            and added up in float32, with AMX or AVX512_BF16. Parameters, gradients, statistics
            and all else stay float32. On device="cpu" alone.

    Raises:
        ValueError, TypeError: an argument is out of range or unknown, or the range of the last
            activation leaves the domain of the loss.
        RuntimeError: precision="bfloat16" where the processor has no such instruction;
            device="cuda" without a card or its driver.
        ImportError: device="cuda" without the extra.
        MemoryError: there is no room for the parameters.

    >>> net = Network(4, [Dense(8, "relu"), Dense(3, "softmax")], loss="cross_entropy")
    >>> net.forward(np.zeros((2, 4))).shape
    (2, 3)
    """

    def __init__(
        self,
        inputs: int,
        layers: Sequence[Dense],
        *,
        loss: str | None = None,
        dtype: DTypeLike = "float32",
        seed: int = 0,
        reduction: str = "mean",
        device: str = "cpu",
        precision: str | None = None,
    ) -> None:
        self._describe(
            inputs, layers, loss=loss, dtype=dtype, seed=seed, reduction=reduction, device=device,
            precision=precision,
        )  # fmt: skip
        try:
            self.initialize(self.seed)
        except MemoryError:
            raise no_memory(self._parameters.size, self.dtype) from None

    # --- the forward pass and what is measured on it ------------------------------------------

    def forward(
        self, X: ArrayLike, *, training: bool = False, seed: int | None = None
    ) -> NDArray[Any]:
        """Outputs A^L, shape (n, outputs).

        Args:
            X: (n, inputs), dense or (on the CPU) a sparse matrix.
            training: batch statistics and dropout as in training, over X as one batch.
            seed: of the dropout masks; None: the network's.

        Raises:
            ValueError, TypeError: bad X, training or seed.

        >>> Network(2, [Dense(1)], seed=1).forward([[0.0, 0.0]])
        array([[0.]], dtype=float32)
        """
        if training is False and seed is None:
            return self._infer(X, logits=False)
        if seed is not None:
            check_seed(seed)
        if not check_flag("training", training):
            return self._infer(X, logits=False)
        batch = self._batch(X, NO_TARGETS, None, training)
        rows = len(batch.order)
        with self._borrow(rows) as work:
            self._call(work, slots.LOSS, batch, self._room(0), True, seed)
            return work.outputs(rows)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Class labels (n,), or the outputs of a regression: (n, k), or (n,) for one output.

        A classifier is a network with a log loss: softmax and other networks with several outputs
        under cross_entropy give the likeliest class; sigmoid under binary_cross_entropy gives 0 or
        1 (several outputs: (n, k), one decision each).

        Args:
            X: (n, inputs).

        Returns:
            int64 classes, or outputs of the network's dtype.

        Raises:
            ValueError, TypeError: bad X; or a classifier's outputs for a row are NaN.

        >>> Network(2, [Dense(3, "softmax")], seed=1).predict([[0.0, 0.0]])
        array([0])
        """
        outputs = self.forward(X)
        classes = LOSSES[self.loss_name].classes
        if classes and np.isnan(outputs).any():
            row = int(np.isnan(outputs).any(axis=1).argmax())
            raise ValueError(
                f"the outputs for X[{row}] are NaN, and no class: inputs or weights are so large "
                f"that {self.dtype.name} overflows; scale the inputs, or use dtype='float64'."
            )
        if classes == "one" and outputs.shape[1] > 1:
            return outputs.argmax(axis=1)
        if classes == "each":
            outputs = (outputs > 0.5).astype(np.int64)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        metrics: Sequence[str] | Mapping[str, Any] | str = (),
        *,
        sample_weight: ArrayLike | None = None,
    ) -> dict[str, float]:
        """The loss and the metrics asked for, by name, without dropout, by running statistics.

        Args:
            X: (n, inputs).
            y: labels (n,) or targets (n, outputs).
            metrics: names of `fastbp.metrics.METRICS`, functions f(y, outputs), or a dict of them.
            sample_weight: (n,); metrics that are functions do not get them.

        Returns:
            {"loss": ..., metric: ...}; the loss as `loss` gives it: the mean over the samples, or
            their sum with reduction="sum".

        Raises:
            ValueError, TypeError: bad data, or an unknown metric.

        >>> Network(2, [Dense(1)], seed=1).evaluate([[0.0, 0.0]], [2.0], "mean_absolute_error")
        {'loss': 4.0, 'mean_absolute_error': 2.0}
        """
        data = Data.canonical(self, X, y, sample_weight)
        values = {"loss": self._loss(data.whole(), None)}
        if metrics:
            outputs, weights = data.outputs(self), data.weights_or_none
            values |= compute(metrics, data.truth, outputs, weights, self.loss_name)
        return values

    def loss(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        training: bool = False,
        seed: int | None = None,
    ) -> float:
        """The data term of the objective over X as one batch: no weight decay.

        Args:
            X: (n, inputs), dense or (on the CPU) a sparse matrix.
            y: labels (n,) or targets (n, outputs).
            sample_weight: (n,); the mean is normalised by its sum.
            training: batch statistics and dropout as in training.
            seed: of the dropout masks; None: the network's.

        Returns:
            The mean of the samples' losses, or their sum with reduction="sum".

        Raises:
            ValueError, TypeError: bad data.

        >>> net = Network(2, [Dense(1)], dtype="float64")
        >>> net.parameters = [1.0, 1.0, 0.0]  # W, then b
        >>> net.loss([[1.0, 2.0]], [1.0])
        4.0
        """
        batch = self._batch(X, y, sample_weight, training)
        return self._loss(batch, seed, training)

    def gradients(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        training: bool = True,
        seed: int | None = None,
    ) -> NDArray[Any]:
        """Gradient of `loss(X, y, training=training, seed=seed)`; the network is not changed.

        Args:
            X, y, sample_weight, seed: as for `loss`.
            training: as for `loss`, but True unless told otherwise: what a step of training takes.

        Returns:
            (P,) of the network's dtype, laid out as `parameters`. Each element is one sum over the
            samples: of a million in one batch, float32 keeps four digits; use float64.

        Raises:
            ValueError, TypeError: bad data.

        Source: notes 004, Notation 16 and 17, and section 6.6.2.

        >>> net = Network(2, [Dense(1)], dtype="float64")
        >>> net.parameters = [1.0, 1.0, 0.0]
        >>> net.gradients([[1.0, 2.0]], [1.0]).tolist()  # 2 (a - y) times x, and 1
        [4.0, 8.0, 4.0]
        """
        batch = self._batch(X, y, sample_weight, training)
        gradient = self._room()
        with self._borrow(len(batch.order)) as work:
            self._call(work, slots.GRADIENT, batch, gradient, training, seed)
        return gradient

    def trace(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        training: bool = False,
        seed: int | None = None,
    ) -> Trace:
        """Every quantity of the notes by name and layer, of X as one batch: `fastbp.trace.trace`.

        Args:
            X, y, training, seed: as for `loss`, X not sparse.

        Returns:
            A dict of lists, an array a layer: "Z", "A", "dL/dZ", "dL/dW", ...

        Raises:
            ValueError, TypeError: bad data.

        >>> net = Network(2, [Dense(1)], dtype="float64")
        >>> net.parameters = [1.0, 1.0, 0.0]
        >>> net.trace([[1.0, 2.0]], [1.0])["dL/dW"][0].tolist()
        [[4.0], [8.0]]
        """
        from .trace import trace

        return trace(self, X, y, training=training, seed=seed)

    # --- description ---------------------------------------------------------------------------

    def summary(self) -> Summary:
        """A table of layers, shapes and parameters, for terminals and notebooks.

        >>> net = Network(4, [Dense(3, "softmax")])
        >>> net.summary().total
        '15 parameters, 60 bytes'
        """
        from .summary import summarize

        return summarize(self)

    def __repr__(self) -> str:
        widths = "-".join(str(w) for w in (self.inputs, *(s.units for s in self._specs)))
        return (
            f"Network({widths}, {', '.join(s.activation for s in self._specs)}, "
            f"loss={self.loss_name!r}, {self.dtype.name}, {self._parameters.size:,} parameters)"
        )
