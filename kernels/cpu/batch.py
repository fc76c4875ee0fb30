"""A batch of a step: its samples gathered, their losses measured, rows that are not finite found.

Each thread has its own rows [lo, hi) of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..layout import BF16, IN, IN_LD, LD, D, M, N, O, Z
from . import slots as S
from .bodies import loss_gradient_rows, loss_rows, pair_rows, perturb_rows
from .jit import inline, piece
from .memory import address, segment, window
from .prefetch import prefetch
from .samples import copy_row, finite_row, prefetch_row, unpack_row


@inline
def gather(
    settings: Any, factors: Any, p: Any, X: Any, labels: Any, targets: Any, weights: Any,
    order: Any, start: int, rows: int, arena: Any, step: int, weight_room: Any, lo: int, hi: int,
    columns: Any, starts: Any, first: int, whole: int, prefetched: Any, other: int,
) -> Any:  # fmt: skip
    """Copy the samples [lo, hi) of the batch at `start` into the arena; its weights and scale.

    Those in their places of the next batch, which lie anywhere in memory, are prefetched: by the
    first layer's product, which finds them in `prefetched`; here, where that is of bfloat16. If
    `other` is not negative, their rows there in the arena are claimed.

    They are the rows from `first` on of a batch of `whole` rows.
    """
    m = p[M]
    into = window(arena, p[IN], rows, p[IN_LD])
    wanted = window(arena, settings[S.TARGETS], rows, settings[S.TARGETS_LD])
    for i in range(lo, hi):
        sample = order[start + i]
        if starts.size > 0:
            unpack_row(X, columns, starts, sample, into, i, m)
        else:
            ahead = start + i + whole
            following = order[ahead] if ahead < order.size else sample
            prefetch(labels, following)
            prefetched[2 * i] = address(X, following * m)
            prefetched[2 * i + 1] = address(arena, other + i * p[IN_LD]) if other >= 0 else 0
            if p[BF16] != 0:
                prefetch_row(X, following, m)
            copy_row(X, sample, into, i, m)
        target_row(settings, labels, targets, sample, wanted, i)
    if factors[S.NOISE] > 0:
        perturb_rows(
            into, factors[S.NOISE], settings[S.SEED], settings[S.EPOCH], step, first, lo, hi, m
        )
    return weigh(settings, factors, weights, order, start, rows, weight_room, lo, hi, first, whole)


@piece
def target_row(settings: Any, labels: Any, targets: Any, sample: int, wanted: Any, i: int) -> None:
    """A sample's target into row i: of a label 1 in its place and 0 elsewhere."""
    k = targets.shape[1]
    if settings[S.LABELLED] == 0:
        copy_row(targets, sample, wanted, i, k)
        return
    y = segment(wanted, i * settings[S.TARGETS_LD], k)
    for j in range(k):
        y[j] = 0
    label = labels[sample]
    if 0 <= label < k:
        y[label] = 1
    else:
        y[0] = np.nan  # changed since it was looked at: the loss tells


@piece
def weigh(
    settings: Any, factors: Any, weights: Any, order: Any, start: int, rows: int, weight_room: Any,
    lo: int, hi: int, first: int, whole: int,
) -> Any:  # fmt: skip
    """The weights of a batch's `rows`, and what the sum of its weighted losses is multiplied by.

    That is 1 / sum of the weights for the mean, 1 for the sum. `weight_room` holds ones, then room
    for a batch of gathered weights. Those of all `whole` rows are summed (or given, as TOTAL).
    """
    half = weight_room.size // 2
    batch_weights = segment(weight_room, 0, rows)
    total = factors[S.TOTAL]
    if weights.size == 0:
        total = float(whole) if total < 0 else total
    else:  # every thread adds up all of them, and gathers its own
        batch_weights = segment(weight_room, half, rows)
        if total < 0:
            total = 0.0
            for i in range(whole):
                total += weights[order[start - first + i]]
        for i in range(lo, hi):
            batch_weights[i] = weights[order[start + i]]
    if settings[S.AVERAGE] == 0:
        return batch_weights, 1.0
    return batch_weights, 1.0 / total if total > 0 else 0.0


@inline
def measure(
    settings: Any, factors: Any, p: Any, rows: int, arena: Any, weights: Any, scale: float,
    losses: Any, lo: int, hi: int,
) -> None:  # fmt: skip
    """Losses of the rows [lo, hi) and what the backward pass starts from."""
    n, ld = p[N], p[LD]
    delta, output = window(arena, p[D], rows, ld), window(arena, p[O], rows, ld)
    wanted = window(arena, settings[S.TARGETS], rows, settings[S.TARGETS_LD])
    if settings[S.FROM_LOGITS] != 0:
        logits = window(arena, p[Z], rows, ld)
        pair_rows(
            settings[S.LOSS_CODE], logits, output, wanted, weights, scale, factors[S.LEAST],
            factors[S.MOST], losses, delta, lo, hi, n,
        )  # fmt: skip
        return
    loss_rows(settings[S.LOSS_CODE], output, wanted, weights, losses, lo, hi, n)
    if settings[S.MODE] != S.LOSS:
        loss_gradient_rows(settings[S.LOSS_CODE], output, wanted, weights, scale, delta, lo, hi, n)


@inline
def screen(p: Any, rows: int, arena: Any, losses: Any, lo: int, hi: int) -> None:
    """NaN for the loss of a row [lo, hi) of the batch that holds NaN or inf."""
    source = window(arena, p[IN], rows, p[IN_LD])
    for i in range(lo, hi):
        if not finite_row(source, i, p[M]):
            losses[i] = np.nan
