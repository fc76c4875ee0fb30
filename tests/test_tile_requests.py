"""What tiles ask for while they multiply: all that a large product reads next, and little else."""

import numba
import pytest

from fastbp.kernels.cpu.operands import NEAR_BYTES, PACK_ROWS, next_source
from fastbp.kernels.cpu.prefetch import LINE

HEIGHT, BLOCK, PANEL = 6, 512, 64
A, B, KEPT = 1 << 40, 1 << 41, 1 << 42  # addresses, far apart


@numba.njit
def source(*arguments):
    return next_source(*arguments)


def asked(rows, deep, at, row, by, depth, tiles):
    """Numbers of the lines that all tiles of a panel ask for, as `first_of_next` describes them."""
    lines = set()
    for tile in range(min(rows // HEIGHT, tiles)):
        for p in range(0, deep, 16):
            if p < depth:
                for fourth in range(p // 4, p // 4 + 4):
                    place = at + (tile % by + fourth * by) * row + tile // by * 2 * LINE
                    lines |= {place // LINE, place // LINE + 1}
    return lines


def panel_lines(start, row, rows, size):
    """Numbers of the lines of `rows` rows of `size` bytes."""
    return {(start + i * row + byte) // LINE for i in range(rows) for byte in range(0, size, LINE)}


def given(**changed):
    """The arguments of a product of 512 x 2048 x 2048 in float32, packed."""
    arguments = {
        "rows": 512, "columns": 2048, "depth": 2048, "a": A, "a_step": 1, "b": B, "b_row": 2048,
        "turned": 0, "pack_a": False, "kept": 0, "padded": 2048, "column": 64, "done": 512,
        "block": BLOCK, "panel_columns": PANEL, "itemsize": 4,
    }  # fmt: skip
    return arguments | changed


@pytest.mark.parametrize(
    ("changed", "start", "row", "rows", "size"),
    [
        ({}, B + (512 * 2048 + 64) * 4, 8192, 512, 256),
        ({"column": 2048}, B + 1024 * 2048 * 4, 8192, 512, 256),  # the first below
        ({"column": 2032}, B + (512 * 2048 + 2032) * 4, 8192, 512, 64),  # a narrow one
        ({"turned": 1}, B + (64 * 2048 + 512) * 4, 8192, 64, 2048),
        ({"turned": 1, "column": 2048}, B + 1024 * 4, 8192, 64, 2048),
        ({"depth": 1100, "done": 1024, "column": 2048, "b": B}, None, 0, 0, 0),  # B is done
        ({"rows": 192, "depth": 512, "a_step": 2048, "pack_a": True, "done": 0, "column": 2048},
         A + 192 * 4, 8192, 512, 768),  # A's next rows
        ({"kept": KEPT}, KEPT + (512 * 2048 + 64 * 512) * 4, 256, 512, 256),
        ({"kept": KEPT, "column": 2048}, KEPT + 1024 * 2048 * 4, 256, 512, 256),
        ({"kept": KEPT, "columns": 2030, "padded": 2032, "column": 1984, "done": 1536,
          "depth": 1600}, KEPT + (1536 * 2032 + 1984 * 64) * 4, 192, 64, 192),  # less of both
        ({"rows": PACK_ROWS - 1}, None, 0, 0, 0),
        ({"depth": 512, "columns": NEAR_BYTES // 2048, "done": 0}, None, 0, 0, 0),  # in the L2
    ],
)  # fmt: skip
def test_all_of_what_is_next_is_asked_for(changed, start, row, rows, size):
    arguments = given(**changed)
    here = source(*arguments.values())
    lines = asked(arguments["rows"], BLOCK, *here)
    if start is None:
        assert lines == set()
        return
    expected = panel_lines(start, row, rows, size)
    assert lines >= expected
    # Requests go by pairs of lines and by groups of 16 depth steps.
    assert len(lines) <= 2 * len(expected)
