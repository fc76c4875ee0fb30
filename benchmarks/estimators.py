"""The drop-in estimators against scikit-learn's: fit, predict and accuracy, in turns.

    python benchmarks/estimators.py [--turns 5] [--seeds 5] [--mnist mnist.npz]

Both get the same data, parameters, epochs and `random_state`; medians over the turns, in which the
two alternate. Without --mnist the scikit-learn digits stand for the wide table. A first fit of each
dtype is not timed: it compiles, or loads what was compiled (`start.py` measures that).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastbp
from fastbp.bench.runner import REST

TRAIN = 0.8


def medians(calls: list[Callable[[], Any]], turns: int, count: int = 1) -> list[float]:
    """Seconds of each call, the calls taking turns of `count` in a row.

    Each begins at rest: threads of OpenBLAS spin for some 0.1 s after a call of NumPy's, on the
    cores that the next one is to use.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(turns):
        for call, found in zip(calls, times, strict=True):
            time.sleep(REST)
            started = time.perf_counter()
            for _ in range(count):
                call()
            found.append((time.perf_counter() - started) / count)
    return [float(np.median(found)) for found in times]


def pair() -> tuple[Any, Any]:
    """scikit-learn's class and ours. asv imports this file where scikit-learn is not installed."""
    from sklearn import neural_network as theirs

    return theirs.MLPClassifier, fastbp.MLPClassifier


def tables(mnist: Path | None) -> dict[str, tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    """Data and parameters by name; the epochs are fixed, so that both make the same steps."""
    from sklearn.datasets import load_digits, make_classification

    X, y = make_classification(10_000, 20, n_informative=10, random_state=0)
    found = {"tabular (64, 64)": (X, y, {"hidden_layer_sizes": (64, 64), "max_iter": 10})}
    if mnist is None:
        X, y = load_digits(return_X_y=True)
        title, X, epochs = "digits (128,)", X / 16.0, 20
    else:
        with np.load(mnist) as file:
            X, y = file["x"].reshape(len(file["x"]), -1) / 255.0, file["y"].astype(np.int64)
        title, epochs = "MNIST (128,)", 2
    found[title] = X, y, {"hidden_layer_sizes": (128,), "max_iter": epochs}
    return found


def fit_and_predict(turns: int, mnist: Path | None) -> None:
    """How often ours is faster."""
    print("| table | dtype | fit, ms | ratio | one row, us | ratio | all rows, ms | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (X, y, parameters) in tables(mnist).items():
        given = {**parameters, "tol": 0.0, "n_iter_no_change": 10_000, "random_state": 0}
        for dtype in ("float32", "float64"):
            rows = X.astype(dtype)
            models = [cls(**given).fit(rows, y) for cls in pair()]
            one = rows[:1].copy()
            fits = medians([partial(m.fit, rows, y) for m in models], turns)
            ones = medians([partial(m.predict, one) for m in models], 4 * turns, 100)
            alls = medians([partial(m.predict, rows) for m in models], turns)
            cells = (
                f"{1000 * fits[1]:.0f}", fits[0] / fits[1], f"{1e6 * ones[1]:.0f}",
                ones[0] / ones[1], f"{1000 * alls[1]:.1f}", alls[0] / alls[1],
            )  # fmt: skip
            row = (c if isinstance(c, str) else f"{c:.1f}" for c in cells)
            print(f"| {name} | {dtype} | {' | '.join(row)} |", flush=True)


def accuracies(seeds: int, mnist: Path | None) -> None:
    """Percent right of the rows that did not train, by seed and on average."""
    print("\n| table | who | mean | by seed |\n|---|---|---|---|")
    for name, (X, y, parameters) in tables(mnist).items():
        cut = int(TRAIN * len(X))
        rows = X.astype(np.float32)
        for who, cls in zip(("scikit-learn", "fastbp"), pair(), strict=True):
            found = [
                100 * cls(**parameters, random_state=seed).fit(rows[:cut], y[:cut])
                .score(rows[cut:], y[cut:]) for seed in range(seeds)
            ]  # fmt: skip
            shown = " ".join(f"{value:.2f}" for value in found)
            print(f"| {name} | {who} | {np.mean(found):.2f} | {shown} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--mnist", type=Path, help="npz file with x (n, 28, 28) uint8 and y (n,)")
    options = parser.parse_args()
    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are meant to run out
    fit_and_predict(options.turns, options.mnist)
    accuracies(options.seeds, options.mnist)


if __name__ == "__main__":
    main()
