"""A tile's loop over the depth: accumulators += A[:, p] * B[p, :] for each p, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir

from ..layout import CACHE_LINE
from .irtools import I64
from .tile_prefetch import first_of_next, prefetch_b, prefetch_batch

ROWS_A_LEADER: Final = 3
"""Rows of A that one running pointer reaches, at 0, 1 and 2 strides, which x86 adds for nothing."""


def depth_loop(function: ir.Function, tile: Any, a: Any, row: Any, starts: list[Any]) -> list[Any]:
    """for p in range(depth): accumulators += A[:, p] * B[p, :]."""
    builder, arg = tile.simd.builder, tile.arg
    leaders = [tile.row(a, arg["a_row"], i) for i in range(0, tile.height, ROWS_A_LEADER)]
    zero = ir.Constant(I64, 0)
    next_first, next_depth = first_of_next(tile, row) if tile.largest else (zero, zero)
    wanted = builder.or_(arg["prefetched"], next_depth)
    never = builder.zext(builder.icmp_signed("==", wanted, zero), I64)

    def prefetch(p: Any) -> None:
        """Once a line of A, for what is read soon."""
        within = builder.and_(p, ir.Constant(I64, CACHE_LINE // tile.simd.itemsize - 1))
        due = builder.icmp_signed("==", builder.or_(within, never), zero)
        with builder.if_then(due, likely=False):
            if not tile.largest:
                prefetch_batch(tile, row, p)
                return
            with builder.if_then(builder.icmp_signed("<", p, next_depth)):
                prefetch_b(tile, p, next_first)
            with builder.if_then(builder.icmp_signed("!=", arg["prefetched"], zero)):
                prefetch_batch(tile, row, p)

    state = [zero, arg["b"], *leaders, *starts]
    for steps in sorted({tile.steps, 1}, reverse=True):
        state = _while_left(function, tile, steps, prefetch, state)
    return state[-len(starts) :]


def _while_left(
    function: ir.Function, tile: Any, steps: int, prefetch: Callable[[Any], None], state: list[Any]
) -> list[Any]:
    """Emit `while p + steps <= depth: prefetch(p); so many steps; p += steps`; the state after it.

    The state is p, the pointers into B and A, the accumulators.
    """
    builder = tile.simd.builder
    before = builder.block
    head, body, after = (function.append_basic_block(n) for n in ("depth", "multiply", "summed"))
    builder.branch(head)
    builder.position_at_end(head)
    phis = [builder.phi(value.type) for value in state]
    p, *rest = phis
    following = builder.add(p, ir.Constant(I64, steps))
    builder.cbranch(builder.icmp_signed("<=", following, tile.arg["depth"]), body, after)
    builder.position_at_end(body)
    prefetch(p)
    for _ in range(steps):
        rest = _depth_step(tile, rest)
    for phi, first, value in zip(phis, state, (following, *rest), strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return phis


def _depth_step(tile: Any, state: list[Any]) -> list[Any]:
    """accumulators += A[:, p] * B[p, :]: the pointers and accumulators after it."""
    simd, arg = tile.simd, tile.arg
    cells = tile.cells()
    b_here, a_here, sums = state[0], state[1 : -len(cells)], state[-len(cells) :]
    row_b = [
        simd.load(simd.at(b_here, v * simd.lanes), tile.guard_of_b(v)) for v in range(tile.vectors)
    ]
    column_a = [
        simd.broadcast(tile.row(a_here[i // ROWS_A_LEADER], arg["a_row"], i % ROWS_A_LEADER))
        for i in range(tile.height)
    ]
    products = [simd.fma(column_a[i], row_b[v], s) for (i, v), s in zip(cells, sums, strict=True)]
    return [
        simd.at(b_here, arg["b_step"]),
        *(simd.hidden(simd.at(leader, arg["a_step"])) for leader in a_here),
        *products,
    ]
