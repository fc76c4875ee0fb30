"""Where everything lies: parameters in one flat vector, a batch's quantities in one flat arena.

The compiled loop knows a network only as this table of integers, a row a layer, so that another
architecture is other data and compiles nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from .tables import ACTIVATIONS, LOSSES

# Columns of the integer table, a row a layer. Offsets are in elements; -1 where there is none.
# M, N: inputs, units. ACT: code of the activation f.
# W, B, GAMMA, BETA: where they begin in the flat parameters. RUNNING: in the running statistics.
# BN, FORM: where batch norm stands, its form. DROP: whether there is dropout.
# In the arena, a window of LD columns each: Z, the pre-activations; F, f(Z) (Z's own, where f'
# follows from f(Z)); O, what the next layer reads (F's own, where nothing follows f); H, what
# batch norm has normalised; D, dL/dA, then dL/dZ. IN, of IN_LD columns: the layer's input.
# STATS: STATS_PARTS vectors of n. MASK: dropout's, a byte an element. BF16: bfloat16 operands.
(
    M, N, ACT, W, B, GAMMA, BETA, RUNNING, BN, FORM, DROP,
    IN, IN_LD, Z, F, O, LD, H, D, STATS, MASK, BF16,
) = range(22)  # fmt: skip
FIELDS: Final = 22
# Columns of the table of reals.
P_DROP, EPS, MOMENTUM = range(3)
REALS: Final = 3
# Where batch norm stands, and its form.
BN_NONE, BN_BEFORE, BN_AFTER = range(3)
FORM_SQRT, FORM_SIGMA = range(2)
FORMS: Final = {"sqrt": FORM_SQRT, "sigma": FORM_SIGMA}
"""Over sqrt(variance + eps), and over (sigma + eps)."""
# Parts of a batch-norm layer's stretch of STATS, n elements each. SPARE: a rank's own means while
# the ranks pool theirs, then zeros.
MEAN, VARIANCE, SCALE, RATIO, SPARE = range(5)
STATS_PARTS: Final = 5

CACHE_LINE: Final = 64


@dataclass(frozen=True)
class LayerSpec:
    """One layer as the kernels see it."""

    inputs: int
    units: int
    activation: str = "identity"
    batch_norm: int = BN_NONE
    form: int = FORM_SQRT
    eps: float = 1e-5
    momentum: float = 0.1
    dropout: float = 0.0

    @property
    def biased(self) -> bool:
        """Batch norm before the activation takes the mean away, so beta stands for the bias."""
        return self.batch_norm != BN_BEFORE

    def ends_in_logits(self, loss: str) -> bool:
        """As a last layer: loss and dL/dZ are computed from Z, for f and the loss are a pair."""
        rescaled = self.dropout > 0 or self.batch_norm == BN_AFTER
        return not rescaled and self.activation in LOSSES[loss].pairs

    @property
    def separate_output(self) -> bool:
        """f'(z) needs Z kept apart from A = f(Z)."""
        return not ACTIVATIONS[self.activation].from_output

    @property
    def separate_final(self) -> bool:
        """What the next layer reads is not f(Z): it is normalised, or dropout has rescaled it.

        Where only the sign of f(Z) is needed, dropout keeps it.
        """
        if self.batch_norm == BN_AFTER:
            return True
        return self.dropout > 0 and not ACTIVATIONS[self.activation].sign_alone


@dataclass(frozen=True)
class Slots:
    """Offsets of one layer's parameters in the flat vector; -1 where it has none."""

    W: int
    b: int
    gamma: int
    beta: int
    running: int


def parameter_slots(layers: list[LayerSpec]) -> tuple[list[Slots], int, int]:
    """Offsets by layer (W, then b, gamma, beta), number of parameters, of running statistics."""
    slots, at, running = [], 0, 0
    for layer in layers:
        m, n = layer.inputs, layer.units
        w, at = at, at + m * n
        b = gamma = beta = mean = -1
        if layer.biased:
            b, at = at, at + n
        if layer.batch_norm:
            gamma, beta, at = at, at + n, at + 2 * n
            mean, running = running, running + 2 * n
        slots.append(Slots(w, b, gamma, beta, mean))
    return slots, at, running


def leading_dimension(n: int, itemsize: int) -> int:
    """Columns of a window for n: whole cache lines, and never a stride that shares few sets.

    Rows a multiple of 1 KB apart fall into so few sets of an L1 or L2 cache that a tall tile's
    rows evict one another; one cache line more spreads them over all sets.
    """
    line = CACHE_LINE // itemsize
    padded = -(-n // line) * line
    return padded + line if padded * itemsize % 1024 == 0 else padded


@dataclass(frozen=True)
class Plan:
    """The tables of one network for batches of up to `rows` samples.

    Attributes:
        ints: (layers, FIELDS) int64.
        reals: (layers, REALS) float64.
        arena: elements of the network's dtype that one batch needs.
        masks: bytes of the dropout masks.
        targets, targets_ld: offset and columns of the batch's targets in the arena.
        other: offset of a second window for a batch's inputs, by turns with that of `ints`.
        rows: largest batch.
    """

    ints: np.ndarray
    reals: np.ndarray
    arena: int
    masks: int
    targets: int
    targets_ld: int
    other: int
    rows: int


def build_plan(layers: list[LayerSpec], rows: int, itemsize: int, *, bf16: bool = False) -> Plan:
    """Lay out the arena of one network for batches of up to `rows` samples.

    bf16: products on bfloat16 operands.
    """
    slots, _, _ = parameter_slots(layers)
    ints = np.full((len(layers), FIELDS), -1, np.int64)
    reals = np.zeros((len(layers), REALS))
    free, masks = 0, 0

    def take(size: int) -> int:
        nonlocal free
        start = free
        line = CACHE_LINE // itemsize
        free += -(-size // line) * line
        return start

    source_ld = leading_dimension(layers[0].inputs, itemsize)
    source = take(rows * source_ld)
    for row, real, layer, slot in zip(ints, reals, layers, slots, strict=True):
        n, ld = layer.units, leading_dimension(layer.units, itemsize)
        row[[M, N, ACT, LD]] = layer.inputs, n, ACTIVATIONS[layer.activation].code, ld
        row[[W, B, GAMMA, BETA, RUNNING]] = slot.W, slot.b, slot.gamma, slot.beta, slot.running
        row[[BN, FORM, DROP]] = layer.batch_norm, layer.form, layer.dropout > 0
        row[[IN, IN_LD, BF16]] = source, source_ld, bf16
        row[Z] = take(rows * ld)
        row[F] = take(rows * ld) if layer.separate_output else row[Z]
        row[O] = take(rows * ld) if layer.separate_final else row[F]
        row[H] = take(rows * ld) if layer.batch_norm else row[Z]
        row[D] = take(rows * ld)
        if layer.batch_norm:
            row[STATS] = take(STATS_PARTS * n)
        if layer.dropout > 0:
            row[MASK], masks = masks, masks + rows * ld
        real[[P_DROP, EPS, MOMENTUM]] = layer.dropout, layer.eps, layer.momentum
        source, source_ld = int(row[O]), ld
    targets_ld = leading_dimension(layers[-1].units, itemsize)
    targets = take(rows * targets_ld)
    other = take(rows * int(ints[0, IN_LD]))
    return Plan(ints, reals, free, masks, targets, targets_ld, other, rows)
