"""DLPack without a library: where a card's tensor lies, read from the capsule's C structure.

The layout is that of dlpack.h, version 0.8 (`DLManagedTensor`); its fields have not moved since.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

_CUDA: Final = 2
_CODES: Final = {0: "i", 1: "u", 2: "f"}


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


def interface(value: Any) -> tuple[Any, dict[str, Any]]:
    """What keeps the memory alive, and its `__cuda_array_interface__` (version 3).

    The capsule is not consumed: its own destructor releases the tensor when it is dropped.

    Raises:
        TypeError: the tensor is not a card's, or of a type without a NumPy name.
    """
    capsule = value.__dlpack__()
    tensor = _Tensor.from_address(_pointer(capsule, b"dltensor"))
    if tensor.device_type != _CUDA or tensor.lanes != 1 or tensor.code not in _CODES:
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
