"""The estimators after odd calls: a fit that failed, other widths, odd labels, further fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.neural_network

from fastbp import MLPClassifier, MLPRegressor
from fastbp.callbacks import State

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning"),
]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = RNG.integers(0, 3, 60)
TEXTS = np.array(list("abc"))[Y]
MANY = RNG.integers(0, 2, (60, 3))
SMALL: dict[str, Any] = {"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0}


@pytest.mark.parametrize("width", [2, 3_000])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_a_width_left_by_a_fit_that_failed_is_refused(width: int, form: Any) -> None:
    """As in scikit-learn `n_features_in_` is the failed fit's; memory is not read by it."""
    model = MLPClassifier(**SMALL).fit(X, Y)
    other = form(RNG.normal(size=(60, width)))
    with pytest.raises(ValueError, match="Unknown label type"):
        model.fit(other, RNG.normal(size=60))
    assert model.n_features_in_ == width
    before = model.coefs_[0].tobytes()
    for call in (model.predict, model.predict_proba, lambda X: model.partial_fit(X, Y)):
        with pytest.raises(ValueError, match=f"X has {width} features, .* 4 inputs"):
            call(other)
    assert model.coefs_[0].tobytes() == before
    assert model.fit(X, Y).score(X, Y) > 0


@pytest.mark.parametrize("name", ["activation", "solver", "learning_rate", "loss"])
def test_what_may_be_chosen_is_listed_in_scikit_learns_order(name: str) -> None:
    """Which is that of a set: it changes with Python's hash seed."""
    said = []
    for cls in (MLPRegressor, sklearn.neural_network.MLPRegressor):
        with pytest.raises(ValueError, match=f"The '{name}' parameter") as refused:
            cls(**{name: "x"}).fit(X, X[:, 0])
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_coefficients_of_another_width_are_refused() -> None:
    model = MLPRegressor(**SMALL).fit(X, X[:, 0])
    model.coefs_ = [np.ones((2, 3)), np.ones((3, 1))]
    model.intercepts_ = [np.ones(3), np.ones(1)]
    for call in (model.predict, lambda X: model.partial_fit(X, X[:, 0])):
        with pytest.raises(ValueError, match=r"X has 4 features, .* 2 inputs"):
            call(X)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("values", [(0, 255), (0, 2), (-1, 0)])
def test_indicators_are_what_is_not_zero(solver: str, values: tuple[int, int]) -> None:
    """LabelBinarizer knows these as indicators; scikit-learn makes booleans of them."""
    y = np.where(MANY, values[1], values[0])
    wanted = sklearn.neural_network.MLPClassifier(solver=solver, **SMALL).fit(X, y)
    found = MLPClassifier(solver=solver, **SMALL).fit(X, y)
    assert found.loss_ == pytest.approx(wanted.loss_, rel=1e-9)


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_held_out_targets_may_be_a_column(cls: Any) -> None:
    y: Any = TEXTS if cls is MLPClassifier else X[:, 0]
    found = [
        cls(early_stopping=True, **SMALL).fit(X, y, X_val=X[:20], y_val=held).validation_scores_
        for held in (y[:20], y[:20, None])
    ]
    assert found[0] == found[1]


def test_held_out_targets_that_have_no_score_are_refused() -> None:
    model = MLPRegressor(early_stopping=True, **SMALL)
    with pytest.raises(ValueError, match="X_val has 1 row, and R"):
        model.fit(X, X[:, 0], X_val=X[:1], y_val=X[:1, 0])
    with pytest.raises(TypeError, match="y holds texts"):
        model.fit(X, X[:, 0], X_val=X[:3], y_val=["1", "2", "3"])


@pytest.mark.parametrize("y", [Y, MANY])
def test_held_out_weights_of_zero_get_scikit_learns_error(y: Any) -> None:
    weights = np.zeros(60)
    weights[:3] = 1
    errors = []
    for cls in (sklearn.neural_network.MLPClassifier, MLPClassifier):
        with pytest.raises(ValueError, match="at least one non-zero number") as caught:
            cls(early_stopping=True, **SMALL | {"random_state": 1}).fit(X, y, weights)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("names", [[0, 1, 2], list("abc")])
def test_class_weights_of_classes_that_a_part_lacks(names: list[Any]) -> None:
    part = np.array(names)[[1, 1, 2, 2, 2]]
    weighted = MLPClassifier(class_weight={names[0]: 5.0, names[2]: 3.0}, **SMALL)
    weighted.partial_fit(X[:5], part, classes=names)
    by_hand = MLPClassifier(**SMALL)
    by_hand.partial_fit(X[:5], part, sample_weight=[1, 1, 3, 3, 3], classes=names)
    assert weighted.coefs_[0].tobytes() == by_hand.coefs_[0].tobytes()


def test_lbfgs_works_in_float64_after_other_solvers_too() -> None:
    model = MLPClassifier(warm_start=True, **SMALL).fit(X.astype("f4"), Y)
    assert model.coefs_[0].dtype == np.float32
    before = model.coefs_[0].copy()
    model.set_params(solver="lbfgs", max_iter=1).fit(X.astype("f4"), Y)
    assert model.coefs_[0].dtype == np.float64
    model.set_params(max_iter=200).fit(X.astype("f4"), Y)
    assert np.abs(model.coefs_[0] - before).max() > 0.1
    regressor = MLPRegressor(solver="lbfgs", dtype="float32", **SMALL).fit(X, X[:, 0])
    assert regressor.coefs_[0].dtype == np.float32  # asked for


def test_dropout_of_zero_in_every_layer_is_off() -> None:
    plain = MLPClassifier(solver="lbfgs", **SMALL).fit(X, Y)
    listed = MLPClassifier(solver="lbfgs", dropout=[0.0], **SMALL).fit(X, Y)
    assert listed.loss_ == plain.loss_
    with pytest.raises(ValueError, match=r"dropout=\[0.5\] has no meaning for solver='lbfgs'"):
        MLPClassifier(solver="lbfgs", dropout=[0.5], **SMALL).fit(X, Y)


def test_epochs_are_counted_on_over_further_fits() -> None:
    seen: list[tuple[int, int]] = []

    def note(state: State) -> None:
        seen.append((state.epoch, len(state.history)))

    model = MLPClassifier(callbacks=note, **SMALL)
    for _ in range(2):
        model.partial_fit(X, Y, classes=[0, 1, 2])
    model.set_params(warm_start=True, max_iter=2).fit(X, Y)
    assert seen == [(i, i + 1) for i in range(4)]
    seen.clear()
    model.set_params(warm_start=False).fit(X, Y)
    assert seen == [(0, 1), (1, 2)]
