"""Phases of a step as the host writes and a kernel reads them: a row of numbers each.

`program.py` makes them, `step.py` runs them.
"""

from __future__ import annotations

from typing import Any, Final

from .machine import device, shared_load
from .shim import SIMULATED

(PRODUCT, DIRECT, SUM, AFTER, MEASURE, OUTPUTS, SETTLE, JUDGE, BIASES, NORM, GATHER) = range(11)
"""Kinds of phases: tiles of a product; a product of few rows; parts of a sum added up; batch norm
and softmax of a layer; losses; outputs written; dL/dZ where it does not follow from each element;
the batch's loss judged; gradients of biases; the step of gamma and beta; the next batch fetched by
blocks without rows."""
BIAS_SUM, PARTIAL = 3, 4
"""Besides the three products: a bias's gradient, which a SUM adds up; a part of a sum."""
NOBODY, OWN, ALL = range(3)
"""Who meets after a phase: nobody, of which nothing is said; each block's threads; all blocks."""
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


@device
def facts_of(window: Any, at: int) -> Any:
    """What becomes of a phase's results, in registers: `RESULT` to `PLAIN`, and the layer."""
    return (
        shared_load(window, at + RESULT), shared_load(window, at + RESULT_LD),
        shared_load(window, at + OTHER), shared_load(window, at + THIRD),
        shared_load(window, at + BIAS), shared_load(window, at + CODE),
        shared_load(window, at + DROPS), shared_load(window, at + PLAIN),
        shared_load(window, at + LAYER),
    )  # fmt: skip
