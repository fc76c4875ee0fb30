"""The backward pass: dL/dZ of every layer, from the last to the first."""

from __future__ import annotations

from typing import Any

from .. import layout as L
from .activation import IDENTITY, SOFTMAX, needs_input, slope, softmax_slope_rows
from .batchnorm import pulled_back, ratio_of, scale_of, sums_columns
from .machine import device, like
from .team import U, first_of, four_at, pick, sync_team
from .tiles import THREADS


@device
def undropped(net: Any, layer: int, at: int, d: Any, training: bool) -> Any:
    """dL/dA before dropout; a dropped NaN stays visible."""
    plan, reals, parameters, running, arena, masks = net
    if training and plan[layer, L.DROP] != 0:
        keep = masks[plan[layer, L.MASK] + at] != 0
        d *= like(d, 1.0 / (1.0 - reals[layer, L.P_DROP]) if keep else 0.0)
    return d


@device
def sloped(net: Any, layer: int, at: int, d: Any) -> Any:
    """dL/dZ from dL/dA of an element-wise activation."""
    plan, reals, parameters, running, arena, masks = net
    code = plan[layer, L.ACT]
    if code == IDENTITY:
        return d
    return d * slope(code, arena[plan[layer, L.Z if needs_input(code) else L.F] + at])


@device
def element_wise(
    net: Any, layer: int, lo: int, hi: int, dropout: bool, derivative: bool, training: bool,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Rows [lo, hi) of D before dropout and times f', as asked."""
    plan, reals, parameters, running, arena, masks = net
    n, ld = plan[layer, L.N], plan[layer, L.LD]
    for e in range(first_of(part), (hi - lo) * n, parts * THREADS):
        at = (lo + e // n) * ld + e % n
        d = arena[plan[layer, L.D] + at]
        if dropout:
            d = undropped(net, layer, at, d, training)
        if derivative:
            d = sloped(net, layer, at, d)
        arena[plan[layer, L.D] + at] = d


@device
def normalize_backward(
    net: Any, gradient: Any, layer: int, lo: int, hi: int, rows: int, training: bool, alone: bool,
    part: int, parts: int, shared: Any,
) -> None:  # fmt: skip
    """Batch norm's backward pass in place: dgamma and dbeta by columns, then D by elements."""
    plan, reals, parameters, running, arena, masks = net
    n, ld, delta, h = plan[layer, L.N], plan[layer, L.LD], plan[layer, L.D], plan[layer, L.H]
    gamma, beta, variance = (
        plan[layer, L.GAMMA],
        plan[layer, L.BETA],
        plan[layer, L.STATS] + L.VARIANCE * n,
    )
    sync_team(alone)
    sums_columns(
        arena, delta, ld, arena, h, ld, gradient, gamma, gradient, beta, rows, n, part, parts,
        shared,
    )  # fmt: skip
    sync_team(alone)
    for e in range(first_of(part), (hi - lo) * n, parts * THREADS):
        j = e % n
        at = (lo + e // n) * ld + j
        u, v = arena[delta + at], arena[variance + j]
        scale = scale_of(v, reals[layer, L.EPS], plan[layer, L.FORM])
        ratio = ratio_of(v, reals[layer, L.EPS], plan[layer, L.FORM])
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
    n, ld, delta = plan[layer, L.N], plan[layer, L.LD], plan[layer, L.D]
    by_row = plan[layer, L.ACT] == SOFTMAX and not pair
    plain = plan[layer, L.BN] != L.BN_AFTER and not by_row
    if not pair:
        element_wise(net, layer, lo, hi, True, plain, training, part, parts)
    if plan[layer, L.BN] == L.BN_AFTER:
        normalize_backward(net, gradient, layer, lo, hi, rows, training, alone, part, parts, shared)
        if not (pair or by_row):
            element_wise(net, layer, lo, hi, False, True, training, part, parts)
    if by_row:
        sync_team(alone)
        softmax_slope_rows(
            arena, delta, ld, arena, plan[layer, L.F], ld, arena, delta, ld, lo, hi, n, part, parts,
            shared,
        )  # fmt: skip
    if plan[layer, L.BN] == L.BN_BEFORE:
        normalize_backward(net, gradient, layer, lo, hi, rows, training, alone, part, parts, shared)
    sync_team(alone)


@device
def backward_finish(net: Any, facts: Any, i: int, j: int, count: int, sums: Any) -> None:
    """dL/dZ from elements of dZ W^T, where each follows from that element alone."""
    plan, reals, parameters, running, arena, masks = net
    delta, ld, source, _, _, code, drops, curved, layer = facts
    at, known = i * ld + j, sums
    if curved != 0:
        known = four_at(arena, source + at, count)
    for q in range(count):
        d = pick(sums, q)
        if drops != 0:
            d = undropped(net, layer - 1, at + q, d, True)
        if curved != 0:
            d *= slope(code, pick(known, q))
        arena[U(delta + at + q)] = d
