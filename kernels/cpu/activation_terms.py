"""The activations' formulas: f(z), its derivative, and softmax's four passes over a row.

A derivative is taken with the factor g that meets it, g f'(z), from the output a where that is
enough: then Z need not be kept. relu, leaky_relu and the derivatives hand NaN on. Numbers of the
notes are those of 004; what the notes do not have is named by its paper.
"""

from __future__ import annotations

import math
from typing import Any, Final

from ..tables import LEAKY_SLOPE
from .elementary import clip, erf, exp, expm1, sigmoid, softplus, tanh
from .lanes import fma, like, select
from .spans import Formula

# silu, gelu and their derivatives have reached their limits long before, in either dtype; held
# here, inf * 0 cannot turn up.
_FAR: Final = 1e4


def _identity(z: Any) -> Any:
    """z."""
    return z


def _step(z: Any) -> Any:
    """1 if z >= 0 else 0 (6.31); NaN stays."""
    return select(z >= 0.0, 1.0, select(z < 0.0, 0.0, z))


def _relu(z: Any) -> Any:
    """max(0, z) (6.34)."""
    return select(z <= 0.0, 0.0, z)


def _leaky_relu(z: Any) -> Any:
    """z if z > 0 else 0.01 z (Maas, Hannun and Ng, 2013)."""
    return select(z > 0.0, z, z * LEAKY_SLOPE)


def _elu(z: Any) -> Any:
    """z if z > 0 else e^z - 1 (Clevert, Unterthiner and Hochreiter, 2016)."""
    return select(z > 0.0, z, expm1(z))


def _silu(z: Any) -> Any:
    """z sigmoid(z) (Elfwing, Uchibe and Doya, 2018)."""
    return select(z < -_FAR, -_FAR, z) * sigmoid(z)


def _normal_cdf(z: Any) -> Any:
    """Phi(z) = (1 + erf(z / sqrt 2)) / 2."""
    return fma(erf(z * math.sqrt(0.5)), 0.5, like(z, 0.5))


def _gelu(z: Any) -> Any:
    """z Phi(z) (Hendrycks and Gimpel, 2016)."""
    return select(z < -_FAR, -_FAR, z) * _normal_cdf(z)


def _no_slope(g: Any, a: Any) -> Any:
    """step' = 0, at 0 as well (6.30); a g that is not finite is NaN."""
    return g * like(g, 0.0)


def _identity_slope(g: Any, a: Any) -> Any:
    """f' = 1 (6.38)."""
    return g


def _kinked(g: Any, a: Any, below: Any) -> Any:
    """g where a > 0, g * below where a <= 0, NaN where a is NaN."""
    return g * select(a > 0.0, 1.0, select(a <= 0.0, below, a))


def _relu_slope(g: Any, a: Any) -> Any:
    """f' = 1 where a > 0, else 0; (6.35) prints relu'(0) = 1."""
    return _kinked(g, a, 0.0)


def _leaky_relu_slope(g: Any, a: Any) -> Any:
    """f' = 1 where a > 0, else 0.01."""
    return _kinked(g, a, LEAKY_SLOPE)


def _elu_slope(g: Any, a: Any) -> Any:
    """f' = 1 where a > 0, else e^z = a + 1."""
    return _kinked(g, a, a + 1.0)


def _sigmoid_slope(g: Any, a: Any) -> Any:
    """f' = a (1 - a) (6.36)."""
    return g * (a * (1.0 - a))


def _tanh_slope(g: Any, a: Any) -> Any:
    """f' = 1 - a^2 (6.39), without cancellation near a = 1."""
    return g * ((1.0 - a) * (1.0 + a))


def _softplus_slope(g: Any, a: Any) -> Any:
    """f' = sigmoid(z) = 1 - e^-a."""
    return g * -expm1(-a)


def _exp_slope(g: Any, a: Any) -> Any:
    """f' = e^z = a."""
    return g * a


def _silu_slope(g: Any, z: Any) -> Any:
    """f' = s (1 + z (1 - s)) with s = sigmoid(z)."""
    z = clip(z, -_FAR, _FAR)
    s = sigmoid(z)
    return g * (s * fma(z, 1.0 - s, like(z, 1.0)))


def _gelu_slope(g: Any, z: Any) -> Any:
    """f' = Phi(z) + z phi(z), phi the standard normal density."""
    z = clip(z, -_FAR, _FAR)
    density = exp(z * z * -0.5) * math.sqrt(0.5 / math.pi)
    return g * fma(z, density, _normal_cdf(z))


FORMULAS: Final[dict[str, tuple[Formula, Formula]]] = {
    "identity": (_identity, _identity_slope),
    "step": (_step, _no_slope),
    "relu": (_relu, _relu_slope),
    "leaky_relu": (_leaky_relu, _leaky_relu_slope),
    "elu": (_elu, _elu_slope),
    "sigmoid": (sigmoid, _sigmoid_slope),
    "tanh": (tanh, _tanh_slope),
    "softplus": (softplus, _softplus_slope),
    "silu": (_silu, _silu_slope),
    "gelu": (_gelu, _gelu_slope),
    "exp": (exp, _exp_slope),
}
"""f(z), and g f'(z) from g and a = f(z); from g and z where the table says from_output=False."""


# --- softmax: a row's largest, its exponentials, their shares; then the product with its Jacobian


def maximum(z: Any) -> Any:
    """max_j z_j, by the reduction."""
    return z


def shifted_exp(z: Any, top: Any) -> tuple[Any, Any]:
    """e^(z - top), to be kept and to be summed."""
    e = exp(z - top)
    return e, e


def over(e: Any, total: Any) -> Any:
    """a = e / sum_j e_j."""
    return e / total


def dot(g: Any, a: Any) -> Any:
    """sum_j a_j g_j, by the reduction."""
    return a * g


def softmax_slope(g: Any, a: Any, product: Any) -> Any:
    """(J g)_i = a_i (g_i - sum_j a_j g_j), J_ij = a_i ([i = j] - a_j)."""
    return a * (g - product)
