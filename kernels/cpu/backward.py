"""The backward pass: dL/dZ of every layer by rows, then the gradients by rows of W."""

from __future__ import annotations

from typing import Any

from ..layout import (
    ACT,
    BETA,
    BF16,
    BN,
    BN_AFTER,
    BN_BEFORE,
    DROP,
    GAMMA,
    IN,
    IN_LD,
    LD,
    MASK,
    P_DROP,
    RATIO,
    SCALE,
    SPARE,
    STATS,
    B,
    D,
    F,
    H,
    M,
    N,
    W,
    Z,
)
from ..tables import IDENTITY, RELU
from .barrier import barrier
from .bodies import (
    apply_mask_rows,
    batchnorm_backward_rows,
    batchnorm_sums_columns,
    column_sums,
    derivative_rows,
    gradient_rows,
    input_rows,
)
from .jit import inline, serial
from .memory import segment, window
from .ranks import RANKS, add_up
from .scratch import keeps_panels, panels_of_block
from .shares import COLUMNS, PANELS, TALL, by_columns, row_of, share
from .tiles import FINISH_MASK, FINISH_NONE


@serial
def backward_rows(
    t: int, T: int, rows: int, lo: int, hi: int, plan: Any, reals: Any, parameters: Any,
    gradient: Any, arena: Any, masks: Any, sync: Any, training: bool, from_logits: bool,
    scratch: Any, whole: int, world: Any,
) -> None:  # fmt: skip
    """dL/dZ of every layer, rows [lo, hi); the last layer's D window holds dL/dA (or dL/dZ)."""
    layers = plan.shape[0]
    masked = from_logits  # the derivative of this layer's activation has been applied already
    for layer in range(layers - 1, -1, -1):
        p = row_of(plan, layer)
        n, ld = p[N], p[LD]
        delta = window(arena, p[D], rows, ld)
        if training and p[DROP] != 0:
            mask = window(masks, p[MASK], rows, ld)
            apply_mask_rows(delta, mask, reals[layer, P_DROP], lo, hi, n)
        if p[BN] == BN_AFTER:
            normalize_backward(
                t, T, rows, lo, hi, p, parameters, gradient, arena, sync, training, delta, whole,
                world,
            )  # fmt: skip
        if not (masked or p[ACT] == IDENTITY):
            output, linear = window(arena, p[F], rows, ld), window(arena, p[Z], rows, ld)
            derivative_rows(p[ACT], delta, output, linear, delta, lo, hi, n)
        if p[BN] == BN_BEFORE:
            normalize_backward(
                t, T, rows, lo, hi, p, parameters, gradient, arena, sync, training, delta, whole,
                world,
            )  # fmt: skip
        if layer > 0:
            q = row_of(plan, layer - 1)
            m = p[M]
            masked = q[ACT] == RELU and q[BN] != BN_AFTER and q[DROP] == 0
            finish = FINISH_MASK if masked else FINISH_NONE
            weights = window(parameters, p[W], m, n)
            if p[BF16] == 0 and by_columns(weights, m, T):
                barrier(sync, T)
                input_columns(t, T, rows, p, q, delta, parameters, arena, finish, scratch)
                barrier(sync, T)
            else:
                input_rows(
                    delta, weights, window(arena, q[F], rows, q[LD]),
                    window(arena, q[D], rows, q[LD]), lo, hi, n, m, finish, p[BF16], scratch,
                )  # fmt: skip


@inline
def input_columns(
    t: int, T: int, rows: int, p: Any, q: Any, delta: Any, parameters: Any, arena: Any,
    finish: int, scratch: Any,
) -> None:  # fmt: skip
    """This thread's columns of dZ W^T, all rows: it turns those rows of W, and no others."""
    n = p[N]
    first, last = share(p[M], PANELS, t, T)
    if last > first:
        input_rows(
            delta, window(parameters, p[W] + first * n, last - first, n),
            window(arena, q[F] + first, rows, q[LD]), window(arena, q[D] + first, rows, q[LD]),
            0, rows, n, last - first, finish, 0, scratch,
        )  # fmt: skip


@inline
def normalize_backward(
    t: int, T: int, rows: int, lo: int, hi: int, p: Any, parameters: Any, gradient: Any,
    arena: Any, sync: Any, training: bool, delta: Any, whole: int, world: Any,
) -> None:  # fmt: skip
    """Batch norm's backward pass in place: dgamma and dbeta by columns, then delta by rows."""
    n, at = p[N], p[STATS]
    scale, ratio = segment(arena, at + SCALE * n, n), segment(arena, at + RATIO * n, n)
    dgamma, dbeta = segment(gradient, p[GAMMA], n), segment(gradient, p[BETA], n)
    gamma = segment(parameters, p[GAMMA], n)
    normalized = window(arena, p[H], rows, p[LD])
    first, last = share(n, COLUMNS, t, T)
    barrier(sync, T)
    batchnorm_sums_columns(delta, normalized, dgamma, dbeta, rows, first, last)
    barrier(sync, T)
    if world[RANKS] > 1:
        if t == 0:
            add_up(world, gradient, p[GAMMA], 2 * n)  # beta's follow gamma's
        barrier(sync, T)
    if not training:  # constant statistics: nothing flows back through them
        dgamma = dbeta = segment(arena, at + SPARE * n, n)
    batchnorm_backward_rows(
        delta, normalized, gamma, scale, ratio, dgamma, dbeta, whole, delta, lo, hi, n
    )


@inline
def layer_gradient(
    p: Any, rows: int, arena: Any, gradient: Any, lo: int, hi: int, first: int, last: int,
    scratch: Any, claimed: Any,
) -> None:  # fmt: skip
    """dL/dW rows [lo, hi) and dL/db columns [first, last) of one layer into the flat gradient.

    `claimed` is empty, or the parameters: those rows of W are about to be written.
    """
    m, n = p[M], p[N]
    delta = window(arena, p[D], rows, p[LD])
    if hi > lo:
        A = window(arena, p[IN], rows, p[IN_LD])
        into = window(gradient, p[W], m, n)
        keeps = hi - lo > TALL and keeps_panels(scratch, rows, p[LD], p[BF16])
        for start in range(lo, hi, TALL):
            stop = min(start + TALL, hi)
            panels = panels_of_block(keeps, start == lo)
            own = segment(claimed, p[W] + start * n, (stop - start) * n if claimed.size > 0 else 0)
            gradient_rows(A, delta, into, 0, start, stop, rows, n, p[BF16], scratch, own, panels)
    if p[B] >= 0 and last > first:
        column_sums(delta, segment(gradient, p[B], n), rows, first, last)
