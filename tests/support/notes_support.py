"""What the tests of the notes share: error bounds to hold numbers to, and networks by seed."""

from __future__ import annotations

import numpy as np

from fastbp import notes

EPS = float(np.finfo(np.float64).eps)
STEP = 6e-6  # the default step of numerical_jacobian


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rounding(terms: int, size: float = 1.0) -> float:
    """Bound for a sum of ``terms`` products whose magnitudes add up to ``size``, computed twice."""
    return 2 * (terms + 2) * EPS * size


def fd_bound(size: float, third: float) -> float:
    """Central difference: h^2/6 |f'''| of truncation; each f is off by some units, over 2h."""
    return STEP**2 / 6 * third + 8 * EPS * size / (2 * STEP)


def assert_within(actual: object, expected: object, bound: float) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


def random_net(activations, seed=0, sizes=(4, 5, 3, 2), scale=0.7):
    return notes.random_layers(sizes, activations, rng(seed), scale)
