"""Schedules: each against its formula, whatever the cut into chunks, and what bad ones get."""

from __future__ import annotations

import copy
import itertools
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp.rates import Called, as_schedule

TOTAL = 137


def _one_cycle(t: int) -> float:
    """PyTorch's OneCycleLR: two phases that end at rise * total - 1 and total - 1."""
    start, peak, last = 0.5 / 25, 0.3 * TOTAL - 1, TOTAL - 1
    if t <= peak:
        low, high, share = start, 0.5, t / peak
    else:
        low, high, share = 0.5, start / 1e4, (t - peak) / (last - peak)
    return high + (low - high) / 2 * (1 + math.cos(math.pi * min(share, 1)))


# The formula of each, one step at a time, with scalar functions of the C library.
FORMULAS: list[tuple[fastbp.Schedule, Callable[[int], float]]] = [
    (fastbp.Constant(0.5), lambda t: 0.5),
    (fastbp.InverseTime(0.5, 0.1), lambda t: 0.5 / (1 + 0.1 * t)),
    (fastbp.InverseTime(0.5, 0.1, power=0.6), lambda t: 0.5 / (1 + 0.1 * t) ** 0.6),
    (fastbp.StepDecay(0.5, every=10, factor=0.3), lambda t: 0.5 * 0.3 ** (t // 10)),
    (fastbp.StepDecay(0.5, every=(5, 60)), lambda t: 0.5 * 0.1 ** ((t >= 5) + (t >= 60))),
    (fastbp.Exponential(0.5, 0.9), lambda t: 0.5 * 0.9**t),
    (fastbp.Exponential(0.5, 0.9, every=7), lambda t: 0.5 * 0.9 ** (t / 7)),
    (fastbp.Cosine(0.5), lambda t: 0.25 * (1 + math.cos(math.pi * min(t / TOTAL, 1)))),
    (
        fastbp.Cosine(0.5, steps=50, final=0.1),
        lambda t: 0.1 + 0.2 * (1 + math.cos(math.pi * min(t / 50, 1))),
    ),
    (fastbp.OneCycle(0.5), _one_cycle),
    (
        fastbp.Warmup(fastbp.Exponential(0.5, 0.9), 20),
        lambda t: 0.5 * (t + 1) / 20 if t < 20 else 0.5 * 0.9 ** (t - 20),
    ),
    (
        fastbp.Warmup(fastbp.Cosine(0.5), 37),
        lambda t: (t + 1) / 74 if t < 37 else 0.5 * math.cos(math.pi * min(t - 37, 100) / 200) ** 2,
    ),
    (fastbp.Warmup(0.5, 4), lambda t: 0.5 * min((t + 1) / 4, 1)),  # type: ignore[arg-type]
    (fastbp.ReduceOnPlateau(0.5), lambda t: 0.5),
    (Called(lambda t: 1 / (t + 2)), lambda t: 1 / (t + 2)),
]  # fmt: skip
IDS = [f"{i}-{type(schedule).__name__}" for i, (schedule, _) in enumerate(FORMULAS)]


@pytest.mark.parametrize(("schedule", "formula"), FORMULAS, ids=IDS)
def test_formula(schedule: fastbp.Schedule, formula: Callable[[int], float]) -> None:
    rates = schedule.rates(0, 150, TOTAL)
    assert rates.dtype == np.float64
    assert rates.shape == (150,)
    # cos and pow are good to 4 ulp, arguments to 1, and each rate is at most 0.5; powers near 1
    # amplify an ulp of the base up to 150 times: 0.5 * 200 * 2^-52 = 2.3e-14.
    np.testing.assert_allclose(rates, [formula(t) for t in range(150)], rtol=0, atol=2.5e-14)


@pytest.mark.parametrize("schedule", [f[0] for f in FORMULAS], ids=IDS)
def test_any_cut_into_chunks_gives_the_same_bits(schedule: fastbp.Schedule) -> None:
    whole = schedule.rates(0, 300, TOTAL)
    for cuts in ([0, 1, 2, 3, 300], [0, 63, 64, 65, 129, 300], [0, 7, 100, 107, 299, 300]):
        pieces = [schedule.rates(a, b - a, TOTAL) for a, b in itertools.pairwise(cuts)]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("schedule", [f[0] for f in FORMULAS[:-1]], ids=IDS[:-1])
def test_schedules_copy_pickle_and_keep_plain_state(schedule: fastbp.Schedule) -> None:
    assert pickle.loads(pickle.dumps(schedule)) == copy.deepcopy(schedule) == schedule
    state = schedule.initial_state()
    assert json.loads(json.dumps(state)) == state
    schedule.observe(state, {"loss": 1.0})
    assert json.loads(json.dumps(state)) == state


def test_rates_are_computed_in_whole_blocks() -> None:
    # NumPy may round a vector body and its remainder differently; here it happens not to.
    asked: list[tuple[float, int]] = []

    class Probe(fastbp.Schedule):
        def at(self, steps: Any, total: int | None, state: Any) -> Any:
            asked.append((steps[0], len(steps)))
            return steps * 1.0

    assert Probe().rates(70, 3).tolist() == [70.0, 71.0, 72.0]
    assert Probe().rates(60, 200).tolist() == [float(t) for t in range(60, 260)]
    assert asked == [(64.0, 64), (0.0, 320)]


def test_robbins_monro() -> None:
    rates = fastbp.InverseTime(1.0, 1.0).rates(0, 100_000)
    assert rates.sum() > 12.0  # harmonic: log(100000) + 0.577
    assert (rates**2).sum() < math.pi**2 / 6


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch")
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    peer = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.5, total_steps=TOTAL, cycle_momentum=False
    )
    theirs = []
    for _ in range(TOTAL):
        theirs.append(peer.get_last_lr()[0])
        optimizer.step()
        if len(theirs) < TOTAL:
            peer.step()
    np.testing.assert_allclose(fastbp.OneCycle(0.5).rates(0, TOTAL, TOTAL), theirs, rtol=1e-12)


def test_reduce_on_plateau_counts_epochs_without_improvement() -> None:
    schedule = fastbp.ReduceOnPlateau(1.0, factor=0.5, patience=2, least=0.2)
    state = schedule.initial_state()
    seen = []
    for loss in (5, 4, 4, 4, 4, 4, 3, 3, float("nan"), 3, 3, 3, 3):
        schedule.observe(state, {"loss": float(loss)})
        seen.append(float(schedule.rates(10, 1, None, state)[0]))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2]
    assert schedule.rates(0, 1)[0] == 1.0  # the schedule itself did not change


