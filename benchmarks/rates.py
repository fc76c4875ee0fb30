"""How near `trainer.find_rate` comes to the best rate of a full sweep, on five data sets.

python benchmarks/rates.py             # needs the extra `sklearn`; MNIST where it lies beside

Each data set is trained for 20 epochs with rates a quarter of a decade apart and three seeds. The
best rate of the sweep is that of the least training loss, averaged over the seeds (geometric mean).
A loss below a thousandth of the untrained network's counts as that thousandth: the data are learnt
by heart. Rates within 5% of the least loss are equally good, and the ratio is to the nearest.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import fastbp.datasets
from fastbp import Dense, Network, Trainer
from fastbp.finder import LEARNT

EPOCHS, SEEDS, BATCH = 20, (0, 1, 2), 32
RATES = [10.0 ** (power / 4) for power in range(-20, 5)]  # 1e-5 to 10
MNIST = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "mnist_train.npz"


def data_sets() -> dict[str, tuple[Any, Any]]:
    """Inputs of variance about 1, and targets, by name."""
    from sklearn import datasets

    found: dict[str, tuple[Any, Any]] = {"digits": fastbp.datasets.load_digits()}
    for name in ("breast_cancer", "wine", "diabetes"):
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        X = (X - X.mean(0)) / X.std(0)
        found[name] = (X, (y - y.mean()) / y.std() if name == "diabetes" else y)
    if MNIST.is_file():
        with np.load(MNIST) as stored:
            found["mnist, 6000"] = (
                stored["x"][:6000].reshape(6000, -1) / 255.0,
                stored["y"][:6000],
            )
    else:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((3000, 20))
        found["waves"] = (X, np.sin(X @ rng.standard_normal(20)) + X[:, 0])
    return found


def network(X: Any, y: Any, seed: int) -> Network:
    """Two hidden layers, ended as the target wants it."""
    classes = len(np.unique(y)) if y.dtype.kind in "iu" else 0
    last = Dense(classes, "softmax") if classes else Dense(1)
    return Network(X.shape[1], [Dense(64, "relu"), Dense(32, "relu"), last], seed=seed)


def final_loss(X: Any, y: Any, optimizer: str, rate: float, seed: int) -> float:
    """Training loss of the last epoch; inf where it diverged."""
    kind = {"adam": fastbp.Adam, "sgd": fastbp.SGD}[optimizer]
    trainer = Trainer(network(X, y, seed), kind(rate), BATCH, progress=False)
    try:
        return trainer.fit(X, y, epochs=EPOCHS).loss[-1]
    except fastbp.DivergenceError:
        return float("inf")


def sweep(X: Any, y: Any, optimizer: str) -> np.ndarray[Any, Any]:
    """Geometric mean over the seeds of the final loss, by rate."""
    losses = [[final_loss(X, y, optimizer, rate, seed) for seed in SEEDS] for rate in RATES]
    return np.exp(np.log(np.maximum(losses, 1e-12)).mean(axis=1))


def main(optimizers: list[str]) -> None:
    """A line for each data set and optimizer."""
    print("| data | optimizer | found | best of the sweep | ratio |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name, (X, y) in data_sets().items():
        for optimizer in optimizers:
            trainer = Trainer(network(X, y, 10), optimizer, BATCH, progress=False)
            losses = np.maximum(sweep(X, y, optimizer), LEARNT * trainer.network.loss(X, y))
            best = [r for r, loss in zip(RATES, losses, strict=True) if loss <= 1.05 * min(losses)]
            found = trainer.find_rate(X, y).rate
            ratio = min(max(found / rate, rate / found) for rate in best)
            print(f"| {name} | {optimizer} | {found:.3g} | {min(best):.3g} to {max(best):.3g} | "
                  f"{ratio:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:] or ["adam", "sgd"])
