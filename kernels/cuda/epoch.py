"""Many steps in one launch: a cooperative kernel whose blocks meet between phases.

A step is: forward, loss, backward, a meeting, gradient and update (the next batch is gathered
meanwhile), a meeting. With many narrow rows (BY_ROWS) a block takes its own rows from the first
layer to the last dL/dZ and meets no other in between; else all share each layer's tiles and meet
between layers. Every element has one owner and one order of summation, whatever the number of
blocks.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..cpu.epoch import (
    GRADIENT,
    LAST_LOSS,
    LOSS,
    LOSS_SUM,
    ROWS_LOSS,
    ROWS_SQUARES,
    STEPS,
    TRAIN,
    WEIGHT_SUM,
)
from ..layout import IN_LD, LD, D, M, N, O, W, Z
from . import backward, forward, learn
from .forward import follow_statistics
from .gather import finite, gather_dense, gather_sparse, gather_targets, gather_weights
from .learn import CHUNK, apply_whole, square_chunks, sum_of
from .loss import families
from .machine import block, blocks, device, kernel, meet, shared_doubles, shared_reals, thread
from .reduce import block_total
from .team import everyone, first_of
from .tiles import SMALL, THREADS
from .update import STRIDE

INFER: Final = 3
"""A mode beyond the CPU's: outputs alone."""
# Entries of `settings` (int64) and of `factors` (float64).
(
    MODE, TRAINING, LOSS_CODE, FROM_LOGITS, MEAN, CODE, SEED, EPOCH, FIRST_STEP, STEP_COUNT,
    RECORD, TARGETS, OTHER_TARGETS, TARGETS_LD, LABELLED, SCREEN, HEEDLESS, ORDERED, WEIGHTED,
    WEIGHTS, OTHER_WEIGHTS, INPUTS, OTHER_INPUTS, BY_ROWS, SIZE, STATE_SIZE, SPARSE, SQUARES,
    STAMP, LOGITS, OUTPUTS, ROWS,
) = range(32)  # fmt: skip
SETTINGS: Final = 32
L2, CLIP_VALUE, CLIP_NORM, NOISE, SHARED_L2, LEAST, MOST = range(7)
FACTORS: Final = 7
# Entries of `flags` (int64): whether something was met.
NOT_FINITE, UNFIT = range(2)
FLAGS: Final = 2
GRAIN: Final = SMALL.side


@device
def notes_of(settings: Any, s: int) -> int:
    """Where step s notes its unfit rows in `bad`: the next step's are noted meanwhile."""
    return settings[ROWS] if s % 2 == 1 else 0


@device
def gather(
    settings: Any, factors: Any, plan: Any, data: Any, bounds: Any, s: int, arena: Any, bad: Any,
    part: int, parts: int,
) -> None:  # fmt: skip
    """The batch of step s into the places whose turn it is."""
    X, labels, targets, weights, order, columns, starts = data
    odd = s % 2 == 1
    start, rows = bounds[s], bounds[s + 1] - bounds[s]
    inputs = settings[OTHER_INPUTS if odd else INPUTS]
    wanted = settings[OTHER_TARGETS if odd else TARGETS]
    step, epoch, seed = settings[FIRST_STEP] + s, settings[EPOCH], settings[SEED]
    m, ld, in_order = plan[0, M], plan[0, IN_LD], settings[ORDERED]
    sigma, stamp, notes = factors[NOISE], settings[STAMP] + s, notes_of(settings, s)
    if settings[SPARSE] != 0:
        gather_sparse(
            X, columns, starts, order, in_order, start, rows, arena, inputs, ld, m, sigma, step,
            epoch, seed, bad, notes, stamp, part, parts,
        )  # fmt: skip
    else:
        gather_dense(
            X, order, in_order, start, rows, arena, inputs, ld, m, sigma, step, epoch, seed, bad,
            notes, stamp, part, parts,
        )  # fmt: skip
    if settings[MODE] == INFER:
        return
    gather_targets(
        labels, settings[LABELLED], targets, order, in_order, start, rows, arena, wanted,
        settings[TARGETS_LD], settings[OUTPUTS], bad, notes, stamp, part, parts,
    )  # fmt: skip
    if settings[WEIGHTED] != 0:
        place = settings[OTHER_WEIGHTS if odd else WEIGHTS]
        gather_weights(weights, order, in_order, start, rows, arena, place, part, parts)


