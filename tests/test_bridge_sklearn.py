"""scikit-learn: its perceptrons and our networks say the same, in both directions."""

import numpy as np
import pytest

from fastbp import SGD, BatchNorm, Dense, Network, Trainer

pytest.importorskip("sklearn")
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

X = np.random.default_rng(0).standard_normal((30, 4))
LABELS = {
    "binary": np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)],
    "multiclass": np.array(["a", "b", "c"])[np.arange(30) % 3],
    "multilabel": (X[:, :3] > 0).astype(int),
}


def drawn(net):
    rng = np.random.default_rng(5)
    for view in net.tensors().values():
        view[...] = rng.uniform(0.3, 1.5, view.shape) * rng.choice([-1, 1], view.shape)
    for layer in net.layers:
        if layer.running_variance is not None:
            layer.running_variance = np.abs(layer.running_variance)
    return net


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", LABELS)
def test_classifiers_in_and_out(kind, activation):
    theirs = MLPClassifier((5, 3), activation, max_iter=3, random_state=1).fit(X, LABELS[kind])
    net = Network.from_sklearn(theirs)
    probabilities = theirs.predict_proba(X)
    if kind == "binary":
        assert net.forward(X)[:, 0] == pytest.approx(probabilities[:, 1], abs=1e-14)
    else:
        assert net.forward(X) == pytest.approx(probabilities, abs=1e-14)
    if kind != "multilabel":
        assert np.array_equal(theirs.classes_[net.predict(X)], theirs.predict(X))
    again = net.to_sklearn(None if kind == "multilabel" else theirs.classes_)
    assert np.array_equal(again.predict(X), theirs.predict(X))
    assert np.array_equal(again.predict_proba(X), probabilities)
    assert all(np.array_equal(a, b) for a, b in zip(again.coefs_, theirs.coefs_, strict=True))
    assert (again.activation, again.hidden_layer_sizes) == (activation, (5, 3))


def test_regressors_in_and_out():
    Y = X[:, :2] * 3.0
    theirs = MLPRegressor(
        hidden_layer_sizes=5,
        activation="tanh",
        solver="lbfgs",
        max_iter=500,
        tol=1e-2,
        random_state=1,
    ).fit(X, Y)
    net = Network.from_sklearn(theirs)
    assert net.forward(X) == pytest.approx(theirs.predict(X), abs=1e-13)
    assert np.array_equal(net.to_sklearn().predict(X), theirs.predict(X))
    # Its loss_ is half the mean over rows and outputs, plus alpha ||W||^2 / 2n; ours sums outputs.
    decay = theirs.alpha / 2 * sum((W**2).sum() for W in theirs.coefs_) / len(X)
    assert net.loss(X, Y) / 2 + decay == pytest.approx(theirs.loss_, rel=1e-10)


def test_poisson_regressors_in_and_out():
    counts = np.arange(30.0) % 4
    theirs = MLPRegressor("poisson", 5, solver="lbfgs", max_iter=500, tol=1e-2, random_state=1)
    net = Network.from_sklearn(theirs.fit(X, counts))
    assert (net.loss_name, net.layers[-1].activation) == ("poisson", "exp")
    assert net.predict(X) == pytest.approx(theirs.predict(X), rel=1e-13)
    assert np.array_equal(net.to_sklearn().predict(X), theirs.predict(X))


@pytest.mark.parametrize("norm", ["before", "after", BatchNorm("after", "sigma", 0.1)], ids=str)
def test_batch_norm_is_folded(norm):
    hidden = [Dense(6, "relu", batch_norm=norm, dropout=0.3), Dense(5, "relu", batch_norm="before")]
    net = drawn(Network(4, [*hidden, Dense(3, "softmax")], dtype="float64"))
    assert net.to_sklearn().predict_proba(X) == pytest.approx(net.forward(X), abs=1e-13)


