"""The compiled step against its own kernels in plain NumPy, and against itself cut otherwise."""

from __future__ import annotations

import inspect
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys
from step_oracle import AFTER, BEFORE, CASES, DTYPES, SAMPLES, Bench, Case, Oracle, close, net

from fastbp.engine import Recipe
from fastbp.kernels.cpu import loop, slots
from fastbp.kernels.cpu.figures import (
    DEAD,
    DELTA_RMS,
    GRADIENT_NORM,
    UPDATE_NORM,
    WEIGHT_NORM,
)
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.cpu.shares import PANELS, SHARED_BYTES

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="threads need compiled code")


@pytest.mark.parametrize("name", CASES)
def test_steps_are_the_reference_kernels_in_turn(name: str) -> None:
    """Three steps, the last on a short batch.

    Sums have at most 37 terms, five products deep, and batch norm divides by deviations of 0.1 and
    more: 2,000 roundings bound the gradient amply. The update starts from the step's own gradient
    (a quotient such as Adam's magnifies roundings of a gradient near 0): a dozen roundings.
    """
    bench = Bench(CASES[name], "float64")
    sums, reported = np.zeros(2), np.zeros(2)
    for step in range(3):
        oracle = Oracle(bench, step)
        state, before = bench.state.copy(), bench.work.results.copy()
        oracle.forward()
        oracle.backward()
        bench.run(step, 1, mode=slots.GRADIENT)
        assert close(bench.gradient, oracle.gradient, 2000)
        oracle.learn(oracle.clip(bench.gradient.copy()), state)
        bench.work.results[:] = before
        assert bench.run(step, 1) == 1
        assert close(bench.parameters, oracle.p, 50)
        assert close(bench.state, state, 50)
        assert close(bench.running, oracle.running, 100)
        sums += oracle.losses.sum(), oracle.weights.sum()
        results = bench.work.results
        assert close(results[slots.LAST_LOSS], oracle.loss, 200)
        assert close(results[[slots.LOSS_SUM, slots.WEIGHT_SUM]], sums, 500)
        rows = len(oracle.losses)
        reported += rows * oracle.loss, rows * oracle.scale * oracle.squares
        assert close(results[[slots.ROWS_LOSS, slots.ROWS_SQUARES]], reported, 500)
        assert results[slots.STEPS] == step + 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_on_any_number_of_threads(name: str, dtype: str) -> None:
    for changes in ({}, {"record": True}, {"clip_norm": 0.5}):
        found = []
        for threads in (1, 2, 4):
            bench = Bench(CASES[name], dtype, **changes)
            assert bench.run(threads=threads) == 3
            assert np.isfinite(bench.parameters).all()
            found.append(bench.numbers())
        assert found[1] == found[0]
        assert found[2] == found[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_layers_are_cut_among_threads(dtype: str) -> None:
    """Layers of several blocks of rows, columns and flat elements: every thread has some."""
    wide = Case(net(97, 131, 67, 3, activations="relu tanh softmax", **BEFORE, dropout=0.1),
                recipe=Recipe(clip_norm=0.3, l2=0.01), optimizer="adam")  # fmt: skip
    for changes in ({}, {"record": True}, {"clip_norm": 0.0}, {"clip_norm": 0.0, "record": True}):
        found = []
        for threads in (1, 2, 3, 5):
            bench = Bench(wide, dtype, **changes)
            bench.run(threads=threads)
            found.append(bench.numbers())
        assert all(other == found[0] for other in found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("further", [{}, BEFORE, AFTER, {"dropout": 0.2}])
def test_columns_of_large_layers_are_cut_among_threads(further: dict[str, Any], dtype: str) -> None:
    """From 256 KB of W on threads have columns of all rows, where there are enough for them."""
    layers = net(301, 520, 391, 3, activations="relu tanh softmax", **further)
    large = [layer for layer in layers if layer.inputs * layer.units * 4 >= SHARED_BYTES]
    assert [layer.units >= 3 * 2 * PANELS for layer in large] == [True, True]
    found = []
    for threads in (1, 2, 3, 4):  # four: the second layer is too narrow, and cut by rows
        bench = Bench(Case(layers, recipe=Recipe(clip_norm=0.3)), dtype)
        assert bench.run(threads=threads) == 3
        found.append(bench.numbers())
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_fused_and_whole_learning_give_the_same_bits(name: str, dtype: str) -> None:
    """A norm that clips nothing, or recording, completes the gradient before it is applied."""
    case = CASES[name]
    found = []
    for changes in ({}, {"clip_norm": 1e30}, {"record": True}):
        if case.recipe.clip_norm and "clip_norm" in changes:
            continue
        bench = Bench(case, dtype, **changes)
        bench.run()
        found.append(bench.numbers()[:-1])
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["pair", "norm after", "dropout", "noise", "adam", "weights"])
def test_one_call_or_one_a_step(name: str, dtype: str) -> None:
    whole, steps = Bench(CASES[name], dtype), Bench(CASES[name], dtype)
    whole.run()
    for step in range(3):
        steps.run(step, 1)
    assert steps.numbers() == whole.numbers()


@pytest.mark.parametrize("name", ["pair", "deep", "norm before", "decay", "clipped norm"])
def test_figures_are_the_norms_they_claim(name: str) -> None:
    bench = Bench(CASES[name], "float64", record=True)
    bench.run(0, 2)
    oracle = Oracle(bench, 2)
    oracle.forward()
    oracle.backward()
    before = bench.parameters.copy()
    bench.run(2, 1, mode=slots.GRADIENT)
    gradient = bench.gradient.copy()  # before it is clipped
    bench.run(2, 1)
    for index, layer in enumerate(bench.case.layers):
        at, size = bench.slots[index].W, layer.inputs * layer.units
        W = slice(at, at + size)
        figures, kept = bench.work.figures[index], oracle.kept[index]
        wanted = {
            GRADIENT_NORM: gradient[W],
            WEIGHT_NORM: bench.parameters[W],
            UPDATE_NORM: bench.parameters[W] - before[W],
            DELTA_RMS: kept["dZ"] / np.sqrt(kept["dZ"].size),
        }
        for column, x in wanted.items():
            assert figures[column] == pytest.approx(np.sqrt((x**2).sum()), rel=1e-12)
        if layer.activation == "relu":
            assert figures[DEAD] == (kept["F"] <= 0).all(axis=0).mean()
        else:
            assert np.isnan(figures[DEAD])


def test_dead_units_are_counted() -> None:
    bench = Bench(CASES["pair"], "float64", record=True)
    slot = bench.slots[0]
    bench.parameters[slot.b : slot.b + 19] = -1e3
    bench.parameters[slot.b + 4] = 1e3
    bench.run(0, 1)
    assert bench.work.figures[0, DEAD] == 18 / 19


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["pair", "no pair", "norm before", "norm after", "adam"])
def test_a_bad_row_stops_before_its_step(name: str, bad: float, threads: int, dtype: str) -> None:
    """sigmoid, tanh and a relu that is off would hide an inf from the loss: the screen does not."""
    bench, clean = (Bench(CASES[name], dtype, screen=True) for _ in range(2))
    clean.run(0, 1)
    row = bench.batch.order[13]  # of the second batch
    bench.batch.X[row, 2] = bad
    assert bench.run(threads=threads) == 1
    assert bench.work.results[slots.STEPS] == 1
    for field_name in ("parameters", "state", "running"):
        assert getattr(bench, field_name).tobytes() == getattr(clean, field_name).tobytes()
    assert bench.work.results[slots.LOSS_SUM] == clean.work.results[slots.LOSS_SUM]