def test_reduce_on_plateau_takes_small_gains_for_none() -> None:
    schedule = fastbp.ReduceOnPlateau(1.0, patience=1, threshold=0.01)
    state = schedule.initial_state()
    for loss in (1.0, 0.985, 0.98):  # gains of 1.5% and 0.5%
        schedule.observe(state, {"loss": loss})
    assert state == {"best": 0.985, "waited": 0, "reductions": 1}


def test_reduce_on_plateau_knows_which_way_is_up() -> None:
    record = {"loss": 1.0, "validation_accuracy": 0.5, "mine": 3.0}
    schedule = fastbp.ReduceOnPlateau(1.0, patience=1, monitor="validation_accuracy")
    state = schedule.initial_state()
    for accuracy in (0.5, 0.6, 0.7):
        schedule.observe(state, {**record, "validation_accuracy": accuracy})
    assert (state["best"], state["reductions"]) == (0.7, 0)
    with pytest.raises(ValueError, match="mode='max' or 'min'"):
        fastbp.ReduceOnPlateau(1.0, monitor="mine").observe(state, record)
    fastbp.ReduceOnPlateau(1.0, monitor="mine", mode="max").observe(state, record)
    with pytest.raises(ValueError, match="needs held-out data"):
        fastbp.ReduceOnPlateau(1.0, monitor="validation_loss").observe(state, {"loss": 1.0})


def test_warmup_passes_the_plateau_on() -> None:
    schedule = fastbp.Warmup(fastbp.ReduceOnPlateau(1.0, factor=0.5, patience=1), steps=2)
    state = schedule.initial_state()
    for _ in range(2):
        schedule.observe(state, {"loss": 1.0})
    assert schedule.rates(0, 4, None, state).tolist() == [0.25, 0.5, 0.5, 0.5]


def test_a_plateau_counts_from_the_end_of_a_warmup() -> None:
    plateau = fastbp.ReduceOnPlateau(0.1, patience=1, factor=0.5)
    net = fastbp.Network(2, [fastbp.Dense(1)])
    trainer = fastbp.Trainer(net, fastbp.SGD(fastbp.Warmup(plateau, 5)), batch_size=None)
    rates = trainer.fit(np.zeros((9, 2)), np.zeros(9), epochs=8).lr  # an epoch is a step
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.05, 0.025], rel=1e-12)


