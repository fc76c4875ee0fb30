"""What people do with an estimator beside fitting it once: filters, refits, replaced weights."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_score
from sklearn.utils.class_weight import compute_sample_weight

import fastbp
from fastbp import MLPClassifier, MLPRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)
SMALL: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0}


@pytest.mark.parametrize("y", [Y, np.stack([Y, 1 - Y], axis=1)], ids=["two classes", "labels"])
def test_cross_entropy_needs_outputs_that_sum_to_one(y: Any) -> None:
    """Of logistic outputs it asks only that they be 1: accuracy 0.5, at a loss of 0."""
    model = MLPClassifier(**SMALL, objective="cross_entropy")
    with pytest.raises(ValueError, match="objective='cross_entropy' is for three classes or more"):
        model.fit(X, y)
    assert not hasattr(model, "coefs_")


def test_filters_of_scikit_learns_warnings_hold() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
        MLPClassifier(**SMALL).fit(X, Y)


@pytest.mark.filterwarnings("always::sklearn.exceptions.ConvergenceWarning")
def test_warnings_of_a_cross_validation_name_the_line_that_asked_for_it() -> None:
    with pytest.warns(ConvergenceWarning) as caught:
        cross_val_score(MLPClassifier(**SMALL), X, Y, cv=2)
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("sizes", [(5, 5), (), (8,)])
def test_other_hidden_layers_in_a_warm_start_are_refused(sizes: tuple[int, ...]) -> None:
    model = MLPClassifier(**SMALL, warm_start=True).fit(X, Y).set_params(hidden_layer_sizes=sizes)
    before = [W.copy() for W in model.coefs_]
    for further in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=r"further has \(5,\); give them as before, or warm"):
            further(X, Y)
    np.testing.assert_equal(model.coefs_, before)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("class_weight", [{0: 1.0, 1: 20.0}, "balanced"])
def test_classes_weigh_in_given_held_out_data_as_in_drawn_ones(class_weight: Any) -> None:
    """For "balanced" by how often each class is trained on."""
    y, Xv = (X[:, 0] > 1).astype(int), RNG.normal(size=(20, 4))
    yv = (Xv[:, 0] > -0.5).astype(int)
    model = MLPClassifier(**SMALL, early_stopping=True, class_weight=class_weight)
    model.fit(X, y, X_val=Xv, y_val=yv)
    by_class = np.array([1.0, 20.0])
    if class_weight == "balanced":
        by_class = len(y) / (2 * np.bincount(y))
    model.set_params(max_iter=1).fit(X, y, X_val=Xv, y_val=yv)
    expected = accuracy_score(yv, model.predict(Xv), sample_weight=by_class[yv])
    assert model.validation_scores_[-1] == pytest.approx(expected, rel=1e-12)
    weights = compute_sample_weight(class_weight, y)
    np.testing.assert_allclose(weights, by_class[y])  # the same as in training


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_balanced_labels_held_out_may_be_sparse() -> None:
    labels = np.stack([Y, X[:, 1] > 1], axis=1).astype(int)
    fits = [
        MLPClassifier(**SMALL, early_stopping=True, class_weight="balanced").fit(
            X, made(labels), X_val=X[:20], y_val=made(labels[:20])
        )
        for made in (np.asarray, sp.csr_array)
    ]
    assert fits[0].validation_scores_ == fits[1].validation_scores_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_predictions_are_of_the_machines_byte_order() -> None:
    model = MLPRegressor(**SMALL).fit(X.astype("f4"), Y)
    assert model.predict(X.astype(">f8")).dtype == np.dtype(np.float64)
    assert model.predict(X.astype(">f8")).dtype.isnative


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("fitted", "put"), [("f4", "f8"), ("f8", "f4")])
def test_coefficients_of_another_type_make_a_network_of_theirs(fitted: str, put: str) -> None:
    model = MLPRegressor(**SMALL).fit(X.astype(fitted), Y)
    model.coefs_ = [W.astype(put) + 1e-3 for W in model.coefs_]
    model.intercepts_ = [b.astype(put) for b in model.intercepts_]
    out = model.predict(X.astype(put))
    hidden = np.maximum(X.astype(put) @ model.coefs_[0] + model.intercepts_[0], 0)
    assert out.dtype == put
    expected = (hidden @ model.coefs_[1] + model.intercepts_[1])[:, 0]
    # Sums of 5 and 6 terms, none beyond a few units.
    np.testing.assert_allclose(out, expected, atol=50 * np.finfo(put).eps)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_noise_that_is_turned_on_later_is_drawn_from_random_state() -> None:
    """Members of an ensemble, by their seeds, shared their dropout masks."""
    seeds = set()
    for seed in range(3):
        model = MLPClassifier(**{**SMALL, "random_state": seed}, warm_start=True).fit(X, Y)
        assert model._network.seed == 0
        seeds.add(model.set_params(dropout=0.5).fit(X, Y)._network.seed)
    assert len(seeds) == 3
    assert 0 not in seeds


def test_held_out_data_are_of_no_use_to_lbfgs() -> None:
    model = MLPClassifier(**{**SMALL, "max_iter": 200}, solver="lbfgs", early_stopping=True)
    with pytest.raises(ValueError, match="of no use to solver='lbfgs'"):
        model.fit(X, Y, X_val=X, y_val=Y)


def test_a_bar_of_partial_fit_is_of_one_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastbp.sklearn_api import stochastic

    made, real = [], stochastic.make_progress

    def make(shown: bool, epochs: int, steps: int) -> Any:
        made.append(epochs)
        return real(False, epochs, steps)

    monkeypatch.setattr(stochastic, "make_progress", make)
    MLPClassifier(**SMALL, progress=True).partial_fit(X, Y, classes=[0, 1])
    assert made == [1]
    optimizer = fastbp.SGD(fastbp.Cosine(0.1))
    with pytest.raises(ValueError, match=r"give Cosine\(..., steps=...\), or epochs=..."):
        MLPClassifier(**SMALL, optimizer=optimizer).partial_fit(X, Y, classes=[0, 1])
