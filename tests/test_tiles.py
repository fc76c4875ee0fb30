"""What the register tiles assemble to, for the CPUs at hand and for others."""

from __future__ import annotations

import re
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba.core.registry import cpu_target

from fastbp.kernels.cpu.amx_tiles import build_amx, build_configure, build_release
from fastbp.kernels.cpu.bf16_packing import GROUP
from fastbp.kernels.cpu.bf16_tiles import HEIGHTS, build_dots
from fastbp.kernels.cpu.packing import build_copy, build_transpose
from fastbp.kernels.cpu.product import host_tiles
from fastbp.kernels.cpu.tiles import TILE_SETS, build_panel

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
TARGETS = {"avx512": (X86, "+avx512f"), "avx2": (X86, "+avx2,+fma"), "neon": (ARM, "")}
FMA = {
    "avx512": r"vfmadd\d+p[sd]\s.*%zmm",
    "avx2": r"vfmadd\d+p[sd]\s.*%ymm",
    "neon": r"\bfmla\s+v\d+",
}
SPILL = {X86: r"vmov\S+\s+%[xyz]mm\d+, .*\(%rsp\)", ARM: r"\bst[rp]\s+q\d+.*\[sp"}
CASES = [(name, itemsize) for name in TILE_SETS for itemsize in (4, 8)]


def assembled(
    name: str, itemsize: int, builders: list[Any], cpu: str = "", features: str | None = None
) -> str:
    """Assembly of these functions for every width of a tile set, by LLVM's cross compiler."""
    triple, own = TARGETS[name]
    module = ir.Module()
    for build in builders:
        for vectors in TILE_SETS[name].heights:
            build(module, TILE_SETS[name], itemsize, vectors).linkage = "external"
    return assembly_of(module, triple, own if features is None else features, cpu)


