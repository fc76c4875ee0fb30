"""ONNX: the model computes what the network computes, by two engines that are not ours."""

import json
import sys

import numpy as np
import pytest

from fastbp import BatchNorm, Dense, Network
from fastbp.kernels.tables import ACTIVATIONS

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
from onnx.reference import ReferenceEvaluator  # noqa: E402

NORMS = [False, "before", "after", BatchNorm("before", "sigma", 1e-3), BatchNorm("after", "sigma")]
LIMIT = 1e-5  # asked for; float32 with sums of 6 terms of order 10 comes to a tenth of it


def network(activation, batch_norm, dtype, last=False):
    layers = [
        Dense(6, activation, batch_norm=batch_norm, dropout=0.2),
        # e^(e^z) would make of one rounding a hundred.
        Dense(5, "identity" if activation == "exp" else activation, batch_norm=last),
    ]
    net = Network(4, layers, dtype=dtype, loss="squared_error", seed=3)
    rng = np.random.default_rng(5)
    for view in net.tensors().values():
        view[...] = rng.uniform(0.3, 1.0, view.shape) * rng.choice([-1, 1], view.shape)
    for layer in net.layers:
        if layer.running_variance is not None:
            layer.running_variance = np.abs(layer.running_variance)
    return net


def both(model, X):
    """Outputs by ONNX Runtime and by ONNX's reference evaluator."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    yield session.run(None, {"X": X})[0]
    yield ReferenceEvaluator(model).run(None, {"X": X})[0]


@pytest.mark.filterwarnings("ignore:layer 1, the last, is a step function")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_with_every_batch_norm(activation, dtype):
    X = np.random.default_rng(1).standard_normal((9, 4)).astype(dtype)
    for norm in NORMS:
        # A step behind a batch norm jumps where folding may round across 0: the others suffice.
        net = network(activation, norm, dtype, last="after" if norm == "after" else False)
        expected = net.forward(X)
        for fold in (False, True):
            for outputs in both(net.to_onnx(fold_batch_norm=fold), X):
                assert outputs.dtype == dtype
                assert outputs == pytest.approx(expected, rel=LIMIT, abs=LIMIT), (norm, fold)


def test_far_from_zero_nothing_overflows():
    X = np.array([[-1e4], [-100.0], [-1.0], [0.0], [1.0], [100.0], [1e4]])
    for dtype in ("float32", "float64"):
        for activation in ("elu", "softplus", "sigmoid", "silu", "gelu", "tanh"):
            net = Network(1, [Dense(1, activation)], dtype=dtype, loss="squared_error")
            net.layers[0].W = 1.0
            expected = net.forward(X)
            with np.errstate(all="ignore"):  # the reference computes both branches
                for outputs in both(net.to_onnx(), X.astype(dtype)):
                    assert outputs == pytest.approx(expected, rel=LIMIT, abs=LIMIT), activation


def test_what_the_model_says_of_itself():
    net = network("relu", "before", "float32")
    model = net.to_onnx()
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert (model.producer_name, model.graph.input[0].name) == ("fastbp", "X")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    numbers = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    mine = net.tensors()
    assert numbers.keys() == mine.keys()
    assert all(np.array_equal(numbers[name], mine[name]) for name in mine)
    assert json.loads(model.metadata_props[0].value) == net.architecture()
    kinds = [node.op_type for node in net.to_onnx(fold_batch_norm=True).graph.node]
    assert kinds == ["Gemm", "Relu", "Gemm", "Relu"]


def test_the_file_is_the_model(tmp_path):
    net, path = network("tanh", False, "float32"), tmp_path / "net.onnx"
    model = net.to_onnx(path)
    assert onnx.load(path) == model
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    with pytest.raises(FileNotFoundError, match="is not a directory: make it first"):
        net.to_onnx(tmp_path / "none" / "net.onnx")


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("onnx", lambda net: net.to_onnx()),
        ("torch", lambda net: net.to_torch()),
        ("torch", lambda net: type(net).from_torch({})),
        ("sklearn", lambda net: net.to_sklearn()),
    ],
)
def test_without_the_library_its_extra_is_named(monkeypatch, module, call):
    for name in [n for n in sys.modules if n == module or n.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'fastbp\[{module}\]'"):
        call(Network(2, [Dense(1)]))


def test_too_large_for_one_file(monkeypatch):
    monkeypatch.setattr("fastbp.bridges.onnx_graph.MOST_BYTES", 10)
    with pytest.raises(ValueError, match="do not fit into an ONNX file"):
        Network(2, [Dense(1)]).to_onnx()


def test_a_small_eps_is_not_rounded_in_float64():
    net = Network(3, [Dense(3, batch_norm=BatchNorm(eps=1e-50))], dtype="float64")
    net.layers[0].running_variance = [1e-9, 1e-6, 1e-30]
    rows = np.random.default_rng(0).standard_normal((5, 3))
    session = ort.InferenceSession(net.to_onnx().SerializeToString())
    outputs = session.run(None, {"X": rows})[0]
    np.testing.assert_allclose(outputs, net.forward(rows), rtol=1e-14)


def test_silu_in_float64_is_itself_far_below_0():
    net = Network(1, [Dense(1, "silu")], dtype="float64")
    net.parameters = [1.0, 0.0]
    rows = np.array([[-800.0], [-700.0], [-40.0], [0.0], [40.0]])
    session = ort.InferenceSession(net.to_onnx().SerializeToString())
    outputs = session.run(None, {"X": rows})[0]
    np.testing.assert_allclose(outputs, net.forward(rows), rtol=1e-13, atol=1e-300)


def test_a_flag_is_a_flag():
    with pytest.raises(TypeError, match=r"fold_batch_norm='no' .* must be True or False"):
        Network(2, [Dense(1)]).to_onnx(fold_batch_norm="no")
