"""What the host tells a launch and hears of it: the entries of its vectors of numbers."""

from __future__ import annotations

from typing import Final

INFER: Final = 3
"""A mode beyond the CPU's: outputs alone."""
# Entries of `settings` (int64) and of `factors` (float64).
(
    MODE, TRAINING, LOSS_CODE, FROM_LOGITS, MEAN, CODE, SEED, EPOCH, FIRST_STEP, STEP_COUNT,
    RECORD, TARGETS, OTHER_TARGETS, TARGETS_LD, LABELLED, SCREEN, HEEDLESS, ORDERED, WEIGHTED,
    WEIGHTS, OTHER_WEIGHTS, INPUTS, OTHER_INPUTS, PHASES, SIZE, STATE_SIZE, SPARSE, SQUARES,
    STAMP, LOGITS, OUTPUTS, ROWS, MOST_ROWS, NORMS,
) = range(34)  # fmt: skip
SETTINGS: Final = 34
L2, CLIP_VALUE, CLIP_NORM, NOISE, SHARED_L2, LEAST, MOST = range(7)
FACTORS: Final = 7
NO_STAMP: Final = -1
"""No row is noted by it: stamps count from 1."""
# Entries of `flags` (int64): whether something was met.
NOT_FINITE, UNFIT = range(2)
FLAGS: Final = 2
