"""The machine as Numba's CUDA target has it, and what Numba has no words for in LLVM's.

A thread's results are in registers because they are values, never an array: no optimisation has to
find that out. What is read of shared memory comes by 16 bytes; that the memory is shared, or the
card's, is said, not inferred. See docs/decisions/0045-cuda-by-one-kernel.md.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import float32, float64, int64, types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic

from .cache import keep
from .shim import cuda
from .tiles import THREADS, room

_GLOBAL: Final = 1  # NVVM's address spaces
_SHARED: Final = 3
_I32: Final = ir.IntType(32)
_I64: Final = ir.IntType(64)
_names = itertools.count()


class Kernel:
    """A function that a grid of threads runs."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self.dispatcher = keep(cuda.jit(function), function)
        self.__name__ = function.__name__
        self._grids: dict[int, Any] = {}

    def launch(self, blocks: int, *args: Any) -> None:
        """Start it on the default stream. It may not have ended when this returns."""
        grid = self._grids.get(blocks)
        if grid is None:
            grid = self._grids[blocks] = self._grid(int(blocks))
        grid(*args)

    def _grid(self, blocks: int) -> Any:
        """A launch of so many blocks; that few leave a card idle is known, and meant."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*Grid size")  # begins with a terminal's colours
            return self.dispatcher[blocks, THREADS]


def kernel(function: Callable[..., None]) -> Kernel:
    """A function to launch."""
    return Kernel(function)


def device(function: Callable[..., Any]) -> Any:
    """A function that kernels call."""
    return cuda.jit(device=True)(function)


@device
def thread() -> int:
    return int64(cuda.threadIdx.x)


@device
def block() -> int:
    return int64(cuda.blockIdx.x)


@device
def blocks() -> int:
    return int64(cuda.gridDim.x)


@device
def meet() -> None:
    cuda.syncthreads()


@device
def meet_all() -> None:
    cuda.cg.this_grid().sync()


def _shared_array(context: Any, builder: Any, kind: Any, size: int) -> Any:
    """An array over shared memory of its own, on 16 bytes."""
    held = ir.ArrayType(context.get_data_type(kind.dtype), size)
    name = f"fastbp_shared_{next(_names)}"
    memory = cgutils.add_global_variable(builder.module, held, name, _SHARED)
    memory.align, memory.initializer = 16, ir.Constant(held, ir.Undefined)
    generic = builder.addrspacecast(memory, ir.PointerType(held), "generic")
    array = context.make_array(kind)(context, builder)
    itemsize = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
    context.populate_array(
        array,
        data=builder.bitcast(generic, array.data.type),
        shape=[context.get_constant(types.intp, size)],
        strides=[itemsize],
        itemsize=itemsize,
        meminfo=None,
    )
    return array._getvalue()


@intrinsic
def shared_reals(typingctx: Any, real: Any) -> Any:
    """The block's shared memory in the kernel's dtype; `real` is an array of it."""
    kind = types.Array(real.dtype, 1, "C")
    size = room(_numpy(real.dtype))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _shared_array(context, builder, kind, size)

    return kind(real), codegen


@intrinsic
def shared_doubles(typingctx: Any) -> Any:
    kind = types.Array(types.float64, 1, "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _shared_array(context, builder, kind, THREADS)

    return kind(), codegen


def _numpy(dtype: Any) -> Any:
    import numpy as np

    return {float32: np.float32, float64: np.float64}[dtype]


@intrinsic
def like(typingctx: Any, x: Any, number: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.cast(builder, args[1], sig.args[1], sig.args[0])

    return x(x, number), codegen


def _fused(builder: Any, kind: Any) -> Any:
    name = f"llvm.fma.f{32 if isinstance(kind, ir.FloatType) else 64}"
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = [
            context.cast(builder, x, t, sig.return_type)
            for x, t in zip(args, sig.args, strict=True)
        ]
        return builder.call(_fused(builder, values[0].type), values)

    return a(a, b, c), codegen


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any, space: int = 0) -> Any:
    """Where an element of a 1-D array lies."""
    data = context.make_array(kind)(context, builder, array).data
    place = builder.gep(data, [index])
    if space:
        place = builder.addrspacecast(place, ir.PointerType(place.type.pointee, space))
    return place


@intrinsic
def peek(typingctx: Any, shared: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_place(context, builder, sig.args[0], args[0], args[1], _SHARED))

    return shared.dtype(shared, types.int64), codegen


@intrinsic
def poke(typingctx: Any, shared: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _place(context, builder, sig.args[0], args[0], args[1], _SHARED))
        return context.get_dummy_value()

    return types.void(shared, types.int64, shared.dtype), codegen


@intrinsic
def take(typingctx: Any, array: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_place(context, builder, sig.args[0], args[0], args[1], _GLOBAL))

    return array.dtype(array, types.int64), codegen


def _blank(count: int) -> Any:
    @intrinsic
    def blank(typingctx: Any, real: Any) -> Any:
        result = types.UniTuple(real.dtype, count)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            zero = ir.Constant(context.get_value_type(real.dtype), 0.0)
            return context.make_tuple(builder, result, [zero] * count)

        return result(real), codegen

    return blank


blank16, blank64 = _blank(16), _blank(64)


@intrinsic
def registers(typingctx: Any, real: Any, count: Any) -> Any:
    """An array of a few elements that is a thread's own; constant indices make it registers."""
    if not isinstance(count, types.IntegerLiteral):
        raise RequireLiteralValue(count)
    kind = types.Array(real.dtype, 1, "C")
    size = count.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        held = ir.ArrayType(context.get_data_type(real.dtype), size)
        memory = cgutils.alloca_once(builder, held)
        array = context.make_array(kind)(context, builder)
        itemsize = context.get_constant(types.intp, real.dtype.bitwidth // 8)
        context.populate_array(
            array,
            data=builder.bitcast(memory, array.data.type),
            shape=[context.get_constant(types.intp, size)],
            strides=[itemsize],
            itemsize=itemsize,
            meminfo=None,
        )
        return array._getvalue()

    return kind(real, count), codegen


def _lanes(place: Any) -> tuple[Any, int]:
    """Vectors of 16 bytes from there on in shared memory, and how many elements each has."""
    element = place.type.pointee
    lanes = 16 // (4 if isinstance(element, ir.FloatType) else 8)
    return ir.PointerType(ir.VectorType(element, lanes), _SHARED), lanes


def _four(builder: Any, place: Any, offset: int) -> list[Any]:
    """The four elements at place + offset, loaded by 16 bytes."""
    pointer, lanes = _lanes(place)
    values = []
    for part in range(0, 4, lanes):
        at = builder.bitcast(builder.gep(place, [_I64(offset + part)]), pointer)
        loaded = builder.load(at, align=16)
        values += [builder.extract_element(loaded, _I32(i)) for i in range(lanes)]
    return values


def accumulation(micro: int, group: int, step: int, terms: int) -> Any:
    """`accumulate(shared, a, b, sums)`: sums + a stage's outer products, fused, by ascending k.

    The k-th column's elements lie at a + k step, in groups of four that are `group` apart; the
    row's at b + k step. All `terms` are one straight piece of code, for the assembler to order.
    """

    @intrinsic
    def accumulate(typingctx: Any, shared: Any, a: Any, b: Any, sums: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = sig.args[0]
            at_a, at_b = (
                _place(context, builder, kind, args[0], index, _SHARED) for index in args[1:3]
            )
            fused = _fused(builder, at_a.type.pointee)
            values = [builder.extract_value(args[3], i) for i in range(micro * micro)]
            for k in range(terms):
                offsets = [k * step + g * group for g in range(micro // 4)]
                column, row = (
                    [x for offset in offsets for x in _four(builder, place, offset)]
                    for place in (at_a, at_b)
                )
                for i, old in enumerate(values):
                    pair = [column[i // micro], row[i % micro]]
                    values[i] = builder.call(fused, [*pair, old])
            return context.make_tuple(builder, sig.return_type, values)

        return sums(shared, types.int64, types.int64, sums), codegen

    return accumulate


def banding(micro: int, group: int, band: int) -> Any:
    """`lay(sums, shared, base, ld)`: the band-th four rows of a thread's results, by vectors."""

    @intrinsic
    def lay(typingctx: Any, sums: Any, shared: Any, base: Any, ld: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            for r in range(4):
                start = builder.add(args[2], builder.mul(_I64(r), args[3]))
                place = _place(context, builder, sig.args[1], args[1], start, _SHARED)
                pointer, lanes = _lanes(place)
                for c in range(0, micro, lanes):
                    first = (4 * band + r) * micro + c
                    vector = ir.Constant(pointer.pointee, ir.Undefined)
                    for i in range(lanes):
                        value = builder.extract_value(args[0], first + i)
                        vector = builder.insert_element(vector, value, _I32(i))
                    at = builder.gep(place, [_I64(c // 4 * group + c % 4)])
                    builder.store(vector, builder.bitcast(at, pointer), align=16)
            return context.get_dummy_value()

        return types.void(sums, shared, types.int64, types.int64), codegen

    return lay


@intrinsic
def spill(
    typingctx: Any, sums: Any, into: Any, base: Any, ld: Any, group: Any, rows: Any, columns: Any
) -> Any:
    """Store a thread's results that are within `rows` and `columns`, in groups of four by four."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sums, into, base, ld, group, rows, columns = args
        micro = int(sig.args[0].count ** 0.5)

        def along(index: int) -> Any:
            return builder.add(builder.mul(_I64(index // 4), group), _I64(index % 4))

        for r in range(micro):
            i = along(r)
            start = builder.add(base, builder.mul(i, ld))
            with builder.if_then(builder.icmp_signed("<", i, rows)):
                for c in range(micro):
                    j = along(c)
                    with builder.if_then(builder.icmp_signed("<", j, columns)):
                        at = builder.add(start, j)
                        place = _place(context, builder, sig.args[1], into, at, _GLOBAL)
                        builder.store(builder.extract_value(sums, r * micro + c), place)
        return context.get_dummy_value()

    return types.void(sums, into, *[types.int64] * 5), codegen
