"""`fastbp.warmup()`: compile now what the first fit would compile, or load it from the cache."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .layers import Dense
from .network import Network
from .trainer import Trainer


def warmup(dtypes: Sequence[Any] = ("float32",)) -> float:
    """Make everything ready that training and inference run, and say how long it took.

    Nothing else is compiled later: another architecture, batch size, loss or optimizer is data.

    Args:
        dtypes: the networks' dtypes to prepare for, or one.

    Returns:
        Seconds: about 0.5 a dtype from a warm cache; else some 16 on one core, 10 on two.

    >>> warmup() > 0.0
    True
    """
    started = time.perf_counter()
    for dtype in [dtypes] if isinstance(dtypes, str) else dtypes:
        net = Network(2, [Dense(1)], dtype=dtype)
        Trainer(net, "sgd", batch_size=2, n_threads=1, progress=False).fit(
            np.zeros((2, 2), dtype), np.zeros(2, dtype)
        )
        net.forward(np.zeros((1, 2), dtype))
    return time.perf_counter() - started
