"""A step as a list of phases, made by the host: what is done, by whom, and who meets after it.

All that follows from the network and the batch is worked out here once, so that the kernel reads a
row of numbers a phase and asks nothing. Who does what: all blocks share a layer's tiles. From the
layer `tail` on, where layers are narrow, a block takes its own rows `alone` up to the loss and
back, and meets no other in between. A product with few tiles and long sums is formed in parts of
the sum, which another phase adds up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ..cpu.epoch import GRADIENT, TRAIN
from ..layout import (
    ACT,
    BN,
    BN_BEFORE,
    BN_NONE,
    DROP,
    GAMMA,
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
from .machine import device, peek
from .product import BACKWARD, FORWARD, UPDATE, cut
from .shim import SIMULATED
from .slots import INFER
from .tiles import PROCESSORS, SMALL, THREADS, TILES, WARP, WIDE, room

(PRODUCT, DIRECT, SUM, AFTER, MEASURE, OUTPUTS, SETTLE, JUDGE, BIASES, NORM, GATHER) = range(11)
"""Kinds of phases: tiles of a product; a product of few rows; parts of a sum added up; batch norm
and softmax of a layer; losses; outputs written; dL/dZ where it does not follow from each element;
the batch's loss judged; gradients of biases; the step of gamma and beta; the next batch fetched by
blocks without rows."""
BIAS_SUM: Final = 3
"""What a SUM adds up besides the three products: a bias's gradient."""
NOBODY, OWN, ALL = range(3)
"""Who meets after a phase: nobody, each block's threads, all blocks."""
# Entries of a phase (int64). WHICH product (or what a SUM adds up). Its first factor is at A0
# (A0_ODD in odd steps, of the first layer: batches take turns), whose rows or terms are LDA apart;
# the second at B0. HEIGHT, WIDTH, LENGTH: rows, columns, terms; OF_BATCH: as many as the batch has
# samples. Tiles have 2^TALL rows and 2^BROAD columns, and are ACROSS in a row of them. A sum is
# formed in PARTS of SPAN terms, STRIDE elements apart from PART0 on.
(
    KIND, LAYER, ALONE, MEET, WHICH, SIZE, TALL, BROAD, ACROSS, A0, A0_ODD, LDA, A_VECTORS, B0,
    LDB, B_VECTORS, HEIGHT, WIDTH, LENGTH, PARTS, SPAN, PART0, STRIDE, TURN, RESULT, RESULT_LD,
    OTHER, THIRD, BIAS, CODE, DROPS, PLAIN,
) = range(32)  # fmt: skip
LANES: Final = SIZE
"""Of DIRECT: the logarithm of the threads that share a result."""
PAIR: Final = PLAIN
"""Of AFTER and SETTLE: the loss is computed from the last layer's logits."""
ENTRIES: Final = 32
OF_BATCH: Final = -1
GRAIN: Final = 2
"""Rows that a block which works alone has at least."""
WINDOW: Final = 2 if SIMULATED else 16
"""Phases in shared memory at a time."""


def _forward(plan: Any, layer: int, training: bool, pair: bool) -> dict[int, int]:
    """A W + b and f: RESULT is Z, OTHER f(Z), THIRD the output."""
    row = plan[layer]
    norm, by_row = row[BN], row[ACT] == SOFTMAX and not pair
    return {
        WHICH: FORWARD, A0: row[IN], LDA: row[IN_LD], B0: row[W], LDB: row[N], HEIGHT: OF_BATCH,
        WIDTH: row[N], LENGTH: row[M], RESULT: row[Z], RESULT_LD: row[LD], OTHER: row[F],
        THIRD: row[O] if norm == BN_NONE else row[F], BIAS: row[B], CODE: row[ACT],
        DROPS: training and row[DROP] != 0 and norm == BN_NONE,
        PLAIN: not (pair or by_row or norm == BN_BEFORE),
    }  # fmt: skip


def _is_simple(row: Any) -> bool:
    """Each element's dL/dZ follows from its dL/dA alone."""
    return bool(row[BN] == BN_NONE and row[ACT] != SOFTMAX)


def _backward(plan: Any, layer: int, training: bool) -> dict[int, int]:
    """dZ W^T and the derivative of the layer below: RESULT is its D, OTHER what f' is made of."""
    row, below = plan[layer], plan[layer - 1]
    code = int(below[ACT])
    return {
        WHICH: BACKWARD, A0: row[D], LDA: row[LD], B0: row[W], LDB: row[N], HEIGHT: OF_BATCH,
        WIDTH: row[M], LENGTH: row[N], RESULT: below[D], RESULT_LD: below[LD],
        OTHER: below[Z if code in NEED_INPUT else F], CODE: code,
        DROPS: training and below[DROP] != 0 and _is_simple(below),
        PLAIN: _is_simple(below) and code != IDENTITY,
    }  # fmt: skip


def _update(plan: Any, layer: int) -> dict[int, int]:
    """A^T dZ: RESULT is W."""
    row = plan[layer]
    return {
        WHICH: UPDATE, A0: row[IN], LDA: row[IN_LD], B0: row[D], LDB: row[LD], HEIGHT: row[M],
        WIDTH: row[N], LENGTH: OF_BATCH, RESULT: row[W], RESULT_LD: row[N],
    }  # fmt: skip


