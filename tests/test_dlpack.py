"""What is read from DLPack capsules: NumPy's own, relabelled as a card's, so no card is needed."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
import pytest

from fastbp.kernels.cuda.dlpack import _Tensor, interface

CUDA, HOST = 2, 1
DTYPES = ["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8"]


def structure(capsule: Any) -> Any:
    """The C structure that a capsule points to."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return _Tensor.from_address(pointer(capsule, b"dltensor"))


class Tensor:
    """An array of a library that speaks DLPack alone, said to lie on a card."""

    def __init__(self, array: np.ndarray[Any, Any], **fields: Any) -> None:
        self.array, self.fields = array, {"device_type": CUDA, **fields}

    def __dlpack__(self) -> Any:
        capsule = self.array.__dlpack__()
        for name, value in self.fields.items():
            setattr(structure(capsule), name, value)
        return capsule


class Seen:
    """The memory an interface describes, as an array of the host's."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.__array_interface__ = found


ARRAYS = {
    "matrix": lambda dtype: np.arange(12).reshape(3, 4).astype(dtype),
    "Fortran": lambda dtype: np.asfortranarray(np.arange(12).reshape(3, 4).astype(dtype)),
    "every other": lambda dtype: np.arange(48).reshape(6, 8).astype(dtype)[1::2, ::2],
    "backwards": lambda dtype: np.arange(12).reshape(3, 4).astype(dtype)[::-1],
    "vector": lambda dtype: np.arange(5).astype(dtype)[2:],
    "one number": lambda dtype: np.array(7, dtype),
    "cube": lambda dtype: np.arange(24).reshape(2, 3, 4).astype(dtype).transpose(2, 0, 1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ARRAYS)
def test_shape_type_strides_and_place_are_the_array_s(kind: str, dtype: str) -> None:
    array = ARRAYS[kind](dtype)
    kept, found = interface(Tensor(array))
    assert found["shape"] == array.shape
    assert np.dtype(found["typestr"]) == array.dtype
    assert found["data"] == (array.ctypes.data, False)
    assert found["strides"] in (None, array.strides)
    seen = np.asarray(Seen(found))
    assert np.array_equal(seen, array)
    if seen.ndim:  # the same memory, not a copy
        array.flat[0] = 99
        assert seen.flat[0] == 99
    del kept


def test_an_offset_in_bytes_is_added() -> None:
    array = np.arange(10, dtype=np.float32)
    _, found = interface(Tensor(array, offset=12))
    assert found["data"][0] == array.ctypes.data + 12


def test_without_strides_rows_follow_each_other() -> None:
    """A null pointer says so; and an empty tensor may have no place at all."""
    no_strides = ctypes.POINTER(ctypes.c_int64)()
    _, found = interface(Tensor(np.zeros((3, 4), np.float32), strides=no_strides, data=None))
    assert found["strides"] is None
    assert found["data"] == (0, False)


def test_the_array_lives_as_long_as_what_is_kept() -> None:
    array = np.arange(6, dtype=np.float32)
    before = sys.getrefcount(array)
    kept, _ = interface(Tensor(array))
    assert sys.getrefcount(array) > before
    del kept
    assert sys.getrefcount(array) == before


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"device_type": HOST}, "device type 1"),
        ({"device_type": 10}, "device type 10"),  # ROCm
        ({"code": 4}, "type code 4"),  # bfloat16, for which NumPy has no name
        ({"code": 5}, "type code 5"),  # complex
        ({"code": 6}, "type code 6"),  # bool
        ({"lanes": 4}, "4 lanes"),
    ],
)
def test_what_is_no_plain_number_of_a_card_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=rf"{said}.* give one of floats or integers on a CUDA"):
        interface(Tensor(np.zeros((2, 2), np.float32), **fields))
