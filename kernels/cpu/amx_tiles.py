"""AMX tiles: a panel of C from packed operands, 32 rows x 32 columns in four tile registers.

    C[i, :] = finish(start + sum_p A[i, p] * B[p, :])        for all rows i, pairs p

as in `tiles.py`, whose names for starts and finishes are used. Registers 0 to 3 add up, 4 and 5
hold rows of A, 6 and 7 columns of B; a step of 32 products takes four loads and four products,
16 cycles each. Every element is one chain in the order of the steps, whatever rows share its tile:
operands are padded with zeros, and what does not belong to C stays in scratch memory.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir

from .bf16_packing import GROUP, TILE_BYTES, BF16Vectors, number
from .bf16_tiles import BLOCK_ARGUMENTS, BLOCK_TYPE, finished, finishes, panel_masks
from .irtools import I8, POINTER, VOID, Loop, call_intrinsic, internal_function
from .tiles import FINISH_NONE, START_BIAS, START_C

ROOM_ROW: Final = 2 * GROUP  # floats of a row of the scratch tile
ROOM_BYTES: Final = 4 * ROOM_ROW * ROOM_ROW
"""The scratch tile; the panel's bias, filled up with zeros, lies behind it."""


def _call(builder: ir.IRBuilder, name: str, *arguments: Any) -> None:
    """Call an AMX intrinsic; integers are the numbers of tile registers."""
    values = [ir.Constant(I8, a) if isinstance(a, int) else a for a in arguments]
    call_intrinsic(builder, name, VOID, values)


