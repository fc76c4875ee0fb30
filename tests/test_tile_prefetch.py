"""What tiles prefetch while they multiply: all that a large product reads next, and little else."""

import ctypes

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from llvmlite import ir

from fastbp.kernels.cpu import tile_prefetch
from fastbp.kernels.cpu.irtools import I64, POINTER
from fastbp.kernels.cpu.operands import NEAR_BYTES, PACK_ROWS, next_source
from fastbp.kernels.cpu.product import host_tiles
from fastbp.kernels.cpu.tiles import (
    FINISH_NONE,
    PANEL_ARGUMENTS,
    PREFETCH_C,
    START_C,
    START_ZERO,
    build_panel,
)
from fastbp.kernels.layout import CACHE_LINE

HEIGHT, BLOCK, PANEL = 6, 512, 64
A, B, KEPT = 1 << 40, 1 << 41, 1 << 42  # addresses, far apart


@numba.njit
def source(*arguments):
    return next_source(*arguments)


def prefetched(rows, deep, at, row, by, depth, tiles):
    """Numbers of the lines that all tiles of a panel prefetch, as `first_of_next` describes."""
    lines = set()
    for tile in range(min(rows // HEIGHT, tiles)):
        for p in range(0, deep, 16):
            if p < depth:
                for fourth in range(p // 4, p // 4 + 4):
                    place = at + (tile % by + fourth * by) * row + tile // by * 2 * CACHE_LINE
                    lines |= {place // CACHE_LINE, place // CACHE_LINE + 1}
    return lines


def panel_lines(start, row, rows, size):
    """Numbers of the lines of `rows` rows of `size` bytes."""
    return {
        (start + i * row + byte) // CACHE_LINE
        for i in range(rows)
        for byte in range(0, size, CACHE_LINE)
    }


def given(**changed):
    """The arguments of a product of 512 x 2048 x 2048 in float32, packed."""
    arguments = {
        "rows": 512, "columns": 2048, "depth": 2048, "a": A, "a_step": 1, "b": B, "b_row": 2048,
        "transposed": 0, "pack_a": False, "kept": 0, "padded": 2048, "column": 64, "done": 512,
        "block": BLOCK, "panel_columns": PANEL, "itemsize": 4,
    }  # fmt: skip
    return arguments | changed


@pytest.mark.parametrize(
    ("changed", "start", "row", "rows", "size"),
    [
        ({}, B + (512 * 2048 + 64) * 4, 8192, 512, 256),
        ({"column": 2048}, B + 1024 * 2048 * 4, 8192, 512, 256),  # the first below
        ({"column": 2032}, B + (512 * 2048 + 2032) * 4, 8192, 512, 64),  # a narrow one
        ({"transposed": 1}, B + (64 * 2048 + 512) * 4, 8192, 64, 2048),
        ({"transposed": 1, "column": 2048}, B + 1024 * 4, 8192, 64, 2048),
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
    lines = prefetched(arguments["rows"], BLOCK, *here)
    if start is None:
        assert lines == set()
        return
    expected = panel_lines(start, row, rows, size)
    assert lines >= expected
    # Requests go by pairs of lines and by groups of 16 depth steps.
    assert len(lines) <= 2 * len(expected)


# --- what a tile's sums are written to -------------------------------------------------------


@pytest.fixture
def recorder(monkeypatch):
    """Where tiles that are emitted from now on write down their prefetches: how many, and where."""
    record = np.zeros(1 + 64, np.int64)

    def write_down(builder, place, level=1, *, write=False):
        base = builder.inttoptr(I64(record.ctypes.data), POINTER)
        number = builder.add(builder.load(base, typ=I64), I64(1))
        builder.store(number, base)
        target = builder.gep(base, [number], source_etype=I64)
        builder.store(builder.ptrtoint(place, I64), target)

    monkeypatch.setattr(tile_prefetch, "emit_prefetch", write_down)
    return record


def run_panel(tiles, **given):
    """The widest panel function of float32 compiled as it stands, and run."""
    module = ir.Module()
    panel = build_panel(module, tiles, 4, tiles.widest)
    panel.linkage = "external"
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=str(llvm.get_host_cpu_name()), features=llvm.get_host_cpu_features().flatten(), opt=1
    )
    with llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine) as engine:
        engine.finalize_object()
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(PANEL_ARGUMENTS))
        call = kind(engine.get_function_address(panel.name))
        call(*(dict.fromkeys(PANEL_ARGUMENTS, 0) | given).values())


@pytest.mark.skipif(host_tiles() is None, reason="no tiles for this processor")
@pytest.mark.parametrize(
    ("start", "prefetch", "first"),
    [(START_ZERO, PREFETCH_C, 0), (START_C, PREFETCH_C, 1), (START_ZERO, 0, None)],
)
def test_a_tile_prefetches_every_line_of_its_sums(recorder, start, prefetch, first):
    tiles = host_tiles()
    height, width, row = max(tiles.heights[tiles.widest]), tiles.widest * tiles.lanes(4), 2048
    A, B, C = (np.ones(shape, np.float32) for shape in ((2 * height, 3), (3, width), (30, row)))
    C[:] = 5
    run_panel(
        tiles, a=A.ctypes.data, b=B.ctypes.data, c=C.ctypes.data, rows=2 * height, depth=3, a_row=3,
        a_step=1, b_step=width, c_row=row, rest=tiles.lanes(4), start=start,
        finish=FINISH_NONE + prefetch,
    )  # fmt: skip
    assert (C[: 2 * height, :width] == (8 if start == START_C else 3)).all()
    assert (C[2 * height :] == 5).all()
    assert (C[:, width:] == 5).all()
    places = recorder[1 : 1 + recorder[0]]
    if first is None:
        assert places.size == 0
        return
    rows = [height * first + i for i in range(2 * height)]  # of this tile, or of the one after it
    expected = [i * row * 4 + at for i in rows for at in range(0, width * 4, CACHE_LINE)]
    assert (places - C.ctypes.data).tolist() == expected
