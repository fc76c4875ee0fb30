"""From gradients to parameters: the weight phase of a training step.

Fused, each thread forms a block of rows of dL/dW and updates those rows of W while both are in its
cache. Where a global norm is needed first (clip_norm) or the step's figures are recorded for the
history, the gradient is completed, summed in fixed blocks, and then applied. Both ways round alike.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..layout import ACT, BETA, BF16, DROP, GAMMA, IN, IN_LD, LD, MASK, B, D, F, M, N, O, W
from ..tables import RELU
from . import bf16_learn
from .backward import layer_gradient
from .barrier import barrier
from .bodies import (
    clip_value_span,
    gradient_rows,
    scale_span,
    square_sum_block,
    update_rows,
)
from .jit import inline, serial
from .layer_products import NARROW_ROWS
from .memory import segment, window
from .outer import REPEATED
from .scratch import ROOM, keeps_panels, panels_of_block, room_of
from .shares import COLUMNS, FLAT, ROWS, TALL, row_of, share, share_of_rows
from .table import reached
from .update import SGD

learn_bf16 = reached(bf16_learn.learn_bf16, "MM iiiii VM iV fff V", bf16=True)

BLOCK: Final = 8192
"""Elements of dL/dW formed before they are applied, TALL rows at least: 32 KB, an L1's worth."""

# Columns of the figures recorded a layer.
GRADIENT_NORM, SHIFT_NORM, WEIGHT_NORM, UPDATE_NORM, DEAD, DELTA_RMS = range(6)
FIGURES: Final = 6


@inline
def update_span(
    code: int, parameters: Any, gradient: Any, offset: int, state: Any, rates: Any, l2: float,
    shrink: float, lo: int, hi: int,
) -> None:  # fmt: skip
    """One optimizer step on parameters[lo:hi]; gradient[i - offset] belongs to parameters[i]."""
    own = segment(gradient, lo - offset, hi - lo)
    update_rows(code, parameters, own, state, rates, l2, shrink, lo, 0, hi - lo, rates)


@inline
def update_biases(
    p: Any, first: int, last: int, parameters: Any, gradient: Any, state: Any, code: int,
    rates: Any, clip_value: float,
) -> None:  # fmt: skip
    """Update columns [first, last) of a layer's b, gamma and beta, which never decay."""
    for at in (p[B], p[GAMMA], p[BETA]):
        if at >= 0 and last > first:
            if clip_value > 0:
                clip_value_span(gradient, clip_value, at + first, at + last)
            update_span(
                code, parameters, gradient, 0, state, rates, 0.0, 1.0, at + first, at + last
            )


@inline
def update_outer(
    parameters: Any, a: Any, delta: Any, n: int, state: Any, code: int, rates: Any, l2: float,
    shrink: float, at: int, lo: int, hi: int,
) -> None:  # fmt: skip
    """Update rows [lo, hi) of the W at parameters[at] by the gradient a delta[:n]^T of one sample.

    Where a zero changes nothing (plain SGD without decay), its rows are left alone: four of five
    inputs of a digit are 0.
    """
    skip = code == SGD and l2 == 0 and shrink == 1
    i = lo
    while i < hi:
        stop = hi
        if skip:
            while i < hi and a[i] == 0:
                i += 1
            stop = i
            while stop < hi and a[stop] != 0:
                stop += 1
        if i < stop:
            factors = segment(a, i, stop - i)
            update_rows(
                code, parameters, delta, state, rates, l2, shrink, at + i * n, stop - i, n, factors
            )
        i = stop


