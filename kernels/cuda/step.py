"""One step as a loop over its phases (`program.py`), each of which is a kind of work and a meeting.

Each layer's three products are phases of one kind, so that their code is there once.
"""

from __future__ import annotations

from typing import Any

from ..cpu.slots import TRAIN
from . import phases as P
from . import slots as S
from .backward import backward_finish, settle
from .batch import gather, measure, square_weights, total_loss, total_squares, write_outputs
from .direct import direct_of
from .forward import after_product, follow_statistics, forward_finish
from .gather import finite
from .learn import learn_biases, learn_four, learn_norm, sum_columns, weight_finish
from .loss import families
from .machine import block, blocks, device, shared_load, sync_block, thread
from .product import BACKWARD, FORWARD, UPDATE, all_tiles_of
from .team import divided, everyone, first_of, put_four, turn
from .tiles import THREADS


@device
def finish(job: Any, i: int, j: int, count: int, sums: Any) -> None:
    """What becomes of up to four neighbours in a row of a phase's product."""
    what, facts, context, aside = job
    net, address, gradient, how, numbers, fused, scratch = context
    if what == P.PARTIAL:
        put_four(scratch, aside + i * facts[1] + j, count, sums)
    elif what == FORWARD:
        forward_finish(net, facts, address, i, j, count, sums)
    elif what == BACKWARD:
        backward_finish(net, facts, i, j, count, sums)
    elif what == UPDATE:
        weight_finish(gradient, how, numbers, facts[0] + i * facts[1] + j, fused, count, sums)
    elif fused:
        learn_four(how, numbers, facts[0] + j, count, sums, False)
    else:
        put_four(gradient, facts[0] + j, count, sums)


@device
def open_window(table: Any, first: int, phases: int, window: Any) -> None:
    """The phases from `first` on into shared memory."""
    sync_block()
    left = (phases - first) * P.ENTRIES
    for e in range(thread(), P.WINDOW * P.ENTRIES, THREADS):
        if e < left:
            window[e] = table[first * P.ENTRIES + e]
    sync_block()


def form_of(real: Any) -> Any:
    """`form(...)`: a block's tiles of a phase's product."""
    tile = all_tiles_of(real, finish)

    @device
    def form(
        window: Any, at: int, odd: bool, context: Any, arena: Any, parameters: Any, lo: int,
        hi: int, rows: int, own: int, owns: int, shared: Any,
    ) -> None:  # fmt: skip
        """Those of rows [lo, hi) that are the own-th's of owns, each with all terms of its part."""
        across, parts = shared_load(window, at + P.ACROSS), shared_load(window, at + P.PARTS)
        tall, broad = shared_load(window, at + P.TALL), shared_load(window, at + P.BROAD)
        tiles = (hi - lo + (1 << tall) - 1 >> tall) * across
        item = turn(own, owns, shared_load(window, at + P.TURN))
        while item < tiles * parts:
            part, rest = divided(item, tiles) if parts > 1 else (0, item)
            y, x = divided(rest, across) if across > 1 else (rest, 0)
            i0, j0, span = lo + (y << tall), x << broad, shared_load(window, at + P.SPAN)
            k0, terms = part * span, shared_load(window, at + P.LENGTH)
            terms = (rows if terms == P.OF_BATCH else terms) - k0
            terms = terms if terms < span else span
            which, width = shared_load(window, at + P.WHICH), shared_load(window, at + P.WIDTH)
            # Along the terms neighbours lie beside each other (1) or rows apart.
            lda, ldb = shared_load(window, at + P.LDA), shared_load(window, at + P.LDB)
            a_row, a_term = (1, lda) if which == UPDATE else (lda, 1)
            b_column, b_term = (ldb, 1) if which == BACKWARD else (1, ldb)
            a0 = shared_load(window, at + (P.A0_ODD if odd else P.A0)) + i0 * a_row + k0 * a_term
            b0 = shared_load(window, at + P.B0) + j0 * b_column + k0 * b_term
            aside = shared_load(window, at + P.PART0) + part * shared_load(window, at + P.STRIDE)
            tile(
                which, shared_load(window, at + P.SIZE),
                (P.PARTIAL if parts > 1 else which, P.facts_of(window, at), context, aside),
                arena, a0, lda, shared_load(window, at + P.A_VECTORS) != 0,
                arena if which == UPDATE else parameters, b0, ldb,
                shared_load(window, at + P.B_VECTORS) != 0, i0, j0, hi, width, terms, shared,
            )  # fmt: skip
            item += owns

    return form


