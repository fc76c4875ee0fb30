"""N(0, 1) from random words (Box and Muller), as vector IR: no library, no branch.

Two words make two numbers R cos t and R sin t with R = sqrt(-2 log u). u is the first word's place
in (0, 1), so |z| reaches sqrt(66 log 2) = 6.764; the second word is the angle, its two top bits the
quadrant and the rest t's distance from the quadrant's middle, at most pi / 4. float32 numbers are
computed in float32.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .elementary import log, polynomial
from .irtools import I32
from .jit import JIT_DISABLED
from .lanes import Lanes, fma, is_single, select
from .philox import CHUNK, LANES
from .stream import root

# sin x = x + x^3 S(x^2) and cos x = 1 - x^2 / 2 + x^4 C(x^2) for |x| <= pi / 4, constant first:
# of Cephes (sinf.c) in float32 and of fdlibm (k_sin.c, k_cos.c) in float64, both below 1 ulp.
_SINE: Final = {
    True: (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4),
    False: (
        -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
        2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10,
    ),
}  # fmt: skip
_COSINE: Final = {
    True: (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5),
    False: (
        4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
        -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11,
    ),
}  # fmt: skip


def _to_float(words: Any, kind: Any, signed: bool) -> Any:
    """32-bit words as floats, rounded to nearest."""
    if not isinstance(words, Lanes):
        return words.view(np.int32 if signed else np.uint32).astype(kind)
    convert = words.builder.sitofp if signed else words.builder.uitofp
    return Lanes(words.builder, convert(words.value, kind))


def normal_pair(first: Any, second: Any, kind: Any) -> tuple[Any, Any]:
    """Two independent N(0, 1) of the float type `kind` from two vectors of words (signed lanes)."""
    u = fma(_to_float(first, kind, False), 2.0**-32, 2.0**-33)
    r = root(log(u) * -2.0)
    middle = (second & 0x3FFFFFFF) - 0x20000000
    x = fma(_to_float(middle, kind, True), math.pi * 2.0**-31, math.pi * 2.0**-32)
    z = x * x
    sine = fma(x * z, polynomial(z, _SINE[is_single(x)]), x)
    cosine = fma(z * z, polynomial(z, _COSINE[is_single(x)]), fma(z, -0.5, 1.0))
    quadrant = (second >> 30) & 3
    odd = (quadrant & 1) != 0
    left = ((quadrant + 1) & 2) != 0
    along = select(left, -r, r)
    across = select(second < 0, -r, r)
    return along * select(odd, sine, cosine), across * select(odd, cosine, sine)


def _python(words: np.ndarray, z: np.ndarray, count: int) -> None:
    w = words[: 4 * CHUNK].view(np.int32).reshape(4, CHUNK)
    out = z.reshape(4, CHUNK)
    out[0], out[1] = normal_pair(w[0], w[1], z.dtype)
    out[2], out[3] = normal_pair(w[2], w[3], z.dtype)


@intrinsic
def _fill(typingctx: Any, words: Any, z: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, target = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(sig.args[:2], args[:2], strict=True)
        )
        integers = ir.VectorType(I32, LANES)
        floats = ir.VectorType(context.get_value_type(z.dtype), LANES)
        size = args[2].type
        loop = cgutils.for_range_slice(builder, size(0), args[2], size(LANES), size)
        with loop as (t, _):
            for w in (0, 2):
                at = [builder.add(t, size((w + i) * CHUNK)) for i in (0, 1)]
                first, second = (
                    Lanes(builder, _load(builder, source, place, integers)) for place in at
                )
                pair = normal_pair(first, second, floats)
                for place, value in zip(at, pair, strict=True):
                    pointer = builder.bitcast(builder.gep(target, [place]), floats.as_pointer())
                    builder.store(value.value, pointer, align=4)
        return context.get_dummy_value()

    return types.void(words, z, types.intp), codegen


def _load(builder: Any, data: Any, place: Any, kind: Any) -> Any:
    return builder.load(builder.bitcast(builder.gep(data, [place]), kind.as_pointer()), align=4)


fill_normals: Any = _python if JIT_DISABLED else _fill
"""`fill_normals(words, z, count)`: N(0, 1) for the first `count` blocks of a buffer of words; z is
of the same length and layout, and rounded up to LANES blocks."""
