"""What the tests of ranks share: the launcher, when they are skipped, a program as a module."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from fastbp.bench.scaling import launcher
from fastbp.kernels.cpu.jit import JIT_DISABLED

MPIEXEC = launcher()
NEEDED = [
    pytest.mark.skipif(
        importlib.util.find_spec("mpi4py") is None or MPIEXEC is None,
        reason="needs the extra fastbp[mpi]",
    ),
    pytest.mark.skipif(JIT_DISABLED, reason="ranks need compiled code"),
]


def module_of(program: Path) -> Any:
    """A program of the tests as a module, which then runs nothing."""
    spec = importlib.util.spec_from_file_location(f"fastbp_{program.stem}", program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
