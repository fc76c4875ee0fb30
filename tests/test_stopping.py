"""Each stopping rule on a series of epochs: when it stops, why, and what it remembers."""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fastbp import stopping as s

NAN, INF = float("nan"), float("inf")


def _epochs_run(rule: s.Stopping, records: Sequence[dict[str, Any]]) -> tuple[int, str | None]:
    """How many epochs are run, and the reason."""
    rule.start()
    for count, record in enumerate(records, 1):
        reason = rule.update(record)
        if reason:
            return count, reason
    return len(records), None


def _series(name: str, values: Sequence[float]) -> list[dict[str, Any]]:
    return [{"loss": 9.0, name: value} for value in values]


@pytest.mark.parametrize(
    ("rule", "name", "values", "count", "best_epoch"),
    [
        (s.EarlyStopping(patience=2), "validation_loss", [3, 2, 2, 2, 1], 4, 1),
        (s.EarlyStopping(patience=2), "validation_loss", [3, 2, 2, 1, 2, 2, 0], 6, 3),
        (s.EarlyStopping(patience=1), "validation_loss", [3, 3, 1], 2, 0),
        (s.EarlyStopping(patience=2, min_delta=0.5), "validation_loss", [3, 2.6, 2.4, 2, 2], 5, 2),
        (s.EarlyStopping(patience=2, min_delta=0.5), "validation_loss", [3, 2.5, 2.5], 3, 0),
        (s.EarlyStopping(patience=2), "validation_loss", [3, NAN, INF, 1], 3, 0),
        (s.EarlyStopping(patience=2), "validation_loss", [NAN, 3, 2, 1], 4, 3),
        (s.EarlyStopping("validation_accuracy", 2), "validation_accuracy", [1, 2, 3, 3, 3], 5, 2),
        (s.EarlyStopping("mine", 2, mode="max"), "mine", [1, 2, 3, 3, 3], 5, 2),
        (s.EarlyStopping(None, 2), "loss", [3, 2, 2, 2, 1], 4, 1),
        (s.EarlyStopping(None, 2), "validation_loss", [3, 2, 2, 2, 1], 4, 1),
    ],
)
def test_early_stopping(
    rule: s.EarlyStopping, name: str, values: list[float], count: int, best_epoch: int
) -> None:
    run, reason = _epochs_run(rule, _series(name, values))
    assert (run, rule.best_epoch) == (count, best_epoch)
    assert rule.best == values[best_epoch]
    if reason:
        assert reason.startswith(f"{name} has not improved for {rule.patience} epoch")


def test_early_stopping_says_when_a_snapshot_pays() -> None:
    rule = s.EarlyStopping(patience=9)
    marks = []
    for value in (3, 2, 2, 4, 1):
        rule.update({"validation_loss": value})
        marks.append(rule.improved)
    assert marks == [True, True, False, False, True]


def test_best_epoch_counts_as_the_history_does() -> None:
    rule = s.EarlyStopping(patience=9)
    for epoch, value in ((20, 3.0), (21, 2.0), (22, 2.5)):
        rule.update({"epoch": epoch, "validation_loss": value})
    assert rule.best_epoch == 21


def test_start_forgets() -> None:
    rule = s.EarlyStopping(patience=2)
    for _ in range(2):
        assert _epochs_run(rule, _series("validation_loss", [1, 1, 1, 1]))[0] == 3
    rule.start()
    assert rule == s.EarlyStopping(patience=2)