def test_without_the_screen_a_bounded_activation_hides_an_infinity() -> None:
    bench = Bench(Case(net(5, 9, 3, activations="sigmoid softmax")), "float64")
    bench.batch.X[bench.batch.order[13], 2] = np.inf
    assert bench.run() > 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_loss_that_is_not_finite_returns_early(threads: int) -> None:
    bench, clean = (Bench(CASES["softmax, square"], "float64") for _ in range(2))
    clean.run(0, 2)
    bench.batch.targets[bench.batch.order[20], 1] = 1e200  # its square is inf
    assert bench.run(threads=threads) == 2
    assert bench.parameters.tobytes() == clean.parameters.tobytes()
    assert bench.state.tobytes() == clean.state.tobytes()
    assert not np.isfinite(bench.work.results[slots.LAST_LOSS])
    bench.batch.targets[:] = 0  # the meeting place of the threads is as it was
    assert bench.run(threads=threads) == 3


def test_gradient_and_loss_change_nothing() -> None:
    bench = Bench(CASES["norm before"], "float64")
    before = [x.copy() for x in (bench.parameters, bench.state, bench.running)]
    oracle = Oracle(bench, 1)
    oracle.forward()
    oracle.backward()
    assert bench.run(1, 1, mode=slots.GRADIENT) == 1
    assert close(bench.gradient, oracle.gradient, 2000)
    bench.gradient[:] = -7
    bench.run(1, 1, mode=slots.LOSS)
    assert close(bench.work.results[slots.LAST_LOSS], oracle.loss, 200)
    assert (bench.gradient == -7).all()
    for x, old in zip((bench.parameters, bench.state, bench.running), before, strict=True):
        assert x.tobytes() == old.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_roomier_workspace_gives_the_same_bits(dtype: str) -> None:
    for name in ("pair", "norm before", "dropout of tanh"):
        tight, roomy = Bench(CASES[name], dtype), Bench(CASES[name], dtype, rows=64)
        roomy.work.arena[:] = np.nan  # nothing of it may be read before it is written
        tight.run()
        roomy.run()
        assert roomy.numbers() == tight.numbers()


