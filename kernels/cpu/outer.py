"""Formulas applied to flat vectors, of which the last is an outer product that is never formed.

What `stream` does to the gradient of a whole W, `stream_outer` does to that of one sample, a d^T:
each of its elements is one product, made where it is needed. The rows of W follow each other
without a gap, so W is walked as one vector, whole lines at a time: a vector
across the end of a row takes its factor in some lanes and the next row's in the others. Row by row,
the lines that two rows share would be loaded and stored twice, under masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .irtools import first_lanes, splat
from .jit import JIT_DISABLED
from .prefetch import emit_prefetch
from .spans import BYTES
from .stream import Formula, apply, emitter, in_python

REPEATED: Final = BYTES // 4
"""Elements of d that must follow it once more: a vector that meets two rows reads on there."""

WRITE_AHEAD: Final = 16
"""Vectors by which a prefetch for writing of the first array runs ahead of what is computed.

All threads have read W when its owner writes it. Without it each line's store waits for the
others to give up their copies in turn, 80 ns a line: a step of two threads of a Xeon took 1.1 to
1.5 times as long. On an EPYC (Zen 4) it makes no difference.
"""


def stream_outer(table: Mapping[int, Formula], outputs: int) -> Any:
    """Make {code: formula} a function f(code, arrays, count, scalars, rows, factors).

    It works on `rows` stretches of `count` elements that follow each other, but for the last array:
    its first `count` elements, times factors[r], are what row r gets; they are followed by their
    first REPEATED elements once more. With rows = 0 it is `stream`.
    """
    if JIT_DISABLED:
        one = in_python(table, outputs)

        def run(code: int, arrays: Any, count: int, scalars: Any, rows: int, factors: Any) -> None:
            if rows == 0:
                one(code, arrays, count, scalars)
            for r in range(rows):
                own = [a[r * count :] for a in arrays[:-1]]
                one(code, (*own, factors[r] * arrays[-1][:count]), count, scalars)

        return run
    codegen = emitter(table, outputs, _loops)

    @intrinsic
    def door(
        typingctx: Any, code: Any, arrays: Any, count: Any, scalars: Any, rows: Any, factors: Any
    ) -> Any:
        given = (types.intp, arrays, types.intp, scalars, types.intp, factors)
        return types.void(*given), codegen

    return door


def _loops(
    builder: Any, formula: Formula, outputs: int, pointers: list[Any], count: Any,
    scalars: list[Any], kind: ir.VectorType, rows: Any, factors: Any,
) -> None:  # fmt: skip
    """Rows narrower than a vector one by one; wider ones, and a plain gradient, as one vector."""
    constants = [splat(builder, scalar, kind) for scalar in scalars]
    given = (builder, formula, outputs, pointers, count, constants, kind)
    narrow = builder.icmp_signed("<", count, count.type(kind.count))
    narrow = builder.and_(narrow, builder.icmp_signed(">", rows, rows.type(0)))
    with builder.if_else(narrow) as (then, otherwise):
        with then:
            _by_rows(*given, rows, factors)
        with otherwise:
            plain = builder.icmp_signed("==", rows, rows.type(0))
            one = cgutils.alloca_once_value(builder, ir.Constant(kind.element, 1.0))
            factors = builder.select(plain, one, factors)
            _as_one(*given, builder.select(plain, rows.type(1), rows), factors)


def _by_rows(
    builder: Any, formula: Formula, outputs: int, pointers: list[Any], count: Any,
    constants: list[Any], kind: ir.VectorType, rows: Any, factors: Any,
) -> None:  # fmt: skip
    """A masked vector a row."""
    mask = first_lanes(builder, count, kind.count)
    with cgutils.for_range_slice(builder, rows.type(0), rows, rows.type(1), rows.type) as (r, _):
        start = builder.mul(r, count)
        places = [*(builder.gep(p, [start]) for p in pointers[:-1]), pointers[-1]]
        factor = splat(builder, builder.load(builder.gep(factors, [r])), kind)
        apply(builder, formula, outputs, places, mask, constants, kind, factor)


def _as_one(
    builder: Any, formula: Formula, outputs: int, pointers: list[Any], count: Any,
    constants: list[Any], kind: ir.VectorType, rows: Any, factors: Any,
) -> None:  # fmt: skip
    """The whole vectors within each row and the one across its end, then the masked rest."""
    size = count.type
    zero, one, lanes = size(0), size(1), size(kind.count)
    total = builder.mul(rows, count)
    whole = builder.and_(total, size(-kind.count))
    done = cgutils.alloca_once_value(builder, zero)

    def vector(i: Any, start: Any, factor: Any, mask: Any = None) -> None:
        later = builder.add(i, size(WRITE_AHEAD * kind.count))
        with builder.if_then(builder.icmp_signed("<", later, whole)):
            emit_prefetch(builder, builder.gep(pointers[0], [later]), write=True)
        places = [builder.gep(p, [i]) for p in pointers[:-1]]
        places.append(builder.gep(pointers[-1], [builder.sub(i, start)]))
        apply(builder, formula, outputs, places, mask, constants, kind, factor)

    def factor_of(row: Any) -> Any:
        return splat(builder, builder.load(builder.gep(factors, [row])), kind)

    with cgutils.for_range_slice(builder, zero, rows, one, size) as (r, _):
        start = builder.mul(r, count)
        end = builder.add(start, count)
        own, last = factor_of(r), builder.and_(end, size(-kind.count))
        with cgutils.for_range_slice(builder, builder.load(done), last, lanes, size) as (i, _):
            vector(i, start, own)
        builder.store(last, done)
        across = builder.icmp_signed(
            "<", last, builder.select(builder.icmp_signed("<", end, whole), end, whole)
        )
        with builder.if_then(across):
            mask = first_lanes(builder, builder.sub(end, last), kind.count)
            vector(last, start, builder.select(mask, own, factor_of(builder.add(r, one))))
            builder.store(builder.add(last, lanes), done)
    with builder.if_then(builder.icmp_signed("<", whole, total)):
        last = builder.sub(rows, one)
        mask = first_lanes(builder, builder.sub(total, whole), kind.count)
        vector(whole, builder.mul(last, count), factor_of(last), mask)
