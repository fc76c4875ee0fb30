"""The public doors: arrays of the host or of the card in, results where the first argument lies.

What is refused is what `checks.py` refuses; of a card's array the way out is another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks
from . import memory
from .tiles import THREADS

MOST_BLOCKS = 1024
"""Blocks of a launch that goes over elements: more would only wait."""


def grid_for(work: int) -> int:
    """Blocks for so many elements, one a thread."""
    return min(-(-int(work) // THREADS), MOST_BLOCKS)


class Door:
    """The arguments of one call: checked, on the card, and what is to be copied back."""

    def __init__(self) -> None:
        self._arrays: dict[str, tuple[Any, Any]] = {}  # as given (or made), and flat on the card
        self._host = True
        self._dtype: Any = None

    def take(self, argument: str, value: Any, shape: tuple[int | None, ...]) -> Any:
        """An input, flat on the card; the first one decides dtype and where results go."""
        if memory.on_card(value):
            there = _checked(argument, memory.view(value), shape, self._dtype)
            given, flat = there, there.reshape(there.size) if there.ndim != 1 else there
        else:
            given = checks.array(argument, value, shape, self._dtype)
            flat = memory.upload(given, argument)
        if self._dtype is None:
            self._dtype, self._host = given.dtype, not memory.on_card(given)
        self._arrays[argument] = given, flat
        return flat

    def nothing(self) -> Any:
        """A stand-in for an input that was not given."""
        return memory.allocate(1, self._dtype, "")

    def shape(self, argument: str) -> Any:
        """Of an argument that was taken or given."""
        return self._arrays[argument][0].shape

    @property
    def real(self) -> Any:
        """The scalar type of the call's dtype."""
        return np.dtype(self._dtype).type

    def give(
        self,
        argument: str,
        value: Any,
        shape: tuple[int, ...],
        dtype: Any = None,
        in_place: tuple[str, ...] = (),
        filled: bool = False,
    ) -> Any:
        """An output, flat on the card: new where None; `filled`: what it holds counts, too."""
        kind = np.dtype(self._dtype if dtype is None else dtype)
        size = int(np.prod(shape))
        if value is not None and memory.on_card(value):
            there = _checked(argument, memory.view(value), shape, kind)
            flat = there.reshape(there.size) if there.ndim != 1 else there
            self._apart(argument, flat, in_place)
            self._arrays[argument] = value, flat
            return flat
        inputs = {name: a for name, (a, _) in self._arrays.items() if isinstance(a, np.ndarray)}
        if value is None and not self._host:
            flat = memory.allocate(size, kind, argument)
            self._arrays[argument] = flat.reshape(shape), flat
            return flat
        if kind == np.uint8:
            host = checks.mask_bytes(argument, value, shape, inputs)
        else:
            host = checks.output(argument, value, shape, kind, inputs, in_place)
        flat = memory.allocate(size, kind, argument)
        if filled:
            memory.fill(flat, host)
        self._arrays[argument] = host if value is None else value, flat
        return flat

    def _apart(self, argument: str, flat: Any, in_place: tuple[str, ...]) -> None:
        lo = address_of(flat)
        hi = lo + flat.size * flat.dtype.itemsize
        for name, (given, other) in self._arrays.items():
            if isinstance(given, np.ndarray):
                continue
            start = address_of(other)
            if name in in_place and start == lo:
                continue
            if lo < start + other.size * other.dtype.itemsize and start < hi:
                allowed = f"; it may only be {' or '.join(in_place)} itself" if in_place else ""
                raise ValueError(
                    f"{argument}: shares memory with {name}{allowed}; pass another array"
                )

    def close(self, *names: str) -> Any:
        """The outputs, filled: one, or a tuple of them."""
        results = []
        for name in names:
            given, flat = self._arrays[name]
            if isinstance(given, np.ndarray):
                memory.read(flat, given)
            results.append(given)
        return results[0] if len(results) == 1 else tuple(results)


def address_of(array: Any) -> int:
    """Where a card's array begins, in bytes."""
    plain = getattr(array, "_ary", array)
    if isinstance(plain, np.ndarray):
        return int(plain.ctypes.data)
    return int(array.__cuda_array_interface__["data"][0])


def _checked(argument: str, value: Any, shape: tuple[int | None, ...], dtype: Any) -> Any:
    """A card's array, or the error that the host's would get."""
    if value.dtype not in (np.float32, np.float64) and dtype is None:
        raise TypeError(
            f"{argument}: expected float32 or float64, got {value.dtype}; convert it (.float(), "
            ".astype(np.float32))"
        )
    if dtype is not None and value.dtype != dtype:
        raise TypeError(
            f"{argument}: expected {np.dtype(dtype)} like the other arrays, got {value.dtype}"
        )
    checks.check_shape(argument, tuple(value.shape), shape)
    if not value.is_c_contiguous():
        raise ValueError(
            f"{argument}: expected a C-contiguous array, got strides {value.strides} for shape "
            f"{tuple(value.shape)}; copy it (.contiguous(), ascontiguousarray)"
        )
    return value
