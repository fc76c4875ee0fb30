"""The estimators among the things they live with: pickles, searches, frames, callbacks, Ctrl-C."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
import sklearn.neural_network
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp import MLPClassifier, MLPRegressor, engine
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.sklearn_api import inputs, views
from fastbp.sparse import Sparse

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(n_samples=120, n_features=8, n_informative=5, random_state=0)
THREE = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
SMALL = {"hidden_layer_sizes": (9,), "max_iter": 4, "random_state": 0}


def fitted(cls: Any = MLPClassifier, y: Any = Y, **parameters: Any) -> Any:
    return cls(**SMALL, **parameters).fit(X, y)


# --- copies ----------------------------------------------------------------------------------


def through_joblib(model: Any, path: Path) -> Any:
    joblib.dump(model, path / "model.joblib")
    return joblib.load(path / "model.joblib")


def through_a_map(model: Any, path: Path) -> Any:
    """As joblib's workers get large ones: its arrays are maps of a file, and read-only."""
    joblib.dump(model, path / "model.joblib")
    return joblib.load(path / "model.joblib", mmap_mode="r")


COPIES: dict[str, Any] = {
    "map": through_a_map,
    "pickle": lambda model, path: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, path: copy.deepcopy(model),
    "joblib": through_joblib,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("parameters", [{}, {"batch_norm": True, "early_stopping": True}])
def test_a_copy_goes_on_alone(how: str, parameters: Any, tmp_path: Path) -> None:
    model = fitted(**parameters)
    again = COPIES[how](model, tmp_path)
    before = [W.copy() for W in model.coefs_]
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    if not parameters:
        other = copy.deepcopy(model)
        for one in (again, other):
            one.partial_fit(X, Y)
        np.testing.assert_array_equal(again.coefs_[0], other.coefs_[0])
    again.coefs_[0][...] = 0.0
    again.coefs_[1][...] = 0.0
    assert np.ptp(again.predict_proba(X)[:, 0]) == 0.0  # its views are of its own network
    for W, old in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(W, old)


def test_a_trainer_goes_on_from_a_map(tmp_path: Path) -> None:
    net = fastbp.Network(X.shape[1], [fastbp.Dense(3, "softmax")])
    trainer = fastbp.Trainer(net, fastbp.Adam(0.01), progress=False)
    trainer.fit(X, Y)
    again = through_a_map(trainer, tmp_path)
    for one in (trainer, again):
        one.fit(X, Y)
    np.testing.assert_array_equal(again.network.parameters, trainer.network.parameters)


def test_a_pickle_holds_each_weight_once() -> None:
    """Parameters and Adam's two rows: three times 64 KB, and little else."""
    model = MLPClassifier((1000,), max_iter=1, random_state=0).fit(X, Y)
    assert model.coefs_[0].nbytes == 64_000
    size = len(pickle.dumps(model))
    assert size < 3 * 8 * (8 * 1000 + 1000 + 1000 + 1) + 8_000


def test_a_pickle_keeps_coefficients_that_someone_put_there() -> None:
    model = fitted()
    model.coefs_ = [W * 2 for W in model.coefs_]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])


def test_clones_have_the_parameters_alone() -> None:
    model = fitted(dropout=[0.5], optimizer=fastbp.Adam(fastbp.Cosine(0.1)), max_fun=3)
    again = clone(model)
    assert not hasattr(again, "coefs_")
    assert again.get_params() == model.get_params()


# --- in scikit-learn -----------------------------------------------------------------------------


def test_a_search_in_two_processes() -> None:
    """loky; each process takes one thread, so two cores are not asked for four."""
    model = make_pipeline(StandardScaler(), MLPClassifier(**SMALL))
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__solver": ["adam", "lbfgs"]}
    search = GridSearchCV(model, grid, n_jobs=2, cv=2).fit(X, Y)
    alone = GridSearchCV(model, grid, n_jobs=1, cv=2).fit(X, Y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )
    counts = joblib.Parallel(n_jobs=2)(joblib.delayed(_threads)() for _ in range(2))
    assert set(counts) == {max(1, joblib.cpu_count() // 2)}


def _threads() -> int:
    from fastbp.budget import available_cores

    return available_cores()


def test_set_output_and_feature_names() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=[f"column {i}" for i in range(8)])
    model = MLPClassifier(**SMALL).fit(frame, Y)
    assert model.feature_names_in_.tolist() == list(frame)
    np.testing.assert_array_equal(model.predict_proba(frame), fitted().predict_proba(X))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.predict(X)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[list(frame)[::-1]])
    pipe = make_pipeline(StandardScaler(), MLPClassifier(**SMALL)).set_output(transform="pandas")
    assert pipe.fit(frame, Y)[-1].feature_names_in_.tolist() == list(frame)


