"""From gradients to parameters: the weight phase of a step, shared by all blocks.

Each tile of dL/dW is applied to its weights by the block that formed it. Where a global norm is
needed first (clip_norm), or the step's figures are recorded, the gradient is completed by all, then
applied in chunks. Both ways round alike.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .. import layout as L
from ..cpu.figures import DEAD, DELTA_RMS, GRADIENT_NORM, SHIFT_NORM, UPDATE_NORM, WEIGHT_NORM
from . import phases as P
from .activation import RELU
from .arith import root
from .linear import COLUMNS, column_sums
from .machine import device, like, shared_load, thread
from .reduce import block_total
from .team import divided, everyone, first_of, put_four, turn
from .tiles import THREADS
from .update import SHRINK, clip_by_value, update_four

CHUNK: Final = 4096
"""Parameters whose squares a block sums at a time."""


@device
def learn_four(how: Any, numbers: Any, e: int, count: int, g: Any, weight: bool) -> None:
    """One optimizer step on up to four parameters from e on; decay is for weights alone."""
    code, r, size, l2, clip_value = how
    parameters, state = numbers
    decay, shrink = (l2, r[SHRINK]) if weight else (0.0, like(r[SHRINK], 1.0))
    update_four(code, parameters, state, e, size, count, g, r, decay, shrink, clip_value)


@device
def learn(how: Any, numbers: Any, e: int, g: Any, weight: bool) -> None:
    """The same of one."""
    learn_four(how, numbers, e, 1, (g, g, g, g), weight)


@device
def sum_columns(
    window: Any, at: int, arena: Any, gradient: Any, scratch: Any, rows: int, part: int,
    parts: int, shared: Any,
) -> None:  # fmt: skip
    """dL/db of a layer, or parts of its sums: COLUMNS of them are an item of work."""
    n, count, span = (
        shared_load(window, at + P.WIDTH),
        shared_load(window, at + P.PARTS),
        shared_load(window, at + P.SPAN),
    )
    groups = (n + COLUMNS - 1) // COLUMNS
    item = turn(part, parts, shared_load(window, at + P.TURN))
    while item < groups * count:
        k, group = divided(item, groups)
        lo, hi = k * span, (k + 1) * span
        lo, hi = lo if lo < rows else rows, hi if hi < rows else rows
        delta, ld = shared_load(window, at + P.A0), shared_load(window, at + P.LDA)
        first = group * COLUMNS
        if count > 1:
            to = shared_load(window, at + P.PART0) + k * n
            column_sums(arena, delta, ld, scratch, to, lo, hi, first, n, shared)
        else:
            bias = shared_load(window, at + P.RESULT)
            column_sums(arena, delta, ld, gradient, bias, 0, rows, first, n, shared)
        item += parts


@device
def learn_biases(
    window: Any, at: int, gradient: Any, how: Any, numbers: Any, part: int, parts: int
) -> None:
    """Update the biases whose gradients the same threads have just summed."""
    n, bias = shared_load(window, at + P.WIDTH), shared_load(window, at + P.RESULT)
    groups = (n + COLUMNS - 1) // COLUMNS
    group = turn(part, parts, shared_load(window, at + P.TURN))
    while group < groups:
        first = group * COLUMNS
        last = first + COLUMNS if first + COLUMNS < n else n
        for j in range(first + thread(), last, THREADS):
            learn(how, numbers, bias + j, gradient[bias + j], False)
        group += parts


@device
def learn_norm(
    plan: Any, layer: int, gradient: Any, how: Any, numbers: Any, part: int, parts: int
) -> None:
    """Update gamma and beta, whose gradients the backward pass has left."""
    if plan[layer, L.GAMMA] < 0:
        return
    for j in range(first_of(part), plan[layer, L.N], parts * THREADS):
        for at in (plan[layer, L.GAMMA], plan[layer, L.BETA]):
            learn(how, numbers, at + j, gradient[at + j], False)


@device
def weight_finish(
    gradient: Any, how: Any, numbers: Any, at: int, fused: bool, count: int, g: Any
) -> None:
    """Elements of dL/dW, kept or applied."""
    if fused:
        learn_four(how, numbers, at, count, g, True)
    else:
        put_four(gradient, at, count, g)


@device
def square_chunks(
    x: Any, lo: int, hi: int, partial: Any, at: int, part: int, parts: int, doubles: Any
) -> int:
    """partial[at + k] = the squares' sum of x's k-th CHUNK in [lo, hi); the number of chunks."""
    chunks = (hi - lo + CHUNK - 1) // CHUNK
    for k in range(part, chunks, parts):
        total = 0.0
        end = lo + (k + 1) * CHUNK
        end = end if end < hi else hi
        for e in range(lo + k * CHUNK + thread(), end, THREADS):
            total += np.float64(x[e]) * np.float64(x[e])
        total = block_total(total, doubles)
        if thread() == 0:
            partial[at + k] = total
    return chunks


@device
def sum_of(partial: Any, at: int, count: int, step: int, doubles: Any) -> float:
    """The sum of so many partial sums, by a block, in one order."""
    total = 0.0
    for k in range(thread(), count, THREADS):
        total += partial[at + k * step]
    return block_total(total, doubles)


@device
def norm_factor(
    gradient: Any, size: int, clip_norm: float, partial: Any, part: int, parts: int, doubles: Any
) -> float:
    """What the gradient is multiplied by so that its norm is at most clip_norm."""
    if clip_norm <= 0:
        return 1.0
    chunks = square_chunks(gradient, 0, size, partial, 0, part, parts, doubles)
    everyone()
    norm = root(sum_of(partial, 0, chunks, 1, doubles))
    everyone()
    return clip_norm / norm if norm > clip_norm else 1.0


@device
def apply_chunk(
    gradient: Any, how: Any, numbers: Any, factor: float, lo: int, hi: int, weight: bool,
    record: bool, partial: Any, at: int, doubles: Any,
) -> None:  # fmt: skip
    """Update parameters [lo, hi); recorded, with the squares of gradient, step and weights.

    Those of the gradient as the batch gave it, before it is clipped.
    """
    parameters, state = numbers
    clip_value = how[4]
    of_gradient, of_step, of_weights = 0.0, 0.0, 0.0
    for e in range(lo + thread(), hi, THREADS):
        g = gradient[e]
        of_gradient += np.float64(g) * np.float64(g)
        g = clip_by_value(g * like(g, factor), clip_value)
        gradient[e] = g
        old = parameters[e]
        learn(how, numbers, e, g, weight)
        new = parameters[e]
        step = np.float64(new - old)
        of_step += step * step
        of_weights += np.float64(new) * np.float64(new)
    if not record:
        return
    of_gradient = block_total(of_gradient, doubles)
    of_step = block_total(of_step, doubles)
    of_weights = block_total(of_weights, doubles)
    if thread() == 0:
        partial[at], partial[at + 1], partial[at + 2] = of_gradient, of_step, of_weights


@device
def end_of(plan: Any, layer: int, size: int) -> int:
    """Where the layer's parameters end in the flat vector."""
    return plan[layer + 1, L.W] if layer + 1 < plan.shape[0] else size