@device
def total_weight(settings: Any, arena: Any, place: int, rows: int, doubles: Any) -> float:
    """The sum of the batch's weights, by each block for itself."""
    if settings[WEIGHTED] == 0:
        return np.float64(rows)
    total = 0.0
    for i in range(thread(), rows, THREADS):
        total += np.float64(arena[place + i])
    return block_total(total, doubles)


@device
def total_loss(settings: Any, losses: Any, bad: Any, s: int, rows: int, doubles: Any) -> float:
    """The sum of the batch's losses, by each block for itself; NaN where SCREEN met a bad row."""
    total, notes = 0.0, notes_of(settings, s)
    for i in range(thread(), rows, THREADS):
        unfit = settings[SCREEN] != 0 and bad[notes + i] == settings[STAMP] + s
        total += np.nan if unfit else losses[i]
    return block_total(total, doubles)


@device
def write_outputs(
    settings: Any, plan: Any, arena: Any, start: int, lo: int, hi: int, out: Any, bad: Any,
    s: int, flags: Any, part: int, parts: int,
) -> None:  # fmt: skip
    """The outputs (or logits) of rows [lo, hi) into `out`, and whether a row was not finite."""
    last = plan.shape[0] - 1
    n, ld = plan[last, N], plan[last, LD]
    final = plan[last, Z if settings[LOGITS] != 0 else O]
    notes = notes_of(settings, s)
    for e in range(first_of(part), (hi - lo) * n, parts * THREADS):
        i, j = lo + e // n, e % n
        out[(start + i) * n + j] = arena[final + i * ld + j]
        if bad[notes + i] == settings[STAMP] + s:
            flags[UNFIT] = 1


