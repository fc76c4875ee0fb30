"""What tiles are made of, in LLVM's terms: stages on their way, sums in registers, results.

A thread's results are in registers because they are values, never an array: no optimisation has to
find that out. That memory is shared, or the card's, is said, not inferred. Sums are the tensor
cores': see `accumulation`, and docs/decisions/0045-cuda-by-one-kernel.md.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .device import GLOBAL, I32, I64, SHARED, assembly, place_of
from .tiles import GROUPS, HEIGHT, TERMS, WIDTH, Tile

F32, F64 = ir.FloatType(), ir.DoubleType()
Rows = list[list[Any]]


def async_copy(size: int, rounds: int, gap: int, step: int) -> Any:
    """`copy(shared, to, array, source, ld, first, second)`: a thread's part of a stage sets off.

    In round u so many elements from array[source + u gap ld] go to shared[to + u gap step], of
    which `first` are inside of the factor, and none where u gap >= `second`; the rest becomes 0.
    size: elements at a time, of 16 bytes on 16 bytes, or 1. Small numbers have 32 bits, since a
    card has no others.
    """

    @intrinsic
    def copy(
        typingctx: Any, shared: Any, to: Any, array: Any, source: Any, ld: Any, first: Any,
        second: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind, itemsize = sig.args[2], sig.args[2].dtype.bitwidth // 8
            cache = "cg" if size > 1 else "ca"
            text = f"cp.async.{cache}.shared.global [$0], [$1], {size * itemsize}, $2;"
            target = place_of(context, builder, sig.args[0], args[0], args[1], SHARED)
            target = builder.ptrtoint(target, I32)
            left, across = builder.trunc(args[5], I32), builder.trunc(args[6], I32)
            for bound, choose in ((size, "<"), (0, ">")):
                inside = builder.icmp_signed(choose, left, I32(bound))
                left = builder.select(inside, left, I32(bound))
            left = builder.mul(left, I32(itemsize))
            for u in range(rounds):
                index = builder.add(args[3], builder.mul(args[4], I64(u * gap)))
                place = place_of(context, builder, kind, args[2], index, GLOBAL)
                count = builder.select(builder.icmp_signed(">", across, I32(u * gap)), left, I32(0))
                to = builder.add(target, I32(u * gap * step * itemsize))
                copy = assembly(ir.VoidType(), [I32, place.type, I32], text, "r,l,r")
                builder.call(copy, [to, place, count])
            return context.get_dummy_value()

        integers = [types.int64] * 4
        return types.void(shared, types.int64, array, *integers), codegen

    return copy


@intrinsic
def commit_group(typingctx: Any) -> Any:
    """What was sent off since the last time is a group of copies."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.call(assembly(ir.VoidType(), [], "cp.async.commit_group;", ""), [])
        return context.get_dummy_value()

    return types.void(), codegen


