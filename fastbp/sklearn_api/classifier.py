"""`MLPClassifier`: scikit-learn's, on the compiled loop."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import check_is_fitted

from ..engine import Array
from ..losses import loss_named
from ..network import Network
from ..samples import Data
from ..sparse import is_sparse
from .base import BaseMLP, store
from .inputs import outputs, validated


class MLPClassifier(ClassifierMixin, BaseMLP):
    """A multilayer perceptron that classifies: scikit-learn's `MLPClassifier`, compiled.

    All of scikit-learn 1.9's parameters, attributes, methods and conventions; with the same
    `random_state` and float64 data it follows scikit-learn's weights to rounding. The parameters
    from `class_weight` on are fastbp's own and off by default.

    Args:
        hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate,
            learning_rate_init, power_t, max_iter, shuffle, random_state, tol, verbose, warm_start,
            momentum, nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2,
            epsilon, n_iter_no_change, max_fun: as scikit-learn's.
        class_weight: {class: weight} or "balanced"; multiplies `sample_weight`.
        activations: of the hidden layers, one name of fastbp's for all or one a layer.
        objective: a loss of fastbp in place of the log loss.
        optimizer: an optimizer of fastbp or its name, with its rate or schedule, in place of
            `solver`, `learning_rate`, `learning_rate_init`, `momentum`, `beta_1`, ...
        dropout: probability of dropping a hidden unit, one or one a layer.
        batch_norm: batch norm of the hidden layers (True, "before", "after", a `BatchNorm`), one
            or one a layer. `intercepts_` then holds beta where it takes the bias's place.
        perturbation: standard deviation of the noise added to inputs each time they are seen.
        clip_norm: largest norm of the loss's gradient (penalty apart); None: unbounded.
        decoupled_decay: lam in w <- w - rate lam w before each update (weights only), as AdamW.
        validation_curve: record `validation_loss_curve_`, the loss on the held-out data.
        callbacks: functions of a `fastbp.State`, called after each epoch; true stops.
            scikit-learn's callbacks are set by `set_callbacks`.
        dtype: "float32" or "float64"; None: X's, and float64 under lbfgs.
        n_threads: None: as many as pay. The weights do not depend on it.
        device: "cpu", or "cuda" for an NVIDIA card.
        precision: "bfloat16" rounds the operands of products to bfloat16, as for `Network`; it goes
            with float32 and a processor that has the instruction. None: products in `dtype`.
        progress: show a progress bar (lbfgs has none).

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(hidden_layer_sizes=20, solver="lbfgs", random_state=1)
    >>> bool(model.fit(X, y).score(X, y) > 0.95)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        class_weight: Any = None,
        activations: Any = None,
        objective: str | None = None,
        optimizer: Any = None,
        dropout: Any = 0.0,
        batch_norm: Any = False,
        perturbation: float = 0.0,
        clip_norm: float | None = None,
        decoupled_decay: float = 0.0,
        validation_curve: bool = False,
        callbacks: Any = None,
        dtype: str | None = None,
        n_threads: int | None = None,
        device: str = "cpu",
        precision: str | None = None,
        progress: bool = False,
    ) -> None:
        store(locals())

    @property
    def loss(self) -> str:
        """scikit-learn's name of the loss, an attribute there."""
        return "log_loss"

    # --- targets ---------------------------------------------------------------------------------

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        X, y = self._samples(X, y, reset)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(unique_labels(y))
        return X, y

    def _samples(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        X, y = validated(self, X, y, reset=reset)
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _check_classes(self, classes: Any) -> None:
        """Those of a further call are among the known ones; with warm_start, all of them."""
        if self.warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous "
                    f"call to fit. Previously got {self.classes_}, `y` has {classes}"
                )
        else:
            self._check_known(classes)

    def _check_held(self, y: Any) -> None:
        self._check_known(y)

    def _check_known(self, y: Any) -> None:
        classes = unique_labels(y)
        if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    @property
    def _kind(self) -> str:
        """What y is: "binary", "multiclass" or "multilabel-indicator"."""
        kind: str = self._label_binarizer.y_type_
        return kind

    def _encode(self, y: Any, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        none = np.empty(0, np.int64)
        if y.ndim != 1 or self._kind.startswith("multilabel"):
            indicators = self._label_binarizer.transform(y)
            if hasattr(indicators, "toarray"):
                indicators = indicators.toarray()
            return none, np.ascontiguousarray(indicators != 0, dtype)
        if self._kind == "multiclass":
            labels = np.searchsorted(self.classes_, y).astype(np.int64)
            return labels, np.empty((0, len(self.classes_)), dtype)
        positive = len(self.classes_) > 1 and y == self.classes_[-1]
        return none, np.ascontiguousarray(np.broadcast_to(positive, len(y))[:, None], dtype)

    def _output_activation(self) -> str:
        return "softmax" if self._kind == "multiclass" else "logistic"

    def _loss_name(self) -> str:
        softmax = self.out_activation_ == "softmax"
        if self.objective is None:
            return "cross_entropy" if softmax else "binary_cross_entropy"
        name = loss_named("objective", self.objective)
        if name == "cross_entropy" and not softmax:
            raise ValueError(
                f"objective={self.objective!r} is for three classes or more, whose outputs sum to "
                "1; two classes and several labels have an output each, which it would drive to "
                "1: give objective='binary_cross_entropy', or None"
            )
        return name

    def _loss_bounds(self, dtype: np.dtype[Any]) -> tuple[float, float]:
        """scikit-learn clips probabilities to [eps, 1 - eps] in the loss it reports."""
        eps = float(np.finfo(dtype).eps)
        return -np.log1p(-eps), -np.log(eps)

    def _stratify(self, data: Data) -> Any:
        """By class with two classes, as scikit-learn does; with more it does not."""
        return data.targets.astype(bool) if self.n_outputs_ == 1 else None

    def _weighted(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not known from a part of the data; for partial_fit "
                "give {class: weight}, as compute_class_weight finds it in all of y"
            )
        if incremental and y.ndim == 1:  # classes that this part lacks are known
            given = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
            by_class = given[np.searchsorted(self.classes_, y)]
        else:
            by_class = compute_sample_weight(self.class_weight, y)
        return by_class if sample_weight is None else by_class * sample_weight

    def _held_weights(self, y: Any, held: Any) -> Any:
        if self.class_weight is None:
            return None
        if self.class_weight != "balanced":
            return compute_sample_weight(self.class_weight, held)
        y, held = (part.toarray() if is_sparse(part) else part for part in (y, held))
        both = np.concatenate([y, held])  # the weights of classes are those of y alone
        return compute_sample_weight("balanced", both, indices=np.arange(len(y)))[len(y) :]

    def _held_out_score(self, net: Network, held: Data) -> float:
        out, _ = outputs(net, held.X, self.n_threads)
        if held.labels.size:
            right = out.argmax(axis=1) == held.labels
        elif len(self.classes_) == 1:  # `predict` has no other answer
            right = np.ones(len(out))
        else:
            right = ((out > 0.5) == (held.targets > 0.5)).all(axis=1)
        weights = held.weights_or_none
        if weights is not None and not weights.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return float(np.average(right, weights=weights))

    # --- doors -----------------------------------------------------------------------------------

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """One epoch over X and y, from where the last call stopped.

        Args:
            X: (n, features) array-like or sparse.
            y: (n,) labels or (n, labels) indicators.
            sample_weight: (n,); None: ones.
            classes: all classes there will be; needed in the first call.

        Returns:
            The estimator.
        """
        if _check_partial_fit_first_call(self, classes):
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Any:
        """Predicted classes: (n,), or (n, labels) indicators.

        Args:
            X: (n, features) array-like or sparse.
        """
        if "coefs_" not in self.__dict__:
            check_is_fitted(self)
        out = self._outputs(X)
        if self._kind == "multiclass":
            return self.classes_.take(out.argmax(axis=1))
        if self._kind == "binary" and len(self.classes_) == 2:
            return self.classes_.take(out[:, 0] > 0.5)
        return self._label_binarizer.inverse_transform(out.ravel() if self.n_outputs_ == 1 else out)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes (n, classes), in the order of `classes_`.

        Args:
            X: (n, features) array-like or sparse.
        """
        if "coefs_" not in self.__dict__:
            check_is_fitted(self)
        out = self._outputs(X)
        return np.hstack([1 - out, out]) if self.n_outputs_ == 1 else out

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of `predict_proba`.

        Args:
            X: (n, features) array-like or sparse.
        """
        probabilities = self.predict_proba(X)
        return np.log(probabilities, out=probabilities)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