def test_a_callable_is_asked_for_each_step_once() -> None:
    asked: list[int] = []

    def rate(step: int) -> float:
        asked.append(step)
        return ([0.1] * 70)[step]  # knows no rate beyond step 69

    schedule = as_schedule(rate)
    schedule.rates(60, 5)
    schedule.rates(65, 5)
    assert asked == list(range(60, 70))
    assert all(type(step) is int for step in asked)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [(float("nan"), ValueError, r"lr\(3\)=nan must be a finite number"),
     (-0.1, ValueError, r"lr\(3\)=-0.1 must be 0 or more"),
     (None, TypeError, r"lr\(3\)=None is of type NoneType"),
     (np.ones(2), TypeError, r"lr\(3\)=array")],
)  # fmt: skip
def test_a_callables_bad_rate_names_the_step(value: Any, kind: type[Exception], words: str) -> None:
    schedule = as_schedule(lambda step: value if step == 3 else np.float32(0.1))
    schedule.rates(0, 3)
    with pytest.raises(kind, match=words):
        schedule.rates(0, 4)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [(-1, ValueError, "lr=-1 must be 0 or more"),
     (float("inf"), ValueError, "lr=inf must be a finite number"),
     ("0.1", TypeError, "lr='0.1' is of type str; give a number of 0 or more, a schedule"),
     (None, TypeError, "lr=None is of type NoneType"),
     (True, TypeError, "lr=True"),
     (fastbp.Cosine, TypeError, r"is the class; give an object of it: Cosine\(\.\.\.\)")],
)  # fmt: skip
def test_as_schedule_refuses(value: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        as_schedule(value)


@pytest.mark.parametrize(
    ("make", "words"),
    [(lambda: fastbp.Constant(-1), "lr=-1"),
     (lambda: fastbp.InverseTime(0.1, -1), "decay=-1"),
     (lambda: fastbp.InverseTime(0.1, 1, power=-1), "power=-1"),
     (lambda: fastbp.StepDecay(0.1, every=0), "every=0"),
     (lambda: fastbp.StepDecay(0.1, every=(3, 3)), r"every=\(3, 3\) must be increasing"),
     (lambda: fastbp.StepDecay(0.1, every=3, factor=-1), "factor=-1"),
     (lambda: fastbp.Exponential(0.1, 1.5), "factor=1.5 must be at most 1"),
     (lambda: fastbp.Exponential(0.1, 0), "factor=0"),
     (lambda: fastbp.Cosine(0.1, steps=0), "steps=0"),
     (lambda: fastbp.Cosine(0.1, final=-1), "final=-1"),
     (lambda: fastbp.OneCycle(0.1, rise=1.0), "rise=1.0"),
     (lambda: fastbp.OneCycle(0.1, start_divisor=0), "start_divisor=0"),
     (lambda: fastbp.Warmup(fastbp.Constant(1), 0), "steps=0"),
     (lambda: fastbp.Warmup(-1, 3), "schedule=-1"),  # type: ignore[arg-type]
     (lambda: fastbp.ReduceOnPlateau(0.1, factor=1.0), "factor=1.0"),
     (lambda: fastbp.ReduceOnPlateau(0.1, patience=0), "patience=0"),
     (lambda: fastbp.ReduceOnPlateau(0.1, mode="up"), "mode='up'"),
     (lambda: fastbp.Cosine(0.1).rates(0, 1), r"give Cosine\(\.\.\., steps=\.\.\.\), or epochs="),
     (lambda: fastbp.OneCycle(0.1).rates(0, 1), "OneCycle")],
)  # fmt: skip
def test_bad_schedules_are_named(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_cycles_stay_finite(steps: int) -> None:
    for schedule in (
        fastbp.OneCycle(0.1, steps),
        fastbp.Cosine(0.1, steps),
        fastbp.Warmup(fastbp.OneCycle(0.1), 5),
    ):
        rates = schedule.rates(0, 10, steps)
        assert np.isfinite(rates).all()
        assert ((rates >= 0) & (rates <= 0.1 * (1 + 1e-15))).all()


def test_what_a_warmup_leads_to_is_looked_at_before_a_fit() -> None:
    later = fastbp.Warmup(fastbp.ReduceOnPlateau(0.1, monitor="validation_loss"), 5)
    net = fastbp.Network(2, [fastbp.Dense(1)])
    trainer = fastbp.Trainer(net, fastbp.SGD(later), batch_size=1)
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match="needs held-out data"):
        trainer.fit([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0])
    assert (net.parameters.tobytes(), trainer.step) == (before, 0)


def test_what_a_plateau_watches_is_a_name() -> None:
    with pytest.raises(TypeError, match="monitor=3 must be the name"):
        fastbp.ReduceOnPlateau(0.1, monitor=3)  # type: ignore[arg-type]


def test_a_plateaus_threshold_is_a_share_and_its_least_no_rise() -> None:
    schedule = fastbp.ReduceOnPlateau(1.0, factor=0.5, patience=1, threshold=0.1)
    state = schedule.initial_state()
    for loss in (100.0, 95.0):  # better by 5%
        schedule.observe(state, {"loss": loss})
    assert schedule.rates(0, 1, state=state).tolist() == [0.5]
    low = fastbp.ReduceOnPlateau(0.1, least=0.5)
    assert low.rates(0, 1, state=low.initial_state()).tolist() == [0.1]
