"""Sums over the processes (ranks) that train one network together, made by MPI's own C function.

Each rank takes its rows of every batch, as each thread takes its share of a rank's. What the rows
of a batch add up to is summed over the ranks in place: the flat gradient at the end of a step, and
the statistics of batch norm on the way. The compiled loop calls `MPI_Allreduce` by its address,
from its thread 0, so no step goes back to Python.

`world` is an int64 vector that holds who this rank is, and the call. Whoever fills it knows MPI
(`fastbp.distributed`); here are numbers alone. Of one rank on its own it is `ALONE`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..layout import BETA, BN, BN_NONE, GAMMA, MEAN, NOUGHT, VARIANCE, N
from .jit import JIT_DISABLED, inline
from .memory import segment
from .shares import row_of, share

(RANK, RANKS, ADDRESS, IN_PLACE, TYPE, SUM, COMM, FIRST, LAST, ERROR) = range(10)
"""FIRST, LAST: the rank's rows of every batch, where they are not an even share: from FIRST up to
LAST. ERROR: what MPI returned where it was no success."""

MOST: Final = 1 << 30
"""Elements of one call, whose count is an int of 32 bits."""

ALONE: Final = np.array([0, 1, 0, 0, 0, 0, 0, 0, -1, 0])

GRAIN: Final = 4
"""Rows of a batch are cut at multiples of this, as between threads."""


@intrinsic
def _allreduce(typingctx: Any, world: Any, array: Any, at: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        i32, i64 = ir.IntType(32), ir.IntType(64)
        numbers = context.make_array(sig.args[0])(context, builder, args[0]).data
        given = [
            builder.load(builder.gep(numbers, [i64(place)]))
            for place in (ADDRESS, IN_PLACE, TYPE, SUM, COMM)
        ]
        data = context.make_array(sig.args[1])(context, builder, args[1]).data
        start = builder.ptrtoint(builder.gep(data, [args[2]]), i64)
        # Handles are ints in some MPIs and pointers in others: as a register they are the same.
        kind = ir.FunctionType(i32, [i64, i64, i32, i64, i64, i64])
        function = builder.inttoptr(given[0], kind.as_pointer())
        size = builder.trunc(args[3], i32)
        code = builder.call(function, [given[1], start, size, *given[2:]])
        return builder.sext(code, i64)

    return types.int64(world, array, types.intp, types.intp), codegen


def _allreduce_python(world: Any, array: Any, at: int, count: int) -> int:
    raise NotImplementedError("ranks share batches in compiled code only")


allreduce: Any = _allreduce_python if JIT_DISABLED else _allreduce
"""`allreduce(world, array, at, count)`: array[at:at + count] becomes its sum over the ranks."""


@inline
def add_up(world: Any, array: Any, at: int, count: int) -> None:
    """array[at:at + count] becomes its sum over the ranks; by one thread of each."""
    for start in range(0, count, MOST):
        code = allreduce(world, array, at + start, min(MOST, count - start))
        if code != 0:
            world[ERROR] = code


@inline
def own_rows(world: Any, rows: int) -> tuple[int, int]:
    """This rank's rows [first, last) of a batch; none where there are more ranks than blocks."""
    if world[LAST] >= 0:
        return world[FIRST], world[LAST]
    return share(rows, GRAIN, world[RANK], world[RANKS])


@inline
def pool_statistics(world: Any, arena: Any, at: int, n: int, rows: int, whole: int) -> None:
    """The statistics of a rank's `rows` become those of the `whole` batch.

    With c = rows / whole: mean = sum of c mean_r, variance = sum of c (variance_r + (mean_r -
    mean)^2) over the ranks r (Chan, Golub and LeVeque, 1979), so nothing cancels.
    """
    mean, variance = segment(arena, at + MEAN * n, n), segment(arena, at + VARIANCE * n, n)
    own = segment(arena, at + NOUGHT * n, n)
    part = rows / whole
    for j in range(n):
        own[j] = mean[j] if rows > 0 else 0
        mean[j] = own[j] * part
    add_up(world, arena, at + MEAN * n, n)
    for j in range(n):
        apart = own[j] - mean[j]
        variance[j] = (variance[j] + apart * apart) * part if rows > 0 else 0
    add_up(world, arena, at + VARIANCE * n, n)


@inline
def sum_gradient(world: Any, plan: Any, gradient: Any, loss: float) -> float:
    """The gradient becomes that of the whole batch. Returns 0, or NaN where a rank's loss is not
    finite: then all ranks stop at this step.

    The gradient's last element, beyond those of the parameters, travels along for that. Those of
    gamma and beta are the whole batch's already, as the backward pass needed them; they are taken
    from rank 0.
    """
    if world[RANK] > 0:
        for layer in range(plan.shape[0]):
            p = row_of(plan, layer)
            if p[BN] != BN_NONE:
                for at in (p[GAMMA], p[BETA]):
                    ready = segment(gradient, at, p[N])
                    for j in range(p[N]):
                        ready[j] = 0
    flag = segment(gradient, gradient.size - 1, 1)
    flag[0] = 0 if np.isfinite(loss) else np.nan
    add_up(world, gradient, 0, gradient.size)
    if world[ERROR] != 0:
        flag[0] = np.nan
    return flag[0]
