"""exp, expm1, log, log1p, tanh, sigmoid, softplus and erf without libm, so that they vectorise.

Formulas for `lanes`: no branches, no tables, one polynomial each, the same source for float32 and
float64. `spans` takes them as they are; jitted scalar code calls `scalar(log)` and the like.

Bounds, in units in the last place of the exact result, tested on more than 10^6 points each:

|         | exp | expm1 | log | log1p | tanh | sigmoid | softplus | erf |
|---------|-----|-------|-----|-------|------|---------|----------|-----|
| float32 | 1   | 1.5   | 1   | 1     | 2    | 2.5     | 2        | 2   |
| float64 | 1   | 2     | 1   | 1     | 2.5  | 2.5     | 2        | 2   |

NaN gives NaN; inf, overflow and the poles give what IEEE 754 says: log(0) is -inf, log(-1) is NaN.
The sign of a zero is not promised. With denormals honoured the bounds hold down to the smallest
denormal. With denormals flushed (in every kernel and the training loop: `memory.flush_denormals`) a
denormal argument counts as 0 and a result that would be denormal is 0. Without a fused
multiply-add (old CPUs; the JIT off) add 1 to each bound.

Method: Cody and Waite, Software Manual for the Elementary Functions (1980), for the reductions;
weighted Remez fits (see `formats`) for the polynomials.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from .formats import DOUBLE, SINGLE, Format
from .lanes import fma, from_bits, is_single, like, scalar, select, to_bits


def _format(x: Any) -> Format:
    return SINGLE if is_single(x) else DOUBLE


def polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's rule; coefficients from the constant up."""
    result = fma(x, coefficients[-1], like(x, coefficients[-2]))
    for coefficient in coefficients[-3::-1]:
        result = fma(result, x, coefficient)
    return result


def clip(x: Any, low: Any, high: Any) -> Any:
    """x held in [low, high]; NaN stays NaN."""
    x = select(x < low, low, x)
    return select(x > high, high, x)


def absolute(x: Any) -> Any:
    """|x|, by the sign bit."""
    return from_bits(to_bits(x) & ~_format(x).sign_bit)


def _with_sign(magnitude: Any, x: Any) -> Any:
    """A value >= 0 with the sign of x."""
    return from_bits(to_bits(magnitude) | (to_bits(x) & _format(x).sign_bit))


def _power_of_two(k: Any, f: Format) -> Any:
    return from_bits((k + f.bias) << f.mantissa)


def _reduce(x: Any, f: Format) -> tuple[Any, Any]:
    """(k, e^r - 1) with x = k ln 2 + r and |r| <= ln 2 / 2; k as a float."""
    k = fma(x, 1.0 / math.log(2.0), like(x, f.magic)) - f.magic
    r = fma(k, -f.ln2_lo, fma(k, -f.ln2_hi, x))
    return k, fma(polynomial(r, f.expm1) * r, r, r)


def _whole(k: Any, f: Format) -> Any:
    """The integer that the float k is."""
    return to_bits(k + f.magic) - f.magic_bits


def exp(x: Any) -> Any:
    """e^x. Scaled in two steps: 2^128 is no float32, and denormal results round once."""
    f = _format(x)
    k, tail = _reduce(clip(x, f.exp_low, f.exp_high), f)
    k = _whole(k, f)
    half = k >> 1
    return (tail + 1.0) * _power_of_two(half, f) * _power_of_two(k - half, f)


def expm1(x: Any) -> Any:
    """e^x - 1, without cancellation near 0: 2^k (e^r - 1) + (2^k - 1), doubled last for k = 128."""
    f = _format(x)
    k, tail = _reduce(clip(x, f.expm1_low, f.exp_high), f)
    scale = _power_of_two(_whole(k, f) - 1, f)
    half = fma(tail, scale, scale - 0.5)
    return select(k == 0.0, tail, half + half)


def _lost(x: Any, number: float, total: Any) -> Any:
    """x + number - total, exactly: what their sum rounded away (Knuth's two-sum)."""
    other = total - x
    return (x - (total - other)) + (number - other)


def _log(x: Any, correction: Any, shift: Any, f: Format) -> Any:
    """log(x) - shift ln 2 + correction for a normal x; x = 2^k (1 + f)."""
    i = to_bits(x) - f.root_bits
    k = from_bits((i >> f.mantissa) + f.magic_bits) - f.magic - shift
    m = from_bits((i & ((1 << f.mantissa) - 1)) + f.root_bits) - 1.0
    low = fma(k, f.ln2_lo, correction)
    low = fma(m * m, fma(polynomial(m, f.log1p), m, -0.5), low)
    return fma(k, f.ln2_hi, m + low)


def _log_domain(result: Any, x: Any) -> Any:
    """`result` where 0 < x < inf; log's values at 0, below it, at inf and at NaN elsewhere."""
    result = select(x < math.inf, result, x)
    return select(x <= 0.0, select(x < 0.0, math.nan, like(x, -math.inf)), result)


def log(x: Any) -> Any:
    """Natural logarithm; denormals are scaled up first."""
    f = _format(x)
    small = x < f.tiny
    zero = like(x, 0.0)
    shift = select(small, f.mantissa + 2.0, zero)
    scaled = select(small, x * 2.0 ** (f.mantissa + 2), x)
    return _log_domain(_log(scaled, zero, shift, f), x)


def log1p(x: Any) -> Any:
    """log(1 + x); what the sum u = 1 + x rounds away comes back as the correction lost / u."""
    u = x + 1.0
    return _log_domain(_log(u, _lost(x, 1.0, u) / u, 0.0, _format(x)), u)


def tanh(x: Any) -> Any:
    """(e^2t - 1) / (e^2t + 1) for t = |x|, with the sign of x.

    What e^2t - 1 + 2 rounds away is given back to the quotient q: 1 / (e^2t + 1) is (1 - q) / 2.
    """
    f = _format(x)
    t = absolute(x)
    t = select(t > f.tanh_high, f.tanh_high, t)
    e = expm1(t + t)
    whole = e + 2.0
    lost = _lost(e, 2.0, whole)
    q = e / whole
    return _with_sign(fma(q * lost, fma(q, 0.5, like(q, -0.5)), q), x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), for x < 0 as e^x / (1 + e^x)."""
    e = exp(-absolute(x))
    return select(x < 0.0, e, 1.0) / (e + 1.0)


def softplus(x: Any) -> Any:
    """log(1 + e^x) as max(x, 0) + log1p(e^-|x|)."""
    return select(x > 0.0, x, 0.0) + log1p(exp(-absolute(x)))


def erf(x: Any) -> Any:
    """1 - e^-R(t) for t = |x|, R(t) = -log(erfc t), with the sign of x."""
    f = _format(x)
    t = absolute(x)
    t = select(t > f.erf_high, f.erf_high, t)
    return _with_sign(-expm1(-fma(t, polynomial(t, f.erf), t)), x)


FORMULAS: Final[dict[str, Callable[[Any], Any]]] = {
    formula.__name__: formula for formula in (exp, expm1, log, log1p, tanh, sigmoid, softplus, erf)
}

scalar_log = scalar(log)
"""For jitted code: of one float32 or float64 (with the JIT off: of a NumPy value)."""
