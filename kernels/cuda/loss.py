"""Losses by rows, what the backward pass starts from, and the doors.

Of a row that a warp has lanes for, a lane has an element; a block a longer one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..checks import code_of, pair_of
from ..tables import LOSS_ALIASES, LOSSES
from .arith import exp, log
from .doors import Door, grid_for
from .loss_terms import BINARY, CROSS, make_terms, pair
from .machine import block, blocks, device, fma, kernel, like, shared_reals, thread
from .reduce import block_maximum, block_total, lanes_maximum, lanes_total, larger
from .team import BITS, lanes_of
from .tiles import THREADS, WARP

INFINITE: Final = float("inf")


@device
def held(loss: float, least: float, most: float) -> float:
    """A loss within [least, most]; NaN passes through."""
    if loss < least:
        return least
    return most if loss > most else loss


@device
def softmax_cross_lane(
    Z: Any, z: int, Y: Any, y: int, A: Any, a: int, D: Any, d: int, n: int, c: Any, j: int,
    lanes: int, present: bool,
) -> float:  # fmt: skip
    """f(z), c dL/dz and the loss of a row of softmax and cross entropy, its j-th by each lane."""
    own = present and j < n
    logit, target = Z[z], like(Z[z], 0.0)
    if own:
        logit, target = Z[z + j], Y[y + j]
    top = lanes_maximum(logit, lanes)
    e = exp(logit - top) if own else like(logit, 0.0)
    below = target * (top - logit) if target != 0 else like(logit, 0.0)
    total, mass = lanes_total(e, lanes), lanes_total(target, lanes)
    below = lanes_total(below, lanes)
    if own:
        share = e / total
        A[a + j] = share
        D[d + j] = c * fma(share, mass, -target)
    return np.float64(below) + np.float64(mass) * np.float64(log(total))


@device
def softmax_cross_row(
    Z: Any, z: int, Y: Any, y: int, A: Any, a: int, D: Any, d: int, n: int, c: Any, shared: Any
) -> float:
    """The same of a long row, by a block."""
    first, team = thread(), THREADS
    top = Z[z]
    for j in range(first, n, team):
        top = larger(top, Z[z + j])
    top = block_maximum(top, shared)
    total = like(top, 0.0)
    mass, below = total, total
    for j in range(first, n, team):
        e, target = exp(Z[z + j] - top), Y[y + j]
        total += e
        mass += target
        if target != 0:
            below += target * (top - Z[z + j])
        A[a + j] = e
    total = block_total(total, shared)
    mass = block_total(mass, shared)
    below = block_total(below, shared)
    for j in range(first, n, team):
        share = A[a + j] / total
        A[a + j] = share
        D[d + j] = c * fma(share, mass, -Y[y + j])
    return np.float64(below) + np.float64(mass) * np.float64(log(total))


def _make(real: Any) -> tuple[Any, Any]:
    """`slope` and `loss_rows` of one dtype."""
    term, slope = make_terms(real)

    @device
    def row(
        code: int, from_logits: int, slopes: int, Z: Any, z: int, Y: Any, y: int, A: Any, a: int,
        D: Any, d: int, n: int, c: Any, least: float, most: float, shared: Any, first: int,
        team: int, present: bool,
    ) -> float:  # fmt: skip
        """The loss of one row and, at D, c times what the backward pass starts from.

        By `team` threads, of which this is number `first`; nothing is stored of an absent row.
        """
        if from_logits != 0 and code == CROSS and n > 0:  # of none softmax's sum is 0
            if team == THREADS:
                loss = softmax_cross_row(Z, z, Y, y, A, a, D, d, n, c, shared)
            else:
                loss = softmax_cross_lane(Z, z, Y, y, A, a, D, d, n, c, first, team, present)
            return held(loss, least, most)
        total = Y.dtype.type(0)
        for j in range(first, n if present else 0, team):
            if from_logits != 0:
                out, delta, value = pair(code, Z[z + j], Y[y + j])
                A[a + j] = out
                D[d + j] = delta * c
                if code == BINARY:
                    value = like(value, held(np.float64(value), least, most))
                total += value
            else:
                total += term(code, A[a + j], Y[y + j])
                if slopes != 0:
                    D[d + j] = slope(code, A[a + j], Y[y + j], c)
        if team == THREADS:
            return np.float64(block_total(total, shared))
        return np.float64(lanes_total(total, team))

    @device
    def loss_rows(
        code: int, from_logits: int, slopes: int, Z: Any, z0: int, ldz: int, Y: Any, y0: int,
        ldy: int, A: Any, a0: int, lda: int, D: Any, d0: int, ldd: int, weight: Any, w0: int,
        weighted: int, scale: float, least: float, most: float, losses: Any, lo: int, hi: int,
        n: int, part: int, parts: int, shared: Any,
    ) -> None:  # fmt: skip
        """losses[i] = weight[i] L, and at D scale weight[i] times dL/dZ (from logits) or dL/dA.

        A and D may be Z.
        """
        bits = lanes_of(n) if n <= WARP else BITS
        team, of_block = 1 << bits, THREADS >> bits  # threads of a row, and rows of a block
        first, base = thread() & team - 1, lo + part * of_block
        while base < hi:
            i = base + (thread() >> bits)
            base += parts * of_block
            present = i < hi
            if not present:
                i = hi - 1
            w = weight[w0 + i] if weighted != 0 else Y.dtype.type(1)
            c = like(w, scale * w)
            loss = row(
                code, from_logits, slopes, Z, z0 + i * ldz, Y, y0 + i * ldy, A, a0 + i * lda, D,
                d0 + i * ldd, n, c, least, most, shared, first, team, present,
            )  # fmt: skip
            if first == 0 and present:
                losses[i] = np.float64(w) * loss

    return slope, loss_rows


families = {real: _make(real) for real in (np.float32, np.float64)}


def _door_kernels(real: Any) -> tuple[Any, Any, Any]:
    slope, loss_rows = families[real]

    @kernel
    def forward(
        code: int, A: Any, Y: Any, weight: Any, weighted: int, losses: Any, rows: int, n: int
    ) -> None:
        loss_rows(
            code, 0, 0, A, 0, n, Y, 0, n, A, 0, n, A, 0, n, weight, 0, weighted, 1.0, -INFINITE,
            INFINITE, losses, 0, rows, n, block(), blocks(), shared_reals(A),
        )  # fmt: skip

    @kernel
    def gradient(
        code: int, A: Any, Y: Any, weight: Any, weighted: int, D: Any, rows: int, n: int
    ) -> None:
        for e in range(block() * THREADS + thread(), rows * n, blocks() * THREADS):
            c = weight[e // n] if weighted != 0 else A.dtype.type(1)
            D[e] = slope(code, A[e], Y[e], c)

    @kernel
    def both(
        code: int, Z: Any, Y: Any, weight: Any, weighted: int, losses: Any, D: Any, rows: int,
        n: int,
    ) -> None:  # fmt: skip
        # The outputs go where dL/dZ overwrites them.
        loss_rows(
            code, 1, 1, Z, 0, n, Y, 0, n, D, 0, n, D, 0, n, weight, 0, weighted, 1.0, -INFINITE,
            INFINITE, losses, 0, rows, n, block(), blocks(), shared_reals(Z),
        )  # fmt: skip

    return forward, gradient, both


_kernels = {real: _door_kernels(real) for real in (np.float32, np.float64)}


def _weight(door: Door, weight: Any, rows: int) -> tuple[Any, int]:
    if weight is None:
        return door.nothing(), 0
    return door.take("weight", weight, (rows,)), 1


def _grid(rows: int, n: int) -> int:
    return grid_for(rows * (WARP if n <= WARP else THREADS))


def loss_forward(loss: str | int, A: Any, Y: Any, *, weight: Any = None, out: Any = None) -> Any:
    """weight[i] L(A[i], Y[i]) of each sample, float64. As `fastbp.kernels.loss_forward`."""
    code = code_of("loss", loss, LOSSES, LOSS_ALIASES)
    door = Door()
    a = door.take("A", A, (None, None))
    rows, n = door.shape("A")
    y = door.take("Y", Y, (rows, n))
    w = _weight(door, weight, rows)
    losses = door.give("out", out, (rows,), np.float64)
    _kernels[door.real][0].launch(_grid(rows, n), code, a, y, *w, losses, rows, n)
    return door.close("out")


def loss_gradient(loss: str | int, A: Any, Y: Any, *, weight: Any = None, out: Any = None) -> Any:
    """dL/dA of each sample, times weight[i]. As `fastbp.kernels.loss_gradient`."""
    code = code_of("loss", loss, LOSSES, LOSS_ALIASES)
    door = Door()
    a = door.take("A", A, (None, None))
    rows, n = door.shape("A")
    y = door.take("Y", Y, (rows, n))
    w = _weight(door, weight, rows)
    result = door.give("out", out, (rows, n), in_place=("A",))
    _kernels[door.real][1].launch(grid_for(rows * n), code, a, y, *w, result, rows, n)
    return door.close("out")


def loss_and_delta(
    loss: str | int,
    activation: str | int,
    Z: Any,
    Y: Any,
    *,
    weight: Any = None,
    out: Any = None,
    losses: Any = None,
) -> tuple[Any, Any]:
    """(losses, dL/dZ) from logits, for the pairs. As `fastbp.kernels.loss_and_delta`."""
    code, _ = pair_of(loss, activation)
    door = Door()
    z = door.take("Z", Z, (None, None))
    rows, n = door.shape("Z")
    y = door.take("Y", Y, (rows, n))
    w = _weight(door, weight, rows)
    delta = door.give("out", out, (rows, n), in_place=("Z",))
    values = door.give("losses", losses, (rows,), np.float64)
    _kernels[door.real][2].launch(_grid(rows, n), code, z, y, *w, values, delta, rows, n)
    return door.close("losses", "out")
