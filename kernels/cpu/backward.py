"""The backward pass: dL/dZ of every layer by rows, then the gradients by rows of W."""

from __future__ import annotations

from typing import Any

from .. import layout as L
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
from .jit import inline, piece, serial
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
        n, ld = p[L.N], p[L.LD]
        delta = window(arena, p[L.D], rows, ld)
        if training and p[L.DROP] != 0:
            mask = window(masks, p[L.MASK], rows, ld)
            apply_mask_rows(delta, mask, reals[layer, L.P_DROP], lo, hi, n)
        if p[L.BN] == L.BN_AFTER:
            normalize_backward(
                t, T, rows, lo, hi, p, parameters, gradient, arena, sync, training, delta, whole,
                world,
            )  # fmt: skip
        if not (masked or p[L.ACT] == IDENTITY):
            output, linear = window(arena, p[L.F], rows, ld), window(arena, p[L.Z], rows, ld)
            derivative_rows(p[L.ACT], delta, output, linear, delta, lo, hi, n)
        if p[L.BN] == L.BN_BEFORE:
            normalize_backward(
                t, T, rows, lo, hi, p, parameters, gradient, arena, sync, training, delta, whole,
                world,
            )  # fmt: skip
        if layer > 0:
            q = row_of(plan, layer - 1)
            masked = q[L.ACT] == RELU and q[L.BN] != L.BN_AFTER and q[L.DROP] == 0
            finish = FINISH_MASK if masked else FINISH_NONE
            input_part(
                t, T, rows, lo, hi, p, q, delta, parameters, arena, sync, finish, scratch
            )  # fmt: skip


@piece
def input_part(
    t: int, T: int, rows: int, lo: int, hi: int, p: Any, q: Any, delta: Any, parameters: Any,
    arena: Any, sync: Any, finish: int, scratch: Any,
) -> None:  # fmt: skip
    """dZ W^T of one layer: by rows, or where W is large by columns, when all have met."""
    m, n = p[L.M], p[L.N]
    weights = window(parameters, p[L.W], m, n)
    if p[L.BF16] == 0 and by_columns(weights, m, T):
        barrier(sync, T)
        input_columns(t, T, rows, p, q, delta, parameters, arena, finish, scratch)
        barrier(sync, T)
    else:
        input_rows(
            delta, weights, window(arena, q[L.F], rows, q[L.LD]),
            window(arena, q[L.D], rows, q[L.LD]), lo, hi, n, m, finish, p[L.BF16], scratch,
        )  # fmt: skip


@inline
def input_columns(
    t: int, T: int, rows: int, p: Any, q: Any, delta: Any, parameters: Any, arena: Any,
    finish: int, scratch: Any,
) -> None:  # fmt: skip
    """This thread's columns of dZ W^T, all rows: it packs those rows of W, and no others."""
    n = p[L.N]
    first, last = share(p[L.M], PANELS, t, T)
    if last > first:
        input_rows(
            delta, window(parameters, p[L.W] + first * n, last - first, n),
            window(arena, q[L.F] + first, rows, q[L.LD]),
            window(arena, q[L.D] + first, rows, q[L.LD]),
            0, rows, n, last - first, finish, 0, scratch,
        )  # fmt: skip


@inline
def normalize_backward(
    t: int, T: int, rows: int, lo: int, hi: int, p: Any, parameters: Any, gradient: Any,
    arena: Any, sync: Any, training: bool, delta: Any, whole: int, world: Any,
) -> None:  # fmt: skip
    """Batch norm's backward pass in place: dgamma and dbeta by columns, then delta by rows."""
    n, at = p[L.N], p[L.STATS]
    scale, ratio = segment(arena, at + L.SCALE * n, n), segment(arena, at + L.RATIO * n, n)
    dgamma, dbeta = segment(gradient, p[L.GAMMA], n), segment(gradient, p[L.BETA], n)
    gamma = segment(parameters, p[L.GAMMA], n)
    normalized = window(arena, p[L.H], rows, p[L.LD])
    first, last = share(n, COLUMNS, t, T)
    barrier(sync, T)
    batchnorm_sums_columns(delta, normalized, dgamma, dbeta, rows, first, last)
    barrier(sync, T)
    if world[RANKS] > 1:
        if t == 0:
            add_up(world, gradient, p[L.GAMMA], 2 * n)  # beta's follow gamma's
        barrier(sync, T)
    if not training:  # constant statistics: nothing flows back through them
        dgamma = dbeta = segment(arena, at + L.SPARE * n, n)
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
    m, n = p[L.M], p[L.N]
    delta = window(arena, p[L.D], rows, p[L.LD])
    if hi > lo:
        A = window(arena, p[L.IN], rows, p[L.IN_LD])
        into = window(gradient, p[L.W], m, n)
        keeps = hi - lo > TALL and keeps_panels(scratch, rows, p[L.LD], p[L.BF16])
        for start in range(lo, hi, TALL):
            stop = min(start + TALL, hi)
            panels = panels_of_block(keeps, start == lo)
            size = (stop - start) * n if claimed.size > 0 else 0
            own = segment(claimed, p[L.W] + start * n, size)
            gradient_rows(A, delta, into, 0, start, stop, rows, n, p[L.BF16], scratch, own, panels)
    if p[L.B] >= 0 and last > first:
        column_sums(delta, segment(gradient, p[L.B], n), rows, first, last)
