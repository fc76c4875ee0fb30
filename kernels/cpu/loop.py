"""The compiled loop: many training steps in one call, by T threads that run it side by side.

A step is: gather the batch, forward, loss, backward (each thread its own rows of the batch), one
meeting, gradient and update (each thread its own rows of every W), one meeting; batch norm and a
large W, whose columns threads share, bring more (`forward.py`). Every element has one owner and one
order of summation, so the bits do not depend on T.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..layout import BF16, IN, IN_LD, LD, D, M, N, O, W, Z
from . import backward, forward, learn
from .barrier import barrier
from .bodies import (
    loss_gradient_rows,
    loss_rows,
    pair_rows,
    perturb_rows,
    prepare_rates,
)
from .jit import inline, serial
from .memory import address, flush_denormals, restore_mode, segment, window
from .prefetch import prefetch
from .ranks import RANKS, over_ranks, own_rows
from .samples import ask_for, copy_row, finite_row, unpack_row
from .scratch import constants_of
from .shares import FLAT, SAMPLES, row_of, share
from .table import compiled_loop, reached

forward_rows = reached(forward.forward_rows, "iiiii JGM VVV uI iii bb V iiII")
backward_rows = reached(backward.backward_rows, "iiiii JG VVV uI bb V iI")
learn_fused = reached(learn.learn_fused, "iii J VVMV iV fff V")
learn_whole = reached(learn.learn_whole, "iii J VVMV iV ffff b GFI V bu")

# What a call does with each batch.
TRAIN, GRADIENT, LOSS = range(3)
# Entries of `settings` (int64) and of `factors` (float64).
(
    MODE, TRAINING, LOSS_CODE, FROM_LOGITS, MEAN, CODE, SEED, EPOCH, FIRST_STEP, FIRST_UPDATE,
    RECORD, TARGETS, TARGETS_LD, LABELLED, SCREEN, HEEDLESS,
) = range(16)  # fmt: skip
SETTINGS: Final = 16
L2, DECOUPLED, CLIP_VALUE, CLIP_NORM, NOISE, SHARED_L2, LEAST, MOST = range(8)
HYPER: Final = 8  # the optimizer's four constants start here
TOTAL: Final = HYPER + 4
"""Sum of the weights of the batch, of all ranks; less than 0: to be summed."""
FACTORS: Final = 13
# Entries of `results` (float64).
LOSS_SUM, WEIGHT_SUM, LAST_LOSS, STEPS, ROWS_LOSS, ROWS_SQUARES = range(6)
RESULTS: Final = 6


@serial
def run_steps(
    t: int, T: int, plans: Any, reals: Any, settings: Any, factors: Any, X: Any, labels: Any,
    targets: Any, weights: Any, order: Any, bounds: Any, rates: Any, parameters: Any,
    gradient: Any, state: Any, running: Any, arena: Any, masks: Any, losses: Any, unit: Any,
    figures: Any, partial: Any, results: Any, scratches: Any, sync: Any, columns: Any, starts: Any,
    world: Any, asked: Any,
) -> int:  # fmt: skip
    """Steps 0.. of `bounds`: step s takes samples order[bounds[s]:bounds[s + 1]] at rate rates[s].

    Of each batch this rank of `world` takes its rows (`ranks.py`), and the sums that `results`
    gathers are of them.

    X holds a sample a row; where `starts` is not empty, it holds the values of a sparse matrix
    (CSR): sample i has values starts[i]:starts[i + 1], in these `columns`.

    `plans` is the plan twice, with two places for a batch's inputs. Several threads take them by
    turns: each claims its rows of the next while it multiplies those of this one.

    `asked`: for each row two addresses to prefetch, of the next batch's sample, and of the place
    that it will be copied to (0: none), prefetched for writing.

    With SCREEN a row that holds NaN or inf makes its batch's loss NaN.

    Returns the number of steps done; fewer than asked where a batch's loss was not finite, and
    then that step has changed nothing (HEEDLESS goes on, as scikit-learn does). results gathers the
    weighted losses and their weights; and by rows, as scikit-learn reports them, each batch's mean
    loss and, with SHARED_L2, the squares of its weights W.
    """
    mode = flush_denormals()
    scratch = segment(scratches, t * scratches.shape[1], scratches.shape[1])
    training = settings[TRAINING] != 0
    from_logits = settings[FROM_LOGITS] != 0
    train = settings[MODE] == TRAIN
    steps = bounds.size - 1
    layers, fields = plans.shape[0] // 2, plans.shape[1]
    by_turns = T > 1 and starts.size == 0 and plans[0, BF16] == 0
    for s in range(steps):
        turn = s % 2 if by_turns else 0
        plan = window(plans, turn * layers * fields, layers, fields)
        other = plans[(1 - turn) * layers, IN] if by_turns else -1
        whole = bounds[s + 1] - bounds[s]
        first, last = own_rows(world, whole)
        start, rows = bounds[s] + first, last - first
        lo, hi = share(rows, SAMPLES, t, T)
        batch_weights, scale = gather(
            settings, factors, row_of(plan, 0), X, labels, targets, weights, order, start, rows,
            arena, settings[FIRST_STEP] + s, unit, lo, hi, columns, starts, first, whole, asked,
            other,
        )  # fmt: skip
        forward_rows(
            t, T, rows, lo, hi, plan, reals, window(arena, plan[0, IN], rows, plan[0, IN_LD]),
            parameters, running, arena, masks, sync, settings[SEED], settings[EPOCH],
            settings[FIRST_STEP] + s, training, from_logits, scratch, first, whole, world,
            segment(asked, 0, 2 * rows if starts.size == 0 else 0),
        )  # fmt: skip
        measure(
            settings, factors, row_of(plan, plan.shape[0] - 1), rows, arena, batch_weights, scale,
            losses, lo, hi,
        )  # fmt: skip
        if settings[SCREEN] != 0:
            screen(row_of(plan, 0), rows, arena, losses, lo, hi)
        if settings[MODE] != LOSS:
            backward_rows(
                t, T, rows, lo, hi, plan, reals, parameters, gradient, arena, masks, sync,
                training, from_logits, scratch, whole, world,
            )  # fmt: skip
        blocks = 0
        if factors[SHARED_L2] > 0:
            blocks = square_blocks(t, T, plan, parameters, partial)
        barrier(sync, T)
        loss = ordered_sum(losses, rows)
        # Before the ranks meet: behind that the other threads go on, and write into `partial`.
        squares = ordered_sum(partial, blocks)
        together, total = world[RANKS] > 1, gradient
        if together:
            own = segment(parameters, 0, parameters.size if train and T > 1 else 0)
            learn.form_gradient(t, T, rows, plan, gradient, arena, scratch, own)
            clipped = factors[CLIP_VALUE] > 0 or factors[CLIP_NORM] > 0
            total, failed = over_ranks(t, T, world, plan, gradient, loss, clipped, sync)
            loss += failed
        if t == 0:
            results[LAST_LOSS] = loss * scale
        if train and settings[HEEDLESS] == 0 and not np.isfinite(loss):
            restore_mode(mode)
            return s
        if t == 0:
            tally(results, rows, loss, scale, batch_weights, squares)
        if train:
            improve(
                t, T, s, steps, rows, whole, plan, reals, settings, factors, rates[s], parameters,
                total, state, running, arena, masks, figures, partial, scratch, sync, scale,
                together,
            )  # fmt: skip
        elif settings[MODE] == GRADIENT:
            learn.form_gradient(
                t, T, rows, plan, gradient, arena, scratch, segment(parameters, 0, 0)
            )
        barrier(sync, T)
        if t == 0:
            results[STEPS] += 1  # the caller reads it where an interrupt took the return value
    restore_mode(mode)
    return steps


ARGUMENTS: Final = {
    "plans": "J", "reals": "G", "settings": "I", "factors": "F", "X": "M", "labels": "I",
    "targets": "M", "weights": "V", "order": "I", "bounds": "I", "rates": "F", "parameters": "V",
    "gradient": "V", "state": "M", "running": "V", "arena": "V", "masks": "u", "losses": "F",
    "unit": "V", "figures": "G", "partial": "F", "results": "F", "scratches": "M", "sync": "I",
    "columns": "c", "starts": "I", "world": "I", "asked": "I",
}  # fmt: skip
"""What `run_steps` takes behind t and T, and the letters of their types (`table.py`)."""
compiled_loop(run_steps, "ii" + "".join(ARGUMENTS.values()))


@inline
def tally(results: Any, rows: int, loss: float, scale: float, weights: Any, squares: float) -> None:
    """Add a batch to `results`: its losses and weights, and by rows its mean and its squares."""
    results[LOSS_SUM] += loss
    results[WEIGHT_SUM] += ordered_sum(weights, rows)
    results[ROWS_LOSS] += rows * (loss * scale)
    results[ROWS_SQUARES] += rows * (squares * scale)


@inline
def square_blocks(t: int, T: int, plan: Any, parameters: Any, partial: Any) -> int:
    """Sums of the squares of every W, in blocks that the threads share; how many blocks."""
    at = 0
    for layer in range(plan.shape[0]):
        size = plan[layer, M] * plan[layer, N]
        first = plan[layer, W]
        blocks = (size + FLAT - 1) // FLAT
        room = segment(partial, at, blocks)
        learn.blocked_square_sums(parameters, first, first + size, room, t, T)
        at += blocks
    return at


@inline
def gather(
    settings: Any, factors: Any, p: Any, X: Any, labels: Any, targets: Any, weights: Any,
    order: Any, start: int, rows: int, arena: Any, step: int, unit: Any, lo: int, hi: int,
    columns: Any, starts: Any, first: int, whole: int, asked: Any, other: int,
) -> Any:  # fmt: skip
    """Copy the samples [lo, hi) of the batch at `start` into the arena; its weights and scale.

    Those in their places of the next batch, which lie anywhere in memory, are asked for: by the
    first layer's product, which finds them in `asked`; here, where that is of bfloat16. If `other`
    is not negative, their rows there in the arena are claimed.

    `unit` holds ones, then room for a batch of gathered weights. scale is what the sum of weighted
    losses is multiplied by: 1 / sum of the weights for the mean, 1 for the sum. They are the rows
    from `first` on of a batch of `whole` rows, whose weights are summed (or given, as TOTAL).
    """
    m, k = p[M], targets.shape[1]
    into = window(arena, p[IN], rows, p[IN_LD])
    wanted = window(arena, settings[TARGETS], rows, settings[TARGETS_LD])
    for i in range(lo, hi):
        sample = order[start + i]
        if starts.size > 0:
            unpack_row(X, columns, starts, sample, into, i, m)
        else:
            ahead = start + i + whole
            following = order[ahead] if ahead < order.size else sample
            prefetch(labels, following)
            asked[2 * i] = address(X, following * m)
            asked[2 * i + 1] = address(arena, other + i * p[IN_LD]) if other >= 0 else 0
            if p[BF16] != 0:
                ask_for(X, following, m)
            copy_row(X, sample, into, i, m)
        y = segment(wanted, i * settings[TARGETS_LD], k)
        if settings[LABELLED] != 0:
            for j in range(k):
                y[j] = 0
            label = labels[sample]
            if 0 <= label < k:
                y[label] = 1
            else:
                y[0] = np.nan  # changed since it was looked at: the loss tells
        else:
            source = segment(targets, sample * k, k)
            for j in range(k):
                y[j] = source[j]
    if factors[NOISE] > 0:
        perturb_rows(into, factors[NOISE], settings[SEED], settings[EPOCH], step, first, lo, hi, m)
    half = unit.size // 2
    batch_weights = segment(unit, 0, rows)
    total = factors[TOTAL]
    if weights.size == 0:
        total = float(whole) if total < 0 else total
    else:  # every thread adds up all of them, and gathers its own
        batch_weights = segment(unit, half, rows)
        if total < 0:
            total = 0.0
            for i in range(whole):
                total += weights[order[start - first + i]]
        for i in range(lo, hi):
            batch_weights[i] = weights[order[start + i]]
    if settings[MEAN] == 0:
        return batch_weights, 1.0
    return batch_weights, 1.0 / total if total > 0 else 0.0


@inline
def measure(
    settings: Any, factors: Any, p: Any, rows: int, arena: Any, weights: Any, scale: float,
    losses: Any, lo: int, hi: int,
) -> None:  # fmt: skip
    """Losses of the rows [lo, hi) and what the backward pass starts from."""
    n, ld = p[N], p[LD]
    delta, output = window(arena, p[D], rows, ld), window(arena, p[O], rows, ld)
    wanted = window(arena, settings[TARGETS], rows, settings[TARGETS_LD])
    if settings[FROM_LOGITS] != 0:
        logits = window(arena, p[Z], rows, ld)
        pair_rows(
            settings[LOSS_CODE], logits, output, wanted, weights, scale, factors[LEAST],
            factors[MOST], losses, delta, lo, hi, n,
        )  # fmt: skip
        return
    loss_rows(settings[LOSS_CODE], output, wanted, weights, losses, lo, hi, n)
    if settings[MODE] != LOSS:
        loss_gradient_rows(settings[LOSS_CODE], output, wanted, weights, scale, delta, lo, hi, n)


@inline
def screen(p: Any, rows: int, arena: Any, losses: Any, lo: int, hi: int) -> None:
    """NaN for the loss of a row [lo, hi) of the batch that holds NaN or inf."""
    source = window(arena, p[IN], rows, p[IN_LD])
    for i in range(lo, hi):
        if not finite_row(source, i, p[M]):
            losses[i] = np.nan


@inline
def improve(
    t: int, T: int, s: int, steps: int, rows: int, whole: int, plan: Any, reals: Any,
    settings: Any, factors: Any, rate: float, parameters: Any, gradient: Any, state: Any,
    running: Any, arena: Any, masks: Any, figures: Any, partial: Any, scratch: Any, sync: Any,
    scale: float, formed: bool,
) -> None:  # fmt: skip
    """What training does with a batch whose loss is finite: statistics, gradient, update.

    formed: the gradient of the batch is there already, summed over the ranks.
    """
    code, constants = settings[CODE], constants_of(scratch)
    forward.follow_statistics(t, T, whole, plan, reals, running, arena)
    step = settings[FIRST_UPDATE] + s + 1
    prepare_rates(code, segment(factors, HYPER, 4), rate, step, constants)
    l2, shrink = factors[L2] + factors[SHARED_L2] * scale, 1.0 - rate * factors[DECOUPLED]
    record = settings[RECORD] != 0 and s == steps - 1
    if record or factors[CLIP_NORM] > 0 or formed:
        learn_whole(
            t, T, rows, plan, parameters, gradient, state, arena, code, constants, l2, shrink,
            factors[CLIP_VALUE], factors[CLIP_NORM], record, figures, partial, sync, scratch,
            formed, masks,
        )  # fmt: skip
    else:
        learn_fused(
            t, T, rows, plan, parameters, gradient, state, arena, code, constants, l2, shrink,
            factors[CLIP_VALUE], scratch,
        )  # fmt: skip


@inline
def ordered_sum(x: Any, size: int) -> float:
    """Sum of x[:size] in float64, in the order of the samples."""
    total = 0.0
    for i in range(size):
        total += x[i]
    return total
