"""Sums over the processes (ranks) that train one network together, made by MPI's own C function.

Each rank takes its rows of every batch, as each thread takes its share of a rank's. What the rows
of a batch add up to is summed over the ranks: the flat gradient at the end of a step, and the
statistics of batch norm on the way. The compiled loop calls MPI's functions by their addresses,
from its thread 0, so no step goes back to Python.

The gradient is summed by `MPI_Allreduce`, in place; or, where all ranks reach each other's memory
(MPI's shared windows), by all threads of all ranks, each its share of the elements: two meetings
of the ranks, and no copies.

`world` is an int64 vector that holds who this rank is, and the calls. Whoever fills it knows MPI
(`fastbp.distributed`); here are numbers alone. Of one rank on its own it is `ALONE`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..layout import BETA, BN, BN_NONE, GAMMA, MEAN, SPARE, VARIANCE, N
from .barrier import barrier
from .irtools import I32, I64
from .jit import JIT_DISABLED, inline
from .memory import own_vector, segment
from .shares import FLAT, SAMPLES, row_of, share

(
    RANK, RANKS, ALLREDUCE, IN_PLACE, TYPE, SUM, COMM, FIRST, LAST, ERROR, BARRIER, TOTAL,
) = range(12)  # fmt: skip
"""FIRST, LAST: the rank's rows of every batch, where they are not an even share: from FIRST up to
LAST. ERROR: what MPI returned where it was no success. TOTAL: where the vector that the ranks sum
their gradients into lies, 0 where they share no memory; its size follows, and then, likewise, the
gradient of each rank."""

VECTOR: Final = 2
"""Numbers of a shared vector: its address and its size."""

MOST: Final = 1 << 30
"""Elements of one call, whose count is an int of 32 bits."""

ALONE: Final = np.array([0, 1, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0])


def _call(builder: Any, address: Any, arguments: list[Any]) -> Any:
    """What the C function at an address returns, an int."""
    # Handles are ints in some MPIs and pointers in others: as a register they are the same.
    kind = ir.FunctionType(I32, [argument.type for argument in arguments])
    code = builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)
    return builder.sext(code, I64)


def _numbers(context: Any, builder: Any, kind: Any, world: Any, places: tuple[int, ...]) -> Any:
    data = context.make_array(kind)(context, builder, world).data
    return [builder.load(builder.gep(data, [I64(place)])) for place in places]


@intrinsic
def _allreduce(typingctx: Any, world: Any, array: Any, at: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        places = (ALLREDUCE, IN_PLACE, TYPE, SUM, COMM)
        function, in_place, *handles = _numbers(context, builder, sig.args[0], args[0], places)
        data = context.make_array(sig.args[1])(context, builder, args[1]).data
        start = builder.ptrtoint(builder.gep(data, [args[2]]), I64)
        size = builder.trunc(args[3], I32)
        return _call(builder, function, [in_place, start, size, *handles])

    return types.int64(world, array, types.intp, types.intp), codegen


@intrinsic
def _all_here(typingctx: Any, world: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function, comm = _numbers(context, builder, sig.args[0], args[0], (BARRIER, COMM))
        builder.fence("seq_cst")
        code = _call(builder, function, [comm])
        builder.fence("seq_cst")
        return code

    return types.int64(world), codegen


def _python(*args: Any) -> int:
    raise NotImplementedError("ranks share batches in compiled code only")


allreduce: Any = _python if JIT_DISABLED else _allreduce
"""`allreduce(world, array, at, count)`: array[at:at + count] becomes its sum over the ranks."""

all_here: Any = _python if JIT_DISABLED else _all_here
"""`all_here(world)`: return when all ranks have called it, and see what they wrote before."""


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
    return share(rows, SAMPLES, world[RANK], world[RANKS])


@inline
def pool_statistics(world: Any, arena: Any, at: int, n: int, rows: int, whole: int) -> None:
    """The statistics of a rank's `rows` become those of the `whole` batch.

    With c = rows / whole: mean = sum of c mean_r, variance = sum of c (variance_r + (mean_r -
    mean)^2) over the ranks r (Chan, Golub and LeVeque, 1979), so nothing cancels.
    """
    mean, variance = segment(arena, at + MEAN * n, n), segment(arena, at + VARIANCE * n, n)
    own = segment(arena, at + SPARE * n, n)
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
def over_ranks(
    t: int, T: int, world: Any, plan: Any, gradient: Any, loss: float, clipped: bool, sync: Any
) -> Any:  # fmt: skip
    """The vector that holds the gradient of all ranks; each thread has formed its part of its own.

    With it, 0, or NaN where a rank's loss is not finite: then all ranks stop at this step. The
    gradient's last element, beyond those of the parameters, travels along for that.

    clipped: the caller will change what it gets.
    """
    last = gradient.size - 1
    barrier(sync, T)
    if t == 0:
        leave_to_first(world, plan, gradient)
        gradient[last] = 0 if np.isfinite(loss) else np.nan
        if world[TOTAL] == 0:
            add_up(world, gradient, 0, gradient.size)
        else:
            meet(world)
        if world[ERROR] != 0:
            gradient[last] = np.nan
    barrier(sync, T)
    if world[TOTAL] == 0:
        return gradient, gradient[last]
    failed = gradient[last]
    for rank in range(world[RANKS]):
        failed += own_vector(world, TOTAL + VECTOR * (rank + 1), gradient)[last]
    total = own_vector(world, TOTAL, gradient)
    add_share(t, T, world, total, last)
    barrier(sync, T)
    if t == 0:
        meet(world)
    barrier(sync, T)
    if not clipped:
        return total, failed
    copy_share(t, T, total, gradient, last)
    barrier(sync, T)
    return gradient, failed


@inline
def leave_to_first(world: Any, plan: Any, gradient: Any) -> None:
    """Gradients of gamma and beta count on rank 0 alone; the others' become 0.

    They are the whole batch's already, as the backward pass needed them.
    """
    if world[RANK] > 0:
        for layer in range(plan.shape[0]):
            p = row_of(plan, layer)
            if p[BN] != BN_NONE:
                for at in (p[GAMMA], p[BETA]):
                    ready = segment(gradient, at, p[N])
                    for j in range(p[N]):
                        ready[j] = 0


@inline
def meet(world: Any) -> None:
    """Wait for all ranks; by one thread of each."""
    code = all_here(world)
    if code != 0:
        world[ERROR] = code


@inline
def add_share(t: int, T: int, world: Any, total: Any, size: int) -> None:
    """total[:size] becomes the sum of the ranks' gradients, in their order.

    Of it this thread forms its share of this rank's share, in blocks that stay in an L1.
    """
    first, last = share(size, FLAT, world[RANK], world[RANKS])
    lo, hi = share(last - first, FLAT, t, T)
    for start in range(first + lo, first + hi, FLAT):
        count = min(FLAT, first + hi - start)
        block = segment(total, start, count)
        one = segment(own_vector(world, TOTAL + VECTOR, total), start, count)
        two = segment(own_vector(world, TOTAL + 2 * VECTOR, total), start, count)
        for i in range(count):
            block[i] = one[i] + two[i]
        for rank in range(2, world[RANKS]):
            more = segment(own_vector(world, TOTAL + VECTOR * (rank + 1), total), start, count)
            for i in range(count):
                block[i] += more[i]


@inline
def copy_share(t: int, T: int, source: Any, target: Any, size: int) -> None:
    """target[:size] = source[:size], this thread's share of it."""
    lo, hi = share(size, FLAT, t, T)
    given, taken = segment(source, lo, hi - lo), segment(target, lo, hi - lo)
    for i in range(hi - lo):
        taken[i] = given[i]
