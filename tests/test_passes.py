"""What passes through a network: outputs, classes, losses, metrics, on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_fits import labelled, mixed_net

import fastbp
from fastbp import Dense, Network, data, passes
from fastbp.engine import Workspace
from fastbp.kernels.cpu.jit import JIT_DISABLED


def test_rows_do_not_depend_on_their_batch() -> None:
    net = mixed_net()
    X, _ = labelled(1500)
    whole = net.forward(X)
    assert np.array_equal(whole[700:703], net.forward(X[700:703]))
    assert np.array_equal(whole[3], net.forward(X[3:4])[0])


def test_predict_gives_classes_decisions_or_outputs() -> None:
    X, _ = labelled()
    classifier = mixed_net()
    assert np.array_equal(classifier.predict(X), classifier.forward(X).argmax(axis=1))
    binary = Network(6, [Dense(1, "sigmoid")], seed=1)
    assert np.array_equal(binary.predict(X), (binary.forward(X)[:, 0] > 0.5).astype(np.int64))
    several = Network(6, [Dense(4, "sigmoid")], seed=1)
    assert several.predict(X).shape == (12, 4)
    assert set(np.unique(several.predict(X))) == {0, 1}
    one, two = Network(6, [Dense(1)]), Network(6, [Dense(2)])
    assert one.predict(X).shape == (12,)
    assert np.array_equal(two.predict(X), two.forward(X))


def test_evaluate_agrees_with_loss_and_metrics() -> None:
    net = mixed_net()
    X, y = labelled()
    weights = np.linspace(0.0, 1.0, 12)
    found = net.evaluate(X, y, metrics=("accuracy", "log_loss"), sample_weight=weights)
    assert found["loss"] == net.loss(X, y, sample_weight=weights)
    right = net.predict(X) == y
    assert found["accuracy"] == pytest.approx(float(right @ weights) / weights.sum(), rel=1e-6)
    assert found["log_loss"] == pytest.approx(found["loss"], rel=1e-6)
    assert net.evaluate(X, y) == {"loss": net.loss(X, y)}


def test_labels_one_hot_rows_and_columns_mean_the_same() -> None:
    net = mixed_net(dtype="float64")
    X, y = labelled()
    losses = {
        net.loss(X, form) for form in (y, y.tolist(), y[:, None], np.eye(3)[y], y.astype(np.int8))
    }
    assert len(losses) == 1
    one = Network(6, [Dense(1)], dtype="float64")
    assert one.loss(X, y) == one.loss(X, y[:, None].astype(float))


def test_sum_and_mean_and_sample_weights() -> None:
    mean, total = mixed_net(dtype="float64"), mixed_net(dtype="float64", reduction="sum")
    X, y = labelled()
    assert total.loss(X, y) == pytest.approx(12 * mean.loss(X, y), rel=1e-14)
    np.testing.assert_allclose(
        total.gradients(X, y, training=False),
        12 * mean.gradients(X, y, training=False),
        rtol=1e-12,
        atol=1e-14,
    )
    weights = np.array([2, 0, 1] * 4)
    again = np.repeat(np.arange(12), weights)
    assert mean.loss(X, y, sample_weight=weights) == pytest.approx(
        mean.loss(X[again], y[again]), rel=1e-13
    )
    np.testing.assert_allclose(
        mean.gradients(X, y, sample_weight=weights, training=False),
        mean.gradients(X[again], y[again], training=False),
        rtol=1e-11, atol=1e-14,
    )  # fmt: skip
    scaled = mean.loss(X, y, sample_weight=3.0 * weights)
    assert scaled == pytest.approx(mean.loss(X, y, sample_weight=weights), rel=1e-14)


def test_training_and_seed_choose_the_function() -> None:
    net = mixed_net(dtype="float64")
    X, y = labelled()
    assert net.loss(X, y, training=True, seed=1) != net.loss(X, y, training=True, seed=2)
    assert net.loss(X, y, training=True) == net.loss(X, y, training=True, seed=net.seed)
    assert net.loss(X, y, seed=1) == net.loss(X, y, seed=2) == net.loss(X, y)
    assert np.array_equal(net.gradients(X, y), net.gradients(X, y, training=True, seed=net.seed))
    assert not np.array_equal(net.gradients(X, y), net.gradients(X, y, training=False))
    outputs = net.forward(X, training=True, seed=5)
    loss = -np.log(outputs[np.arange(12), y]).mean()
    assert loss == pytest.approx(net.loss(X, y, training=True, seed=5), rel=1e-13)
    assert not np.array_equal(outputs, net.forward(X))
    before = {name: view.copy() for name, view in net.tensors().items()}
    net.forward(X, training=True)
    net.gradients(X, y)
    assert all(np.array_equal(before[name], view) for name, view in net.tensors().items())


def test_sampling_one_of_many_sizes_keeps_no_trace_of_the_last() -> None:
    """Buffers are kept between calls: a smaller batch must not see the larger one's rows."""
    net = mixed_net(dtype="float64")
    X, y = labelled(40)
    small = net.gradients(X[:3], y[:3]), net.loss(X[:3], y[:3])
    net.gradients(X, y)
    net.forward(X)
    assert np.array_equal(net.gradients(X[:3], y[:3]), small[0])
    assert net.loss(X[:3], y[:3]) == small[1]


