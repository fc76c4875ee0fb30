"""The matrix product every layer stands on, over register tiles or plain loops.

    C = finish(start + A B)       or  A B^T where `transposed`

A is read through two strides, so A and A^T are the same operand; B is read in place, or packed
panel by panel when its rows lie too far apart or when it is transposed. The tiles are compiled
once a dtype as a C function and reached through a table of addresses (`tile_table.py`).
"""

from __future__ import annotations

import functools
from typing import Any, Final

from numba import types

from ..layout import CACHE_LINE
from .emitted import c_function, emitted_by_width
from .host import ARM, FEATURES
from .jit import inline_as
from .operands import (
    A_COLUMNS,
    A_ROWS,
    A_VECTORS,
    DEPTH_BLOCK_BYTES,
    FORGET,
    KEPT,
    NEAR_ELEMENTS,
    PACK_ROWS,
    PACK_STRIDE_BYTES,
    PANEL_BYTES,
    SCRATCH_BYTES,
    make_packing,
    next_source,
    place_in_b,
    place_of_panel,
)
from .tiles import FINISH_NONE, PANEL_POINTERS, PREFETCH_C, START_C, TILE_SETS, TileSet, build_panel


def host_tiles() -> TileSet | None:
    """The tiles that may be run here; None where only plain loops are left."""
    if "avx512f" in FEATURES:
        return TILE_SETS["avx512"]
    if {"avx2", "fma"} <= FEATURES:
        return TILE_SETS["avx2"]
    if ARM:
        return TILE_SETS["neon"]
    return None


ARGUMENTS: Final = (
    "rows", "columns", "depth", "a", "a_row", "a_step", "b", "b_row", "transposed", "c", "c_row",
    "bias", "beside", "beside_row", "start", "finish", "scratch", "across", "across_row",
    "prefetched", "panels",
)  # fmt: skip
PRODUCT_SIGNATURE: Final = types.void(*[types.int64] * len(ARGUMENTS))


