"""The constants of the elementary functions in float32 and float64.

The polynomials are weighted Remez fits in 60 digits: minimax of the relative error of the function
they serve, 2^-28 to 2^-32 for float32 and 2^-56 to 2^-62 for float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Format:
    """The constants of one float type.

    Attributes:
        mantissa, bias: bits of the fraction, and the exponent's offset.
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
        """What to add to round to an integer, which the low bits then hold."""
        return 1.5 * 2.0**self.mantissa

    @property
    def magic_bits(self) -> int:
        """The bits of `magic`."""
        return ((self.bias + self.mantissa) << self.mantissa) | (1 << self.mantissa - 1)

    @property
    def sign_bit(self) -> int:
        """The sign bit, as a signed integer."""
        return -(1 << self.mantissa + self.bias.bit_length() + 1)

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)

    @property
    def root_bits(self) -> int:
        """The bits of sqrt(1/2), cut to 23 of its fraction."""
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
