"""`check_gradients`: the gradient of a network against differences of its loss."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .complexstep import Replay, complex_gradient
from .errors import check_integer, check_name
from .kernels.tables import ACTIVATIONS, LOSSES

if TYPE_CHECKING:
    from .engine import Batch
    from .network import Network

STEPS: Final = (1e-3, 1e-4, 1e-5, 1e-6)
"""Steps of the central differences, tried in turn until one settles the matter."""
TOLERANCE: Final = {"central": 1e-8, "complex": 1e-12}
"""Largest error of a right gradient, as a share of the network's largest gradient."""
EPS: Final = float(np.finfo(np.float64).eps)
ROUNDINGS: Final = 64
"""Units of the last place of losses and outputs below which a gradient counts as 0."""
DIFFERENCE: Final = 8
"""Units of the last place of the losses by which their difference may be off: 1.5 by its own
rounding, the rest by that of the losses. With targets of 1e5 it is more than the tolerance."""


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradients` found.

    Attributes:
        error: largest |g - g_hat| over the checked parameters, kinks left out, divided by the
            largest |g|; less what the rounding of the losses explains, where that is a tenth of the
            tolerance and more.
        worst: name of the parameter it belongs to, such as "layers.0.W[3, 1]".
        kinks: names of parameters so near a kink that every difference straddles it: some unit's
            pre-activation (or error, under absolute_error) changes its sign within reach.
        checked: how many parameters were compared.
        method: "central" or "complex".
        resolution: what the rounding of the losses may hide, as a share of the largest |g|; above
            the tolerance only where losses are large beside their gradients.
    """

    error: float
    worst: str
    kinks: tuple[str, ...]
    checked: int
    method: str
    resolution: float = 0.0

    def __bool__(self) -> bool:
        return self.error <= TOLERANCE[self.method]


def check_gradients(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    training: bool = True,
    seed: int | None = None,
    method: str = "central",
    parameters: int | None = None,
) -> GradientCheck:
    """Compare `network.gradients` with differences of the objective's data term, in float64.

    Args:
        network: any network; it is not changed. A float32 one is checked in float64.
        X, y, sample_weight: a batch, as for `network.loss`; X not sparse.
        training: batch statistics and dropout, as in training.
        seed: of the dropout masks.
        method: "central": central differences of the compiled loss at w +- h and w +- 2h,
            extrapolated; "complex": the complex step Im f(w + ih) / h on a forward pass in NumPy,
            for networks whose functions are all analytic.
        parameters: check a random selection of so many; None: all.

    Returns:
        A `GradientCheck`; true where the error is within 1e-8 (central) or 1e-12 (complex).

    Raises:
        ValueError: method="complex" on a network with a function that is not analytic.

    Source: Richardson (1911) for the extrapolation; Squire and Trapp (1998) for the complex step.

    >>> import fastbp
    >>> net = fastbp.Network(3, [fastbp.Dense(4, "tanh"), fastbp.Dense(2, "softmax")], seed=1)
    >>> bool(fastbp.check_gradients(net, np.eye(3), [0, 1, 1]))
    True
    """
    check_name("method", method, TOLERANCE)
    net = _in_float64(network)
    options: dict[str, Any] = {"sample_weight": sample_weight, "training": training, "seed": seed}
    gradient = net.gradients(X, y, **options)
    chosen = _chosen(gradient.size, parameters)
    if method == "complex":
        other = _by_complex_step(net, X, y, gradient, chosen, options)
    else:
        other = _by_differences(net, X, y, gradient, chosen, options)
    largest = max(np.abs(gradient).max(), np.abs(other.found).max())
    if largest <= _rounding_floor(net, X, other.losses):
        other.errors[:] = 0.0
    worst = int(other.errors.argmax())
    return GradientCheck(
        float(other.errors[worst]),
        parameter_name(net, int(chosen[worst])),
        tuple(parameter_name(net, k) for k in other.kinks),
        len(chosen) - len(other.kinks),
        method,
        other.resolution,
    )


@dataclass
class _Compared:
    """What another method makes of the derivatives, and how they differ from the gradient.

    Attributes:
        found: the derivatives by the chosen parameters.
        errors: |g - g_hat|, divided by the largest |g|.
        losses: how large the losses are that the derivatives are made of, over the step if any.
        kinks: the parameters at one.
        resolution: what the rounding of the losses may hide, as a share of the largest |g|.
    """

    found: NDArray[Any]
    errors: NDArray[Any]
    losses: float
    kinks: list[int] = field(default_factory=list)
    resolution: float = 0.0


def _chosen(size: int, parameters: int | None) -> NDArray[Any]:
    """The places of the parameters to check."""
    every = np.arange(size)
    if parameters is None:
        return every
    count = min(check_integer("parameters", parameters, least=1), size)
    return np.sort(np.random.default_rng(0).choice(every, count, replace=False))


def _largest(gradient: NDArray[Any]) -> float:
    """The largest |g|, above 0."""
    return max(float(np.abs(gradient).max()), np.finfo(np.float64).tiny)


def _by_complex_step(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    gradient: NDArray[Any],
    chosen: NDArray[Any],
    options: dict[str, Any],
) -> _Compared:
    _refuse_kinks(net)
    found = complex_gradient(net, X, y, chosen, **options)
    errors = np.abs(gradient[chosen] - found) / _largest(gradient)
    return _Compared(found, errors, abs(net.loss(X, y, **options)))


def _by_differences(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    gradient: NDArray[Any],
    chosen: NDArray[Any],
    options: dict[str, Any],
) -> _Compared:
    training, seed, scale = options["training"], options["seed"], _largest(gradient)
    batch = net._batch(X, y, options["sample_weight"], training, sparse=False)
    differences = _Differences(net, batch, training, net.seed if seed is None else seed)
    found, errors, kinks = _central(differences, chosen, gradient, scale)
    losses = differences.largest / max(STEPS)
    return _Compared(found, errors / scale, losses, kinks, DIFFERENCE * EPS * losses / scale)


def _rounding_floor(net: Network, X: ArrayLike, losses: float) -> float:
    """What no method tells from 0: the rounding of the losses, and of outputs times inputs."""
    rows = net._as_matrix(X)
    outputs = float(np.abs(net.forward(rows)).max() * max(1.0, np.abs(rows).max()))
    return ROUNDINGS * EPS * (losses + outputs)


def _in_float64(network: Network) -> Network:
    double = copy.deepcopy(network)
    double.__setstate__(
        {**double.__getstate__(), "dtype": np.dtype(np.float64), "_precision": None}
    )
    return double


def _refuse_kinks(net: Network) -> None:
    for layer in net.layers:
        if not ACTIVATIONS[layer.activation].analytic:
            raise ValueError(
                f"method='complex' needs analytic functions, and layer {layer.index} is "
                f"{layer.activation!r}; use method='central'"
            )
    if not LOSSES[net.loss_name].smooth:
        raise ValueError(
            f"method='complex' needs analytic functions, and the loss is {net.loss_name!r}; "
            "use method='central'"
        )


class _Differences:
    """Central differences of the compiled loss, and what is known of kinks near by."""

    def __init__(self, net: Network, batch: Batch, training: bool, seed: int) -> None:
        self.net, self.batch, self.training, self.seed = net, batch, training, seed
        self.largest = 0.0  # of the losses
        self._replay: Replay | None = None

    def slope(self, place: int, h: float) -> float:
        """Derivative by one parameter: four losses, error O(h^4) + O(eps |loss| / h)."""
        w, kept, values = self.net.parameters, self.net.parameters[place], []
        for shift in (h, -h, 2.0 * h, -2.0 * h):
            w[place] = kept + shift
            values.append(self.net._loss(self.batch, self.seed, self.training))
        w[place] = kept
        self.largest = max(self.largest, *map(abs, values))
        up, down, two_up, two_down = values
        return (8.0 * (up - down) - (two_up - two_down)) / (12.0 * h)

    def straddles(self, place: int, h: float) -> bool:
        """Some unit is on another side of its kink at w - 2h, w - h, w + h or w + 2h than at w."""
        if self._replay is None:
            self._replay = Replay(self.net, self.batch, self.training, self.seed)
        moved = np.repeat(self.net.parameters[None], 5, axis=0)
        moved[:, place] += h * np.arange(-2.0, 3.0)
        sides = self._replay.kink_sides(moved)
        return bool((sides != sides[2]).any())


def _central(
    differences: _Differences, chosen: NDArray[Any], gradient: NDArray[Any], scale: float
) -> tuple[NDArray[Any], NDArray[Any], list[int]]:
    """Differences at the step that settles the matter, their errors, and parameters at a kink.

    A step that straddles a kink says nothing, and a smaller one is tried; where all do, the
    parameter is at a kink. Of the others the step that comes nearest counts: truncation spoils the
    larger and rounding the smaller ones, while a wrong derivative is wrong at all. What the first
    one's rounding explains is no error; a smaller step rounds more, and would excuse anything.
    """
    found, errors = gradient[chosen], np.full(len(chosen), np.inf)
    settled = 0.1 * TOLERANCE["central"] * scale
    for i, place in enumerate(int(k) for k in chosen):
        for h in STEPS:
            slope = differences.slope(place, h)
            error = abs(slope - gradient[place])
            if error > TOLERANCE["central"] * scale and differences.straddles(place, h):
                continue
            rounding = DIFFERENCE * EPS * differences.largest / h
            if errors[i] == np.inf and rounding > settled:
                error = max(error - rounding, 0.0)
            if not error >= errors[i]:  # NaN counts
                errors[i], found[i] = error, slope
            if error <= settled:
                break
    kinks = np.flatnonzero(errors == np.inf)
    errors[kinks] = 0.0
    return found, errors, [int(k) for k in chosen[kinks]]


def parameter_name(net: Network, index: int) -> str:
    """The name of the parameter at a place of the flat vector, as "layers.0.W[3, 1]"."""
    for name, view in net.tensors().items():
        if "running" in name:
            continue
        start = (view.ctypes.data - net.parameters.ctypes.data) // view.itemsize
        if start <= index < start + view.size:
            place = np.unravel_index(index - start, view.shape)
            return f"{name}[{', '.join(str(int(i)) for i in place)}]"
    raise IndexError(index)
