"""The estimators follow scikit-learn's own, weight by weight, word by word."""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import neural_network as theirs
from sklearn.datasets import make_classification, make_multilabel_classification

import fastbp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CLASSES = (theirs.MLPClassifier, fastbp.MLPClassifier)
REGRESSORS = (theirs.MLPRegressor, fastbp.MLPRegressor)
SHAPE = {"n_samples": 150, "n_features": 10, "random_state": 0}
X, THREE = make_classification(**SHAPE, n_informative=6, n_classes=3)
TWO = make_classification(**SHAPE)[1]
TEXT = np.array(["no", "yes"], object)[TWO]
MANY = make_multilabel_classification(**SHAPE)[1]
RNG = np.random.default_rng(0)
REAL = np.tanh(X[:, :2]) + X[:, 2:4] * 0.1
COUNTS = RNG.poisson(np.exp(0.3 * X[:, 0])).astype(float)
WEIGHTS = RNG.uniform(0.0, 2.0, len(X))
SPARSE = np.where(np.abs(X) > 1, X, 0.0)

# What 50 epochs of float64 may differ by: rounding alone. They differ by 1e-15 to 1e-13.
FIFTY = {"max_iter": 50, "tol": 0.0, "n_iter_no_change": 100, "random_state": 3}
HIDDEN = {"hidden_layer_sizes": (12, 7)}
TOLERANCE = 1e-8

RUNS: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    **{f"{f}, three classes": (CLASSES, X, THREE, {"activation": f, "batch_size": 64})
       for f in ("relu", "tanh", "logistic", "identity")},
    "two classes": (CLASSES, X, TWO, {}),
    "text": (CLASSES, X, TEXT, {}),
    "several labels": (CLASSES, X, MANY, {}),
    "alpha": (CLASSES, X, THREE, {"alpha": 0.5, "batch_size": 40}),
    "no hidden layer": (CLASSES, X, THREE, {"hidden_layer_sizes": ()}),
    "no hidden layer, logistic": (
        CLASSES, X, THREE, {"hidden_layer_sizes": (), "activation": "logistic"}),
    "one sample a step": (CLASSES, X[:40], TWO[:40], {"batch_size": 1, "max_iter": 5}),
    "in order": (CLASSES, X, THREE, {"shuffle": False}),
    "regression": (REGRESSORS, X, REAL, {"alpha": 0.1}),
    "one output": (REGRESSORS, X, REAL[:, 0], {"batch_size": 33}),
    "poisson": (REGRESSORS, X, COUNTS, {"loss": "poisson"}),
    "csr": (CLASSES, sp.csr_array(SPARSE), THREE, {"batch_size": 64}),
    "csc": (REGRESSORS, sp.csc_matrix(SPARSE), REAL, {}),
}  # fmt: skip


def pair(which: Any, *data: Any, **parameters: Any) -> tuple[Any, Any]:
    """scikit-learn's estimator and ours, fitted alike."""
    both = [cls(**{**FIFTY, **HIDDEN, **parameters}).fit(*data) for cls in which]
    return both[0], both[1]


def same_weights(a: Any, b: Any, tolerance: float = TOLERANCE) -> None:
    for mine, other in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance)
        assert mine.dtype == other.dtype


FITTED = (
    "n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_",
    "_no_improvement_count",
)  # fmt: skip
CURVES = ("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_")


def same_record(a: Any, b: Any) -> None:
    for name in FITTED:
        assert getattr(a, name) == getattr(b, name), name
    for name in CURVES:
        mine, other = getattr(a, name), getattr(b, name)
        assert (mine is None) == (other is None), name
        if mine is not None:
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-9, err_msg=name)
    assert a._optimizer.learning_rate == pytest.approx(b._optimizer.learning_rate, rel=1e-12)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("name", RUNS)
