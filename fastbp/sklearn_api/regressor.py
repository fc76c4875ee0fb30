"""`MLPRegressor`: scikit-learn's, on the compiled loop."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_is_fitted

from ..canonical import as_floats
from ..engine import Array
from ..losses import loss_named
from ..network import Network
from ..samples import Data
from .base import BaseMLP, store
from .constraints import LOSS
from .inputs import outputs, validated

_LOSS_NAMES = {"squared_error": "half_squared_error", "poisson": "poisson"}
"""What scikit-learn's losses are called here."""


class MLPRegressor(RegressorMixin, BaseMLP):
    """A multilayer perceptron for regression: scikit-learn's `MLPRegressor`, compiled.

    All of scikit-learn 1.9's parameters, attributes, methods and conventions; with the same
    `random_state` and float64 data it follows scikit-learn's weights to rounding. The parameters
    from `activations` on are fastbp's own and off by default; they are described at
    `MLPClassifier`.

    Args:
        loss: "squared_error", or "poisson" (half the Poisson deviance after exp; y >= 0).
        hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate,
            learning_rate_init, power_t, max_iter, shuffle, random_state, tol, verbose, warm_start,
            momentum, nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2,
            epsilon, n_iter_no_change, max_fun: as scikit-learn's.
        objective: a loss of fastbp in place of `loss`, such as "absolute_error".

    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> model = MLPRegressor(hidden_layer_sizes=20, solver="lbfgs", random_state=1)
    >>> bool(model.fit(X, X.ravel() ** 2).score(X, X.ravel() ** 2) > 0.99)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": LOSS,
    }

    def __init__(
        self,
        loss: str = "squared_error",
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

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        return self._samples(X, y, reset)

    def _samples(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        X, y = validated(self, X, y, reset=reset, numeric=True)
        if y.dtype.kind in "USmM":
            what = "texts" if y.dtype.kind in "US" else "times"
            raise TypeError(f"y holds {what} ({y.dtype}), and a regression needs numbers")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _check_held(self, y: Any) -> None:
        if self.early_stopping and len(y) < 2:
            raise ValueError("X_val has 1 row, and R^2 has no value on one; give 2 or more")

    def _encode(self, y: Any, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        targets = as_floats(np.asarray(y), dtype, "y")
        return np.empty(0, np.int64), targets.reshape(len(targets), -1)

    def _output_activation(self) -> str:
        return "exp" if self._loss_name() == "poisson" else "identity"

    def _loss_name(self) -> str:
        if self.objective is not None:
            return loss_named("objective", self.objective)
        return _LOSS_NAMES[self.loss]

    def _loss_shares(self, net: Network) -> int:
        # scikit-learn reports the mean over outputs, and descends the sum.
        mean = self.objective is None and self.loss == "squared_error"
        return int(net.layers[-1].units) if mean else 1

    def _held_out_score(self, net: Network, held: Data) -> float:
        predicted, _ = outputs(net, held.X, self.n_threads)
        if not np.isfinite(predicted).all():
            return float("nan")
        return float(r2_score(held.targets, predicted, sample_weight=held.weights_or_none))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One epoch over X and y, from where the last call stopped.

        Args:
            X: (n, features) array-like or sparse.
            y: (n,) or (n, outputs) numbers.
            sample_weight: (n,); None: ones.

        Returns:
            The estimator.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """Predicted values, (n,) for one output, else (n, outputs).

        Args:
            X: (n, features) array-like or sparse.
        """
        if "coefs_" not in self.__dict__:
            check_is_fitted(self)
        out = self._outputs(X)
        return out.ravel() if out.shape[1] == 1 else out
