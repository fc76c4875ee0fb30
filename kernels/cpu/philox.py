"""Philox 4x32-10 (Salmon et al., SC 2011): random numbers that are functions of their address.

A number is never the next of a stream, so nothing depends on the number of threads or on how work
is cut. The key is the 64-bit seed; the four 32-bit counter words are

    block | step | epoch | purpose + 8 layer + 2^16 (block >> 32)

where `purpose` is a constant of `tables.py`, `layer` counts to 8191 and `block` to 2^48. All words
are held in uint64 lanes: a 32 x 32 -> 64 bit product is one instruction a vector of lanes there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .arith import fma, from_bits, to_bits
from .jit import inline

U: Final = np.uint64
LOW: Final = U(0xFFFFFFFF)
HALF: Final = U(32)
SIXTEEN: Final = U(16)
MULTIPLY_0: Final = U(0xD2511F53)
MULTIPLY_1: Final = U(0xCD9E8D57)
WEYL_0: Final = U(0x9E3779B9)
WEYL_1: Final = U(0xBB67AE85)
LAYERS: Final = 8192
BLOCKS: Final = 1 << 48

Words = tuple[Any, Any, Any, Any]


@inline
def rounds(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Words:
    """The ten rounds on four counter words and two key words (uint64 below 2^32)."""
    for _ in range(10):
        p0 = MULTIPLY_0 * c0
        p1 = MULTIPLY_1 * c2
        c0 = (p1 >> HALF) ^ c1 ^ k0
        c1 = p1 & LOW
        c2 = (p0 >> HALF) ^ c3 ^ k1
        c3 = p0 & LOW
        k0 = (k0 + WEYL_0) & LOW
        k1 = (k1 + WEYL_1) & LOW
    return c0, c1, c2, c3


@inline
def tag(purpose: int, layer: int) -> Any:
    """The last counter word but for the high bits of the block."""
    return U(purpose + 8 * layer)


@inline
def draw(block: Any, step: Any, epoch: Any, label: Any, seed: Any) -> Words:
    """The four words at an address; `label` comes from `tag`, all arguments are uint64."""
    high = label | ((block >> HALF) << SIXTEEN)
    return rounds(block & LOW, step & LOW, epoch & LOW, high, seed & LOW, seed >> HALF)


@inline
def accept(word: Any, bound: Any) -> tuple[Any, Any]:
    """Lemire's bounded integer (2019): word * bound / 2^32, and whether it is one of the words
    that make every result equally likely. `bound` is at most 2^32."""
    product = word * bound
    low = product & LOW
    good = low >= bound or low >= (LOW + U(1) - bound) % bound
    return product >> HALF, good


# Integers to floats by their bits: exact, and a vector operation on every machine.
_TWO_52: Final = 4503599627370496.0
_TWO_52_BITS: Final = U(0x4330000000000000)


@inline
def to_float(word: Any) -> Any:
    """A uint64 below 2^52 as float64."""
    return from_bits(np.int64(word | _TWO_52_BITS)) - _TWO_52


@inline
def uniform(high: Any, low: Any) -> Any:
    """A float64 in (0, 1) from two words: the midpoint of one of 2^52 equal cells."""
    return (to_float((high << U(20)) | (low >> U(12))) + 0.5) * 2.0**-52


_ROOT_HALF_BITS: Final = U(0x3FE6A09E667F3BCD)
_BIAS: Final = U(1023)
_MANTISSA: Final = U(52)


@inline
def log(u: Any) -> Any:
    """Natural logarithm of a positive normal float64, within 1 ulp: fdlibm's e_log.c, branch-free.

    u = 2^e m with m in [sqrt(1/2), sqrt(2)); log m from s = (m - 1) / (m + 1).
    """
    bits = U(to_bits(u))
    biased = (bits - _ROOT_HALF_BITS + (_BIAS << _MANTISSA)) >> _MANTISSA
    e = to_float(biased) - 1023.0
    f = from_bits(np.int64(bits - (biased << _MANTISSA) + (_BIAS << _MANTISSA))) - 1.0
    s = f / (2.0 + f)
    z = s * s
    r = fma(z, 1.479819860511658591e-01, 1.531383769920937332e-01)
    r = fma(z, r, 1.818357216161805012e-01)
    r = fma(z, r, 2.222219843214978396e-01)
    r = fma(z, r, 2.857142874366239149e-01)
    r = fma(z, r, 3.999999999940941908e-01)
    r = fma(z, r, 6.666666666666735130e-01)
    half = 0.5 * f * f
    tail = fma(s, fma(z, r, half), e * 1.90821492927058770002e-10)
    return fma(e, 6.93147180369123816490e-01, f - (half - tail))


@inline
def normal_pair(radius: Any, angle: Any) -> tuple[Any, Any]:
    """Two independent N(0, 1) from two words (Box and Muller): R cos t and R sin t with
    R = sqrt(-2 log u). The largest |z| is sqrt(66 log 2) = 6.76.

    The two top bits of `angle` are the quadrant, the rest places t within +-pi/4 of its middle,
    where fdlibm's polynomials give sine and cosine.
    """
    r = np.sqrt(-2.0 * log((to_float(radius) + 0.5) * 2.0**-32))
    k = angle >> U(30)
    fraction = (to_float(angle & U(0x3FFFFFFF)) + (0.5 - 2.0**29)) * 2.0**-30
    x = fraction * 1.5707963267948966
    z = x * x
    p = fma(z, 1.58969099521155010221e-10, -2.50507602534068634195e-08)
    p = fma(z, p, 2.75573137070700676789e-06)
    p = fma(z, p, -1.98412698298579493134e-04)
    p = fma(z, p, 8.33333333332248946124e-03)
    p = fma(z, p, -1.66666666666666324348e-01)
    sine = fma(x * z, p, x)
    c = fma(z, -1.13596475577881948265e-11, 2.08757232129817482790e-09)
    c = fma(z, c, -2.75573143513906633035e-07)
    c = fma(z, c, 2.48015872894767294178e-05)
    c = fma(z, c, -1.38888888888741095749e-03)
    c = fma(z, c, 4.16666666666666019037e-02)
    cosine = fma(z * z, c, fma(z, -0.5, 1.0))
    odd = (k & U(1)) == U(1)
    bits = U(to_bits(r))
    along = from_bits(np.int64(bits ^ (((k ^ (k >> U(1))) & U(1)) << U(63))))
    across = from_bits(np.int64(bits ^ ((k >> U(1)) << U(63))))
    return along * (sine if odd else cosine), across * (cosine if odd else sine)
