"""Elementary functions of one number in its own dtype: libdevice's on a card, NumPy's simulated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .shim import SIMULATED

_module: Any = np if SIMULATED else math

exp, expm1, log, log1p = _module.exp, _module.expm1, _module.log, _module.log1p
tanh, root = _module.tanh, _module.sqrt
erfc: Any = (lambda x: type(x)(math.erfc(x))) if SIMULATED else math.erfc
