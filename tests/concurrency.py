"""The matrix of threads and processes: what each cell computes must be what one thread computes.

    python tests/concurrency.py                    # every case under tbb, omp and workqueue
    python tests/concurrency.py --layer omp --small

Each case runs in a process of its own under one threading layer, with a limit of time: an abort, a
kill or a hang is a failure of that cell alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LAYERS = ("tbb", "omp", "workqueue")
SMALL = ("threads", "doors", "fork", "nested")
LIMIT = 240  # seconds a case


def answer(seed: int, n_threads: int | None = None) -> bytes:
    """A fit, predictions, and public doors wide enough for a parallel region, as bytes."""
    import fastbp

    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(600, 20)).astype("f4"), rng.integers(0, 3, 600)
    layers = [fastbp.Dense(64, "tanh", batch_norm=True, dropout=0.1), fastbp.Dense(3, "softmax")]
    net = fastbp.Network(20, layers, seed=seed)
    trainer = fastbp.Trainer(net, batch_size=64, n_threads=n_threads, progress=False)
    trainer.fit(X, y, epochs=2, validation=0.1)
    return net.parameters.tobytes() + net.forward(X).tobytes() + doors(seed)


def doors(seed: int) -> bytes:
    """Public kernels on arrays large enough to be cut up among threads, the screen among them."""
    from fastbp import kernels
    from fastbp.kernels.cpu.screen import first_not_finite

    rng = np.random.default_rng(seed)
    A, W = rng.normal(size=(700, 96)).astype("f4"), rng.normal(size=(96, 80)).astype("f4")
    Z = kernels.linear_forward(A, W)
    parts = [Z, kernels.activate("gelu", Z), *kernels.weight_gradient(A, Z)]
    parts += [*kernels.batch_statistics(Z), kernels.dropout(Z, 0.5, seed=seed)[0]]
    large = np.ones((1100, 1024), "f4")  # above PARALLEL_FROM
    assert first_not_finite(large) is None
    large[1000, seed] = np.nan
    assert first_not_finite(large) == (1000, seed)
    return b"".join(np.asarray(part).tobytes() for part in parts)


def expected(count: int) -> list[bytes]:
    """One after the other, on one thread."""
    return [answer(seed, 1) for seed in range(count)]


def all_at_once(work: Callable[[int], bytes], count: int) -> list[Any]:
    """`work(0)`, `work(1)`, ... on threads of their own."""
    found: list[Any] = [None] * count

    def call(i: int) -> None:
        found[i] = work(i)

    crew = [threading.Thread(target=call, args=(i,)) for i in range(count)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return found


# --- cases: each is true where all is well -------------------------------------------------------


def threads() -> bool:
    """Eight Python threads that fit and predict."""
    return all_at_once(lambda i: answer(i, 1 + i % 3), 8) == expected(8)


def cold_threads() -> bool:
    """The same as the first thing that the process does: everything compiles or loads at once."""
    found = all_at_once(lambda i: answer(i % 2, 2), 8)
    return found == expected(2) * 4


def parallel_doors() -> bool:
    """Eight threads at the public kernels and the screen, many times."""
    want = [doors(seed) for seed in range(8)]
    return all(all_at_once(doors, 8) == want for _ in range(5))


def fork() -> bool:
    """A child forked after a fit fits, and its parent goes on."""
    want = [answer(0, 2), answer(1, 1)]
    child = os.fork()
    if child == 0:
        os._exit(0 if [answer(0, 2), answer(1, 2)] == want else 3)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0 and answer(0, 2) == want[0]


def fork_pool() -> bool:
    """multiprocessing by fork, after a fit."""
    want = expected(4)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(answer, range(4)) == want


def fork_from_threads() -> bool:
    """A fork while other threads fit."""
    want, statuses = expected(3), []

    def forking(i: int) -> bytes:
        if i:
            return answer(i, 2)
        child = os.fork()
        if child == 0:
            os._exit(0 if answer(0, 2) == want[0] else 3)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return answer(0, 2)

    return all_at_once(forking, 3) == want and statuses == [0]


def spawn_pool() -> bool:
    """multiprocessing by spawn."""
    want = expected(4)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return pool.map(answer, range(4)) == want


def joblib_threading() -> bool:
    """joblib's threads."""
    import joblib

    jobs = (joblib.delayed(answer)(seed) for seed in range(6))
    return list(joblib.Parallel(n_jobs=3, backend="threading")(jobs)) == expected(6)


