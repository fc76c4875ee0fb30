"""`fit_many`: the bits of fits of their own, one bar, errors with names, and nothing lost."""

from __future__ import annotations

import copy
import signal
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import Adam, Dense, Network, Trainer, budget, fit_many

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 6)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)


def net(seed: int = 0, units: int = 8, **options: Any) -> Network:
    dtype = options.pop("dtype", "float32")
    layers = [Dense(units, "relu", **options), Dense(2, "softmax")]
    return Network(6, layers, seed=seed, dtype=dtype)


def trainers() -> list[Trainer]:
    """Unlike in all that a Trainer or a network may differ in."""
    return [
        Trainer(net(0), "adam", 32),
        Trainer(net(1, 24, batch_norm=True), fastbp.SGD(0.1, momentum=0.9), 7, seed=5),
        Trainer(net(2, dropout=0.3, dtype="float64"), "rmsprop", 64, clip_norm=1.0),
        Trainer(net(3, 40), fastbp.AdamW(fastbp.Cosine(0.01)), None, metrics="accuracy"),
        Trainer(net(4), "adam", 16, early_stopping=fastbp.EarlyStopping(None, 2), restarts=2),
        Trainer(Network(6, [Dense(1)], seed=1), "sgd", 32, perturbation=0.1),
    ]


def same(a: Trainer, b: Trainer) -> bool:
    ours, theirs = a.history.to_dict(), b.history.to_dict()
    assert ours.pop("seconds", []).__len__() == theirs.pop("seconds", []).__len__()
    return (
        bool((a.network.parameters == b.network.parameters).all())
        and bool((a.state == b.state).all())
        and repr(ours) == repr(theirs)  # NaN is itself there
        and (a.epoch, a.step) == (b.epoch, b.step)
    )


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize("validation", [None, 0.2])
def test_each_network_has_the_bits_of_a_fit_of_its_own(at_once: int, validation: Any) -> None:
    alone, beside = trainers(), trainers()
    kept = [one.fit(X, Y, epochs=6, validation=validation) for one in alone]
    histories = fit_many(beside, X, Y, 6, validation=validation, n_threads=at_once)
    assert [len(h) for h in histories] == [len(h) for h in kept]
    for one, other in zip(alone, beside, strict=True):
        assert same(one, other)
    for one in alone:  # and they go on alike
        one.fit(X, Y, epochs=2)
    fit_many(beside, X, Y, 2, n_threads=at_once)
    assert all(same(*pair) for pair in zip(alone, beside, strict=True))


def test_bare_networks_get_trainers_with_the_options() -> None:
    nets = [net(seed) for seed in range(5)]
    rule = fastbp.EarlyStopping(patience=1)
    options: dict[str, Any] = {"optimizer": Adam(0.02), "batch_size": 16, "early_stopping": rule}
    histories = fit_many(nets, X, Y, 8, validation=0.3, **options)
    for seed, (mine, history) in enumerate(zip(nets, histories, strict=True)):
        own = Trainer(net(seed), **{**options, "early_stopping": fastbp.EarlyStopping(patience=1)})
        assert own.fit(X, Y, epochs=8, validation=0.3).loss == history.loss
        assert (own.network.parameters == mine.parameters).all()


def test_folds_are_those_of_the_rows_alone() -> None:
    from sklearn.model_selection import KFold

    folds = [*KFold(3, shuffle=True, random_state=0).split(X), (np.arange(300) % 2 == 0, None)]
    weights = np.linspace(0.5, 1.5, 300).astype(np.float32)
    nets = [net(seed) for seed in range(4)]
    histories = fit_many(nets, X, Y, 4, folds=iter(folds), sample_weight=weights)
    for seed, (train, held) in enumerate(folds):
        own = Trainer(net(seed))
        rest = None if held is None else (X[held], Y[held], weights[held])
        kept = own.fit(X[train], Y[train], 4, validation=rest, sample_weight=weights[train])
        assert kept.loss == histories[seed].loss
        assert kept.validation_loss == histories[seed].validation_loss
        assert (own.network.parameters == nets[seed].parameters).all()


