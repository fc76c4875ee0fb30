"""The machine as Numba's CUDA target has it, and what Numba has no words for in LLVM's.

`outer` keeps a thread's results in registers: they are values, never an array, so no optimisation
has to find that out. `four` is one load of 16 bytes (two for float64) from shared memory; that the
memory is shared is said, not inferred. See docs/decisions/0045-cuda-by-one-kernel.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import float32, float64, int64, types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic

from .shim import cuda
from .tiles import THREADS, room

_SHARED: Final = 3  # NVVM's address space
_I64: Final = ir.IntType(64)
_names = itertools.count()


class Kernel:
    """A function that a grid of threads runs."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self.dispatcher = cuda.jit(function)
        self.__name__ = function.__name__

    def launch(self, blocks: int, *args: Any) -> None:
        """Start it on the default stream. It may not have ended when this returns."""
        self.dispatcher[int(blocks), THREADS](*args)


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
def four(typingctx: Any, shared: Any, index: Any) -> Any:
    result = types.UniTuple(shared.dtype, 4)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _place(context, builder, sig.args[0], args[0], args[1], _SHARED)
        element = place.type.pointee
        lanes = 16 // (4 if isinstance(element, ir.FloatType) else 8)
        vector = ir.VectorType(element, lanes)
        first = builder.bitcast(place, ir.PointerType(vector, _SHARED))
        values = []
        for part in range(4 // lanes):
            loaded = builder.load(builder.gep(first, [_I64(part)]), align=16)
            values += [builder.extract_element(loaded, ir.IntType(32)(i)) for i in range(lanes)]
        return context.make_tuple(builder, result, values)

    return result(shared, types.int64), codegen


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


@intrinsic
def outer(typingctx: Any, sums: Any, a: Any, b: Any) -> Any:
    """sums[r, c] + a[r] b[c], fused."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, columns = sig.args[1].count, sig.args[2].count
        fused = _fused(builder, context.get_value_type(sig.args[1].dtype))
        values = []
        for r in range(rows):
            x = builder.extract_value(args[1], r)
            for c in range(columns):
                y = builder.extract_value(args[2], c)
                old = builder.extract_value(args[0], r * columns + c)
                values.append(builder.call(fused, [x, y, old]))
        return context.make_tuple(builder, sig.return_type, values)

    return sums(sums, a, b), codegen


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
                        place = _place(context, builder, sig.args[1], into, at)
                        builder.store(builder.extract_value(sums, r * micro + c), place)
        return context.get_dummy_value()

    return types.void(sums, into, *[types.int64] * 5), codegen
