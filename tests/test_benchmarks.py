"""The four families against NumPy: run once as plain tests, timed with `--benchmark-enable`.

pytest tests/test_benchmarks.py --benchmark-enable --benchmark-group-by=param:size,func
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastbp import kernels

SIZES = {"small": (32, 64, 64), "mnist": (128, 784, 128), "wide": (256, 512, 512)}
RNG = np.random.default_rng(0)


@pytest.fixture(params=SIZES.values(), ids=list(SIZES))
def size(request):
    return request.param


def matrix(rows, columns):
    return RNG.standard_normal((rows, columns), dtype=np.float32)


def numpy_forward(A, W, b):
    return np.maximum(A @ W + b, 0)


def numpy_weight_gradient(A, dZ):
    return A.T @ dZ, dZ.sum(axis=0)


def numpy_derivative(dA, A):
    return dA * (A > 0)


def numpy_statistics(Z):
    return Z.mean(axis=0), Z.var(axis=0)


def close(actual, expected, terms):
    """Sums of `terms` products of standard normal numbers, in two orders: the difference stays
    below terms * eps times the sum of magnitudes, itself about 0.8 * terms (+ slack)."""
    bound = terms * np.finfo(np.float32).eps * terms
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("who", ["fastbp", "numpy"])
def test_linear_forward(benchmark, who, size):
    n, m, k = size
    A, W, b = matrix(n, m), matrix(m, k), matrix(1, k)[0]
    out = np.empty((n, k), np.float32)
    if who == "numpy":
        result = benchmark(numpy_forward, A, W, b)
    else:
        result = benchmark(kernels.linear_forward, A, W, b, "relu", out=out)
        assert result is out
    close(result, numpy_forward(A.astype(float), W, b), m)


@pytest.mark.parametrize("who", ["fastbp", "numpy"])
def test_weight_gradient(benchmark, who, size):
    n, m, k = size
    A, dZ = matrix(n, m), matrix(n, k)
    dW, db = np.empty((m, k), np.float32), np.empty(k, np.float32)
    if who == "numpy":
        result = benchmark(numpy_weight_gradient, A, dZ)
    else:
        result = benchmark(kernels.weight_gradient, A, dZ, out=dW, bias_out=db)
    for actual, expected in zip(result, numpy_weight_gradient(A.astype(float), dZ), strict=True):
        close(actual, expected, n)


@pytest.mark.parametrize("who", ["fastbp", "numpy"])
def test_apply_derivative(benchmark, who, size):
    n, _, k = size
    dA, A = matrix(n, k), np.maximum(matrix(n, k), 0)
    if who == "numpy":
        result = benchmark(numpy_derivative, dA, A)
    else:
        result = benchmark(kernels.apply_derivative, "relu", dA, A, out=np.empty_like(A))
    assert np.array_equal(result, numpy_derivative(dA, A))


@pytest.mark.parametrize("who", ["fastbp", "numpy"])
def test_batch_statistics(benchmark, who, size):
    n, _, k = size
    Z = matrix(n, k) + 10
    mean, variance = np.empty(k, np.float32), np.empty(k, np.float32)
    if who == "numpy":
        result = benchmark(numpy_statistics, Z)
    else:
        result = benchmark(kernels.batch_statistics, Z, mean=mean, variance=variance)
    # Two passes: the mean is off by at most n eps 10, the variance by n eps times itself (about 1).
    for actual, expected in zip(result, numpy_statistics(Z.astype(float)), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=n * np.finfo(np.float32).eps)


BARE = """
import importlib, sys
for name in ("sklearn", "scipy", "pandas", "torch", "jax", "matplotlib", "mpi4py", "onnx"):
    sys.modules[name] = None
for name in sys.argv[1:]:
    importlib.import_module(f"benchmarks.{name}")
"""


def test_asv_can_import_them_with_the_core_alone():
    """asv imports every file in an environment that has what the wheel needs, and no more."""
    root = Path(__file__).parent.parent
    names = [path.stem for path in sorted((root / "benchmarks").glob("*.py"))]
    assert "training" in names
    subprocess.run([sys.executable, "-c", BARE, *names], cwd=root, check=True)
