"""Whatever comes in at the door, one compiled loop a dtype serves it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

import fastbp
from fastbp import kernels
from fastbp.kernels.cpu import batchnorm_doors, bodies, doors, linear, loop, table
from fastbp.kernels.cpu.jit import JIT_DISABLED

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")

ROWS, INPUTS, CLASSES = 12, 4, 3


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x: np.ndarray) -> np.ndarray:
    raw = np.zeros(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": np.ndarray.tolist,
    "tuple": lambda x: tuple(x.tolist()),
    "float64": lambda x: x.astype(np.float64),
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "object": lambda x: x.astype(object),
    "other byte order": lambda x: x.astype(">f8"),
    "read-only": read_only,
    "read-only float64": lambda x: read_only(x.astype(np.float64)),
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
    "strided columns": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: x[::-1][::-1],
    "Fortran": np.asfortranarray,
    "unaligned": unaligned,
    "subclass": lambda x: x.view(np.matrix) if x.ndim == 2 else x,
}
LABELS: dict[str, Any] = {
    "int64": np.int64, "int32": np.int32, "uint8": np.uint8, "float": np.float64, "object": object,
}  # fmt: skip


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.integers(-4, 5, (ROWS, INPUTS)) / 4  # exact in half precision, too
    return X.astype(np.float32), rng.integers(0, CLASSES, ROWS), rng.integers(1, 5, ROWS) / 4


def results(dtype: str, X: Any, y: Any, sample_weight: Any = None) -> list[bytes]:
    """What training and every question to a network answer, bit by bit."""
    layers = [fastbp.Dense(5, "tanh"), fastbp.Dense(CLASSES, "softmax")]
    net = fastbp.Network(INPUTS, layers, dtype=dtype, seed=3)
    trainer = fastbp.Trainer(net, batch_size=5, progress=False)
    trainer.fit(X, y, epochs=2, sample_weight=sample_weight)
    answers = (
        net.parameters,
        net.forward(X),
        net.forward(X, training=True),
        net.gradients(X, y, sample_weight=sample_weight),
        np.array(net.loss(X, y, sample_weight=sample_weight)),
    )
    return [np.asarray(answer).tobytes() for answer in answers]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_form_of_data_gives_the_same_bits(dtype: str) -> None:
    X, y, weight = data()
    plain, weighted = results(dtype, X, y), results(dtype, X, y, weight)
    one_hot = np.eye(CLASSES)[y]
    for name, form in FORMS.items():
        assert results(dtype, form(X), y) == plain, name
        assert results(dtype, form(X), y, form(weight.astype(np.float32))) == weighted, name
        assert results(dtype, X, form(one_hot)) == results(dtype, X, one_hot), name
    for name, kind in LABELS.items():
        labels = y.astype(kind)
        for form in (labels, labels[:, None], read_only(labels), np.repeat(labels, 2)[::2]):
            assert results(dtype, X, form) == plain, name
        assert results(dtype, X, labels.tolist()) == plain, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_memory_maps(dtype: str, tmp_path: Path) -> None:
    X, y, _ = data()
    plain = results(dtype, X, y)
    for kind in ("float32", "float64"):
        path = tmp_path / f"{kind}.npy"
        np.save(path, X.astype(kind))
        np.save(tmp_path / "y.npy", y)
        for mode in ("r", "r+", "c"):
            mapped, labels = np.load(path, mode), np.load(tmp_path / "y.npy", mode)
            assert results(dtype, mapped, labels) == plain


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_is_written_into_what_is_given(dtype: str) -> None:
    X, y, weight = data()
    given = X.astype(dtype), y.astype(np.int64), weight.astype(dtype)
    kept = [x.copy() for x in given]
    results(dtype, *given)
    for x, old in zip(given, kept, strict=True):
        assert x.tobytes() == old.tobytes()


def regress(dtype: str, X: np.ndarray) -> None:
    """An estimator by targets (n, 2) that may not be written to."""
    pytest.importorskip("sklearn")
    model = fastbp.MLPRegressor(hidden_layer_sizes=(3,), max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        model.fit(X.astype(dtype), read_only(X[:, :2].astype(dtype)))


def test_one_signature_a_dtype() -> None:
    """Whatever the tests of this process did before: one for float32, one for float64."""
    X, y, weight = data()
    for dtype in ("float32", "float64"):
        results(dtype, read_only(X), y.astype(np.int32), weight)
        net = fastbp.Network(INPUTS, [fastbp.Dense(1)], dtype=dtype)
        trainer = fastbp.Trainer(net, "sgd", batch_size=None, n_threads=2, progress=False)
        trainer.fit(X, y, epochs=2)
        regress(dtype, X)
    dtypes = [str(signature[6].dtype) for signature in loop.run_steps.signatures]
    assert sorted(dtypes) == ["float32", "float64"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loops_are_compiled_ahead_for_what_they_are_called_with(dtype: str) -> None:
    """A signature that Python's call does not have would be compiled in vain, beside its own."""
    net = fastbp.Network(INPUTS, [fastbp.Dense(CLASSES)], dtype=dtype)
    X = np.ones((ROWS, INPUTS), dtype)
    fastbp.Trainer(net, progress=False).fit(X, np.zeros((ROWS, CLASSES), dtype), epochs=1)
    net.forward(X)
    which = ["float32", "float64"].index(dtype)
    assert len(table._loops) == 2
    for entry in table._loops:
        assert entry.arguments(which) in entry.dispatcher.overloads
        assert set(entry.dispatcher.overloads) <= {entry.arguments(0), entry.arguments(1)}


def test_alone_or_side_by_side_a_share_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`prange` counts in uint64, and a call from Python in int64: they would be two signatures."""
    monkeypatch.setattr(doors, "GRAIN", 1)
    shares = (
        linear._linear_share, linear._weight_share, linear._input_share,
        batchnorm_doors._statistics_share, batchnorm_doors._normalize_share,
        batchnorm_doors._sums_share, batchnorm_doors._backward_share,
    )  # fmt: skip
    Z, ones = np.ones((64, 32), np.float32), np.ones(32, np.float32)
    threads = numba.get_num_threads()
    try:
        for count in {1, threads}:
            numba.set_num_threads(count)
            kernels.linear_forward(Z, np.eye(32, dtype=np.float32), ones)
            kernels.weight_gradient(Z, Z)
            kernels.input_gradient(Z, np.eye(32, dtype=np.float32))
            kernels.batch_statistics(Z)
            kernels.batchnorm_forward(Z, ones, ones, ones, ones)
            kernels.batchnorm_backward(Z, Z, ones, ones)
    finally:
        numba.set_num_threads(threads)
    for share in shares:
        dtypes = [str(signature[0].dtype) for signature in share.signatures]
        assert len(dtypes) == len(set(dtypes)), share


def test_a_body_takes_no_float_for_an_integer() -> None:
    """It would be cut to one without a word."""

    @numba.njit
    def wrong(D: np.ndarray, sums: np.ndarray) -> None:
        bodies.column_sums(D, sums, 2.0, 0, 1)

    with pytest.raises(TypingError):
        wrong(np.ones((2, 1), np.float32), np.zeros(1, np.float32))
