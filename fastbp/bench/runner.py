"""One interleaved run: every peer is checked, then all take turns, round after round.

A machine's speed drifts; what is compared must be measured side by side. Each peer at each number
of threads is a process of its own (`worker.py`) that lives through the whole run, so that one
library's threads, allocator and flags do not touch another's.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from statistics import median
from types import TracebackType
from typing import Any, Self

from .peers import PEERS, REFERENCE
from .shapes import Shape

CHECKED_STEPS = 20
REST = 0.2
"""Seconds before each timing: threads of a BLAS spin for 0.1 s after what the last peer did."""
ROOF_OF = {"cpu": "numpy", "cuda": "torch"}
"""The peer whose library says what the device multiplies at best."""
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Failure(Exception):
    """A peer could not do what it was asked."""


class Remote:
    """A worker process, seen from the parent."""

    def __init__(self, peer: str, threads: int, device: str = "cpu") -> None:
        self.peer, self.threads, self.device = peer, threads, device
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fastbp.bench.worker", peer, str(threads), device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and wait for its reply."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise Failure(f"its process ended (status {self._process.wait()})")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise Failure(reply["error"])
        return reply

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        # An interrupted run must not wait for an epoch of the slowest peer.
        if error is not None:
            self._process.kill()
        self._process.communicate()


def run(
    shapes: Sequence[Shape],
    peers: Iterable[str],
    threads: Sequence[int],
    repeats: int,
    say: Callable[[str], None] = lambda text: None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure shapes x peers x threads.

    Args:
        shapes: what is trained.
        peers: names of `PEERS`; the NumPy loop is added, as the one to check against, and timed
            beside them but on a card.
        threads: numbers of threads that each peer is measured at.
        repeats: timed of each, in turns; one is a fit of `shapes.EPOCHS` epochs.
        say: told what is going on.
        device: "cuda" has those peers that can train on the card.

    Returns:
        What `fastbp bench --json` stores: {"date", "threads", "repeats", "roof": {threads:
        GFLOP/s}, "shapes": [{"name", "shape", "flops", "expected", "rows": [...], "left_out":
        [...]}]}; "expected" is the NumPy loop's loss. A row has peer, threads, us (median), low,
        high, loss and loss_steps: the number of first steps that it is the mean of. "roof" is empty
        where nobody could tell.
    """
    asked = [*dict.fromkeys(peers)]
    names = [*dict.fromkeys([*asked, REFERENCE])]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Remote(name, number, device))
            for number in threads
            for name in names
        ]
        roofs: dict[int, list[float]] = {number: [] for number in threads}
        timed = names if device == "cpu" else asked
        results = [_measure(shape, workers, timed, repeats, roofs, say) for shape in shapes]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "threads": list(threads),
        "repeats": repeats,
        "roof": {str(number): median(found) for number, found in roofs.items() if found},
        "shapes": results,
    }


def _measure(
    shape: Shape,
    workers: Sequence[Remote],
    timed: Collection[str],
    repeats: int,
    roofs: dict[int, list[float]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    ready: list[tuple[Remote, dict[str, Any], list[float]]] = []
    expected = math.nan
    for worker, loss, problem in _checked(shape, workers, say):
        if worker.peer == REFERENCE and loss:
            expected = loss["loss"]
        if problem:
            left_out.append({"peer": worker.peer, "threads": worker.threads, "why": problem})
        elif worker.peer in timed:
            ready.append((worker, loss, []))
    for turn in range(repeats):
        say(f"{shape.name}: round {turn + 1} of {repeats}")
        for worker, _, times in ready:
            time.sleep(REST)
            times.append(worker.ask("time")["us"])
            if worker.peer == ROOF_OF[worker.device]:
                time.sleep(REST)
                roofs[worker.threads].append(worker.ask("roof")["gflops"])
    for worker, loss, times in ready:
        rows.append(
            {
                "peer": worker.peer,
                "threads": worker.threads,
                "us": median(times),
                "low": min(times),
                "high": max(times),
                **loss,
            }
        )
    return {
        "name": shape.name,
        "shape": str(shape),
        "flops": shape.flops,
        "expected": expected,
        "rows": rows,
        "left_out": left_out,
    }


def _checked(
    shape: Shape, workers: Sequence[Remote], say: Callable[[str], None]
) -> list[tuple[Remote, dict[str, Any], str]]:
    """Each worker with the row's "loss" and "loss_steps", and why it is left out, if it is.

    Same start weights, same batches: the mean loss of the first steps, and that of the very first
    batch, must be those of the NumPy loop.
    """
    found: list[tuple[Remote, dict[str, Any], str]] = []
    expected: dict[int, float] = {}
    for worker in sorted(workers, key=lambda one: one.peer != REFERENCE):
        spec = PEERS[worker.peer]
        say(f"{shape.name}: {worker.peer}, {worker.threads} threads: preparing")
        same = 1 if spec.two_classes_differ and shape.widths[-1] == 2 else CHECKED_STEPS
        try:
            worker.ask("open", shape=str(shape), steps=shape.steps)
            losses = {
                steps: worker.ask("losses", steps=steps)["loss"]
                for steps in sorted({1, min(same, shape.steps)})
            }
        except Failure as failure:
            found.append((worker, {}, str(failure)[:200]))
            continue
        if worker.peer == REFERENCE:
            expected = expected or losses
        problem = disagreement(losses, expected, spec.tolerance)
        most = max(losses)
        found.append((worker, {"loss": losses[most], "loss_steps": most}, problem))
    return found


def disagreement(losses: dict[int, float], expected: dict[int, float], tolerance: float) -> str:
    """What is wrong with mean losses by number of steps; nothing where they agree.

    Example:
        >>> disagreement({1: 2.3, 20: 1.5}, {1: 2.3, 20: 1.2}, 1e-4)
        "its loss over 20 steps is 1.5, the NumPy loop's 1.2"
    """
    for steps, loss in losses.items():
        want = expected.get(steps, math.nan)
        if not math.isclose(loss, want, rel_tol=tolerance):
            return f"its loss over {steps} steps is {loss:.7g}, the NumPy loop's {want:.7g}"
    return ""