def joblib_loky() -> bool:
    """joblib's processes."""
    import joblib

    jobs = (joblib.delayed(answer)(seed) for seed in range(4))
    return list(joblib.Parallel(n_jobs=2, backend="loky")(jobs)) == expected(4)


def nested() -> bool:
    """A fit within a callback of another, and threads within threads."""
    import fastbp

    want, inner = expected(3), []

    def within(state: Any) -> None:
        inner.append(all_at_once(lambda i: answer(i, 2), 2))

    net = fastbp.Network(2, [fastbp.Dense(1)])
    fastbp.Trainer(net, n_threads=2, progress=False).fit(np.eye(2), np.ones(2), callbacks=[within])
    return inner == [want[:2]] and all_at_once(lambda i: all_at_once(answer, 2)[i], 2) == want[:2]


def numba_region() -> bool:
    """Somebody else's parallel Numba code on other threads meanwhile."""
    if os.environ["NUMBA_THREADING_LAYER"] == "workqueue":
        return True  # Numba aborts when two threads enter it: no use of ours can mend that
    import numba

    @numba.njit(parallel=True)
    def total(x: Any) -> float:
        result = 0.0
        for i in numba.prange(x.size):
            result += x[i]
        return result

    x = np.ones(100_000)

    def mixed(i: int) -> bytes:
        if i % 2:
            assert all(total(x) == 100_000.0 for _ in range(200))
            return b""
        return answer(i, 2)

    total(x)
    found = all_at_once(mixed, 4)
    return [found[0], found[2]] == [answer(0, 1), answer(2, 1)]


CASES: dict[str, Callable[[], bool]] = {
    "threads": threads,
    "cold threads": cold_threads,
    "doors": parallel_doors,
    "fork": fork,
    "fork pool": fork_pool,
    "fork from threads": fork_from_threads,
    "spawn pool": spawn_pool,
    "joblib threading": joblib_threading,
    "joblib loky": joblib_loky,
    "nested": nested,
    "numba region": numba_region,
}


def installed(layer: str) -> str | None:
    """Why a layer cannot be had, or None."""
    code = (
        "import numba\n@numba.njit(parallel=True)\ndef f():\n    t = 0\n"
        "    for i in numba.prange(9):\n        t += i\n    return t\n"
        f"f()\nassert numba.threading_layer() == {layer!r}"
    )
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    return None if done.returncode == 0 else f"{layer} is not installed"


def main() -> int:
    """Run as described above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layer", choices=LAYERS)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--case", choices=CASES)
    asked = parser.parse_args()
    if asked.case:
        return 0 if CASES[asked.case]() else 1
    bad = 0
    for layer in [asked.layer] if asked.layer else LAYERS:
        if missing := installed(layer):
            print(missing)
            continue
        for case in SMALL if asked.small else CASES:
            environment = {**os.environ, "NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "4"}
            command = [sys.executable, str(Path(__file__)), "--case", case]
            try:
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, timeout=LIMIT
                )
                words = "equal" if done.returncode == 0 else f"exit {done.returncode}"
                words += "" if done.returncode == 0 else "\n" + done.stderr[-1500:]
            except subprocess.TimeoutExpired:
                words = f"no end within {LIMIT} s"
            bad += words != "equal"
            print(f"{layer:10} {case:20} {words}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
