"""The three products of a layer, tile by tile, and their public doors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import code_of
from ..tables import ACTIVATIONS
from .activation import SOFTMAX, softmax_rows, value
from .doors import Door, grid_for
from .machine import block, blocks, device, kernel, meet, peek, poke, shared_reals, thread
from .product import side_for, tile_of
from .tiles import SMALL, THREADS

COLUMNS = 32
"""Columns of an item of work: a line of memory."""
WIDE = min(COLUMNS, THREADS)
"""Columns that a block sums at a time, and how many threads each column has."""
TEAM = THREADS // WIDE


@device
def column_sums(
    D: Any, d0: int, ldd: int, out: Any, o0: int, rows: int, first: int, n: int, shared: Any
) -> None:
    """out[o0 + j] = the sum over the rows of D[:, j], for COLUMNS columns from `first`.

    TEAM threads share a column: each sums every so manieth row, and their sums are added in order.
    """
    t = thread()
    last = first + COLUMNS if first + COLUMNS < n else n
    for start in range(first, last, WIDE):
        j = start + t % WIDE
        total = D.dtype.type(0)
        if j < n:
            for i in range(t // WIDE, rows, TEAM):
                total += D[d0 + i * ldd + j]
        meet()
        poke(shared, t, total)
        meet()
        if t < WIDE and j < n:
            total = peek(shared, t)
            for other in range(1, TEAM):
                total += peek(shared, other * WIDE + t)
            out[o0 + j] = total


@device
def finished(job: Any, i: int, j: int, z: Any) -> None:
    """Bias and activation of an element of A W."""
    b, biased, code, Z, kept, out, n = job
    if biased:
        z += b[j]
    if kept:
        Z[i * n + j] = z
    out[i * n + j] = z if code == SOFTMAX else value(code, z)


@device
def stored(job: Any, i: int, j: int, g: Any) -> None:
    """An element of a product as it is."""
    out, n = job
    out[i * n + j] = g


def _make(real: Any) -> tuple[Any, Any, Any]:
    forward_tile, plain_tile = tile_of(real, finished), tile_of(real, stored)

    @kernel
    def linear(
        s: int, A: Any, W: Any, b: Any, biased: int, code: int, Z: Any, kept: int, out: Any,
        rows: int, m: int, n: int,
    ) -> None:  # fmt: skip
        shared = shared_reals(A)
        across = (n + s - 1) // s
        job = (b, biased, code, Z, kept, out, n)
        for index in range(block(), (rows + s - 1) // s * across, blocks()):
            i0, j0 = index // across * s, index % across * s
            forward_tile(s, job, A, 0, m, 1, W, 0, 1, n, i0, j0, rows, n, m, shared)

    @kernel
    def weight(s: int, A: Any, D: Any, out: Any, bias: Any, rows: int, m: int, n: int) -> None:
        shared = shared_reals(A)
        across = (n + s - 1) // s
        count = (m + s - 1) // s * across
        for index in range(block(), count + (n + COLUMNS - 1) // COLUMNS, blocks()):
            if index < count:
                i0, j0 = index // across * s, index % across * s
                plain_tile(s, (out, n), A, 0, 1, m, D, 0, 1, n, i0, j0, m, n, rows, shared)
            else:
                column_sums(D, 0, n, bias, 0, rows, (index - count) * COLUMNS, n, shared)

    @kernel
    def inward(s: int, D: Any, W: Any, out: Any, rows: int, m: int, n: int) -> None:
        shared = shared_reals(D)
        across = (m + s - 1) // s
        for index in range(block(), (rows + s - 1) // s * across, blocks()):
            i0, j0 = index // across * s, index % across * s
            plain_tile(s, (out, m), D, 0, n, 1, W, 0, n, 1, i0, j0, rows, m, n, shared)

    return linear, weight, inward


_kernels = {real: _make(real) for real in (np.float32, np.float64)}


@kernel
def _softmax(A: Any, rows: int, n: int) -> None:
    softmax_rows(A, 0, n, A, 0, n, 0, rows, n, block(), blocks(), shared_reals(A))


def _tiles(rows: int, columns: int) -> int:
    return max(1, -(-rows // SMALL.side) * -(-columns // SMALL.side))


def linear_forward(
    A: Any,
    W: Any,
    b: Any = None,
    activation: str | int = "identity",
    *,
    out: Any = None,
    Z: Any = None,
) -> Any:
    """f(A W + b). As `fastbp.kernels.linear_forward`.

    Arrays are NumPy's or a card's (`__cuda_array_interface__`); results come back where A lies.
    """
    code = code_of("activation", activation, ACTIVATIONS)
    door = Door()
    a = door.take("A", A, (None, None))
    rows, m = door.shape("A")
    w = door.take("W", W, (m, None))
    n = door.shape("W")[1]
    bias = door.nothing() if b is None else door.take("b", b, (n,))
    result = door.give("out", out, (rows, n))
    kept = door.nothing() if Z is None else door.give("Z", Z, (rows, n))
    flags = int(b is not None), code, kept, int(Z is not None)
    linear = _kernels[door.real][0]
    side = side_for(rows, n, door.real)
    linear.launch(_tiles(rows, n), side, a, w, bias, *flags, result, rows, m, n)
    if code == SOFTMAX:
        _softmax.launch(grid_for(rows), result, rows, n)
    if Z is not None:
        door.close("Z")
    return door.close("out")


def weight_gradient(A: Any, dZ: Any, *, out: Any = None, bias_out: Any = None) -> Any:
    """(A^T dZ, column sums of dZ). As `fastbp.kernels.weight_gradient`."""
    door = Door()
    a = door.take("A", A, (None, None))
    rows, m = door.shape("A")
    d = door.take("dZ", dZ, (rows, None))
    n = door.shape("dZ")[1]
    result = door.give("out", out, (m, n))
    bias = door.give("bias_out", bias_out, (n,))
    weight = _kernels[door.real][1]
    side = side_for(m, n, door.real)
    weight.launch(_tiles(m, n) + -(-n // COLUMNS), side, a, d, result, bias, rows, m, n)
    return door.close("out", "bias_out")


def input_gradient(dZ: Any, W: Any, *, out: Any = None) -> Any:
    """dZ W^T. As `fastbp.kernels.input_gradient`."""
    door = Door()
    d = door.take("dZ", dZ, (None, None))
    rows, n = door.shape("dZ")
    w = door.take("W", W, (None, n))
    m = door.shape("W")[0]
    result = door.give("out", out, (rows, m))
    inward = _kernels[door.real][2]
    inward.launch(_tiles(rows, m), side_for(rows, m, door.real), d, w, result, rows, m, n)
    return door.close("out")
