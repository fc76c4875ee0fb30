"""One canonical form of numbers: C-contiguous, native byte order, float32 or float64, writable.

Numba compiles anew for every layout and for read-only arrays; one form means one compilation. An
array that has it is passed on as it is, memory maps included; all else is copied once.
"""

from __future__ import annotations

import mmap
import numbers
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .budget import available_cores
from .devices import is_on_card
from .errors import not_finite, one_line, shown
from .frames import from_frame, is_frame
from .kernels.checks import writable_type
from .kernels.cpu.screen import first_not_finite
from .threads import run

Array = NDArray[Any]


def is_memory_map(array: Array) -> bool:
    """It lies over a memory-mapped file: such arrays are screened row by row as they are read.

    >>> is_memory_map(np.zeros(3))
    False
    """
    base: Any = array
    while base is not None:
        if isinstance(base, mmap.mmap):
            return True
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return False


def as_array(value: Any, name: str) -> Array:
    """Anything array-like as an ndarray of numbers of whatever dtype and layout.

    Data frames and their columns are read by `frames.from_frame`.

    Raises:
        TypeError: complex numbers, text, dates, a sparse matrix, None, an object that is no number.
        ValueError: rows of different lengths, masked or missing values.
        ImportError: a data frame, and narwhals is not installed.
    """
    if type(value) is np.ndarray and value.dtype.kind in "fiub":
        return value
    if value is None:
        raise TypeError(f"{name}=None; give an array of numbers, one row a sample.")
    if is_on_card(value):
        raise TypeError(
            f"{name} ({type(value).__name__}) lies on a CUDA device and this computes on the CPU; "
            "move the network there, net.to('cuda'), or give a copy on the host (.cpu(), .get())."
        )
    if hasattr(value, "tocsr") or type(value).__module__.startswith("scipy.sparse"):
        raise TypeError(
            f"{name} is sparse ({type(value).__name__}); give {name}.toarray() where memory allows."
        )
    if is_frame(value):
        value = from_frame(value, name)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(
            f"{name} has masked values; fill them ({name}.filled(value)) or leave those rows out."
        )
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O" and not array.ndim and hasattr(value, "__dlpack__"):
            array = np.from_dlpack(value)
    except ValueError:
        raise ValueError(_ragged(value, name)) from None
    except (TypeError, RuntimeError, AttributeError, BufferError) as error:  # of a device, say
        kind = type(value).__name__
        raise TypeError(f"{name} ({kind}) cannot be read as an array: {one_line(error)}") from error
    kind = array.dtype.kind
    if kind == "c":
        raise TypeError(
            f"{name} is complex ({array.dtype}); give real numbers, such as {name}.real and "
            f"{name}.imag side by side."
        )
    if kind == "V" and array.dtype.type is not np.void:  # of ml_dtypes, as JAX's
        raise TypeError(
            f"{name} is of dtype {array.dtype}, which NumPy does not know as numbers; give "
            f"{name}.astype('float32')."
        )
    if kind in "USTMmV":
        raise TypeError(
            f"{name} holds {_KINDS[kind]} (dtype {array.dtype}); encode it as numbers first."
        )
    return _from_objects(array, name) if kind == "O" else array


_PYTHONS: Final = {int, float, bool}
_KINDS = {"U": "text", "S": "bytes", "T": "text", "M": "dates", "m": "times", "V": "records"}


def _ragged(value: Any, name: str) -> str:
    if not hasattr(value, "__iter__"):
        return f"{name}={shown(value)} cannot be made an array."
    lengths = [len(row) if hasattr(row, "__len__") else None for row in value]
    for i, length in enumerate(lengths):
        if (length is None) != (lengths[0] is None):
            one, other = ("a number", "a row") if length is None else ("a row", "a number")
            return f"{name}: entry {i} is {one} and entry 0 is {other}; give rows alone."
        if length != lengths[0]:
            return (
                f"{name}: row {i} has length {length} and row 0 has {lengths[0]}; "
                "all rows must have as many values."
            )
    return f"{name} cannot be made an array: its rows differ in shape."


def _from_objects(array: Array, name: str) -> Array:
    """float64 from an object array of numbers; the first thing that is no number is named.

    Python's own numbers are taken at once, some 100 times as fast as looked at one by one.
    """
    if {*map(type, array.flat)} <= _PYTHONS:
        with suppress(OverflowError):  # which number it is, is said below
            return array.astype(np.float64)
    result = np.empty(array.shape, dtype=np.float64)
    for place in np.ndindex(array.shape):
        item = array[place]
        where = f"{name}[{', '.join(map(str, place))}]" if place else name
        if isinstance(item, numbers.Real | Decimal | np.bool_):
            try:
                result[place] = float(item)
            except OverflowError:
                raise ValueError(f"{where}={shown(item)} is too large for float64.") from None
            except ValueError:  # Decimal("sNaN")
                result[place] = np.nan
        elif isinstance(item, numbers.Complex):
            raise TypeError(f"{where}={shown(item)} is complex; give real numbers.")
        else:
            kind = type(item).__name__
            raise TypeError(
                f"{where}={shown(item)} ({kind}) is no number; encode or fill such values first."
            )
    return result


def as_floats(array: Array, dtype: np.dtype[Any], name: str) -> Array:
    """`array` in canonical form: itself where it has it, else an alias or one copy.

    Raises:
        ValueError: a finite number that `dtype` cannot hold.
    """
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return writable_type(np.asarray(array))
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.array(array, dtype=dtype, order="C", copy=True, subok=False)
    narrowed = array.dtype.kind == "f" and array.dtype.itemsize > dtype.itemsize
    place = find_not_finite(result) if narrowed and result.size else None
    if place is not None and np.isfinite(array[place]):
        most = float(np.finfo(dtype).max)
        raise ValueError(
            f"{_where(name, place)}={array[place]} is too large for {dtype} (at most "
            f"{most:.3g}); scale {name}, or use dtype='float64'."
        )
    return result


def find_not_finite(array: Array) -> tuple[int, ...] | None:
    """The place of NaN or inf, by the threads that train: OpenMP's would spin on meanwhile."""
    place = first_not_finite(array, available_cores(), run=run)
    return place if place is None or array.ndim == 2 else place[:1]


def unfit(array: Array, name: str, row: int = 0) -> str | None:
    """What to say of the first NaN or inf in an array (n, k) or (n,), whose rows count from `row`.

    >>> unfit(np.array([[0.0, np.nan]]), "X", row=7)
    'X[7, 1]=nan is not finite; leave such rows out or fill them first.'
    """
    array = np.asarray(array)  # one that lies on a card is copied to be looked at
    place = find_not_finite(array)
    if place is None:
        return None
    return not_finite(_where(name, (row + place[0], *place[1:])), array[place])


def check_finite(array: Array, name: str) -> None:
    """Refuse NaN and inf in a canonical array (n, k) or (n,), naming the first.

    Memory-mapped arrays are let through: they are screened as they are read.

    Raises:
        ValueError: an element is NaN or inf.

    >>> check_finite(np.array([[0.0, np.nan]]), "X")
    Traceback (most recent call last):
    ...
    ValueError: X[0, 1]=nan is not finite; leave such rows out or fill them first.
    """
    if is_memory_map(array):
        return
    if message := unfit(array, name):
        raise ValueError(message)


def _where(name: str, place: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, place))}]"
