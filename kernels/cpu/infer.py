"""The compiled forward pass: outputs of any number of rows in one call, by running statistics.

Its arguments are few, so that a call from Python costs microseconds: all that belongs to a network
comes as one table of addresses.
"""

from __future__ import annotations

from typing import Any, Final

from ..layout import IN, IN_LD, LD, M, N, O, Z
from . import memory
from .barrier import barrier
from .jit import serial
from .loop import forward_rows
from .memory import CELLS, address, flush_denormals, restore_mode, segment, window
from .samples import copy_row, finite_row, unpack_row
from .shares import SAMPLES, row_of, share
from .table import compiled_loop

# The table: two numbers, then the arrays in this order.
BLOCK, LOGITS = range(2)
NUMBERS: Final = 2
PLAN, REALS, PARAMETERS, RUNNING, ARENA, MASKS, SCRATCHES, SYNC, PREFETCHED, UNFIT = (
    NUMBERS + CELLS * i for i in range(10)
)
SAMPLES_AHEAD: Final = 48
"""Rows by which X is prefetched before the first product: 150 KB of 784 float32, within the L2."""


@serial
def infer(t: int, T: int, X: Any, out: Any, columns: Any, starts: Any, table: Any) -> int:
    """Thread t's share of the outputs (or logits) of X's rows into `out`, in blocks of rows.

    X, columns and starts as in `loop.run_steps`; `table` as `memory.address_table` makes it.
    Returns how many of the thread's rows held NaN or inf, and leaves it in the table's unfit[t].
    """
    mode = flush_denormals()
    plan, reals = memory.int_matrix(table, PLAN, X), memory.float_matrix(table, REALS, X)
    parameters = memory.own_vector(table, PARAMETERS, X)
    running = memory.own_vector(table, RUNNING, X)
    arena, masks = memory.own_vector(table, ARENA, X), memory.byte_vector(table, MASKS, X)
    scratches = memory.own_matrix(table, SCRATCHES, X)
    sync = memory.int_vector(table, SYNC, X)
    prefetched = memory.int_vector(table, PREFETCHED, X)
    scratch = segment(scratches, t * scratches.shape[1], scratches.shape[1])
    to_logits, most = table[LOGITS] != 0, table[BLOCK]
    last = row_of(plan, plan.shape[0] - 1)
    m, n, ld = plan[0, M], last[N], last[LD]
    final = last[Z] if to_logits else last[O]
    count = 0
    for start in range(0, out.shape[0], most):
        rows = min(most, out.shape[0] - start)
        if start > 0 and rows != most:
            barrier(sync, T)  # rows change hands: nobody may still be at work in them
        lo, hi = share(rows, SAMPLES, t, T)
        if starts.size > 0:
            source = window(arena, plan[0, IN], rows, plan[0, IN_LD])
            for i in range(lo, hi):
                unpack_row(X, columns, starts, start + i, source, i, m)
        else:
            source = window(X, start * m, rows, m)
            for i in range(lo, hi):
                prefetched[2 * i] = address(X, min(start + i + SAMPLES_AHEAD, out.shape[0] - 1) * m)
                prefetched[2 * i + 1] = 0
        forward_rows(
            t, T, rows, lo, hi, plan, reals, source, parameters, running, arena, masks, sync, 0,
            0, 0, False, to_logits, scratch, 0, rows, table,  # no ranks: nobody looks there
            segment(prefetched, 0, 2 * rows if starts.size == 0 else 0),
        )  # fmt: skip
        result = window(arena, final, rows, ld)
        for i in range(lo, hi):
            copy_row(result, i, out, start + i, n)
            count += 0 if finite_row(source, i, m) else 1
    memory.int_vector(table, UNFIT, X)[t] = count
    restore_mode(mode)
    return count


compiled_loop(infer, "ii MM cII")
