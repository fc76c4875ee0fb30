"""The network that an estimator holds: `coefs_` and `intercepts_` as views of it, its outputs."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from ..engine import Array
from ..kernels.checks import writable_type
from ..network import Network
from ..sparse import check_given, is_sparse
from .architecture import build, coefficients, dtype_of, units_of
from .inputs import as_samples, outputs


class HoldsNetwork(BaseEstimator):
    """An estimator with a network, views of it that may be replaced, pickles, outputs for X."""

    coefs_: list[Array]
    intercepts_: list[Array]
    n_threads: int | None
    _network: Network
    _bound: list[Array]

    def _adopt(self, net: Network) -> None:
        """Take `net` for the estimator's: `coefs_` and `intercepts_` are views of its numbers."""
        self._network = net
        self.coefs_, self.intercepts_ = coefficients(net)
        self._bound = [*self.coefs_, *self.intercepts_]

    def _ready(self) -> Network:
        """The network with the numbers of `coefs_` and `intercepts_`, whoever put them there."""
        net: Network | None = self.__dict__.get("_network")
        present = [*self.coefs_, *self.intercepts_]
        if net is not None and _same(present, self._bound):
            return net
        shapes, dtype = [np.shape(a) for a in present], dtype_of(self.coefs_)
        if net is None or shapes != [b.shape for b in self._bound] or dtype != net.dtype:
            net = build(self, units_of(self.coefs_), dtype)
        coefs, intercepts = coefficients(net)
        for view, value in zip([*coefs, *intercepts], present, strict=True):
            view[...] = value
        return net

    def __getstate__(self) -> dict[str, Any]:
        """The views are left out: unpickled, they would be copies of the network's numbers."""
        state = dict(super().__getstate__())
        bound = state.pop("_bound", None)
        if bound is not None and _same([*self.coefs_, *self.intercepts_], bound):
            del state["coefs_"], state["intercepts_"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        net = self.__dict__.get("_network")
        if net is not None:
            coefs, intercepts = coefficients(net)
            self._bound = [*coefs, *intercepts]
            self.__dict__.setdefault("coefs_", coefs)
            self.__dict__.setdefault("intercepts_", intercepts)

    def _outputs(self, X: Any) -> Array:
        """What the last layer gives for X.

        A float array of the right width, C-contiguous, goes straight to the compiled loop, which
        also looks for NaN and inf; all else, and what has any, goes through scikit-learn's door.
        """
        known = self.__dict__
        if (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.dtype.kind == "f"
            and "coefs_" in known
            and X.shape[1] == known.get("n_features_in_")
            and X.shape[0] > 0
            and X.flags.c_contiguous
            and "feature_names_in_" not in known
        ):
            net = self._ready()
            check_width(X.shape[1], net)
            matrix = X if X.dtype == net.dtype and X.flags.carray else _matrix(X, net.dtype)
            out, finite = outputs(net, matrix, self.n_threads)
            if finite:
                return out.astype(np.result_type(X.dtype, out.dtype), copy=False)
        check_is_fitted(self)
        if is_sparse(X):
            check_given(X, "X")
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        net = self._ready()
        check_width(X.shape[1], net)
        out, _ = outputs(net, as_samples(X, net.dtype), self.n_threads)
        return out.astype(np.result_type(X.dtype, out.dtype), copy=False)


def check_width(features: int, net: Network) -> None:
    """X must be as wide as the network: `n_features_in_` is that of a fit that failed since, too.

    Raises:
        ValueError: it is not.
    """
    if features != net.inputs:
        raise ValueError(
            f"X has {features} features, and the network has {net.inputs} inputs; fit anew (a fit "
            "that failed has left the network of the one before, or coefs_ were replaced)"
        )


def _same(present: list[Any], bound: list[Any]) -> bool:
    """The very same arrays."""
    return len(present) == len(bound) and all(map(operator.is_, present, bound))


def _matrix(X: Array, dtype: np.dtype[Any]) -> Array:
    """X in the network's dtype, under a type that the compiled loop knows."""
    return writable_type(np.ascontiguousarray(X, dtype))