def test_metadata_routing() -> None:
    weights = np.random.default_rng(0).uniform(0.1, 2.0, len(Y))
    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPClassifier(**SMALL).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=False)
        found = cross_validate(
            model, X, Y, params={"sample_weight": weights}, cv=2, return_estimator=True,
            return_indices=True,
        )  # fmt: skip
    for one, train in zip(found["estimator"], found["indices"]["train"], strict=True):
        direct = MLPClassifier(**SMALL).fit(X[train], Y[train], weights[train])
        np.testing.assert_array_equal(one.coefs_[0], direct.coefs_[0])


def test_scikit_learns_callbacks() -> None:
    pytest.importorskip("sklearn.callback")
    seen: list[Any] = []

    class Watch:
        def setup(self, estimator: Any, context: Any) -> None:
            seen.append("setup")

        def teardown(self, estimator: Any, context: Any) -> None:
            seen.append("teardown")

        def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
            seen.append(f"begin {context.task_name}")

        def on_fit_task_end(
            self, estimator: Any, context: Any, *, X: Any, y: Any, fitted_estimator: Any
        ) -> bool:
            score = fitted_estimator.score(X, y)
            np.testing.assert_array_equal(fitted_estimator.coefs_[0], estimator.coefs_[0])
            assert not np.shares_memory(fitted_estimator.coefs_[0], estimator.coefs_[0])
            seen.append((context.task_name, context.task_id, score))
            return context.task_name == "epoch" and context.task_id == 1

    model = MLPClassifier(**SMALL).set_callbacks(Watch())
    model.fit(X, Y)
    assert model.n_iter_ == 2  # the second epoch's callback asked to stop
    epochs = [entry[:2] for entry in seen if isinstance(entry, tuple)]
    assert epochs == [("epoch", 0), ("epoch", 1), ("fit", 0)]
    assert seen[-2] == ("fit", 0, model.score(X, Y))
    assert [entry for entry in seen if isinstance(entry, str)] == [
        "setup", "begin fit", "begin epoch", "begin epoch", "teardown",
    ]  # fmt: skip
    seen.clear()
    MLPRegressor(**SMALL, solver="lbfgs").set_callbacks(Watch()).fit(X, X[:, 0])
    assert seen.count("begin epoch") == 2
    seen.clear()
    model.partial_fit(X, Y)
    assert seen == []


def test_scikit_learns_own_callbacks_work() -> None:
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    for solver in ("adam", "lbfgs"):
        model = MLPClassifier(**SMALL, solver=solver).set_callbacks(monitor).fit(X, Y)
        rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
        assert len(rows) == 4  # the task that lbfgs begins last is never run, and has no score
        assert rows[3]["accuracy"] == model.score(X, Y)


# --- the short way to a prediction ---------------------------------------------------------------


