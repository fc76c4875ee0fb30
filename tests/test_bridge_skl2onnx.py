"""skl2onnx: Pipelines that end in a perceptron become ONNX models that say the same."""

import numpy as np
import pytest

import fastbp
from fastbp.bridges import register_skl2onnx

pytest.importorskip("skl2onnx")
pytest.importorskip("onnxruntime")
import onnx
import onnxruntime as ort
import skl2onnx
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer", "ignore::DeprecationWarning")
X = np.random.default_rng(0).standard_normal((40, 4)) * [1, 10, 0.1, 3] + 5
LABELS = {
    "binary": (X[:, 0] > 5).astype(int) * 7,
    "text": np.array(["a", "b", "c"])[np.arange(40) % 3],
    "multiclass": np.arange(40) % 3 - 1,
    "multilabel": (X[:, :3] > 5).astype(int),
}


class Classifier(MLPClassifier):
    """skl2onnx knows scikit-learn's own, and not this one."""


class Regressor(MLPRegressor):
    """Likewise."""


def estimators():
    """Pairs of classes; fastbp's where they are in this build."""
    pairs = [(Classifier, Regressor)]
    if hasattr(fastbp, "MLPClassifier"):
        pairs.append((fastbp.MLPClassifier, fastbp.MLPRegressor))
    return pairs


def run(pipeline, dtype, opset=17, **options):
    sample = X[:1].astype(dtype)
    chosen = {type(pipeline[-1]): options} if options else None
    model = skl2onnx.to_onnx(
        pipeline, sample, target_opset={"": opset, "ai.onnx.ml": 3}, options=chosen
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"X": X.astype(dtype)})


@pytest.mark.parametrize(("classifier", "regressor"), estimators())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pipelines(classifier, regressor, dtype):
    register_skl2onnx(classifier, regressor)
    options = {"hidden_layer_sizes": (6, 5), "activation": "tanh", "max_iter": 3, "random_state": 0}
    for kind, y in LABELS.items():
        pipeline = make_pipeline(StandardScaler(), classifier(**options)).fit(X, y)
        labels, probabilities = run(pipeline, dtype, zipmap=False)
        # The model computes in the dtype of its input.
        assert probabilities == pytest.approx(pipeline.predict_proba(X), abs=1e-5), kind
        assert np.array_equal(labels, pipeline.predict(X)), kind
    for y in (X[:, 0], X[:, :2]):
        pipeline = make_pipeline(StandardScaler(), regressor(**options)).fit(X, y)
        outputs = run(pipeline, dtype)[0].reshape(pipeline.predict(X).shape)
        assert outputs == pytest.approx(pipeline.predict(X), abs=1e-4)


def test_zipmap_gives_dictionaries():
    register_skl2onnx(Classifier)
    model = Classifier((3,), max_iter=2, random_state=0).fit(X, LABELS["text"])
    rows = run(make_pipeline(StandardScaler(), model).fit(X, LABELS["text"]), "float32")[1]
    assert list(rows[0]) == ["a", "b", "c"]


@pytest.mark.parametrize(("classifier", "regressor"), estimators())
def test_labels_that_are_whole_floats_and_one_class(classifier, regressor):
    register_skl2onnx(classifier, regressor)
    for y in (LABELS["binary"].astype(float), np.full(40, 7)):
        model = classifier(hidden_layer_sizes=4, max_iter=2, random_state=0).fit(X, y)
        labels, _ = run(make_pipeline(model), "float32", zipmap=False)
        assert np.array_equal(labels, model.predict(X))


@pytest.mark.parametrize(("classifier", "regressor"), estimators())
def test_one_class_alone(classifier, regressor):
    register_skl2onnx(classifier, regressor)
    pipeline = make_pipeline(StandardScaler(), classifier((3,), max_iter=2)).fit(X, np.full(40, 7))
    labels, maps = run(pipeline, "float32")
    assert set(labels) == {7}
    assert all(list(one) == [7] for one in maps)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_shape_of_a_regression_is_declared(outputs):
    register_skl2onnx(Regressor)
    model = Regressor(hidden_layer_sizes=(3,), max_iter=2).fit(
        X, X[:, :outputs] if outputs > 1 else X[:, 0]
    )
    onnx_model = skl2onnx.to_onnx(model, X[:1].astype(np.float32), target_opset=17)
    assert onnx_model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == outputs
    onnx.checker.check_model(onnx_model, full_check=True)


@pytest.mark.parametrize("opset", [13, 15, 17, 18])
def test_older_and_newer_opsets(opset):
    register_skl2onnx(Classifier, Regressor)
    for kind, activation in zip(LABELS, ("relu", "tanh", "logistic", "identity"), strict=True):
        model = Classifier((5,), activation, max_iter=3, random_state=0)
        pipeline = make_pipeline(StandardScaler(), model).fit(X, LABELS[kind])
        # float32: sums of 5 products of order 1, of inputs of 5 that spread by 0.1 and more.
        found = run(pipeline, "float32", opset, zipmap=False)[1]
        assert found == pytest.approx(pipeline.predict_proba(X), abs=1e-5)


def test_an_opset_that_is_too_old_is_named():
    register_skl2onnx(Classifier, Regressor)
    pipeline = make_pipeline(StandardScaler(), Regressor(hidden_layer_sizes=(5,), max_iter=3)).fit(
        X, X[:, 0]
    )
    with pytest.raises(ValueError, match=r"target_opset=12 is too old.*give 13 or more"):
        run(pipeline, "float32", 12)