def test_what_is_watched_must_be_there() -> None:
    with pytest.raises(ValueError, match=r"needs held-out data: fit\(\.\.\., validation=0\.1\)"):
        s.EarlyStopping().update({"loss": 1.0})
    with pytest.raises(ValueError, match="monitor='validation_acuracy' is not known; did you"):
        s.EarlyStopping("validation_acuracy").update({"loss": 1.0, "validation_accuracy": 0.5})
    with pytest.raises(ValueError, match="give mode='max' or 'min'"):
        s.EarlyStopping("mine").update({"mine": 1.0})
    with pytest.raises(ValueError, match="monitor='gradient_norm'"):
        s.EarlyStopping("gradient_norm").update({"loss": 1.0, "gradient_norm": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("rule", "values", "count"),
    [
        (s.NoChange(0.1, 2), [3, 2.95, 2.9, 2.85], 3),
        (s.NoChange(0.1, 2), [3, 2.95, 2.5, 2.45, 2.40], 5),
        (s.NoChange(0.1, 1), [3, 4, 5, 5], 4),  # rising is change
        (s.NoChange(0.0, 1), [3, 3], 2),
        (s.NoChange(0.1, 2), [NAN, NAN, NAN], 3),  # NaN is never "no change"
    ],
)
def test_no_change(rule: s.NoChange, values: list[float], count: int) -> None:
    run, reason = _epochs_run(rule, _series("loss", values))
    assert run == count
    assert (reason is None) == (values[0] != values[0])


def test_small_gradient_takes_all_layers_together() -> None:
    rule = s.SmallGradient(0.5)
    assert rule.update({"gradient_norm": [0.4, 0.4], "shift_norm": [0.0, 0.0]}) is None
    assert rule.update({"gradient_norm": [NAN, 0.0], "shift_norm": [0.0, 0.0]}) is None
    assert rule.update({"gradient_norm": [0.3, 0.0], "shift_norm": [0.0, 0.41]}) is None
    reason = "the gradient has norm 0.5, at most 0.5"
    assert rule.update({"gradient_norm": [0.3, 0.0], "shift_norm": [0.0, 0.4]}) == reason


def test_time_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rule = s.TimeBudget(10)
    assert not rule.due()
    rule.start()
    now = 109.9
    assert (rule.due(), rule.update({})) == (False, None)
    now = 110.0
    assert rule.due()
    assert rule.update({}) == "the time budget of 10 s is spent"
    rule.start()
    assert not rule.due()


def test_time_budget_goes_on_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rule = s.TimeBudget(10)
    rule.start()
    now = 104.0
    data = pickle.dumps(rule)
    now = 5.0  # a clock that began later
    again = pickle.loads(data)
    assert again.elapsed() == 4.0
    now = 11.0
    assert again.due()


RULES = [s.EarlyStopping(patience=2), s.NoChange(0.1, 3), s.SmallGradient(0.1), s.TimeBudget(1e9)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_rules_are_picklable_in_mid_run(rule: s.Stopping) -> None:
    record = {"loss": 3.0, "validation_loss": 3.0, "gradient_norm": [1.0], "shift_norm": [0.0]}
    rule.start()
    rule.update(record)
    for again in (pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule)):
        mine = copy.deepcopy(rule)
        assert [mine.update(record) for _ in range(4)] == [again.update(record) for _ in range(4)]


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [(lambda: s.EarlyStopping(patience=0), ValueError, "patience=0"),
     (lambda: s.EarlyStopping(patience=1.5), TypeError, "patience=1.5"),
     (lambda: s.EarlyStopping(min_delta=-1), ValueError, "min_delta=-1"),
     (lambda: s.EarlyStopping(restore_best="yes"), TypeError, "restore_best='yes'"),
     (lambda: s.EarlyStopping(mode="maximum"), ValueError, "did you mean 'max'"),
     (lambda: s.EarlyStopping(3), TypeError, "monitor=3 must be the name"),
     (lambda: s.NoChange(-1), ValueError, "tolerance=-1"),
     (lambda: s.NoChange(patience=0), ValueError, "patience=0"),
     (lambda: s.SmallGradient(0), ValueError, "norm=0"),
     (lambda: s.TimeBudget(0), ValueError, "seconds=0"),
     (lambda: s.TimeBudget("1h"), TypeError, "seconds='1h'")],
)  # fmt: skip
def test_bad_arguments_are_named(
    make: Callable[[], Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        make()


def test_a_budget_goes_on_where_it_stood() -> None:
    rule = s.TimeBudget(10.0)
    rule.start()
    rule.recall({"spent": 9.0})
    assert not rule.due()
    rule.recall({"spent": 10.0})
    assert rule.due()
