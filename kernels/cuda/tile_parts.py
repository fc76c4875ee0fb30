"""What tiles are made of, in LLVM's terms: stages on their way, sums in registers, results.

A thread's results are in registers because they are values, never an array: no optimisation has to
find that out. What is read of shared memory comes by 16 bytes; that the memory is shared, or the
card's, is said, not inferred. See docs/decisions/0045-cuda-by-one-kernel.md.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .device import GLOBAL, I32, I64, SHARED, assembly, fused, place_of


@intrinsic
def bring(typingctx: Any, shared: Any, to: Any, array: Any, index: Any, inside: Any) -> Any:
    """shared[to] = array[index], some time before it has `landed`; 0 where not `inside`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = place_of(context, builder, sig.args[0], args[0], args[1], SHARED)
        source = place_of(context, builder, sig.args[2], args[2], args[3], GLOBAL)
        size = sig.args[2].dtype.bitwidth // 8
        count = builder.select(args[4], I32(size), I32(0))
        text = f"cp.async.ca.shared.global [$0], [$1], {size}, $2;"
        copy = assembly(ir.VoidType(), [I32, source.type, I32], text, "r,l,r")
        builder.call(copy, [builder.ptrtoint(target, I32), source, count])
        return context.get_dummy_value()

    return types.void(shared, types.int64, array, types.int64, types.boolean), codegen


@intrinsic
def seal(typingctx: Any) -> Any:
    """What was brought since the last time is a parcel."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.call(assembly(ir.VoidType(), [], "cp.async.commit_group;", ""), [])
        return context.get_dummy_value()

    return types.void(), codegen


def landing(pending: int) -> Any:
    """`landed()`: wait until all of this thread's parcels but the last `pending` are there."""

    @intrinsic
    def landed(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            text = f"cp.async.wait_group {pending};"
            builder.call(assembly(ir.VoidType(), [], text, ""), [])
            return context.get_dummy_value()

        return types.void(), codegen

    return landed


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
    return ir.PointerType(ir.VectorType(element, lanes), SHARED), lanes


def _four(builder: Any, place: Any, offset: int) -> list[Any]:
    """The four elements at place + offset, loaded by 16 bytes."""
    pointer, lanes = _lanes(place)
    values = []
    for part in range(0, 4, lanes):
        at = builder.bitcast(builder.gep(place, [I64(offset + part)]), pointer)
        loaded = builder.load(at, align=16)
        values += [builder.extract_element(loaded, I32(i)) for i in range(lanes)]
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
                place_of(context, builder, kind, args[0], index, SHARED) for index in args[1:3]
            )
            multiply_add = fused(builder, at_a.type.pointee)
            values = [builder.extract_value(args[3], i) for i in range(micro * micro)]
            for k in range(terms):
                offsets = [k * step + g * group for g in range(micro // 4)]
                column, row = (
                    [x for offset in offsets for x in _four(builder, place, offset)]
                    for place in (at_a, at_b)
                )
                for i, old in enumerate(values):
                    pair = [column[i // micro], row[i % micro]]
                    values[i] = builder.call(multiply_add, [*pair, old])
            return context.make_tuple(builder, sig.return_type, values)

        return sums(shared, types.int64, types.int64, sums), codegen

    return accumulate


def banding(micro: int, group: int, band: int) -> Any:
    """`lay(sums, shared, base, ld)`: the band-th four rows of a thread's results, by vectors."""

    @intrinsic
    def lay(typingctx: Any, sums: Any, shared: Any, base: Any, ld: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            for r in range(4):
                start = builder.add(args[2], builder.mul(I64(r), args[3]))
                place = place_of(context, builder, sig.args[1], args[1], start, SHARED)
                pointer, lanes = _lanes(place)
                for c in range(0, micro, lanes):
                    first = (4 * band + r) * micro + c
                    vector = ir.Constant(pointer.pointee, ir.Undefined)
                    for i in range(lanes):
                        value = builder.extract_value(args[0], first + i)
                        vector = builder.insert_element(vector, value, I32(i))
                    at = builder.gep(place, [I64(c // 4 * group + c % 4)])
                    builder.store(vector, builder.bitcast(at, pointer), align=16)
            return context.get_dummy_value()

        return types.void(sums, shared, types.int64, types.int64), codegen

    return lay
