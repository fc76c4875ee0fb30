"""The compiled loop: many training steps in one call, by T threads that run it side by side.

A step is: gather the batch, forward, loss, backward (each thread its own rows of the batch), one
meeting, gradient and update (each thread its own rows of every W), one meeting; batch norm and a
large W, whose columns threads share, bring more (`forward.py`). Every element has one owner and one
order of summation, so the bits do not depend on T.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..layout import BF16, IN, IN_LD, M, N, W
from ..tables import MOST_HYPER
from . import backward, forward, learn
from . import slots as S
from .barrier import barrier
from .batch import gather, measure, screen
from .bodies import prepare_rates
from .figures import blocked_square_sums
from .jit import inline, piece, serial
from .memory import flush_denormals, restore_mode, segment, window
from .ranks import RANKS, over_ranks, own_rows
from .scratch import constants_of
from .shares import FLAT, SAMPLES, row_of, share
from .table import compiled_loop, reached

forward_rows = reached(forward.forward_rows, "iiiii JGM VVV uI iii bb V iiII")
backward_rows = reached(backward.backward_rows, "iiiii JG VVV uI bb V iI")
learn_fused = reached(learn.learn_fused, "iii J VVMV iV fff V")
learn_whole = reached(learn.learn_whole, "iii J VVMV iV ffff b GFI V bu")


@serial
def run_steps(
    t: int, T: int, plans: Any, reals: Any, settings: Any, factors: Any, X: Any, labels: Any,
    targets: Any, weights: Any, order: Any, bounds: Any, rates: Any, parameters: Any,
    gradient: Any, state: Any, running: Any, arena: Any, masks: Any, losses: Any, weight_room: Any,
    figures: Any, partial: Any, results: Any, scratches: Any, sync: Any, columns: Any, starts: Any,
    world: Any, prefetched: Any,
) -> int:  # fmt: skip
    """Steps 0.. of `bounds`: step s takes samples order[bounds[s]:bounds[s + 1]] at rate rates[s].

    Of each batch this rank of `world` takes its rows (`ranks.py`), and the sums that `results`
    gathers are of them.

    X holds a sample a row; where `starts` is not empty, it holds the values of a sparse matrix
    (CSR): sample i has values starts[i]:starts[i + 1], in these `columns`.

    `plans` is the plan twice, with two places for a batch's inputs. Several threads take them by
    turns: each claims its rows of the next while it multiplies those of this one.

    `prefetched`: for each row two addresses, of the next batch's sample, and of the place that it
    will be copied to (0: none), which is prefetched for writing.

    With SCREEN a row that holds NaN or inf makes its batch's loss NaN.

    Returns the number of steps done; fewer than wanted where a batch's loss was not finite, and
    then that step has changed nothing (HEEDLESS goes on, as scikit-learn does). results gathers the
    weighted losses and their weights; and by rows, as scikit-learn reports them, each batch's mean
    loss and, with SHARED_L2, the squares of its weights W.
    """
    mode = flush_denormals()
    scratch = segment(scratches, t * scratches.shape[1], scratches.shape[1])
    training = settings[S.TRAINING] != 0
    from_logits = settings[S.FROM_LOGITS] != 0
    train = settings[S.MODE] == S.TRAIN
    steps = bounds.size - 1
    layers, fields = plans.shape[0] // 2, plans.shape[1]
    by_turns = T > 1 and starts.size == 0 and plans[0, BF16] == 0
    for s in range(steps):
        turn = s % 2 if by_turns else 0
        plan = window(plans, turn * layers * fields, layers, fields)
        other = plans[(1 - turn) * layers, IN] if by_turns else -1
        start, rows, first, whole = rows_of_step(s, bounds, world)
        lo, hi = share(rows, SAMPLES, t, T)
        batch_weights, scale = gather(
            settings, factors, row_of(plan, 0), X, labels, targets, weights, order, start, rows,
            arena, settings[S.FIRST_STEP] + s, weight_room, lo, hi, columns, starts, first, whole,
            prefetched, other,
        )  # fmt: skip
        forward_rows(
            t, T, rows, lo, hi, plan, reals, window(arena, plan[0, IN], rows, plan[0, IN_LD]),
            parameters, running, arena, masks, sync, settings[S.SEED], settings[S.EPOCH],
            settings[S.FIRST_STEP] + s, training, from_logits, scratch, first, whole, world,
            segment(prefetched, 0, 2 * rows if starts.size == 0 else 0),
        )  # fmt: skip
        measure(
            settings, factors, row_of(plan, plan.shape[0] - 1), rows, arena, batch_weights, scale,
            losses, lo, hi,
        )  # fmt: skip
        if settings[S.SCREEN] != 0:
            screen(row_of(plan, 0), rows, arena, losses, lo, hi)
        if settings[S.MODE] != S.LOSS:
            backward_rows(
                t, T, rows, lo, hi, plan, reals, parameters, gradient, arena, masks, sync,
                training, from_logits, scratch, whole, world,
            )  # fmt: skip
        total, loss, squares = batch_totals(
            t, T, rows, plan, factors, parameters, gradient, arena, losses, partial, scratch, sync,
            world, train,
        )  # fmt: skip
        if t == 0:
            results[S.LAST_LOSS] = loss * scale
        if train and settings[S.HEEDLESS] == 0 and not np.isfinite(loss):
            restore_mode(mode)
            return s
        if t == 0:
            tally(results, rows, loss, scale, batch_weights, squares)
        if train:
            train_on_batch(
                t, T, s, steps, rows, whole, plan, reals, settings, factors, rates[s], parameters,
                total, state, running, arena, masks, figures, partial, scratch, sync, scale,
                world[RANKS] > 1,
            )  # fmt: skip
        elif settings[S.MODE] == S.GRADIENT:
            learn.form_gradient(
                t, T, rows, plan, gradient, arena, scratch, segment(parameters, 0, 0)
            )
        barrier(sync, T)
        if t == 0:
            results[S.STEPS] += 1  # the caller reads it where an interrupt took the return value
    restore_mode(mode)
    return steps


ARGUMENTS: Final = {
    "plans": "J", "reals": "G", "settings": "I", "factors": "F", "X": "M", "labels": "I",
    "targets": "M", "weights": "V", "order": "I", "bounds": "I", "rates": "F", "parameters": "V",
    "gradient": "V", "state": "M", "running": "V", "arena": "V", "masks": "u", "losses": "F",
    "weight_room": "V", "figures": "G", "partial": "F", "results": "F", "scratches": "M",
    "sync": "I", "columns": "c", "starts": "I", "world": "I", "prefetched": "I",
}  # fmt: skip
"""What `run_steps` takes behind t and T, and the letters of their types (`table.py`)."""
compiled_loop(run_steps, "ii" + "".join(ARGUMENTS.values()))


@inline
def rows_of_step(s: int, bounds: Any, world: Any) -> tuple[int, int, int, int]:
    """Of step s: where this rank's rows begin in `order`, how many; the same in the batch."""
    whole = bounds[s + 1] - bounds[s]
    first, last = own_rows(world, whole)
    return bounds[s] + first, last - first, first, whole


