"""What all emitters of LLVM IR say: a function, a loop, an intrinsic, masked loads and stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils

POINTER: Final = ir.PointerType()
I8, I32, I64, VOID = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.VoidType()


def internal_function(module: ir.Module, kind: ir.FunctionType, name: str) -> ir.Function:
    """A function of this module alone, called and never copied into its callers."""
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    return function


def call_intrinsic(builder: Any, name: str, result: ir.Type, values: Sequence[Any]) -> Any:
    """Call one of LLVM's own functions, declared where it is not yet."""
    module = builder.module
    kind = ir.FunctionType(result, [value.type for value in values])
    function = module.globals.get(name) or ir.Function(module, kind, name)
    return builder.call(function, values)


def type_suffix(kind: ir.Type) -> str:
    """What an intrinsic's name ends in: f32, v16f32, v8f64."""
    lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    return f"{lanes}f{32 if isinstance(element, ir.FloatType) else 64}"


class Loop:
    """`for counter in range(0, stop, step)` as blocks; the body is emitted inside `with`."""

    def __init__(self, builder: ir.IRBuilder, stop: Any, step: int) -> None:
        self.builder, self.stop, self.step = builder, stop, step

    def __enter__(self) -> Any:
        builder = self.builder
        function = builder.function
        before = builder.block
        self.head, body, self.after = (
            function.append_basic_block(n) for n in ("loop", "body", "after")
        )
        builder.branch(self.head)
        builder.position_at_end(self.head)
        self.counter = builder.phi(I64)
        self.counter.add_incoming(ir.Constant(I64, 0), before)
        inside = builder.icmp_signed("<", self.counter, self.stop)
        builder.cbranch(inside, body, self.after)
        builder.position_at_end(body)
        return self.counter

    def __exit__(self, *_: object) -> None:
        builder = self.builder
        following = builder.add(self.counter, ir.Constant(I64, self.step))
        self.counter.add_incoming(following, builder.block)
        builder.branch(self.head)
        builder.position_at_end(self.after)


def splat(builder: Any, scalar: Any, kind: ir.VectorType) -> Any:
    """The scalar in every lane."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, I32(0))
    order = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, undefined, order)


def first_lanes(builder: Any, left: Any, lanes: int, width: ir.Type = I32) -> Any:
    """The mask of the lanes below `left` (an i64); none where it is negative.

    Compared in integers of this width: those of the tiles are as wide as their elements. AVX2 keeps
    wider ones in two registers, and makes the mask of them anew at every load.
    """
    full = left.type(lanes)
    some = builder.select(builder.icmp_signed("<", left, full), left, full)
    if width != left.type:
        some = builder.trunc(some, width)
    kind = ir.VectorType(width, lanes)
    numbers = ir.Constant(kind, list(range(lanes)))
    return builder.icmp_signed("<", numbers, splat(builder, some, kind))


def load(builder: Any, place: Any, mask: Any, kind: ir.VectorType) -> Any:
    """A vector from anywhere; 0 in the lanes that a mask leaves out."""
    align = 4 if isinstance(kind.element, ir.FloatType) else 8
    if mask is None:
        return builder.load(place, typ=kind, align=align)
    zero = ir.Constant(kind, [ir.Constant(kind.element, 0.0)] * kind.count)
    values = [builder.bitcast(place, POINTER), I32(align), mask, zero]
    return call_intrinsic(builder, f"llvm.masked.load.{type_suffix(kind)}.p0", kind, values)


def store(builder: Any, value: Any, place: Any, mask: Any) -> None:
    """A vector to anywhere, but the lanes that a mask leaves out."""
    align = 4 if isinstance(value.type.element, ir.FloatType) else 8
    if mask is None:
        builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=align)
        return
    values = [value, builder.bitcast(place, POINTER), I32(align), mask]
    name = f"llvm.masked.store.{type_suffix(value.type)}.p0"
    call_intrinsic(builder, name, VOID, values)


def each_vector(builder: Any, count: Any, lanes: int, body: Callable[[Any, Any], None]) -> None:
    """body(i, None) for every whole vector of `count` elements, then body(i, mask) for the rest."""
    size = count.type
    whole = builder.and_(count, size(-lanes))
    with cgutils.for_range_slice(builder, size(0), whole, size(lanes), size) as (i, _):
        body(i, None)
    with builder.if_then(builder.icmp_signed("<", whole, count)):
        body(whole, first_lanes(builder, builder.sub(count, whole), lanes))


def across(builder: Any, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """The lanes combined by halves: a fixed order."""
    lanes = vector.type.count
    while lanes > 1:
        lanes //= 2
        halves = [
            builder.shuffle_vector(
                vector, vector, ir.Constant(ir.VectorType(I32, lanes), list(order))
            )
            for order in (range(lanes), range(lanes, 2 * lanes))
        ]
        vector = combine(*halves)
    return builder.extract_element(vector, I32(0))
