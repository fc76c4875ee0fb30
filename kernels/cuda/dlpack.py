"""DLPack without a library: where a tensor lies, and a card's read from the capsule's C structure.

The layout is that of dlpack.h, version 0.8 (`DLManagedTensor`); its fields have not moved since.
Nothing of Numba is imported: networks on the CPU ask here what a card's array is.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

CARDS: Final = 2, 13
"""Device types of a card's own memory, and of memory that the driver moves (managed)."""
LEGACY_STREAM: Final = 1
"""The default stream, on which kernels are launched: who lends an array lets it wait there."""
_CODES: Final = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}


# A prototype of our own: the types of `pythonapi.PyCapsule_GetPointer` are everybody's.
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    ]


def device_of(value: Any) -> tuple[int, int] | None:
    """The type and number of the device an array lies on, by its own word; None: it says none."""
    if not hasattr(type(value), "__dlpack_device__"):
        return None
    try:
        kind, number = value.__dlpack_device__()
    except Exception:  # noqa: BLE001 - torch's tensors without memory ("meta") raise ValueError
        return None
    return int(kind), int(number)


def lies_on_card(value: Any) -> bool:
    """Whether an array's memory is a card's: DLPack says so, else the CUDA array interface.

    DLPack first: at the interface torch raises where a tensor `requires_grad`, or is in CSR.
    """
    where = device_of(value)
    if where is not None:
        return where[0] in CARDS
    try:
        return hasattr(value, "__cuda_array_interface__")
    except Exception:  # noqa: BLE001 - whatever it is, it is no array of a card
        return False


def interface(value: Any) -> tuple[Any, dict[str, Any]]:
    """What keeps the memory alive, and its `__cuda_array_interface__` (version 3).

    What is still being computed on another stream is waited for, on the card.

    The capsule is not consumed: its own destructor releases the tensor when it is dropped.

    Raises:
        TypeError: the tensor is not a card's, or of a type without a NumPy name.
    """
    capsule = value.__dlpack__(stream=LEGACY_STREAM)
    tensor = _Tensor.from_address(_pointer(capsule, b"dltensor"))
    if tensor.device_type not in CARDS or tensor.lanes != 1 or tensor.code not in _CODES:
        raise TypeError(
            f"a DLPack tensor of device type {tensor.device_type}, type code {tensor.code} with "
            f"{tensor.lanes} lanes: give one of floats or integers on a CUDA device"
        )
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    item = tensor.bits // 8
    strides = None
    if tensor.strides:
        strides = tuple(tensor.strides[i] * item for i in range(tensor.ndim))
    return (value, capsule), {
        "shape": shape,
        "typestr": f"<{_CODES[tensor.code]}{item}",
        "data": ((tensor.data or 0) + tensor.offset, False),
        "strides": strides,
        "version": 3,
    }