@device
def activity(
    plan: Any, layer: int, rows: int, arena: Any, masks: Any, figures: Any, doubles: Any
) -> None:
    """Rms of dL/dZ, and the share of relu units that no sample of the batch woke, by a block.

    Of those that dropout has kept for one sample at least, as on the CPU.
    """
    n, ld = plan[layer, L.N], plan[layer, L.LD]
    total = 0.0
    for e in range(thread(), rows * n, THREADS):
        d = np.float64(arena[plan[layer, L.D] + e // n * ld + e % n])
        total += d * d
    total = block_total(total, doubles)
    dropped = plan[layer, L.DROP] != 0 and plan[layer, L.O] == plan[layer, L.F]
    known, dead = 0.0, 0.0
    for j in range(thread(), n, THREADS):
        awake, kept = False, not dropped
        for i in range(rows):
            at = i * ld + j
            if arena[plan[layer, L.F] + at] > 0:
                awake = True
                break
            kept = kept or masks[plan[layer, L.MASK] + at] != 0
        known += 1.0 if awake or kept else 0.0
        dead += 1.0 if kept and not awake else 0.0
    known, dead = block_total(known, doubles), block_total(dead, doubles)
    if thread() == 0:
        figures[layer, DELTA_RMS] = root(total / (rows * n))
        told = plan[layer, L.ACT] == RELU and known > 0
        figures[layer, DEAD] = dead / known if told else np.nan


@device
def apply_whole(
    plan: Any, arena: Any, masks: Any, gradient: Any, how: Any, numbers: Any, rows: int,
    clip_norm: float, record: bool, partial: Any, figures: Any, part: int, parts: int, doubles: Any,
) -> None:  # fmt: skip
    """The completed gradient clipped and applied; recorded, with figures by layer."""
    size = how[2]
    factor = norm_factor(gradient, size, clip_norm, partial, part, parts, doubles)
    before = 0
    for layer in range(plan.shape[0]):
        first = plan[layer, L.W]
        rest = first + plan[layer, L.M] * plan[layer, L.N]
        chunks = (rest - first + CHUNK - 1) // CHUNK
        for k in range(turn(part, parts, before % parts), chunks, parts):
            lo = first + k * CHUNK
            hi = lo + CHUNK if lo + CHUNK < rest else rest
            at = 3 * (before + k)
            apply_chunk(gradient, how, numbers, factor, lo, hi, True, record, partial, at, doubles)
        before += chunks
        if layer % parts == part:
            end = end_of(plan, layer, size)
            if record:
                activity(plan, layer, rows, arena, masks, figures, doubles)
                squares = 0.0
                for e in range(rest + thread(), end, THREADS):
                    squares += np.float64(gradient[e]) * np.float64(gradient[e])
                squares = block_total(squares, doubles)
                if thread() == 0:
                    figures[layer, SHIFT_NORM] = root(squares)
            apply_chunk(
                gradient, how, numbers, factor, rest, end, False, False, partial, 0, doubles
            )
    if not record:
        return
    everyone()
    if part == 0:
        write_norms(plan, partial, figures, doubles)


@device
def write_norms(plan: Any, partial: Any, figures: Any, doubles: Any) -> None:
    """Norms of gradient, step and weights by layer, from the chunks' squares; one block's work."""
    before = 0
    for layer in range(plan.shape[0]):
        chunks = (plan[layer, L.M] * plan[layer, L.N] + CHUNK - 1) // CHUNK
        of_gradient = sum_of(partial, 3 * before, chunks, 3, doubles)
        of_step = sum_of(partial, 3 * before + 1, chunks, 3, doubles)
        of_weights = sum_of(partial, 3 * before + 2, chunks, 3, doubles)
        if thread() == 0:
            figures[layer, GRADIENT_NORM] = root(of_gradient)
            figures[layer, UPDATE_NORM] = root(of_step)
            figures[layer, WEIGHT_NORM] = root(of_weights)
        before += chunks