@pytest.mark.parametrize("last", ["softmax", "sigmoid"])
def test_a_classifiers_nan_is_no_class(last: str) -> None:
    net = Network(2, [Dense(4), Dense(3 if last == "softmax" else 1, last)], seed=1)
    net.layers[0].W[...] = 1e30
    rows = np.ones((3, 2), np.float32)
    rows[1] = 1e30
    net.layers[1].W[...] = np.resize([1.0, -1.0], net.layers[1].W.shape)
    with pytest.raises(ValueError, match=r"the outputs for X\[1\] are NaN, and no class"):
        net.predict(rows)


@pytest.mark.skipif(JIT_DISABLED, reason="one thread then")
def test_inference_on_any_number_of_threads_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last block is shorter, so other threads own its rows of the buffers: they must wait."""
    net = Network(32, [Dense(64, "gelu"), Dense(64, "tanh"), Dense(3, "softmax")], seed=1)
    inputs = np.random.default_rng(0).normal(size=(3 * 512 + 100, 32)).astype(np.float32)
    monkeypatch.setattr(fastbp.passes, "choose_threads", lambda *how: 1)
    alone = net.forward(inputs)
    for threads in (2, 3, 4):
        monkeypatch.setattr(fastbp.passes, "choose_threads", lambda *how, n=threads: n)
        for _ in range(60):
            assert np.array_equal(net.forward(inputs), alone)


def test_outputs_after_a_workspace_has_grown_for_more_threads() -> None:
    """The forward pass knows its memory by address: new scratch memory must be a new table."""
    net = fastbp.Network(6, [fastbp.Dense(5, "tanh"), fastbp.Dense(3)], seed=2)
    X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    work, running = net._workspace(4), net._running
    outs = [np.empty((4, 3), np.float32) for _ in range(2)]
    work.infer(X, outs[0], net.parameters, running, logits=False, n_threads=1)
    first = work._table
    grown = work.scratches(3)
    work.infer(X, outs[1], net.parameters, running, logits=False, n_threads=1)
    assert work._table is not first
    assert work._known[2] is grown
    assert outs[0].tobytes() == outs[1].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 3])
def test_inference_counts_rows_that_are_not_finite_in_every_thread_s_share(
    dtype: str, threads: int
) -> None:
    """The edges of vectors, of shares and of blocks; a row with two of them counts once."""
    rows, m = 40, 37
    net = fastbp.Network(m, [fastbp.Dense(5, "relu"), fastbp.Dense(3)], seed=2, dtype=dtype)
    out, work = np.empty((rows, 3), dtype), net._workspace(16)

    def count(*places: tuple[int, int, float]) -> int:
        X = np.random.default_rng(0).normal(size=(rows, m)).astype(dtype)
        for i, j, value in places:
            X[i, j] = value
        return work.infer(X, out, net.parameters, net._running, logits=False, n_threads=threads)

    assert count() == 0
    for i in range(rows):
        assert count((i, i % m, np.inf)) == 1
    for j in range(m):
        assert count((7, j, -np.inf), (31, m - 1 - j, np.nan), (31, j, np.inf)) == 2
    assert count((0, 0, np.finfo(dtype).max), (0, 1, -np.finfo(dtype).max), (0, 2, -0.0)) == 0
    assert count(*((i, 3, np.nan) for i in range(rows))) == rows


def test_another_precision_meanwhile_leaves_no_buffers_of_the_one_before() -> None:
    net = Network(3, [Dense(2)])
    X = np.ones((4, 3), np.float32)
    net.loss(X, np.zeros((4, 2)))
    assert len(net._workspaces) == 1
    with net._borrow(4):
        net.precision = None  # of another thread, while this one computes
    assert net._workspaces == []


@pytest.mark.parametrize("rows", [512, 513, 1100])
def test_outputs_are_formed_in_pieces_between_which_an_interrupt_is_heard(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32)
    net = Network(5, [Dense(4, "tanh"), Dense(2)], seed=1)
    whole = net.forward(X)
    sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr(passes, "PIECE", 1)  # then a piece is a block
    calls: list[int] = []
    infer = Workspace.infer

    def counted(self: Workspace, X: Any, out: Any, *numbers: Any, **how: Any) -> int:
        calls.append(len(out))
        return infer(self, X, out, *numbers, **how)

    monkeypatch.setattr(Workspace, "infer", counted)
    pieces = [512] * (rows // 512) + ([rows % 512] if rows % 512 else [])
    for matrix in (X, sparse.csr_matrix(X)):
        calls.clear()
        np.testing.assert_array_equal(net.forward(matrix), whole)
        assert calls == pieces


def test_what_is_evaluated_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    look = data.check_finite
    monkeypatch.setattr(data, "check_finite", lambda a, name: (seen.append(name), look(a, name)))
    net = Network(3, [Dense(2)], seed=1)
    net.evaluate(np.ones((4, 3)), np.ones((4, 2)), "mean_absolute_error")
    assert seen == ["X", "y"]
