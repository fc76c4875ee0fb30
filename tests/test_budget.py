"""How many cores a process may use, and how many threads pay."""

from __future__ import annotations

import io

import numpy as np
import pytest

import fastbp
from fastbp import budget
from fastbp.kernels.cpu.jit import JIT_DISABLED

V2 = "/sys/fs/cgroup/cpu.max"
V1_QUOTA, V1_PERIOD = (f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us" for name in ("quota", "period"))
QUOTAS: list[tuple[dict[str, str], int | None]] = [
    ({}, None),
    ({V2: "max 100000\n"}, None),
    ({V2: "200000 100000\n"}, 2),
    ({V2: "150000 100000\n"}, 2),  # a core and a half: two threads, part of the time
    ({V2: "1000 100000\n"}, 1),
    ({V2: "nonsense"}, None),
    ({V2: "100000 0"}, None),
    ({V1_QUOTA: "-1\n", V1_PERIOD: "100000\n"}, None),
    ({V1_QUOTA: "300000\n", V1_PERIOD: "100000\n"}, 3),
    ({V1_QUOTA: "50000\n", V1_PERIOD: "100000\n"}, 1),
    ({V1_QUOTA: "50000\n"}, None),
]


@pytest.mark.parametrize(("files", "cores"), QUOTAS)
def test_quotas_of_containers(
    files: dict[str, str], cores: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(path: str) -> io.StringIO:
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    monkeypatch.setattr(budget, "open", pretend, raising=False)
    quota = getattr(budget._quota, "__wrapped__", budget._quota)  # not what is remembered
    found = quota()
    assert found == cores if cores else found > 10_000


def test_cores_are_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_quota", lambda: 1 << 20)
    monkeypatch.setattr(budget.os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    monkeypatch.setattr(budget.config, "NUMBA_NUM_THREADS", 8)
    assert budget.available_cores() == 3
    monkeypatch.setattr(budget, "_quota", lambda: 2)
    assert budget.available_cores() == 2
    monkeypatch.setattr(budget.config, "NUMBA_NUM_THREADS", 1)
    assert budget.available_cores() == 1


@pytest.mark.skipif(JIT_DISABLED, reason="one thread then")
def test_as_many_as_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "available_cores", lambda: 8)
    work, rows = budget.WORK_A_THREAD, budget.ROWS_A_THREAD
    assert budget.choose_threads(0, 1) == 1
    assert budget.choose_threads(work - 1, 1000) == 1
    assert budget.choose_threads(3 * work, 1000) == 3
    assert budget.choose_threads(10**12, 1000) == 8
    assert budget.choose_threads(10**12, 2 * rows) == 2
    assert budget.choose_threads(0, 1, asked=5) == 5
    call = budget.WORK_A_CALL
    assert budget.choose_threads(2 * call - 1, 1000, grain=call) == 1
    assert budget.choose_threads(2 * call, 1000, grain=call) == 2


def test_float64_is_twice_the_work() -> None:
    nets = [
        fastbp.Network(30, [fastbp.Dense(20), fastbp.Dense(2)], dtype=d)
        for d in (np.float32, np.float64)
    ]
    assert [net._work(10) for net in nets] == [10 * 6 * 640, 2 * 10 * 6 * 640]