def assembly_of(module: ir.Module, triple: str, features: str, cpu: str = "") -> str:
    """The module assembled for another machine, if this LLVM can."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError as error:  # an LLVM built for its own machine alone
        pytest.skip(str(error))
    module.triple = triple
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3)
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(parsed, builder)
    return str(machine.emit_assembly(parsed))


def copies(name: str) -> int:
    """Where masks cost, there are tiles that read B whole beside those that mask it."""
    return 1 if TILE_SETS[name].free_masks else 2


def in_a_row(name: str) -> int:
    """Loops, beside those that do one depth step, that do several."""
    return copies(name) if TILE_SETS[name].steps > 1 else 0


def cells(name: str) -> int:
    """Accumulators of all tiles of a set; of the largest as often as it is multiplied."""
    tiles = TILE_SETS[name]
    heights, again = tiles.heights, in_a_row(name) * tiles.steps
    largest = max(heights[tiles.widest]) * tiles.widest
    once = sum(h * width for width, tall in heights.items() for h in tall)
    return copies(name) * once + again * largest


@pytest.mark.parametrize(("name", "itemsize"), CASES)
def test_every_accumulator_is_one_vector_fma(name: str, itemsize: int) -> None:
    """height x width fused multiply-adds a tile, on whole vectors, none of them on scalars."""
    text = assembled(name, itemsize, [build_panel])
    assert len(re.findall(FMA[name], text)) == cells(name)
    assert not re.search(r"vfmadd\S*s[sd]\b|\bfmadd\b|\bfmaf?\b", text)  # scalars, or libm


@pytest.mark.parametrize(("name", "itemsize"), CASES)
def test_accumulators_stay_in_registers(name: str, itemsize: int) -> None:
    """A block that multiplies stores nothing: neither accumulators nor spilled operands."""
    text = assembled(name, itemsize, [build_panel])
    blocks = re.split(r"\n(?=\.LBB)", text)
    loops = [block for block in blocks if re.search(FMA[name], block)]
    tiles = sum(len(tall) for tall in TILE_SETS[name].heights.values())
    assert len(loops) == copies(name) * tiles + in_a_row(name)
    if name == "avx2":  # half of them read B whole (NEON's masks are blocks of their own)
        assert 2 * sum("vmaskmov" in loop for loop in loops) == len(loops)
    for loop in loops:
        # What follows the loop's own jump back belongs to the code after it.
        body = re.split(r"\n\s+(?:j\w+|b\.\w+|b|cbn?z)\s", loop)[0]
        assert not re.search(SPILL[TARGETS[name][0]], body), loop


@pytest.mark.parametrize(("name", "itemsize"), CASES)
def test_packing_assembles(name: str, itemsize: int) -> None:
    text = assembled(name, itemsize, [build_copy, build_transpose])
    register = {"avx512": "zmm", "avx2": "ymm", "neon": r"\bq\d"}[name]
    assert re.search(register, text)
    assert not re.search(FMA[name], text)


@pytest.mark.skipif(host_tiles() is None, reason="plain loops only")
@pytest.mark.parametrize("itemsize", [4, 8])
def test_this_machine_runs_its_tiles_on_whole_vectors(itemsize: int) -> None:
    """With the name and the features that Numba compiles for, which may prefer narrow vectors."""
    tiles = host_tiles()
    assert tiles is not None
    codegen = cpu_target.target_context.codegen()
    text = assembled(
        tiles.name, itemsize, [build_panel], codegen._get_host_cpu_name(),
        codegen._get_host_cpu_features(),
    )  # fmt: skip
    assert len(re.findall(FMA[tiles.name], text)) == cells(tiles.name)


def bf16_assembly(build: Any, features: str, *others: Any) -> str:
    """Assembly of the block functions of one and of two vectors, and of others."""
    module = ir.Module()
    for function in (build(module, 1), build(module, 2), *(other(module) for other in others)):
        function.linkage = "external"
    return assembly_of(module, X86, features)


def test_amx_tiles_are_one_product_a_register() -> None:
    """Of 16 x 16: two groups of rows, then one, by one and by two vectors of columns."""
    features = "+avx512f,+avx512bw,+avx512vl,+amx-tile,+amx-bf16"
    text = bf16_assembly(build_amx, features, build_configure, build_release)
    products = 3 * 1 + 3 * 2
    assert len(re.findall(r"\stdpbf16ps\s+%tmm[67], %tmm[45], %tmm[0-3]\n", text)) == products
    # Sums go straight into C, or through the scratch tile and its epilogue.
    assert len(re.findall(r"\ststilestored\s|\stilestored\s+%tmm[0-3]", text)) == 2 * products
    assert len(re.findall(r"\stilezero\s", text)) == products
    # Of the bias, C and the scratch tile; of both operands: (groups + vectors) a tile.
    loads = 3 * products + (2 + 1) + (1 + 1) + (2 + 2) + (1 + 2)
    assert len(re.findall(r"\stileloadd\s", text)) == loads
    assert len(re.findall(r"\sldtilecfg\s", text)) == 1
    assert len(re.findall(r"\stilerelease\b", text)) == 1


def test_amx_registers_are_laid_out_as_the_manual_says() -> None:
    """Palette 1; 64 bytes a row (16 bits each from byte 16), 16 rows (from byte 48), of all 8."""
    module = ir.Module()
    build_configure(module)
    palette = np.zeros(64, np.uint8)
    palette[0], palette[48:56] = 1, 16
    palette[16:32].view(np.uint16)[:] = 64
    assert bytes(module.globals["fastbp_amx_palette"].initializer.constant) == palette.tobytes()


def test_dots_of_bfloat16_stay_in_registers() -> None:
    """height x vectors products a pair of the depth, on whole vectors, 16 pairs a step."""
    text = bf16_assembly(build_dots, "+avx512f,+avx512bw,+avx512vl,+avx512bf16")
    assert len(re.findall(r"\svdpbf16ps\s.*%zmm", text)) == GROUP * sum(HEIGHTS) * (1 + 2)
    blocks = re.split(r"\n(?=\.LBB)", text)
    loops = [block for block in blocks if "vdpbf16ps" in block]
    assert len(loops) == 2 * len(HEIGHTS)
    for loop in loops:
        body = re.split(r"\n\s+j\w+\s", loop)[0]
        assert not re.search(SPILL[X86], body), loop
