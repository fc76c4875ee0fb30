"""The three products of a layer, tile by tile, and their public doors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import code_of
from ..tables import ACTIVATIONS
from ..values import check_card_precision
from .activation import SOFTMAX, softmax_rows, value
from .cut import cut
from .doors import Door, address_of, grid_for
from .machine import (
    block,
    blocks,
    device,
    kernel,
    shared_load,
    shared_reals,
    shared_store,
    sync_block,
    thread,
)
from .product import BACKWARD, FORWARD, UPDATE, tile_of
from .team import pick, put_four
from .tiles import THREADS, TILES

COLUMNS = 32
"""Columns of an item of work: a line of memory."""
COLUMNS_AT_ONCE = min(COLUMNS, THREADS)
"""Columns that a block sums at a time, and how many threads each column has."""
TEAM = THREADS // COLUMNS_AT_ONCE


@device
def column_sums(
    D: Any, d0: int, ldd: int, out: Any, o0: int, lo: int, hi: int, first: int, n: int, shared: Any
) -> None:
    """out[o0 + j] = the sum over the rows [lo, hi) of D[:, j], for COLUMNS columns from `first`.

    TEAM threads share a column: each sums every TEAM-th row, and their sums are added in order.
    """
    t = thread()
    last = first + COLUMNS if first + COLUMNS < n else n
    for start in range(first, last, COLUMNS_AT_ONCE):
        j = start + t % COLUMNS_AT_ONCE
        total = D.dtype.type(0)
        if j < n:
            i, step = lo + t // COLUMNS_AT_ONCE, TEAM * ldd
            at = d0 + i * ldd + j
            while i + 3 * TEAM < hi:  # four loads at once
                a, b, c, d = D[at], D[at + step], D[at + 2 * step], D[at + 3 * step]
                total = (((total + a) + b) + c) + d
                i, at = i + 4 * TEAM, at + 4 * step
            while i < hi:
                total += D[at]
                i, at = i + TEAM, at + step
        sync_block()
        shared_store(shared, t, total)
        sync_block()
        if t < COLUMNS_AT_ONCE and j < n:
            total = shared_load(shared, t)
            for other in range(1, TEAM):
                total += shared_load(shared, other * COLUMNS_AT_ONCE + t)
            out[o0 + j] = total


@device
def finished(job: Any, i: int, j: int, count: int, sums: Any) -> None:
    """Bias and activation of elements of A W."""
    b, biased, code, Z, kept, out, n = job
    for q in range(count):
        z = pick(sums, q)
        if biased:
            z += b[j + q]
        if kept:
            Z[i * n + j + q] = z
        out[i * n + j + q] = z if code == SOFTMAX else value(code, z)


@device
def stored(job: Any, i: int, j: int, count: int, sums: Any) -> None:
    """Elements of a product as they are."""
    out, n = job
    put_four(out, i * n + j, count, sums)


def _make(real: Any) -> tuple[Any, Any, Any]:
    forward_tile = tile_of(real, finished, FORWARD)
    backward_tile, update_tile = (tile_of(real, stored, which) for which in (BACKWARD, UPDATE))

    @kernel
    def linear(
        size: int, tall: int, broad: int, A: Any, a_vectors: int, W: Any, w_vectors: int, b: Any,
        biased: int, code: int, Z: Any, kept: int, out: Any, rows: int, m: int, n: int,
    ) -> None:  # fmt: skip
        shared = shared_reals(A)
        across = (n + broad - 1) // broad
        job = (b, biased, code, Z, kept, out, n)
        for index in range(block(), (rows + tall - 1) // tall * across, blocks()):
            i0, j0 = index // across * tall, index % across * broad
            forward_tile(
                size, job, A, i0 * m, m, a_vectors != 0, W, j0, n, w_vectors != 0, i0, j0, rows, n,
                m, shared,
            )  # fmt: skip

    @kernel
    def weight(
        size: int, tall: int, broad: int, A: Any, a_vectors: int, D: Any, d_vectors: int, out: Any,
        bias: Any, rows: int, m: int, n: int,
    ) -> None:  # fmt: skip
        shared = shared_reals(A)
        across = (n + broad - 1) // broad
        count = (m + tall - 1) // tall * across
        for index in range(block(), count + (n + COLUMNS - 1) // COLUMNS, blocks()):
            if index < count:
                i0, j0 = index // across * tall, index % across * broad
                update_tile(
                    size, (out, n), A, i0, m, a_vectors != 0, D, j0, n, d_vectors != 0, i0, j0, m,
                    n, rows, shared,
                )  # fmt: skip
            else:
                column_sums(D, 0, n, bias, 0, 0, rows, (index - count) * COLUMNS, n, shared)

    @kernel
    def inward(
        size: int, tall: int, broad: int, D: Any, d_vectors: int, W: Any, w_vectors: int, out: Any,
        rows: int, m: int, n: int,
    ) -> None:  # fmt: skip
        shared = shared_reals(D)
        across = (m + broad - 1) // broad
        for index in range(block(), (rows + tall - 1) // tall * across, blocks()):
            i0, j0 = index // across * tall, index % across * broad
            backward_tile(
                size, (out, m), D, i0 * n, n, d_vectors != 0, W, j0 * n, n, w_vectors != 0, i0, j0,
                rows, m, n, shared,
            )  # fmt: skip

    return linear, weight, inward


_kernels = {real: _make(real) for real in (np.float32, np.float64)}


@kernel
def _softmax(A: Any, rows: int, n: int) -> None:
    softmax_rows(A, 0, n, A, 0, n, 0, rows, n, block(), blocks(), shared_reals(A))


def _cut(real: Any, rows: int, columns: int, length: int) -> tuple[int, tuple[int, int, int]]:
    """Blocks of a product in one part, and the size, rows and columns of its tiles."""
    size = cut([(rows, columns)], length, real, whole=True).size
    tile = TILES[real][size]
    return tile.number(rows, columns), (size, tile.rows, tile.columns)


def _vectors(door: Door, x: Any, ld: int) -> int:
    """Whether 16 bytes can be read at once: all rows of x begin on 16 bytes."""
    return int(address_of(x) % 16 == ld * np.dtype(door.real).itemsize % 16 == 0)


def linear_forward(
    A: Any,
    W: Any,
    b: Any = None,
    activation: str | int = "identity",
    *,
    out: Any = None,
    Z: Any = None,
    precision: str | None = None,
) -> Any:
    """f(A W + b). As `fastbp.kernels.linear_forward`.

    Arrays are NumPy's or a card's (`__cuda_array_interface__`); results come back where A lies.
    """
    code = code_of("activation", activation, ACTIVATIONS)
    check_card_precision(precision)
    door = Door()
    a = door.take("A", A, (None, None))
    rows, m = door.shape("A")
    w = door.take("W", W, (m, None))
    n = door.shape("W")[1]
    bias = door.nothing() if b is None else door.take("b", b, (n,))
    result = door.give("out", out, (rows, n))
    kept = door.nothing() if Z is None else door.give("Z", Z, (rows, n))
    flags = int(b is not None), code, kept, int(Z is not None)
    count, size = _cut(door.real, rows, n, m)
    factors = a, _vectors(door, a, m), w, _vectors(door, w, n)
    _kernels[door.real][0].launch(count, *size, *factors, bias, *flags, result, rows, m, n)
    if code == SOFTMAX:
        _softmax.launch(grid_for(rows), result, rows, n)
    if Z is not None:
        door.close("Z")
    return door.close("out")


def weight_gradient(
    A: Any, dZ: Any, *, out: Any = None, bias_out: Any = None, precision: str | None = None
) -> Any:
    """(A^T dZ, column sums of dZ). As `fastbp.kernels.weight_gradient`."""
    check_card_precision(precision)
    door = Door()
    a = door.take("A", A, (None, None))
    rows, m = door.shape("A")
    d = door.take("dZ", dZ, (rows, None))
    n = door.shape("dZ")[1]
    result = door.give("out", out, (m, n))
    bias = door.give("bias_out", bias_out, (n,))
    count, size = _cut(door.real, m, n, rows)
    factors = a, _vectors(door, a, m), d, _vectors(door, d, n)
    weight = _kernels[door.real][1]
    weight.launch(count + -(-n // COLUMNS), *size, *factors, result, bias, rows, m, n)
    return door.close("out", "bias_out")


def input_gradient(dZ: Any, W: Any, *, out: Any = None, precision: str | None = None) -> Any:
    """dZ W^T. As `fastbp.kernels.input_gradient`."""
    check_card_precision(precision)
    door = Door()
    d = door.take("dZ", dZ, (None, None))
    rows, n = door.shape("dZ")
    w = door.take("W", W, (None, n))
    m = door.shape("W")[0]
    result = door.give("out", out, (rows, m))
    count, size = _cut(door.real, rows, m, n)
    factors = d, _vectors(door, d, n), w, _vectors(door, w, n)
    _kernels[door.real][2].launch(count, *size, *factors, result, rows, m, n)
    return door.close("out")
