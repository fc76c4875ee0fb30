"""The backward pass: dL/dZ of every layer, from the last to the first."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..layout import (
    ACT,
    BETA,
    BN,
    BN_AFTER,
    BN_BEFORE,
    BN_NONE,
    DROP,
    EPS,
    FORM,
    GAMMA,
    LD,
    MASK,
    P_DROP,
    STATS,
    VARIANCE,
    D,
    F,
    H,
    M,
    N,
    W,
    Z,
)
from .activation import IDENTITY, SOFTMAX, needs_input, slope, softmax_slope_rows
from .batchnorm import pulled_back, ratio_of, scale_of, sums_columns
from .machine import device, like, thread
from .product import cell, sides, tiles
from .team import first_of, gather_team
from .tiles import SMALL, THREADS

_SMALL = SMALL.side


@device
def undropped(net: Any, layer: int, at: int, d: Any, training: bool) -> Any:
    """dL/dA before dropout; a dropped NaN stays visible."""
    plan, reals, parameters, running, arena, masks = net
    if training and plan[layer, DROP] != 0:
        keep = masks[plan[layer, MASK] + at] != 0
        d *= like(d, 1.0 / (1.0 - reals[layer, P_DROP]) if keep else 0.0)
    return d


@device
def sloped(net: Any, layer: int, at: int, d: Any) -> Any:
    """dL/dZ from dL/dA of an element-wise activation."""
    plan, reals, parameters, running, arena, masks = net
    code = plan[layer, ACT]
    if code == IDENTITY:
        return d
    return d * slope(code, arena[plan[layer, Z if needs_input(code) else F] + at])


@device
def is_simple(plan: Any, layer: int) -> bool:
    """Each element's dL/dZ follows from its dL/dA alone."""
    return plan[layer, BN] == BN_NONE and plan[layer, ACT] != SOFTMAX


@device
def element_wise(
    net: Any, layer: int, lo: int, hi: int, dropout: bool, derivative: bool, training: bool,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Rows [lo, hi) of D before dropout and times f', as asked."""
    plan, reals, parameters, running, arena, masks = net
    n, ld = plan[layer, N], plan[layer, LD]
    for e in range(first_of(part), (hi - lo) * n, parts * THREADS):
        at = (lo + e // n) * ld + e % n
        d = arena[plan[layer, D] + at]
        if dropout:
            d = undropped(net, layer, at, d, training)
        if derivative:
            d = sloped(net, layer, at, d)
        arena[plan[layer, D] + at] = d


@device
def normalize_backward(
    net: Any, gradient: Any, layer: int, lo: int, hi: int, rows: int, training: bool, alone: bool,
    part: int, parts: int, shared: Any,
) -> None:  # fmt: skip
    """Batch norm's backward pass in place: dgamma and dbeta by columns, then D by elements."""
    plan, reals, parameters, running, arena, masks = net
    n, ld, delta, h = plan[layer, N], plan[layer, LD], plan[layer, D], plan[layer, H]
    gamma, beta, variance = plan[layer, GAMMA], plan[layer, BETA], plan[layer, STATS] + VARIANCE * n
    gather_team(alone)
    sums_columns(
        arena, delta, ld, arena, h, ld, gradient, gamma, gradient, beta, rows, n, part, parts,
        shared,
    )  # fmt: skip
    gather_team(alone)
    for e in range(first_of(part), (hi - lo) * n, parts * THREADS):
        j = e % n
        at = (lo + e // n) * ld + j
        u, v = arena[delta + at], arena[variance + j]
        scale = scale_of(v, reals[layer, EPS], plan[layer, FORM])
        ratio = ratio_of(v, reals[layer, EPS], plan[layer, FORM])
        dgamma, dbeta = gradient[gamma + j], gradient[beta + j]
        if not training:  # constant statistics: nothing flows back through them
            dgamma, dbeta = like(u, 0.0), like(u, 0.0)
        arena[delta + at] = pulled_back(
            u, arena[h + at], parameters[gamma + j], scale, ratio, dgamma, dbeta,
            like(u, 1.0 / rows),
        )  # fmt: skip


@device
def settle(
    net: Any, gradient: Any, layer: int, lo: int, hi: int, rows: int, training: bool, pair: bool,
    alone: bool, part: int, parts: int, shared: Any,
) -> None:  # fmt: skip
    """D of a layer from dL/d(output), or dL/dU where `pair`, to dL/dZ."""
    plan, reals, parameters, running, arena, masks = net
    n, ld, delta = plan[layer, N], plan[layer, LD], plan[layer, D]
    by_row = plan[layer, ACT] == SOFTMAX and not pair
    plain = plan[layer, BN] != BN_AFTER and not by_row
    if not pair:
        element_wise(net, layer, lo, hi, True, plain, training, part, parts)
    if plan[layer, BN] == BN_AFTER:
        normalize_backward(net, gradient, layer, lo, hi, rows, training, alone, part, parts, shared)
        if not (pair or by_row):
            element_wise(net, layer, lo, hi, False, True, training, part, parts)
    if by_row:
        gather_team(alone)
        softmax_slope_rows(
            arena, delta, ld, arena, plan[layer, F], ld, arena, delta, ld, lo, hi, n, part, parts,
            shared,
        )  # fmt: skip
    if plan[layer, BN] == BN_BEFORE:
        normalize_backward(net, gradient, layer, lo, hi, rows, training, alone, part, parts, shared)
    gather_team(alone)


def _make(real: Any) -> Any:
    side, tile = sides[real], tiles[real]

    @device
    def backward_rows(
        net: Any, gradient: Any, lo: int, hi: int, rows: int, training: bool, from_logits: bool,
        by_rows: bool, alone: bool, part: int, parts: int, shared: Any,
    ) -> None:  # fmt: skip
        """dL/dZ of every layer, rows [lo, hi); the last layer's D holds dL/dA (or dL/dZ)."""
        plan, reals, parameters, running, arena, masks = net
        last = plan.shape[0] - 1
        for back in range(last + 1):
            layer = last - back
            pair = from_logits and layer == last
            done = layer < last and is_simple(plan, layer)
            if not (done or (pair and plan[layer, BN] == BN_NONE)):
                settle(
                    net, gradient, layer, lo, hi, rows, training, pair, alone, part, parts, shared
                )
            if layer == 0:
                continue
            below = layer - 1
            m, n, ld = plan[layer, M], plan[layer, N], plan[layer, LD]
            low_ld, simple = plan[below, LD], is_simple(plan, below)
            s = _SMALL if by_rows else side(rows, m)
            across = (m + s - 1) // s
            for index in range(part, (hi - lo + s - 1) // s * across, parts):
                i0, j0 = lo + index // across * s, index % across * s
                corner = plan[below, D] + i0 * low_ld + j0
                tile(
                    s, arena, plan[layer, D] + i0 * ld, ld, 1, parameters, plan[layer, W] + j0 * n,
                    n, 1, arena, corner, low_ld, hi - i0, m - j0, n, shared,
                )  # fmt: skip
                if not simple:
                    continue
                for e in range(thread(), s * s, THREADS):
                    i, j = cell(e, s, i0, j0)
                    if i < hi and j < m:
                        at = i * low_ld + j
                        d = undropped(net, below, at, arena[plan[below, D] + at], training)
                        arena[plan[below, D] + at] = sloped(net, below, at, d)
            gather_team(alone)

    return backward_rows


passes = {real: _make(real) for real in (np.float32, np.float64)}
