"""Many steps in one launch: a cooperative kernel whose blocks meet between phases.

A step is a list of phases (`phases.py`), and each layer's three are products: forward, first layer
to last, and the loss; backward, last to first; gradient and update of all layers (the next batch is
gathered meanwhile). One loop runs them, so that the code of a product is there once.

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
    LOSS_SUM,
    ROWS_LOSS,
    ROWS_SQUARES,
    STEPS,
    TRAIN,
    WEIGHT_SUM,
)
from . import phases as P
from . import slots as S
from .backward import backward_finish, settle
from .batch import (
    gather,
    measure,
    square_weights,
    total_loss,
    total_squares,
    write_outputs,
)
from .forward import after_product, follow_statistics, forward_finish
from .gather import finite, look_for_unfit
from .learn import CHUNK, apply_whole, learn_rest, weight_finish
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
from .product import tile_of
from .team import everyone, gather_team, turn
from .tiles import SMALL
from .update import STRIDE, rates_at

GRAIN: Final = SMALL.side


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
    if kind == P.FORWARD:
        forward_finish(net, layer, facts, address, i, j, total)
    elif kind == P.BACKWARD:
        backward_finish(net, layer - 1, facts, i, j, total)
    else:
        weight_finish(gradient, how, numbers, facts[0] + i * facts[1] + j, fused, total)


def form_of(real: Any) -> Any:
    """`form(...)`: a block's tiles of a phase's product."""
    tile = tile_of(real, finish)

    @device
    def form(
        table: Any, at: int, odd: bool, job: Any, arena: Any, parameters: Any, lo: int, hi: int,
        length: int, own: int, owns: int, shared: Any,
    ) -> None:  # fmt: skip
        """Those of rows [lo, hi) that are the own-th's of owns, each with all its terms."""
        bits, across = table[at + P.BITS], table[at + P.ACROSS]
        side = 1 << bits
        a0, ai, ak = table[at + (P.A0_ODD if odd else P.A0)], table[at + P.AI], table[at + P.AK]
        b0, bj, bk = table[at + P.B0], table[at + P.BJ], table[at + P.BK]
        B = arena if table[at + P.KIND] == P.UPDATE else parameters
        end = lo + ((hi - lo + side - 1) >> bits << bits)
        if across == 0:
            end = lo
        # Item by item along a row of tiles: its row and column follow without a division.
        item, i0 = turn(own, owns, table[at + P.TURN]), lo
        while i0 < end:
            if item >= across:
                item -= across
                i0 += side
            else:
                tile(
                    side, job, arena, a0, ai, ak, B, b0, bj, bk, i0, item << bits, hi,
                    table[at + P.WIDTH], length, shared,
                )  # fmt: skip
                item += owns

    return form


@device
def facts_of(table: Any, at: int) -> Any:
    """What `finish` has to know of a phase, in registers."""
    return (
        table[at + P.RESULT], table[at + P.RESULT_LD], table[at + P.OTHER], table[at + P.THIRD],
        table[at + P.BIAS], table[at + P.CODE], table[at + P.DROPS], table[at + P.PLAIN],
    )  # fmt: skip


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


@device
def told(settings: Any, factors: Any, layers: int) -> Any:
    """What a launch is told that all its steps have to know, in registers."""
    mode = settings[S.MODE]
    return (
        mode, settings[S.TRAINING] != 0, 0 if blocks() == 1 else settings[S.TAIL],
        layers * (3 if mode == TRAIN or mode == GRADIENT else 1),
        mode == TRAIN and settings[S.HEEDLESS] == 0, mode == TRAIN and settings[S.NORMS] != 0,
        settings[S.CODE], settings[S.SIZE], factors[S.CLIP_VALUE], factors[S.L2],
        factors[S.SHARED_L2],
    )  # fmt: skip


