"""Packing: copies of B's panels, contiguous and, for B^T, transposed in registers.

A panel whose rows lie far apart shares few sets of the L1 cache and a page a row; packed, it is
read in order. Copies are vector code: Numba's scalar loops cost about 2 ns an element.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .irtools import I32, I64, POINTER, VOID, Loop, internal_function
from .prefetch import emit_prefetch
from .tiles import TileSet
from .vectors import Vectors

COPY_AHEAD = 12
"""Rows by which a copy prefetches: rows lie pages apart, where no hardware prefetcher follows."""

# (target, source, source_row, depth, columns): target is (depth, width), zero beyond `columns`.
PACK_TYPE = ir.FunctionType(VOID, [POINTER, POINTER, I64, I64, I64])
# The same with target_row and `stored`: rows of the target lie that far apart, and so many elements
# of each are written.
TRANSPOSE_TYPE = ir.FunctionType(VOID, [*PACK_TYPE.args, I64, I64])


def build_copy(module: ir.Module, tiles: TileSet, itemsize: int, vectors: int) -> ir.Function:
    """target[p, j] = source[p * source_row + j] for j < columns, 0 up to the panel's width."""
    name = f"fastbp_copy_{tiles.name}_{itemsize}_{vectors}"
    if name in module.globals:
        return module.globals[name]
    function = internal_function(module, PACK_TYPE, name)
    target, source, source_row, depth, columns = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    simd = Vectors(builder, tiles.lanes(itemsize), itemsize)
    width = vectors * simd.lanes
    rest = builder.sub(columns, ir.Constant(I64, width - simd.lanes))
    mask = simd.first(rest)
    with Loop(builder, depth, 1) as p:
        into = simd.at(target, builder.mul(p, ir.Constant(I64, width)))
        out_of = simd.at(source, builder.mul(p, source_row))
        ahead = simd.at(out_of, builder.mul(source_row, ir.Constant(I64, COPY_AHEAD)))
        for v in range(vectors):
            emit_prefetch(simd.builder, simd.at(ahead, v * simd.lanes))
            guard = mask if v == vectors - 1 else None
            value = simd.load(simd.at(out_of, v * simd.lanes), guard)
            simd.store(value, simd.at(into, v * simd.lanes))
    builder.ret_void()
    return function


def build_transpose(module: ir.Module, tiles: TileSet, itemsize: int, vectors: int) -> ir.Function:
    """target[p, j] = source[j * source_row + p] for j < columns, by blocks of lanes x lanes.

    Elements beyond `columns` are 0, those beyond `stored` are left alone.
    """
    name = f"fastbp_transpose_{tiles.name}_{itemsize}_{vectors}"
    if name in module.globals:
        return module.globals[name]
    function = internal_function(module, TRANSPOSE_TYPE, name)
    target, source, source_row, depth, columns, target_row, stored = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    simd = Vectors(builder, tiles.lanes(itemsize), itemsize)
    lanes, width = simd.lanes, vectors * simd.lanes
    with Loop(builder, ir.Constant(I64, width), lanes) as j0:
        with Loop(builder, depth, lanes) as p0:
            left = builder.sub(depth, p0)
            full = builder.and_(
                builder.icmp_signed(">=", left, ir.Constant(I64, lanes)),
                builder.icmp_signed(">=", builder.sub(columns, j0), ir.Constant(I64, lanes)),
            )
            corner = simd.at(source, builder.add(builder.mul(j0, source_row), p0))
            into = simd.at(target, builder.add(builder.mul(p0, target_row), j0))
            with builder.if_else(full) as (whole, edge):
                with whole:
                    rows = [
                        simd.load(simd.at(corner, builder.mul(source_row, ir.Constant(I64, r))))
                        for r in range(lanes)
                    ]
                    for r, value in enumerate(transposed(simd, rows)):
                        place = builder.mul(target_row, ir.Constant(I64, r))
                        simd.store(value, simd.at(into, place))
                with edge:
                    within = builder.sub(stored, j0)
                    _transpose_edge(
                        simd, corner, source_row, into, target_row, left, columns, j0, within
                    )
    builder.ret_void()
    return function


def _transpose_edge(
    simd: Vectors,
    corner: Any,
    source_row: Any,
    into: Any,
    target_row: Any,
    left: Any,
    columns: Any,
    j0: Any,
    within: Any,
) -> None:
    """An incomplete block: lanes beyond the operand count as 0, rows beyond it are not stored.

    Where no lane is wanted the address is one that is there: a processor that finds no page behind
    an access it may ignore takes 80 ns to ignore it (EPYC, Zen 4).
    """
    builder = simd.builder
    here, nowhere = simd.first(left), simd.first(ir.Constant(I64, 0))
    rows = []
    for r in range(simd.lanes):
        present = builder.icmp_signed("<", builder.add(j0, ir.Constant(I64, r)), columns)
        guard = builder.select(present, here, nowhere)
        place = simd.at(corner, builder.mul(source_row, ir.Constant(I64, r)))
        rows.append(simd.load(builder.select(present, place, corner), guard))
    kept = simd.first(within)
    for r, value in enumerate(transposed(simd, rows)):
        present = builder.icmp_signed("<", ir.Constant(I64, r), left)
        guard = builder.select(present, kept, nowhere)
        place = simd.at(into, builder.mul(target_row, ir.Constant(I64, r)))
        simd.store(value, builder.select(present, place, into), guard)


def transposed(simd: Vectors, rows: list[Any]) -> list[Any]:
    """Transpose a square block held in registers: log2(lanes) rounds of two-source shuffles."""
    lanes, builder = simd.lanes, simd.builder
    kind = ir.VectorType(I32, lanes)
    step = 1
    while step < lanes:
        low = [e if not e & step else e - step + lanes for e in range(lanes)]
        high = [e + step if not e & step else e + lanes for e in range(lanes)]
        result = list(rows)
        for r in range(lanes):
            if not r & step:
                pair = rows[r], rows[r + step]
                result[r] = builder.shuffle_vector(*pair, ir.Constant(kind, low))
                result[r + step] = builder.shuffle_vector(*pair, ir.Constant(kind, high))
        rows, step = result, 2 * step
    return rows
