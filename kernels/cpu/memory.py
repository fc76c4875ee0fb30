"""Windows into flat memory, and the floating-point mode of a thread.

The training loop keeps everything in a few flat vectors. `window` views a stretch of one as a
matrix without a reference count: Numba's counts are atomic, and threads that fight over one would
cost more than a small layer's arithmetic. Whoever calls the loop keeps the vectors alive.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import signature
from numba.extending import intrinsic

from .host import ARM, X86
from .jit import BOUNDS_CHECKED, JIT_DISABLED

CELLS = 3
"""Numbers of an array in an address table: its address and up to two extents."""


def _view(context: Any, builder: Any, sig: Any, args: Any, shape: list[Any]) -> Any:
    """An array struct over args[0][args[1]:], C-contiguous, owner unknown (no reference count)."""
    flat = context.make_array(sig.args[0])(context, builder, args[0])
    result = context.make_array(sig.return_type)(context, builder)
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(flat.data.type.pointee))
    strides = [itemsize]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    context.populate_array(
        result,
        data=builder.gep(flat.data, [args[1]]),
        shape=cgutils.pack_array(builder, shape),
        strides=cgutils.pack_array(builder, strides),
        itemsize=itemsize,
        meminfo=None,
    )
    return result._getvalue()


def _view_within(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The view that args[1:], an offset and extents, say; an IndexError where it leaves args[0]."""
    offset, *shape = args[1:]
    if BOUNDS_CHECKED:
        flat = context.make_array(sig.args[0])(context, builder, args[0])
        zero = offset.type(0)
        size = functools.reduce(builder.mul, shape)
        before = builder.icmp_signed("<", offset, zero)
        beyond = builder.icmp_signed(">", builder.add(offset, size), flat.nitems)
        some = builder.icmp_signed(">", size, zero)
        outside = builder.and_(some, builder.or_(before, beyond))
        with cgutils.if_unlikely(builder, outside):
            words = ("a window outside its array",)
            context.call_conv.return_user_exc(builder, IndexError, words)
    return _view(context, builder, sig, args, shape)


@intrinsic
def _window(typingctx: Any, flat: Any, offset: Any, rows: Any, cols: Any) -> Any:
    return types.Array(flat.dtype, 2, "C")(flat, types.intp, types.intp, types.intp), _view_within


@intrinsic
def _segment(typingctx: Any, flat: Any, offset: Any, size: Any) -> Any:
    return types.Array(flat.dtype, 1, "C")(flat, types.intp, types.intp), _view_within


def _window_python(flat: np.ndarray, offset: int, rows: int, cols: int) -> np.ndarray:
    return flat.reshape(-1)[offset : offset + rows * cols].reshape(rows, cols)


def _segment_python(flat: np.ndarray, offset: int, size: int) -> np.ndarray:
    return flat.reshape(-1)[offset : offset + size]


def _addressed(rank: int, dtype: Any = None) -> Any:
    """The intrinsic f(table, at, like): the array whose address and extents table[at:] holds."""

    @intrinsic
    def array(typingctx: Any, table: Any, at: Any, like: Any) -> Any:
        kind = types.Array(dtype or like.dtype, rank, "C")

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            numbers = [
                builder.load(builder.gep(data, [builder.add(args[1], args[1].type(i))]))
                for i in range(1 + rank)
            ]
            element = context.get_data_type(kind.dtype)
            flat = context.make_array(types.Array(kind.dtype, 1, "C"))(context, builder)
            flat.data = builder.inttoptr(numbers[0], element.as_pointer())
            given = signature(kind, types.Array(kind.dtype, 1, "C"), types.intp)
            values = [flat._getvalue(), numbers[0].type(0)]
            return _view(context, builder, given, values, numbers[1:])

        return kind(table, types.intp, like), codegen

    return array


def _addressed_python(table: Any, at: int, like: Any) -> Any:
    return table[at]


@intrinsic(prefer_literal=True)
def _local(typingctx: Any, zero: Any, size: Any) -> Any:
    dtype = types.unliteral(zero)
    extent = size.literal_value
    sig = types.Array(dtype, 1, "C")(zero, size)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = context.get_data_type(dtype)
        data = cgutils.alloca_once(builder, element, ir.Constant(ir.IntType(64), extent))
        data.align = 64
        result = context.make_array(sig.return_type)(context, builder)
        itemsize = context.get_constant(types.intp, context.get_abi_sizeof(element))
        context.populate_array(
            result,
            data=data,
            shape=cgutils.pack_array(builder, [context.get_constant(types.intp, extent)]),
            strides=cgutils.pack_array(builder, [itemsize]),
            itemsize=itemsize,
            meminfo=None,
        )
        return result._getvalue()

    return sig, codegen