def step_of(real: Any) -> Any:
    """`step(...)`: all phases of one step."""
    form, loss_rows = form_of(real), families[real][3]

    @device
    def step(
        facts: Any, net: Any, table: Any, settings: Any, factors: Any, s: int, start: int,
        rows: int, own_lo: int, own_hi: int, address: Any, rates: Any, fused: bool, gradient: Any,
        state: Any, losses: Any, bad: Any, partial: Any, flags: Any, out: Any, shared: Any,
        doubles: Any,
    ) -> tuple[bool, float, float, float, float]:  # fmt: skip
        """Step s: whether it goes on from its loss, the loss, the batch's weight, what losses are
        multiplied by, and the squares of all W.

        facts: see `told`. own_lo, own_hi: this block's rows where it works alone.
        """
        (
            mode, training, tail, phases, heeds, follows, code, size, clip_value, plain_l2,
            shared_l2,
        ) = facts  # fmt: skip
        plan, reals, parameters, running, arena, masks = net
        part, parts, layers, odd = block(), blocks(), plan.shape[0], s & 1 == 1
        loss, total, scale, squares, l2, chunks, joined = 0.0, 0.0, 1.0, 0.0, 0.0, 0, False
        for p in range(phases):
            at = p * P.ENTRIES
            kind, layer = table[at + P.KIND], table[at + P.LAYER]
            special, pair = table[at + P.SPECIAL] != 0, table[at + P.PAIR] != 0
            alone = layer >= tail and kind != P.UPDATE
            lo, hi, own, owns = 0, rows, part, parts
            if alone:
                lo, hi, own, owns = own_lo, own_hi, 0, 1
            if kind == P.BACKWARD and special:
                settle(net, gradient, layer, lo, hi, rows, training, pair, alone, own, owns, shared)
                joined = False
            how, numbers = (code, rates, size, l2, clip_value), (parameters, state)
            job = (
                kind, layer, net, facts_of(table, at), address, gradient, how, numbers, fused,
            )  # fmt: skip
            length = rows if table[at + P.LENGTH] == P.OF_BATCH else table[at + P.LENGTH]
            if kind == P.UPDATE:
                hi = table[at + P.HEIGHT]
            form(table, at, odd, job, arena, parameters, lo, hi, length, own, owns, shared)
            if kind == P.FORWARD:
                if special:
                    after_product(
                        net, layer, lo, hi, rows, address, training, pair, alone, own, owns, shared
                    )
                gather_team(alone)
                if layer == layers - 1 and mode == S.INFER:
                    write_outputs(
                        settings, plan, arena, start, lo, hi, out, bad, s, flags, own, owns
                    )
                elif layer == layers - 1:
                    total, scale = measure(
                        settings, factors, plan, arena, s, rows, losses, lo, hi, own, owns, shared,
                        doubles, loss_rows,
                    )  # fmt: skip
                    if shared_l2 > 0:
                        chunks = square_weights(
                            settings, plan, parameters, partial, part, parts, doubles
                        )
                    joined = not (alone and phases > layers)
                    gather_team(not joined)
            elif kind == P.BACKWARD:
                if layer > 0 or not joined:
                    joined = not (alone and layer > tail)
                    gather_team(not joined)
            else:
                learn_rest(
                    plan, layer, arena, gradient, how, numbers, rows, fused,
                    turn(part, parts, table[at + P.TURN_REST]), part, parts, shared,
                )  # fmt: skip
            measured = p == layers - 1 if phases == layers else p == 2 * layers - 1
            if mode != S.INFER and measured:  # all blocks' losses are there
                squares = total_squares(settings, partial, chunks, doubles)
                loss = total_loss(settings, losses, bad, s, rows, doubles)
                if heeds and not finite(loss):
                    return False, loss, total, scale, squares
                l2 = plain_l2 + shared_l2 * scale
                if follows:
                    follow_statistics(net, rows, part, parts)
        return True, loss, total, scale, squares

    return step


def make(real: Any) -> Any:
    """The kernel of one dtype."""
    step = step_of(real)

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
        part, parts = block(), blocks()
        net = (plan, reals, parameters, running, arena, masks)
        data = (X, labels, targets, weights, order, columns, starts)
        facts = told(settings, factors, plan.shape[0])
        steps, train = settings[S.STEP_COUNT], settings[S.MODE] == TRAIN
        code, size, clip_value = settings[S.CODE], settings[S.SIZE], factors[S.CLIP_VALUE]
        plain_l2, shared_l2, clip_norm = factors[S.L2], factors[S.SHARED_L2], factors[S.CLIP_NORM]
        seed, epoch, before = settings[S.SEED], settings[S.EPOCH], settings[S.FIRST_STEP]
        most_lo, most_hi = share_of(settings[S.MOST_ROWS], part, parts)
        last_loss, loss_sum, weight_sum, rows_loss, rows_squares = 0.0, 0.0, 0.0, 0.0, 0.0
        done = 0
        for s in range(-1, steps):  # before the first step its batch is gathered
            if s >= 0:
                start, rows = bounds[s], bounds[s + 1] - bounds[s]
                own_lo = most_lo if most_lo < rows else rows
                own_hi = most_hi if most_hi < rows else rows
                record = settings[S.RECORD] != 0 and s == steps - 1
                whole = train and (record or clip_norm > 0)
                rates = rates_at(constants, s * STRIDE if train else 0)
                going, loss, total, scale, squares = step(
                    facts, net, table, settings, factors, s, start, rows, own_lo, own_hi,
                    (seed, epoch, before + s), rates, train and not whole, gradient, state, losses,
                    bad, partial, flags, out, shared, doubles,
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
                        plan, arena, gradient, how, (parameters, state), rows, clip_norm, record,
                        partial, figures, part, parts, doubles,
                    )  # fmt: skip
            if s + 1 < steps:
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
