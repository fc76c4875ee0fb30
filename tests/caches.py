"""The cache of compiled kernels under stress: many processes at once on a cold cache.

    python tests/caches.py --processes 32 --times 20

Each process calls one public door (`kernels.activate`) and must get NumPy's numbers; all start
together on an empty cache directory. `--whole` has each train a network instead, which compiles
everything (minutes of every core).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

DOOR = """
import numpy as np
from fastbp import kernels
x = np.linspace(-2, 2, 7)
assert np.allclose(kernels.activate("relu", x[None]), np.maximum(x, 0)), "wrong numbers"
"""
WHOLE = (
    DOOR
    + """
import fastbp
net = fastbp.Network(2, [fastbp.Dense(3, "tanh"), fastbp.Dense(1)], seed=1)
history = fastbp.Trainer(net, n_threads=2, progress=False).fit(np.eye(2), np.ones(2), epochs=3)
assert np.isfinite(history.loss).all()
"""
)


def race(processes: int, code: str) -> list[str]:
    """Start so many processes at once on a cold cache; what those that failed said."""
    folder = tempfile.mkdtemp(prefix="cold-")
    try:
        command = [sys.executable, "-W", "error", "-c", code]
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        crew = [
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        said = [_unexpected(process.communicate()[1]) for process in crew]
        bad = [f"exit {p.returncode}: {words[-800:]}" for p, words in zip(crew, said, strict=True)
               if p.returncode != 0 or words]  # fmt: skip
        again = subprocess.run(command, env=environment, capture_output=True, text=True)
        return bad + ([again.stderr] if again.returncode != 0 else [])
    finally:
        shutil.rmtree(folder)


def _unexpected(words: str) -> str:
    """What a process said, but for the line that it compiles."""
    lines = words.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("fastbp: compiling its kernels"))


def main() -> int:
    """Run as described above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--whole", action="store_true")
    asked = parser.parse_args()
    failures = 0
    for attempt in range(asked.times):
        started = time.monotonic()
        bad = race(asked.processes, WHOLE if asked.whole else DOOR)
        failures += bool(bad)
        print(f"{attempt + 1}: {asked.processes} processes, {time.monotonic() - started:.0f} s, "
              f"{len(bad)} failed", *bad[:2], flush=True)  # fmt: skip
    print(f"{asked.times} cold starts of {asked.processes} processes: {failures} with a failure")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