@device
def part_sum(scratch: Any, at: int, stride: int, parts: int) -> Any:
    """The sum of an element's parts, in order; four loads at once."""
    total, k = scratch[at], 1
    while k + 4 <= parts:
        first = at + k * stride
        a, b = scratch[first], scratch[first + stride]
        c, d = scratch[first + 2 * stride], scratch[first + 3 * stride]
        total, k = (((total + a) + b) + c) + d, k + 4
    while k < parts:
        total, k = total + scratch[at + k * stride], k + 1
    return total


@device
def add_up(
    window: Any, at: int, context: Any, scratch: Any, lo: int, hi: int, part: int, parts: int
) -> None:
    """The sums of a product's parts, and what becomes of them, of rows [lo, hi)."""
    width, ld = shared_load(window, at + P.WIDTH), shared_load(window, at + P.RESULT_LD)
    first, stride = shared_load(window, at + P.PART0), shared_load(window, at + P.STRIDE)
    e, end = first_of(turn(part, parts, shared_load(window, at + P.TURN))), (hi - lo) * width
    while e < end:
        y, j = divided(e, width)
        i = lo + y
        total = part_sum(scratch, first + i * ld + j, stride, shared_load(window, at + P.PARTS))
        job = (shared_load(window, at + P.WHICH), P.facts_of(window, at), context, 0)
        finish(job, i, j, 1, (total, total, total, total))
        e += parts * THREADS


# What a launch is told that all its steps have to know, in registers: entries of `launch_facts`.
(MODE, TRAINING, PHASES, HEEDS, FOLLOWS, CODE, SIZE, CLIP_VALUE, L2, SHARED_L2) = range(10)


@device
def launch_facts(settings: Any, factors: Any) -> Any:
    """HEEDS: a loss that is not finite ends it. FOLLOWS: running statistics do."""
    mode = settings[S.MODE]
    return (
        mode, settings[S.TRAINING] != 0, settings[S.PHASES],
        mode == TRAIN and settings[S.HEEDLESS] == 0, mode == TRAIN and settings[S.NORMS] != 0,
        settings[S.CODE], settings[S.SIZE], factors[S.CLIP_VALUE], factors[S.L2],
        factors[S.SHARED_L2],
    )  # fmt: skip


def products_of(real: Any) -> Any:
    """`products(kind, ...)`: a phase's product, in any of the ways."""
    form, direct = form_of(real), direct_of(real, finish)

    @device
    def products(
        kind: int, window: Any, at: int, odd: bool, context: Any, lo: int, hi: int, rows: int,
        own: int, owns: int, shared: Any,
    ) -> None:  # fmt: skip
        """By tiles, by rows, or added up from parts; of rows [lo, hi), or of all that it has."""
        net, _, _, _, _, _, scratch = context
        _, _, parameters, _, arena, _ = net
        if shared_load(window, at + P.HEIGHT) != P.OF_BATCH:
            hi = shared_load(window, at + P.HEIGHT)
        if kind == P.PRODUCT:
            form(window, at, odd, context, arena, parameters, lo, hi, rows, own, owns, shared)
        elif kind == P.DIRECT:
            direct(window, at, odd, context, arena, parameters, lo, hi, shared)
        else:
            add_up(window, at, context, scratch, lo, hi, own, owns)

    return products


@device
def biases(
    window: Any, at: int, context: Any, arena: Any, rows: int, part: int, parts: int, shared: Any
) -> None:
    """dL/db of a layer, and the step of b where it is there as a whole."""
    _, _, gradient, how, numbers, fused, scratch = context
    sum_columns(window, at, arena, gradient, scratch, rows, part, parts, shared)
    if fused and shared_load(window, at + P.PARTS) == 1:
        learn_biases(window, at, gradient, how, numbers, part, parts)


@device
def judge(
    settings: Any, launch: Any, net: Any, partial: Any, chunks: int, losses: Any, bad: Any, s: int,
    rows: int, part: int, parts: int, doubles: Any,
) -> tuple[float, float, bool]:  # fmt: skip
    """The loss and the squares of all W, once all blocks' are there; whether the step goes on."""
    squares = total_squares(settings, partial, chunks, doubles)
    loss = total_loss(settings, losses, bad, s, rows, doubles)
    going = finite(loss) or not launch[HEEDS]
    if going and launch[FOLLOWS]:
        follow_statistics(net, rows, part, parts)
    return loss, squares, going


