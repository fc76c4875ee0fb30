"""One step as a loop over its phases (`phases.py`): a phase is a product and what goes with it.

Each layer's three are products: forward, first layer to last, and the loss; backward, last to
first; gradient and update of all layers. One loop runs them, so that the code of a product is there
once.
"""

from __future__ import annotations

from typing import Any

from ..cpu.epoch import GRADIENT, TRAIN
from . import phases as P
from . import slots as S
from .backward import backward_finish, settle
from .batch import measure, square_weights, total_loss, total_squares, write_outputs
from .forward import after_product, follow_statistics, forward_finish
from .gather import finite
from .learn import learn_rest, weight_finish
from .loss import families
from .machine import block, blocks, device
from .product import tile_of
from .team import gather_team, turn


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
    form, loss_rows = form_of(real), families[real][1]

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