@pytest.fixture
def _counted() -> Iterator[None]:
    """Numba counts allocations only where asked to."""
    was = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    yield
    if not was:
        _nrt_python.memsys_disable_stats()


@pytest.mark.usefixtures("_counted")
@pytest.mark.parametrize("name", CASES)
def test_steps_allocate_nothing(name: str) -> None:
    """A call has headers for its arguments; three steps have no more than one, and none stays."""
    bench = Bench(CASES[name], "float32", record=True)
    bench.run()
    counts = []
    for steps in (1, 3):
        before = rtsys.get_allocation_stats()
        bench.run(0, steps)
        after = rtsys.get_allocation_stats()
        assert after.alloc - before.alloc == after.free - before.free
        counts.append(after.alloc - before.alloc)
    assert counts[0] == counts[1]


def test_calls_leave_no_python_objects() -> None:
    bench = Bench(CASES["pair"], "float32")
    bench.run(threads=2)
    tracemalloc.start()
    try:
        bench.run(threads=2)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            bench.run(threads=2)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < 2000  # bytes; 50 calls that kept an array header each would keep 5,600


# --- sparse samples and losses that are not finite --------------------------------------------


def sparse(bench: Bench) -> Bench:
    """The same bench with X as a sparse matrix: its values split in two, and zeros kept."""
    rows, m = bench.batch.X.shape
    columns = np.tile(np.repeat(np.arange(m, dtype=np.int32), 2), rows)
    halves = np.repeat(bench.batch.X.ravel() / 2, 2)[None].copy()
    starts = np.arange(rows + 1) * 2 * m
    bench.batch = replace(bench.batch, X=halves, columns=columns, starts=starts)
    return bench


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_sparse_samples_give_the_bits_of_dense_ones(dtype: str, threads: int) -> None:
    dense = Bench(CASES["noise"], dtype)
    dense.batch.X[dense.batch.X < 0] = 0
    other = Bench(CASES["noise"], dtype)
    other.batch.X[...] = dense.batch.X
    other = sparse(other)
    assert dense.run() == other.run(threads=threads) == 3
    assert dense.numbers() == other.numbers()
    k, X = dense.case.layers[-1].units, dense.batch.X
    outputs = [np.zeros((SAMPLES, k), dtype) for _ in range(2)]
    for bench, out in zip((dense, other), outputs, strict=True):
        given = bench.batch
        bad = bench.work.infer(
            given.X, out, bench.parameters, bench.running, logits=False,
            n_threads=1 if bench is dense else threads, columns=given.columns,
            starts=given.starts,
        )  # fmt: skip
        assert bad == 0
    assert outputs[0].tobytes() == outputs[1].tobytes()
    assert X.any()
    assert outputs[0].any()


def test_heedless_goes_on_where_a_loss_is_not_finite() -> None:
    for heedless, steps in ((False, 1), (True, 3)):
        bench = Bench(CASES["pair"], "float64", heedless=heedless)
        bench.batch.X[bench.batch.order[8], 0] = np.inf
        assert bench.run() == steps
        assert np.isfinite(bench.parameters).all() != heedless


def test_the_loops_arguments_are_those_that_are_declared() -> None:
    taken = inspect.signature(getattr(loop.run_steps, "py_func", loop.run_steps)).parameters
    assert list(taken)[2:] == list(loop.ARGUMENTS)
