"""Where training starts: random weights, each drawn by its address (seed, layer, element).

A layer's numbers depend on nothing drawn before them, and are the same in every process. Weights
are W (m, n): m inputs, n units. They have mean 0; the table gives the variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import check_name, check_not_negative, check_seed
from .kernels.cpu.random_doors import normals, uniforms
from .kernels.tables import INIT

Floats = NDArray[np.float64]


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
    name: str, m: int, n: int, scale: float | None = None, seed: int = 0, layer: int = 0
) -> Floats:
    """Weights of a layer with m inputs and n units.

    Args:
        name: a key of `INITIALIZERS`.
        m: inputs (fan in).
        n: units (fan out).
        scale: factor on the table's weights; for "normal" the standard deviation itself. None:
            the table's, which for "normal" is 1/sqrt(m). The notes draw N(0, 1): scale=1.
        seed: 0 ... 2^63 - 1; the network's.
        layer: the layer's place, from 0; another layer draws other numbers.

    Returns:
        float64 (m, n), C-contiguous.

    Raises:
        ValueError: an unknown name (the nearest known one is suggested), a negative scale.
        TypeError: an argument of another type.

    Source: notes 004 Concept 20 (random, from a Gaussian); papers in the table.

    >>> W = initialize("normal", 100, 50, scale=2.0, seed=1)
    >>> W.shape, bool(abs(W.std() - 2.0) < 0.1)
    ((100, 50), True)
    """
    check_name("init", name, INITIALIZERS)
    return _draw(name, m, n, scale, seed, 2 * layer, m * n).reshape(m, n)


def initialize_bias(
    name: str, m: int, n: int, scale: float | None = None, seed: int = 0, layer: int = 0
) -> Floats:
    """Biases of a layer, float64 (n,): zero for "zeros", else drawn as its weights are.

    The notes' pseudo-code draws them; zero is the usual choice, and the default of a layer.

    Args:
        name: a key of `INITIALIZERS`.
        m, n, scale, seed, layer: as for `initialize`; m sets the deviation, as for the weights.

    >>> initialize_bias("zeros", 100, 3).tolist()
    [0.0, 0.0, 0.0]
    """
    check_name("bias_init", name, INITIALIZERS)
    return _draw(name, m, n, scale, seed, 2 * layer + 1, n)


def _draw(
    name: str, m: int, n: int, scale: float | None, seed: int, stream: int, size: int
) -> Floats:
    """`size` numbers with the deviation of a layer (m, n); weights and biases are two streams."""
    kind = INITIALIZERS[name]
    check_seed(seed)
    deviation = kind.deviation(m, n)
    if scale is not None:
        factor = check_not_negative("init_scale", scale)
        deviation = factor if name == "normal" else factor * deviation
    drawn: Floats
    if kind.shape == "zeros":
        drawn = np.zeros(size)
    elif kind.shape == "normal":
        drawn = normals(seed, INIT, stream, size)
        drawn *= deviation
    else:
        # Uniform on (-a, a) has the deviation a / sqrt(3).
        drawn = uniforms(seed, INIT, stream, size)
        drawn *= 2.0
        drawn -= 1.0
        drawn *= math.sqrt(3.0) * deviation
    return drawn
