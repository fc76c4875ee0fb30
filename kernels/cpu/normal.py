"""Uniform and normal float64 from random words, in operations that vectorise on every machine.

Nothing here depends on a mathematical library: with a fused multiply-add, the same words give the
same bits on every machine.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .arith import fma, from_bits, to_bits
from .jit import inline

U: Final = np.uint64
TWO_52: Final = 4503599627370496.0
TWO_52_BITS: Final = U(0x4330000000000000)
ROOT_HALF_BITS: Final = U(0x3FE6A09E667F3BCD)
ONE_BITS: Final = U(0x3FF0000000000000)


@inline
def to_float(word: Any) -> Any:
    """A uint64 below 2^52 as float64, by its bits: exact."""
    return from_bits(np.int64(word | TWO_52_BITS)) - TWO_52


@inline
def uniform(high: Any, low: Any) -> Any:
    """A float64 in (0, 1) from two words: the middle of one of 2^52 equal cells."""
    return (to_float((high << U(20)) | (low >> U(12))) + 0.5) * 2.0**-52


@inline
def log(u: Any) -> Any:
    """Natural logarithm of a positive normal float64, within 1 ulp: fdlibm's e_log.c, branch-free.

    u = 2^e m with m in [sqrt(1/2), sqrt(2)); log m from s = (m - 1) / (m + 1).
    """
    bits = U(to_bits(u))
    biased = (bits - ROOT_HALF_BITS + ONE_BITS) >> U(52)
    e = to_float(biased) - 1023.0
    f = from_bits(np.int64(bits + ONE_BITS - (biased << U(52)))) - 1.0
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
def sine(x: Any, z: Any) -> Any:
    """sin x for |x| <= pi / 4 and z = x * x (fdlibm's k_sin.c)."""
    p = fma(z, 1.58969099521155010221e-10, -2.50507602534068634195e-08)
    p = fma(z, p, 2.75573137070700676789e-06)
    p = fma(z, p, -1.98412698298579493134e-04)
    p = fma(z, p, 8.33333333332248946124e-03)
    p = fma(z, p, -1.66666666666666324348e-01)
    return fma(x * z, p, x)


@inline
def cosine(z: Any) -> Any:
    """cos x for |x| <= pi / 4 and z = x * x (fdlibm's k_cos.c)."""
    p = fma(z, -1.13596475577881948265e-11, 2.08757232129817482790e-09)
    p = fma(z, p, -2.75573143513906633035e-07)
    p = fma(z, p, 2.48015872894767294178e-05)
    p = fma(z, p, -1.38888888888741095749e-03)
    p = fma(z, p, 4.16666666666666019037e-02)
    return fma(z * z, p, fma(z, -0.5, 1.0))


@inline
def normal_pair(radius: Any, angle: Any) -> tuple[Any, Any]:
    """Two independent N(0, 1) from two words (Box and Muller): R cos t and R sin t with
    R = sqrt(-2 log u). The largest |z| is sqrt(66 log 2) = 6.76.

    The two top bits of `angle` are the quadrant, the rest places t within pi / 4 of its middle.
    """
    r = np.sqrt(-2.0 * log((to_float(radius) + 0.5) * 2.0**-32))
    k = angle >> U(30)
    x = (to_float(angle & U(0x3FFFFFFF)) + (0.5 - 2.0**29)) * (1.5707963267948966 * 2.0**-30)
    z = x * x
    s = sine(x, z)
    c = cosine(z)
    odd = (k & U(1)) != U(0)
    bits = U(to_bits(r))
    along = from_bits(np.int64(bits ^ (((k ^ (k >> U(1))) & U(1)) << U(63))))
    across = from_bits(np.int64(bits ^ ((k >> U(1)) << U(63))))
    return along * (s if odd else c), across * (c if odd else s)
