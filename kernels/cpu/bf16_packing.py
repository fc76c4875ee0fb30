"""Packing for bfloat16 products: operands are rounded on their way into the order the tiles read.

Two neighbours along the depth share 32 bits, the unit that the instructions multiply. Units (rows
of A, columns of B) go in groups of 16, depth in steps of 32, with zeros beyond the operand:

    tiles of A    [group][step][16 units][16 pairs]        what a row of a tile register is
    pairs of B    [panel][step][16 pairs][32 units]        two groups make a panel

An operand is read as it lies: its depth contiguous (A, and W for dZ W^T), or its units (W, and both
operands of A^T dZ). Blocks of 16 x 16 pairs are transposed in registers where the order read is not
the order wanted. Rounding is to nearest even, NaN stays NaN, denormals become 0.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir

from .irtools import I32, I64, POINTER, VOID, Loop, call_intrinsic, internal_function
from .packing import transposed
from .prefetch import emit_prefetch
from .vectors import Vectors

GROUP: Final = 16  # units of a group, and pairs of a step
STEP: Final = 32  # depth of a step
PANEL: Final = 2 * GROUP
TILE_BYTES: Final = 1024
READ_AHEAD: Final = 8  # rows prefetched where they are read one by one
TILES, PAIRS = range(2)
DEPTH_CONTIGUOUS, UNIT_CONTIGUOUS = range(2)

# (target, source, source_row, units, depth)
PACK_TYPE: Final = ir.FunctionType(VOID, [POINTER, POINTER, I64, I64, I64])


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


class BF16Vectors(Vectors):
    """Vectors of 16 float32, and of the 32 bfloat16 that two of them round to."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        super().__init__(builder, GROUP, 4)
        self.halves = ir.VectorType(_BFloat(), STEP)
        self.shorts = ir.VectorType(ir.IntType(16), STEP)

    def rounded(self, low: Any, high: Any) -> Any:
        """32 bfloat16, those of `low` first, as a vector of 16 floats that only moves."""
        name = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
        return call_intrinsic(self.builder, name, self.halves, [high, low])

    def interleaved(self, halves: Any) -> Any:
        """a0 b0 a1 b1 ... of a0 a1 ... b0 b1 ..."""
        shorts = self.builder.bitcast(halves, self.shorts)
        order = [i // 2 + GROUP * (i % 2) for i in range(STEP)]
        mask = ir.Constant(ir.VectorType(I32, STEP), order)
        return self.builder.shuffle_vector(shorts, ir.Constant(self.shorts, ir.Undefined), mask)

    def as_pairs(self, value: Any) -> Any:
        return self.builder.bitcast(value, self.type)

    def multiplied(self, total: Any, a: Any, b: Any) -> Any:
        """total + the products of 16 pairs."""
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        pairs = [self.builder.bitcast(x, self.halves) for x in (a, b)]
        return call_intrinsic(self.builder, name, self.type, [total, *pairs])


def number(value: int) -> Any:
    """An int64 constant."""
    return ir.Constant(I64, value)


def build_pack(module: ir.Module, target_form: int, source_form: int) -> ir.Function:
    """Emit (once a module) the packing of one form of operand into another."""
    if (target_form, source_form) == (PAIRS, UNIT_CONTIGUOUS):
        return build_row_pack(module)
    name = f"fastbp_bf16_pack_{target_form}_{source_form}"
    if name in module.globals:
        return module.globals[name]
    function = internal_function(module, PACK_TYPE, name)
    target, source, source_row, units, depth = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    simd = BF16Vectors(builder)
    steps = builder.udiv(builder.add(depth, number(STEP - 1)), number(STEP))
    # The inner loop follows the lines of memory.
    loops = [(units, GROUP), (depth, STEP)]
    if source_form == UNIT_CONTIGUOUS:
        loops.reverse()
    with Loop(builder, *loops[0]) as outer:
        with Loop(builder, *loops[1]) as inner:
            unit, k = (outer, inner) if source_form == DEPTH_CONTIGUOUS else (inner, outer)
            step = builder.udiv(k, number(STEP))
            place = _place(simd, target, target_form, unit, step, steps)
            units_left, depth_left = builder.sub(units, unit), builder.sub(depth, k)
            whole = builder.and_(
                builder.icmp_signed(">=", units_left, number(GROUP)),
                builder.icmp_signed(">=", depth_left, number(STEP)),
            )
            with builder.if_else(whole) as (inside, edge):
                for branch, left in ((inside, None), (edge, (units_left, depth_left))):
                    with branch:
                        at = _corner(simd, source, source_row, source_form, unit, k)
                        _block(simd, place, target_form, at, source_row, source_form, left)
    builder.ret_void()
    return function


def build_row_pack(module: ir.Module) -> ir.Function:
    """Emit (once a module) the packing of units into pairs, two rows of the operand at a time.

    Nothing is transposed, so memory is read in its order, along a row for all panels.
    """
    name = "fastbp_bf16_pack_rows"
    if name in module.globals:
        return module.globals[name]
    function = internal_function(module, PACK_TYPE, name)
    target, source, source_row, units, depth = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    simd = BF16Vectors(builder)
    floats = TILE_BYTES // 4
    steps = builder.udiv(builder.add(depth, number(STEP - 1)), number(STEP))
    panel_size = builder.mul(steps, number(2 * floats))
    with Loop(builder, builder.mul(steps, number(GROUP)), 1) as p:
        k = builder.mul(p, number(2))
        row = simd.at(source, builder.mul(k, source_row))
        into = simd.at(target, builder.mul(p, number(PANEL)))
        left = builder.sub(depth, k)
        with Loop(builder, units, PANEL) as unit:
            place = builder.mul(builder.udiv(unit, number(PANEL)), panel_size)
            units_left = builder.sub(units, unit)
            whole = builder.and_(
                builder.icmp_signed(">=", units_left, number(PANEL)),
                builder.icmp_signed(">=", left, number(2)),
            )
            with builder.if_else(whole) as (inside, edge):
                for branch, masked in ((inside, False), (edge, True)):
                    with branch:
                        for g in range(PANEL // GROUP):
                            guard = None
                            if masked:
                                guard = simd.first(builder.sub(units_left, number(GROUP * g)))
                            value = _pair_of_rows(simd, row, source_row, unit, g, guard, left)
                            at = simd.at(into, builder.add(place, number(GROUP * g)))
                            simd.store(value, at)
    builder.ret_void()
    return function


def _pair_of_rows(
    simd: BF16Vectors, row: Any, source_row: Any, unit: Any, group: int, guard: Any, left: Any
) -> Any:
    """16 pairs from two rows of which `left` are there, all lanes or those of `guard`."""
    builder = simd.builder
    found = []
    for i in range(2):
        at = builder.add(builder.mul(source_row, number(i)), unit)
        at = simd.at(simd.at(row, at), GROUP * group)
        there = None if guard is None else builder.icmp_signed(">", left, number(i))
        if guard is None:
            emit_prefetch(simd.builder, simd.at(at, builder.mul(source_row, number(READ_AHEAD))))
        found.append(simd.load(at, _both(simd, guard, there)))
    return simd.as_pairs(simd.interleaved(simd.rounded(*found)))


def _place(simd: BF16Vectors, target: Any, form: int, unit: Any, step: Any, steps: Any) -> Any:
    """Where the block of a group and a step goes."""
    builder = simd.builder
    group = builder.udiv(unit, number(GROUP))
    floats = TILE_BYTES // 4
    if form == TILES:
        block = builder.add(builder.mul(group, steps), step)
        return simd.at(target, builder.mul(block, number(floats)))
    panel, half = builder.udiv(group, number(2)), builder.urem(group, number(2))
    block = builder.add(builder.mul(panel, steps), step)
    at = builder.add(builder.mul(block, number(2 * floats)), builder.mul(half, number(GROUP)))
    return simd.at(target, at)


def _corner(simd: BF16Vectors, source: Any, row: Any, form: int, unit: Any, k: Any) -> Any:
    outer, inner = (unit, k) if form == DEPTH_CONTIGUOUS else (k, unit)
    return simd.at(source, simd.builder.add(simd.builder.mul(outer, row), inner))


def _block(
    simd: BF16Vectors, place: Any, target_form: int, at: Any, row: Any, source_form: int, left: Any
) -> None:
    """16 units x 16 pairs; `left` (units, depth) where the operand ends within the block."""
    builder = simd.builder
    vectors = []
    if source_form == DEPTH_CONTIGUOUS:
        guards: list[Any] = [None, None]
        if left is not None:
            guards = [simd.first(builder.sub(left[1], number(GROUP * h))) for h in range(2)]
        for u in range(GROUP):
            there = None if left is None else builder.icmp_signed(">", left[0], number(u))
            line = simd.at(at, builder.mul(row, number(u)))
            low, high = (
                simd.load(simd.at(line, GROUP * h), _both(simd, guards[h], there)) for h in range(2)
            )
            vectors.append(simd.as_pairs(simd.rounded(low, high)))
    else:
        guard = None if left is None else simd.first(left[0])
        for p in range(GROUP):
            rows = []
            for k in (2 * p, 2 * p + 1):
                there = None if left is None else builder.icmp_signed(">", left[1], number(k))
                line = simd.at(at, builder.mul(row, number(k)))
                rows.append(simd.load(line, _both(simd, guard, there)))
            vectors.append(simd.as_pairs(simd.interleaved(simd.rounded(*rows))))
    if (target_form == TILES) != (source_form == DEPTH_CONTIGUOUS):
        vectors = transposed(simd, vectors)
    apart = GROUP if target_form == TILES else 2 * GROUP
    for i, value in enumerate(vectors):
        simd.store(value, simd.at(place, apart * i))


def _both(simd: BF16Vectors, guard: Any, there: Any) -> Any:
    if guard is None:
        return None
    return simd.builder.select(there, guard, simd.first(number(0)))
