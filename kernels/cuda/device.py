"""The machine as Numba's CUDA target has it, and what Numba has no words for in LLVM's.

Threads, barriers, shared memory and launches; what tiles are made of is in `tile_parts.py`.
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

GLOBAL: Final = 1  # NVVM's address spaces
SHARED: Final = 3
I32: Final = ir.IntType(32)
I64: Final = ir.IntType(64)
BLOCK_MASK: Final = 0xFFFF
"""Of a launch: numbers of blocks have 16 bits, which says that no division has to mind a sign."""
_names = itertools.count()


class Kernel:
    """A function that a grid of threads runs."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self.dispatcher = keep(cuda.jit(function), function)
        self.__name__ = function.__name__
        self._grids: dict[int, Any] = {}

    def launch(self, blocks: int, *args: Any) -> None:
        """Start it on the default stream. It may not have ended when this returns.

        Of more blocks than `BLOCK_MASK` those are started: kernels go on by the grid's size. Where
        there is nothing to do, one is: a driver refuses a grid of none.
        """
        blocks = min(max(blocks, 1), BLOCK_MASK)
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
    """The thread's number in its block. The mask says how large it can be, and saves divisions."""
    return int64(cuda.threadIdx.x) & THREADS - 1


@device
def block() -> int:
    """The block's number."""
    return int64(cuda.blockIdx.x) & BLOCK_MASK


@device
def blocks() -> int:
    """How many blocks there are."""
    return int64(cuda.gridDim.x) & BLOCK_MASK


@device
def sync_block() -> None:
    """All threads of the block wait for each other."""
    cuda.syncthreads()


@device
def cooperative() -> None:
    """Say once in a kernel that all its blocks run at once: it is launched so, or refused."""
    cuda.cg.this_grid()


def assembly(result: Any, operands: list[Any], text: str, constraints: str) -> ir.InlineAsm:
    """One instruction that the compiler moves nothing across."""
    kind = ir.FunctionType(result, operands)
    named = ",".join(filter(None, [constraints, "~{memory}"]))
    return ir.InlineAsm(kind, text, named, side_effect=True)


def _counter(module: Any) -> Any:
    """The number that blocks count themselves at: one of a module, 0 when it is loaded."""
    name = "fastbp_counter"
    if name in module.globals:
        return module.globals[name]
    counter = cgutils.add_global_variable(module, I32, name, GLOBAL)
    counter.initializer, counter.linkage = ir.Constant(I32, 0), "linkonce_odr"
    return counter


@intrinsic
def _arrive(typingctx: Any, amount: Any) -> Any:
    """Add to the counter; what it was. Writes before are seen by whoever sees this."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        counter = _counter(builder.module)
        text = "atom.add.acq_rel.gpu.global.u32 $0, [$1], $2;"
        add = assembly(I32, [counter.type, I32], text, "=r,l,r")
        return builder.call(add, [counter, builder.trunc(args[0], I32)])

    return types.int32(types.int64), codegen


@intrinsic
def _seen(typingctx: Any) -> Any:
    """The counter; what was written before it became so is seen after."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        counter = _counter(builder.module)
        load = assembly(I32, [counter.type], "ld.acquire.gpu.global.u32 $0, [$1];", "=r,l")
        return builder.call(load, [counter])

    return types.int32(), codegen


@device
def sync_grid() -> None:
    """All threads of all blocks wait for each other.

    The blocks add 2^31 to the counter among them: its sign turns with the last one. Without
    the call that cooperative groups' `sync` is: that took 1.6 us for 1 block, 2.1 for 132.
    """
    sync_block()
    if thread() == 0:
        old = _arrive(2**31 - (blocks() - 1) if block() == 0 else 1)
        while old ^ _seen() >= 0:
            pass
    sync_block()


@device
def shuffle_xor(value: Any, offset: int) -> Any:
    """The value of the thread whose number in the warp differs in that bit. All threads call it."""
    return cuda.shfl_xor_sync(0xFFFFFFFF, value, offset)


@intrinsic
def noinline(typingctx: Any) -> Any:
    """Keep the function that says this out of line: it has the registers to itself."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


def _shared_array(context: Any, builder: Any, kind: Any, size: int) -> Any:
    """An array over shared memory of its own, on 16 bytes."""
    held = ir.ArrayType(context.get_data_type(kind.dtype), size)
    name = f"fastbp_shared_{next(_names)}"
    memory = cgutils.add_global_variable(builder.module, held, name, SHARED)
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


@intrinsic(prefer_literal=True)
def shared_doubles(typingctx: Any, size: Any) -> Any:
    """So many (a literal) float64 of the block's shared memory."""
    kind, count = types.Array(types.float64, 1, "C"), size.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _shared_array(context, builder, kind, count)

    return kind(size), codegen


@intrinsic(prefer_literal=True)
def shared_integers(typingctx: Any, size: Any) -> Any:
    """So many (a literal) integers of the block's shared memory."""
    kind, count = types.Array(types.int64, 1, "C"), size.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _shared_array(context, builder, kind, count)

    return kind(size), codegen


def _numpy(dtype: Any) -> Any:
    import numpy as np

    return {float32: np.float32, float64: np.float64}[dtype]


@intrinsic
def like(typingctx: Any, x: Any, number: Any) -> Any:
    """A number in the dtype of x."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.cast(builder, args[1], sig.args[1], sig.args[0])

    return x(x, number), codegen


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = [
            context.cast(builder, x, t, sig.return_type)
            for x, t in zip(args, sig.args, strict=True)
        ]
        kind = values[0].type
        name = f"llvm.fma.f{32 if isinstance(kind, ir.FloatType) else 64}"
        fused = ir.FunctionType(kind, [kind] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, fused, name), values)

    return a(a, b, c), codegen


def place_of(context: Any, builder: Any, kind: Any, array: Any, index: Any, space: int = 0) -> Any:
    """Where an element of a 1-D array lies."""
    data = context.make_array(kind)(context, builder, array).data
    place = builder.gep(data, [index])
    if space:
        place = builder.addrspacecast(place, ir.PointerType(place.type.pointee, space))
    return place


@intrinsic
def shared_load(typingctx: Any, shared: Any, index: Any) -> Any:
    """shared[index], by an address within shared memory."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(place_of(context, builder, sig.args[0], args[0], args[1], SHARED))

    return shared.dtype(shared, types.int64), codegen


@intrinsic
def shared_store(typingctx: Any, shared: Any, index: Any, value: Any) -> Any:
    """shared[index] = value, likewise."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], place_of(context, builder, sig.args[0], args[0], args[1], SHARED))
        return context.get_dummy_value()

    return types.void(shared, types.int64, shared.dtype), codegen
