"""Tests that run again for machines that are not at hand, in processes of their own.

A CUDA card: its tests in the simulator, and compiled, in a PTX interpreter written in NumPy
(`ptx_run.py`). A processor with AVX2 alone: exact products on thousands of shapes, with every edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processors import AVX2

from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.cpu.product import host_tiles

HERE = Path(__file__).parent
CARD = HERE / "card"
PYTEST = "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"
SIMULATED = {"NUMBA_ENABLE_CUDASIM": "1"}
RUNS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "card, simulated: training": ((*PYTEST, str(CARD / "test_training.py")), SIMULATED),
    "card, compiled: training": ((str(HERE / "ptx_run.py"), "--training"), {}),
    "card, simulated: the rest": (
        (*PYTEST, str(CARD), "--ignore", str(CARD / "test_training.py")),
        SIMULATED,
    ),
    "AVX2": ((*PYTEST, *(str(HERE / f"test_{name}.py") for name in ("products", "update"))), AVX2),
    "card, compiled: kernels": ((str(HERE / "ptx_run.py"),), {}),
}
"""Half a minute to two each, longest first: arguments of Python, environment."""


@pytest.fixture(scope="module")
def runs(python: Any, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Any]]]:
    """Those that were asked for, two at a time: each of them keeps one core busy."""
    items = (item for item in request.session.items if hasattr(item, "callspec"))
    asked = {item.callspec.params.get("run") for item in items}
    with ThreadPoolExecutor(2) as pool:
        yield {
            run: pool.submit(python, *arguments, timeout=580, **environment)
            for run, (arguments, environment) in RUNS.items()
            if run in asked
        }


@pytest.mark.slow
@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", RUNS)
def test_elsewhere(run: str, runs: dict[str, Future[Any]]) -> None:
    tiles = host_tiles()
    if RUNS[run][1] is AVX2 and (tiles is None or tiles.name != "avx512"):
        pytest.skip("the tiles of AVX2 run as it is")
    done = runs[run].result()
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
