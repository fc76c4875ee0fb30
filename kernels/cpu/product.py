"""The matrix product every layer stands on, over register tiles or plain loops.

    C = finish(start + A B)       or  A B^T where `turned`

A is read through two strides, so A and A^T are the same operand; B is read in place, or packed
panel by panel when its rows lie too far apart or when it is transposed. The tiles are compiled
once a dtype as a C function and reached through a table of addresses that compiled code finds by
name: callers stay small, nothing is re-optimised in them, and writing 0 into the table (or
switching the JIT off) selects the plain loops.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from .host import ARM, FEATURES
from .jit import JIT_DISABLED, cached, inline
from .packing import build_copy, build_turn
from .prefetch import LINE
from .tiles import (
    FINISH_NONE,
    START_C,
    TILE_SETS,
    TileSet,
    build_panel,
)
from .vectors import I64, POINTER


def host_tiles() -> TileSet | None:
    """The tiles that may be run here; None where only plain loops are left."""
    if "avx512f" in FEATURES:
        return TILE_SETS["avx512"]
    if {"avx2", "fma"} <= FEATURES:
        return TILE_SETS["avx2"]
    if ARM:
        return TILE_SETS["neon"]
    return None


_TILES: Final = host_tiles()

DEPTH_BLOCK_BYTES: Final = 2048  # 512 float32: a packed panel is 128 KB, a quarter of most L2s
PACK_STRIDE_BYTES: Final = 1024  # rows of B at least this far apart are packed ...
PACK_ROWS: Final = 32  # ... when at least this many rows of A share the copy; last columns likewise
A_VECTORS: Final = 3  # a packed panel of A^T: 48 float32 rows (24 of AVX2), tiles of 12, 8 or 6
A_ROWS: Final = 192  # at most so many at once: 384 KB, beside one panel of B in the L2
A_COLUMNS: Final = 128  # columns of the result that share the copy
NEAR_BYTES: Final = 2 << 20  # an operand up to this is found in the L2, or nearly: not asked for
NARROW_BYTES: Final = 0 if _TILES is None else _TILES.vector_bytes  # so few columns of A^T dZ ...
NARROW_BATCH: Final = 24  # ... over at least so many samples are formed as (dZ^T A)^T ...
NARROW_ROWS: Final = 1008  # ... at most so many rows at once; not 4 KB, which share one set
_PANEL_BYTES: Final = DEPTH_BLOCK_BYTES * 64
SCRATCH_BYTES: Final = _PANEL_BYTES + DEPTH_BLOCK_BYTES * A_ROWS  # of one thread


# --- the tiles, as one C function a dtype -----------------------------------------------------

_ARGUMENTS: Final = (
    "rows", "columns", "depth", "a", "a_row", "a_step", "b", "b_row", "turned", "c", "c_row",
    "bias", "judge", "judge_row", "start", "finish", "scratch", "across", "across_row", "asked",
)  # fmt: skip
PRODUCT_SIGNATURE: Final = types.void(*[types.int64] * len(_ARGUMENTS))


def _by_width(
    build: Callable[..., Any],
    tiles: TileSet,
    itemsize: int,
    pointers: int,
    widths: Iterable[int] | None = None,
) -> Any:
    """An intrinsic f(vectors, arguments...) that calls the function `build` emits for the width.

    The first `pointers` arguments are addresses. Widths: those of the tiles, or as given.
    """

    @intrinsic
    def call(typingctx: Any, vectors: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = cgutils.unpack_tuple(builder, args[1])
            values = [
                builder.inttoptr(v, POINTER) if i < pointers else v for i, v in enumerate(values)
            ]
            done = builder.append_basic_block("chosen")
            choice = builder.switch(args[0], done)
            for width in sorted(tiles.heights if widths is None else widths):
                function = build(builder.module, tiles, itemsize, width)
                block = builder.append_basic_block(f"width{width}")
                choice.add_case(ir.Constant(I64, width), block)
                builder.position_at_end(block)
                builder.call(function, values)
                builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return types.void(types.int64, arguments), codegen

    return call


@inline
def next_source(
    rows: int, columns: int, depth: int, a: int, a_step: int, b: int, b_row: int, turned: int,
    pack_a: bool, column: int, done: int, block: int, panel_columns: int, itemsize: int,
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """What is read after a panel of B, for the tiles to ask for: their `next` to `next_tiles`.

    B's panel at `column`, else the first of those `block` deeper; when B is done, the rows of A
    after these, which a caller that forms dL/dW wants next (but after its last: in vain). Nothing
    where the rows are too few to hide it.
    """
    if column >= columns:
        column, done = 0, done + block
    if rows >= PACK_ROWS and done < depth and depth * columns * itemsize > NEAR_BYTES:
        at = b + ((column * b_row + done) if turned != 0 else (done * b_row + column)) * itemsize
        deep = min(block, depth - done)
        wide = min(columns - column, panel_columns)
        if turned != 0:
            return at, b_row * itemsize, 1, 4 * wide, pairs_of_lines(deep * itemsize)
        return at, b_row * itemsize, 4, deep, 4 * pairs_of_lines(wide * itemsize)
    if rows >= PACK_ROWS and done >= depth and pack_a and depth * a_step * itemsize > NEAR_BYTES:
        tiles = 4 * pairs_of_lines(rows * itemsize)
        return a + rows * itemsize, a_step * itemsize, 4, depth, tiles
    return b, 0, 1, 0, 0


@inline
def pairs_of_lines(size: int) -> int:
    """Pairs of cache lines that hold so many bytes."""
    return (size + 2 * LINE - 1) // (2 * LINE)


def make_product(tiles: TileSet, itemsize: int) -> Any:
    """Compile the tiled product of one dtype; a C function of int64 arguments (`_ARGUMENTS`).

    Where `across` is not 0, it gets the transpose of C, of at most one vector of rows. Where
    `asked` is not 0, it holds two addresses for each row of C: as many bytes as a row of A has are
    brought into the L2 from the one, and claimed at the other, unless the first row's is 0.
    """
    panel = _by_width(build_panel, tiles, itemsize, 5)
    copied = {*tiles.heights, *range(1, A_VECTORS + 1)}
    copy = _by_width(build_copy, tiles, itemsize, 2, copied)
    turn = _by_width(build_turn, tiles, itemsize, 2)
    lanes, widest = tiles.lanes(itemsize), tiles.widest
    tall, height = A_VECTORS * lanes, max(tiles.heights[widest])
    dear_masks = not tiles.free_masks
    panel_columns = widest * lanes
    depth_block = DEPTH_BLOCK_BYTES // itemsize
    far = PACK_STRIDE_BYTES // itemsize

    def product(
        rows, columns, depth, a, a_row, a_step, b, b_row, turned, c, c_row,
        bias, judge, judge_row, start, finish, scratch, across, across_row, asked,
    ):  # type: ignore[no-untyped-def]  # fmt: skip
        pack = turned != 0 or (b_row >= far and rows >= PACK_ROWS and depth >= 2 * lanes)
        pack_a = (
            a_row == 1 and a_step >= far and columns >= A_COLUMNS and rows <= A_ROWS
            and depth >= 2 * lanes and across == 0
        )  # fmt: skip
        pack_edge = dear_masks and rows >= PACK_ROWS and columns % lanes != 0
        block = depth_block if pack or pack_a or pack_edge else max(depth, 1)
        room = scratch if across == 0 else scratch + _PANEL_BYTES  # C may lie in scratch, then
        done = 0
        while done < depth or done == 0:
            part = min(block, depth - done)
            begin = start if done == 0 else START_C
            end = finish if done + part >= depth else FINISH_NONE
            a_here = a + done * a_step * itemsize
            if pack_a:
                for row in range(0, rows, tall):
                    copy(  # as few vectors as hold its rows: only the last of them is masked
                        (min(tall, rows - row) + lanes - 1) // lanes,
                        (scratch + _PANEL_BYTES + row * block * itemsize, a_here + row * itemsize,
                         a_step, part, min(tall, rows - row)),
                    )  # fmt: skip
            column = 0
            while column < columns:
                vectors = min(widest, (columns - column + lanes - 1) // lanes)
                here = min(columns - column, vectors * lanes)
                near, near_row, by, near_depth, near_tiles = next_source(
                    rows, columns, depth, a, a_step, b, b_row, turned, pack_a, column + here, done,
                    block, panel_columns, itemsize,
                )  # fmt: skip
                at, step = b + (done * b_row + column) * itemsize, b_row
                whole = here == vectors * lanes
                if pack or (pack_edge and not whole):
                    at = room
                    step = vectors * lanes
                    whole = True
                    if turned != 0:
                        source = b + (column * b_row + done) * itemsize
                        turn(vectors, (room, source, b_row, part, here, step, step))
                    else:
                        source = b + (done * b_row + column) * itemsize
                        copy(vectors, (room, source, b_row, part, here))
                for row in range(0, rows, tall if pack_a else max(rows, 1)):
                    width = (min(tall, rows - row) + lanes - 1) // lanes * lanes
                    panel(
                        vectors,
                        (
                            scratch + _PANEL_BYTES + row * block * itemsize if pack_a else a_here,
                            at,
                            c + (row * c_row + column) * itemsize,
                            bias + column * itemsize,
                            judge + (row * judge_row + column) * itemsize,
                            min(tall, rows - row) if pack_a else rows,
                            part, a_row, width if pack_a else a_step, step, c_row, judge_row,
                            here - (vectors - 1) * lanes,
                            asked + row * 16 if asked != 0 and column == 0 else 0, done * itemsize,
                            1 if whole else 0, near + row // height // by * 2 * LINE, near_row, by,
                            near_depth, near_tiles - row // height, begin, end,
                        ),
                    )  # fmt: skip
                column += here
            done += max(part, 1)
        if across != 0:
            turn(1, (across, c, c_row, columns, rows, across_row, rows))

    product.__qualname__ = f"product_{tiles.name}_{itemsize}"
    signature = (PRODUCT_SIGNATURE.args, PRODUCT_SIGNATURE.return_type)
    function = CFunc(product, signature, {}, {"nopython": True, "error_model": "numpy"})
    cached(function, product).compile()
    return function


# --- the table of addresses -------------------------------------------------------------------

TILE_TABLE: Final = np.zeros(3, np.int64)  # product of float32, of float64; 0: plain loops
BF16_SLOT: Final = 2  # product of bfloat16 operands, float32 beside
_TABLE_NAME: Final = "fastbp_tile_table"
llvm.add_symbol(_TABLE_NAME, TILE_TABLE.ctypes.data)
_lock = threading.Lock()


@functools.cache
def _compiled(itemsize: int) -> Any:
    tiles = host_tiles()
    return None if tiles is None else make_product(tiles, itemsize)


def bind_tiles(dtype: Any, *, plain: bool = False) -> None:
    """Put the product of `dtype` (float32 or float64) into the table.

    Called by every public door and by the trainer; `plain=True` selects the plain loops.
    """
    itemsize = np.dtype(dtype).itemsize
    slot = 0 if itemsize == 4 else 1
    if JIT_DISABLED or plain:
        TILE_TABLE[slot] = 0
    elif TILE_TABLE[slot] == 0:
        with _lock:
            function = _compiled(itemsize)
            TILE_TABLE[slot] = 0 if function is None else function.address


@intrinsic
def _tile_address_compiled(typingctx: Any, slot: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        name = _TABLE_NAME
        table = builder.module.globals.get(name)
        if table is None:
            table = ir.GlobalVariable(builder.module, ir.ArrayType(I64, len(TILE_TABLE)), name)
            table.linkage = "external"
        place = builder.gep(table, [args[0]], source_etype=I64)
        return builder.load(place, typ=I64)

    return types.int64(types.int64), codegen


@intrinsic
def _call_product(typingctx: Any, address: Any, arguments: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(builder, args[1])
        kind = ir.FunctionType(ir.VoidType(), [I64] * len(values))
        function = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(function, values)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen


def _no_tiles(slot: int) -> int:
    return 0


_tile_address: Any = _no_tiles if JIT_DISABLED else _tile_address_compiled
