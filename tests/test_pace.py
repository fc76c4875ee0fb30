"""The number of threads that a training runs on, by a clock of the test's own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastbp
import fastbp.stream
from fastbp import budget
from fastbp import pace as module
from fastbp.budget import ROWS_A_THREAD, WORK_A_THREAD
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.pace import AGAIN, KEPT, LATELY, SELDOM, SURE, TRIAL, TRIED_ROWS, TRIED_WORK, Pace

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="one thread then")
WORK = 2 * WORK_A_THREAD


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "available_cores", lambda: 2)
    monkeypatch.setattr(module, "_lately", {})


def numbers(pace: Pace, seconds: dict[int, float], chunks: int) -> list[int]:
    """The threads of so many chunks, whose steps take these seconds."""
    found = []
    for _ in range(chunks):
        found.append(pace.threads)
        pace.took(seconds[pace.threads])
    return found


@pytest.mark.parametrize(("seconds", "faster"), [({1: 2.2, 2: 2.0}, 2), ({1: 2.0, 2: 2.2}, 1)])
def test_each_is_tried_and_the_faster_goes_on(seconds: dict[int, float], faster: int) -> None:
    found = numbers(Pace(WORK, 100), seconds, 3 * AGAIN)
    # The first chunk began cold: if it looks slower, its number is looked at once more.
    assert found[:4] == [2, 1, 2, faster]
    other = 3 - faster
    assert [i for i, n in enumerate(found[3:], 3) if n == other] == [AGAIN, 2 * AGAIN]


def test_below_the_work_that_is_sure_to_pay_one_thread_is_tried_first() -> None:
    few = 2 * ROWS_A_THREAD // TRIED_ROWS
    for given in ((WORK // TRIED_WORK, 2 * few), (WORK - 1, 100), (10 * WORK, few)):
        assert numbers(Pace(*given), {1: 2.4, 2: 2.0}, 5) == [1, 2, 1, 2, 2]
        module._lately.clear()
        assert numbers(Pace(*given), {1: 2.0, 2: 2.4}, 4) == [1, 2, 1, 1]
    assert numbers(Pace(10 * WORK, few - 1), {1: 2.4, 2: 2.0}, 4) == [1, 1, 1, 1]


@pytest.mark.parametrize(("times", "chunks"), [(1.1, AGAIN), (1.5, 50), (9.0, SELDOM)])
def test_the_slower_is_looked_at_so_seldom_that_it_costs_little(times: float, chunks: int) -> None:
    """(1.5 - 1) / 50 of the time is 1%."""
    found = numbers(Pace(WORK, 100), {1: times, 2: 1.0}, 4 * SELDOM)
    looks = [i for i, n in enumerate(found[2:], 2) if n == 1]
    assert looks[0] == AGAIN  # once so far, and that may have been by chance
    assert {b - a for a, b in itertools.pairwise(looks)} == {chunks}


def test_a_first_chunk_that_began_cold_is_not_believed() -> None:
    pace = Pace(WORK, 100)
    pace.took(9.0)
    assert numbers(pace, {1: 3.0, 2: 2.0}, AGAIN - 1) == [1] + [2] * (AGAIN - 2)
    assert numbers(pace, {1: 3.0, 2: 2.0}, 2)[0] == 1  # looked at once so far


def test_when_the_other_becomes_faster_it_is_found() -> None:
    pace = Pace(WORK, 100)
    assert numbers(pace, {1: 3.0, 2: 2.0}, AGAIN)[-1] == 2
    assert numbers(pace, {1: 3.0, 2: 9.0}, 4)[-1] == 1  # slow twice: at once
    assert numbers(pace, {1: 3.0, 2: 2.0}, 2 * SELDOM)[-1] == 2  # fast again: within a while


def test_a_stream_keeps_what_it_learnt_while_items_are_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Pace] = []

    def pace(*given: int) -> Pace:
        made.append(Pace(*given))
        return made[-1]

    monkeypatch.setattr(fastbp.stream, "Pace", pace)
    X, y = np.eye(8), np.arange(8) % 2
    net = fastbp.Network(8, [fastbp.Dense(2, "softmax")])
    items = [(X, y)] * 5 + [(X[:4], y[:4])] * 3
    fastbp.Trainer(net, progress=False).fit_stream(items, epochs=1)
    assert len(made) == 2


def test_what_is_sure_is_not_tried() -> None:
    for pace, wanted in (
        (Pace(WORK, 100, asked=2), 2),
        (Pace(WORK // TRIED_WORK - 1, 100), 1),
        (Pace(SURE + 1, 100), 2),
    ):
        assert set(numbers(pace, {1: 1.0, 2: 9.0}, 40)) == {wanted}


def test_a_number_on_trial_gets_a_short_chunk() -> None:
    pace = Pace(WORK, 100)
    lengths = []
    for seconds in (2.4, 3.0, 2.0, 2.0):  # on 2, 1, 2, 2 threads
        lengths.append(pace.chunk(0.05))
        pace.took(seconds)
    assert lengths == [0.05, TRIAL, 0.05, 0.05]
    while pace.threads == 2:
        pace.took(2.0)
    assert pace.chunk(0.05) == TRIAL
    assert pace.chunk(TRIAL / 2) == TRIAL / 2


def test_the_next_fit_of_such_steps_goes_on_with_what_this_one_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    seconds = {1: 2.0, 2: 2.4}
    whole = numbers(Pace(WORK, 100), seconds, 2 * AGAIN - 1)
    module._lately.clear()
    pieces = [numbers(Pace(WORK, 100), seconds, 1)[0] for _ in whole]
    assert pieces == whole
    assert Pace(WORK, 100).threads == 1
    for other in (Pace(WORK + 1, 100), Pace(WORK, 101), Pace(WORK, 100, asked=2)):
        assert other.threads == 2
    now[0] += LATELY
    assert Pace(WORK, 100).threads == 2


def test_few_kinds_of_steps_are_remembered() -> None:
    for rows in range(100, 100 + 2 * KEPT):
        Pace(WORK, rows).took(1.0)
    assert [rows for _, rows, _ in module._lately] == list(range(100 + KEPT, 100 + 2 * KEPT))


def test_what_was_found_with_more_cores_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers(Pace(3 * WORK_A_THREAD, 100), {1: 2.0, 2: 2.4}, 4)
    monkeypatch.setattr(budget, "available_cores", lambda: 3)
    assert Pace(3 * WORK_A_THREAD, 100).threads == 3


def test_the_next_chunk_is_as_long_as_the_clock_says_by_step() -> None:
    pace = Pace(1, 1)
    pace.took(1.0, steps=100)
    assert pace.steps(0.05) == 5
    assert pace.steps(0.0) == 1
