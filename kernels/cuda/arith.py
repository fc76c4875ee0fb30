"""Elementary functions of one number in its own dtype: libdevice's on a card, NumPy's simulated."""

from __future__ import annotations

import math

import numpy as np

from .shim import SIMULATED

if SIMULATED:
    exp, expm1, log, log1p, tanh, erfc, root = (
        np.exp, np.expm1, np.log, np.log1p, np.tanh,
        lambda x: type(x)(math.erfc(x)), np.sqrt,
    )  # fmt: skip
else:
    exp, expm1, log, log1p, tanh, erfc, root = (
        math.exp, math.expm1, math.log, math.log1p, math.tanh, math.erfc, math.sqrt,
    )  # fmt: skip

__all__ = ["erfc", "exp", "expm1", "log", "log1p", "root", "tanh"]
