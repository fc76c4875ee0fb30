"""What the host tells the compiled loop and hears of it: the entries of its vectors of numbers."""

from __future__ import annotations

from typing import Final

from ..tables import MOST_HYPER

# What a call does with each batch.
TRAIN, GRADIENT, LOSS = range(3)
# Entries of `settings` (int64) and of `factors` (float64).
(
    MODE, TRAINING, LOSS_CODE, FROM_LOGITS, AVERAGE, CODE, SEED, EPOCH, FIRST_STEP, FIRST_UPDATE,
    RECORD, TARGETS, TARGETS_LD, LABELLED, SCREEN, HEEDLESS,
) = range(16)  # fmt: skip
SETTINGS: Final = 16
L2, DECOUPLED, CLIP_VALUE, CLIP_NORM, NOISE, SHARED_L2, LEAST, MOST = range(8)
HYPER: Final = 8  # the optimizer's constants start here
TOTAL: Final = HYPER + MOST_HYPER
"""Sum of the weights of the batch, of all ranks; less than 0: to be summed."""
FACTORS: Final = TOTAL + 1
# Entries of `results` (float64).
LOSS_SUM, WEIGHT_SUM, LAST_LOSS, STEPS, ROWS_LOSS, ROWS_SQUARES = range(6)
RESULTS: Final = 6
