"""Shapes on several ranks of this machine, and what follows for more of them on a network.

The model, in microseconds a step with R ranks of T threads each:

    t(R, T) = (C / R + U) / T + 2 (R - 1) / R * bytes / bandwidth + 2 log2(R) * latency

C is what the ranks share (the batch's rows), U what each of them does again (the update of every
parameter, forming the gradient whole); both follow from one rank and two, less what the sum between
the two costs. The rest is an Allreduce that moves each element twice (Rabenseifner, 2004). Threads
are those that pay (`budget.choose_threads`), and are taken to divide the work evenly, which
flatters them: what is predicted is a bound.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..budget import ROWS_A_THREAD, WORK_A_THREAD
from .shapes import Shape, parse


@dataclass(frozen=True)
class Interconnect:
    """What lies between the machines: bytes a microsecond, and microseconds a message."""

    name: str
    bandwidth: float
    latency: float


INTERCONNECTS = (Interconnect("10 Gbit/s", 1250.0, 15.0), Interconnect("100 Gbit/s", 12500.0, 2.0))
"""Latencies: of TCP through a kernel, and of remote memory access; assumed, not measured."""
RANKS, CORES = 16, 64


@dataclass(frozen=True)
class Costs:
    """A shape's costs: C and U of the model in microseconds, and the bytes of its gradient."""

    shape: Shape
    shared: float
    repeated: float

    @property
    def bytes(self) -> int:
        """Of the flat gradient, float32."""
        pairs = zip(self.shape.widths[:-1], self.shape.widths[1:], strict=True)
        return 4 * sum((m + 1) * n for m, n in pairs)

    def threads(self, ranks: int, cores: int) -> int:
        """Threads that pay in a rank."""
        work, rows = self.shape.flops // ranks, self.shape.batch // ranks
        return max(1, min(cores, work // WORK_A_THREAD, rows // ROWS_A_THREAD))

    def step(self, ranks: int, cores: int, network: Interconnect) -> float:
        """Microseconds of a step."""
        own = (self.shared / ranks + self.repeated) / self.threads(ranks, cores)
        moved = 2 * (ranks - 1) / ranks * self.bytes / network.bandwidth
        return own + moved + 2 * math.log2(ranks) * network.latency

    def best(self, cores: int, network: Interconnect) -> int:
        """Ranks, a power of two, beyond which twice as many gain less than a tenth."""
        ranks = 1
        while ranks < self.shape.batch and 2 * ranks <= 1024:
            if self.step(2 * ranks, cores, network) > 0.9 * self.step(ranks, cores, network):
                break
            ranks *= 2
        return ranks


def fitted(entry: dict[str, Any]) -> Costs:
    """C and U from what was measured of one rank and of two, each with one thread."""
    one, two = (_row(entry, ranks, 1) for ranks in (1, 2))
    shared = min(max(2 * (one["us"] - two["us"] + two["sum_us"]), 0.0), one["us"])
    return Costs(parse(entry["shape"]), shared, one["us"] - shared)


def _row(entry: dict[str, Any], ranks: int, threads: int) -> dict[str, Any]:
    rows = entry["rows"]
    return next(r for r in rows if (r["ranks"], r["threads"]) == (ranks, threads))


def launcher() -> str | None:
    """`mpiexec`, of this environment first."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def run(
    shapes: Sequence[Shape], ranks: Sequence[int], repeats: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure shapes on so many ranks of one thread, and on one rank of as many threads, in turns.

    Returns:
        What `fastbp bench --ranks --json` stores: {"ranks", "repeats", "shapes": [{"name", "shape",
        "rows": [{"ranks", "threads", "us", "sum_us", "call_us"}]}]}; medians of the repeats.

    Raises:
        RuntimeError: a run failed; what it said is in the message.
    """
    cases = [(n, 1) for n in ranks] + [(1, n) for n in ranks if n > 1]
    found: list[dict[str, Any]] = []
    for shape in shapes:
        runs: dict[tuple[int, int], list[dict[str, Any]]] = {case: [] for case in cases}
        for turn in range(repeats):
            for case, seen in runs.items():
                say(f"{shape.name}: {case[0]} ranks x {case[1]} threads, {turn + 1} of {repeats}")
                seen.append(_measure(shape, *case))
        rows = [
            {"ranks": n, "threads": t}
            | {key: median(one[key] for one in seen) for key in ("us", "sum_us", "call_us")}
            for (n, t), seen in runs.items()
        ]
        found.append({"name": shape.name, "shape": str(shape), "rows": rows})
    return {"ranks": list(ranks), "repeats": repeats, "shapes": found}


def _measure(shape: Shape, ranks: int, threads: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "fastbp.bench.ranks", str(shape)]
    command += ["--threads", str(threads), "--steps", str(shape.steps)]
    if ranks > 1:  # bound: ranks that wander between cores lose a tenth
        command = [launcher() or "mpiexec", "-bind-to", "core", "-n", str(ranks), *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{ranks} ranks of {shape.name}: {done.stderr.strip()[-400:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def measured(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What was measured: headings and rows of text."""
    head = ["shape", "ranks", "us/step", "one rank, as many threads", "efficiency", "sum, us"]
    rows = []
    for entry in result["shapes"]:
        for ranks in result["ranks"]:
            own, threads = _row(entry, ranks, 1), _row(entry, 1, ranks)
            share = threads["us"] / own["us"]
            numbers = (f"{own['us']:,.1f}", f"{threads['us']:,.1f}", f"{share:.0%}")
            rows.append([entry["name"], str(ranks), *numbers, f"{own['sum_us']:,.1f}"])
    return head, rows


def predicted(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What follows for RANKS machines of CORES cores: headings and rows of text."""
    head = ["shape", "C, us", "U, us", "gradient, KB", "one machine, us"]
    for network in INTERCONNECTS:
        head += [f"{RANKS} at {network.name}, us", "faster", "stops at"]
    rows = []
    for entry in result["shapes"]:
        costs = fitted(entry)
        alone = costs.step(1, CORES, INTERCONNECTS[0])
        row = [entry["name"], f"{costs.shared:,.1f}", f"{costs.repeated:,.1f}"]
        row += [f"{costs.bytes / 1000:,.0f}", f"{alone:,.1f}"]
        for network in INTERCONNECTS:
            step = costs.step(RANKS, CORES, network)
            row += [f"{step:,.1f}", f"{alone / step:.2f}x", str(costs.best(CORES, network))]
        rows.append(row)
    return head, rows