def make_product(tiles: TileSet, itemsize: int) -> Any:
    """Compile the tiled product of one dtype; a C function of int64 arguments (`ARGUMENTS`).

    Where `across` is not 0, it gets the transpose of C, of at most one vector of rows. Where
    `prefetched` is not 0, it holds two addresses for each row of C: as many bytes as a row of A has
    are brought into the L2 from the one, and claimed at the other, unless the first row's is 0.
    `panels` is what becomes of B's: see `operands.py`.
    """
    build = functools.partial(build_panel, tiles=tiles, itemsize=itemsize)
    panel = emitted_by_width(build, tiles.heights, PANEL_POINTERS)
    pack_rows, pack_panel, transpose_across = make_packing(tiles, itemsize)
    what_to_pack, panel_of_b = _make_choices(tiles, itemsize, pack_panel)
    lanes, widest = tiles.lanes(itemsize), tiles.widest
    tall, height = A_VECTORS * lanes, max(tiles.heights[widest])
    depth_block = DEPTH_BLOCK_BYTES // itemsize

    def product(
        rows, columns, depth, a, a_row, a_step, b, b_row, transposed, c, c_row,
        bias, beside, beside_row, start, finish, scratch, across, across_row, prefetched, panels,
    ):  # type: ignore[no-untyped-def]  # fmt: skip
        pack, pack_a, pack_edge = what_to_pack(
            rows, columns, depth, a_row, a_step, b_row, transposed, across, panels
        )
        block = depth_block if pack or pack_a or pack_edge else max(depth, 1)
        packed_a = scratch + PANEL_BYTES
        packed_b = scratch if across == 0 else scratch + PANEL_BYTES  # C may lie in scratch, then
        kept, padded = scratch + SCRATCH_BYTES, (columns + lanes - 1) // lanes * lanes
        high = tall if pack_a else max(rows, 1)
        ahead = PREFETCH_C if rows * columns > NEAR_ELEMENTS else 0
        done = 0
        while done < depth or done == 0:
            part = min(block, depth - done)
            begin = start if done == 0 else START_C
            end = (finish if done + part >= depth else FINISH_NONE) + ahead
            a_here = a + done * a_step * itemsize
            if pack_a:
                pack_rows(packed_a, a_here, a_step, rows, part, block)
            column = 0
            while column < columns:
                vectors = min(widest, (columns - column + lanes - 1) // lanes)
                width = vectors * lanes
                here = min(columns - column, width)
                b_here, b_step, whole = panel_of_b(
                    pack or (pack_edge and here < width), packed_b, kept, padded, b, b_row,
                    transposed, column, done, part, vectors, here, panels,
                )  # fmt: skip
                near, near_row, by, near_depth, near_tiles = next_source(
                    rows, columns, depth, a, a_step, b, b_row, transposed, pack_a,
                    kept if panels == KEPT else 0, padded, column + width, done, block,
                    widest * lanes, itemsize,
                )  # fmt: skip
                for row in range(0, rows, high):
                    these, tile = min(high, rows - row), row // height
                    near_here = near + tile // by * 2 * CACHE_LINE
                    panel(
                        vectors,
                        (
                            packed_a + row * block * itemsize if pack_a else a_here,
                            b_here,
                            c + (row * c_row + column) * itemsize,
                            bias + column * itemsize,
                            beside + (row * beside_row + column) * itemsize,
                            these, part, a_row,
                            (these + lanes - 1) // lanes * lanes if pack_a else a_step,
                            b_step, c_row, beside_row, here - width + lanes,
                            prefetched + row * 16 if prefetched != 0 and column == 0 else 0,
                            done * itemsize,
                            1 if whole else 0, near_here, near_row, by, near_depth,
                            near_tiles - tile, begin, end,
                        ),
                    )  # fmt: skip
                column += here
            done += max(part, 1)
        if across != 0:
            transpose_across(across, across_row, c, c_row, rows, columns)

    return c_function(product, f"product_{tiles.name}_{itemsize}", PRODUCT_SIGNATURE)


def _make_choices(tiles: TileSet, itemsize: int, pack_panel: Any) -> tuple[Any, Any]:
    """What a product packs, and where its tiles read a panel of B: two of its pieces."""
    kind, lanes = f"{tiles.name}_{itemsize}", tiles.lanes(itemsize)
    dear_masks, far = not tiles.free_masks, PACK_STRIDE_BYTES // itemsize

    @inline_as(kind)
    def what_to_pack(
        rows: int, columns: int, depth: int, a_row: int, a_step: int, b_row: int, transposed: int,
        across: int, panels: int,
    ) -> tuple[bool, bool, bool]:  # fmt: skip
        """Whether B's panels are packed; A; and of B a last panel that is not whole."""
        deep = depth >= 2 * lanes
        pack = transposed != 0 or panels != FORGET or (b_row >= far and rows >= PACK_ROWS and deep)
        pack_a = (
            a_row == 1 and a_step >= far and columns >= A_COLUMNS and rows <= A_ROWS
            and deep and across == 0
        )  # fmt: skip
        return pack, pack_a, dear_masks and rows >= PACK_ROWS and columns % lanes != 0

    @inline_as(kind)
    def panel_of_b(
        packs: bool, packed_b: int, kept: int, padded: int, b: int, b_row: int, transposed: int,
        column: int, done: int, part: int, vectors: int, here: int, panels: int,
    ) -> tuple[int, int, bool]:  # fmt: skip
        """Address and row length of B's panel, packed or in place; whether all of it is there."""
        at, width = place_in_b(b, b_row, transposed, column, done, itemsize), vectors * lanes
        if not packs:
            return at, b_row, here == width
        into = packed_b
        if panels != FORGET:
            into = place_of_panel(kept, padded, column, done, part, itemsize)
        if panels != KEPT:
            pack_panel(into, at, b_row, transposed, part, vectors, here)
        return into, width, True

    return what_to_pack, panel_of_b
