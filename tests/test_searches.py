"""The estimators under searches on the engines people run: same results, cores shared."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'fastbp[sklearn]'")

import joblib
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - its import enables
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score

from fastbp import MLPClassifier
from fastbp.budget import available_cores
from fastbp.kernels.cpu.jit import JIT_DISABLED

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="minutes of searches without compiled code")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(240, 5))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
GRID = {"hidden_layer_sizes": [(4,), (8,)], "alpha": [1e-4, 1e-2]}


def model() -> MLPClassifier:
    return MLPClassifier(max_iter=12, tol=0, n_iter_no_change=100, random_state=0)


def scores(kind: Any, jobs: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few iterations to converge, in every fit
        options = {"cv": 3, "n_jobs": jobs, "error_score": "raise"}
        search = kind(
            model(), GRID, **options, **({"random_state": 0} if kind != GridSearchCV else {})
        )
        found = search.fit(X, Y)
    return found.cv_results_["mean_test_score"], found.best_params_


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    """Workers say nothing of the fits that do not converge."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    yield
    if before is None:
        del os.environ["PYTHONWARNINGS"]
    else:
        os.environ["PYTHONWARNINGS"] = before


@pytest.mark.parametrize("kind", [GridSearchCV, HalvingGridSearchCV])
def test_loky_gives_the_results_of_one_process(kind: Any, quiet: None) -> None:
    alone, best = scores(kind, 1)
    with joblib.parallel_config(backend="loky"):
        beside, found = scores(kind, 2)
    assert (alone == beside).all()
    assert best == found


def test_lokys_workers_share_the_cores(quiet: None) -> None:
    cores = available_cores()
    with joblib.parallel_config(backend="loky", n_jobs=2):
        seen = joblib.Parallel()(joblib.delayed(available_cores)() for _ in range(4))
    assert set(seen) == {max(cores // 2, 1)}


@pytest.fixture(scope="module")
def dask(quiet: None) -> Iterator[Any]:
    distributed = pytest.importorskip(
        "distributed", reason="needs dask: pip install 'dask[distributed]'"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, protocol="tcp"
        )
        with cluster, distributed.Client(cluster) as client:
            yield client


@pytest.mark.filterwarnings("ignore")  # Dask's own, about its sockets
def test_dask_gives_the_results_of_one_process(dask: Any) -> None:
    alone, best = scores(GridSearchCV, 1)
    with joblib.parallel_config(backend="dask"):
        beside, found = scores(GridSearchCV, 2)
    assert (alone == beside).all()
    assert best == found


@pytest.mark.filterwarnings("ignore")
def test_a_task_of_dask_takes_one_core(dask: Any) -> None:
    assert set(dask.gather([dask.submit(available_cores, pure=False) for _ in range(4)])) == {1}
    assert available_cores() >= 1


@pytest.mark.filterwarnings("ignore")
def test_optuna_tries_in_threads() -> None:
    optuna = pytest.importorskip("optuna", reason="needs optuna: pip install optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: Any) -> float:
        alpha = trial.suggest_float("alpha", 1e-5, 1e-1, log=True)
        return float(cross_val_score(model().set_params(alpha=alpha), X, Y, cv=2).mean())

    def best(jobs: int) -> list[float]:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.enqueue_trial({"alpha": 1e-4})
            study.enqueue_trial({"alpha": 1e-2})
            study.optimize(objective, n_trials=2, n_jobs=jobs)
        return sorted(trial.value for trial in study.trials)

    assert best(1) == best(2)