def test_fifty_epochs(name: str, solver: str) -> None:
    which, inputs, y, parameters = RUNS[name]
    a, b = pair(which, inputs, y, solver=solver, **parameters)
    same_weights(a, b)
    same_record(a, b)
    np.testing.assert_allclose(b.score(inputs, y), a.score(inputs, y), rtol=0, atol=1e-9)
    if which is CLASSES:
        np.testing.assert_array_equal(a.predict(inputs), b.predict(inputs))
        for door in ("predict_proba", "predict_log_proba"):
            mine, other = getattr(b, door)(inputs), getattr(a, door)(inputs)
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-7)
    else:
        np.testing.assert_allclose(b.predict(inputs), a.predict(inputs), rtol=0, atol=1e-9)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["two classes", "several labels", "regression", "poisson", "csr"])
def test_sample_weights(name: str, solver: str) -> None:
    which, inputs, y, parameters = RUNS[name]
    given = {**parameters, "alpha": 0.1, "batch_size": 40}
    a, b = pair(which, inputs, y, WEIGHTS, solver=solver, **given)
    same_weights(a, b)
    same_record(a, b)


@pytest.mark.parametrize(
    "parameters",
    [
        {"learning_rate": "invscaling", "learning_rate_init": 0.3, "power_t": 0.25},
        {"learning_rate": "adaptive", "learning_rate_init": 0.5, "n_iter_no_change": 1,
         "tol": 1e-3},
        {"nesterovs_momentum": False},
        {"momentum": 0.0},
        {"momentum": 1.0, "max_iter": 5},
    ],
)  # fmt: skip
def test_rates_and_momenta(parameters: dict[str, Any]) -> None:
    same_record(*pair(CLASSES, X, THREE, solver="sgd", **parameters))
    same_weights(*pair(CLASSES, X, THREE, solver="sgd", **parameters))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", ["two classes", "text", "alpha", "several labels", "one output",
                                  "csr"])  # fmt: skip
def test_early_stopping(name: str, weights: Any) -> None:
    which, inputs, y, parameters = RUNS[name]
    given = {**parameters, "early_stopping": True, "tol": 1e-3, "n_iter_no_change": 4}
    a, b = pair(which, inputs, y, weights, learning_rate_init=0.01, **given)
    assert a.n_iter_ < 50
    same_weights(a, b)
    same_record(a, b)


