"""Dropout, noise, draws: the masks, orders and numbers of `cpu/random.py`, by the same addresses.

A shuffle is a chain of n swaps, each of which needs the one before: the trainer has the CPU make it
and sends the order to the card; `shuffle` here is one thread's work, for those who have no host.
Noise is computed in float64 and rounded once.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from ..checks import words as checked_words
from ..cpu.philox import BITS, LOW, U
from ..tables import DROPOUT, NOISE, SAMPLE, SHUFFLE
from ..values import check_philox, deviation, probability, random_address
from . import memory
from .arith import log, root
from .doors import Door, grid_for
from .machine import block, blocks, device, kernel, thread
from .philox import rounds, word, words
from .shim import SIMULATED
from .tiles import THREADS

if SIMULATED:

    def cosine(halves: float) -> float:
        return math.cos(math.pi * halves)

    def sine(halves: float) -> float:
        return math.sin(math.pi * halves)
else:  # of half turns: no argument is large, so nothing has to be reduced in memory
    from numba.cuda.libdevice import cospi as cosine  # type: ignore[no-redef]
    from numba.cuda.libdevice import sinpi as sine  # type: ignore[no-redef]

_WORD: Final = 2.0**-32
ONE: Final = U(1)


def limit_of(p: float) -> int:
    """Words below it are dropped."""
    return int(min(np.rint(p * 2.0**32), 2.0**32 - 1))


@device
def kept(i: int, j: int, n: int, limit: int, step: int, epoch: int, layer: int, seed: int) -> bool:
    """Whether dropout keeps element (i, j) of a batch's layer of n units."""
    return word(i, j, n, step, epoch, DROPOUT + 8 * layer, seed) >= U(limit)


@device
def normal(i: int, j: int, n: int, step: int, epoch: int, seed: int) -> float:
    """The N(0, 1) of element (i, j): Box and Muller on the words 0 and 1, 2 and 3 of its block."""
    q = (n + 3) // 4
    a, b, c, d = words(i * q + j % q, step, epoch, NOISE, seed)
    which = j // q
    first, second = (a, b) if which < 2 else (c, d)
    radius = root(-2.0 * log((float(first) + 0.5) * _WORD))
    angle = 2.0 * ((float(second) + 0.5) * _WORD - 0.125)
    return radius * (cosine(angle) if which % 2 == 0 else sine(angle))


@device
def accept(w: Any, bound: Any) -> Any:
    """Lemire's bounded integer; `bound` for a word that is rejected."""
    product = w * bound
    low = product & LOW
    if low < bound and low < (LOW + ONE - bound) % bound:
        return bound
    return product >> BITS


