"""The operands of a product as its tiles read them: in place, or copied side by side.

B is read in place, or panel by panel from a copy: when its rows lie too far apart, or when it is
transposed. A^T is copied where its rows are pages apart and many columns read it. What the tiles
read after a panel can be prefetched while they multiply it.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from ..layout import CACHE_LINE
from .emitted import emitted_by_width
from .jit import inline, inline_as
from .packing import build_copy, build_transpose
from .tiles import TileSet

DEPTH_BLOCK_BYTES: Final = 2048  # 512 float32: a packed panel is 128 KB, a quarter of most L2s
PACK_STRIDE_BYTES: Final = 1024  # rows of B at least this far apart are packed ...
PACK_ROWS: Final = 32  # ... when at least this many rows of A share the copy; last columns likewise
A_VECTORS: Final = 3  # a packed panel of A^T: 48 float32 rows (24 of AVX2), tiles of 12, 8 or 6
A_ROWS: Final = 192  # at most so many at once: 384 KB, beside one panel of B in the L2
A_COLUMNS: Final = 320  # columns of the result that make it pay; 128 take 0.93 of the time in place
NEAR_BYTES: Final = 2 << 20  # an operand up to this is found in the L2, or nearly: not prefetched
NEAR_ELEMENTS: Final = 32768  # a result up to this is near; lines of larger ones are prefetched
PANEL_BYTES: Final = DEPTH_BLOCK_BYTES * 64
SCRATCH_BYTES: Final = PANEL_BYTES + DEPTH_BLOCK_BYTES * A_ROWS  # of one thread, for one product

# What becomes of B's packed panels, which products with other rows of A may share: each makes room
# for the next; or all are kept, behind what one product needs; or they are there already.
FORGET, KEEP, KEPT = range(3)


def make_packing(tiles: TileSet, itemsize: int) -> tuple[Any, Any, Any]:
    """What copies the operands of one dtype: `pack_rows`, `pack_panel` and `transpose_across`."""
    lanes = tiles.lanes(itemsize)
    tall, kind = A_VECTORS * lanes, f"{tiles.name}_{itemsize}"
    given: Any = {"tiles": tiles, "itemsize": itemsize}
    widths = {*tiles.heights, *range(1, A_VECTORS + 1)}
    copy = emitted_by_width(functools.partial(build_copy, **given), widths, 2)
    transpose = emitted_by_width(functools.partial(build_transpose, **given), tiles.heights, 2)

    @inline_as(kind)
    def pack_rows(into: int, a: int, a_step: int, rows: int, depth: int, block: int) -> None:
        """A^T, `tall` rows a panel, panels `block` deep; only the last vector of all is masked."""
        for row in range(0, rows, tall):
            here = min(tall, rows - row)
            copy(
                (here + lanes - 1) // lanes,
                (into + row * block * itemsize, a + row * itemsize, a_step, depth, here),
            )

    @inline_as(kind)
    def pack_panel(
        into: int, b: int, b_row: int, transposed: int, depth: int, vectors: int, columns: int
    ) -> None:
        """A panel of B (transposed: of B^T), `vectors` wide, zeros beyond its columns."""
        if transposed != 0:
            width = vectors * lanes
            transpose(vectors, (into, b, b_row, depth, columns, width, width))
        else:
            copy(vectors, (into, b, b_row, depth, columns))

    @inline_as(kind)
    def transpose_across(
        into: int, into_row: int, c: int, c_row: int, rows: int, columns: int
    ) -> None:
        """The transpose of C, of at most one vector of rows."""
        transpose(1, (into, c, c_row, columns, rows, into_row, rows))

    return pack_rows, pack_panel, transpose_across


@inline
def place_in_b(b: int, b_row: int, transposed: int, column: int, done: int, itemsize: int) -> int:
    """The address where B's panel at `column` begins, `done` deep."""
    return b + ((column * b_row + done) if transposed != 0 else (done * b_row + column)) * itemsize


@inline
def place_of_panel(kept: int, padded: int, column: int, done: int, part: int, itemsize: int) -> int:
    """The address of the same among panels that are kept, of `part` rows each.

    padded: columns of all panels, whole vectors.
    """
    return kept + (done * padded + column * part) * itemsize


@inline
def next_source(
    rows: int, columns: int, depth: int, a: int, a_step: int, b: int, b_row: int, transposed: int,
    pack_a: bool, kept: int, padded: int, column: int, done: int, block: int, panel_columns: int,
    itemsize: int,
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """What is read after a panel of B, for the tiles to prefetch: their `next` to `next_tiles`.

    B's panel at `column`, else the first of those `block` deeper, from among those at `kept` unless
    that is 0; when B is done, the rows of A after these, which a caller that forms dL/dW wants next
    (but after its last: in vain). Nothing where the rows are too few to hide it.
    """
    if column >= columns:
        column, done = 0, done + block
    if rows >= PACK_ROWS and done < depth and depth * columns * itemsize > NEAR_BYTES:
        at = place_in_b(b, b_row, transposed, column, done, itemsize)
        deep = min(block, depth - done)
        wide = min(columns - column, panel_columns)
        if kept != 0:
            at = place_of_panel(kept, padded, column, done, deep, itemsize)
            b_row = min(padded - column, panel_columns)
        if transposed != 0:
            return at, b_row * itemsize, 1, 4 * wide, pairs_of_lines(deep * itemsize)
        return at, b_row * itemsize, 4, deep, 4 * pairs_of_lines(wide * itemsize)
    if rows >= PACK_ROWS and done >= depth and pack_a and depth * a_step * itemsize > NEAR_BYTES:
        tiles = 4 * pairs_of_lines(rows * itemsize)
        return a + rows * itemsize, a_step * itemsize, 4, depth, tiles
    return b, 0, 1, 0, 0


@inline
def pairs_of_lines(size: int) -> int:
    """Pairs of cache lines that hold so many bytes."""
    return (size + 2 * CACHE_LINE - 1) // (2 * CACHE_LINE)