def _local_python(zero: Any, size: int) -> np.ndarray:
    return np.empty(size, zero.dtype)


local: Any = _local_python if JIT_DISABLED else _local
"""`local(zero, size)`: an uninitialised vector on the stack, of the type of the scalar `zero` and a
constant size, aligned to 64 bytes. It lives as long as the function's frame: never return it."""

window: Any = _window_python if JIT_DISABLED else _window
"""`window(flat, offset, rows, cols)`: flat[offset:][:rows * cols] as a matrix, nothing counted."""

segment: Any = _segment_python if JIT_DISABLED else _segment
"""`segment(array, offset, size)`: `size` elements of a C-contiguous array of any rank from its flat
element `offset` on, nothing counted. A loop over `range(size)` of a segment vectorises: Numba sees
that the index cannot be negative."""


own_vector, own_matrix, int_vector, int_matrix, float_matrix, byte_vector = (
    (_addressed_python,) * 6
    if JIT_DISABLED
    else (
        _addressed(1), _addressed(2), _addressed(1, types.int64), _addressed(2, types.int64),
        _addressed(2, types.float64), _addressed(1, types.uint8),
    )
)  # fmt: skip
"""`own_vector(table, at, like)`: the array of like's dtype whose address and extents are the
numbers of the int64 vector `table` from `at` on. A call unboxes one table instead of many arrays,
at 0.1 us each. With the JIT off table[at] is the array."""


def address_table(arrays: list[np.ndarray], cells: int) -> Any:
    """The table of arrays, CELLS apart, behind `cells` numbers of the caller's; it keeps none."""
    if JIT_DISABLED:
        table: list[Any] = [0] * cells
        for array in arrays:
            table += [array] + [None] * (CELLS - 1)
        return table
    numbers = np.zeros(cells + CELLS * len(arrays), np.int64)
    for i, array in enumerate(arrays):
        at = cells + CELLS * i
        numbers[at : at + 1 + array.ndim] = [array.ctypes.data, *array.shape]
    return numbers


@intrinsic
def _address(typingctx: Any, array: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(builder.gep(data, [args[1]]), ir.IntType(64))

    return types.int64(array, types.int64), codegen


def _address_python(array: np.ndarray, index: int) -> int:
    return 0


address: Any = _address_python if JIT_DISABLED else _address
"""`address(array, index)`: of the flat element `index`; 0 with the JIT off: nobody looks then."""


def _mode_register(builder: Any, value: Any = None) -> Any:
    """Read the floating-point control register, or write `value` into it."""
    module, i32, i64 = builder.module, ir.IntType(32), ir.IntType(64)
    if X86:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer])
        slot = cgutils.alloca_once(builder, i32)
        name = "llvm.x86.sse.stmxcsr" if value is None else "llvm.x86.sse.ldmxcsr"
        if value is not None:
            builder.store(builder.trunc(value, i32), slot)
        function = cgutils.get_or_insert_function(module, kind, name)
        builder.call(function, [builder.bitcast(slot, pointer)])
        return builder.zext(builder.load(slot), i64)
    if ARM:
        if value is None:
            kind = ir.FunctionType(i64, [])
            function = cgutils.get_or_insert_function(module, kind, "llvm.aarch64.get.fpcr")
            return builder.call(function, [])
        kind = ir.FunctionType(ir.VoidType(), [i64])
        function = cgutils.get_or_insert_function(module, kind, "llvm.aarch64.set.fpcr")
        builder.call(function, [value])
    return ir.Constant(i64, 0)


# x86: FTZ is bit 15 and DAZ bit 6 of MXCSR; ARM: FZ is bit 24 of FPCR.
_FLUSH_BITS = (1 << 15 | 1 << 6) if X86 else 1 << 24


@intrinsic
def _flush_denormals(typingctx: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        old = _mode_register(builder)
        _mode_register(builder, builder.or_(old, ir.Constant(old.type, _FLUSH_BITS)))
        return old

    return types.int64(), codegen


@intrinsic
def _restore_mode(typingctx: Any, mode: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _mode_register(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def _flush_python() -> int:
    return 0


def _restore_python(mode: int) -> None:
    return None


flush_denormals: Any = _flush_python if JIT_DISABLED else _flush_denormals
"""Count denormals as 0 in this thread (vanishing gradients would run tenfold slower); the former
mode is returned, and every exit hands it to `restore_mode`."""

restore_mode: Any = _restore_python if JIT_DISABLED else _restore_mode