def wait_group(pending: int) -> Any:
    """`wait()`: until all of this thread's groups of copies but the last `pending` are there."""

    @intrinsic
    def wait(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            text = f"cp.async.wait_group {pending};"
            builder.call(assembly(ir.VoidType(), [], text, ""), [])
            return context.get_dummy_value()

        return types.void(), codegen

    return wait


def blanking(count: int) -> Any:
    """`blank(array)`: so many sums of its dtype, all 0."""

    @intrinsic
    def blank(typingctx: Any, real: Any) -> Any:
        result = types.UniTuple(real.dtype, count)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            zero = ir.Constant(context.get_value_type(real.dtype), 0.0)
            return context.make_tuple(builder, result, [zero] * count)

        return result(real), codegen

    return blank


def _asm(result: Any, operands: list[Any], text: str, constraints: str) -> Any:
    """An instruction that may move as its operands allow."""
    return ir.InlineAsm(ir.FunctionType(result, operands), text, constraints)


def _split(builder: Any, x: Any) -> tuple[Any, Any]:
    """x as two numbers of 11 bits: the nearest one, and the rest, whose last bit is left off."""
    nearest = _asm(I32, [F32], "cvt.rna.tf32.f32 $0, $1;", "=r,f")
    high = builder.call(nearest, [x])
    low = builder.fsub(x, builder.bitcast(high, F32))
    return high, builder.bitcast(low, I32)


_TF32 = _asm(
    ir.LiteralStructType([F32] * 4), [*[I32] * 6, *[F32] * 4],
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
    "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
    "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f",
)  # fmt: skip
_DOUBLE = _asm(
    ir.LiteralStructType([F64] * 2), [F64] * 4,
    "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {$0, $1}, {$2}, {$3}, {$4, $5};",
    "=d,=d,d,d,d,d",
)  # fmt: skip

_TOGETHER = ("convergent",)  # all lanes of a warp execute it


def _multiply_tf32(builder: Any, rows: Rows, columns: Rows, sums: Rows) -> None:
    """Add products of fragments of float32, small terms first, to the sums of each pair."""
    split_rows, split_columns = (
        [[_split(builder, x) for x in factor] for factor in factors] for factors in (rows, columns)
    )
    for of_row, of_column in ((1, 0), (0, 1), (0, 0)):
        for f, c in enumerate(sums):
            a = [parts[of_row] for parts in split_rows[f // len(columns)]]
            b = [parts[of_column] for parts in split_columns[f % len(columns)]]
            made = builder.call(_TF32, [*a, *b, *c], attrs=_TOGETHER)
            c[:] = [builder.extract_value(made, i) for i in range(4)]


def _multiply_double(builder: Any, rows: Rows, columns: Rows, sums: Rows) -> None:
    """The same of float64, by halves of a fragment's rows and of its terms."""
    for f, c in enumerate(sums):
        a, b = rows[f // len(columns)], columns[f % len(columns)]
        for half in range(2):
            for terms in range(2):
                values = [a[half + 2 * terms], b[terms], *c[2 * half : 2 * half + 2]]
                made = builder.call(_DOUBLE, values, attrs=_TOGETHER)
                c[2 * half : 2 * half + 2] = [builder.extract_value(made, i) for i in range(2)]


def _loaded(
    builder: Any, start: Any, strides: tuple[int, int], sides: list[int], k: int
) -> list[Any]:
    """A thread's elements of a fragment of either factor: those sides, at the terms k and k + 4."""
    side_step, term_step = strides
    places = [side * side_step + term * term_step for term in (k, k + 4) for side in sides]
    return [builder.load(builder.gep(start, [I64(place)])) for place in places]


def accumulation(tile: Tile, a_strides: tuple[int, int], b_strides: tuple[int, int]) -> Any:
    """`accumulate(shared, a, b, sums)`: sums + a warp's part of a stage's products.

    a, b: where the thread's first element of either factor lies; the strides are those of rows (or
    columns) and of terms. float64 is summed by fused multiply-adds, as IEEE 754 has them. A float32
    is split in two numbers of 11 bits, and x y is taken for hi(x) hi(y) + hi(x) lo(y) +
    lo(x) hi(y), which is off by 2^-21 |x y| at most: |lo| is at most 2^-11 of a number, so lo lo is
    2^-22, and either lo's last bit 2^-23. Their sum is exact but for the accumulator's truncation;
    so a stage has one of its own, which is added to the sums with correct rounding. A factor that
    is not finite, or within 2^-12 of the largest float32, makes the result so.
    """
    down, across = tile.fragments
    thread_rows = [[i * HEIGHT, i * HEIGHT + GROUPS] for i in range(down)]
    thread_columns = [[j * WIDTH] for j in range(across)]

    @intrinsic
    def accumulate(typingctx: Any, shared: Any, a: Any, b: Any, sums: Any) -> Any:
        single = shared.dtype.bitwidth == 32

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            at_a, at_b = (
                place_of(context, builder, sig.args[0], args[0], index, SHARED)
                for index in args[1:3]
            )
            old = [builder.extract_value(args[3], i) for i in range(tile.results)]
            start = [ir.Constant(F32, 0.0)] * tile.results if single else old
            new = [start[at : at + 4] for at in range(0, tile.results, 4)]
            for k in range(0, tile.terms, TERMS):
                rows = [_loaded(builder, at_a, a_strides, sides, k) for sides in thread_rows]
                columns = [_loaded(builder, at_b, b_strides, sides, k) for sides in thread_columns]
                (_multiply_tf32 if single else _multiply_double)(builder, rows, columns, new)
            made = [x for fragment in new for x in fragment]
            if single:
                made = [builder.fadd(x, y) for x, y in zip(old, made, strict=True)]
            return context.make_tuple(builder, sig.return_type, made)

        return sums(shared, types.int64, types.int64, sums), codegen

    return accumulate


def store_fragments(tile: Tile) -> Any:
    """`store(sums, shared, base)`: a thread's results to shared memory, the first two at `base`."""
    down, across = tile.fragments

    @intrinsic
    def store(typingctx: Any, sums: Any, shared: Any, base: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            place = place_of(context, builder, sig.args[1], args[1], args[2], SHARED)
            pair = ir.VectorType(place.type.pointee, 2)
            for f in range(down * across):
                for half in range(2):
                    row = f // across * HEIGHT + half * GROUPS
                    vector = ir.Constant(pair, ir.Undefined)
                    for i in range(2):
                        value = builder.extract_value(args[0], 4 * f + 2 * half + i)
                        vector = builder.insert_element(vector, value, I32(i))
                    at = builder.gep(place, [I64(row * tile.pitch + f % across * WIDTH)])
                    at = builder.bitcast(at, ir.PointerType(pair, SHARED))
                    builder.store(vector, at, align=pair.count * (4 if pair.element == F32 else 8))
            return context.get_dummy_value()

        return types.void(sums, shared, types.int64), codegen

    return store
