"""Values that a formula is traced with: one source for vector IR, scalar IR and NumPy.

A formula is a plain Python function of `+ - * /`, comparisons, shifts and the operations below. It
is called once, at compile time, on `Lanes`, which append LLVM instructions instead of computing;
or, with the JIT off, on NumPy arrays, which compute. Thus a polynomial is written once for float32
and float64, for vectors and scalars, costs the compiler no type inference and no inlining, and
every lane, tail included, rounds alike.

Within a formula a product must not meet a sum except in `fma`: `contract` would let LLVM fuse them
in one place and not in another, in whole vectors and not in the masked rest, say. A formula may end
in a product that is a term of a total: it meets the sum in one loop alone (`spans`), by the same
instructions for every element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .host import HAS_FMA
from .irtools import call_intrinsic, type_suffix
from .jit import JIT_DISABLED

_ORDERED = {"<", "<=", ">", ">=", "=="}


class Lanes:
    """A float, integer or truth value, or a vector of them, that is traced instead of computed."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    @property
    def element(self) -> ir.Type:
        """Type of one lane."""
        kind = self.value.type
        return kind.element if isinstance(kind, ir.VectorType) else kind

    @property
    def floating(self) -> bool:
        return isinstance(self.element, ir.FloatType | ir.DoubleType)

    def cast(self, element: ir.Type) -> ir.Type:
        """The type with as many lanes of another element."""
        kind = self.value.type
        return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element

    def constant(self, number: Any) -> Lanes:
        """`number` in every lane, as a value of this type."""
        kind = self.value.type
        one = ir.Constant(self.element, number)
        if isinstance(kind, ir.VectorType):
            one = ir.Constant(kind, [one] * kind.count)
        return Lanes(self.builder, one)

    def _binary(self, name: str, other: Any, swap: bool = False) -> Lanes:
        other = other if isinstance(other, Lanes) else self.constant(other)
        left, right = (other, self) if swap else (self, other)
        emit = getattr(self.builder, f"f{name}" if self.floating else name)
        return Lanes(self.builder, emit(left.value, right.value))

    def _compare(self, sign: str, other: Any) -> Lanes:
        other = other if isinstance(other, Lanes) else self.constant(other)
        if not self.floating:
            emit = self.builder.icmp_signed
        else:
            emit = self.builder.fcmp_ordered if sign in _ORDERED else self.builder.fcmp_unordered
        return Lanes(self.builder, emit(sign, self.value, other.value))

    def __add__(self, other: Any) -> Lanes:
        return self._binary("add", other)

    def __radd__(self, other: Any) -> Lanes:
        return self._binary("add", other, swap=True)

    def __sub__(self, other: Any) -> Lanes:
        return self._binary("sub", other)

    def __rsub__(self, other: Any) -> Lanes:
        return self._binary("sub", other, swap=True)

    def __mul__(self, other: Any) -> Lanes:
        return self._binary("mul", other)

    def __rmul__(self, other: Any) -> Lanes:
        return self._binary("mul", other, swap=True)

    def __truediv__(self, other: Any) -> Lanes:
        return self._binary("div", other)

    def __rtruediv__(self, other: Any) -> Lanes:
        return self._binary("div", other, swap=True)

    def __neg__(self) -> Lanes:
        return Lanes(self.builder, self.builder.fneg(self.value))

    def __lshift__(self, count: int) -> Lanes:
        return self._binary("shl", count)

    def __rshift__(self, count: int) -> Lanes:
        return self._binary("ashr", count)

    def __and__(self, other: Any) -> Lanes:
        return self._binary("and_", other)

    def __or__(self, other: Any) -> Lanes:
        return self._binary("or_", other)

    def __lt__(self, other: Any) -> Lanes:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Lanes:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Lanes:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Lanes:
        return self._compare(">=", other)

    def __eq__(self, other: Any) -> Lanes:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: Any) -> Lanes:  # type: ignore[override]
        return self._compare("!=", other)


def is_single(x: Any) -> bool:
    """Whether x is float32 (else it is float64)."""
    if isinstance(x, Lanes):
        return isinstance(x.element, ir.FloatType)
    return bool(x.dtype == np.float32)


def like(x: Any, number: float) -> Any:
    """`number` in every lane, of the type of x."""
    return x.constant(number) if isinstance(x, Lanes) else np.full_like(x, number)


def fma(a: Any, b: Any, c: Any) -> Any:
    """a * b + c, in one rounding where the CPU can; some of the three may be numbers."""
    traced = next((v for v in (a, b, c) if isinstance(v, Lanes)), None)
    if traced is None:
        return a * b + c
    values = [(v if isinstance(v, Lanes) else traced.constant(v)).value for v in (a, b, c)]
    builder = traced.builder
    if not HAS_FMA:
        return Lanes(builder, builder.fadd(builder.fmul(values[0], values[1]), values[2]))
    kind = traced.value.type
    return Lanes(builder, call_intrinsic(builder, f"llvm.fma.{type_suffix(kind)}", kind, values))


def select(condition: Any, yes: Any, no: Any) -> Any:
    """`yes` in the lanes where `condition` holds, else `no`; one of the two may be a number."""
    if not isinstance(condition, Lanes):
        return np.where(condition, yes, no)
    traced = yes if isinstance(yes, Lanes) else no
    yes, no = ((v if isinstance(v, Lanes) else traced.constant(v)) for v in (yes, no))
    builder = condition.builder
    return Lanes(builder, builder.select(condition.value, yes.value, no.value))


def to_bits(x: Any) -> Any:
    """The bits of x as signed integers of the same width."""
    width = 32 if is_single(x) else 64
    if isinstance(x, Lanes):
        return Lanes(x.builder, x.builder.bitcast(x.value, x.cast(ir.IntType(width))))
    return x.view(np.dtype(f"i{width // 8}"))


def from_bits(i: Any) -> Any:
    """The float whose bits are those of the integer i."""
    if isinstance(i, Lanes):
        element = ir.FloatType() if i.element.width == 32 else ir.DoubleType()
        return Lanes(i.builder, i.builder.bitcast(i.value, i.cast(element)))
    return i.view(np.dtype(f"f{i.dtype.itemsize}"))


def scalar(formula: Callable[[Any], Any]) -> Any:
    """Make a formula of one argument a function that jitted code calls on a float32 or float64.

    Inlined in a loop it vectorises. With the JIT off it takes NumPy scalars and arrays.
    """

    def python(x: Any) -> Any:
        lanes = np.atleast_1d(x)
        with np.errstate(all="ignore"):
            result = formula(lanes)
        return result if np.ndim(x) else result[0]

    python.__name__, python.__doc__ = formula.__name__, formula.__doc__
    if JIT_DISABLED:
        return python

    @intrinsic
    def door(typingctx: Any, x: Any) -> Any:
        if not isinstance(x, types.Float):
            raise TypingError(f"{formula.__name__} takes a float32 or float64, got {x}")

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return formula(Lanes(builder, args[0])).value

        return x(x), codegen

    return door
