"""AVX512_BF16 tiles: a panel of C from packed operands, 8 rows x 32 columns in registers.

    C[i, :] = finish(start + sum_p A[i, p] * B[p, :])        for all rows i, pairs p

as in `tiles.py`, whose names for starts and finishes are used. Every element is one chain in the
order of the pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from llvmlite import ir

from .bf16_packing import GROUP, TILE_BYTES, BF16Vectors, number
from .irtools import I64, POINTER, VOID, Loop, internal_function
from .tiles import FINISH_MASK, FINISH_RELU, START_BIAS, START_C

HEIGHTS: Final = (8, 4, 2, 1)  # 16 accumulators: more than a multiplication's latency of 6 needs

# Arguments of a block function: `room` is 4 KB + 128 bytes of scratch, `group` the bytes from one
# group of A's rows to the next, `here` the panel's columns.
BLOCK_ARGUMENTS: Final = (
    "a", "b", "c", "bias", "beside", "room", "rows", "steps", "group", "c_row", "beside_row",
    "here", "start", "finish",
)  # fmt: skip
BLOCK_POINTERS: Final = 6
BLOCK_TYPE: Final = ir.FunctionType(
    VOID, [POINTER] * BLOCK_POINTERS + [I64] * (len(BLOCK_ARGUMENTS) - BLOCK_POINTERS)
)


def build_dots(module: ir.Module, vectors: int) -> ir.Function:
    """Emit (once a module) the block function of `vdpbf16ps` for panels of 1 or 2 vectors."""
    name = f"fastbp_bf16_dots_{vectors}"
    if name in module.globals:
        return module.globals[name]
    function = internal_function(module, BLOCK_TYPE, name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    simd = BF16Vectors(builder)
    arg = dict(zip(BLOCK_ARGUMENTS, function.args, strict=True))
    masks = panel_masks(simd, arg["here"], vectors)
    row: Any = number(0)
    for height in HEIGHTS:
        row = _rows_of(simd, arg, masks, height, row)
    builder.ret_void()
    return function


def panel_masks(simd: BF16Vectors, here: Any, vectors: int) -> list[Any]:
    """None for every vector but the last, whose columns may end within it."""
    rest = simd.builder.sub(here, number(GROUP * (vectors - 1)))
    return [None] * (vectors - 1) + [simd.first(rest)]


def _rows_of(
    simd: BF16Vectors, arg: dict[str, Any], masks: list[Any], height: int, first: Any
) -> Any:
    """As many tiles of this height as fit; the row after them is returned."""
    builder = simd.builder
    left = builder.sub(arg["rows"], first)
    count = builder.sdiv(left, number(height))
    with Loop(builder, count, 1) as t:
        _tile(simd, arg, masks, height, builder.add(first, builder.mul(t, number(height))))
    return builder.add(first, builder.mul(count, number(height)))


def _tile(simd: BF16Vectors, arg: dict[str, Any], masks: list[Any], height: int, row: Any) -> None:
    builder, vectors = simd.builder, len(masks)
    cells = [(i, v) for i in range(height) for v in range(vectors)]
    group, within = builder.udiv(row, number(GROUP)), builder.urem(row, number(GROUP))
    floats = TILE_BYTES // 4
    block = builder.mul(group, builder.udiv(arg["group"], number(4)))
    a = simd.at(arg["a"], builder.add(block, builder.mul(within, number(GROUP))))
    c = simd.at(arg["c"], builder.mul(row, arg["c_row"]))
    with builder.goto_entry_block():  # from where LLVM makes registers of them
        sums = [builder.alloca(simd.type) for _ in cells]
    _start(simd, arg, masks, cells, c, sums)
    with Loop(builder, arg["steps"], 1) as s:
        at_a = simd.at(a, builder.mul(s, number(floats)))
        at_b = simd.at(arg["b"], builder.mul(s, number(2 * floats)))
        totals = [builder.load(place, typ=simd.type) for place in sums]
        for p in range(GROUP):
            b = [simd.load(simd.at(at_b, 2 * GROUP * p + GROUP * v)) for v in range(vectors)]
            pairs = [simd.broadcast(simd.at(at_a, GROUP * i + p)) for i in range(height)]
            totals = [
                simd.multiplied(total, pairs[i], b[v])
                for (i, v), total in zip(cells, totals, strict=True)
            ]
        for place, total in zip(sums, totals, strict=True):
            builder.store(total, place)
    beside = simd.at(arg["beside"], builder.mul(row, arg["beside_row"]))
    for finish in finishes(simd, arg["finish"]):
        for (i, v), place in zip(cells, sums, strict=True):
            at = simd.at(c, builder.add(builder.mul(arg["c_row"], number(i)), number(GROUP * v)))
            over = builder.add(builder.mul(arg["beside_row"], number(i)), number(GROUP * v))
            total = builder.load(place, typ=simd.type)
            value = finished(simd, finish, total, simd.at(beside, over), masks[v])
            simd.store(value, at, masks[v])


def _start(
    simd: BF16Vectors,
    arg: dict[str, Any],
    masks: list[Any],
    cells: list[Any],
    c: Any,
    sums: list[Any],
) -> None:
    """Accumulators: zero, the bias row, or what C holds."""
    builder = simd.builder
    for place in sums:
        builder.store(simd.zero, place)
    with builder.if_then(builder.icmp_signed("==", arg["start"], number(START_BIAS))):
        for (_, v), place in zip(cells, sums, strict=True):
            builder.store(simd.load(simd.at(arg["bias"], GROUP * v), masks[v]), place)
    with builder.if_then(builder.icmp_signed("==", arg["start"], number(START_C))):
        for (i, v), place in zip(cells, sums, strict=True):
            at = simd.at(c, builder.add(builder.mul(arg["c_row"], number(i)), number(GROUP * v)))
            builder.store(simd.load(at, masks[v]), place)


def finishes(simd: BF16Vectors, finish: Any) -> Iterator[int]:
    """A branch for each epilogue, entered where `finish` is it: yields which is to be emitted."""
    builder = simd.builder
    function = builder.function
    done = function.append_basic_block("finished")
    plain = function.append_basic_block("plain")
    choice = builder.switch(finish, plain)
    blocks = {0: plain}
    for which in (FINISH_RELU, FINISH_MASK):
        blocks[which] = function.append_basic_block("finish")
        choice.add_case(which, blocks[which])
    for which, block in blocks.items():
        builder.position_at_end(block)
        yield which
        builder.branch(done)
    builder.position_at_end(done)


def finished(simd: BF16Vectors, finish: int, total: Any, beside: Any, mask: Any) -> Any:
    """An accumulator after its epilogue: as it is, relu, or 0 where relu's output was 0."""
    if finish == FINISH_RELU:
        return simd.unless_at_most_zero(total, total)
    if finish == FINISH_MASK:
        return simd.unless_at_most_zero(simd.load(beside, mask), total)
    return total
