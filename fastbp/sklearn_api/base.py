"""What the two estimators share: scikit-learn's `fit`, around a `Network` and the compiled loop."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight

from ..canonical import as_floats
from ..engine import Array
from ..network import Network
from ..samples import Data
from .architecture import build, draw, hidden_sizes
from .constraints import EXTRAS, SCIKIT_LEARNS, STOCHASTIC, check_solver_and_extras
from .hooks import CallbackSupportMixin, Hooks, with_callbacks
from .inputs import as_samples
from .lbfgs import fit_lbfgs
from .stochastic import fit_stochastic
from .views import HoldsNetwork, check_width

_OF_THE_NETWORK = (
    "activation", "activations", "dropout", "batch_norm", "objective", "dtype", "device",
    "precision",
)  # fmt: skip
"""Parameters that `build` reads."""
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need"
    " to be preprocessed."
)


class BaseMLP(CallbackSupportMixin, HoldsNetwork):
    """Base of the estimators. They differ in their targets, their outputs and their score."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {**SCIKIT_LEARNS, **EXTRAS}

    # --- what a subclass says of itself ----------------------------------------------------------

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        """X and y of a fit; what y is, is kept."""
        raise NotImplementedError

    def _samples(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """X and y, to train on or held out, as scikit-learn's door leaves them."""
        raise NotImplementedError

    def _encode(self, y: Any, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """Labels and targets, one of them empty."""
        raise NotImplementedError

    def _output_activation(self) -> str:
        raise NotImplementedError

    def _loss_name(self) -> str:
        raise NotImplementedError

    def _loss_bounds(self, dtype: np.dtype[Any]) -> tuple[float, float]:
        """What the terms of the reported loss are held between."""
        return 0.0, np.inf

    def _loss_shares(self, net: Network) -> int:
        """What a sample's loss is divided by when it is reported."""
        return 1

    def _stratify(self, data: Data) -> Any:
        """What the held-out part is drawn in proportion to."""
        return None

    def _weighted(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        """The samples' weights, those of their classes included."""
        return sample_weight

    def _held_weights(self, y: Any, held: Any) -> Any:
        """Weights of held-out samples, by their classes and those of y."""
        return None

    def _check_held(self, y: Any) -> None:
        """Refuse held-out targets that no score can be had of."""

    def _held_out_score(self, net: Network, held: Data) -> float:
        raise NotImplementedError

    # --- fit -------------------------------------------------------------------------------------

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Fit the network to X and y.

        Args:
            X: (n, features) array-like, or sparse (CSR is not copied).
            y: (n,) or (n, outputs): class labels, or numbers.
            sample_weight: (n,); None: ones.
            X_val, y_val: held-out data for early stopping and the validation curve, in place of
                the `validation_fraction` of X.

        Returns:
            The estimator.
        """
        return self._fit(X, y, sample_weight, incremental=False, held_out=(X_val, y_val))

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        incremental: bool,
        held_out: tuple[Any, Any] = (None, None),
    ) -> Self:
        sizes = hidden_sizes(self.hidden_layer_sizes)
        check_solver_and_extras(self)
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._validate_input(X, y, incremental, reset=first_pass)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        sample_weight = self._weighted(y, sample_weight, incremental)
        if sample_weight is not None and (sample_weight < 0).any():
            raise ValueError("a sample's weight is negative; sample_weight must be 0 or more")
        known = None if first_pass else self._as_set(self._ready())
        if known is not None:
            check_width(X.shape[1], known)
        dtype = self._network_dtype(X) if known is None else known.dtype
        data = self._data(X, y, sample_weight, dtype)
        held = self._held_out(held_out, y, dtype)
        units = [X.shape[1], *sizes, data.targets.shape[1]]
        _check_units(units, known, held)
        self.n_outputs_ = units[-1]
        self._random_state = check_random_state(self.random_state)
        net = self._initialize(units, dtype) if known is None else known
        if net.seed == 0 and (np.any(self.dropout) or self.perturbation):
            # Only then: other draws stay where scikit-learn's are.
            net.seed = int(self._random_state.randint(2**31 - 1))
        self._adopt(net)
        self._built_by = self._settings()
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        given = {"X": X, "y": y, "metadata": metadata}
        # partial_fit is no fit of its own to scikit-learn's callbacks.
        tasks = 0 if incremental else self.max_iter + 1
        hooks = Hooks(self, net, given, tasks, anew=first_pass)
        if self.solver in STOCHASTIC:
            fit_stochastic(self, net, data, held, incremental, hooks)
        else:
            fit_lbfgs(self, net, data, hooks)
        hooks.finish()
        if not np.isfinite(net.parameters).all():
            raise ValueError(NOT_FINITE)
        return self

    def _settings(self) -> str:
        """What the network was built by."""
        return repr([getattr(self, name) for name in _OF_THE_NETWORK])

    def _as_set(self, net: Network) -> Network:
        """The network with what the parameters ask for now; its numbers stay.

        Raises:
            ValueError: it would have other parameters.
        """
        dtype = self._network_dtype(net)
        as_built = {None, self._settings()}  # None: put together by hand
        if self.__dict__.get("_built_by") in as_built and dtype == net.dtype:
            return net
        new = build(self, [net.inputs, *(layer.units for layer in net.layers)], dtype, net.seed)
        numbers, old = new.tensors(), net.tensors()
        if {n: view.shape for n, view in numbers.items()} != {n: v.shape for n, v in old.items()}:
            raise ValueError(
                f"batch_norm={self.batch_norm!r} gives the network that is trained further other "
                "parameters; give it as before, or warm_start=False"
            )
        for name, view in numbers.items():
            view[...] = old[name]
        return new

    def _data(self, X: Any, y: Any, sample_weight: Any, dtype: np.dtype[Any]) -> Data:
        """Validated samples, targets and weights as the engine takes them."""
        labels, targets = self._encode(y, dtype)
        weights = np.empty(0, dtype)
        if sample_weight is not None:
            weights = as_floats(np.asarray(sample_weight), dtype, "sample_weight")
            if weights.max(initial=0) < np.finfo(dtype).tiny:  # denormals count as 0
                raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        matrix = as_samples(X, dtype)
        return Data(matrix, labels, targets, weights, np.arange(len(matrix)), screen=False)

    def _network_dtype(self, given: Any) -> np.dtype[Any]:
        """That of X or of a network trained further; or what `dtype` asks for.

        float64 under lbfgs, whose line search needs it.
        """
        if self.dtype is not None:
            return np.dtype(self.dtype)
        return np.dtype(np.float64) if self.solver == "lbfgs" else np.dtype(given.dtype)

    def _held_out(
        self, given: tuple[Any, Any], trained_on: Any, dtype: np.dtype[Any]
    ) -> Data | None:
        """The held-out X and y that the caller gave; `trained_on` are the other targets."""
        X, y = given
        if self.validation_curve and X is None and not self.early_stopping:
            raise ValueError(
                "validation_curve=True needs held-out data; give early_stopping=True, or "
                "fit(..., X_val=..., y_val=...)"
            )
        if X is None and y is None:
            return None
        if X is None or y is None:
            raise ValueError("X_val and y_val go together; give both or neither")
        if self.solver not in STOCHASTIC:
            raise ValueError(
                f"X_val and y_val are of no use to solver={self.solver!r}, which never stops early"
            )
        if not (self.early_stopping or self.validation_curve):
            raise ValueError(
                "X_val and y_val are used by early_stopping=True and validation_curve=True; both "
                "are off"
            )
        X, y = self._samples(X, y, reset=False)
        self._check_held(y)
        return self._data(X, y, self._held_weights(trained_on, y), dtype)

    def _initialize(self, units: list[int], dtype: np.dtype[Any]) -> Network:
        """A new network with drawn numbers, and counters at 0."""
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(units)
        self.out_activation_ = self._output_activation()
        net = build(self, units, dtype)
        draw(net, self.activation, self._random_state)
        if self.solver in STOCHASTIC:
            self._begin_record()
        return net

    def _begin_record(self) -> None:
        """Nothing has been seen yet."""
        stopping = self.early_stopping
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        self.validation_scores_: list[float] | None = [] if stopping else None
        self.best_validation_score_ = -np.inf if stopping else None
        self.best_loss_ = None if stopping else np.inf
        if self.validation_curve:
            self.validation_loss_curve_: list[float] = []

    def _check_solver(self) -> bool:
        if self.solver not in STOCHASTIC:
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _check_units(units: list[int], known: Network | None, held: Data | None) -> None:
    """A network that is trained further keeps its layers; held-out targets are as wide as y."""
    _, *hidden, outputs = units
    if known is not None:
        *own, last = (layer.units for layer in known.layers)
        if last != outputs:
            raise ValueError(
                f"y has {outputs} outputs, and the network that is trained further has {last}; "
                "give y as before, or warm_start=False"
            )
        if own != hidden:
            raise ValueError(
                f"hidden_layer_sizes={tuple(hidden)}, and the network that is trained further has "
                f"{tuple(own)}; give them as before, or warm_start=False"
            )
    if held is not None and held.targets.shape[1] != outputs:
        raise ValueError(f"y_val has {held.targets.shape[1]} outputs, and y has {outputs}")


def store(given: dict[str, Any]) -> None:
    """Keep the arguments of an `__init__`, given as its `locals()`, under their names."""
    estimator = given["self"]
    for name, value in given.items():
        if name not in {"self", "__class__"}:
            setattr(estimator, name, value)
