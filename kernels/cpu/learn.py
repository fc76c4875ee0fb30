"""From gradients to parameters: the weight phase of a training step.

Fused, each thread forms a block of rows of dL/dW and updates those rows of W while both are in its
cache. Where a global norm is needed first (clip_norm) or the step's figures are recorded for the
history, the gradient is completed, summed in fixed blocks, and then applied. Both ways round alike.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..layout import BETA, BF16, GAMMA, IN, IN_LD, LD, B, D, M, N, W
from . import bf16_learn
from .backward import layer_gradient
from .barrier import barrier
from .bodies import clip_value_span, gradient_rows, scale_span, square_sum_block, update_rows
from .figures import UPDATE_NORM, WEIGHT_NORM, blocked_square_sums, gradient_figures, total_of
from .jit import inline, piece, serial
from .layer_products import NARROW_ROWS
from .memory import segment, window
from .outer import REPEATED
from .scratch import ROOM, keeps_panels, panels_of_block, room_of
from .shares import COLUMNS, FLAT, GRADIENT_ROWS, TALL, row_of, share, share_of_rows
from .table import reached
from .update import SGD

learn_bf16 = reached(bf16_learn.learn_bf16, "MM iiiii VM iV fff V", bf16=True)

FUSED_ELEMENTS: Final = 8192
"""Elements of dL/dW formed before they are applied, TALL rows at least: 32 KB, an L1's worth."""


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
    for layer in range(plan.shape[0]):
        p = row_of(plan, layer)
        m, n = p[M], p[N]
        lo, hi = share_of_rows(m, t, T)
        first, last = share(n, COLUMNS, T - 1 - t, T)
        A = window(arena, p[IN], rows, p[IN_LD])
        delta = window(arena, p[D], rows, p[LD])
        if p[BF16] != 0:
            learn_bf16(
                A, delta, rows, n, p[W], lo, hi, parameters, state, code, rates, l2, shrink,
                clip_value, scratch,
            )  # fmt: skip
        elif rows == 1 and clip_value == 0 and n + REPEATED <= ROOM:
            learn_one_sample(
                p, lo, hi, parameters, state, arena, code, rates, l2, shrink, room_of(scratch)
            )
        else:
            tall = min(max(FUSED_ELEMENTS // n // GRADIENT_ROWS * GRADIENT_ROWS, TALL), NARROW_ROWS)
            keeps = hi - lo > tall and keeps_panels(scratch, rows, p[LD], p[BF16])
            for start in range(lo, hi, tall):
                panels = panels_of_block(keeps, start == lo)
                learn_block(
                    T, p, rows, A, delta, start, min(start + tall, hi), parameters, gradient,
                    state, code, rates, l2, shrink, clip_value, scratch, panels,
                )  # fmt: skip
        layer_gradient(
            p, rows, arena, gradient, 0, 0, first, last, scratch, segment(gradient, 0, 0)
        )
        update_biases(p, first, last, parameters, gradient, state, code, rates, clip_value)


@piece
def learn_one_sample(
    p: Any, lo: int, hi: int, parameters: Any, state: Any, arena: Any, code: int, rates: Any,
    l2: float, shrink: float, room: Any,
) -> None:  # fmt: skip
    """Update rows [lo, hi) of one layer's W by a batch of one, whose dL/dW is never formed."""
    m, n = p[M], p[N]
    a, d = segment(arena, p[IN], m), segment(arena, p[D], n)
    for j in range(n):
        room[j] = d[j]
    for j in range(REPEATED):
        room[n + j] = room[j]
    update_outer(parameters, a, room, n, state, code, rates, l2, shrink, p[W], lo, hi)


@piece
def learn_block(
    T: int, p: Any, rows: int, A: Any, delta: Any, start: int, stop: int, parameters: Any,
    gradient: Any, state: Any, code: int, rates: Any, l2: float, shrink: float, clip_value: float,
    scratch: Any, panels: int,
) -> None:  # fmt: skip
    """Rows [start, stop) of one layer's dL/dW, and of its W.

    A small block is formed in scratch, over and over in the same cache lines.
    """
    n = p[N]
    a, b = p[W] + start * n, p[W] + stop * n
    inside = (stop - start) * n <= ROOM
    block = room_of(scratch) if inside else segment(gradient, a, b - a)
    into = window(block, 0, stop - start, n)
    own = segment(parameters, a, b - a if T > 1 else 0)
    gradient_rows(A, delta, into, start, start, stop, rows, n, p[BF16], scratch, own, panels)
    if clip_value > 0:
        clip_value_span(block, clip_value, 0, b - a)
    update_span(code, parameters, block, a, state, rates, l2, shrink, a, b)


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
