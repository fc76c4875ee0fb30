"""Many steps in one launch: a cooperative kernel whose blocks meet between phases.

A step is a list of phases, and each layer's three are products: forward, first layer to last, and
the loss; backward, last to first; gradient and update of all layers (the next batch is gathered
meanwhile). One loop runs them, so that the code of a product is there once: a multiprocessor
fetches code that its cache has no room for at 0.2 us a KB.

All blocks share a layer's tiles and meet between phases. From the layer TAIL on, where layers are
narrow, a block takes its own rows alone up to the loss and back, and meets no other in between.
Every element has one owner and one order of summation, whatever the number of blocks.
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
from .backward import backward_finish, settle
from .forward import after_product, follow_statistics, forward_finish
from .gather import finite, gather_dense, gather_sparse, gather_targets, gather_weights
from .learn import CHUNK, apply_whole, learn_rest, square_chunks, sum_of, weight_finish
from .loss import families
from .machine import (
    block,
    blocks,
    device,
    kernel,
    shared_doubles,
    shared_reals,
    thread,
    together,
)
from .phases import (
    A0,
    A0_ODD,
    ACROSS,
    AI,
    AK,
    B0,
    BACKWARD,
    BIAS,
    BITS,
    BJ,
    BK,
    DROPS,
    EMPTY,
    ENTRIES,
    FORWARD,
    HEIGHT,
    KIND,
    LAYER,
    LENGTH,
    OF_BATCH,
    OTHER,
    PAIR,
    PLAIN,
    RESULT,
    RESULT_LD,
    SIDE,
    SPECIAL,
    THIRD,
    TURN,
    TURN_REST,
    UPDATE,
    WIDTH,
)
from .phases import CODE as FUNCTION
from .product import tile_of
from .reduce import block_total
from .team import everyone, first_of, gather_team, turn
from .tiles import SMALL, THREADS
from .update import STRIDE, rates_at

INFER: Final = 3
"""A mode beyond the CPU's: outputs alone."""
# Entries of `settings` (int64) and of `factors` (float64).
(
    MODE, TRAINING, LOSS_CODE, FROM_LOGITS, MEAN, CODE, SEED, EPOCH, FIRST_STEP, STEP_COUNT,
    RECORD, TARGETS, OTHER_TARGETS, TARGETS_LD, LABELLED, SCREEN, HEEDLESS, ORDERED, WEIGHTED,
    WEIGHTS, OTHER_WEIGHTS, INPUTS, OTHER_INPUTS, TAIL, SIZE, STATE_SIZE, SPARSE, SQUARES,
    STAMP, LOGITS, OUTPUTS, ROWS, MOST_ROWS, NORMS,
) = range(34)  # fmt: skip
SETTINGS: Final = 34
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


@device
def finish(job: Any, i: int, j: int, total: Any) -> None:
    """What becomes of an element of a phase's product."""
    kind, layer, net, facts, address, gradient, how, numbers, fused = job
    if kind == FORWARD:
        forward_finish(net, layer, facts, address, i, j, total)
    elif kind == BACKWARD:
        backward_finish(net, layer - 1, facts, i, j, total)
    else:
        weight_finish(gradient, how, numbers, facts[0] + i * facts[1] + j, fused, total)


