"""`check_gradients`: the gradient of a network against differences of its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import check_integer, check_name
from .kernels.tables import ACTIVATIONS, LOSSES

if TYPE_CHECKING:
    from .network import Network

STEP = 1e-4  # in the Richardson pair below the truncation error is about STEP^4
KINK_STEPS = 3  # times the step is cut to tell a kink within reach from a wrong derivative


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradients` found.

    Attributes:
        error: largest |g - g_hat| over the checked parameters, kinks left out, divided by the
            largest |g|.
        worst: name of the parameter it belongs to, such as "layers.0.W[3, 1]".
        kinks: names of parameters whose difference straddles a kink, so that it says nothing.
        checked: how many parameters were compared.
        method: "central" or "complex".
    """

    error: float
    worst: str
    kinks: tuple[str, ...]
    checked: int
    method: str

    def __bool__(self) -> bool:
        return self.error <= (1e-12 if self.method == "complex" else 1e-8)


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
        X, y, sample_weight: a batch, as for `network.loss`.
        training: batch statistics and dropout, as in training.
        seed: of the dropout masks.
        method: "central": central differences of the compiled loss, at two steps, extrapolated;
            "complex": the complex step Im f(w + ih) / h on the NumPy reference, for networks whose
            functions are all analytic.
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
    check_name("method", method, ("central", "complex"))
    net = _in_float64(network)
    options: dict[str, Any] = {"sample_weight": sample_weight, "training": training, "seed": seed}
    gradient = net.gradients(X, y, **options)
    chosen = np.arange(gradient.size)
    if parameters is not None:
        count = min(check_integer("parameters", parameters, least=1), gradient.size)
        chosen = np.sort(np.random.default_rng(0).choice(chosen, count, replace=False))
    if method == "complex":
        from .complexstep import complex_gradient

        _refuse_kinks(net)
        found = complex_gradient(net, X, y, chosen, **options)
        kinks: list[int] = []
    else:
        found, kinks = _central(net, X, y, chosen, gradient, options)
    scale = max(float(np.abs(gradient).max()), np.finfo(np.float64).tiny)
    errors = np.abs(gradient[chosen] - found) / scale
    errors[np.isin(chosen, kinks)] = 0.0
    worst = int(errors.argmax())
    return GradientCheck(
        float(errors[worst]),
        parameter_name(net, int(chosen[worst])),
        tuple(parameter_name(net, k) for k in kinks),
        len(chosen) - len(kinks),
        method,
    )


def _in_float64(network: Network) -> Network:
    copy = type(network).from_architecture({**network.architecture(), "dtype": "float64"})
    copy.parameters = network.parameters
    copy._running[...] = network._running
    return copy


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


def _central(
    net: Network, X: Any, y: Any, chosen: NDArray[Any], gradient: NDArray[Any], options: Any
) -> tuple[NDArray[Any], list[int]]:
    """Richardson's central differences, and the parameters near a kink.

    Where the two one-sided slopes do not approach one another as the step shrinks, the loss has a
    kink within reach; a wrong derivative of a smooth loss leaves them agreeing with each other.
    """
    w = net.parameters

    def at(index: int, shift: float) -> float:
        kept = w[index]
        w[index] = kept + shift
        value = net.loss(X, y, **options)
        w[index] = kept
        return value

    base = net.loss(X, y, **options)
    scale = max(float(np.abs(gradient).max()), np.finfo(np.float64).tiny)
    found, kinks = np.empty(len(chosen)), []
    for place, index in enumerate(chosen):
        h = STEP
        for attempt in range(KINK_STEPS):
            high, low, far, near = (at(index, s) for s in (h, -h, 2 * h, -2 * h))
            found[place] = (8.0 * (high - low) - (far - near)) / (12.0 * h)
            if abs(found[place] - gradient[index]) <= 1e-8 * scale:
                break
            h /= 10.0
        else:
            # A jump of the slope shows in the second difference as |jump| / h, not as O(1).
            bends = []
            for h in (STEP, STEP / 10.0, STEP / 100.0):
                bends.append(abs(at(index, h) - 2.0 * base + at(index, -h)) / h)
            noise = 1e-14 * max(abs(base), 1.0) / (STEP / 100.0)
            if _jumps(at, int(index), base) or bends[-1] > bends[0] / 3.0 + noise:
                kinks.append(int(index))
    return found, kinks


def _jumps(at: Any, index: int, base: float) -> bool:
    """A kink inside [-2h, 2h] but not at 0: the one-sided differences disagree at the large step."""
    h = STEP
    slopes = [(at(index, s + h / 4) - at(index, s)) / (h / 4) for s in np.arange(-2, 2, 0.25) * h]
    steps = np.abs(np.diff(slopes))
    return bool(steps.max() > 8.0 * (np.median(steps) + 1e-12 * max(abs(base), 1.0) / h))


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
