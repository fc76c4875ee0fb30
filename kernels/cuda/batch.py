"""A batch's way through a launch: gathered, its losses measured and summed, its outputs written."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import layout as L
from ..cpu.slots import LOSS
from . import slots as S
from .gather import gather_dense, gather_sparse, gather_targets, gather_weights
from .learn import square_chunks, sum_of
from .machine import device, thread
from .reduce import block_total
from .team import U, first_of
from .tiles import THREADS


@device
def notes_of(settings: Any, s: int) -> int:
    """Where step s notes its unfit rows in `bad`: the next step's are noted meanwhile."""
    return settings[S.ROWS] if s % 2 == 1 else 0


@device
def gather(
    settings: Any, factors: Any, plan: Any, data: Any, bounds: Any, s: int, arena: Any, bad: Any,
    part: int, parts: int,
) -> None:  # fmt: skip
    """The batch of step s into the places whose turn it is."""
    X, labels, targets, weights, order, columns, starts = data
    odd = s % 2 == 1
    start, rows = bounds[s], bounds[s + 1] - bounds[s]
    inputs = settings[S.OTHER_INPUTS if odd else S.INPUTS]
    wanted = settings[S.OTHER_TARGETS if odd else S.TARGETS]
    step, epoch, seed = settings[S.FIRST_STEP] + s, settings[S.EPOCH], settings[S.SEED]
    m, ld, in_order = plan[0, L.M], plan[0, L.IN_LD], settings[S.ORDERED]
    sigma, stamp, notes = factors[S.NOISE], settings[S.STAMP] + s, notes_of(settings, s)
    if settings[S.SPARSE] != 0:
        gather_sparse(
            X, columns, starts, order, in_order, start, rows, arena, inputs, ld, m, sigma, step,
            epoch, seed, bad, notes, stamp, part, parts,
        )  # fmt: skip
    else:
        gather_dense(
            X, order, in_order, start, rows, arena, inputs, ld, m, sigma, step, epoch, seed, bad,
            notes, stamp, part, parts,
        )  # fmt: skip
    if settings[S.MODE] == S.INFER:
        return
    gather_targets(
        labels, settings[S.LABELLED], targets, order, in_order, start, rows, arena, wanted,
        settings[S.TARGETS_LD], settings[S.OUTPUTS], bad, notes, stamp, part, parts,
    )  # fmt: skip
    if settings[S.WEIGHTED] != 0:
        place = settings[S.OTHER_WEIGHTS if odd else S.WEIGHTS]
        gather_weights(weights, order, in_order, start, rows, arena, place, part, parts)


@device
def total_weight(settings: Any, arena: Any, place: int, rows: int, doubles: Any) -> float:
    """The sum of the batch's weights, by each block for itself."""
    if settings[S.WEIGHTED] == 0:
        return np.float64(rows)
    total = 0.0
    for i in range(thread(), rows, THREADS):
        total += np.float64(arena[place + i])
    return block_total(total, doubles)


@device
def measure(
    settings: Any, factors: Any, plan: Any, arena: Any, s: int, rows: int, losses: Any, lo: int,
    hi: int, own: int, owns: int, shared: Any, doubles: Any, loss_rows: Any,
) -> tuple[float, float]:  # fmt: skip
    """Losses of the rows [lo, hi) of step s's batch and what the backward pass starts from.

    Returns the whole batch's weight, and what losses are multiplied by.
    """
    last, odd = plan.shape[0] - 1, s & 1 == 1
    n, ld = plan[last, L.N], plan[last, L.LD]
    wanted = settings[S.OTHER_TARGETS if odd else S.TARGETS]
    place = settings[S.OTHER_WEIGHTS if odd else S.WEIGHTS]
    slopes = 0 if settings[S.MODE] == LOSS else 1
    total, scale = total_weight(settings, arena, place, rows, doubles), 1.0
    if settings[S.MEAN] != 0:
        scale = 1.0 / total if total > 0 else 0.0
    loss_rows(
        settings[S.LOSS_CODE], settings[S.FROM_LOGITS], slopes, arena, plan[last, L.Z], ld, arena,
        wanted, settings[S.TARGETS_LD], arena, plan[last, L.O], ld, arena, plan[last, L.D], ld,
        arena, place, settings[S.WEIGHTED], scale, factors[S.LEAST], factors[S.MOST], losses, lo,
        hi, n, own, owns, shared,
    )  # fmt: skip
    return total, scale


@device
def of_fit(loss: float, note: int, unfit: int) -> float:
    """A row's loss; NaN of one that is noted as unfit."""
    return np.nan if note == unfit else loss


@device
def total_loss(settings: Any, losses: Any, bad: Any, s: int, rows: int, doubles: Any) -> float:
    """The sum of the batch's losses, by each block for itself; NaN where SCREEN met a bad row.

    Four rows' loads at once: each waits for the L2 cache, and 4,096 rows are 16 a thread.
    """
    total, notes, i = 0.0, notes_of(settings, s), thread()
    unfit = settings[S.STAMP] + s if settings[S.SCREEN] != 0 else S.NO_STAMP
    while i + 3 * THREADS < rows:
        j, k, m = i + THREADS, i + 2 * THREADS, i + 3 * THREADS
        a, b, c, d = losses[U(i)], losses[U(j)], losses[U(k)], losses[U(m)]
        e, f, g, h = bad[U(notes + i)], bad[U(notes + j)], bad[U(notes + k)], bad[U(notes + m)]
        total = (total + of_fit(a, e, unfit)) + of_fit(b, f, unfit)
        total, i = (total + of_fit(c, g, unfit)) + of_fit(d, h, unfit), m + THREADS
    while i < rows:
        loss, note = losses[U(i)], bad[U(notes + i)]
        total, i = total + of_fit(loss, note, unfit), i + THREADS
    return block_total(total, doubles)


@device
def square_weights(
    settings: Any, plan: Any, parameters: Any, partial: Any, part: int, parts: int, doubles: Any
) -> int:
    """Squares of every W in chunks; how many chunks."""
    count = 0
    for layer in range(plan.shape[0]):
        lo = plan[layer, L.W]
        hi = lo + plan[layer, L.M] * plan[layer, L.N]
        at = settings[S.SQUARES] + count
        count += square_chunks(parameters, lo, hi, partial, at, part, parts, doubles)
    return count


@device
def total_squares(settings: Any, partial: Any, chunks: int, doubles: Any) -> float:
    """The sum of all W's squares, of which `square_weights` left so many chunks; 0 of none."""
    return sum_of(partial, settings[S.SQUARES], chunks, 1, doubles) if chunks > 0 else 0.0


@device
def write_outputs(
    settings: Any, plan: Any, arena: Any, start: int, lo: int, hi: int, out: Any, bad: Any,
    s: int, flags: Any, part: int, parts: int,
) -> None:  # fmt: skip
    """The outputs (or logits) of rows [lo, hi) into `out`, and whether a row was not finite."""
    last = plan.shape[0] - 1
    n, ld = plan[last, L.N], plan[last, L.LD]
    final = plan[last, L.Z if settings[S.LOGITS] != 0 else L.O]
    notes = notes_of(settings, s)
    for e in range(first_of(part), (hi - lo) * n, parts * THREADS):
        i, j = lo + e // n, e % n
        out[(start + i) * n + j] = arena[final + i * ld + j]
        if bad[notes + i] == settings[S.STAMP] + s:
            flags[S.UNFIT] = 1