@serial
def learn_fused(
    t: int, T: int, rows: int, plan: Any, parameters: Any, gradient: Any, state: Any, arena: Any,
    code: int, rates: Any, l2: float, shrink: float, clip_value: float, scratch: Any,
) -> None:  # fmt: skip
    """Gradient and update of thread t's rows of every W, block by block while they are hot."""
    room = room_of(scratch)
    for layer in range(plan.shape[0]):
        p = row_of(plan, layer)
        m, n = p[M], p[N]
        lo, hi = share_of_rows(m, t, T)
        first, last = share(n, COLUMNS, T - 1 - t, T)
        A = window(arena, p[IN], rows, p[IN_LD])
        delta = window(arena, p[D], rows, p[LD])
        if rows == 1 and clip_value == 0 and p[BF16] == 0 and n + REPEATED <= ROOM:
            a, d = segment(arena, p[IN], m), segment(arena, p[D], n)
            for j in range(n):
                room[j] = d[j]
            for j in range(REPEATED):
                room[n + j] = room[j]
            update_outer(parameters, a, room, n, state, code, rates, l2, shrink, p[W], lo, hi)
            hi = lo
        if p[BF16] != 0:
            learn_bf16(
                A, delta, rows, n, p[W], lo, hi, parameters, state, code, rates, l2, shrink,
                clip_value, scratch,
            )  # fmt: skip
            hi = lo
        tall = min(max(BLOCK // n // ROWS * ROWS, TALL), NARROW_ROWS)
        keeps = hi - lo > tall and keeps_panels(scratch, rows, p[LD], p[BF16])
        for start in range(lo, hi, tall):
            stop = min(start + tall, hi)
            a, b = p[W] + start * n, p[W] + stop * n
            # A small block is formed in scratch, over and over in the same cache lines.
            inside = (stop - start) * n <= ROOM
            block = room if inside else segment(gradient, a, b - a)
            into = window(block, 0, stop - start, n)
            own = segment(parameters, a, b - a if T > 1 else 0)
            panels = panels_of_block(keeps, start == lo)
            gradient_rows(
                A, delta, into, start, start, stop, rows, n, p[BF16], scratch, own, panels
            )
            if clip_value > 0:
                clip_value_span(block, clip_value, 0, b - a)
            update_span(code, parameters, block, a, state, rates, l2, shrink, a, b)
        layer_gradient(
            p, rows, arena, gradient, 0, 0, first, last, scratch, segment(gradient, 0, 0)
        )
        update_biases(p, first, last, parameters, gradient, state, code, rates, clip_value)


@serial
def form_gradient_rows(
    t: int, T: int, rows: int, plan: Any, gradient: Any, arena: Any, scratch: Any, claimed: Any
) -> None:
    """Thread t's rows of every dL/dW, columns of every dL/db; `claimed` as in `layer_gradient`."""
    for layer in range(plan.shape[0]):
        p = row_of(plan, layer)
        lo, hi = share_of_rows(p[M], t, T)
        first, last = share(p[N], COLUMNS, T - 1 - t, T)
        layer_gradient(p, rows, arena, gradient, lo, hi, first, last, scratch, claimed)


form_gradient = reached(form_gradient_rows, "iii J VV VV")


@inline
def blocked_square_sums(x: Any, lo: int, hi: int, partial: Any, t: int, T: int) -> None:
    """partial[k] = sum of the squares of x's k-th block of FLAT elements in [lo, hi)."""
    first, last = share(hi - lo, FLAT, t, T)
    for start in range(first, last, FLAT):
        stop = min(start + FLAT, last)
        partial[start // FLAT] = square_sum_block(x, lo + start, lo + stop)


@inline
def total_of(partial: Any, size: int) -> float:
    """Sum of the partial sums of `size` elements, in order."""
    total = 0.0
    for k in range((size + FLAT - 1) // FLAT):
        total += partial[k]
    return total


@serial
def learn_whole(
    t: int, T: int, rows: int, plan: Any, parameters: Any, gradient: Any, state: Any, arena: Any,
    code: int, rates: Any, l2: float, shrink: float, clip_value: float, clip_norm: float,
    record: bool, figures: Any, partial: Any, sync: Any, scratch: Any, formed: bool, masks: Any,
) -> None:  # fmt: skip
    """The gradient completed (unless it is `formed`), recorded, clipped; the update in blocks."""
    if not formed:
        own = segment(parameters, 0, parameters.size if T > 1 else 0)
        form_gradient(t, T, rows, plan, gradient, arena, scratch, own)
        barrier(sync, T)
    if record:
        gradient_figures(t, T, rows, plan, gradient, arena, masks, figures, partial, sync)
    size = parameters.size
    if clip_norm > 0:
        blocked_square_sums(gradient, 0, size, partial, t, T)
        barrier(sync, T)
        norm = np.sqrt(total_of(partial, size))
        first, last = share(size, FLAT, t, T)
        if norm > clip_norm:
            scale_span(gradient, clip_norm / norm, first, last)
        barrier(sync, T)
    if clip_value > 0:
        first, last = share(size, FLAT, t, T)
        clip_value_span(gradient, clip_value, first, last)
        barrier(sync, T)
    for layer in range(plan.shape[0]):
        p = row_of(plan, layer)
        m, n = p[M], p[N]
        apply_weights(
            t, T, p[W], m * n, parameters, gradient, state, code, rates, l2, shrink, record,
            row_of(figures, layer), partial, sync, scratch,
        )  # fmt: skip
        first, last = share(n, COLUMNS, T - 1 - t, T)
        update_biases(p, first, last, parameters, gradient, state, code, rates, 0.0)


@inline
def gradient_figures(
    t: int, T: int, rows: int, plan: Any, gradient: Any, arena: Any, masks: Any, figures: Any,
    partial: Any, sync: Any,
) -> None:  # fmt: skip
    """What is recorded of the gradient, by layer: as the batch gave it, before it is clipped."""
    for layer in range(plan.shape[0]):
        p, figure = row_of(plan, layer), row_of(figures, layer)
        size = p[M] * p[N]
        blocked_square_sums(gradient, p[W], p[W] + size, partial, t, T)
        barrier(sync, T)
        if t == 0:
            figure[GRADIENT_NORM] = np.sqrt(total_of(partial, size))
            figure[SHIFT_NORM] = shift_norm(p, gradient)
            activity(p, rows, arena, masks, figure)
        barrier(sync, T)


@inline
def apply_weights(
    t: int, T: int, at: int, size: int, parameters: Any, gradient: Any, state: Any, code: int,
    rates: Any, l2: float, shrink: float, record: bool, figure: Any, partial: Any, sync: Any,
    scratch: Any,
) -> None:  # fmt: skip
    """Update one layer's W in blocks of FLAT; recorded, with the norms of W and of the step."""
    first, last = share(size, FLAT, t, T)
    for start in range(first, last, FLAT):
        lo, hi = at + start, at + min(start + FLAT, last)
        if not record:
            update_span(code, parameters, gradient, 0, state, rates, l2, shrink, lo, hi)
            continue
        change = segment(scratch, 0, hi - lo)
        for i in range(hi - lo):
            change[i] = parameters[lo + i]
        update_span(code, parameters, gradient, 0, state, rates, l2, shrink, lo, hi)
        for i in range(hi - lo):
            change[i] = parameters[lo + i] - change[i]
        partial[start // FLAT] = square_sum_block(change, 0, hi - lo)
    if record:
        barrier(sync, T)
        if t == 0:
            figure[UPDATE_NORM] = np.sqrt(total_of(partial, size))
        barrier(sync, T)
        blocked_square_sums(parameters, at, at + size, partial, t, T)
        barrier(sync, T)
        if t == 0:
            figure[WEIGHT_NORM] = np.sqrt(total_of(partial, size))
        barrier(sync, T)


@inline
def shift_norm(p: Any, gradient: Any) -> float:
    """Norm of the gradients of a layer's b, gamma and beta."""
    squares = 0.0
    for at in (p[B], p[GAMMA], p[BETA]):
        if at >= 0:
            squares += square_sum_block(gradient, at, at + p[N])
    return float(np.sqrt(squares))


@inline
def activity(p: Any, rows: int, arena: Any, masks: Any, figure: Any) -> None:
    """Share of relu units that no sample of the batch woke (NaN elsewhere); rms of dL/dZ.

    Of those that dropout has kept for one sample at least: of the others nothing is known.
    """
    n, ld = p[N], p[LD]
    output, delta = window(arena, p[F], rows, ld), window(arena, p[D], rows, ld)
    squares = 0.0
    for i in range(rows):
        squares += square_sum_block(segment(delta, i * ld, n), 0, n)
    figure[DELTA_RMS] = np.sqrt(squares / (rows * n))
    figure[DEAD] = np.nan
    if p[ACT] == RELU:
        dropped = p[DROP] != 0 and p[O] == p[F]
        mask = window(masks, p[MASK], rows if dropped else 0, ld)
        known, dead = 0, 0
        for j in range(n):
            awake, kept = False, not dropped
            for i in range(rows):
                if output[i, j] > 0:
                    awake = True
                    break
                kept |= dropped and mask[i, j] != 0
            known += awake or kept
            dead += kept and not awake
        if known > 0:
            figure[DEAD] = dead / known