def through_the_door(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Calls of scikit-learn's validation from here on."""
    calls: list[Any] = []
    validate = views.validate_data
    monkeypatch.setattr(
        views, "validate_data", lambda *a, **k: (calls.append(a), validate(*a, **k))[1]
    )
    return calls


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_what_takes_the_short_way(cls: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(cls, THREE)
    wanted = model.predict(X.tolist())
    calls = through_the_door(monkeypatch)
    read_only = X.astype(dtype)
    read_only.flags.writeable = False
    for rows in (X.astype(dtype), X[:1].astype(dtype), read_only):
        np.testing.assert_allclose(model.predict(rows), wanted[: len(rows)], rtol=0, atol=1e-5)
    assert calls == []
    slow = (X.tolist(), X.astype(object), np.asfortranarray(X), np.repeat(X, 2, 0)[::2],
            sp.csr_array(X), X.view(np.matrix))  # fmt: skip
    for rows in slow[:-1]:
        np.testing.assert_allclose(model.predict(rows), wanted, rtol=0, atol=1e-12)
    assert len(calls) == len(slow) - 1


@pytest.mark.parametrize("rows", [1, 700, 5000])
def test_nan_on_the_short_way_gets_scikit_learns_words(rows: int) -> None:
    model = fitted(n_threads=2)
    bad = np.resize(X, (rows, 8))
    bad[rows - 1, 3] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.predict(bad)
    bad[rows - 1, 3] = np.inf
    with pytest.raises(ValueError, match="Input X contains infinity"):
        model.predict_proba(bad)
    with sklearn.config_context(assume_finite=True):
        assert np.isfinite(model.predict_proba(bad)[: rows - 1]).all()


def test_who_assumes_finite_data_has_nobody_look_before_a_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(inputs, "find_not_finite", lambda *given: calls.append(given))
    fitted()
    with sklearn.config_context(assume_finite=True):
        fitted()
    assert len(calls) == 1


@pytest.mark.skipif(JIT_DISABLED, reason="slow without compiled code")
def test_training_on_a_sparse_matrix_never_makes_it_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 rows of 5,000 columns would be 800 MB; no array of the fit holds a tenth of that."""
    import tracemalloc

    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(20_000), 3)
    big = sp.csr_array((np.ones(60_000), (rows, rng.integers(0, 5000, 60_000))), (20_000, 5000))
    y = rng.integers(0, 2, 20_000)
    for matrix in (big, big.tocsc()):
        tracemalloc.start()
        model = MLPClassifier((4,), max_iter=1, early_stopping=True, batch_size=100).fit(matrix, y)
        model.predict(matrix)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 80_000_000


def test_sparse_matrices_whose_indices_lie_are_refused() -> None:
    bad = sp.csr_array(X)
    bad.indices[5] = 100
    with pytest.raises(ValueError, match="indices or indptr do not fit its shape"):
        MLPClassifier(**SMALL).fit(bad, Y)


def test_coefficients_of_other_shapes_begin_a_new_state() -> None:
    """Adam's rows belong to the network they were made for."""
    model, other = fitted(), MLPClassifier((40, 3), max_iter=2, random_state=1).fit(X, Y)
    model.coefs_, model.intercepts_ = (copy.deepcopy(part) for part in
                                       (other.coefs_, other.intercepts_))  # fmt: skip
    np.testing.assert_array_equal(model.predict_proba(X), other.predict_proba(X))
    model.set_params(hidden_layer_sizes=(40, 3)).partial_fit(X, Y)
    assert [W.shape for W in model.coefs_] == [(8, 40), (40, 3), (3, 1)]
    assert model._optimizer.state.shape == (2, model._network.parameters.size)
    assert np.isfinite(model.predict_proba(X)).all()


def test_rows_taken_from_a_sparse_matrix() -> None:
    matrix = sp.random_array((30, 7), density=0.3, rng=np.random.default_rng(0), format="csr")
    chosen = np.array([4, 29, 0, 0, 11])
    part = Sparse.of(matrix, np.dtype(float))[chosen]
    shape = (5, 7)
    again = sp.csr_array((part.values[0], part.columns, part.starts), shape)
    np.testing.assert_array_equal(again.toarray(), matrix.toarray()[chosen])


# --- Ctrl-C, and no scikit-learn -----------------------------------------------------------------


def test_an_interrupt_keeps_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised between two chunks of the second epoch; the model stands where it was stopped."""
    calls = []
    run = engine._run_steps

    def interrupted(*args: Any) -> int:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(*args)

    monkeypatch.setattr(engine, "_run_steps", interrupted)
    model = MLPClassifier(**{**SMALL, "max_iter": 50}, n_threads=1)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X, Y)
    assert model.n_iter_ == len(model.loss_curve_) == 2
    monkeypatch.undo()
    same = MLPClassifier(**{**SMALL, "max_iter": 2}).fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), same.predict_proba(X))


@pytest.mark.skipif(sys.platform == "win32" or JIT_DISABLED, reason="sends a signal")
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_a_real_interrupt_keeps_the_model(cls: Any, request: pytest.FixtureRequest) -> None:
    """SIGINT while compiled code runs: a model of finished steps, which can be trained further."""
    # A shell's background job ignores it.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, usual))
    endless = {"max_iter": 10**6, "tol": 0.0, "n_iter_no_change": 10**6, "solver": "sgd"}
    model = cls(hidden_layer_sizes=(30,), random_state=0, learning_rate_init=1e-4, **endless)
    cls(max_iter=1).fit(X, Y)  # compiled: the signal is to come while it trains
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X, Y)
    assert len(model.loss_curve_) == model.n_iter_ < 10**6
    assert all(np.isfinite(W).all() for W in model.coefs_)
    before = model.coefs_[0].copy()
    model.partial_fit(X, Y)
    assert not np.array_equal(model.coefs_[0], before)


def test_fastbp_without_scikit_learn() -> None:
    """Nothing of it is imported before it is asked for, and then the extra is named."""
    code = (
        "import sys, fastbp; assert 'sklearn' not in sys.modules\n"
        "assert 'MLPClassifier' in dir(fastbp)\n"
        "sys.modules['sklearn'] = None\n"
        "try: fastbp.MLPClassifier\n"
        "except ImportError as error: print(error)\n"
        "try: fastbp.MLPClasifier\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("fastbp.MLPClassifier needs scikit-learn 1.6 or later: pip install")
    assert "fastbp[sklearn]" in first
    assert second == "module 'fastbp' has no attribute 'MLPClasifier'"


def test_what_the_network_is_made_of_may_change_between_warm_starts() -> None:
    theirs, ours = (
        cls(**{**SMALL, "max_iter": 1}, solver="sgd", warm_start=True).fit(X, Y)
        for cls in (sklearn.neural_network.MLPClassifier, MLPClassifier)
    )
    for model in (theirs, ours):
        model.set_params(activation="tanh").fit(X, Y)
    for a, b in zip(theirs.coefs_, ours.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-8)
    before = [W.copy() for W in ours.coefs_]
    with pytest.raises(ValueError, match="batch_norm=True gives the network that is trained furt"):
        ours.set_params(batch_norm=True).fit(X, Y)
    assert all((a == b).all() for a, b in zip(before, ours.coefs_, strict=True))
