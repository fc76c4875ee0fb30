"""A step as a list of phases, made by the host: what is done, by whom, and who meets after it.

All that follows from the network and the batch is worked out here once, so that the kernel reads a
row of numbers a phase and asks nothing. Who does what: all blocks share a layer's tiles. From the
layer `tail` on, where layers are narrow, a block takes its own rows `alone` up to the loss and
back, and meets no other in between. A product with few tiles and long sums is formed in parts of
the sum, which another phase adds up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import layout as L
from ..cpu.slots import GRADIENT, TRAIN
from . import phases as P
from .activation import IDENTITY, NEED_INPUT, SOFTMAX
from .cut import cut
from .linear import COLUMNS
from .product import BACKWARD, FORWARD, UPDATE
from .slots import INFER
from .tiles import PROCESSORS, SMALL, THREADS, TILES, WARP, WIDE, room


def _forward(plan: Any, layer: int, training: bool, pair: bool) -> dict[int, int]:
    """A W + b and f: RESULT is Z, OTHER f(Z), THIRD the output."""
    row = plan[layer]
    norm, by_row = row[L.BN], row[L.ACT] == SOFTMAX and not pair
    return {
        P.WHICH: FORWARD, P.A0: row[L.IN], P.LDA: row[L.IN_LD], P.B0: row[L.W], P.LDB: row[L.N],
        P.HEIGHT: P.OF_BATCH, P.WIDTH: row[L.N], P.LENGTH: row[L.M],
        P.RESULT: row[L.Z], P.RESULT_LD: row[L.LD], P.OTHER: row[L.F],
        P.THIRD: row[L.O] if norm == L.BN_NONE else row[L.F], P.BIAS: row[L.B], P.CODE: row[L.ACT],
        P.DROPS: training and row[L.DROP] != 0 and norm == L.BN_NONE,
        P.PLAIN: not (pair or by_row or norm == L.BN_BEFORE),
    }  # fmt: skip


def _is_simple(row: Any) -> bool:
    """Each element's dL/dZ follows from its dL/dA alone."""
    return bool(row[L.BN] == L.BN_NONE and row[L.ACT] != SOFTMAX)


def _backward(plan: Any, layer: int, training: bool) -> dict[int, int]:
    """dZ W^T and the derivative of the layer below: RESULT is its D, OTHER what f' is made of."""
    row, below = plan[layer], plan[layer - 1]
    code = int(below[L.ACT])
    return {
        P.WHICH: BACKWARD, P.A0: row[L.D], P.LDA: row[L.LD], P.B0: row[L.W], P.LDB: row[L.N],
        P.HEIGHT: P.OF_BATCH, P.WIDTH: row[L.M], P.LENGTH: row[L.N],
        P.RESULT: below[L.D], P.RESULT_LD: below[L.LD],
        P.OTHER: below[L.Z if code in NEED_INPUT else L.F], P.CODE: code,
        P.DROPS: training and below[L.DROP] != 0 and _is_simple(below),
        P.PLAIN: _is_simple(below) and code != IDENTITY,
    }  # fmt: skip


def _update(plan: Any, layer: int) -> dict[int, int]:
    """A^T dZ: RESULT is W."""
    row = plan[layer]
    return {
        P.WHICH: UPDATE, P.A0: row[L.IN], P.LDA: row[L.IN_LD], P.B0: row[L.D], P.LDB: row[L.LD],
        P.HEIGHT: row[L.M], P.WIDTH: row[L.N], P.LENGTH: P.OF_BATCH,
        P.RESULT: row[L.W], P.RESULT_LD: row[L.N],
    }  # fmt: skip


