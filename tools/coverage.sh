#!/usr/bin/env bash
# Line coverage of fastbp and kernels, JIT on and off combined (half an hour of two cores):
#     tools/coverage.sh [PYTHON]
# Compiled code is seen only with the JIT off; what only compiled runs reach (threads, the cache, the
# tiles' generators) only with it on.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python}
export COVERAGE_FILE=${COVERAGE_FILE:-/tmp/fastbp-coverage}
"$python" -m coverage erase
"$python" -m coverage run -p -m pytest -q
NUMBA_DISABLE_JIT=1 "$python" -m coverage run -p -m pytest -q
"$python" -m coverage combine
"$python" -m coverage report --skip-covered --sort=cover
