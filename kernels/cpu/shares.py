"""How work is cut among threads: whole blocks. No element's arithmetic depends on a cut."""

from __future__ import annotations

from typing import Any

from .jit import inline, view
from .memory import segment

SAMPLES = 4
"""Rows of a batch are cut at multiples of this: whole tiles."""

ANYWHERE = 1
"""Rows are cut so where each is computed by itself: by doors of all but products."""

COLUMNS = 16
"""Columns are cut at multiples of this: a cache line of float32."""

WHOLE, EVEN = 8, 4
"""Rows of a W are cut at multiples of the one or the other: whole lines of a narrow W, or tiles."""

MANY = 128
"""Rows of a W a thread from which a share of 8 more or less no longer matters."""

PANELS = 64
"""Columns of a product are cut at multiples of this, where threads share those: whole panels."""

SHARED_BYTES = 256 << 10
"""From so large a W on threads share a product's columns: by rows each would pack all of W."""

GRADIENT_ROWS = 48
"""Blocks of rows of dL/dW are multiples of this: whole tiles of every height."""

TALL = 4 * GRADIENT_ROWS
"""Rows of dL/dW formed at once: what one packing of a wide layer's A^T serves."""

FLAT = 4096
"""Flat vectors are cut at multiples of this: 16 KB of float32, and `square_sum`'s block."""


@inline
def share(total: int, grain: int, part: int, parts: int) -> tuple[int, int]:
    """The range [lo, hi) of share `part` of `parts`: [0, total) cut at multiples of `grain`.

    Doors hand on np.int64(t): `prange` counts in uint64, and uint64 with int64 makes float64.
    """
    blocks = (total + grain - 1) // grain
    lo = blocks * part // parts * grain
    hi = blocks * (part + 1) // parts * grain
    return min(lo, total), min(hi, total)


@inline
def share_of_rows(m: int, part: int, parts: int) -> tuple[int, int]:
    """Share `part` of the rows of a W: whole tiles and lines where they are many, else even.

    Of 20 rows on two threads, multiples of 8 make 8 and 12, and the first waits for the second.
    """
    return share(m, WHOLE if m >= MANY * parts else EVEN, part, parts)


@inline
def by_columns(W: Any, columns: int, T: int) -> bool:
    """Whether T threads share the columns of a product with W, instead of the batch's rows.

    A large W is packed panel by panel. By rows each thread packs all of it, for its part of the
    batch; by columns its own panels, for the whole batch: 512-512-512-10 on 64 rows takes 0.87 to
    0.92 of the time on two threads, 1024-2048-2048-10 on 512 0.95 to 0.99 (EPYC, Zen 5).
    """
    return T > 1 and W.size * W.itemsize >= SHARED_BYTES and columns >= 2 * PANELS * T


@view
def row_of(table: Any, index: int) -> Any:
    """Row `index` of a matrix, without reference counting."""
    return segment(table, index * table.shape[1], table.shape[1])
