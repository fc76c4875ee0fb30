"""exp, expm1, log, log1p, tanh, sigmoid, softplus and erf without libm, so that they vectorise.

Formulas for `lanes`: no branches, no tables, one polynomial each, the same source for float32 and
float64. Import `exp` and so on from here for use inside jitted code; the plain formulas are in
`FORMULAS` and are what `spans` takes.

Bounds, in units in the last place of the correctly rounded result, tested on more than 10^6 points:

| | exp | expm1 | log | log1p | tanh | sigmoid | softplus | erf |
|---|---|---|---|---|---|---|---|---|
| float32 | 1 | 1.5 | 1 | 1.5 | 2 | 2 | 2 | 2 |
| float64 | 1 | 1.5 | 1 | 1.5 | 2 | 2 | 2 | 2.5 |

NaN gives NaN, inf and overflow what IEEE 754 says, log(0) is -inf, log(-1) NaN; the sign of a zero is
not promised. With denormals honoured the bounds hold down to the smallest denormal. With denormals
flushed (every kernel and the training loop: `memory.flush_denormals`) a denormal argument counts
as 0 and a result that would be denormal is 0.

Coefficients: weighted Remez fits in 60 digits, of the relative error of the function itself. Methods:
Cody and Waite, Software Manual for the Elementary Functions (1980), for the reductions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .lanes import fma, from_bits, is_single, like, scalar, select, to_bits


@dataclass(frozen=True)
class Format:
    """The constants of one float type.

    Attributes:
        mantissa, bias: bits of the fraction, and the exponent's offset.
        magic: 1.5 * 2^mantissa; adding it rounds to an integer, which its low bits then hold.
        ln2_hi, ln2_lo: ln 2 in two parts, the first with enough trailing zeros for exact products.
        exp_low, exp_high: beyond them exp is 0 or inf.
        expm1_low, tanh_high, erf_high: beyond them the result is -1 or 1.
        expm1: (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2.
        log1p: (log(1 + f) - f + f^2 / 2) / f^3 for 1 + f from sqrt(1/2) to sqrt(2).
        erf: -log(erfc t) / t - 1 for 0 <= t <= erf_high.
    """

    mantissa: int
    bias: int
    ln2_hi: float
    ln2_lo: float
    exp_low: float
    exp_high: float
    expm1_low: float
    tanh_high: float
    erf_high: float
    expm1: tuple[float, ...]
    log1p: tuple[float, ...]
    erf: tuple[float, ...]

    @property
    def magic(self) -> float:
        return 1.5 * 2.0**self.mantissa

    @property
    def magic_bits(self) -> int:
        return ((self.bias + self.mantissa) << self.mantissa) | (1 << self.mantissa - 1)

    @property
    def sign_bit(self) -> int:
        return -(1 << self.mantissa + self.bias.bit_length() + 1)

    @property
    def tiny(self) -> float:
        return 2.0 ** (1 - self.bias)

    @property
    def root_bits(self) -> int:
        """Bits of sqrt(1/2), cut to 23 of its fraction."""
        return ((self.bias - 1) << self.mantissa) | (0x3504F3 << self.mantissa - 23)


SINGLE: Final = Format(
    mantissa=23,
    bias=127,
    ln2_hi=0.693145751953125,
    ln2_lo=1.428606765330187e-06,
    exp_low=-104.0,
    exp_high=89.0,
    expm1_low=-20.0,
    tanh_high=10.0,
    erf_high=4.0,
    expm1=(
        0.5000000044611254,
        0.1666666636264834,
        0.041666358634032875,
        0.0083333906423565,
        0.0013940824675709638,
        0.00019845500953390494,
    ),
    log1p=(
        0.3333331262730795,
        -0.2500000957439322,
        0.20002118049205378,
        -0.1666799762683537,
        0.14219561024294505,
        -0.12405552374887617,
        0.11888086259754228,
        -0.1167588420875479,
        0.06747074226746813,
    ),
    erf=(
        0.1283791716085497,
        0.6366193821507374,
        0.10277782863813066,
        -0.019153056671935075,
        -0.00016040899249880383,
        0.001667038791434876,
        -0.0006328415010216276,
        0.00011764195338266197,
        -9.25625511892196e-06,
    ),
)

DOUBLE: Final = Format(
    mantissa=52,
    bias=1023,
    ln2_hi=0.6931471803691238,
    ln2_lo=1.9082149292705877e-10,
    exp_low=-746.0,
    exp_high=710.0,
    expm1_low=-40.0,
    tanh_high=20.0,
    erf_high=6.0,
    expm1=(
        0.5,
        0.16666666666666677,
        0.041666666666666505,
        0.008333333333321513,
        0.0013888888888963485,
        0.0001984126988647772,
        2.4801587171078417e-05,
        2.7557243803720627e-06,
        2.755740326510893e-07,
        2.5109195287036297e-08,
        2.087532822009384e-09,
    ),
    log1p=(
        0.3333333333333314,
        -0.24999999999987976,
        0.20000000000066606,
        -0.16666666669826,
        0.1428571428009398,
        -0.12499999691433575,
        0.11111111147403428,
        -0.10000015206620264,
        0.09090923934441211,
        -0.0833291353369539,
        0.07691529758853267,
        -0.0714943956356535,
        0.06684589913414377,
        -0.0619667873744067,
        0.05668372275205241,
        -0.056777768067839934,
        0.06503503373973596,
        -0.05981735912076545,
        0.026151130428353906,
    ),
    erf=(
        0.12837916709551256,
        0.6366197723675836,
        0.10277260330178882,
        -0.019128447005071752,
        -0.0002091946948245996,
        0.0016962063856070645,
        -0.0005901255521857862,
        2.5878601711706555e-05,
        6.449186771647615e-05,
        -2.9724060104082256e-05,
        3.4072874292579186e-06,
        2.8351132382020624e-06,
        -1.7415213541041863e-06,
        3.3634468857456534e-07,
        1.3719419886882627e-07,
        -1.4176777606354884e-07,
        6.573573430610785e-08,
        -2.096334521871562e-08,
        4.9978750109160455e-09,
        -9.082559237954507e-10,
        1.2484598687354852e-10,
        -1.2611561565289119e-11,
        8.846018025894374e-13,
        -3.8507444402417206e-14,
        7.834686884410801e-16,
    ),
)


def _format(x: Any) -> Format:
    return SINGLE if is_single(x) else DOUBLE


def _polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's rule; coefficients from the constant up."""
    result = fma(x, coefficients[-1], like(x, coefficients[-2]))
    for coefficient in coefficients[-3::-1]:
        result = fma(result, x, coefficient)
    return result


def clip(x: Any, low: float, high: float) -> Any:
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
    return k, fma(_polynomial(r, f.expm1) * r, r, r)


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
    low = fma(m * m, fma(_polynomial(m, f.log1p), m, -0.5), low)
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
    return _with_sign(-expm1(-fma(t, _polynomial(t, f.erf), t)), x)


FORMULAS: Final[dict[str, Callable[[Any], Any]]] = {
    formula.__name__: formula for formula in (exp, expm1, log, log1p, tanh, sigmoid, softplus, erf)
}

# For jitted code: functions of one float32 or float64 (with the JIT off: of NumPy values).
scalar_exp, scalar_expm1, scalar_log, scalar_log1p = map(scalar, (exp, expm1, log, log1p))
scalar_tanh, scalar_sigmoid, scalar_softplus, scalar_erf = map(
    scalar, (tanh, sigmoid, softplus, erf)
)
