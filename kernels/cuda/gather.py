"""A batch on its way into the arena: samples in order, targets, weights; screened, perturbed."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import slots as S
from .machine import device, like, sync_block, thread
from .random import normal
from .team import U, first_of, lanes_of, pick
from .tiles import THREADS


@device
def finite(x: Any) -> bool:
    """Neither NaN nor inf."""
    return x - x == 0


@device
def look_for_unfit(
    settings: Any, parameters: Any, running: Any, running_size: int, state: Any, flags: Any,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Whether a parameter, a running statistic or an optimizer's row is not finite."""
    for e in range(first_of(part), settings[S.SIZE], parts * THREADS):
        if not finite(parameters[e]):
            flags[S.NOT_FINITE] = 1
    for e in range(first_of(part), running_size, parts * THREADS):
        if not finite(running[e]):
            flags[S.NOT_FINITE] = 1
    for e in range(first_of(part), settings[S.STATE_SIZE], parts * THREADS):
        if not finite(state[e]):
            flags[S.NOT_FINITE] = 1


@device
def noisy(x: Any, i: int, j: int, m: int, sigma: float, step: int, epoch: int, seed: int) -> Any:
    """x with the noise of its place."""
    if sigma == 0:
        return x
    return like(x, np.float64(x) + sigma * normal(i, j, m, step, epoch, seed))


@device
def sample_of(order: Any, ordered: int, place: int) -> int:
    """The sample at a place of the epoch's order; without one, as they lie."""
    return order[place] if ordered != 0 else place


@device
def put_input(
    x: Any, arena: Any, at: int, ld: int, i: int, j: int, m: int, drawn: Any, bad: Any, notes: int,
    stamp: int,
) -> None:  # fmt: skip
    """An element of the batch's row i, noted where it is not finite."""
    sigma, step, epoch, seed = drawn
    if not finite(x):
        bad[notes + i] = stamp
    arena[U(at + i * ld + j)] = noisy(x, i, j, m, sigma, step, epoch, seed)


@device
def gather_narrow(
    X: Any, order: Any, ordered: int, start: int, i: int, rows: int, stride: int, arena: Any,
    at: int, ld: int, j: int, m: int, drawn: Any, bad: Any, notes: int, stamp: int,
) -> None:  # fmt: skip
    """Element j of the rows i, i + stride, ...: four at once, as each waits for `order`, then X."""
    while j < m and i + 3 * stride < rows:
        k, n, o = i + stride, i + 2 * stride, i + 3 * stride
        a, b = sample_of(order, ordered, start + i), sample_of(order, ordered, start + k)
        c, d = sample_of(order, ordered, start + n), sample_of(order, ordered, start + o)
        four = (X[U(a * m + j)], X[U(b * m + j)], X[U(c * m + j)], X[U(d * m + j)])
        for q in range(4):
            put_input(pick(four, q), arena, at, ld, i, j, m, drawn, bad, notes, stamp)
            i += stride
    while j < m and i < rows:
        x = X[U(sample_of(order, ordered, start + i) * m + j)]
        put_input(x, arena, at, ld, i, j, m, drawn, bad, notes, stamp)
        i += stride


@device
def gather_dense(
    X: Any, order: Any, ordered: int, start: int, rows: int, arena: Any, at: int, ld: int, m: int,
    sigma: float, step: int, epoch: int, seed: int, bad: Any, notes: int,
    stamp: int, part: int, parts: int,
) -> None:  # fmt: skip
    """Rows of X; bad[notes + i] = stamp where row i holds NaN or inf."""
    bits = lanes_of(m)
    lanes, teams = 1 << bits, THREADS >> bits
    i = part * teams + (thread() >> bits)
    if m <= lanes:
        drawn = (sigma, step, epoch, seed)
        gather_narrow(
            X, order, ordered, start, i, rows, parts * teams, arena, at, ld, thread() & lanes - 1,
            m, drawn, bad, notes, stamp,
        )  # fmt: skip
        return
    while i < rows:
        source, to = sample_of(order, ordered, start + i) * m, at + i * ld
        j = thread() & lanes - 1
        while j < m:
            # Four loads at once; beyond the row its last element once more.
            k, last = j, m - 1
            a, j = X[U(source + j)], j + lanes
            b, j = X[U(source + (j if j < m else last))], j + lanes
            c, j = X[U(source + (j if j < m else last))], j + lanes
            d, j = X[U(source + (j if j < m else last))], j + lanes
            if not (finite(a) and finite(b) and finite(c) and finite(d)):
                bad[notes + i] = stamp
            for q in range(4):
                if k < m:
                    x = pick((a, b, c, d), q)
                    arena[U(to + k)] = noisy(x, i, k, m, sigma, step, epoch, seed)
                k += lanes
        i += parts * teams


@device
def gather_sparse(
    X: Any, columns: Any, starts: Any, order: Any, ordered: int, start: int, rows: int,
    arena: Any, at: int, ld: int, m: int, sigma: float, step: int, epoch: int, seed: int, bad: Any,
    notes: int, stamp: int, part: int, parts: int,
) -> None:  # fmt: skip
    """Rows of a sparse matrix (CSR), a block each; values of one place add up, in their order."""
    t = thread()
    for i in range(part, rows, parts):
        sample = sample_of(order, ordered, start + i)
        row = at + i * ld
        for j in range(t, m, THREADS):
            arena[row + j] = X.dtype.type(0)
        sync_block()
        if t == 0:
            for k in range(starts[sample], starts[sample + 1]):
                if not finite(X[k]):
                    bad[notes + i] = stamp
                arena[row + columns[k]] += X[k]
        sync_block()
        for j in range(t, m, THREADS):
            arena[row + j] = noisy(arena[row + j], i, j, m, sigma, step, epoch, seed)


@device
def gather_targets(
    labels: Any, labelled: int, targets: Any, order: Any, ordered: int, start: int, rows: int,
    arena: Any, at: int, ld: int, k: int, bad: Any, notes: int,
    stamp: int, part: int, parts: int,
) -> None:  # fmt: skip
    """Targets as they are, or one-hot rows of the labels."""
    bits = lanes_of(k)
    lanes, teams = 1 << bits, THREADS >> bits
    i = part * teams + (thread() >> bits)
    while i < rows:
        sample = sample_of(order, ordered, start + i)
        for j in range(thread() & lanes - 1, k, lanes):
            if labelled != 0:
                label = labels[sample]
                y = like(arena[at], 1.0) if label == j else like(arena[at], 0.0)
                if label < 0 or label >= k:  # changed since it was looked at: the loss tells
                    y = like(arena[at], np.nan)
            else:
                y = targets[sample * k + j]
                if not finite(y):
                    bad[notes + i] = stamp
            arena[at + i * ld + j] = y
        i += parts * teams


@device
def gather_weights(
    weights: Any, order: Any, ordered: int, start: int, rows: int, arena: Any, at: int, part: int,
    parts: int,
) -> None:  # fmt: skip
    """The samples' weights."""
    for i in range(first_of(part), rows, parts * THREADS):
        arena[at + i] = weights[sample_of(order, ordered, start + i)]