@device
def measure(
    settings: Any, factors: Any, plan: Any, arena: Any, wanted: int, weights: int, scale: float,
    losses: Any, lo: int, hi: int, part: int, parts: int, shared: Any, loss_rows: Any,
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


def make(real: Any) -> Any:
    """The kernel of one dtype."""
    tile, loss_rows = tile_of(real, finish), families[real][3]

    @kernel
    def run_steps(
        plan: Any, reals: Any, table: Any, settings: Any, factors: Any, X: Any, labels: Any,
        targets: Any, weights: Any, order: Any, bounds: Any, constants: Any, parameters: Any,
        gradient: Any, state: Any, running: Any, running_size: int, arena: Any, masks: Any,
        losses: Any, bad: Any, partial: Any, figures: Any, results: Any, flags: Any, out: Any,
        columns: Any, starts: Any,
    ) -> None:  # fmt: skip
        """Steps 0.. of `bounds`; `results` counts those done and sums what they met."""
        together()
        shared, doubles = shared_reals(arena), shared_doubles()
        part, parts, layers = block(), blocks(), plan.shape[0]
        net, numbers = (plan, reals, parameters, running, arena, masks), (parameters, state)
        data = (X, labels, targets, weights, order, columns, starts)
        mode, steps, training = settings[MODE], settings[STEP_COUNT], settings[TRAINING] != 0
        tail = 0 if parts == 1 else settings[TAIL]
        phases = layers * (3 if mode == TRAIN or mode == GRADIENT else 1)
        code, size, clip_value = settings[CODE], settings[SIZE], factors[CLIP_VALUE]
        plain_l2, shared_l2, clips = factors[L2], factors[SHARED_L2], factors[CLIP_NORM] > 0
        seed, epoch, before = settings[SEED], settings[EPOCH], settings[FIRST_STEP]
        averaged, heeds = settings[MEAN] != 0, mode == TRAIN and settings[HEEDLESS] == 0
        follows, records = mode == TRAIN and settings[NORMS] != 0, settings[RECORD] != 0
        most_lo, most_hi = share_of(settings[MOST_ROWS], part, parts)
        first, going, done = part == 0 and thread() == 0, True, 0
        last_loss, loss_sum, weight_sum, rows_loss, rows_squares = 0.0, 0.0, 0.0, 0.0, 0.0
        for s in range(-1, steps):
            odd = s & 1 == 1
            start, rows, p = bounds[s if s > 0 else 0], 0, phases
            if s >= 0:
                rows, p = bounds[s + 1] - start, 0
            wanted = settings[OTHER_TARGETS if odd else TARGETS]
            place = settings[OTHER_WEIGHTS if odd else WEIGHTS]
            address = (seed, epoch, before + s)
            own_lo, own_hi = min(most_lo, rows), min(most_hi, rows)
            total, scale = 1.0, 1.0
            record = records and s == steps - 1
            whole = mode == TRAIN and (record or clips)
            fused = mode == TRAIN and not whole
            l2, chunks, joined = 0.0, 0, False
            rates = rates_at(constants, s * STRIDE if mode == TRAIN and s >= 0 else 0)
            while p < phases:
                at = p * ENTRIES
                kind, layer, special = table[at + KIND], table[at + LAYER], table[at + SPECIAL]
                alone = layer >= tail and kind != UPDATE
                lo, hi, own, owns = 0, rows, part, parts
                if alone:
                    lo, hi, own, owns = own_lo, own_hi, 0, 1
                pair = table[at + PAIR] != 0
                if kind == BACKWARD and special != 0:
                    settle(
                        net, gradient, layer, lo, hi, rows, training, pair, alone, own, owns, shared
                    )
                    joined = False
                how = (code, rates, size, l2, clip_value)
                facts = (
                    table[at + RESULT], table[at + RESULT_LD], table[at + OTHER],
                    table[at + THIRD], table[at + BIAS], table[at + FUNCTION], table[at + DROPS],
                    table[at + PLAIN],
                )  # fmt: skip
                job = (kind, layer, net, facts, address, gradient, how, numbers, fused)
                length = rows if table[at + LENGTH] == OF_BATCH else table[at + LENGTH]
                if kind == UPDATE:
                    hi = table[at + HEIGHT]
                side, bits, across = table[at + SIDE], table[at + BITS], table[at + ACROSS]
                width, a0 = table[at + WIDTH], table[at + (A0_ODD if odd else A0)]
                ai, ak, b0 = table[at + AI], table[at + AK], table[at + B0]
                bj, bk = table[at + BJ], table[at + BK]
                B = arena if kind == UPDATE else parameters
                down = (hi - lo + side - 1) >> bits
                if table[at + EMPTY] != 0:
                    down = 0
                # Tile by tile along a row of them: row and column follow without a division.
                item, i0, j0 = turn(own, owns, table[at + TURN]), lo, 0
                while item >= across and i0 < lo + (down << bits):
                    item -= across
                    i0 += side
                while i0 < lo + (down << bits):
                    j0 = item << bits
                    tile(side, job, arena, a0, ai, ak, B, b0, bj, bk, i0, j0, hi, width, length,
                         shared)  # fmt: skip
                    item += owns
                    while item >= across and i0 < lo + (down << bits):
                        item -= across
                        i0 += side
                if kind == FORWARD:
                    if special != 0:
                        after_product(
                            net, layer, lo, hi, rows, address, training, pair, alone, own, owns,
                            shared,
                        )  # fmt: skip
                    gather_team(alone)
                    if layer == layers - 1 and mode == INFER:
                        write_outputs(
                            settings, plan, arena, start, lo, hi, out, bad, s, flags, own, owns
                        )
                    elif layer == layers - 1:
                        total = total_weight(settings, arena, place, rows, doubles)
                        if averaged:
                            scale = 1.0 / total if total > 0 else 0.0
                        measure(
                            settings, factors, plan, arena, wanted, place, scale, losses, lo, hi,
                            own, owns, shared, loss_rows,
                        )  # fmt: skip
                        if shared_l2 > 0:
                            chunks = square_weights(
                                settings, plan, parameters, partial, part, parts, doubles
                            )
                        joined = not (alone and phases > layers)
                        gather_team(not joined)
                elif kind == BACKWARD:
                    if layer > 0 or not joined:
                        joined = not (alone and layer > tail)
                        gather_team(not joined)
                else:
                    learn_rest(
                        plan, layer, arena, gradient, how, numbers, rows, fused,
                        turn(part, parts, table[at + TURN_REST]), part, parts, shared,
                    )  # fmt: skip
                if mode != INFER and (
                    (kind == BACKWARD and layer == 0) or (phases == layers and p == layers - 1)
                ):
                    squares = 0.0
                    if shared_l2 > 0:
                        squares = sum_of(partial, settings[SQUARES], chunks, 1, doubles)
                    loss = total_loss(settings, losses, bad, s, rows, doubles)
                    last_loss = loss * scale
                    if heeds and not finite(loss):
                        going = False
                        break
                    loss_sum += loss
                    weight_sum += total
                    rows_loss += rows * last_loss
                    rows_squares += rows * (squares * scale)
                    l2 = plain_l2 + shared_l2 * scale
                    if follows:
                        follow_statistics(net, rows, part, parts)
                p += 1
            if not going:
                break
            if whole and s >= 0:
                how = (code, rates, size, l2, clip_value)
                everyone()
                apply_whole(
                    plan, arena, gradient, how, numbers, rows, factors[CLIP_NORM], record, partial,
                    figures, part, parts, doubles,
                )  # fmt: skip
            if s + 1 < steps:
                gather(settings, factors, plan, data, bounds, s + 1, arena, bad, part, parts)
            everyone()
            if s >= 0:
                done += 1
        if first:
            results[STEPS] += done
            results[LAST_LOSS] = last_loss
            results[LOSS_SUM] += loss_sum
            results[WEIGHT_SUM] += weight_sum
            results[ROWS_LOSS] += rows_loss
            results[ROWS_SQUARES] += rows_squares
        if mode == TRAIN:
            look_for_unfit(settings, parameters, running, running_size, state, flags, part, parts)

    return run_steps


kernels = {real: make(real) for real in (np.float32, np.float64)}


def chunks_of(layers: Any, size: int) -> tuple[int, int]:
    """Partial sums that the kernel needs: of a whole gradient's figures, and of all W's squares."""
    by_layer = sum(-(-layer.inputs * layer.units // CHUNK) for layer in layers)
    return max(3 * by_layer, -(-size // CHUNK)), by_layer
