"""The forward pass of a batch as one thread sees it: its own rows, through every layer.

Without batch norm the rows of a batch never meet, so a thread takes its rows from the first layer
to the loss without waiting for anyone. Batch norm makes all threads meet twice: when Z is there,
and when its columns' statistics are. So does a large W, whose product threads share by columns.
"""

from __future__ import annotations

from typing import Any

from .. import layout as L
from ..tables import IDENTITY, RELU
from .barrier import barrier
from .bodies import (
    activate_rows,
    dropout_rows,
    linear_rows,
    normalize_rows,
    running_columns,
    scale_columns,
    statistics_columns,
)
from .jit import inline, piece, serial
from .memory import segment, window
from .ranks import RANKS, pool_statistics
from .samples import copy_row
from .shares import COLUMNS, PANELS, by_columns, row_of, share
from .tiles import CLAIM_BESIDE, CLAIM_C, FINISH_NONE, FINISH_RELU


@serial
def forward_rows(
    t: int, T: int, rows: int, lo: int, hi: int, plan: Any, reals: Any, source: Any,
    parameters: Any, running: Any, arena: Any, masks: Any, sync: Any, seed: int, epoch: int,
    step: int, training: bool, to_logits: bool, scratch: Any, first: int, whole: int, world: Any,
    prefetched: Any,
) -> None:  # fmt: skip
    """Rows [lo, hi) of a batch of `rows` from the inputs `source` to the last layer's output.

    They are the rows from `first` on of a batch of `whole` rows that the ranks share.

    training: batch statistics and dropout; to_logits: stop before the last activation, whose loss
    is computed from logits. prefetched: addresses of the next batch's samples, by row; or empty.
    """
    layers = plan.shape[0]
    for layer in range(layers):
        p = row_of(plan, layer)
        n, ld = p[L.N], p[L.LD]
        pair = to_logits and layer == layers - 1
        A = source if layer == 0 else window(arena, p[L.IN], rows, p[L.IN_LD])
        linear = window(arena, p[L.Z], rows, ld)
        output = window(arena, p[L.F], rows, ld)
        final = window(arena, p[L.O], rows, ld)
        fused = p[L.ACT] == RELU and p[L.BN] != L.BN_BEFORE
        finish = FINISH_RELU if fused else FINISH_NONE
        if training and T > 1 and p[L.BF16] == 0:
            finish += CLAIM_C + CLAIM_BESIDE
        ahead = prefetched if layer == 0 else segment(prefetched, 0, 0)
        linear_part(t, T, rows, lo, hi, p, A, parameters, arena, sync, finish, scratch, ahead)
        if p[L.BN] == L.BN_BEFORE:
            normalize_batch(
                t, T, rows, lo, hi, p, reals[layer, L.EPS], parameters, running, arena, sync,
                training, linear, linear, whole, world,
            )  # fmt: skip
        if not (pair or fused or p[L.ACT] == IDENTITY):
            activate_rows(p[L.ACT], linear, output, lo, hi, n)
        if p[L.BN] == L.BN_AFTER:
            normalize_batch(
                t, T, rows, lo, hi, p, reals[layer, L.EPS], parameters, running, arena, sync,
                training, output, final, whole, world,
            )  # fmt: skip
        elif p[L.O] != p[L.F]:
            for i in range(lo, hi):
                copy_row(output, i, final, i, n)
        if training and p[L.DROP] != 0:
            mask = window(masks, p[L.MASK], rows, ld)
            p_drop = reals[layer, L.P_DROP]
            dropout_rows(final, mask, p_drop, seed, epoch, step, layer, first, lo, hi, n)


