"""Many steps in one launch: a cooperative kernel whose blocks meet between phases.

A step is a list of phases (`step.py`); the next batch is gathered during its last ones.

All blocks share a layer's tiles and meet between phases. From the layer `Program.tail` on, where
layers are narrow, a block takes its own rows alone up to the loss and back, and meets no other in
between.
Every element has one owner and one order of summation, whatever the number of blocks.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..cpu.slots import LAST_LOSS, LOSS_SUM, ROWS_LOSS, ROWS_SQUARES, STEPS, TRAIN, WEIGHT_SUM
from . import slots as S
from .batch import gather
from .gather import look_for_unfit
from .learn import CHUNK, apply_whole
from .machine import (
    block,
    blocks,
    cooperative,
    device,
    kernel,
    shared_doubles,
    shared_integers,
    shared_reals,
    thread,
)
from .phases import ENTRIES, GRAIN, WINDOW
from .slots import FACTORS, SETTINGS  # by name: literals, to Numba
from .step import launch_facts, open_window, step_of
from .team import everyone
from .tiles import THREADS
from .update import STRIDE, rates_at

ROOM_FOR_PHASES: Final = WINDOW * ENTRIES


@device
def share_of(rows: int, part: int, parts: int) -> tuple[int, int, int, int]:
    """The rows of a block that works alone; of the blocks without any, which one it is (-1), and
    their number.
    """
    pieces = (rows + GRAIN - 1) // GRAIN
    before = pieces * part // parts
    lo, hi = before * GRAIN, pieces * (part + 1) // parts * GRAIN
    idle = part - before if hi == lo else -1
    return (lo if lo < rows else rows), (hi if hi < rows else rows), idle, parts - pieces


@device
def copy_all(source: Any, target: Any, size: int) -> None:
    """Into shared memory, by the block."""
    for e in range(thread(), size, THREADS):
        target[e] = source[e]


@device
def report(
    results: Any, done: int, last_loss: float, loss_sum: float, weight_sum: float,
    rows_loss: float, rows_squares: float,
) -> None:  # fmt: skip
    """What the launch's steps add to `results`."""
    results[STEPS] += done
    results[LAST_LOSS] = last_loss
    results[LOSS_SUM] += loss_sum
    results[WEIGHT_SUM] += weight_sum
    results[ROWS_LOSS] += rows_loss
    results[ROWS_SQUARES] += rows_squares


def make(real: Any) -> Any:
    """The kernel of one dtype."""
    step = step_of(real)

    @kernel
    def run_steps(
        plan: Any, reals: Any, table: Any, told: Any, told_reals: Any, X: Any, labels: Any,
        targets: Any, weights: Any, order: Any, bounds: Any, constants: Any, parameters: Any,
        gradient: Any, state: Any, running: Any, running_size: int, arena: Any, masks: Any,
        losses: Any, bad: Any, partial: Any, scratch: Any, figures: Any, results: Any, flags: Any,
        out: Any, columns: Any, starts: Any,
    ) -> None:  # fmt: skip
        """Steps 0.. of `bounds`; `results` counts those done and sums what they met.

        told, told_reals: settings and factors. Read from shared memory they cost no way to the L2
        cache, which each does again after a meeting.
        """
        cooperative()
        shared, doubles = shared_reals(arena), shared_doubles(THREADS)
        window = shared_integers(ROOM_FOR_PHASES)
        settings, factors = shared_integers(SETTINGS), shared_doubles(FACTORS)
        copy_all(told, settings, SETTINGS)
        copy_all(told_reals, factors, FACTORS)
        open_window(table, 0, told[S.PHASES], window)  # which meets before and after
        part, parts = block(), blocks()
        net = (plan, reals, parameters, running, arena, masks)
        data = (X, labels, targets, weights, order, columns, starts)
        launch = launch_facts(settings, factors)
        steps, train = settings[S.STEP_COUNT], settings[S.MODE] == TRAIN
        code, size, clip_value = settings[S.CODE], settings[S.SIZE], factors[S.CLIP_VALUE]
        plain_l2, shared_l2, clip_norm = factors[S.L2], factors[S.SHARED_L2], factors[S.CLIP_NORM]
        seed, epoch, before = settings[S.SEED], settings[S.EPOCH], settings[S.FIRST_STEP]
        most_lo, most_hi, idle, idles = share_of(settings[S.MOST_ROWS], part, parts)
        last_loss, loss_sum, weight_sum, rows_loss, rows_squares = 0.0, 0.0, 0.0, 0.0, 0.0
        done, fetched = 0, False
        for s in range(-1, steps):  # before the first step its batch is gathered
            if s >= 0:
                rows = bounds[s + 1] - bounds[s]
                own_lo = most_lo if most_lo < rows else rows
                own_hi = most_hi if most_hi < rows else rows
                record = settings[S.RECORD] != 0 and s == steps - 1
                whole = train and (record or clip_norm > 0)
                rates = rates_at(constants, s * STRIDE if train else 0)
                going, fetched, loss, total, scale, squares = step(
                    launch, net, data, bounds, table, window, settings, factors, s, steps, own_lo,
                    own_hi, idle, idles, (seed, epoch, before + s), rates, train and not whole,
                    gradient, state, losses, bad, partial, scratch, flags, out, shared, doubles,
                )  # fmt: skip
                last_loss = loss * scale
                if not going:
                    break
                loss_sum += loss
                weight_sum += total
                rows_loss += rows * last_loss
                rows_squares += rows * (squares * scale)
                if whole:
                    how = (code, rates, size, plain_l2 + shared_l2 * scale, clip_value)
                    everyone()
                    apply_whole(
                        plan, arena, masks, gradient, how, (parameters, state), rows, clip_norm,
                        record, partial, figures, part, parts, doubles,
                    )  # fmt: skip
            if s + 1 < steps and not fetched:
                gather(settings, factors, plan, data, bounds, s + 1, arena, bad, part, parts)
            everyone()
            done = s + 1
        if part == 0 and thread() == 0:
            report(results, done, last_loss, loss_sum, weight_sum, rows_loss, rows_squares)
        if train:
            look_for_unfit(settings, parameters, running, running_size, state, flags, part, parts)

    return run_steps


kernels = {real: make(real) for real in (np.float32, np.float64)}


def chunks_of(layers: Any, size: int) -> tuple[int, int]:
    """Partial sums that the kernel needs: of a whole gradient's figures, and of all W's squares."""
    by_layer = sum(-(-layer.inputs * layer.units // CHUNK) for layer in layers)
    return max(3 * by_layer, -(-size // CHUNK)), by_layer
