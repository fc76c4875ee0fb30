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
def together() -> None:
    """Say once in a kernel that all its blocks run at once: it is launched so, or refused."""
    cuda.cg.this_grid()


def _assembly(result: Any, operands: list[Any], text: str, constraints: str) -> ir.InlineAsm:
    """One instruction that the compiler moves nothing across."""
    kind = ir.FunctionType(result, operands)
    named = ",".join(filter(None, [constraints, "~{memory}"]))
    return ir.InlineAsm(kind, text, named, side_effect=True)


def _counter(module: Any) -> Any:
    """The number that blocks count themselves at: one of a module, 0 when it is loaded."""
    name = "fastbp_counter"
    if name in module.globals:
        return module.globals[name]
    counter = cgutils.add_global_variable(module, _I32, name, _GLOBAL)
    counter.initializer, counter.linkage = ir.Constant(_I32, 0), "linkonce_odr"
    return counter


@intrinsic
def _arrive(typingctx: Any, amount: Any) -> Any:
    """Add to the counter; what it was. Writes before are seen by whoever sees this."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        counter = _counter(builder.module)
        text = "atom.add.acq_rel.gpu.global.u32 $0, [$1], $2;"
        add = _assembly(_I32, [counter.type, _I32], text, "=r,l,r")
        return builder.call(add, [counter, builder.trunc(args[0], _I32)])

    return types.int32(types.int64), codegen


@intrinsic
def _seen(typingctx: Any) -> Any:
    """The counter; what was written before it became so is seen after."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        counter = _counter(builder.module)
        load = _assembly(_I32, [counter.type], "ld.acquire.gpu.global.u32 $0, [$1];", "=r,l")
        return builder.call(load, [counter])

    return types.int32(), codegen


@device
def meet_all() -> None:
    """All blocks meet. Together they add 2^31 to the counter: its sign turns with the last one.

    Some 1 us where cooperative groups' `sync` takes 1.6 to 2.0 (an H100).
    """
    meet()
    if thread() == 0:
        old = _arrive(2**31 - (blocks() - 1) if block() == 0 else 1)
        while old ^ _seen() >= 0:
            pass
    meet()


@device
def exchanged(value: Any, offset: int) -> Any:
    """The value of the thread whose number in the warp differs in that bit. All threads call it."""
    return cuda.shfl_xor_sync(0xFFFFFFFF, value, offset)


@intrinsic
def apart(typingctx: Any) -> Any:
    """Keep the function that says this out of line: its code is there once.

    A multiprocessor's instruction cache holds some 100 KB; what it has to fetch takes 0.2 us a KB.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def bring(typingctx: Any, shared: Any, to: Any, array: Any, index: Any, inside: Any) -> Any:
    """shared[to] = array[index], some time before it has `landed`; 0 where not `inside`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = _place(context, builder, sig.args[0], args[0], args[1], _SHARED)
        source = _place(context, builder, sig.args[2], args[2], args[3], _GLOBAL)
        size = sig.args[2].dtype.bitwidth // 8
        count = builder.select(args[4], _I32(size), _I32(0))
        text = f"cp.async.ca.shared.global [$0], [$1], {size}, $2;"
        copy = _assembly(ir.VoidType(), [_I32, source.type, _I32], text, "r,l,r")
        builder.call(copy, [builder.ptrtoint(target, _I32), source, count])
        return context.get_dummy_value()

    return types.void(shared, types.int64, array, types.int64, types.boolean), codegen


@intrinsic
def seal(typingctx: Any) -> Any:
    """What was brought since the last time is a parcel."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.call(_assembly(ir.VoidType(), [], "cp.async.commit_group;", ""), [])
        return context.get_dummy_value()

    return types.void(), codegen


def landing(pending: int) -> Any:
    """`landed()`: wait until all of this thread's parcels but the last `pending` are there."""

    @intrinsic
    def landed(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            text = f"cp.async.wait_group {pending};"
            builder.call(_assembly(ir.VoidType(), [], text, ""), [])
            return context.get_dummy_value()

        return types.void(), codegen

    return landed


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
