"""What the public doors ask of their arguments, and the errors that say what was wrong.

Every message names the argument, what came, what is allowed and the way out.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from numbers import Real
from typing import Any, Protocol

import numpy as np

from .tables import ACTIVATIONS, LOSS_ALIASES, LOSSES

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class Coded(Protocol):
    """An entry of one of the tables."""

    @property
    def code(self) -> int: ...


def code_of(
    argument: str, value: Any, table: Mapping[str, Coded], aliases: Mapping[str, str] | None = None
) -> int:
    """The integer code of a name, an alias or a code of the table."""
    codes = {entry.code for entry in table.values()}
    if isinstance(value, str):
        name = (aliases or {}).get(value, value)
        if name in table:
            return table[name].code
        known = [*table, *(aliases or {})]
        near = difflib.get_close_matches(value.lower(), known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
        raise ValueError(f"{argument}: unknown name {value!r}{hint}")
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if int(value) in codes:
            return int(value)
        raise ValueError(f"{argument}: unknown code {value}; known: {sorted(codes)} or a name")
    raise TypeError(f"{argument}: expected a name or an integer code, got {type(value).__name__}")


def name_of(code: int, table: Mapping[str, Coded]) -> str:
    """The name of a code."""
    return next(name for name, entry in table.items() if entry.code == code)


def pair_of(loss: Any, activation: Any) -> tuple[int, str]:
    """Code and name of a loss whose dL/dZ is short with the activation."""
    code = code_of("loss", loss, LOSSES, LOSS_ALIASES)
    name = name_of(code, LOSSES)
    f = name_of(code_of("activation", activation, ACTIVATIONS), ACTIVATIONS)
    if f not in LOSSES[name].pairs:
        pairs = [f"{p} with {n}" for n, entry in LOSSES.items() for p in entry.pairs]
        raise ValueError(
            f"activation: {f} with {name} has no short dL/dZ; these pairs have: "
            f"{', '.join(pairs)}; use loss_gradient and apply_derivative"
        )
    return code, name


class _Writable:
    """A read-only array's memory under a writable type; keeps the array alive."""

    def __init__(self, array: np.ndarray) -> None:
        self.base = array  # whoever asks where the memory comes from goes on there
        interface = dict(array.__array_interface__)
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def writable_type(array: np.ndarray) -> np.ndarray:
    """`array` itself, or an alias of its memory that NumPy and Numba take for writable.

    To Numba a read-only array is of another type. Nobody may write through the alias.

    >>> a = np.zeros(3); a.flags.writeable = False
    >>> b = writable_type(a); bool(b.flags.writeable), np.shares_memory(a, b)
    (True, True)
    """
    return array if array.flags.writeable else np.asarray(_Writable(array))


def array(
    argument: str, value: Any, shape: tuple[int | None, ...], dtype: Any = None
) -> np.ndarray:
    """A C-contiguous, aligned float32 or float64 array of the shape (None: any), for Numba."""
    if not isinstance(value, np.ndarray):
        kind = type(value).__name__
        raise TypeError(f"{argument}: expected a NumPy array, got {kind}; use np.asarray")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{argument}: expected an array without a mask; use .filled() or drop rows")
    if value.dtype not in _DTYPES:
        raise TypeError(
            f"{argument}: expected float32 or float64, got {value.dtype}; use .astype(np.float32)"
        )
    if dtype is not None and value.dtype != dtype:
        raise TypeError(
            f"{argument}: expected {np.dtype(dtype)} like the other arrays, got {value.dtype}"
        )
    check_shape(argument, value.shape, shape)
    if not value.flags.c_contiguous:
        raise ValueError(
            f"{argument}: expected a C-contiguous array, got strides {value.strides} for shape "
            f"{value.shape}; use np.ascontiguousarray"
        )
    if not value.flags.aligned:  # np.ascontiguousarray would hand it back as it is
        raise ValueError(
            f"{argument}: expected an array aligned to its dtype, got {value.dtype} at address "
            f"{value.ctypes.data:#x}; use .copy()"
        )
    return writable_type(value)


def mask_bytes(
    argument: str, value: Any, shape: tuple[int, ...], inputs: Mapping[str, np.ndarray]
) -> np.ndarray:
    """The array for a mask, a byte an element: a new one for None, else `value`, checked."""
    if value is None:
        return np.empty(shape, np.uint8)
    fits = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.shape == shape
    if not (fits and value.flags.c_contiguous and value.flags.writeable):
        raise ValueError(
            f"{argument}: expected a writable C-contiguous uint8 array of shape {shape}; pass None "
            "to get a new one"
        )
    for name, other in inputs.items():
        if np.may_share_memory(value, other):
            raise ValueError(f"{argument}: shares memory with {name}; pass another array or None")
    return value


def check_shape(argument: str, found: tuple[int, ...], shape: tuple[int | None, ...]) -> None:
    """The shape that is wanted (None: any length)."""
    fits = len(shape) == len(found) and all(
        want in (None, have) for want, have in zip(shape, found, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise ValueError(f"{argument}: expected shape {wanted}, got {found}")


def number(argument: str, value: Any) -> float:
    """A real number as a float; its limits are the caller's to check."""
    scalar = isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "fiu"
    if isinstance(value, Real) or scalar:
        return float(value)
    raise TypeError(f"{argument}: expected a number, got {value!r} ({type(value).__name__})")


def words(argument: str, value: Any) -> np.ndarray:
    """Integers from 0 to 2^32 - 1, as Philox takes them: uint64."""
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iu":
        raise TypeError(
            f"{argument}: expected integers, got {numbers.dtype}; use .astype(np.uint32)"
        )
    if numbers.size and (numbers.min() < 0 or numbers.max() >= 1 << 32):
        raise ValueError(f"{argument}: expected words from 0 to 2^32 - 1, got others; use % 2**32")
    return numbers.astype(np.uint64)


def output(
    argument: str,
    value: Any,
    shape: tuple[int, ...],
    dtype: Any,
    inputs: Mapping[str, np.ndarray],
    in_place: tuple[str, ...] = (),
) -> np.ndarray:
    """The array to fill: a new one for None, else `value`, checked.

    It may share no memory with an input, but may be one that `in_place` names.
    """
    if value is None:
        return np.empty(shape, dtype)
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        raise ValueError(f"{argument}: is read-only; pass a writable array or None")
    result = array(argument, value, shape, dtype)
    for name, other in inputs.items():
        same = result.ctypes.data == other.ctypes.data and name in in_place
        if not same and np.may_share_memory(result, other):
            allowed = f"; it may only be {' or '.join(in_place)} itself" if in_place else ""
            raise ValueError(f"{argument}: shares memory with {name}{allowed}; pass another array")
    return result
