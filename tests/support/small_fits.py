"""Samples, small networks for them, and a network's numbers as bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp import Dense, Network

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64) + (X[:, 2] > 0.5)


def make_net(dtype: str = "float32", **kwargs: Any) -> Network:
    layers = [
        Dense(24, "relu", batch_norm=True, dropout=0.2),
        Dense(9, "gelu"),
        Dense(3, "softmax"),
    ]
    return Network(6, layers, **{"dtype": dtype, "seed": 7, **kwargs})


def plain_net(**kwargs: Any) -> Network:
    layers = [Dense(8, "tanh"), Dense(3, "softmax")]
    return Network(6, layers, **{"dtype": "float64", "seed": 3, **kwargs})


def bits_of(net: Network) -> list[bytes]:
    return [view.tobytes() for view in net.tensors().values()]


def labelled(n: int = 12, m: int = 6, k: int = 3, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, m)).astype(np.float32), rng.integers(0, k, n)


def mixed_net(**kwargs: Any) -> Network:
    layers = [Dense(5, "relu", batch_norm=True, dropout=0.2), Dense(4, "tanh"), Dense(3, "softmax")]
    return Network(6, layers, **{"seed": 7, **kwargs})
