"""A vector of a register and what the emitted kernels do with it, as LLVM IR."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .irtools import I32, I64, call_intrinsic, first_lanes, load, splat, store, type_suffix


def element_type(itemsize: int) -> ir.Type:
    """float or double, by the size in bytes."""
    return ir.FloatType() if itemsize == 4 else ir.DoubleType()


class Vectors:
    """One vector type and the few operations a tile needs of it."""

    def __init__(self, builder: ir.IRBuilder, lanes: int, itemsize: int) -> None:
        self.builder, self.lanes, self.itemsize = builder, lanes, itemsize
        self.element = element_type(itemsize)
        self.type = ir.VectorType(self.element, lanes)
        self.zero = ir.Constant(self.type, [ir.Constant(self.element, 0.0)] * lanes)

    def at(self, pointer: Any, index: Any) -> Any:
        """Address of element `index` behind `pointer`."""
        if isinstance(index, int):
            index = ir.Constant(I64, index)
        return self.builder.gep(pointer, [index], source_etype=self.element)

    def splat(self, scalar: Any) -> Any:
        return splat(self.builder, scalar, self.type)

    def broadcast(self, pointer: Any) -> Any:
        return self.splat(self.builder.load(pointer, typ=self.element, align=self.itemsize))

    def first(self, count: Any) -> Any:
        """Mask of the lanes below `count` (an i64); none where it is negative."""
        return first_lanes(self.builder, count, self.lanes, I32 if self.itemsize == 4 else I64)

    def load(self, pointer: Any, mask: Any = None) -> Any:
        return load(self.builder, pointer, mask, self.type)

    def store(self, value: Any, pointer: Any, mask: Any = None) -> None:
        store(self.builder, value, pointer, mask)

    def claim(self, pointer: Any) -> None:
        """Write the number at `pointer` back as it is: its line then belongs to this core.

        A line that others have read is written only when they have given up their copies. Stores
        wait for that in their order, 15 ns a line between cores of one L3 and 90 between two, and
        what follows waits for them (momentum on half of 784 x 128: 37 and 148 us instead of 6).
        Stores of claims wait behind the tiles' multiplications, where nothing else is stored. A
        prefetch for writing (`prefetchw`) fetches a line, but does not claim one that is there.
        """
        value = self.builder.load(pointer, typ=I32, align=4)
        self.builder.store(self.hidden(value), pointer, align=4)

    def hidden(self, value: Any) -> Any:
        """A pointer or number, about which LLVM then knows nothing: it derives nothing from it.

        Left alone LLVM chains the addresses of a tile's rows, one addition waiting for another: 12
        cycles a depth step where 12 x 16 needs 6.
        """
        kind = ir.FunctionType(value.type, [value.type])
        return self.builder.asm(kind, "", "=r,0", [value], side_effect=False)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        name = f"llvm.fma.{type_suffix(self.type)}"
        return call_intrinsic(self.builder, name, self.type, [a, b, c])

    def unless_at_most_zero(self, judge: Any, value: Any) -> Any:
        """value where judge > 0 or judge is NaN, else 0 (an ordered max would swallow NaN)."""
        low = self.builder.fcmp_ordered("<=", judge, self.zero)
        return self.builder.select(low, self.zero, value)
