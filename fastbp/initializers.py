"""Where training starts: random weights, each drawn by its address (seed, layer, element).

A layer's numbers depend on nothing drawn before them, and are the same in every process. Weights
are W (m, n): m inputs, n units. They have mean 0; the table gives the variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import check_name, check_not_negative, check_seed, shown
from .kernels.cpu.random_doors import normals, uniforms
from .kernels.tables import INIT

Array = NDArray[Any]
Floats = NDArray[np.float64]

PIECE: Final = 1 << 16
"""Numbers that are drawn at once: for a whole layer of float32, the words and the float64 numbers
that they make would take ten times its memory."""


@dataclass(frozen=True)
class Initializer:
    """How weights are drawn: the distribution, and its standard deviation for a layer (m, n)."""

    shape: Literal["normal", "uniform", "zeros"]
    deviation: Callable[[int, int], float]
    source: str


INITIALIZERS: Final[dict[str, Initializer]] = {
    "normal": Initializer(
        "normal", lambda m, n: 1.0 / math.sqrt(m), "the notes' Gaussian, scaled by 1/sqrt(m)"
    ),
    "he_normal": Initializer(
        "normal", lambda m, n: math.sqrt(2.0 / m), "He et al. (2015): variance 2/m"
    ),
    "he_uniform": Initializer(
        "uniform", lambda m, n: math.sqrt(2.0 / m), "He et al. (2015): +-sqrt(6/m)"
    ),
    "glorot_normal": Initializer(
        "normal",
        lambda m, n: math.sqrt(2.0 / (m + n)),
        "Glorot and Bengio (2010): variance 2/(m + n)",
    ),
    "glorot_uniform": Initializer(
        "uniform",
        lambda m, n: math.sqrt(2.0 / (m + n)),
        "Glorot and Bengio (2010): +-sqrt(6/(m + n))",
    ),
    "zeros": Initializer("zeros", lambda m, n: 0.0, "every unit alike: for one-layer networks"),
}


def initialize(
    name: str,
    m: int,
    n: int,
    scale: float | None = None,
    seed: int = 0,
    layer: int = 0,
    *,
    out: Array | None = None,
) -> Array:
    """Weights of a layer with m inputs and n units.

    Args:
        name: a key of `INITIALIZERS`.
        m: inputs (fan in).
        n: units (fan out).
        scale: factor on the table's weights; for "normal" the standard deviation itself. None:
            the table's, which for "normal" is 1/sqrt(m). The notes draw N(0, 1): scale=1.
        seed: 0 ... 2^63 - 1; the network's.
        layer: the layer's place, from 0; another layer draws other numbers.
        out: C-contiguous (m, n), float32 or float64, to be filled; None: new float64.

    Returns:
        (m, n), C-contiguous: `out`, if it was given.

    Raises:
        ValueError: an unknown name (the nearest known one is suggested), a negative scale, or one
            with which the dtype of `out` overflows.
        TypeError: an argument of another type.

    Source: notes 004 Concept 20 (random, from a Gaussian); papers in the table.

    >>> W = initialize("normal", 100, 50, scale=2.0, seed=1)
    >>> W.shape, bool(abs(W.std() - 2.0) < 0.1)
    ((100, 50), True)
    """
    check_name("init", name, INITIALIZERS)
    out = np.empty((m, n)) if out is None else out
    _draw(name, m, n, scale, seed, 2 * layer, out.reshape(-1))
    return out


def initialize_bias(
    name: str,
    m: int,
    n: int,
    scale: float | None = None,
    seed: int = 0,
    layer: int = 0,
    *,
    out: Array | None = None,
) -> Array:
    """Biases of a layer, (n,): zero for "zeros", else drawn as its weights are.

    The notes' pseudo-code draws them; zero is the usual choice, and the default of a layer.

    Args:
        name: a key of `INITIALIZERS`.
        m, n, scale, seed, layer, out: as for `initialize`; m sets the deviation, as there.

    >>> initialize_bias("zeros", 100, 3).tolist()
    [0.0, 0.0, 0.0]
    """
    check_name("bias_init", name, INITIALIZERS)
    out = np.empty(n) if out is None else out
    _draw(name, m, n, scale, seed, 2 * layer + 1, out)
    return out


def _draw(
    name: str, m: int, n: int, scale: float | None, seed: int, stream: int, out: Array
) -> None:
    """Fill a vector with the deviation of a layer (m, n); weights and biases are two streams."""
    kind = INITIALIZERS[name]
    check_seed(seed)
    deviation = kind.deviation(m, n)
    if scale is not None:
        factor = check_not_negative("init_scale", scale)
        deviation = factor if name == "normal" else factor * deviation
    for first in range(0, len(out), PIECE):
        part = out[first : first + PIECE]
        with np.errstate(over="ignore"):
            part[...] = _drawn(kind.shape, deviation, seed, stream, len(part), first)
        if not np.isfinite(part).all():
            raise ValueError(
                f"init_scale={shown(scale)} draws numbers too large for {out.dtype}; give a "
                "smaller one, or dtype='float64'."
            )


def _drawn(
    shape: str, deviation: float, seed: int, stream: int, size: int, first: int
) -> Floats | float:
    """The numbers from `first` on of a stream, in float64."""
    if shape == "zeros":
        return 0.0
    drawn: Floats
    if shape == "normal":
        drawn = normals(seed, INIT, stream, size, first)
        drawn *= deviation
        return drawn
    # Uniform on (-a, a) has the deviation a / sqrt(3).
    drawn = uniforms(seed, INIT, stream, size, first)
    drawn *= 2.0
    drawn -= 1.0
    drawn *= math.sqrt(3.0) * deviation
    return drawn
