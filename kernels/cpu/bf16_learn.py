"""The weight phase of a layer whose products are of bfloat16: dL/dW by small blocks, W updated.

With products this fast the traffic of memory is what remains. A block of dL/dW stays in the cache
until it is applied, W and its optimizer rows pass once, and dL/dZ is rounded and packed once for
all of a thread's rows.
"""

from __future__ import annotations

from typing import Any, Final

from .bf16_product import BF16_SCRATCH_BYTES, COLUMNS
from .bodies import clip_value_span, update_rows
from .jit import serial
from .memory import address, segment
from .operands import KEEP, KEPT
from .tile_table import BF16_SLOT, product_of, tile_address

BLOCK_ROWS: Final = 96  # of W at once: dL/dW takes 203 KB, A^T 98 where a batch is 512
_LD: Final = COLUMNS + 16  # whole cache lines that no power of two keeps apart
BLOCK_ELEMENTS: Final = BLOCK_ROWS * _LD
BF16_LEARN_BYTES: Final = BF16_SCRATCH_BYTES + 4 * BLOCK_ELEMENTS
"""Scratch of one thread: the product's, then a block of dL/dW."""


@serial
def learn_bf16(
    A: Any, delta: Any, rows: int, n: int, at: int, lo: int, hi: int, parameters: Any, state: Any,
    code: int, rates: Any, l2: float, shrink: float, clip_value: float, scratch: Any,
) -> None:  # fmt: skip
    """Update rows [lo, hi) of the W (m, n) at parameters[at] by those of A^T delta.

    The sums are those of `layer_products.gradient_rows`: the depth is cut alike.
    """
    block = segment(scratch, BF16_SCRATCH_BYTES // 4, BLOCK_ELEMENTS)
    product, g, room = tile_address(BF16_SLOT), address(block, 0), address(scratch, 0)
    for first in range(0, n, COLUMNS):
        width = min(COLUMNS, n - first)
        ld = n if n <= COLUMNS else _LD  # whole rows are applied together
        for start in range(lo, hi, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, hi)
            product_of(
                product, stop - start, width, rows, address(A, start), 1, A.shape[1],
                address(delta, first), delta.shape[1], 0, g, ld, room,
                panels=KEPT if start > lo else KEEP,
            )  # fmt: skip
            whole = (stop - start - 1) * ld + width
            if clip_value > 0:
                clip_value_span(block, clip_value, 0, whole)
            if ld == n:
                place = at + start * n
                update_rows(
                    code, parameters, block, state, rates, l2, shrink, place, 0, whole, rates
                )
                continue
            for i in range(start, stop):
                line = segment(block, (i - start) * ld, width)
                place = at + i * n + first
                update_rows(
                    code, parameters, line, state, rates, l2, shrink, place, 0, width, rates
                )
