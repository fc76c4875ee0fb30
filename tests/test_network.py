"""`Network`: its face, its conventions, copies and files."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_fits import labelled, mixed_net

import fastbp
from fastbp import BatchNorm, Dense, Network
from fastbp.kernels.tables import ACTIVATIONS

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
    net = mixed_net()
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
    same, other = mixed_net(dtype=dtype), mixed_net(dtype=dtype, seed=8)
    assert np.array_equal(same.parameters, mixed_net(dtype=dtype).parameters)
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
    net = mixed_net()
    X, y = labelled()
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
    X, y = labelled()
    fastbp.Trainer(net, batch_size=4, optimizer=fastbp.SGD(1e-3)).fit(X, y)
    net.save(tmp_path / "net.safetensors")
    other = Network.load(tmp_path / "net.safetensors")
    assert _same(net, other)
    assert other.architecture() == net.architecture()
    assert other.layers[0].running_mean.any()
    assert np.array_equal(net.forward(X), other.forward(X))


def test_parameters_that_the_dtype_cannot_hold_are_refused() -> None:
    net = Network(1, [Dense(1)])
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match="parameters"):
        net.parameters = [1e300, 0.0]
    assert net.parameters.tobytes() == before


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


def test_repr_and_summary() -> None:
    net = mixed_net()
    assert repr(net).startswith(
        "Network(6-5-4-3, relu, tanh, softmax, loss='cross_entropy', float32"
    )
    assert "Layer(0, inputs=6, units=5, activation='relu'" in repr(net.layers[0])
    table = str(net.summary())
    assert f"{net.parameters.size} parameters, {4 * net.parameters.size} bytes" in table
    assert "before, sqrt" in table
    assert "<table>" in net.summary()._repr_html_()


@pytest.mark.parametrize("name", ["loss", "predict", "forward"])
def test_methods_cannot_be_set(name: str) -> None:
    net = mixed_net()
    with pytest.raises(AttributeError, match=f"{name} cannot be set: it is a method"):
        setattr(net, name, "cross_entropy")


def test_a_softmax_over_one_output_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="a softmax over one output, which is always 1") as caught:
        Network(2, [Dense(1, "softmax")])
    assert caught[0].filename == __file__


def test_cross_entropy_of_one_output_is_warned_of() -> None:
    """It asks only that the output be 1, whatever the class."""
    with pytest.warns(UserWarning, match="goes to 1 for all; use 'binary_cross_entropy'") as caught:
        Network(2, [Dense(1, "sigmoid")], loss="cross_entropy")
    assert caught[0].filename == __file__
    with pytest.raises(ValueError, match="end in 'softmax' without"):
        Network(2, [Dense(2, "relu")], loss="cross_entropy")


def test_a_layer_lists_what_it_has() -> None:
    assert {"W", "b", "gamma", "running_mean", "units", "activation", "inputs"} <= set(
        dir(Network(2, [Dense(3, "relu")]).layers[0])
    )


@pytest.mark.parametrize(("dtype", "eps"), [("float32", 1e-40), ("float64", 1e-320)])
def test_an_eps_that_counts_as_0_is_refused(dtype: str, eps: float) -> None:
    layer = Dense(2, batch_norm=fastbp.BatchNorm(eps=eps))
    with pytest.raises(
        ValueError, match=rf"layers\[0\].batch_norm.eps=.* normal number of {dtype}"
    ):
        Network(3, [layer], dtype=dtype)
    Network(
        3, [Dense(2, batch_norm=fastbp.BatchNorm(eps=float(np.finfo(dtype).tiny)))], dtype=dtype
    )
