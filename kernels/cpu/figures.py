"""What a step records of each layer for the history: norms, dead units; and sums of squares.

Squares are summed by the owners of fixed blocks, and the blocks in order: on any number of threads
alike.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..layout import ACT, BETA, DROP, GAMMA, LD, MASK, B, D, F, M, N, O, W
from ..tables import RELU
from .barrier import barrier
from .bodies import square_sum_block
from .jit import inline
from .memory import segment, window
from .shares import FLAT, row_of, share

# Columns of the figures recorded a layer.
GRADIENT_NORM, SHIFT_NORM, WEIGHT_NORM, UPDATE_NORM, DEAD, DELTA_RMS = range(6)
FIGURES: Final = 6


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
