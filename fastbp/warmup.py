"""`fastbp.warmup()`: compile now what the first fit would compile, or load it from the cache."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .errors import check_entries, naming, shown
from .layers import Dense
from .network import Network
from .trainer import Trainer


def warmup(dtypes: Any = ("float32",)) -> float:
    """Make everything ready that training and inference run, and say how long it took.

    Nothing else is compiled for them later: another architecture, batch size, loss or optimizer is
    data. Not made ready are products of precision="bfloat16" (3 s more at their first fit) and the
    kernels one by one, as `net.trace` calls them.

    Args:
        dtypes: the networks' dtypes to prepare for, or one.

    Returns:
        Seconds: about 0.5 a dtype from a warm cache; else some 16 on one core, 10 on two.

    Raises:
        ValueError, TypeError: a dtype that no network has.

    >>> warmup() > 0.0
    True
    """
    started = time.perf_counter()
    allowed = "'float32', 'float64' or a sequence of them"
    alone = isinstance(dtypes, str | type | np.dtype)
    wanted = [dtypes] if alone else check_entries("dtypes", dtypes, allowed)
    if not wanted:
        raise ValueError(f"dtypes={shown(dtypes)} is empty; give {allowed}")
    for dtype in wanted:
        with naming("dtypes"):
            net = Network(2, [Dense(1)], dtype=dtype)
        for sampling in ("shuffle", "replacement"):
            trainer = Trainer(net, "sgd", 2, sampling=sampling, n_threads=1, progress=False)
            trainer.fit(np.zeros((2, 2), dtype), np.zeros(2, dtype))
        net.forward(np.zeros((1, 2), dtype))
    return time.perf_counter() - started