@piece
def batch_totals(
    t: int, T: int, rows: int, plan: Any, factors: Any, parameters: Any, gradient: Any, arena: Any,
    losses: Any, partial: Any, scratch: Any, sync: Any, world: Any, train: bool,
) -> Any:  # fmt: skip
    """When all threads are there: the ranks' gradient, the loss, and the squares where they count.

    On one rank the gradient is still to be formed.
    """
    blocks = 0
    if factors[S.SHARED_L2] > 0:
        blocks = square_blocks(t, T, plan, parameters, partial)
    barrier(sync, T)
    # Before the ranks meet: behind that the other threads go on, and write into `partial`.
    squares = ordered_sum(partial, blocks)
    total, loss = gradient, ordered_sum(losses, rows)
    if world[RANKS] > 1:
        total, loss = agree(
            t, T, rows, plan, factors, parameters, gradient, arena, loss, scratch, sync, world,
            train,
        )  # fmt: skip
    return total, loss, squares


@inline
def agree(
    t: int, T: int, rows: int, plan: Any, factors: Any, parameters: Any, gradient: Any, arena: Any,
    loss: float, scratch: Any, sync: Any, world: Any, train: bool,
) -> Any:  # fmt: skip
    """The gradient of all ranks; this rank's sum of losses, NaN where a rank's is not finite."""
    own = segment(parameters, 0, parameters.size if train and T > 1 else 0)
    learn.form_gradient(t, T, rows, plan, gradient, arena, scratch, own)
    clipped = factors[S.CLIP_VALUE] > 0 or factors[S.CLIP_NORM] > 0
    total, failed = over_ranks(t, T, world, plan, gradient, loss, clipped, sync)
    return total, loss + failed


