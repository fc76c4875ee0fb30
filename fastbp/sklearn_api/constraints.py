"""What the estimators' parameters may be: scikit-learn's constraints, then those of the extras."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Final

import numpy as np
from sklearn.neural_network import MLPRegressor
from sklearn.utils._param_validation import Interval, Options, StrOptions

from ..budget import MOST_THREADS
from ..callbacks import as_callbacks
from ..errors import shown
from ..optimizers import get_optimizer

_THEIRS: Final[dict[str, list[Any]]] = MLPRegressor._parameter_constraints

SCIKIT_LEARNS: Final[dict[str, list[Any]]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    # Theirs themselves: a message has the names in the order of that very set.
    **{name: _THEIRS[name] for name in ("activation", "solver", "learning_rate")},
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [
        Interval(Integral, 1, None, closed="left"),
        Options(Real, {np.inf}),
    ],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
}

LOSS: Final = _THEIRS.get("loss", [StrOptions({"squared_error", "poisson"})])  # since 1.7

EXTRAS: Final[dict[str, Any]] = {
    "activations": [None, str, "array-like"],
    "objective": [None, str],
    "optimizer": "no_validation",
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "batch_norm": "no_validation",
    "perturbation": [Interval(Real, 0, None, closed="left")],
    "clip_norm": [None, Interval(Real, 0, None, closed="neither")],
    "decoupled_decay": [Interval(Real, 0, None, closed="left")],
    "validation_curve": ["boolean"],
    "callbacks": "no_validation",
    "dtype": [None, StrOptions({"float32", "float64"})],
    "device": [StrOptions({"cpu", "cuda"})],
    "precision": [None, StrOptions({"bfloat16"})],
    "n_threads": [None, Interval(Integral, 1, MOST_THREADS, closed="both")],
    "progress": ["boolean"],
}
"""What takes `optimizer`, `batch_norm` and `callbacks` checks them, and says more."""

STOCHASTIC: Final = ("sgd", "adam")

NOT_WITH_LBFGS: Final = {
    "optimizer": None,
    "dropout": 0.0,
    "batch_norm": False,
    "perturbation": 0.0,
    "clip_norm": None,
    "decoupled_decay": 0.0,
    "validation_curve": False,
}
"""Extras that mean nothing to a minimiser of one fixed function, and what turns them off."""


_LARGEST: Final = int(np.finfo(np.float64).max)
_COUNTS: Final = frozenset({"batch_size", "max_iter", "max_fun", "n_iter_no_change", "verbose"})


def check_solver_and_extras(estimator: Any) -> None:
    """Refuse extras that the solver would silently ignore, and numbers that no float holds.

    Raises:
        ValueError: one of `NOT_WITH_LBFGS` is on with solver="lbfgs"; a number beyond 1.8e308.
        TypeError: `optimizer` or `callbacks` are something else.
    """
    for name, value in vars(estimator).items():
        if isinstance(value, int) and abs(value) > _LARGEST and name not in _COUNTS:
            raise ValueError(f"{name}={shown(value)} is too large; no float holds it")
    if estimator.optimizer is not None:
        get_optimizer(estimator.optimizer)
    as_callbacks(estimator.callbacks)
    if estimator.solver != "lbfgs":
        return
    for name, off in NOT_WITH_LBFGS.items():
        value = getattr(estimator, name)
        if value is not off and not _all_are(value, off):
            raise ValueError(
                f"{name}={value!r} has no meaning for solver='lbfgs', which minimises one fixed "
                f"function of all samples; give solver='adam' or 'sgd', or {name}={off!r}"
            )


def _all_are(value: Any, off: Any) -> bool:
    """`value`, or one a layer, is what turns it off."""
    values = value if isinstance(value, list | tuple | np.ndarray) else [value]
    return all(np.isscalar(one) and one == off for one in values)
