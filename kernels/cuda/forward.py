"""The forward pass of a batch: tiles of each layer's product, finished while they are near.

`net` is (plan, reals, parameters, running, arena, masks); an address is (seed, epoch, step). The
rows [lo, hi) are a block's own (`alone`), or all blocks share all rows and meet between layers.
"""

from __future__ import annotations

from typing import Any

from .. import layout as L
from .activation import SOFTMAX, softmax_rows, value
from .batchnorm import scale_of, statistics_columns
from .machine import device, fma, like
from .places import LIMIT
from .random import kept
from .team import U, first_of, four_at, pick, sync_team
from .tiles import THREADS


@device
def emit(net: Any, layer: int, i: int, j: int, a: Any, address: Any, training: bool) -> None:
    """The layer's output at (i, j), dropped or scaled in training."""
    plan, reals, parameters, running, arena, masks = net
    at = i * plan[layer, L.LD] + j
    if training and plan[layer, L.DROP] != 0:
        seed, epoch, step = address
        keep = kept(i, j, plan[layer, L.N], plan[layer, LIMIT], step, epoch, layer, seed)
        masks[plan[layer, L.MASK] + at] = 1 if keep else 0
        a *= like(a, 1.0 / (1.0 - reals[layer, L.P_DROP]) if keep else 0.0)
    arena[plan[layer, L.O] + at] = a


@device
def forward_finish(
    net: Any, facts: Any, address: Any, i: int, j: int, count: int, sums: Any
) -> None:
    """Bias, activation and dropout of elements of A W; batch norm and softmax come later."""
    plan, reals, parameters, running, arena, masks = net
    logits, ld, values, outputs, bias, code, drops, plain, layer = facts
    at, b = i * ld + j, sums
    if bias >= 0:
        b = four_at(parameters, bias + j, count)
    for q in range(count):
        z = pick(sums, q)
        if bias >= 0:
            z += pick(b, q)
        if plain == 0 or logits != values:
            arena[U(logits + at + q)] = z
        if plain != 0:
            a = value(code, z)
            arena[U(values + at + q)] = a
            if drops != 0:
                emit(net, layer, i, j + q, a, address, True)
            elif outputs != values:
                arena[U(outputs + at + q)] = a


@device
def take_statistics(
    net: Any, layer: int, source: int, rows: int, training: bool, part: int, parts: int,
    shared: Any,
) -> None:  # fmt: skip
    """Mean and variance of the columns at `source`: the batch's, or the running ones."""
    plan, reals, parameters, running, arena, masks = net
    n = plan[layer, L.N]
    mean, variance = plan[layer, L.STATS] + L.MEAN * n, plan[layer, L.STATS] + L.VARIANCE * n
    if training:
        statistics_columns(
            arena, source, plan[layer, L.LD], arena, mean, arena, variance, rows, n, part, parts,
            shared,
        )  # fmt: skip
        return
    for j in range(first_of(part), n, parts * THREADS):
        arena[mean + j] = running[plan[layer, L.RUNNING] + j]
        arena[variance + j] = running[plan[layer, L.RUNNING] + n + j]


@device
def normalize(
    net: Any, layer: int, source: int, target: int, lo: int, hi: int, address: Any,
    training: bool, pair: bool, part: int, parts: int,
) -> None:  # fmt: skip
    """Batch norm of rows [lo, hi), and what follows it element by element."""
    plan, reals, parameters, running, arena, masks = net
    n, ld = plan[layer, L.N], plan[layer, L.LD]
    before = plan[layer, L.BN] == L.BN_BEFORE
    mean, variance = plan[layer, L.STATS] + L.MEAN * n, plan[layer, L.STATS] + L.VARIANCE * n
    for e in range(first_of(part), (hi - lo) * n, parts * THREADS):
        i, j = lo + e // n, e % n
        at = i * ld + j
        scale = scale_of(arena[variance + j], reals[layer, L.EPS], plan[layer, L.FORM])
        h = (arena[source + at] - arena[mean + j]) * scale
        arena[plan[layer, L.H] + at] = h
        u = fma(parameters[plan[layer, L.GAMMA] + j], h, parameters[plan[layer, L.BETA] + j])
        if not before:
            emit(net, layer, i, j, u, address, training)
            continue
        arena[target + at] = u
        if not (pair or plan[layer, L.ACT] == SOFTMAX):
            a = value(plan[layer, L.ACT], u)
            arena[plan[layer, L.F] + at] = a
            emit(net, layer, i, j, a, address, training)


@device
def emit_rows(
    net: Any, layer: int, lo: int, hi: int, address: Any, training: bool, part: int, parts: int
) -> None:
    """The outputs of rows [lo, hi) from f(Z)."""
    plan, reals, parameters, running, arena, masks = net
    n, ld = plan[layer, L.N], plan[layer, L.LD]
    for e in range(first_of(part), (hi - lo) * n, parts * THREADS):
        i, j = lo + e // n, e % n
        emit(net, layer, i, j, arena[plan[layer, L.F] + i * ld + j], address, training)


@device
def after_product(
    net: Any, layer: int, lo: int, hi: int, rows: int, address: Any, training: bool, pair: bool,
    alone: bool, part: int, parts: int, shared: Any,
) -> None:  # fmt: skip
    """Batch norm and softmax of a layer, which need whole columns or rows."""
    plan, reals, parameters, running, arena, masks = net
    n, ld, z, f = plan[layer, L.N], plan[layer, L.LD], plan[layer, L.Z], plan[layer, L.F]
    if plan[layer, L.BN] == L.BN_BEFORE:
        sync_team(alone)
        take_statistics(net, layer, z, rows, training, part, parts, shared)
        sync_team(alone)
        normalize(net, layer, z, z, lo, hi, address, training, pair, part, parts)
    if plan[layer, L.ACT] == SOFTMAX and not pair:
        sync_team(alone)
        softmax_rows(arena, z, ld, arena, f, ld, lo, hi, n, part, parts, shared)
        if plan[layer, L.BN] != L.BN_AFTER:
            sync_team(alone)
            emit_rows(net, layer, lo, hi, address, training, part, parts)
    if plan[layer, L.BN] == L.BN_AFTER:
        sync_team(alone)
        take_statistics(net, layer, f, rows, training, part, parts, shared)
        sync_team(alone)
        normalize(net, layer, f, f, lo, hi, address, training, pair, part, parts)


@device
def follow_statistics(net: Any, rows: int, part: int, parts: int) -> None:
    """The running statistics follow the batch's: once its loss is known to be finite."""
    plan, reals, parameters, running, arena, masks = net
    for layer in range(plan.shape[0]):
        if plan[layer, L.BN] == L.BN_NONE:
            continue
        n, at, to = plan[layer, L.N], plan[layer, L.STATS], plan[layer, L.RUNNING]
        weight = reals[layer, L.MOMENTUM]
        unbiased = weight * rows / (rows - 1 if rows > 1 else 1)
        for j in range(first_of(part), n, parts * THREADS):
            old = running[to + j]
            keep = like(old, 1.0 - weight)
            running[to + j] = fma(like(old, weight), arena[at + L.MEAN * n + j], keep * old)
            old = running[to + n + j]
            new = arena[at + L.VARIANCE * n + j]
            running[to + n + j] = fma(like(old, unbiased), new, keep * old)