def test_one_that_diverges_takes_none_with_it() -> None:
    def many() -> list[Trainer]:
        rates = [0.01, 1e30, 0.02, 1e35]
        return [Trainer(net(i), fastbp.SGD(r)) for i, r in enumerate(rates)]

    mine, own = many(), many()
    with pytest.warns(RuntimeWarning, match=r"(?s)2 networks of 4 .*networks\[1\].*networks\[3\]"):
        histories = fit_many(mine, X, Y, 3)
    assert ["diverged" in h.stopped for h in histories] == [False, True, False, True]
    assert len(histories[0]) == len(histories[2]) == 3
    for i in (0, 2):
        own[i].fit(X, Y, epochs=3)
        assert same(mine[i], own[i])
    with pytest.raises(fastbp.DivergenceError):
        own[1].fit(X, Y, epochs=3)
    assert (mine[1].network.parameters == own[1].network.parameters).all()
    again = many()
    with pytest.raises(fastbp.DivergenceError, match=r"networks\[1\]"):
        fit_many(again, X, Y, 3, on_divergence="raise")
    assert same(again[2], mine[2])


def test_a_network_that_a_callback_left_with_nan_is_among_those_that_diverged() -> None:
    def spoil(state: fastbp.State) -> None:
        state.network.parameters[0] = np.nan

    def many() -> list[Trainer]:
        return [Trainer(net(0)), Trainer(net(1), callbacks=[spoil])]

    with pytest.warns(RuntimeWarning, match=r"1 network of 2 .*\n.*networks\[1\]: a parameter"):
        fit_many(many(), X, Y, 3)
    with pytest.raises(fastbp.DivergenceError, match=r"networks\[1\]: a parameter"):
        fit_many(many(), X, Y, 3, on_divergence="raise")


def test_an_error_of_a_callback_names_its_network_once_the_others_have_ended() -> None:
    def fail(state: fastbp.State) -> None:
        if state.epoch == 1:
            raise LookupError("mine")

    mine = [Trainer(net(0)), Trainer(net(1), callbacks=[fail]), Trainer(net(2))]
    with pytest.raises(LookupError, match="mine") as found:
        fit_many(mine, X, Y, 5)
    assert "networks[1]" in found.value.__notes__[0]
    assert [one.epoch for one in mine] == [5, 2, 5]


def interrupt_after(epochs: int) -> Any:
    def hook(state: fastbp.State) -> None:
        if state.epoch == epochs:
            signal.raise_signal(signal.SIGINT)

    return hook


