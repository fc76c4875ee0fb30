"""A step as a list of phases, made by the host: what each layer's products are, and who forms them.

All that follows from the network and the batch is worked out here once, so that the kernel reads a
row of numbers a phase and divides by nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ..layout import (
    ACT,
    BN,
    BN_BEFORE,
    BN_NONE,
    DROP,
    IN,
    IN_LD,
    LD,
    B,
    D,
    F,
    M,
    N,
    O,
    W,
    Z,
)
from .activation import IDENTITY, NEED_INPUT, SOFTMAX
from .linear import COLUMNS
from .product import side_for
from .tiles import SMALL

FORWARD, BACKWARD, UPDATE = range(3)
"""Kinds of phases: A W and what follows; dZ W^T, times f'; A^T dZ, and the weights' step."""
# Entries of a phase (int64). The product's first factor is at A0 (A0_ODD in odd steps, of the first
# layer: batches take turns), its strides AI and AK; the second at B0, with BJ and BK. HEIGHT,
# WIDTH, LENGTH: its rows, columns, terms; OF_BATCH: as many as the batch has samples. Tiles have
# a side of 2^BITS, and are ACROSS in a row of them.
(
    KIND, LAYER, A0, A0_ODD, AI, AK, B0, BJ, BK, HEIGHT, WIDTH, LENGTH, BITS, ACROSS, TURN,
    TURN_REST, RESULT, RESULT_LD, OTHER, THIRD, BIAS, CODE, DROPS, PLAIN, SPECIAL, PAIR,
) = range(26)  # fmt: skip
ENTRIES: Final = 26
OF_BATCH: Final = -1


def _forward(plan: Any, layer: int, training: bool, pair: bool) -> dict[int, int]:
    """A W + b and f: RESULT is Z, OTHER f(Z), THIRD the output."""
    row = plan[layer]
    norm, by_row = row[BN], row[ACT] == SOFTMAX and not pair
    return {
        A0: row[IN], AI: row[IN_LD], AK: 1, B0: row[W], BJ: 1, BK: row[N], HEIGHT: OF_BATCH,
        WIDTH: row[N], LENGTH: row[M], RESULT: row[Z], RESULT_LD: row[LD], OTHER: row[F],
        THIRD: row[O] if norm == BN_NONE else row[F], BIAS: row[B], CODE: row[ACT],
        DROPS: training and row[DROP] != 0 and norm == BN_NONE,
        PLAIN: not (pair or by_row or norm == BN_BEFORE), SPECIAL: by_row or norm != BN_NONE,
    }  # fmt: skip


def _is_simple(row: Any) -> bool:
    """Each element's dL/dZ follows from its dL/dA alone."""
    return bool(row[BN] == BN_NONE and row[ACT] != SOFTMAX)


def _backward(plan: Any, layer: int, training: bool, pair: bool) -> dict[int, int]:
    """dZ W^T and the derivative of the layer below: RESULT is its D, OTHER what f' is made of.

    Nobody asks for the samples' own gradient: the first layer's product has no columns.
    """
    row, last = plan[layer], layer == len(plan) - 1
    left = (pair and row[BN] == BN_NONE) or (not last and _is_simple(row))
    found = {
        A0: row[D], AI: row[LD], AK: 1, B0: row[W], BJ: row[N], BK: 1, HEIGHT: OF_BATCH,
        WIDTH: row[M] if layer else 0, LENGTH: row[N], SPECIAL: not left,
    }  # fmt: skip
    if layer:
        below = plan[layer - 1]
        code = int(below[ACT])
        found |= {
            RESULT: below[D], RESULT_LD: below[LD], OTHER: below[Z if code in NEED_INPUT else F],
            CODE: code, DROPS: training and below[DROP] != 0 and _is_simple(below),
            PLAIN: _is_simple(below) and code != IDENTITY,
        }  # fmt: skip
    return found


def _update(plan: Any, layer: int) -> dict[int, int]:
    """A^T dZ: RESULT is W."""
    row = plan[layer]
    return {
        A0: row[IN], AI: 1, AK: row[IN_LD], B0: row[D], BJ: 1, BK: row[LD], HEIGHT: row[M],
        WIDTH: row[N], LENGTH: OF_BATCH, RESULT: row[W], RESULT_LD: row[N],
    }  # fmt: skip


def items(plan: Any, real: Any, rows: int) -> int:
    """Tiles of the largest phase: of a layer's rows, or of all weights."""

    def tiles(height: int, width: int) -> int:
        side = side_for(height, width, real)
        return -(-height // side) * -(-width // side)

    shapes = [(int(row[M]), int(row[N])) for row in plan]
    return max(sum(tiles(m, n) for m, n in shapes), *(tiles(rows, n) for _, n in shapes))


def table(
    plan: Any, real: Any, rows: int, inputs: Sequence[int], training: bool, pair: bool, tail: int,
    blocks: int,
) -> np.ndarray:  # fmt: skip
    """The phases of a step on batches of up to `rows` samples: (3 layers, ENTRIES) int64.

    Args:
        plan: the layers' places, a row each.
        real: the dtype.
        inputs: where the batches of even and of odd steps lie.
        pair: the loss is computed from the last layer's logits.
        tail: from this layer on small tiles are used but for the update.
        blocks: of the launch, who take items by turns.
    """
    layers, found, before = len(plan), [], 0
    order = [(FORWARD, layer) for layer in range(layers)]
    order += [(BACKWARD, layer) for layer in reversed(range(layers))]
    order += [(UPDATE, layer) for layer in range(layers)]
    for kind, layer in order:
        last = pair and layer == layers - 1
        if kind == UPDATE:
            facts = _update(plan, layer)
        else:
            facts = (_forward if kind == FORWARD else _backward)(plan, layer, training, last)
        height, width = (rows if facts[n] == OF_BATCH else int(facts[n]) for n in (HEIGHT, WIDTH))
        narrow = layer >= tail and kind != UPDATE
        side = SMALL.side if narrow else side_for(height, width, real)
        entry = np.zeros(ENTRIES, np.int64)
        facts |= {
            KIND: kind, LAYER: layer, BITS: side.bit_length() - 1,
            ACROSS: -(-width // side), A0_ODD: facts[A0], TURN: before % blocks, PAIR: last,
        }  # fmt: skip
        if kind != BACKWARD and layer == 0:
            facts[A0], facts[A0_ODD] = inputs
        if kind == UPDATE:
            before += -(-height // side) * int(facts[ACROSS])
            facts[TURN_REST] = before % blocks
            if plan[layer, B] >= 0:
                before += -(-width // COLUMNS)
        for place, value in facts.items():
            entry[place] = value
        found.append(entry)
    return np.array(found)
