"""`Network`: the face of design section 2, its conventions, copies, files, passes and traces."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import BatchNorm, Dense, Network, notes
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.tables import ACTIVATIONS, LOSSES


def _digits(n: int = 12, m: int = 6, k: int = 3, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, m)).astype(np.float32), rng.integers(0, k, n)


def _net(**kwargs: Any) -> Network:
    layers = [Dense(5, "relu", batch_norm=True, dropout=0.2), Dense(4, "tanh"), Dense(3, "softmax")]
    return Network(6, layers, **{"seed": 7, **kwargs})


# --- names, shapes, views -------------------------------------------------------------------------


def test_the_face_of_the_design() -> None:
    net = Network(
        784,
        [Dense(128, "relu", batch_norm=True, dropout=0.2), Dense(10, "softmax")],
        loss="cross_entropy",
        dtype="float32",
        seed=0,
        reduction="mean",
        device="cpu",
        precision=None,
    )
    first, last = net.layers
    assert first.W.shape == (784, 128)
    assert last.W.shape == (128, 10)
    assert first.b is None  # beta stands for it
    assert last.b.shape == (10,)
    assert first.gamma.shape == first.beta.shape == first.running_mean.shape == (128,)
    assert last.gamma is last.beta is last.running_mean is None
    assert net.parameters.shape == (784 * 128 + 2 * 128 + 128 * 10 + 10,)
    assert net.parameters.flags.c_contiguous
    assert net.parameters.dtype == np.float32
    X = np.zeros((3, 784), np.float32)
    assert net.forward(X).shape == (3, 10)
    assert net.predict(X).shape == (3,)
    assert isinstance(net.loss(X, [0, 1, 2]), float)
    assert net.gradients(X, [0, 1, 2]).shape == net.parameters.shape
    assert set(net.evaluate(X, [0, 1, 2], metrics=("accuracy",))) == {"loss", "accuracy"}
    assert "784" in str(net.summary())


def test_parameters_are_laid_out_by_layer_w_b_gamma_beta() -> None:
    layers = [Dense(2, batch_norm="after"), Dense(3, "relu", batch_norm=True), Dense(1)]
    net = Network(4, layers)
    net.parameters = np.arange(net.parameters.size)
    at = 0
    order = (("W", "b", "gamma", "beta"), ("W", "gamma", "beta"), ("W", "b"))
    for layer, names in zip(net.layers, order, strict=True):
        for name in names:
            view = getattr(layer, name)
            expected = np.arange(at, at + view.size, dtype=np.float32).reshape(view.shape)
            assert np.array_equal(view, expected), (layer.index, name)
            at += view.size
    assert at == net.parameters.size


def test_views_are_writable_both_ways() -> None:
    net = _net()
    before = net.parameters
    net.layers[0].W[0, 0] = 42.0
    assert net.parameters[0] == 42.0
    net.parameters[0] = 17.0
    assert net.layers[0].W[0, 0] == 17.0
    net.layers[2].b = [1.0, 2.0, 3.0]
    assert net.parameters[-3:].tolist() == [1.0, 2.0, 3.0]
    net.layers[2].b = 0.5
    assert net.parameters[-3:].tolist() == [0.5, 0.5, 0.5]
    net.parameters = np.zeros(net.parameters.size)
    assert not net.layers[1].W.any()
    assert net.parameters is before  # copied into, never replaced


def test_a_bound_layer_has_the_fields_of_its_description() -> None:
    dense = Dense(5, "relu", batch_norm=True, dropout=0.2)
    net = Network(6, [dense, dense, Dense(1)])  # a description may be used again
    for layer in net.layers[:2]:
        for name in ("units", "activation", "batch_norm", "dropout", "init", "bias_init"):
            assert getattr(layer, name) == getattr(dense, name)
    assert [layer.inputs for layer in net.layers] == [6, 5, 5]
    assert not np.array_equal(net.layers[1].W, net.layers[0].W[:5])
    assert dense == Dense(5, "relu", batch_norm=BatchNorm(), dropout=0.2)
    assert hash(dense) == hash(Dense(5, "relu", batch_norm=BatchNorm(), dropout=0.2))
    with pytest.raises(AttributeError):
        dense.units = 6  # type: ignore[misc]
    with pytest.raises(AttributeError, match="activation cannot be set"):
        net.layers[0].activation = "tanh"
    with pytest.raises(AttributeError, match="weights"):
        _ = net.layers[0].weights


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_seed_decides_the_start(dtype: str) -> None:
    same, other = _net(dtype=dtype), _net(dtype=dtype, seed=8)
    assert np.array_equal(same.parameters, _net(dtype=dtype).parameters)
    assert not np.array_equal(same.parameters, other.parameters)
    other.initialize(7)
    assert np.array_equal(same.parameters, other.parameters)


def test_the_default_loss_goes_with_the_last_activation() -> None:
    wanted = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy"}
    for activation in ACTIVATIONS:
        if activation != "step":
            net = Network(2, [Dense(2, activation)])
            assert net.loss_name == wanted.get(activation, "squared_error")
    assert Network(2, [Dense(2, "sigmoid", batch_norm="after")]).loss_name == "squared_error"
    assert Network(2, [Dense(2, "softmax")], loss="nllm").loss_name == "cross_entropy"
    assert Network(2, [Dense(2, "sigmoid")], loss="nll").loss_name == "binary_cross_entropy"


def test_a_last_step_function_is_warned_of_at_the_callers_line() -> None:
    with pytest.warns(UserWarning, match="layer 0, the last, is a step function") as caught:
        Network(2, [Dense(2, "step")])
    assert caught[0].filename == __file__


# --- copies and files -----------------------------------------------------------------------------


def _same(a: Network, b: Network) -> bool:
    one, two = a.tensors(), b.tensors()
    return one.keys() == two.keys() and all(
        one[name].tobytes() == two[name].tobytes() for name in one
    )


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies_are_equal_and_independent(copied: Callable[[Network], Network]) -> None:
    net = _net()
    X, y = _digits()
    fastbp.Trainer(net, batch_size=4).fit(X, y)  # running statistics, too
    other = copied(net)
    assert _same(net, other)
    assert np.array_equal(net.forward(X), other.forward(X))
    assert other.architecture() == net.architecture()
    assert other.parameters.ctypes.data % 64 == 0
    kept = {name: view.copy() for name, view in net.tensors().items()}
    for view in other.tensors().values():
        view += 1.0
    other.layers[0].W = 0.0
    other.initialize(3)
    assert all(np.array_equal(kept[name], view) for name, view in net.tensors().items())
    assert other.layers[0].W.base is not net.layers[0].W.base


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_save_and_load(tmp_path: Path, dtype: str) -> None:
    layers = [
        Dense(5, "relu", batch_norm=BatchNorm("after", "sigma", 1e-3, 0.2), dropout=0.2),
        Dense(3, "sigmoid", init="normal", init_scale=np.float32(0.5), bias_init="normal"),
    ]
    net = Network(6, layers, loss="half_squared_error", dtype=dtype, seed=4, reduction="sum")
    X, y = _digits()
    fastbp.Trainer(net, batch_size=4, optimizer=fastbp.SGD(1e-3)).fit(X, y)
    net.save(tmp_path / "net.safetensors")
    other = Network.load(tmp_path / "net.safetensors")
    assert _same(net, other)
    assert other.architecture() == net.architecture()
    assert other.layers[0].running_mean.any()
    assert np.array_equal(net.forward(X), other.forward(X))


# --- passes ---------------------------------------------------------------------------------------


def test_rows_do_not_depend_on_their_batch() -> None:
    net = _net()
    X, _ = _digits(1500)
    whole = net.forward(X)
    assert np.array_equal(whole[700:703], net.forward(X[700:703]))
    assert np.array_equal(whole[3], net.forward(X[3:4])[0])


def test_predict_gives_classes_decisions_or_outputs() -> None:
    X, _ = _digits()
    classifier = _net()
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
    net = _net()
    X, y = _digits()
    weights = np.linspace(0.0, 1.0, 12)
    found = net.evaluate(X, y, metrics=("accuracy", "log_loss"), sample_weight=weights)
    assert found["loss"] == net.loss(X, y, sample_weight=weights)
    right = net.predict(X) == y
    assert found["accuracy"] == pytest.approx(float(right @ weights) / weights.sum(), rel=1e-6)
    assert found["log_loss"] == pytest.approx(found["loss"], rel=1e-6)
    assert net.evaluate(X, y) == {"loss": net.loss(X, y)}


def test_labels_one_hot_rows_and_columns_mean_the_same() -> None:
    net = _net(dtype="float64")
    X, y = _digits()
    losses = {
        net.loss(X, form) for form in (y, y.tolist(), y[:, None], np.eye(3)[y], y.astype(np.int8))
    }
    assert len(losses) == 1
    one = Network(6, [Dense(1)], dtype="float64")
    assert one.loss(X, y) == one.loss(X, y[:, None].astype(float))


def test_sum_and_mean_and_sample_weights() -> None:
    mean, total = _net(dtype="float64"), _net(dtype="float64", reduction="sum")
    X, y = _digits()
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
    net = _net(dtype="float64")
    X, y = _digits()
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
    net = _net(dtype="float64")
    X, y = _digits(40)
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


def test_parameters_that_the_dtype_cannot_hold_are_refused() -> None:
    net = Network(1, [Dense(1)])
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match="parameters"):
        net.parameters = [1e300, 0.0]
    assert net.parameters.tobytes() == before


# --- traces ---------------------------------------------------------------------------------------


def test_a_trace_looks_at_the_rows_of_a_memory_map(tmp_path: Path) -> None:
    rows = np.ones((3, 2), np.float32)
    rows[2, 1] = -np.inf
    np.save(tmp_path / "X.npy", rows)
    net = Network(2, [Dense(4, "relu"), Dense(1)])
    with pytest.raises(ValueError, match=r"X\[2, 1\]=-inf"):
        net.trace(np.load(tmp_path / "X.npy", mmap_mode="r"), [0.0, 0.0, 0.0])


@pytest.mark.parametrize("name", ["inputs", "layers", "dtype", "device"])
def test_what_a_network_is_made_with_stays(name: str) -> None:
    net = Network(2, [Dense(2)])
    for other in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with pytest.raises(AttributeError, match=f"{name} cannot be set: "):
            setattr(other, name, getattr(other, name))


def test_a_networks_seed_is_looked_at_when_it_is_set() -> None:
    net = Network(2, [Dense(2)])
    net.seed = 7
    with pytest.raises(ValueError, match="seed=-1 must be"):
        net.seed = -1
    assert net.seed == 7


def test_a_layers_numbers_that_the_dtype_cannot_hold_are_refused() -> None:
    net = Network(2, [Dense(2)])
    before = net.parameters.copy()
    for name, value in (("W", np.full((2, 2), 1e300)), ("b", 1e300)):
        with pytest.raises(ValueError, match=rf"{name}.*=1e\+300 is too large for float32"):
            setattr(net.layers[0], name, value)
    assert (net.parameters == before).all()


def test_loss_and_reduction_are_as_the_network_was_made() -> None:
    net = Network(2, [Dense(1)], reduction="sum")
    assert (net.loss_name, net.reduction) == ("squared_error", "sum")
    for name in ("loss_name", "reduction"):
        with pytest.raises(AttributeError):
            setattr(net, name, "mean")


def _flat(net: Network, trace: Any) -> Any:
    parts = []
    for index, layer in enumerate(net.layers):
        for name, key in (
            ("W", "dL/dW"),
            ("b", "dL/dW0"),
            ("gamma", "dL/dgamma"),
            ("beta", "dL/dbeta"),
        ):
            if getattr(layer, name) is not None:
                parts.append(np.ravel(trace[key][index]))
    return np.concatenate(parts)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "norm", [False, *(BatchNorm(p, f) for p in ("before", "after") for f in ("sqrt", "sigma"))]
)
def test_a_trace_holds_the_gradient(norm: Any, training: bool) -> None:
    layers = [
        Dense(5, "gelu", batch_norm=norm, dropout=0.3),
        Dense(4, "softmax", dropout=0.2),
        Dense(3, "tanh", batch_norm=norm),
    ]
    net = Network(6, layers, dtype="float64", seed=3)
    for layer in net.layers:
        if layer.gamma is not None:
            layer.running_mean, layer.running_variance = 0.3, 0.8
    X, y = _digits()
    trace = net.trace(X, y, training=training, seed=11)
    gradient = net.gradients(X, y, training=training, seed=11)
    # Two roundings of the same sums: a few eps of the largest.
    assert np.abs(_flat(net, trace) - gradient).max() <= 1e-13 * np.abs(gradient).max()
    assert trace["loss"][0].mean() == pytest.approx(
        net.loss(X, y, training=training, seed=11), rel=1e-13
    )
    assert np.allclose(trace["output"][-1], net.forward(X, training=training, seed=11), rtol=1e-13)
    for index, activation in enumerate(("gelu", "softmax", "tanh")):
        if activation == "softmax":
            dU = np.einsum("ijk,ik->ij", trace["dA/dZ"][index], trace["dL/dA"][index])
        else:
            dU = trace["dA/dZ"][index] * trace["dL/dA"][index]
        if not net.layers[index].batch_norm or norm.position == "after":
            assert np.allclose(dU, trace["dL/dZ"][index], rtol=1e-11, atol=1e-15)


NOTES_PAIRS = [
    (activation, loss)
    for activation in ACTIVATIONS
    for loss in LOSSES
    if ACTIVATIONS[activation].low >= LOSSES[loss].low
    and ACTIVATIONS[activation].high <= LOSSES[loss].high
    and activation != "step"
    and (activation, loss) != ("relu", "poisson")  # relu gives 0, where the notes' 1/a is not held
]


@pytest.mark.parametrize(("activation", "loss"), NOTES_PAIRS)
def test_one_sample_is_the_notes_chain_of_jacobians(activation: str, loss: str) -> None:
    net = Network(
        4, [Dense(5, activation), Dense(3, "tanh"), Dense(2, activation)],
        loss=loss, dtype="float64", seed=2, reduction="sum",
    )  # fmt: skip
    rng = np.random.default_rng(1)
    for layer in net.layers:
        layer.b = rng.normal(size=layer.units)
    x, y = rng.normal(size=4), np.array([0.25, 0.75])
    layers = [(layer.W, notes.column(layer.b), layer.activation) for layer in net.layers]
    records = notes.trace(layers, notes.column(x), notes.column(y), loss)
    trace = net.trace(x[None], y[None])
    gradient = net.gradients(x[None], y[None])
    largest = np.abs(gradient).max()
    for index, record in enumerate(records[1:]):
        for name in ("Z", "A", "dL/dA", "dL/dZ", "dL/dW0"):
            assert np.allclose(
                np.ravel(trace[name][index]), record[name].ravel(), rtol=1e-11, atol=1e-13 * largest
            )
        jacobian = trace["dA/dZ"][index][0]
        jacobian = jacobian if jacobian.ndim == 2 else np.diag(jacobian)
        assert np.allclose(jacobian, record["dA/dZ"], rtol=1e-11, atol=1e-14)
        assert np.allclose(trace["dL/dW"][index], record["dL/dW"], rtol=1e-11, atol=1e-13 * largest)
        chained = notes.chain_product(records, index + 1)
        assert np.allclose(
            trace["dL/dZ"][index].ravel(), chained.ravel(), rtol=1e-10, atol=1e-13 * largest
        )
    assert np.abs(_flat(net, trace) - gradient).max() <= 1e-13 * largest


def test_repr_and_summary() -> None:
    net = _net()
    assert repr(net).startswith(
        "Network(6-5-4-3, relu, tanh, softmax, loss='cross_entropy', float32"
    )
    assert "Layer(0, inputs=6, units=5, activation='relu'" in repr(net.layers[0])
    table = str(net.summary())
    assert f"{net.parameters.size} parameters, {4 * net.parameters.size} bytes" in table
    assert "before, sqrt" in table
    assert "<table>" in net.summary()._repr_html_()


@pytest.mark.skipif(JIT_DISABLED, reason="one thread then")
def test_inference_on_any_number_of_threads_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last block is shorter, so other threads own its rows of the buffers: they must wait."""
    net = Network(32, [Dense(64, "gelu"), Dense(64, "tanh"), Dense(3, "softmax")], seed=1)
    inputs = np.random.default_rng(0).normal(size=(3 * 512 + 100, 32)).astype(np.float32)
    monkeypatch.setattr(fastbp.passes, "choose_threads", lambda work, rows, grain: 1)
    alone = net.forward(inputs)
    for threads in (2, 3, 4):
        monkeypatch.setattr(fastbp.passes, "choose_threads", lambda work, rows, grain, n=threads: n)
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


@pytest.mark.parametrize("name", ["loss", "predict", "forward"])
def test_methods_cannot_be_set(name: str) -> None:
    net = _net()
    with pytest.raises(AttributeError, match=f"{name} cannot be set: it is a method"):
        setattr(net, name, "cross_entropy")


def test_a_softmax_over_one_output_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="a softmax over one output, which is always 1") as caught:
        Network(2, [Dense(1, "softmax")])
    assert caught[0].filename == __file__