def is_direct(real: Any, rows: int, width: int, length: int) -> bool:
    """Whether a block has few rows, and room for all of W: by the shape, for the bits' sake."""
    line = 16 // np.dtype(real).itemsize
    size = width * length + P.GRAIN * (length + line) + line
    return rows <= P.GRAIN * PROCESSORS and size <= room(real)


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
            by_rows = self._forward(layer)
        if self.mode == INFER:
            self._add({P.KIND: P.OUTPUTS, P.ALONE: by_rows})
            return
        back = self.mode in (TRAIN, GRADIENT)
        # Whoever has a row's loss goes on with it where its block works alone.
        stays = by_rows and back and layers > 1 and layers > self.tail
        self._add({P.KIND: P.MEASURE, P.ALONE: by_rows, P.MEET: P.OWN if stays else P.ALL})
        for layer in reversed(range(layers) if back else range(0)):
            by_rows = self._backward(layer, by_rows)
        self._add({P.KIND: P.JUDGE})
        if back:
            self._updates()

    def _add(self, facts: dict[int, Any]) -> None:
        self.phases.append({place: int(value) for place, value in facts.items()})

    def _pair(self, layer: int) -> bool:
        return self.pair and layer == len(self.plan) - 1

    def _product(self, facts: dict[int, Any], size: int, parts: int, span: int, at: int) -> None:
        """Tiles of a product, or of so many parts of it from `at` on in the scratch memory."""
        tile, of_vector = TILES[self.real][size], 16 // np.dtype(self.real).itemsize
        height = self.rows if facts[P.HEIGHT] == P.OF_BATCH else int(facts[P.HEIGHT])
        stride = height * int(facts[P.RESULT_LD])
        facts |= {
            P.KIND: P.PRODUCT, P.SIZE: size, P.TALL: tile.rows.bit_length() - 1,
            P.BROAD: tile.columns.bit_length() - 1,
            P.ACROSS: -(-int(facts[P.WIDTH]) // tile.columns),
            P.PARTS: parts, P.SPAN: span, P.PART0: at, P.STRIDE: stride,
        }  # fmt: skip
        if facts[P.LAYER] == 0 and facts[P.WHICH] != BACKWARD:
            facts[P.A0], facts[P.A0_ODD] = self.inputs
        else:
            facts[P.A0_ODD] = facts[P.A0]
        for first, ld, vectors in ((P.A0, P.LDA, P.A_VECTORS), (P.B0, P.LDB, P.B_VECTORS)):
            facts[vectors] = facts[first] % of_vector == facts[ld] % of_vector == 0
        if parts > 1:
            self.scratch = max(self.scratch, at + parts * stride)
        self._add(facts)

    def _of_rows(self, facts: dict[int, Any], alone: bool) -> int:
        """A product by rows of the batch, alone or not; its number of parts."""
        width, length = int(facts[P.WIDTH]), int(facts[P.LENGTH])
        # Outputs alone are asked for by any number of rows, and do not depend on it.
        if alone and self.mode != INFER and is_direct(self.real, self.rows, width, length):
            few = THREADS // (P.GRAIN * width) if P.GRAIN * width < THREADS else 1
            bits = min(few, length, WARP).bit_length() - 1
            self._product(facts, SMALL, 1, length, 0)
            self.phases[-1] |= {P.KIND: P.DIRECT, P.LANES: bits}
            return 1
        if alone:
            size = SMALL if width <= TILES[self.real][SMALL].columns else WIDE
            self._product(facts, size, 1, length, 0)
            return 1
        made = cut([(self.rows, width)], length, self.real)
        self._product(facts, made.size, made.parts, made.span, 0)
        return made.parts

    def _forward(self, layer: int) -> bool:
        """A layer's output; whether blocks have rows of it of their own."""
        last, alone, pair = layer == len(self.plan) - 1, layer >= self.tail, self._pair(layer)
        facts = _forward(self.plan, layer, self.training, pair)
        facts |= {P.LAYER: layer, P.ALONE: alone}
        norm = self.plan[layer, L.BN] != L.BN_NONE
        to_rows = last or layer + 1 >= self.tail  # the next phase can be alone
        if self._of_rows(facts, alone) > 1:
            self.phases[-1][P.MEET] = P.ALL
            alone = to_rows and not norm
            self._add(facts | {P.KIND: P.SUM, P.ALONE: alone})
        if norm or (self.plan[layer, L.ACT] == SOFTMAX and not pair):
            self._add({P.KIND: P.AFTER, P.LAYER: layer, P.ALONE: alone, P.PAIR: pair})
        self.phases[-1][P.MEET] = P.OWN if alone and to_rows else P.ALL
        return alone and to_rows

    def _backward(self, layer: int, by_rows: bool) -> bool:
        """dL/dZ of a layer, and of the one below; whether blocks have rows of it of their own."""
        pair, last = self._pair(layer), layer == len(self.plan) - 1
        row = self.plan[layer]
        settles = not ((pair and row[L.BN] == L.BN_NONE) or (not last and _is_simple(row)))
        if settles:  # its last act is to meet, by all blocks where they share the rows
            self._add({P.KIND: P.SETTLE, P.LAYER: layer, P.ALONE: by_rows, P.PAIR: pair})
        alone = layer >= self.tail
        if (layer == 0 or not alone) and not (settles and not by_rows):
            self.phases[-1][P.MEET] = P.ALL
        if layer == 0:
            return False
        facts = _backward(self.plan, layer, self.training) | {P.LAYER: layer, P.ALONE: alone}
        if self._of_rows(facts, alone) > 1:
            self.phases[-1][P.MEET] = P.ALL
            self._add(facts | {P.KIND: P.SUM})
        by_rows = layer - 1 >= self.tail
        self.phases[-1][P.MEET] = P.OWN if by_rows else P.ALL
        return by_rows

    def _updates(self) -> None:
        """All layers' gradients, and the step they make."""
        made = cut([(int(row[L.M]), int(row[L.N])) for row in self.plan], self.rows, self.real)
        sums, at = list[dict[int, Any]](), 0
        for layer, row in enumerate(self.plan):
            facts = _update(self.plan, layer) | {P.LAYER: layer}
            self._product(facts, made.size, made.parts, made.span, at)
            sums.append(facts | {P.KIND: P.SUM})
            at += made.parts * int(facts[P.STRIDE])
            if row[L.B] >= 0:
                facts = {
                    P.KIND: P.BIASES, P.LAYER: layer, P.A0: row[L.D], P.LDA: row[L.LD],
                    P.WIDTH: row[L.N], P.RESULT: row[L.B], P.RESULT_LD: row[L.N],
                    P.PARTS: made.parts, P.SPAN: made.span, P.PART0: at, P.STRIDE: row[L.N],
                    P.HEIGHT: 1, P.WHICH: P.BIAS_SUM,
                }  # fmt: skip
                self._add(facts)
                sums.append(facts | {P.KIND: P.SUM})
                at += made.parts * int(row[L.N])
            if row[L.GAMMA] >= 0:
                self._add({P.KIND: P.NORM, P.LAYER: layer})
        if made.parts > 1:
            self.scratch = max(self.scratch, at)
            self.phases[-1][P.MEET] = P.ALL
            for one in sums:
                self._add(one)

    def _items(self, phase: dict[int, int]) -> int:
        """What blocks can do of a phase beside each other."""
        if phase.get(P.ALONE) or phase[P.KIND] in (P.MEASURE, P.OUTPUTS):
            return -(-self.rows // P.GRAIN)
        if phase[P.KIND] == P.BIASES:
            return -(-phase[P.WIDTH] // COLUMNS) * phase[P.PARTS]
        if phase[P.KIND] not in (P.PRODUCT, P.SUM):
            return 0
        height = self.rows if phase[P.HEIGHT] == P.OF_BATCH else phase[P.HEIGHT]
        if phase[P.KIND] == P.SUM:
            return -(-height * phase[P.WIDTH] // THREADS)
        return -(-height // (1 << phase[P.TALL])) * phase[P.ACROSS] * phase[P.PARTS]

    @property
    def items(self) -> int:
        """Items of work that can be done beside each other, at most: of all updates together."""
        updates = (
            phase
            for phase in self.phases
            if phase[P.KIND] == P.BIASES
            or (phase[P.KIND] == P.PRODUCT and phase[P.WHICH] == UPDATE)
        )
        together = sum(map(self._items, updates))
        return max(together, *map(self._items, self.phases))

    def idle(self, blocks: int) -> int:
        """Blocks that have no rows where others work alone."""
        alone = any(phase.get(P.ALONE) for phase in self.phases)
        return max(0, blocks - -(-self.rows // P.GRAIN)) if alone else 0

    def table(self, blocks: int) -> np.ndarray:
        """The phases for so many blocks, who take items by turns: (phases, ENTRIES) int64."""
        phases, before = [dict(phase) for phase in self.phases], 0
        for phase in phases:
            if phase.get(P.WHICH) in (UPDATE, P.BIAS_SUM):
                phase[P.TURN] = before % blocks
                before += self._items(phase)
        if 3 * self.idle(blocks) >= blocks:
            first = next(at for at, phase in enumerate(phases) if phase.get(P.ALONE))
            phases.insert(first, {P.KIND: P.GATHER})
        made = np.zeros((len(phases), P.ENTRIES), np.int64)
        for entry, phase in zip(made, phases, strict=True):
            for place, value in phase.items():
                entry[place] = value
        return made