@inline
def tally(results: Any, rows: int, loss: float, scale: float, weights: Any, squares: float) -> None:
    """Add a batch to `results`: its losses and weights, and by rows its mean and its squares."""
    results[S.LOSS_SUM] += loss
    results[S.WEIGHT_SUM] += ordered_sum(weights, rows)
    results[S.ROWS_LOSS] += rows * (loss * scale)
    results[S.ROWS_SQUARES] += rows * (squares * scale)


@inline
def square_blocks(t: int, T: int, plan: Any, parameters: Any, partial: Any) -> int:
    """Sums of the squares of every W, in blocks that the threads share; how many blocks."""
    at = 0
    for layer in range(plan.shape[0]):
        size = plan[layer, M] * plan[layer, N]
        first = plan[layer, W]
        blocks = (size + FLAT - 1) // FLAT
        room = segment(partial, at, blocks)
        blocked_square_sums(parameters, first, first + size, room, t, T)
        at += blocks
    return at


@inline
def train_on_batch(
    t: int, T: int, s: int, steps: int, rows: int, whole: int, plan: Any, reals: Any,
    settings: Any, factors: Any, rate: float, parameters: Any, gradient: Any, state: Any,
    running: Any, arena: Any, masks: Any, figures: Any, partial: Any, scratch: Any, sync: Any,
    scale: float, formed: bool,
) -> None:  # fmt: skip
    """What training does with a batch whose loss is finite: statistics, gradient, update.

    formed: the gradient of the batch is there already, summed over the ranks.
    """
    code, constants = settings[S.CODE], constants_of(scratch)
    forward.follow_statistics(t, T, whole, plan, reals, running, arena)
    step = settings[S.FIRST_UPDATE] + s + 1
    prepare_rates(code, segment(factors, S.HYPER, MOST_HYPER), rate, step, constants)
    l2, shrink = factors[S.L2] + factors[S.SHARED_L2] * scale, 1.0 - rate * factors[S.DECOUPLED]
    record = settings[S.RECORD] != 0 and s == steps - 1
    if record or factors[S.CLIP_NORM] > 0 or formed:
        learn_whole(
            t, T, rows, plan, parameters, gradient, state, arena, code, constants, l2, shrink,
            factors[S.CLIP_VALUE], factors[S.CLIP_NORM], record, figures, partial, sync, scratch,
            formed, masks,
        )  # fmt: skip
    else:
        learn_fused(
            t, T, rows, plan, parameters, gradient, state, arena, code, constants, l2, shrink,
            factors[S.CLIP_VALUE], scratch,
        )  # fmt: skip


@inline
def ordered_sum(x: Any, size: int) -> float:
    """Sum of x[:size] in float64, in the order of the samples."""
    total = 0.0
    for i in range(size):
        total += x[i]
    return total
