"""Training by "lbfgs": SciPy's minimiser over the loss and gradient of the compiled loop.

The whole set is one batch, summed up in blocks of rows, so that neither a sparse matrix nor the
activations of all samples lie in memory at once.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import scipy
from scipy.optimize import minimize
from sklearn.utils.optimize import _check_optimize_result

from ..budget import WORK_A_CALL, choose_threads
from ..engine import Array, Recipe, aligned
from ..kernels.cpu import slots
from ..network import Network
from ..samples import Data
from .hooks import Hooks

BLOCK: Final = 2048  # rows whose gradient is formed at once


class Objective:
    """The regularised loss and its gradient as a function of all parameters."""

    def __init__(self, estimator: Any, net: Network, data: Data) -> None:
        e, self.net, self.data = estimator, net, data
        rows = data.samples
        self.block = min(rows, BLOCK)
        size = net.parameters.size
        self.work = net._workspace(self.block, "sum")
        self.gradient, self.order = aligned(size, net.dtype), np.arange(rows)
        self.state = np.empty((0, size), net.dtype)
        self.threads = choose_threads(net._work(self.block), self.block, e.n_threads, WORK_A_CALL)
        weights = data.weights
        self.weight = float(weights.sum(dtype=np.float64)) if weights.size else float(rows)
        self.alpha, self.shares = float(e.alpha), e._loss_shares(net)
        least, most = e._loss_bounds(net.dtype)
        self.recipe = Recipe(seed=net.seed, least=least, most=most, heedless=True)

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Loss and gradient at x, which becomes the network's parameters."""
        net, results = self.net, self.work.results
        net.parameters[...] = x
        results[:] = 0.0
        gradient = np.zeros(x.size)
        for start in range(0, len(self.order), self.block):
            stop = min(start + self.block, len(self.order))
            self.work.run(
                slots.GRADIENT, self.data.batch(self.order, np.array([start, stop])), self.recipe,
                net.parameters, self.gradient, self.state, net._running, training=True,
                n_threads=self.threads,
            )  # fmt: skip
            gradient += self.gradient
        squares = 0.0
        for layer in net.layers:
            layer_gradient = self._of(layer, gradient)
            layer_gradient += self.alpha * layer.W.ravel()
            squares += float(np.dot(layer.W.ravel(), layer.W.ravel()))
        loss = results[slots.LOSS_SUM] / self.shares + 0.5 * self.alpha * squares
        return float(loss / self.weight), gradient / self.weight

    def _of(self, layer: Any, gradient: Array) -> Array:
        """The stretch of a gradient that belongs to a layer's W."""
        start = self.net._slots[layer.index].W
        return gradient[start : start + layer.inputs * layer.units]


def fit_lbfgs(estimator: Any, net: Network, data: Data, hooks: Hooks) -> None:
    """Minimise; the estimator's `n_iter_` and `loss_` tell how it went."""
    e = estimator
    objective = Objective(e, net, data)

    def iterated(intermediate_result: Any) -> None:
        net.parameters[...] = intermediate_result.x
        if hooks.end({"loss": float(intermediate_result.fun)}):
            raise StopIteration
        hooks.begin()

    hooks.begin()
    options = {"maxfun": e.max_fun, "maxiter": e.max_iter, "gtol": e.tol, **_chatter(e.verbose)}
    with net._data_kept():
        net._keep(data)
        result = minimize(
            objective,
            net.parameters.copy(),
            method="L-BFGS-B",
            jac=True,
            callback=iterated if hooks.active else None,
            options=options,
        )
    e.n_iter_ = _check_optimize_result("lbfgs", result, e.max_iter)
    e.loss_ = np.float64(result.fun)
    net.parameters[...] = result.x


def _chatter(verbose: Any) -> dict[str, int]:
    """SciPy has printed nothing of its own since 1.15, and warns of being asked to."""
    version = tuple(int(part) for part in scipy.__version__.split(".")[:2])
    return {"iprint": 1 if verbose else -1} if version < (1, 15) else {}