@pytest.mark.skipif(budget.JIT_DISABLED, reason="an epoch may be more than one chunk then")
def test_an_interrupt_leaves_every_network_at_a_finished_step() -> None:
    mine = [Trainer(net(i), callbacks=[interrupt_after(3)] * (i == 1)) for i in range(4)]
    # A shell's background jobs are born with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit_many(mine, X, Y, 10_000_000, n_threads=2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert mine[0].step > 0
    assert mine[3].step == 0  # never begun
    for i, one in enumerate(mine):
        assert one.step - 10 * one.epoch in {0, 10}  # an epoch of 10 steps is one chunk here
        own = Trainer(net(i))
        for _ in range(one.step // 10):
            own.fit(X, Y)
        assert (one.network.parameters == own.network.parameters).all()
    assert not [t for t in threading.enumerate() if t.name == "fastbp-many"]
    histories = fit_many(mine, X, Y, 1)  # they are free, and go on
    assert [len(h) for h in histories] == [1] * 4


@pytest.mark.parametrize(
    "networks, options, error, words",
    [
        ([], {}, ValueError, "networks is empty"),
        (net(), {}, TypeError, "several"),
        ([net(), 3], {}, TypeError, r"networks\[1\]: 3"),
        ([net(), Network(5, [Dense(1)])], {}, ValueError, r"networks\[1\]: X has 6 columns"),
        ([net(), Network(6, [Dense(1, "sigmoid")])], {"batch_size": 0}, ValueError, "batch_size"),
        ([net()], {"optimiser": "adam"}, TypeError, "optimiser"),
        ([Trainer(net())], {"optimizer": "adam"}, ValueError, "Trainers only"),
        ([net()], {"checkpoint": "a"}, ValueError, "one for all"),
        ([net()], {"on_divergence": "go on"}, ValueError, "on_divergence"),
        ([net()], {"n_threads": 0}, ValueError, "n_threads"),
        ([net()], {"validation": 1.5}, ValueError, r"networks\[0\]: validation=1.5"),
        ([net()], {"folds": [([0], [1])] * 2}, ValueError, "2 pairs for 1 network"),
        ([net()], {"folds": [([0], [1])], "validation": 0.1}, ValueError, "not both"),
        ([net()], {"folds": [[0, 1, 2]]}, TypeError, r"folds\[0\]"),
        ([net()], {"folds": [([0, 300], [1])]}, ValueError, r"folds\[0\]\[0\] has the row 300"),
        ([net()], {"folds": [([], [1])]}, ValueError, "at least one"),
        ([net(0, 3, batch_norm=True)], {"batch_size": 1}, ValueError, r"networks\[0\]: batch norm"),
    ],
)
def test_bad_arguments_change_nothing(
    networks: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    before = copy.deepcopy(networks)
    with pytest.raises(error, match=words):
        fit_many(networks, X, Y, 2, **options)
    for old, new in zip(before, networks, strict=True) if isinstance(networks, list) else ():
        if isinstance(new, Network):
            assert (old.parameters == new.parameters).all()


def test_two_of_a_kind_are_refused(tmp_path: Any) -> None:
    one, rule = net(), fastbp.EarlyStopping()
    with pytest.raises(ValueError, match=r"networks\[1\] has the same network as networks\[0\]"):
        fit_many([one, Trainer(one)], X, Y)
    with pytest.raises(ValueError, match="the same stopping rule"):
        fit_many([Trainer(net(), early_stopping=rule) for _ in range(2)], X, Y)
    with pytest.raises(ValueError, match="the same checkpoint"):
        fit_many([Trainer(net(), checkpoint=tmp_path / "a.safetensors") for _ in range(2)], X, Y)


def test_a_bad_row_of_a_memory_map_is_named_and_only_its_network_stands_still(
    tmp_path: Any,
) -> None:
    bad = X.copy()
    bad[17, 2] = np.nan
    np.save(tmp_path / "x.npy", bad)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = np.arange(300)
    mine = [net(0), net(1)]
    before = mine[1].parameters.copy()
    with pytest.raises(ValueError, match=r"X\[17, 2\]=nan .*Nothing has changed") as found:
        fit_many(mine, mapped, Y, 3, folds=[(rows[rows != 17], None), (rows, None)])
    assert "networks[1]" in found.value.__notes__[0]
    own = Trainer(net(0))
    own.fit(X[rows != 17], Y[rows != 17], epochs=3)
    assert (mine[0].parameters == own.network.parameters).all()
    assert (mine[1].parameters == before).all()


@pytest.mark.skipif(budget.JIT_DISABLED, reason="steps of 100,000 samples, interpreted")
def test_x_is_not_copied_for_a_network() -> None:
    large = RNG.normal(size=(100_000, 20)).astype(np.float32)  # 8 MB
    targets = large[:, 0].copy()
    nets = [Network(20, [Dense(1)], seed=seed) for seed in range(8)]
    fit_many(nets, large, targets, 1, batch_size=1000)
    tracemalloc.start()
    fit_many(nets, large, targets, 1, batch_size=1000, n_threads=2)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Orders of rows, 0.8 MB each: of the data, and two a thread. No X beside X, let alone eight.
    assert most < large.nbytes


def test_there_is_one_bar(capsys: Any) -> None:
    fit_many([net(seed) for seed in range(3)], X, Y, 2, progress=True)
    shown = capsys.readouterr().err
    assert "3/3 networks" in shown
    assert "epoch" not in shown


def test_cores_are_shared() -> None:
    seen: list[int] = []

    def look(state: fastbp.State) -> None:
        seen.append(budget.choose_threads(10**12, 10**6, 64))

    fit_many([Trainer(net(i), callbacks=[look]) for i in range(6)], X, Y, 1, n_threads=6)
    assert seen == [1] * 6
    assert budget.choose_threads(10**12, 10**6, 64) == (1 if budget.JIT_DISABLED else 64)
    with budget.at_most(3), budget.at_most(5):
        assert budget.available_cores() <= 3


def test_a_network_all_of_whose_starts_diverge_is_told_of() -> None:
    mine = [Trainer(net(0)), Trainer(net(1), fastbp.SGD(1e30), restarts=2)]
    with pytest.warns(RuntimeWarning, match=r"1 network of 2 diverged"):
        fit_many(mine, X, Y, 2)
