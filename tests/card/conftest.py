"""These tests run on a card, in the simulator, or compiled in a PTX interpreter (`ptx_run.py`).

`tests/test_other_machines.py` starts them in a process of their own.
"""

import os
import sys
from pathlib import Path

COMPILED = os.environ.get("FASTBP_TEST_PTX") == "1"
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
ASKED = COMPILED or SIMULATED or os.environ.get("FASTBP_TEST_CARD") == "1"

collect_ignore_glob = [] if ASKED else ["test_*.py"]

if COMPILED:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from ptx_run import Emulated

    Emulated().install()
