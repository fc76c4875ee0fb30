#!/usr/bin/env bash
# Line coverage of fastbp and kernels, JIT on (the CUDA simulator included) and off, combined: twenty
# minutes of two cores.
#     tools/coverage.sh [PYTHON]
# Compiled code is seen only with the JIT off; what only compiled runs reach (threads, the cache, the
# tiles' generators) only with it on, and generators only where the cache is cold.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python}
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT
export COVERAGE_FILE=${COVERAGE_FILE:-/tmp/fastbp-coverage}
"$python" -m coverage erase
NUMBA_CACHE_DIR="$cache" "$python" -m coverage run -p -m pytest -q
NUMBA_DISABLE_JIT=1 "$python" -m coverage run -p -m pytest -q
"$python" -m coverage combine
"$python" -m coverage report --skip-covered --sort=cover