@kernel
def _dropout(
    A: Any, mask: Any, rows: int, n: int, limit: int, scale: float, step: int, epoch: int,
    layer: int, seed: int,
) -> None:  # fmt: skip
    for e in range(block() * THREADS + thread(), rows * n, blocks() * THREADS):
        keep = kept(e // n, e % n, n, limit, step, epoch, layer, seed)
        mask[e] = 1 if keep else 0
        # A dropped NaN or inf stays visible as NaN.
        A[e] = A[e] * A.dtype.type(scale if keep else 0.0)


@kernel
def _perturb(X: Any, rows: int, n: int, sigma: float, step: int, epoch: int, seed: int) -> None:
    for e in range(block() * THREADS + thread(), rows * n, blocks() * THREADS):
        X[e] = X.dtype.type(X[e] + sigma * normal(e // n, e % n, n, step, epoch, seed))


@kernel
def _philox(counter: Any, key: Any, out: Any, count: int) -> None:
    for e in range(block() * THREADS + thread(), count, blocks() * THREADS):
        at = 4 * e
        a, b, c, d = rounds(
            counter[at], counter[at + 1], counter[at + 2], counter[at + 3], key[2 * e],
            key[2 * e + 1],
        )  # fmt: skip
        out[at], out[at + 1], out[at + 2], out[at + 3] = a, b, c, d


@kernel
def _sample(order: Any, count: int, size: int, seed: int, epoch: int, first: int) -> None:
    bound = U(size)
    for e in range(block() * THREADS + thread(), count, blocks() * THREADS):
        k, tried = bound, 0
        while k == bound:
            a, b, c, d = words(first + e, tried, epoch, SAMPLE, seed)
            k = accept(a, bound)
            k = accept(b, bound) if k == bound else k
            k = accept(c, bound) if k == bound else k
            k = accept(d, bound) if k == bound else k
            tried += 1
        order[e] = k


@kernel
def _shuffle(order: Any, count: int, seed: int, epoch: int) -> None:
    if block() > 0 or thread() > 0:
        return
    a, b, c, d = words(0, 0, epoch, SHUFFLE, seed)
    used, drawn = 0, 1
    for i in range(count - 1, 0, -1):
        bound = U(i + 1)
        k = bound
        while k == bound:
            if used == 4:
                a, b, c, d = words(drawn, 0, epoch, SHUFFLE, seed)
                used, drawn = 0, drawn + 1
            k = accept(a, bound)
            a, b, c = b, c, d
            used += 1
        at = int(k)
        order[at], order[i] = order[i], order[at]


def dropout(
    A: Any,
    p: float,
    *,
    seed: int,
    epoch: int = 0,
    step: int = 0,
    layer: int = 0,
    mask: Any = None,
    out: Any = None,
) -> tuple[Any, Any]:
    """Inverted dropout: (out, mask). As `fastbp.kernels.dropout`, and the same masks."""
    door = Door()
    a = door.take("A", A, (None, None))
    shape = door.shape("A")
    p = probability(p)
    seed, epoch, step, layer = random_address(seed, epoch, step, layer)
    drawn = door.give("mask", mask, shape, np.uint8)
    result = door.give("out", out, shape, in_place=("A",))
    memory.copy(a, result)
    _dropout.launch(
        grid_for(a.size), result, drawn, *shape, limit_of(p), 1.0 / (1.0 - p), step, epoch, layer,
        seed,
    )  # fmt: skip
    kept_there = door.close("mask")
    return door.close("out"), kept_there


def perturb(
    X: Any, sigma: float, *, seed: int, epoch: int = 0, step: int = 0, out: Any = None
) -> Any:
    """X + sigma N(0, 1). As `fastbp.kernels.perturb`, from the same words."""
    door = Door()
    x = door.take("X", X, (None, None))
    shape = door.shape("X")
    sigma = deviation(sigma)
    seed, epoch, step, _ = random_address(seed, epoch, step)
    result = door.give("out", out, shape, in_place=("X",))
    memory.copy(x, result)
    _perturb.launch(grid_for(x.size), result, *shape, sigma, step, epoch, seed)
    return door.close("out")


def philox(counter: Any, key: Any) -> np.ndarray:
    """Philox 4x32-10: the words of counters (..., 4) under keys (..., 2). As the CPU's."""
    counter, key = checked_words("counter", counter), checked_words("key", key)
    check_philox(counter, key)
    shape = np.broadcast_shapes(counter.shape[:-1], key.shape[:-1])
    c = np.ascontiguousarray(np.broadcast_to(counter, (*shape, 4)))
    k = np.ascontiguousarray(np.broadcast_to(key, (*shape, 2)))
    out = np.empty((*shape, 4), np.uint32)
    there = memory.allocate(out.size, np.uint32, "out")
    count = out.size // 4
    if count:
        given = memory.upload(c, "counter"), memory.upload(k, "key")
        _philox.launch(grid_for(count), *given, there, count)
        memory.read(there, out)
    return out


def sample(order: np.ndarray, size: int, seed: int, epoch: int, first: int) -> None:
    """Fill int64 `order` with draws from 0 .. size - 1, with replacement: those of the CPU."""
    there = memory.allocate(order.size, np.int64, "order")
    _sample.launch(grid_for(order.size), there, order.size, size, seed, epoch, first)
    memory.read(there, order)


def shuffle(order: np.ndarray, seed: int, epoch: int) -> None:
    """Permute int64 `order` in place, as the CPU does; one thread's work."""
    there = memory.upload(order, "order")
    _shuffle.launch(1, there, order.size, seed, epoch)
    memory.read(there, order)
