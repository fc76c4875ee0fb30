"""What the register tiles assemble to, for the CPUs at hand and for others."""

from __future__ import annotations

import re
from typing import Any

import llvmlite.binding as llvm
import pytest
from llvmlite import ir
from numba.core.registry import cpu_target

from fastbp.kernels.cpu.packing import build_copy, build_turn
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
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple, own = TARGETS[name]
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError as error:  # an LLVM built for its own machine alone
        pytest.skip(str(error))
    module = ir.Module()
    module.triple = triple
    for build in builders:
        for vectors in TILE_SETS[name].heights:
            build(module, TILE_SETS[name], itemsize, vectors).linkage = "external"
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    features = own if features is None else features
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3)
    return str(machine.emit_assembly(parsed))


@pytest.mark.parametrize(("name", "itemsize"), CASES)
def test_every_accumulator_is_one_vector_fma(name: str, itemsize: int) -> None:
    """height x width fused multiply-adds a tile, on whole vectors, none of them on scalars."""
    text = assembled(name, itemsize, [build_panel])
    heights = TILE_SETS[name].heights
    wanted = sum(height * width for width, tall in heights.items() for height in tall)
    assert len(re.findall(FMA[name], text)) == wanted
    assert not re.search(r"vfmadd\S*s[sd]\b|\bfmadd\b|\bfmaf?\b", text)  # scalars, or libm


@pytest.mark.parametrize(("name", "itemsize"), CASES)
def test_accumulators_stay_in_registers(name: str, itemsize: int) -> None:
    """A block that multiplies stores nothing: neither accumulators nor spilled operands."""
    text = assembled(name, itemsize, [build_panel])
    blocks = re.split(r"\n(?=\.LBB)", text)
    loops = [block for block in blocks if re.search(FMA[name], block)]
    assert len(loops) == sum(len(tall) for tall in TILE_SETS[name].heights.values())
    for loop in loops:
        # What follows the loop's own jump back belongs to the code after it.
        body = re.split(r"\n\s+(?:j\w+|b\.\w+|b|cbn?z)\s", loop)[0]
        assert not re.search(SPILL[TARGETS[name][0]], body), loop


@pytest.mark.parametrize(("name", "itemsize"), CASES)
def test_packing_assembles(name: str, itemsize: int) -> None:
    text = assembled(name, itemsize, [build_copy, build_turn])
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
    wanted = sum(height * width for width, tall in tiles.heights.items() for height in tall)
    assert len(re.findall(FMA[tiles.name], text)) == wanted
