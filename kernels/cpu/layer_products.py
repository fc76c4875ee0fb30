"""The three products of a layer, rows lo..hi of the result, over the tiles or plain loops."""

from __future__ import annotations

from typing import Final

import numpy as np

from .jit import inline, serial
from .memory import address
from .product import host_tiles
from .tile_table import BF16_SLOT, product_of, tile_address
from .tiles import (
    CLAIM_BESIDE,
    FINISH_BITS,
    FINISH_MASK,
    FINISH_NONE,
    FINISH_RELU,
    START_BIAS,
    START_ZERO,
)

_TILES: Final = host_tiles()
NARROW_BYTES: Final = 0 if _TILES is None else _TILES.vector_bytes  # so few columns of A^T dZ ...
NARROW_BATCH: Final = 24  # ... over at least so many samples are formed as (dZ^T A)^T ...
NARROW_ROWS: Final = 1008  # ... at most so many rows at once; not 4 KB, which share one set


@inline
def _address_of_tiles(array, bf16):  # type: ignore[no-untyped-def]
    if bf16 != 0:
        return tile_address(BF16_SLOT)
    return tile_address(0 if array.itemsize == 4 else 1)


NO_PREFETCH: Final = np.empty(0, np.int64)
"""For `linear_rows`, where nothing is read soon."""


@serial
def linear_rows(A, W, bias, C, lo, hi, m, n, finish, bf16, scratch, prefetched, claimed):  # type: ignore[no-untyped-def]
    """C[lo:hi, :n] = finish(A[lo:hi, :m] W[:m, :n] + bias); `bias` may be empty.

    With claims in `finish`, `claimed` is like C: what is about to be written beside it.

    `prefetched` is empty or has two addresses a row of A: of what is read soon, and of where that
    will be written, which is claimed unless it is 0.
    """
    biased = bias.size > 0
    tiles = _address_of_tiles(C, bf16)
    if tiles != 0:
        a, c = address(A, lo * A.shape[1]), address(C, lo * C.shape[1])
        ahead = address(prefetched, 2 * lo) if prefetched.size > 0 else 0
        product_of(
            tiles, hi - lo, n, m, a, A.shape[1], 1, address(W, 0), W.shape[1], 0, c, C.shape[1],
            address(scratch, 0), bias=address(bias, 0),
            beside=address(claimed, lo * claimed.shape[1]), beside_row=claimed.shape[1],
            start=START_BIAS if biased else START_ZERO, finish=finish, prefetched=ahead,
        )  # fmt: skip
        return
    zero = C.dtype.type(0)
    for i in range(lo, hi):
        for j in range(n):
            C[i, j] = bias[j] if biased else zero
        for p in range(m):
            a_ip = A[i, p]
            for j in range(n):
                C[i, j] += a_ip * W[p, j]
        if finish & FINISH_BITS == FINISH_RELU:
            for j in range(n):
                if C[i, j] <= zero:
                    C[i, j] = zero


@serial
def gradient_rows(A, D, G, first, lo, hi, batch, n, bf16, scratch, claimed, panels):  # type: ignore[no-untyped-def]
    """G[lo-first : hi-first, :n] = (A[:batch, lo:hi])^T D[:batch, :n].

    `claimed` is empty, or the rows of W, [lo, hi), that G is about to change: flat, so that any
    cells that are a vector apart at most reach all of its lines.

    `panels` is what becomes of D's packed panels (`operands.py`): blocks of rows may share them.

    Of few columns the transpose is formed, D^T A, whose tiles are wide, and transposed: 10 columns
    would leave 6 of 16 lanes idle and load 12 numbers for 12 products (twice the time at 32 x 784).
    """
    tiles = _address_of_tiles(G, bf16)
    if tiles != 0:
        g = address(G, (lo - first) * G.shape[1])
        rows = hi - lo
        claims = claimed.size > 0 and bf16 == 0  # products of bfloat16 claim nothing
        finish = FINISH_NONE + (CLAIM_BESIDE if claims else 0)
        w = address(claimed, 0) if claims else g
        narrow = n <= NARROW_BYTES // G.itemsize and bf16 == 0
        if narrow and batch >= NARROW_BATCH and rows <= NARROW_ROWS:
            c = address(scratch, 0)
            product_of(
                tiles, n, rows, batch, address(D, 0), 1, D.shape[1], address(A, lo), A.shape[1], 0,
                c, NARROW_ROWS, c, beside=w, beside_row=rows, finish=finish,
                across=g, across_row=G.shape[1],
            )  # fmt: skip
            return
        product_of(
            tiles, rows, n, batch, address(A, lo), 1, A.shape[1], address(D, 0), D.shape[1], 0,
            g, G.shape[1], address(scratch, 0), beside=w, beside_row=n, finish=finish,
            panels=panels,
        )  # fmt: skip
        return
    zero = G.dtype.type(0)
    for i in range(lo, hi):
        for j in range(n):
            G[i - first, j] = zero
        for p in range(batch):
            a_pi = A[p, i]
            for j in range(n):
                G[i - first, j] += a_pi * D[p, j]


@serial
def input_rows(D, W, judge, C, lo, hi, n, m, finish, bf16, scratch):  # type: ignore[no-untyped-def]
    """C[lo:hi, :m] = D[lo:hi, :n] W[:m, :n]^T; by FINISH_MASK 0 where relu's output `judge` is.

    That is a choice, as in PyTorch: 0 though the sum is inf, and the sum where `judge` is NaN;
    `derivative_rows` multiplies by 0, or by NaN.
    """
    tiles = _address_of_tiles(C, bf16)
    if tiles != 0:
        product_of(
            tiles, hi - lo, m, n, address(D, lo * D.shape[1]), D.shape[1], 1, address(W, 0),
            W.shape[1], 1, address(C, lo * C.shape[1]), C.shape[1], address(scratch, 0),
            beside=address(judge, lo * judge.shape[1]), beside_row=judge.shape[1], finish=finish,
        )  # fmt: skip
        return
    zero = C.dtype.type(0)
    for i in range(lo, hi):
        for k in range(m):
            total = zero
            for j in range(n):
                total += D[i, j] * W[k, j]
            C[i, k] = total
        if finish == FINISH_MASK:
            for k in range(m):
                if judge[i, k] <= zero:
                    C[i, k] = zero
