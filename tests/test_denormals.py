"""Denormals count as 0 in every door, on any thread, and the caller keeps its own mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest

from fastbp import kernels
from fastbp.kernels.cpu import doors, memory
from fastbp.kernels.cpu.host import ARM, X86
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.tables import ACTIVATIONS, LOSSES, UPDATES

pytestmark = pytest.mark.skipif(
    JIT_DISABLED or not (X86 or ARM), reason="the mode is not set without the JIT, or elsewhere"
)

SHAPES = [(5, 3, 2), (70, 41, 67)]  # short rows and long ones
FLUSH = memory._FLUSH_BITS if X86 or ARM else 0
MODES = [0, FLUSH, *(1 << i for i in range(32) if FLUSH >> i & 1)]
"""Off, on, and on for results or operands alone (one bit on ARM)."""


@numba.njit
def mode_now() -> int:
    mode = memory.flush_denormals()
    memory.restore_mode(mode)
    return mode


@numba.njit
def set_mode(mode: int) -> None:
    memory.restore_mode(mode)


def few_normal(rng: np.random.Generator, shape: Any, dtype: str) -> np.ndarray:
    """A fifth are normal numbers; the others are denormal, or about the least normal one."""
    tiny = np.finfo(dtype).tiny
    near = rng.standard_normal(shape) * tiny * rng.choice([1, 0.3, 0.01, 4], shape)
    return np.where(rng.random(shape) < 0.2, rng.standard_normal(shape), near).astype(dtype)


def problem(dtype: str, n: int, m: int, k: int) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    shapes = {"A": (n, m), "W": (m, k), "b": (k,), "Z": (n, k), "dU": (n, k), "weight": (n,)}
    arrays = {name: few_normal(rng, shape, dtype) for name, shape in shapes.items()}
    Z = arrays["Z"]
    return SimpleNamespace(
        **arrays,
        Y=(np.abs(Z) > 0.1).astype(dtype),
        P=np.abs(Z),
        variance=np.abs(arrays["b"]),
        small=float(np.finfo(dtype).tiny) / 2,
    )


def linear_forward(x: Any) -> Iterator[Any]:
    for name in ("identity", "relu", "tanh", "softmax"):
        yield kernels.linear_forward(x.A, x.W, x.b, name)


def weight_gradient(x: Any) -> Iterator[Any]:
    yield from kernels.weight_gradient(x.A, x.Z)


def input_gradient(x: Any) -> Iterator[Any]:
    yield kernels.input_gradient(x.Z, x.W)


def activate(x: Any) -> Iterator[Any]:
    for name in ACTIVATIONS:
        yield kernels.activate(name, x.Z)


def apply_derivative(x: Any) -> Iterator[Any]:
    for name in ACTIVATIONS:
        yield kernels.apply_derivative(name, x.dU, x.Z, x.Z)


def batch_statistics(x: Any) -> Iterator[Any]:
    yield from kernels.batch_statistics(x.Z)


def batchnorm_forward(x: Any) -> Iterator[Any]:
    for form in ("sqrt", "sigma"):
        for eps in (0.0, x.small, 1e-5):
            yield from kernels.batchnorm_forward(
                x.Z, x.b, x.variance, x.b, x.b, form=form, eps=eps
            )  # fmt: skip


def batchnorm_backward(x: Any) -> Iterator[Any]:
    for form in ("sqrt", "sigma"):
        for eps in (0.0, x.small, 1e-5):
            yield from kernels.batchnorm_backward(
                x.dU, x.Z, x.variance, x.b, form=form, eps=eps
            )  # fmt: skip


def loss_forward(x: Any) -> Iterator[Any]:
    for name in LOSSES:
        yield kernels.loss_forward(name, x.P, x.Y, weight=x.weight)


def loss_gradient(x: Any) -> Iterator[Any]:
    for name in LOSSES:
        yield kernels.loss_gradient(name, x.P, x.Y, weight=x.weight)


def loss_and_delta(x: Any) -> Iterator[Any]:
    for name, loss in LOSSES.items():
        for activation in loss.pairs:
            yield from kernels.loss_and_delta(name, activation, x.Z, x.Y, weight=x.weight)


def dropout(x: Any) -> Iterator[Any]:
    yield from kernels.dropout(x.Z, 0.3, seed=1)


def perturb(x: Any) -> Iterator[Any]:
    for sigma in (x.small, 0.0):
        yield kernels.perturb(x.Z, sigma, seed=1)


def update(x: Any) -> Iterator[Any]:
    for name, entry in UPDATES.items():
        for lr in (0.01, x.small):
            w, state = x.Z.ravel().copy(), np.tile(x.P.ravel(), (len(entry.rows), 1))
            kernels.update(name, w, x.dU.ravel(), state, step=2, lr=lr, l2=x.small, shrink=0.9)
            yield from (w, state)


DOORS: dict[str, Callable[[Any], Iterator[Any]]] = {
    f.__name__: f
    for f in (
        linear_forward, weight_gradient, input_gradient, activate, apply_derivative,
        batch_statistics, batchnorm_forward, batchnorm_backward, loss_forward, loss_gradient,
        loss_and_delta, dropout, perturb, update,
    )
}  # fmt: skip


def outcome(door: str, x: Any, mode: int, threads: int) -> tuple[bytes, int]:
    """The bits of the door's results, called in this mode, and the mode behind it."""
    before, most = mode_now(), numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        set_mode(before & ~FLUSH | mode)
        found = b"".join(result.tobytes() for result in DOORS[door](x))
        return found, mode_now() & FLUSH
    finally:
        set_mode(before)
        numba.set_num_threads(most)


def test_every_door_of_real_numbers_is_here() -> None:
    assert {*DOORS, "philox"} == {*kernels.__all__}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("door", DOORS)
def test_a_door_gives_the_same_bits_in_any_mode_and_keeps_it(
    door: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "GRAIN", 1)  # every size goes in parallel
    # In parallel in one dtype: each such region takes seconds to compile.
    threads = [1, 2] if dtype == "float32" and numba.get_num_threads() > 1 else [1]
    for shape in SHAPES:
        x = problem(dtype, *shape)
        want, _ = outcome(door, x, FLUSH, 1)
        for count in threads:
            for mode in MODES:
                assert outcome(door, x, mode, count) == (want, mode), (shape, count, hex(mode))