def test_two_classes_become_one_output():
    net = drawn(Network(4, [Dense(5, "tanh"), Dense(2, "softmax")], dtype="float64"))
    model = net.to_sklearn([False, True])
    assert model.n_outputs_ == 1
    assert model.predict_proba(X) == pytest.approx(net.forward(X), abs=1e-14)
    assert np.array_equal(model.predict(X), net.predict(X).astype(bool))


def test_without_hidden_layers_and_in_float32():
    net = Network(4, [Dense(3, "softmax")])
    model = net.to_sklearn()
    assert model.coefs_[0].dtype == np.float32
    # float32: sums of 4 products of order 1.
    assert model.predict_proba(X.astype("float32")) == pytest.approx(net.forward(X), abs=1e-6)
    assert Network.from_sklearn(model).dtype == "float32"


def test_their_estimator_trains_on():
    net = Network(4, [Dense(8, "relu"), Dense(3, "softmax")], dtype="float64", seed=1)
    y = np.arange(30) % 3
    model = net.to_sklearn()
    start = -np.log(model.predict_proba(X)[np.arange(30), y]).mean()
    for _ in range(5):
        model.partial_fit(X, y)
    # Before each step its loss has alpha ||W||^2 / 2n beside ours.
    decay = model.alpha / 2 * sum((layer.W**2).sum() for layer in net.layers) / 30
    assert model.loss_curve_[0] == pytest.approx(start + decay, rel=1e-12)
    assert model.loss_ < model.loss_curve_[0]
    assert net.loss(X, y) == pytest.approx(start, rel=1e-12)  # the network keeps its own numbers


def test_a_network_trains_on():
    model = MLPRegressor(hidden_layer_sizes=5, max_iter=3, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, X[:, 0])
    net = Network.from_sklearn(model)
    before = net.loss(X, X[:, 0])
    Trainer(net, SGD(1e-3), None).fit(X, X[:, 0], epochs=3)
    assert net.loss(X, X[:, 0]) < before


@pytest.mark.parametrize(
    ("layers", "loss", "message"),
    [
        ([Dense(3, "gelu"), Dense(1)], None, "no activation 'gelu'; it has identity"),
        ([Dense(3, "relu"), Dense(3, "tanh"), Dense(1)], None, "one activation for all"),
        ([Dense(3, "softmax")], "squared_error", "has no counterpart"),
        ([Dense(3, "tanh")], None, "has no counterpart"),
        ([Dense(3, "identity", batch_norm="after")], None, "net.to_onnx"),
    ],
)
def test_what_scikit_learn_has_not(layers, loss, message):
    with pytest.raises(ValueError, match=message):
        Network(4, layers, loss=loss).to_sklearn()


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["a", "b"], "must be 3 different labels"),
        (["a", "b", "b"], "must be 3 different labels"),
        (["b", "a", "c"], "must be sorted"),
    ],
)
def test_wrong_classes(classes, message):
    several = Network(4, [Dense(3, "sigmoid")], loss="binary_cross_entropy")
    assert several.to_sklearn([0, 1, 2]).classes_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="with several labels a row scikit-learn numbers them"):
        several.to_sklearn([1, 2, 3])
    with pytest.raises(ValueError, match=message):
        Network(4, [Dense(3, "softmax")]).to_sklearn(classes)
    with pytest.raises(ValueError, match="the network is a regression"):
        Network(4, [Dense(3)]).to_sklearn(classes)


def test_what_is_no_estimator():
    with pytest.raises(
        TypeError, match=r"estimator=MLPClassifier\(\) has no coefs_: give a fitted"
    ):
        Network.from_sklearn(MLPClassifier())
    model = MLPRegressor(hidden_layer_sizes=3, max_iter=1000, tol=10).fit(X, X[:, 0])
    model.activation = "swish"
    with pytest.raises(ValueError, match="activation 'swish', which a network has not"):
        Network.from_sklearn(model)


@pytest.mark.parametrize("classes", [[1, "a", None], [1, None, 2], [(1,), (2,), (3,)]])
def test_labels_without_an_order_are_refused(classes):
    with pytest.raises(ValueError, match="must be 3 different labels"):
        Network(4, [Dense(3, "softmax")]).to_sklearn(classes)
