"""The number of threads that a training runs on, by a clock of the test's own."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
import fastbp.stream
from fastbp import threads
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.pace import AGAIN, SURE, Pace
from fastbp.threads import WORK_A_THREAD

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="one thread then")
WORK = 2 * WORK_A_THREAD


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: 2)


def numbers(pace: Pace, seconds: dict[int, float], chunks: int) -> list[int]:
    """The threads of so many chunks, whose steps take these seconds."""
    found = []
    for _ in range(chunks):
        found.append(pace.threads)
        pace.took(seconds[pace.threads])
    return found


@pytest.mark.parametrize(("seconds", "faster"), [({1: 3.0, 2: 2.0}, 2), ({1: 2.0, 2: 3.0}, 1)])
def test_each_is_tried_and_the_faster_goes_on(seconds: dict[int, float], faster: int) -> None:
    found = numbers(Pace(WORK, 100), seconds, 3 * AGAIN)
    assert found[:3] == [2, 1, faster]
    other = 3 - faster
    assert [i for i, n in enumerate(found[2:], 2) if n == other] == [AGAIN, 2 * AGAIN]


def test_the_first_chunk_may_have_loaded_code() -> None:
    pace = Pace(WORK, 100)
    pace.took(9.0)
    found = numbers(pace, {1: 3.0, 2: 2.0}, 2 * AGAIN - 1)
    assert found == [1] * (AGAIN - 1) + [2] * AGAIN


def test_when_the_other_becomes_faster_it_is_found() -> None:
    pace = Pace(WORK, 100)
    assert numbers(pace, {1: 3.0, 2: 2.0}, AGAIN)[-1] == 2
    assert numbers(pace, {1: 3.0, 2: 9.0}, 4)[-1] == 1  # slow twice: at once
    assert numbers(pace, {1: 3.0, 2: 2.0}, 2 * AGAIN)[-1] == 2  # fast again: within a while


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
        (Pace(WORK - 1, 100), 1),
        (Pace(SURE + 1, 100), 2),
    ):
        assert set(numbers(pace, {1: 1.0, 2: 9.0}, 40)) == {wanted}