@device
def look_for_unfit(
    settings: Any, parameters: Any, running: Any, running_size: int, state: Any, flags: Any,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Whether a parameter, a running statistic or an optimizer's row is not finite."""
    for e in range(first_of(part), settings[SIZE], parts * THREADS):
        if not finite(parameters[e]):
            flags[NOT_FINITE] = 1
    for e in range(first_of(part), running_size, parts * THREADS):
        if not finite(running[e]):
            flags[NOT_FINITE] = 1
    for e in range(first_of(part), settings[STATE_SIZE], parts * THREADS):
        if not finite(state[e]):
            flags[NOT_FINITE] = 1


@device
def square_weights(
    settings: Any, plan: Any, parameters: Any, partial: Any, part: int, parts: int, doubles: Any
) -> int:
    """Squares of every W in chunks; how many chunks."""
    count = 0
    for layer in range(plan.shape[0]):
        lo = plan[layer, W]
        hi = lo + plan[layer, M] * plan[layer, N]
        at = settings[SQUARES] + count
        count += square_chunks(parameters, lo, hi, partial, at, part, parts, doubles)
    return count


@device
def share_of(rows: int, part: int, parts: int) -> tuple[int, int]:
    """The rows of a block that works alone: whole tiles."""
    pieces = (rows + GRAIN - 1) // GRAIN
    lo, hi = pieces * part // parts * GRAIN, pieces * (part + 1) // parts * GRAIN
    return (lo if lo < rows else rows), (hi if hi < rows else rows)


def measure_of(real: Any) -> Any:
    """`measure` of one dtype."""
    loss_rows = families[real][3]

    @device
    def measure(
        settings: Any, factors: Any, plan: Any, arena: Any, wanted: int, weights: int,
        scale: float, losses: Any, lo: int, hi: int, part: int, parts: int, shared: Any,
    ) -> None:  # fmt: skip
        """Losses of the rows [lo, hi) and what the backward pass starts from."""
        last = plan.shape[0] - 1
        n, ld = plan[last, N], plan[last, LD]
        slopes = 0 if settings[MODE] == LOSS else 1
        loss_rows(
            settings[LOSS_CODE], settings[FROM_LOGITS], slopes, arena, plan[last, Z], ld, arena,
            wanted, settings[TARGETS_LD], arena, plan[last, O], ld, arena, plan[last, D], ld, arena,
            weights, settings[WEIGHTED], scale, factors[LEAST], factors[MOST], losses, lo, hi, n,
            part, parts, shared,
        )  # fmt: skip

    return measure


def backpropagate_of(real: Any) -> Any:
    """`backpropagate` of one dtype."""
    backward_rows = backward.passes[real]

    @device
    def backpropagate(
        settings: Any, net: Any, gradient: Any, lo: int, hi: int, rows: int, training: bool,
        by_rows: bool, alone: bool, part: int, parts: int, shared: Any,
    ) -> None:  # fmt: skip
        """Backward, after all losses' derivatives are there."""
        if alone:
            meet()
        else:
            everyone()
        backward_rows(
            net, gradient, lo, hi, rows, training, settings[FROM_LOGITS] != 0, by_rows, alone, part,
            parts, shared,
        )  # fmt: skip

    return backpropagate


def improve_of(real: Any) -> Any:
    """`improve` of one dtype."""
    weight_phase = learn.phases[real]

    @device
    def improve(
        settings: Any, factors: Any, net: Any, gradient: Any, state: Any, constants: Any, s: int,
        scale: float, source: int, rows: int, partial: Any, figures: Any, shared: Any,
        doubles: Any,
    ) -> None:  # fmt: skip
        """The weight phase of a training step."""
        plan, reals, parameters, running, arena, masks = net
        part, parts = block(), blocks()
        l2 = factors[L2] + factors[SHARED_L2] * scale
        how = (
            settings[CODE], constants, s * STRIDE, settings[SIZE], l2, factors[CLIP_VALUE],
        )  # fmt: skip
        record = settings[RECORD] != 0 and s == settings[STEP_COUNT] - 1
        whole = record or factors[CLIP_NORM] > 0
        follow_statistics(net, rows, part, parts)
        numbers = (parameters, state)
        weight_phase(
            plan, arena, source, gradient, how, numbers, rows, not whole, part, parts, shared
        )
        if whole:
            everyone()
            apply_whole(
                plan, arena, gradient, how, numbers, rows, factors[CLIP_NORM], record, partial,
                figures, part, parts, doubles,
            )  # fmt: skip

    return improve


def make(real: Any) -> Any:
    """The kernel of one dtype."""
    forward_rows, weight_phase = forward.passes[real], learn.phases[real]
    measure, backpropagate, improve = (
        of(real) for of in (measure_of, backpropagate_of, improve_of)
    )

    @kernel
    def run_steps(
        plan: Any, reals: Any, settings: Any, factors: Any, X: Any, labels: Any, targets: Any,
        weights: Any, order: Any, bounds: Any, constants: Any, parameters: Any, gradient: Any,
        state: Any, running: Any, running_size: int, arena: Any, masks: Any, losses: Any,
        bad: Any, partial: Any, figures: Any, results: Any, flags: Any, out: Any, columns: Any,
        starts: Any,
    ) -> None:  # fmt: skip
        """Steps 0.. of `bounds`; `results` counts those done and sums what they met."""
        shared, doubles = shared_reals(arena), shared_doubles()
        part, parts = block(), blocks()
        net = (plan, reals, parameters, running, arena, masks)
        data = (X, labels, targets, weights, order, columns, starts)
        mode, steps = settings[MODE], settings[STEP_COUNT]
        training, by_rows = settings[TRAINING] != 0, settings[BY_ROWS] != 0
        alone = by_rows or parts == 1
        first = part == 0 and thread() == 0
        gather(settings, factors, plan, data, bounds, 0, arena, bad, part, parts)
        everyone()
        for s in range(steps):
            odd = s % 2 == 1
            start, rows = bounds[s], bounds[s + 1] - bounds[s]
            source = settings[OTHER_INPUTS if odd else INPUTS]
            wanted = settings[OTHER_TARGETS if odd else TARGETS]
            place = settings[OTHER_WEIGHTS if odd else WEIGHTS]
            lo, hi, own, owns = 0, rows, part, parts
            if alone:
                lo, hi = share_of(rows, part, parts)
                own, owns = 0, 1
            address = (settings[SEED], settings[EPOCH], settings[FIRST_STEP] + s)
            to_logits = settings[FROM_LOGITS] != 0
            if mode == INFER:
                to_logits = settings[LOGITS] != 0
            forward_rows(
                net, source, lo, hi, rows, address, training, to_logits, by_rows, alone, own, owns,
                shared,
            )  # fmt: skip
            if mode == INFER:
                write_outputs(
                    settings, plan, arena, start, lo, hi, out, bad, s, flags,
                    own, owns,
                )  # fmt: skip
                if s + 1 < steps:
                    gather(settings, factors, plan, data, bounds, s + 1, arena, bad, part, parts)
                everyone()
                continue
            total = total_weight(settings, arena, place, rows, doubles)
            scale = 1.0
            if settings[MEAN] != 0:
                scale = 1.0 / total if total > 0 else 0.0
            measure(
                settings, factors, plan, arena, wanted, place, scale, losses, lo, hi, own, owns,
                shared,
            )  # fmt: skip
            if mode != LOSS:
                backpropagate(
                    settings, net, gradient, lo, hi, rows, training, by_rows, alone, own, owns,
                    shared,
                )  # fmt: skip
            chunks = 0
            if factors[SHARED_L2] > 0:
                chunks = square_weights(settings, plan, parameters, partial, part, parts, doubles)
            everyone()
            loss = total_loss(settings, losses, bad, s, rows, doubles)
            squares = 0.0
            if factors[SHARED_L2] > 0:
                squares = sum_of(partial, settings[SQUARES], chunks, 1, doubles)
            if first:
                results[LAST_LOSS] = loss * scale
            if mode == TRAIN and settings[HEEDLESS] == 0 and not finite(loss):
                break
            if first:
                results[LOSS_SUM] += loss
                results[WEIGHT_SUM] += total
                results[ROWS_LOSS] += rows * (loss * scale)
                results[ROWS_SQUARES] += rows * (squares * scale)
            if mode == TRAIN:
                improve(
                    settings, factors, net, gradient, state, constants, s, scale, source, rows,
                    partial, figures, shared, doubles,
                )  # fmt: skip
            elif mode == GRADIENT:
                how = (0, constants, 0, settings[SIZE], 0.0, 0.0)
                weight_phase(
                    plan, arena, source, gradient, how, (parameters, state), rows, False, part,
                    parts, shared,
                )  # fmt: skip
            if s + 1 < steps:
                gather(settings, factors, plan, data, bounds, s + 1, arena, bad, part, parts)
            everyone()
            if first:
                results[STEPS] += 1
        if mode == TRAIN:
            look_for_unfit(settings, parameters, running, running_size, state, flags, part, parts)

    return run_steps


kernels = {real: make(real) for real in (np.float32, np.float64)}


def chunks_of(layers: Any, size: int) -> tuple[int, int]:
    """Partial sums that the kernel needs: of a whole gradient's figures, and of all W's squares."""
    by_layer = sum(-(-layer.inputs * layer.units // CHUNK) for layer in layers)
    return max(3 * by_layer, -(-size // CHUNK)), by_layer
