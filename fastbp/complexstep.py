"""The complex step: exact derivatives of a network from a NumPy forward pass in complex numbers.

For an analytic f with real values on the real line, Im f(w + ih) / h = f'(w) + O(h^2), and nothing
cancels: h = 1e-30 gives every digit. The forward pass here is written apart from the kernels, for
several perturbed copies of the parameters at once, shape (copies, n, k). It branches on real parts,
so with real parameters it is the network itself, and `kink_sides` tells on which side of its kinks
every unit is.

Source: Squire and Trapp, "Using complex variables to estimate derivatives of real functions",
SIAM Review 40 (1998).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import entry_for
from .kernels.reference.activation import normal_cdf
from .kernels.reference.random import dropout
from .kernels.tables import ACTIVATIONS as TABLE
from .kernels.tables import ELU_ALPHA, LEAKY_SLOPE

if TYPE_CHECKING:
    from .engine import Batch
    from .network import Network

Array = NDArray[Any]
H: Final = 1e-30
ROOM: Final = 1 << 20
"""Perturbed parameters, copies times size, that are held at once."""


def _sigmoid(z: Array) -> Array:
    e = np.exp(np.where(z.real < 0, z, -z))
    return np.where(z.real < 0, e, 1.0) / (1.0 + e)


def _softplus(z: Array) -> Array:
    return np.where(z.real > 0, z, 0.0) + np.log1p(np.exp(np.where(z.real > 0, -z, z)))


def _normal_cdf(z: Array) -> Array:
    """Phi(x + iy) = Phi(x) + iy phi(x) + O(y^2): exact in double precision for |y| below 1e-16."""
    x = z.real
    phi = np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    value: Array = normal_cdf(x) + 1j * z.imag * phi if np.iscomplexobj(z) else normal_cdf(x)
    return value


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.real.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _log_softmax(z: Array) -> Array:
    z = z - z.real.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


ACTIVATIONS: Final[dict[str, Callable[[Array], Array]]] = {
    "identity": lambda z: z,
    "step": lambda z: (z.real >= 0).astype(z.dtype),
    "relu": lambda z: np.where(z.real > 0, z, 0.0),
    "leaky_relu": lambda z: np.where(z.real > 0, z, LEAKY_SLOPE * z),
    "elu": lambda z: np.where(z.real > 0, z, ELU_ALPHA * (np.exp(np.where(z.real > 0, 0, z)) - 1)),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "softplus": _softplus,
    "silu": lambda z: z * _sigmoid(z),
    "gelu": lambda z: z * _normal_cdf(z),
    "softmax": _softmax,
    "exp": np.exp,
}


def _activate(layer: Any, z: Array) -> Array:
    return entry_for(ACTIVATIONS, layer.activation, "form for complex numbers")(z)


KINKED: Final = frozenset(name for name, f in TABLE.items() if not f.smooth)


def _inside(a: Array) -> Array:
    """a with its real part held where both logarithms are finite, as the kernels hold it."""
    info = np.finfo(np.float64)
    return a + (np.clip(a.real, info.tiny, 1.0 - info.epsneg) - a.real)


def _above(a: Array) -> Array:
    """a with its real part held above 0, likewise."""
    return a + (np.maximum(a.real, np.finfo(np.float64).tiny) - a.real)


def _log_of_count(y: Array) -> Array:
    return np.log(np.where(y == 0, 1.0, y))


TERMS: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "squared_error": lambda a, y: (a - y) ** 2,
    "half_squared_error": lambda a, y: 0.5 * (a - y) ** 2,
    "absolute_error": lambda a, y: np.sign((a - y).real) * (a - y),
    "binary_cross_entropy": lambda a, y: (
        -y * np.log(_inside(a)) - (1.0 - y) * np.log1p(-_inside(a))
    ),
    "cross_entropy": lambda a, y: -y * np.log(_inside(a)),
    "poisson": lambda a, y: y * (_log_of_count(y) - np.log(_above(a))) - y + _above(a),
}
FROM_LOGITS: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "binary_cross_entropy": lambda z, y: _softplus(z) - y * z,
    "cross_entropy": lambda z, y: -y * _log_softmax(z),
    "poisson": lambda z, y: y * (_log_of_count(y) - z) - y + np.exp(z),
}
HELD: Final[dict[str, Callable[[Array], Array]]] = {
    "binary_cross_entropy": _inside,
    "cross_entropy": _inside,
    "poisson": _above,
}
"""What the losses with a logarithm do to a: where it changes a, they have a kink."""


class Replay:
    """A network's forward pass on one batch, in NumPy, as a function of its parameters.

    Args:
        net: a float64 network.
        batch: canonical data (`net._batch`).
        training: batch statistics and dropout.
        seed: of the dropout masks.
    """

    def __init__(self, net: Network, batch: Batch, training: bool, seed: int) -> None:
        self.net, self.training, self.X = net, training, batch.X
        outputs = net.layers[-1].units
        self.Y = np.eye(outputs)[batch.labels] if batch.labels.size else batch.targets
        weights = batch.weights if batch.weights.size else np.ones(len(batch.X))
        self.share = weights / weights.sum() if net.reduction == "mean" else weights
        self.keep = [self._keep(layer, seed) for layer in net.layers]

    def _keep(self, layer: Any, seed: int) -> Array | None:
        if not (self.training and layer.dropout):
            return None
        ones = np.ones((len(self.X), layer.units))
        kept, _ = dropout(ones, layer.dropout, seed=seed, layer=layer.index)
        return kept

    def losses(self, parameters: Array) -> Array:
        """The data term for each row of `parameters` (copies, size)."""
        A, U = self.X[None], self.X[None]
        for layer in self.net.layers:
            A, U = self._layer(layer, parameters, A)
        loss = self.net.loss_name
        if loss in FROM_LOGITS and self.net._specs[-1].ends_in_logits(loss):
            terms = FROM_LOGITS[loss](U, self.Y)
        else:
            terms = TERMS[loss](A, self.Y)
        return np.asarray((terms.sum(axis=-1) * self.share).sum(axis=-1))

    def kink_sides(self, parameters: Array) -> Array:
        """On which side of its kinks every unit is, (copies, ...): rows differ across a kink."""
        A, sides = self.X[None], []
        for layer in self.net.layers:
            below, norm = A, layer.batch_norm
            A, U = self._layer(layer, parameters, below)
            if layer.activation in KINKED:
                sides.append(U >= 0 if layer.activation == "step" else U > 0)
            if norm and norm.form == "sigma" and self.training:  # sigma has a kink at 0
                _, variance = self._statistics(layer, self._normed(layer, parameters, below))
                sides.append(np.broadcast_to(variance > 0, (len(parameters), 1, layer.units)))
        if self.net.loss_name == "absolute_error":
            sides.append(np.sign(A - self.Y) > 0)
        if self.net.loss_name in HELD:
            sides.append(HELD[self.net.loss_name](A) != A)
        copies = len(parameters)
        rows = [np.broadcast_to(s, (copies, *s.shape[1:])).reshape(copies, -1) for s in sides]
        return np.concatenate(rows, axis=1) if rows else np.zeros((copies, 0), bool)

    def _normed(self, layer: Any, parameters: Array, A: Array) -> Array:
        """What batch norm normalises."""
        Z = self._linear(layer, parameters, A)
        return Z if layer.batch_norm.position == "before" else _activate(layer, Z)

    def _part(self, layer: Any, name: str, parameters: Array) -> Array | None:
        view = getattr(layer, name)
        if view is None:
            return None
        start = (view.ctypes.data - self.net.parameters.ctypes.data) // view.itemsize
        return parameters[:, start : start + view.size].reshape(len(parameters), -1, layer.units)

    def _linear(self, layer: Any, parameters: Array, A: Array) -> Array:
        Z = A @ self._part(layer, "W", parameters)
        b = self._part(layer, "b", parameters)
        return Z if b is None else Z + b

    def _layer(self, layer: Any, parameters: Array, A: Array) -> tuple[Array, Array]:
        """What the next layer reads, and what went into the activation."""
        U = self._linear(layer, parameters, A)
        norm = layer.batch_norm
        if norm and norm.position == "before":
            U = self._normalize(layer, parameters, U)
        A = _activate(layer, U)
        if norm and norm.position == "after":
            A = self._normalize(layer, parameters, A)
        keep = self.keep[layer.index]
        return A if keep is None else A * keep, U

    def _statistics(self, layer: Any, Z: Array) -> tuple[Array, Array]:
        if not self.training:
            return layer.running_mean, layer.running_variance
        mean = Z.mean(axis=-2, keepdims=True)
        return mean, ((Z - mean) ** 2).mean(axis=-2, keepdims=True)

    def _normalize(self, layer: Any, parameters: Array, Z: Array) -> Array:
        norm = layer.batch_norm
        mean, variance = self._statistics(layer, Z)
        if norm.form == "sqrt":
            spread = np.sqrt(variance + norm.eps)
        else:
            spread = np.where(variance.real > 0, np.sqrt(variance), 0.0) + norm.eps
        gamma = self._part(layer, "gamma", parameters)
        return gamma * ((Z - mean) / spread) + self._part(layer, "beta", parameters)


def complex_gradient(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    chosen: Array,
    *,
    sample_weight: ArrayLike | None = None,
    training: bool = True,
    seed: int | None = None,
) -> Array:
    """Derivatives of `net.loss(X, y, ...)` by the parameters at the places `chosen`, float64.

    Args:
        net: a float64 network whose functions are analytic at its parameters.
        X, y, sample_weight, training, seed: as for `net.loss`.
        chosen: places in `net.parameters`, (c,) integers.

    >>> import fastbp
    >>> net = fastbp.Network(2, [fastbp.Dense(1)], dtype="float64", seed=1)
    >>> complex_gradient(net, [[3.0, 5.0]], [net.forward([[3.0, 5.0]])[0, 0] - 1.0], np.arange(3))
    array([ 6., 10.,  2.])
    """
    batch = net._batch(X, y, sample_weight, training, sparse=False)
    replay = Replay(net, batch, training, net.seed if seed is None else seed)
    block = max(1, ROOM // net.parameters.size)
    found = np.empty(len(chosen))
    for start in range(0, len(chosen), block):
        places = chosen[start : start + block]
        moved = np.repeat(net.parameters[None].astype(np.complex128), len(places), axis=0)
        moved[np.arange(len(places)), places] += 1j * H
        found[start : start + block] = replay.losses(moved).imag / H
    return found
