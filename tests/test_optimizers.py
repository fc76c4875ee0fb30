"""Descriptions of the optimizers: names, constants in the kernel's order, and what bad ones get."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import fastbp.optimizers as o
from fastbp.kernels.tables import UPDATES
from fastbp.rates import Called, Constant
from fastbp.schedules import Cosine

TABLE: list[tuple[o.Optimizer, str, tuple[float, ...], float]] = [
    (o.SGD(), "sgd", (), 0.01),
    (o.SGD(0.1, momentum=0.9), "momentum", (0.9,), 0.1),
    (o.SGD(0.1, momentum=0.8, nesterov=True), "nesterov", (0.8,), 0.1),
    (o.Adagrad(), "adagrad", (1e-10,), 0.01),
    (o.Adadelta(), "adadelta", (0.9, 1e-6), 1.0),
    (o.RMSprop(), "rmsprop", (0.99, 1e-8), 0.01),
    (o.Adam(), "adam", (0.9, 0.999, 1e-8), 1e-3),
    (o.AdamW(), "adam", (0.9, 0.999, 1e-8), 1e-3),
]


@pytest.mark.parametrize(("optimizer", "name", "hyper", "lr"), TABLE)
def test_name_constants_and_rate(
    optimizer: o.Optimizer, name: str, hyper: tuple[float, ...], lr: float
) -> None:
    assert optimizer.name == name
    assert optimizer.code == UPDATES[name].code
    assert optimizer.rows == UPDATES[name].rows
    assert optimizer.hyper() == hyper
    assert all(type(value) is float for value in optimizer.hyper())
    assert optimizer.schedule == Constant(lr)


SCIKIT_LEARNS = {"classical_momentum", "classical_nesterov", "adam_epsilon_hat"}


def test_every_update_of_the_table_has_an_optimizer() -> None:
    assert {make().name for make in o.OPTIMIZERS.values()} == set(UPDATES) - SCIKIT_LEARNS


def test_only_adamw_decays_by_itself() -> None:
    assert [optimizer.decoupled_decay for optimizer, *_ in TABLE] == [0.0] * 7 + [0.01]


@pytest.mark.parametrize("optimizer", [row[0] for row in TABLE])
def test_frozen_hashable_copied_pickled(optimizer: o.Optimizer) -> None:
    with pytest.raises(AttributeError):
        optimizer.lr = 1.0
    assert pickle.loads(pickle.dumps(optimizer)) == copy.deepcopy(optimizer) == optimizer
    assert hash(optimizer) == hash(copy.copy(optimizer))


def test_rates_may_be_schedules_and_callables() -> None:
    assert o.Adam(Cosine(0.1)).schedule == Cosine(0.1)
    assert isinstance(o.Adam(lambda step: 0.1).schedule, Called)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("adam", o.Adam()), ("momentum", o.SGD(momentum=0.9)), (o.RMSprop, o.RMSprop()),
     (o.Adagrad(0.5), o.Adagrad(0.5)), ("nesterov", o.SGD(momentum=0.9, nesterov=True))],
)  # fmt: skip
def test_get_optimizer(spec: Any, expected: o.Optimizer) -> None:
    assert o.get_optimizer(spec) == expected


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [("Adam", ValueError, "did you mean 'adam'"), ("rms-prop", ValueError, "'rmsprop'"),
     (3, TypeError, r"or an optimizer such as Adam\(1e-3\)"), (int, TypeError, "of type type"),
     (o.Optimizer, TypeError, "of type type"), (None, TypeError, "of type NoneType")],
)  # fmt: skip
def test_get_optimizer_refuses(spec: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        o.get_optimizer(spec)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [(lambda: o.SGD(-0.1), ValueError, "lr=-0.1"),
     (lambda: o.SGD("fast"), TypeError, "lr='fast'"),
     (lambda: o.SGD(momentum=1.0), ValueError, "momentum=1.0 must be 0 or more and below 1"),
     (lambda: o.SGD(nesterov=True), ValueError, "nesterov=True needs momentum"),
     (lambda: o.SGD(momentum=0.9, nesterov=1), TypeError, "nesterov=1"),
     (lambda: o.Adagrad(eps=0), ValueError, "eps=0 must be a number above 0"),
     (lambda: o.Adagrad(lr=float("nan")), ValueError, "lr=nan"),
     (lambda: o.Adadelta(rho=-0.1), ValueError, "rho=-0.1"),
     (lambda: o.Adadelta(eps=-1), ValueError, "eps=-1"),
     (lambda: o.RMSprop(alpha=1), ValueError, "alpha=1"),
     (lambda: o.RMSprop(eps=None), TypeError, "eps=None"),
     (lambda: o.Adam(beta1=1.0), ValueError, "beta1=1.0"),
     (lambda: o.Adam(beta2=2), ValueError, "beta2=2"),
     (lambda: o.Adam(eps=0.0), ValueError, "eps=0.0"),
     (lambda: o.AdamW(weight_decay=-1), ValueError, "weight_decay=-1"),
     (lambda: o.AdamW(lr=-1), ValueError, "lr=-1")],
)  # fmt: skip
def test_bad_constants_are_named(
    make: Callable[[], Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        make()
