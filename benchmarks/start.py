"""Starting: import, the first fit from a warm cache, and the first fit ever."""

import os
import subprocess
import sys
import tempfile
import time

from .common import Suite

FIRST_FIT = """
import numpy as np
import fastbp
X, y = np.random.default_rng(0).random((64, 20), np.float32), np.arange(64) % 2
net = fastbp.Network(20, [fastbp.Dense(8, "relu"), fastbp.Dense(2, "softmax")],
                     loss="cross_entropy", seed=0)
fastbp.Trainer(net, optimizer=fastbp.SGD(0.1), batch_size=16, progress=False).fit(X, y, epochs=1)
"""


def _seconds(code, **environment):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, check=True)
    return time.perf_counter() - start


class Start(Suite):
    """Whole processes, interpreter included."""

    timeout = 600.0

    def setup(self):
        _seconds(FIRST_FIT)

    def track_import(self):
        return min(_seconds("import fastbp") for _ in range(3))

    def track_import_of_numba_alone(self):
        """The part of it that is not ours."""
        return min(_seconds("import numba") for _ in range(3))

    def track_first_fit_warm(self):
        return min(_seconds(FIRST_FIT) for _ in range(3))

    def track_first_fit_cold(self):
        """With nothing compiled before."""
        with tempfile.TemporaryDirectory() as empty:
            return _seconds(FIRST_FIT, NUMBA_CACHE_DIR=empty)


for _name in ("import", "import_of_numba_alone", "first_fit_warm", "first_fit_cold"):
    getattr(Start, f"track_{_name}").unit = "s"
