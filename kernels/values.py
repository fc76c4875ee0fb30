"""What the public doors ask of numbers that are no arrays: rates, probabilities, places of a draw.

Both backends ask here, so that both refuse in the same words.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .checks import number
from .layout import FORMS
from .tables import ACTIVATIONS, MOST_HYPER, UPDATES

MOST_LAYERS: Final = 8192
"""Layers that random numbers can be drawn for: so many have an address."""


def form_code(form: Any) -> int:
    """The code of a form of batch norm."""
    if not isinstance(form, str) or form not in FORMS:
        raise ValueError(f"form: expected 'sqrt' or 'sigma', got {form!r}")
    return FORMS[form]


def epsilon(eps: Any) -> float:
    """Batch norm's eps."""
    if not 0 <= number("eps", eps) < np.inf:
        raise ValueError(f"eps: expected a finite number >= 0, got {eps!r}; 1e-5 is usual")
    return float(eps)


def check_card_precision(precision: Any) -> None:
    """Refuse what only the CPU's products have: a card's are of the arrays' dtype."""
    if precision is not None:
        raise ValueError(
            f"precision={str(precision)[:60]!r} is of device='cpu'; on device='cuda' give "
            "precision=None."
        )


def whole(argument: str, value: Any, limit: int) -> int:
    """An integer from 0 on, below `limit`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{argument}: expected an integer, got {value!r}")
    if not 0 <= value < limit:
        raise ValueError(f"{argument}: expected an integer from 0 to {limit - 1}, got {value}")
    return int(value)


def random_address(seed: Any, epoch: Any, step: Any, layer: Any = 0) -> tuple[int, int, int, int]:
    """Where random numbers are drawn."""
    return (
        whole("seed", seed, 2**63),
        whole("epoch", epoch, 2**32),
        whole("step", step, 2**32),
        whole("layer", layer, MOST_LAYERS),
    )


def probability(p: Any) -> float:
    """Dropout's."""
    if not 0 <= number("p", p) < 1:
        raise ValueError(f"p: expected a probability of dropping in [0, 1), got {p!r}")
    return float(p)


def deviation(sigma: Any) -> float:
    """That of noise."""
    if not 0 <= number("sigma", sigma) < np.inf:
        raise ValueError(f"sigma: expected a finite number >= 0, got {sigma!r}")
    return float(sigma)


def check_philox(counter: np.ndarray, key: np.ndarray) -> None:
    """Counters of four words, keys of two, whose other axes fit."""
    for name, value, count in (("counter", counter, 4), ("key", key, 2)):
        if value.ndim == 0 or value.shape[-1] != count:
            raise ValueError(f"{name}: expected a last axis of {count} words, got {value.shape}")
    try:
        np.broadcast_shapes(counter.shape[:-1], key.shape[:-1])
    except ValueError:
        raise ValueError(
            f"key: shape {key.shape} does not fit counter's {counter.shape}; all axes but the last "
            "must be equal, or 1"
        ) from None


def check_rates(step: Any, **rates: Any) -> None:
    """The number of an optimizer's step, and what else is a finite number of 0 or more."""
    if not isinstance(step, int | np.integer) or isinstance(step, bool) or not 1 <= step < 2**63:
        raise ValueError(f"step: expected an integer from 1 to 2^63 - 1, got {step!r}")
    for key, value in rates.items():
        if not 0 <= number(key, value) < np.inf:
            raise ValueError(f"{key}: expected a finite number >= 0, got {value!r}")


def hyperparameters(name: str, given: dict[str, float]) -> np.ndarray:
    """An optimizer's, in the order of the loop, defaults filled in."""
    defaults = dict(UPDATES[name].hyper)
    unknown = [key for key in given if key not in defaults]
    if unknown:
        allowed = ", ".join(defaults) or "none"
        raise TypeError(f"{unknown[0]}: is no hyperparameter of {name}; it has: {allowed}")
    values = np.zeros(MOST_HYPER)
    for at, (key, default) in enumerate(defaults.items()):
        value = number(key, given.get(key, default))
        if not 0 <= value < (np.inf if key == "eps" else 1):
            limit = "a finite number >= 0" if key == "eps" else "a number in [0, 1)"
            raise ValueError(f"{key}: expected {limit}, got {given[key]!r}")
        values[at] = value
    return values


def check_derivative(activation: str, *, has_Z: bool) -> None:
    """f' of this activation follows from A, or Z is there."""
    if not (has_Z or ACTIVATIONS[activation].from_output):
        raise ValueError(
            f"Z: {activation}' cannot be computed from A alone; pass the pre-activations"
        )