@device
def facts_of(window: Any, at: int) -> Any:
    """What becomes of a phase's results, in registers: `RESULT` to `PLAIN`, and the layer."""
    return (
        peek(window, at + RESULT), peek(window, at + RESULT_LD), peek(window, at + OTHER),
        peek(window, at + THIRD), peek(window, at + BIAS), peek(window, at + CODE),
        peek(window, at + DROPS), peek(window, at + PLAIN), peek(window, at + LAYER),
    )  # fmt: skip


@dataclass
class Program:
    """The phases of a step on batches of up to `rows` samples.

    Attributes:
        plan: the layers' places, a row each.
        real: the dtype.
        inputs: where the batches of even and of odd steps lie.
        mode: of the loop: what is asked for.
        pair: the loss is computed from the last layer's logits.
        tail: from this layer on blocks have rows of their own.
        phases: made by the constructor.
        scratch: elements that parts of sums take.
    """

    plan: Any
    real: Any
    rows: int
    inputs: tuple[int, int]
    mode: int
    training: bool
    pair: bool
    tail: int
    phases: list[dict[int, int]] = field(default_factory=list)
    scratch: int = 1

    def __post_init__(self) -> None:
        layers, by_rows = len(self.plan), False
        for layer in range(layers):
            by_rows = self._forward(layer, by_rows)
        if self.mode == INFER:
            self._add({KIND: OUTPUTS, ALONE: by_rows})
            return
        back = self.mode in (TRAIN, GRADIENT)
        # Whoever has a row's loss goes on with it where its block works alone.
        stays = by_rows and back and layers > 1 and layers > self.tail
        self._add({KIND: MEASURE, ALONE: by_rows, MEET: OWN if stays else ALL})
        for layer in reversed(range(layers) if back else range(0)):
            by_rows = self._backward(layer, by_rows)
        self._add({KIND: JUDGE})
        if back:
            self._updates()

    def _add(self, facts: dict[int, Any]) -> None:
        self.phases.append({place: int(value) for place, value in facts.items()})

    def _pair(self, layer: int) -> bool:
        return self.pair and layer == len(self.plan) - 1

    def _product(self, facts: dict[int, Any], size: int, parts: int, span: int, at: int) -> None:
        """Tiles of a product, or of so many parts of it from `at` on in the scratch memory."""
        tile, of_vector = TILES[self.real][size], 16 // np.dtype(self.real).itemsize
        height = self.rows if facts[HEIGHT] == OF_BATCH else int(facts[HEIGHT])
        stride = height * int(facts[RESULT_LD])
        facts |= {
            KIND: PRODUCT, SIZE: size, TALL: tile.rows.bit_length() - 1,
            BROAD: tile.columns.bit_length() - 1, ACROSS: -(-int(facts[WIDTH]) // tile.columns),
            PARTS: parts, SPAN: span, PART0: at, STRIDE: stride,
        }  # fmt: skip
        if facts[LAYER] == 0 and facts[WHICH] != BACKWARD:
            facts[A0], facts[A0_ODD] = self.inputs
        else:
            facts[A0_ODD] = facts[A0]
        for first, ld, vectors in ((A0, LDA, A_VECTORS), (B0, LDB, B_VECTORS)):
            facts[vectors] = facts[first] % of_vector == facts[ld] % of_vector == 0
        if parts > 1:
            self.scratch = max(self.scratch, at + parts * stride)
        self._add(facts)

    def _directly(self, width: int, length: int) -> bool:
        """Whether a block has few rows, and room for all of W: by the shape, for the bits' sake.

        Outputs alone are asked for by any number of rows, and do not depend on it.
        """
        few = self.mode != INFER and self.rows <= GRAIN * PROCESSORS
        line = 16 // np.dtype(self.real).itemsize
        return few and width * length + GRAIN * (length + line) + line <= room(self.real)

    def _of_rows(self, facts: dict[int, Any], alone: bool) -> int:
        """A product by rows of the batch, alone or not; its number of parts."""
        width, length = int(facts[WIDTH]), int(facts[LENGTH])
        if alone and self._directly(width, length):
            few = THREADS // (GRAIN * width) if GRAIN * width < THREADS else 1
            bits = min(few, length, WARP).bit_length() - 1
            self._product(facts, SMALL, 1, length, 0)
            self.phases[-1] |= {KIND: DIRECT, LANES: bits}
            return 1
        if alone:
            size = SMALL if width <= TILES[self.real][SMALL].columns else WIDE
            self._product(facts, size, 1, length, 0)
            return 1
        made = cut([(self.rows, width)], length, self.real)
        self._product(facts, made.sizes[0], made.parts, made.span, 0)
        return made.parts

    def _forward(self, layer: int, by_rows: bool) -> bool:
        """A layer's output; whether blocks have rows of it of their own."""
        last, alone, pair = layer == len(self.plan) - 1, layer >= self.tail, self._pair(layer)
        facts = _forward(self.plan, layer, self.training, pair)
        facts |= {LAYER: layer, ALONE: alone}
        norm = self.plan[layer, BN] != BN_NONE
        to_rows = last or layer + 1 >= self.tail  # the next phase can be alone
        if self._of_rows(facts, alone) > 1:
            self.phases[-1][MEET] = ALL
            alone = to_rows and not norm
            self._add(facts | {KIND: SUM, ALONE: alone})
        if norm or (self.plan[layer, ACT] == SOFTMAX and not pair):
            self._add({KIND: AFTER, LAYER: layer, ALONE: alone, PAIR: pair})
        self.phases[-1][MEET] = OWN if alone and to_rows else ALL
        return alone and to_rows

    def _backward(self, layer: int, by_rows: bool) -> bool:
        """dL/dZ of a layer, and of the one below; whether blocks have rows of it of their own."""
        pair, last = self._pair(layer), layer == len(self.plan) - 1
        row = self.plan[layer]
        if not ((pair and row[BN] == BN_NONE) or (not last and _is_simple(row))):
            self._add({KIND: SETTLE, LAYER: layer, ALONE: by_rows, PAIR: pair})
        alone = layer >= self.tail
        if layer == 0 or not alone:
            self.phases[-1][MEET] = ALL
        if layer == 0:
            return False
        facts = _backward(self.plan, layer, self.training) | {LAYER: layer, ALONE: alone}
        if self._of_rows(facts, alone) > 1:
            self.phases[-1][MEET] = ALL
            self._add(facts | {KIND: SUM})
        by_rows = layer - 1 >= self.tail
        self.phases[-1][MEET] = OWN if by_rows else ALL
        return by_rows

    def _updates(self) -> None:
        """All layers' gradients, and the step they make."""
        shapes = [(int(row[M]), int(row[N])) for row in self.plan]
        made = cut(shapes, self.rows, self.real)
        sums, at = [], 0
        for layer, (row, size) in enumerate(zip(self.plan, made.sizes, strict=True)):
            facts = _update(self.plan, layer) | {LAYER: layer}
            self._product(facts, size, made.parts, made.span, at)
            columns = {
                KIND: BIASES, LAYER: layer, A0: row[D], LDA: row[LD], WIDTH: row[N],
                RESULT: row[B], RESULT_LD: row[N], PARTS: made.parts, SPAN: made.span,
                STRIDE: row[N], HEIGHT: 1, WHICH: BIAS_SUM,
            }  # fmt: skip
            sums += [facts | {KIND: SUM}] if made.parts > 1 else []
            at += made.parts * int(row[M] * row[N]) if made.parts > 1 else 0
            if row[B] >= 0:
                columns[PART0] = at
                self._add(columns)
                sums += [columns | {KIND: SUM}] if made.parts > 1 else []
                at += made.parts * int(row[N]) if made.parts > 1 else 0
            if row[GAMMA] >= 0:
                self._add({KIND: NORM, LAYER: layer})
        self.scratch = max(self.scratch, at)
        if sums:
            self.phases[-1][MEET] = ALL
            for one in sums:
                self._add(one)

    def _items(self, phase: dict[int, int]) -> int:
        """What blocks can do of a phase beside each other."""
        if phase.get(ALONE) or phase[KIND] in (MEASURE, OUTPUTS):
            return -(-self.rows // GRAIN)
        if phase[KIND] == BIASES:
            return -(-phase[WIDTH] // COLUMNS) * phase[PARTS]
        if phase[KIND] not in (PRODUCT, SUM):
            return 0
        height = self.rows if phase[HEIGHT] == OF_BATCH else phase[HEIGHT]
        if phase[KIND] == SUM:
            return -(-height * phase[WIDTH] // THREADS)
        return -(-height // (1 << phase[TALL])) * phase[ACROSS] * phase[PARTS]

    @property
    def items(self) -> int:
        """Items of work that can be done beside each other, at most: of all updates together."""
        together = sum(
            self._items(phase)
            for phase in self.phases
            if phase[KIND] == BIASES or (phase.get(WHICH) == UPDATE and phase[KIND] == PRODUCT)
        )
        return max(together, *(self._items(phase) for phase in self.phases))

    def idle(self, blocks: int) -> int:
        """Blocks that have no rows where others work alone."""
        alone = any(phase.get(ALONE) for phase in self.phases)
        return max(0, blocks - -(-self.rows // GRAIN)) if alone else 0

    def table(self, blocks: int) -> np.ndarray:
        """The phases for so many blocks, who take items by turns: (phases, ENTRIES) int64."""
        phases, before = [dict(phase) for phase in self.phases], 0
        for phase in phases:
            if phase.get(WHICH) in (UPDATE, BIAS_SUM):
                phase[TURN] = before % blocks
                before += self._items(phase)
        if 3 * self.idle(blocks) >= blocks:
            first = next(at for at, phase in enumerate(phases) if phase.get(ALONE))
            phases.insert(first, {KIND: GATHER})
        made = np.zeros((len(phases), ENTRIES), np.int64)
        for entry, phase in zip(made, phases, strict=True):
            for place, value in phase.items():
                entry[place] = value
        return made