@pytest.mark.parametrize("name", ["tanh, three classes", "two classes", "regression", "poisson"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_lbfgs(name: str, weights: Any) -> None:
    """Fifteen line searches magnify roundings a thousandfold and more; later ones part ways."""
    which, inputs, y, parameters = RUNS[name]
    given = {**parameters, "solver": "lbfgs", "max_iter": 15, "alpha": 0.01}
    a, b = pair(which, inputs, y, weights, **given)
    same_weights(a, b, 1e-7)
    assert a.n_iter_ == b.n_iter_
    assert b.loss_ == pytest.approx(a.loss_, rel=1e-9)


def test_lbfgs_works_in_float64_and_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastbp.sklearn_api import lbfgs

    given = {"solver": "lbfgs", "max_iter": 10}
    whole = pair(CLASSES, X.astype(np.float32), THREE, **given)
    assert whole[1].coefs_[0].dtype == whole[0].coefs_[0].dtype == np.float64
    monkeypatch.setattr(lbfgs, "BLOCK", 64)
    same_weights(whole[1], pair(CLASSES, X.astype(np.float32), THREE, **given)[1], 1e-9)


def test_float32_stays_float32() -> None:
    """Fifty epochs of Adam, 150 steps, each of a few roundings of 6e-8 times a rate of 1e-3."""
    a, b = pair(CLASSES, X.astype(np.float32), THREE)
    same_weights(a, b, 1e-5)
    assert b.predict_proba(X.astype(np.float32)).dtype == np.float32
    assert b.predict_proba(X).dtype == a.predict_proba(X).dtype == np.float64


@pytest.mark.parametrize("which", [CLASSES, REGRESSORS])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit(which: Any, solver: str) -> None:
    y, first = (THREE, {"classes": [0, 1, 2]}) if which is CLASSES else (REAL, {})
    both = [cls(**HIDDEN, solver=solver, random_state=1, batch_size=30) for cls in which]
    for cut, more in ((slice(0, 70), first), (slice(70, 150), {}), (slice(0, 40), {})):
        for model in both:
            model.partial_fit(X[cut], y[cut], **more)
        same_weights(*both)
        same_record(*both)
    for model in both:
        model.partial_fit(X, y, sample_weight=WEIGHTS)
    same_weights(*both)


def test_partial_fit_by_lbfgs_is_scikit_learns_for_a_regression() -> None:
    """Its classifier has no partial_fit then, its regressor has."""
    both = [cls(**HIDDEN, solver="lbfgs", random_state=1, max_iter=5) for cls in REGRESSORS]
    for _ in range(2):
        for model in both:
            model.partial_fit(X, REAL)
        same_weights(*both)
    assert not hasattr(CLASSES[1](solver="lbfgs"), "partial_fit")


def test_texts_are_no_targets_of_a_regression() -> None:
    for cls in REGRESSORS:
        with pytest.raises(TypeError):
            cls(**HIDDEN).fit(X, np.full(len(X), "1.5"))


def test_losses_are_numbers_of_numpy() -> None:
    for model in pair(CLASSES, X, THREE):
        assert type(model.loss_) is type(model.best_loss_) is np.float64


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_warm_start(solver: str) -> None:
    both = [
        cls(**HIDDEN, solver=solver, random_state=np.random.RandomState(5), max_iter=8,
            warm_start=True)
        for cls in CLASSES
    ]  # fmt: skip
    for _ in range(3):
        for model in both:
            model.fit(X, THREE)
        same_weights(*both)
        same_record(*both)


def test_a_warm_start_with_early_stopping_keeps_the_best() -> None:
    """scikit-learn trains on in the arrays that it set aside as the best, and loses those."""
    model = fastbp.MLPClassifier(
        **HIDDEN, warm_start=True, early_stopping=True, max_iter=20, random_state=0,
        learning_rate_init=0.02,
    ).fit(X, THREE)  # fmt: skip
    best, kept = model.best_validation_score_, [W.copy() for W in model.coefs_]
    model.set_params(learning_rate_init=10.0).fit(X, THREE)  # nothing good comes of that
    assert model.best_validation_score_ == best == max(model.validation_scores_[:20])
    assert max(model.validation_scores_[20:]) <= best
    for mine, before in zip(model.coefs_, kept, strict=True):
        np.testing.assert_array_equal(mine, before)


def test_coefficients_that_someone_replaced() -> None:
    """Before a prediction, and before training goes on."""
    both = pair(CLASSES, X, THREE, max_iter=3)
    for model in both:
        model.coefs_ = [2.0 * W for W in model.coefs_]
        model.intercepts_[0] += 0.5
    np.testing.assert_allclose(*(m.predict_proba(X) for m in both), rtol=0, atol=1e-12)
    for model in both:
        model.coefs_[1][...] = 0.1
    np.testing.assert_allclose(*(m.predict_proba(X) for m in both), rtol=0, atol=1e-12)
    for model in both:
        model.partial_fit(X, THREE)
    same_weights(*both)
    np.testing.assert_allclose(*(m.predict_proba(X) for m in both), rtol=0, atol=1e-12)


@pytest.mark.parametrize("parameters", [
    {"solver": "adam", "early_stopping": True, "max_iter": 4},
    {"solver": "adam", "tol": 1.0, "n_iter_no_change": 2},
    {"solver": "adam", "tol": 1.0, "n_iter_no_change": 1, "early_stopping": True},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
])  # fmt: skip
def test_what_is_printed(parameters: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for cls in CLASSES:
        cls(**{**FIFTY, **HIDDEN, **parameters}, verbose=True).fit(X, THREE)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ""


# --- what is refused, and what is warned of -------------------------------------------------------

NAN = np.where(X[3, 2] == X, np.nan, X)
REFUSED: list[tuple[Any, dict[str, Any], tuple[Any, ...]]] = [
    (CLASSES, {"hidden_layer_sizes": (5, 0)}, (X, TWO)),
    (CLASSES, {"hidden_layer_sizes": -1}, (X, TWO)),
    (CLASSES, {"activation": "ReLU"}, (X, TWO)),
    (CLASSES, {"solver": "newton"}, (X, TWO)),
    (CLASSES, {"alpha": -1}, (X, TWO)),
    (CLASSES, {"batch_size": 0}, (X, TWO)),
    (CLASSES, {"learning_rate": "falling"}, (X, TWO)),
    (CLASSES, {"learning_rate_init": 0}, (X, TWO)),
    (CLASSES, {"max_iter": 1.5}, (X, TWO)),
    (CLASSES, {"momentum": 1.5}, (X, TWO)),
    (CLASSES, {"shuffle": "yes"}, (X, TWO)),
    (CLASSES, {"validation_fraction": 1.0}, (X, TWO)),
    (CLASSES, {"beta_1": 1}, (X, TWO)),
    (CLASSES, {"epsilon": 0}, (X, TWO)),
    (CLASSES, {"n_iter_no_change": 0.5}, (X, TWO)),
    (CLASSES, {"random_state": "seed"}, (X, TWO)),
    (REGRESSORS, {"loss": "absolute"}, (X, REAL)),
    (CLASSES, {}, (NAN, TWO)),
    (CLASSES, {}, (np.where(np.isnan(NAN), np.inf, X).astype(np.float32), TWO)),
    (CLASSES, {}, (NAN, TWO[:-1])),
    (REGRESSORS, {}, (NAN, TEXT)),
    (CLASSES, {}, (X, TWO[:-1])),
    (CLASSES, {}, (X, REAL[:, 0])),
    (CLASSES, {}, (X[0], TWO)),
    (CLASSES, {}, (X, TWO, WEIGHTS[:-1])),
    (CLASSES, {}, (X, TWO, np.zeros(len(X)))),
    (CLASSES, {}, (X, np.full(len(X), np.nan))),
    (CLASSES, {}, (X[:0], TWO[:0])),
    (CLASSES, {"early_stopping": True}, (X[:4], [0, 0, 0, 1])),
    (REGRESSORS, {"early_stopping": True}, (X[:2], COUNTS[:2])),
    (REGRESSORS, {}, (X, TEXT)),
    (REGRESSORS, {"learning_rate_init": 1e30, "solver": "sgd"}, (X * 1e200, COUNTS)),
]


def _in_order(options: re.Match[str]) -> str:
    """A printed set, whose order is chance."""
    return ", ".join(sorted(options[0][1:-1].split(", ")))


def outcome(call: Any) -> tuple[str, str, list[str]]:
    """Type and text of what a call raises, and the texts it warns with."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of overflows
        try:
            call()
            name = text = ""
        except Exception as error:  # noqa: BLE001 - any will do, if it is the same
            name, text = type(error).__name__, re.sub(r"\{.*?\}", _in_order, str(error))
    return name, text, [f"{w.category.__name__}: {w.message}" for w in caught]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_the_same_errors(case: int) -> None:
    which, parameters, data = REFUSED[case]
    given = {"max_iter": 3, **parameters}
    a, b = (outcome(lambda cls=cls: cls(**given).fit(*data)) for cls in which)
    assert a[0] != ""
    assert b == a


def _stories(cls: Any) -> list[tuple[str, str, list[str]]]:
    """Calls in the wrong order, or with what an earlier call does not fit."""
    short = {"max_iter": 2, "random_state": 0, "hidden_layer_sizes": 3}
    fitted = cls(**short).fit(X, THREE)
    stopped = cls(**short, early_stopping=True).fit(X, THREE)
    warm = cls(**short, warm_start=True).fit(X, THREE)
    partial = cls(**short).partial_fit(X, TWO, classes=[0, 1])
    return [
        outcome(lambda: cls().predict(X)),
        outcome(lambda: cls().predict_proba(X)),
        outcome(lambda: fitted.predict(X[:, :5])),
        outcome(lambda: fitted.predict(NAN)),
        outcome(lambda: fitted.predict(X[0])),
        outcome(lambda: fitted.predict_proba([["a"] * 10])),
        outcome(lambda: stopped.partial_fit(X, THREE)),
        outcome(lambda: warm.fit(X, TWO)),
        outcome(lambda: warm.fit(X[:, :4], THREE)),
        outcome(lambda: warm.fit(NAN[:, :4].copy(), THREE)),
        outcome(lambda: partial.partial_fit(X, THREE)),
        outcome(lambda: partial.partial_fit(X, TWO, classes=[0, 1, 2])),
        outcome(lambda: cls().partial_fit(X, TWO)),
        outcome(lambda: cls(solver="lbfgs").partial_fit),
        outcome(lambda: cls(**short).fit(X, TWO)),
        outcome(lambda: cls(**short).fit(X, TWO[:, None])),
        outcome(lambda: cls(**short, batch_size=1000).fit(X, TWO)),
        outcome(lambda: cls(**short, solver="lbfgs").fit(X, TWO)),
    ]


def test_the_same_errors_and_warnings_in_the_same_stories() -> None:
    for a, b in zip(*map(_stories, CLASSES), strict=True):
        assert b == a


def test_parameters_and_their_defaults() -> None:
    for a, b in (CLASSES, REGRESSORS):
        wanted = inspect.signature(a.__init__).parameters
        mine = inspect.signature(b.__init__).parameters
        assert list(mine)[: len(wanted)] == list(wanted)
        for name, parameter in wanted.items():
            assert (mine[name].default, mine[name].kind) == (parameter.default, parameter.kind)
        for name in list(mine)[len(wanted) :]:  # the extras: by keyword, and off
            assert mine[name].kind is inspect.Parameter.KEYWORD_ONLY
            assert mine[name].default in (None, False, 0.0, "cpu")


def test_every_public_name_of_theirs_is_ours() -> None:
    for which, y in ((CLASSES, THREE), (REGRESSORS, REAL)):
        a, b = pair(which, X, y, max_iter=2)
        missing = {name for name in {*dir(a), *vars(a)} if not name.startswith("_")} - {*dir(b)}
        assert missing == set()
        assert repr(a) == repr(b)


def test_early_stopping_asked_for_in_a_warm_start() -> None:
    """Where scikit-learn stumbles over a list that is None."""
    model = fastbp.MLPClassifier(**HIDDEN, warm_start=True, max_iter=3, random_state=0)
    model.fit(X, THREE).set_params(early_stopping=True).fit(X, THREE)
    assert len(model.validation_scores_) == 3
    assert model.best_loss_ is None


def test_another_number_of_outputs_in_a_warm_start_is_refused() -> None:
    model = fastbp.MLPRegressor(**HIDDEN, warm_start=True, max_iter=3).fit(X, REAL)
    before = copy.deepcopy(model.coefs_)
    with pytest.raises(ValueError, match=r"y has 1 outputs, and the network .* has 2"):
        model.fit(X, REAL[:, 0])
    np.testing.assert_array_equal(model.coefs_[1], before[1])


def test_the_only_class_is_right_in_early_stopping() -> None:
    one = np.ones(len(X), int)
    given = {"early_stopping": True, "max_iter": 1, "hidden_layer_sizes": (4,)}
    theirs, ours = pair(CLASSES, X, one, **given)
    assert ours.validation_scores_ == theirs.validation_scores_ == [1.0]
