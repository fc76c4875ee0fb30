"""What the tests share. With NUMBA_DISABLE_JIT=1 the suite is a profile: small shapes, no training
to accuracy.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from fastbp.kernels.cpu.jit import JIT_DISABLED

# Minutes each without compiled code; what they test is tested on small shapes elsewhere.
_LONG = (
    "bench", "benchmarks", "bits", "cli", "diagnose_engine", "docstrings", "finder", "gradients",
    "guides", "memory", "sklearn_extras", "sklearn_judges", "sklearn_parity",
)  # fmt: skip

collect_ignore = [f"test_{name}.py" for name in _LONG] if JIT_DISABLED else []

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def python() -> Callable[..., CompletedProcess[str]]:
    """`python(*arguments, timeout=280, **environment)`: a process of its own, run to its end.

    It starts at the root of the repository, with these variables beside those of the environment;
    its texts are caught, and its exit status is the caller's to judge.
    """

    def run(*arguments: str, timeout: float = 280, **environment: str) -> CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **environment},
            cwd=ROOT,
        )

    return run