def step_of(real: Any) -> Any:
    """`step(...)`: all phases of one step."""
    products, loss_rows = products_of(real), families[real][1]

    @device
    def step(
        launch: Any, net: Any, data: Any, bounds: Any, table: Any, window: Any, settings: Any,
        factors: Any, s: int, steps: int, own_lo: int, own_hi: int, idle: int, idles: int,
        address: Any, rates: Any, fused: bool, gradient: Any, state: Any, losses: Any, bad: Any,
        partial: Any, scratch: Any, flags: Any, out: Any, shared: Any, doubles: Any,
    ) -> tuple[bool, bool, float, float, float, float]:  # fmt: skip
        """Step s: whether it goes on from its loss, and has fetched the next batch, the loss, the
        batch's weight, what losses are multiplied by, and the squares of all W.

        launch: see `launch_facts`. own_lo, own_hi: this block's rows where it works alone; idle:
        which one it is of those `idles` that have none.
        """
        plan, _, parameters, _, arena, _ = net
        training, part, parts, odd = launch[TRAINING], block(), blocks(), s & 1 == 1
        start, rows = bounds[s], bounds[s + 1] - bounds[s]
        loss, total, scale, squares, l2, chunks, fetched = 0.0, 0.0, 1.0, 0.0, 0.0, 0, False
        for p in range(launch[PHASES]):
            if p & P.WINDOW - 1 == 0 and launch[PHASES] > P.WINDOW:
                open_window(table, p, launch[PHASES], window)
            at = (p & P.WINDOW - 1) * P.ENTRIES
            kind, layer = shared_load(window, at + P.KIND), shared_load(window, at + P.LAYER)
            meeting = shared_load(window, at + P.MEET)
            alone, pair = (
                shared_load(window, at + P.ALONE) != 0,
                shared_load(window, at + P.PAIR) != 0,
            )
            lo, hi, own, owns = 0, rows, part, parts
            if alone:
                lo, hi, own, owns = own_lo, own_hi, 0, 1
            how = (launch[CODE], rates, launch[SIZE], l2, launch[CLIP_VALUE])
            context = (net, address, gradient, how, (parameters, state), fused, scratch)
            if kind == P.PRODUCT or kind == P.DIRECT or kind == P.SUM:
                products(kind, window, at, odd, context, lo, hi, rows, own, owns, shared)
            elif kind == P.BIASES:
                biases(window, at, context, arena, rows, part, parts, shared)
            elif kind == P.NORM:
                if fused:
                    learn_norm(plan, layer, gradient, how, (parameters, state), part, parts)
            elif kind == P.AFTER:
                after_product(
                    net, layer, lo, hi, rows, address, training, pair, alone, own, owns, shared
                )
            elif kind == P.SETTLE:
                settle(net, gradient, layer, lo, hi, rows, training, pair, alone, own, owns, shared)
            elif kind == P.MEASURE:
                total, scale = measure(
                    settings, factors, plan, arena, s, rows, losses, lo, hi, own, owns, shared,
                    doubles, loss_rows,
                )  # fmt: skip
                if launch[SHARED_L2] > 0:
                    chunks = square_weights(
                        settings, plan, parameters, partial, part, parts, doubles
                    )
            elif kind == P.JUDGE:
                loss, squares, going = judge(
                    settings, launch, net, partial, chunks, losses, bad, s, rows, part, parts,
                    doubles,
                )  # fmt: skip
                if not going:
                    return False, fetched, loss, total, scale, squares
                l2 = launch[L2] + launch[SHARED_L2] * scale
            elif kind == P.GATHER:
                fetched = True
                if idle >= 0 and s + 1 < steps:
                    gather(settings, factors, plan, data, bounds, s + 1, arena, bad, idle, idles)
            else:
                write_outputs(settings, plan, arena, start, lo, hi, out, bad, s, flags, own, owns)
            if meeting == P.ALL:
                everyone()
            elif meeting == P.OWN:
                sync_block()
        return True, fetched, loss, total, scale, squares

    return step