@piece
def linear_part(
    t: int, T: int, rows: int, lo: int, hi: int, p: Any, A: Any, parameters: Any, arena: Any,
    sync: Any, finish: int, scratch: Any, prefetched: Any,
) -> None:  # fmt: skip
    """finish(A W + b) of one layer: by rows, or where W is large by columns, when all have met."""
    m, n, ld = p[L.M], p[L.N], p[L.LD]
    weights = window(parameters, p[L.W], m, n)
    if p[L.BF16] == 0 and by_columns(weights, n, T):
        barrier(sync, T)
        linear_columns(t, T, rows, p, A, parameters, arena, finish, scratch)
        barrier(sync, T)
    else:
        bias = segment(parameters, max(p[L.B], 0), n if p[L.B] >= 0 else 0)
        linear_rows(
            A, weights, bias, window(arena, p[L.Z], rows, ld), lo, hi, m, n, finish, p[L.BF16],
            scratch, prefetched, window(arena, p[L.D], rows, ld),
        )  # fmt: skip


@inline
def linear_columns(
    t: int, T: int, rows: int, p: Any, A: Any, parameters: Any, arena: Any, finish: int,
    scratch: Any,
) -> None:  # fmt: skip
    """This thread's columns of finish(A W + b), all rows: it packs those of W, and no others.

    It prefetches nothing: each thread would prefetch all of the next batch's rows.
    """
    m, n, ld = p[L.M], p[L.N], p[L.LD]
    first, last = share(n, PANELS, t, T)
    if last > first:
        bias = segment(parameters, max(p[L.B], 0) + first, last - first if p[L.B] >= 0 else 0)
        linear_rows(
            A, window(parameters, p[L.W] + first, m, n), bias,
            window(arena, p[L.Z] + first, rows, ld),
            0, rows, m, last - first, finish, 0, scratch, segment(p, 0, 0),
            window(arena, p[L.D] + first, rows, ld),
        )  # fmt: skip


@inline
def normalize_batch(
    t: int, T: int, rows: int, lo: int, hi: int, p: Any, eps: float, parameters: Any,
    running: Any, arena: Any, sync: Any, training: bool, source: Any, target: Any, whole: int,
    world: Any,
) -> None:  # fmt: skip
    """Batch norm of `source` into `target`; statistics by columns, the rest by rows."""
    n, at = p[L.N], p[L.STATS]
    mean, variance = segment(arena, at + L.MEAN * n, n), segment(arena, at + L.VARIANCE * n, n)
    scale, ratio = segment(arena, at + L.SCALE * n, n), segment(arena, at + L.RATIO * n, n)
    zeros = segment(arena, at + L.SPARE * n, n)
    first, last = share(n, COLUMNS, t, T)
    if training:
        barrier(sync, T)
        statistics_columns(source, mean, variance, rows, first, last)
        if world[RANKS] > 1:
            barrier(sync, T)
            if t == 0:
                pool_statistics(world, arena, at, n, rows, whole)
            barrier(sync, T)
    else:
        running_mean = segment(running, p[L.RUNNING], n)
        running_variance = segment(running, p[L.RUNNING] + n, n)
        for j in range(first, last):
            mean[j] = running_mean[j]
            variance[j] = running_variance[j]
    for j in range(first, last):
        zeros[j] = 0
    scale_columns(variance, eps, p[L.FORM], scale, ratio, first, last)
    barrier(sync, T)
    gamma, beta = segment(parameters, p[L.GAMMA], n), segment(parameters, p[L.BETA], n)
    normalized = window(arena, p[L.H], rows, p[L.LD])
    normalize_rows(source, mean, scale, gamma, beta, normalized, target, lo, hi, n)


@inline
def follow_statistics(
    t: int, T: int, rows: int, plan: Any, reals: Any, running: Any, arena: Any
) -> None:
    """The running statistics follow the batch's: once its loss is known to be finite."""
    for layer in range(plan.shape[0]):
        p = row_of(plan, layer)
        if p[L.BN] == L.BN_NONE:
            continue
        n, at = p[L.N], p[L.STATS]
        first, last = share(n, COLUMNS, t, T)  # the columns whose statistics this thread formed
        running_columns(
            segment(arena, at + L.MEAN * n, n), segment(arena, at + L.VARIANCE * n, n),
            segment(running, p[L.RUNNING], n), segment(running, p[L.RUNNING] + n, n),
            rows, reals[layer, L.MOMENTUM], first, last,
        )  # fmt: skip
