"""These tests run on a card, or in the simulator; `tests/test_cuda.py` starts them in a process."""

import os

ASKED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" or os.environ.get("FASTBP_TEST_CARD") == "1"

collect_ignore_glob = [] if ASKED else ["test_*.py"]
