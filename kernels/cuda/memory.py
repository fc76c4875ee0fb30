"""Memory of the card: allocated, filled, read, and looked at in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dlpack import device_of, interface, lies_on_card
from .shim import SIMULATED, cuda


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,} bytes"


def _exhausted(error: Exception) -> bool:
    """Whether the driver says that there is no memory (CUDA_ERROR_OUT_OF_MEMORY is 2)."""
    text = f"{getattr(error, 'code', '')} {error}"
    return getattr(error, "code", None) == 2 or "OUT_OF_MEMORY" in text or "out of memory" in text


def allocate(size: int, dtype: Any, what: str) -> Any:
    """A flat array of `size` elements on the card, of unknown content; at least one element.

    Raises:
        MemoryError: there is no room; the message says what was asked for and what is free.
    """
    kind = np.dtype(dtype)
    try:
        return cuda.device_array(max(int(size), 1), kind)
    except Exception as error:
        if not (isinstance(error, MemoryError) or _exhausted(error)):
            raise
        free, total = free_memory()
        raise MemoryError(
            f"{what} needs {_megabytes(int(size) * kind.itemsize)} on the card, of which "
            f"{_megabytes(free)} of {_megabytes(total)} are free: smaller batches or less data at "
            "once, other processes ended, or device='cpu'"
        ) from None


def free_memory() -> tuple[int, int]:
    """Bytes that are free on the card, and that it has; the simulator's are the machine's guess."""
    if SIMULATED:
        return 0, 0
    info = cuda.current_context().get_memory_info()
    return int(info[0]), int(info[1])


def _first(there: Any, size: int) -> Any:
    """The first elements of a flat array; a view of all would take Numba 0.1 ms to make."""
    return there if there.size == size else there[:size]


def upload(array: np.ndarray, what: str) -> Any:
    """A flat copy on the card of a C-contiguous array of the host."""
    made = allocate(array.size, array.dtype, what)
    fill(made, array)
    return made


def fill(there: Any, array: np.ndarray) -> None:
    """Copy a host's array into one of the card, which is as long or longer."""
    if array.size:
        _first(there, array.size).copy_to_device(array.reshape(-1))


def read(there: Any, into: np.ndarray) -> None:
    """Copy from the card into a C-contiguous array of the host, after all that was started."""
    if into.size:
        _first(there, into.size).copy_to_host(into.reshape(-1))


def on_card(value: Any) -> bool:
    """Whether an array's memory is a card's: CuPy, torch, JAX, Numba; or the simulator's."""
    return (SIMULATED and hasattr(value, "_ary")) or lies_on_card(value)


def current_device() -> int:
    """The number of the card that this thread computes on."""
    return 0 if SIMULATED else int(cuda.get_current_device().id)


def check_device(number: int, what: str) -> None:
    """Refuse what lies on another card than this thread's.

    Raises:
        ValueError: it does.
    """
    here = current_device()
    if number != here:
        raise ValueError(
            f"{what} on CUDA device {number}, and this thread computes on device {here}: call "
            f"numba.cuda.select_device({number}) in it, or give a copy on the other one"
        )


def view(value: Any) -> Any:
    """The card's array itself, under Numba's type and without a copy; it is kept alive.

    Raises:
        ValueError: it lies on another card than this thread's current one.
    """
    if SIMULATED and hasattr(value, "_ary"):
        return value
    if isinstance(value, cuda.devicearray.DeviceNDArray):
        check_device(int(value.gpu_data.context.device.id), "an array lies")
        return value
    if getattr(value, "requires_grad", False):
        value = value.detach()
    where = device_of(value)
    if where is None:
        return cuda.as_cuda_array(value)
    check_device(where[1], "an array lies")
    return cuda.as_cuda_array(_Borrowed(value))


class _Borrowed:
    """A DLPack capsule's memory, by way of the library that offers it."""

    def __init__(self, value: Any) -> None:
        self._kept, self.__cuda_array_interface__ = interface(value)


def copy(source: Any, target: Any) -> None:
    """Copy within the card, between flat arrays as long as the shorter one; nothing onto itself."""
    if source is target:
        return
    size = min(source.size, target.size)
    _first(target, size).copy_to_device(_first(source, size))
