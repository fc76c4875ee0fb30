"""The product of bfloat16 operands: float32 in and out, rounded on the way into the tiles.

    C = finish(start + bf16(A) bf16(B))       or  A B^T where `transposed`

It has the arguments of `product.make_product`'s function and a slot of the same table, so that the
three products of a layer reach either by the same call. Both operands are rounded as they are
packed, A once for many panels of B, and the sums stay in float32. Where `panels` is KEPT, B is that
of the call before and still packed: at most COLUMNS x DEPTH of it. `across` and `prefetched` are
not heard.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir

from . import bf16
from .amx_tiles import ROOM_BYTES, build_amx, build_configure, build_release
from .bf16_packing import (
    DEPTH_CONTIGUOUS,
    GROUP,
    PAIRS,
    PANEL,
    STEP,
    TILE_BYTES,
    TILES,
    UNIT_CONTIGUOUS,
    build_pack,
)
from .bf16_tiles import BLOCK_POINTERS, build_dots
from .emitted import c_function, emitted, emitted_by_width
from .jit import inline, inline_as
from .operands import KEPT, place_in_b
from .product import PRODUCT_SIGNATURE
from .tile_table import BF16_SLOT, TILE_TABLE
from .tiles import FINISH_NONE, START_C

PACKED_ROWS: Final = 256  # of A packed at once ...
DEEP: Final = 2048  # ... over so much of the depth: 1 MB, half of an L2
DEPTH: Final = 512  # of B packed at once ...
COLUMNS: Final = 512  # ... of so many columns where they are kept for the next call, 512 KB ...
FEW_COLUMNS: Final = 128  # ... else so few that what is added up stays in the L2
SLICE: Final = 256  # of the depth multiplied at once: 32 rows and 32 columns share an L1
_A_AT: Final = 2 * ROOM_BYTES
_B_AT: Final = _A_AT + 2 * PACKED_ROWS * DEEP
BF16_SCRATCH_BYTES: Final = _B_AT + 2 * COLUMNS * DEPTH + 64
"""Of one thread: a tile, A and B as they are multiplied, and what it takes to align them."""


def _nothing(module: ir.Module) -> ir.Function:
    """What stands for the tiles' configuration where there are none."""
    name = "fastbp_bf16_nothing"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), name)
    function.linkage = "internal"
    ir.IRBuilder(function.append_basic_block("entry")).ret_void()
    return function


def make_bf16_product(instruction: str) -> Any:
    """Compile the product over one instruction; a C function of `product`'s arguments."""
    amx = instruction == bf16.AMX
    pack_a, pack_b = (
        emitted(
            {
                f: functools.partial(build_pack, target_form=t, source_form=f)
                for f in (DEPTH_CONTIGUOUS, UNIT_CONTIGUOUS)
            },
            2,
        )
        for t in (TILES, PAIRS)
    )
    begin_tiles = emitted({0: build_configure if amx else _nothing}, 0)
    end_tiles = emitted({0: build_release if amx else _nothing}, 0)
    multiply = _make_multiply(build_amx if amx else build_dots, instruction)

    def product(
        rows, columns, depth, a, a_row, a_step, b, b_row, transposed, c, c_row,
        bias, beside, beside_row, start, finish, scratch, across, across_row, prefetched, panels,
    ):  # type: ignore[no-untyped-def]  # fmt: skip
        room = (scratch + 63) // 64 * 64
        packed_a, packed_b = room + _A_AT, room + _B_AT
        form_a = DEPTH_CONTIGUOUS if a_step == 1 else UNIT_CONTIGUOUS
        row_a = a_row if a_step == 1 else a_step
        form_b = DEPTH_CONTIGUOUS if transposed != 0 else UNIT_CONTIGUOUS
        wide = COLUMNS if depth <= DEPTH and columns <= COLUMNS else FEW_COLUMNS
        begin_tiles(0, ())
        for top in range(0, rows, PACKED_ROWS):
            high = min(PACKED_ROWS, rows - top)
            c_here, beside_here = c + top * c_row * 4, beside + top * beside_row * 4
            deep = 0
            while deep < depth or deep == 0:
                long = min(DEEP, depth - deep)
                pack_a(form_a, (packed_a, a + (top * a_row + deep * a_step) * 4, row_a, high, long))
                for first in range(0, columns, wide):
                    units = min(wide, columns - first)
                    done = 0
                    while done < long or done == 0:
                        part = min(DEPTH, long - done)
                        k = deep + done
                        if panels != KEPT or top > 0 or wide != COLUMNS:
                            at = place_in_b(b, b_row, transposed, first, k, 4)
                            pack_b(form_b, (packed_b, at, b_row, units, part))
                        multiply(
                            packed_a + done // STEP * TILE_BYTES, _steps(long) * TILE_BYTES,
                            packed_b, first, units, columns, k, part, depth, high, c_here, c_row,
                            bias, beside_here, beside_row, start, finish, room,
                        )  # fmt: skip
                        done += max(part, 1)
                deep += max(long, 1)
        end_tiles(0, ())

    return c_function(product, f"product_bf16_{instruction}", PRODUCT_SIGNATURE)


def _make_multiply(build: Callable[..., ir.Function], instruction: str) -> Any:
    """What multiplies `high` packed rows of A by the packed panels of B from column `first` on."""
    block = emitted_by_width(build, (1, 2), BLOCK_POINTERS)

    @inline_as(instruction)
    def multiply(
        packed_a, group, packed_b, first, units, columns, k, part, depth, high, c, c_row, bias,
        beside, beside_row, start, finish, room,
    ):  # type: ignore[no-untyped-def]  # fmt: skip
        panel = _steps(part) * 2 * TILE_BYTES
        at = 0
        while at < part or at == 0:
            thin = min(SLICE, part - at)
            begin = start if k + at == 0 else START_C
            end = finish if k + at + thin >= depth else FINISH_NONE
            for column in range(first, first + units, PANEL):
                here = min(PANEL, columns - column)
                block(
                    (here + GROUP - 1) // GROUP,
                    (
                        packed_a + at // STEP * TILE_BYTES,
                        packed_b + (column - first) // PANEL * panel + at // STEP * 2 * TILE_BYTES,
                        c + column * 4, bias + column * 4, beside + column * 4, room, high,
                        _steps(thin), group, c_row, beside_row, here, begin, end,
                    ),
                )  # fmt: skip
            at += max(thin, 1)

    return multiply


@inline
def _steps(depth: int) -> int:
    """Steps of a tile that so deep a product takes."""
    return (depth + STEP - 1) // STEP


_lock = threading.Lock()
_compiled = functools.cache(make_bf16_product)


def bind_bf16(instruction: str | None = None) -> None:
    """Put the product of bfloat16 operands into the table, over the fastest instruction there is.

    Raises:
        RuntimeError: this process may use none, or not the one wanted.
    """
    offered = bf16.instructions()
    if instruction is None and TILE_TABLE[BF16_SLOT] != 0:
        return
    chosen = instruction or next(iter(offered), None)
    if chosen not in offered:
        raise RuntimeError(f"no product of bfloat16 by {chosen}: {bf16.missing()}")
    with _lock:
        TILE_TABLE[BF16_SLOT] = _compiled(chosen).address