def build_configure(module: ir.Module) -> ir.Function:
    """Emit the function that lays out all eight registers as 16 rows of 64 bytes."""
    name = "fastbp_amx_configure"
    if name in module.globals:
        return module.globals[name]
    function = internal_function(module, ir.FunctionType(VOID, []), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    # Palette 1; from byte 16 the rows' bytes, 16 bits each, from byte 48 the rows.
    content = bytearray(64)
    content[0] = 1
    for register in range(8):
        content[16 + 2 * register], content[48 + register] = 64, 16
    data = ir.GlobalVariable(module, ir.ArrayType(I8, 64), "fastbp_amx_palette")
    data.linkage, data.global_constant, data.align = "internal", True, 64
    data.initializer = ir.Constant(data.type.pointee, content)
    _call(builder, "llvm.x86.ldtilecfg", builder.bitcast(data, POINTER))
    builder.ret_void()
    return function


def build_release(module: ir.Module) -> ir.Function:
    """Emit the function that gives the tile state back: threads switch faster without it."""
    name = "fastbp_amx_release"
    if name in module.globals:
        return module.globals[name]
    function = internal_function(module, ir.FunctionType(VOID, []), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    _call(builder, "llvm.x86.tilerelease")
    builder.ret_void()
    return function


def build_amx(module: ir.Module, vectors: int) -> ir.Function:
    """Emit (once a module) the block function of `tdpbf16ps` for panels of 1 or 2 vectors."""
    name = f"fastbp_bf16_amx_{vectors}"
    if name in module.globals:
        return module.globals[name]
    function = internal_function(module, BLOCK_TYPE, name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    simd = BF16Vectors(builder)
    arg = dict(zip(BLOCK_ARGUMENTS, function.args, strict=True))
    masks = panel_masks(simd, arg["here"], vectors)
    arg["bias_row"] = simd.at(arg["room"], ROOM_BYTES // 4)
    with builder.if_then(builder.icmp_signed("==", arg["start"], number(START_BIAS))):
        for v, mask in enumerate(masks):
            value = simd.load(simd.at(arg["bias"], GROUP * v), mask)
            simd.store(value, simd.at(arg["bias_row"], GROUP * v))
    pairs = builder.sdiv(builder.add(arg["rows"], number(GROUP - 1)), number(2 * GROUP))
    with Loop(builder, pairs, 1) as t:
        _Tile(simd, arg, masks, 2, builder.mul(t, number(2 * GROUP))).emit()
    row = builder.mul(pairs, number(2 * GROUP))
    with builder.if_then(builder.icmp_signed("<", row, arg["rows"])):
        _Tile(simd, arg, masks, 1, row).emit()
    builder.ret_void()
    return function


class _Tile:
    """One or two groups of rows from `row` on, by one or two vectors of columns."""

    def __init__(
        self, simd: BF16Vectors, arg: dict[str, Any], masks: list[Any], groups: int, row: Any
    ) -> None:
        self.simd, self.arg, self.masks, self.groups, self.row = simd, arg, masks, groups, row
        self.cells = [(g, v) for g in range(groups) for v in range(len(masks))]
        builder = simd.builder
        left = builder.sub(arg["rows"], row)
        self.most = number(GROUP * groups)
        self.all_rows = builder.icmp_signed(">=", left, self.most)
        self.height = builder.select(self.all_rows, self.most, left)
        all_columns = builder.icmp_signed("==", arg["here"], number(GROUP * len(masks)))
        self.whole = builder.and_(self.all_rows, all_columns)
        self.c = simd.at(arg["c"], builder.mul(row, arg["c_row"]))

    def emit(self) -> None:
        """Start, multiply, finish."""
        builder = self.simd.builder
        self._start()
        self._multiply()
        plain = builder.icmp_signed("==", self.arg["finish"], number(FINISH_NONE))
        with builder.if_else(builder.and_(self.whole, plain)) as (direct, otherwise):
            with direct:
                self._move("tilestored64", self.c, self.arg["c_row"])
            with otherwise:
                self._move("tilestored64", self.arg["room"], number(ROOM_ROW))
                self._store()

    def _move(self, name: str, base: Any, row: Any) -> None:
        """Load or store the sums: rows of memory lie `row` floats apart."""
        simd, builder = self.simd, self.simd.builder
        stride = builder.mul(row, number(4))
        for g, v in self.cells:
            at = builder.add(builder.mul(row, number(GROUP * g)), number(GROUP * v))
            _call(builder, f"llvm.x86.{name}", 2 * g + v, simd.at(base, at), stride)

    def _start(self) -> None:
        """Sums: zero, the bias row (a stride of 0 repeats it), or what C holds."""
        simd, arg, builder = self.simd, self.arg, self.simd.builder
        function = builder.function
        zero, bias, old, done = (
            function.append_basic_block(n) for n in ("zero", "bias", "old", "started")
        )
        choice = builder.switch(arg["start"], zero)
        choice.add_case(START_BIAS, bias)
        choice.add_case(START_C, old)
        builder.position_at_end(zero)
        for g, v in self.cells:
            _call(builder, "llvm.x86.tilezero", 2 * g + v)
        builder.branch(done)
        builder.position_at_end(bias)
        self._move("tileloadd64", arg["bias_row"], number(0))
        builder.branch(done)
        builder.position_at_end(old)
        with builder.if_else(self.whole) as (direct, otherwise):
            with direct:
                self._move("tileloadd64", self.c, arg["c_row"])
            with otherwise:
                with Loop(builder, self.height, 1) as i:
                    source = simd.at(self.c, builder.mul(i, arg["c_row"]))
                    target = simd.at(arg["room"], builder.mul(i, number(ROOM_ROW)))
                    for v, mask in enumerate(self.masks):
                        value = simd.load(simd.at(source, GROUP * v), mask)
                        simd.store(value, simd.at(target, GROUP * v))
                self._move("tileloadd64", arg["room"], number(ROOM_ROW))
        builder.branch(done)
        builder.position_at_end(done)

    def _multiply(self) -> None:
        simd, arg, builder = self.simd, self.arg, self.simd.builder
        floats = TILE_BYTES // 4
        group = builder.udiv(self.row, number(GROUP))
        size = builder.udiv(arg["group"], number(4))  # floats of a group of rows
        a = simd.at(arg["a"], builder.mul(group, size))
        line, double = number(64), number(128)
        with Loop(builder, arg["steps"], 1) as s:
            at_a = simd.at(a, builder.mul(s, number(floats)))
            at_b = simd.at(arg["b"], builder.mul(s, number(2 * floats)))
            for g in range(self.groups):
                here = simd.at(at_a, builder.mul(size, number(g)))
                _call(builder, "llvm.x86.tileloadd64", 4 + g, here, line)
            for v in range(len(self.masks)):
                here = simd.at(at_b, GROUP * v)
                _call(builder, "llvm.x86.tileloadd64", 6 + v, here, double)
            for g, v in self.cells:
                _call(builder, "llvm.x86.tdpbf16ps", 2 * g + v, 4 + g, 6 + v)

    def _store(self) -> None:
        """From the scratch tile into C, row by row, through the epilogue."""
        simd, arg, builder = self.simd, self.arg, self.simd.builder
        beside = simd.at(arg["beside"], builder.mul(self.row, arg["beside_row"]))
        for finish in finishes(simd, arg["finish"]):
            with Loop(builder, self.height, 1) as i:
                source = simd.at(arg["room"], builder.mul(i, number(ROOM_ROW)))
                target = simd.at(self.c, builder.mul(i, arg["c_row"]))
                over = simd.at(beside, builder.mul(i, arg["beside_row"]))
                for v, mask in enumerate(self.masks):
                    total = simd.load(simd.at(source, GROUP * v))
                    value = finished(simd, finish, total, simd.at(over, GROUP * v), mask)
                    simd.store(value, simd.at(target, GROUP * v), mask)
