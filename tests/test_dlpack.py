"""What is read from DLPack capsules: NumPy's own, relabelled as a card's, so no card is needed."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
import pytest

from fastbp.kernels.cuda import memory
from fastbp.kernels.cuda.dlpack import LEGACY_STREAM, _Tensor, device_of, interface, lies_on_card

CUDA, HOST, MANAGED = 2, 1, 13
DTYPES = ["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "c8", "?"]


def structure(capsule: Any) -> Any:
    """The C structure that a capsule points to."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return _Tensor.from_address(pointer(capsule, b"dltensor"))


class Tensor:
    """An array of a library that speaks DLPack alone, said to lie on a card."""

    def __init__(self, array: np.ndarray[Any, Any], **fields: Any) -> None:
        self.array, self.fields = array, {"device_type": CUDA, "device_id": 0, **fields}
        self.streams: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.fields["device_type"], self.fields["device_id"]

    def __dlpack__(self, *, stream: Any = None) -> Any:
        self.streams.append(stream)
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
        array.flat[0] = other = array.flat[0] == 0
        assert seen.flat[0] == other
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
        ({"code": 3}, "type code 3"),  # a handle
        ({"lanes": 4}, "4 lanes"),
    ],
)
def test_what_is_no_plain_number_of_a_card_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=rf"{said}.* give one of floats or integers on a CUDA"):
        interface(Tensor(np.zeros((2, 2), np.float32), **fields))


class Differentiated(Tensor):
    """As torch's that requires a gradient: only what is detached is lent."""

    requires_grad = True

    @property
    def __cuda_array_interface__(self) -> Any:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")

    def __dlpack__(self, *, stream: Any = None) -> Any:
        raise BufferError("Can't export tensors that require gradient")

    def detach(self) -> Tensor:
        return Tensor(self.array, **self.fields)


class Interface:
    """An array without DLPack."""

    __cuda_array_interface__: Any = None


class Raising:
    """A tensor that cannot say where it lies: torch's without memory, or in CSR."""

    def __dlpack_device__(self) -> Any:
        raise ValueError("Unknown device type meta for Dlpack")

    @property
    def __cuda_array_interface__(self) -> Any:
        raise RuntimeError("Sparse CSR tensors do not have strides")


def test_who_lies_on_a_card() -> None:
    array = np.zeros((2, 2), np.float32)
    for kind, on_card in ((CUDA, True), (MANAGED, True), (HOST, False), (3, False), (10, False)):
        assert lies_on_card(Tensor(array, device_type=kind)) is on_card
        assert lies_on_card(Differentiated(array, device_type=kind)) is on_card
    assert lies_on_card(Interface())
    for other in (Raising(), array, [1.0], object()):
        assert not lies_on_card(other)
    assert device_of(Tensor(array, device_id=3)) == (CUDA, 3)
    assert device_of(Interface()) is None


def test_torch_tensors_of_the_host_are_not_a_card_s() -> None:
    torch = pytest.importorskip("torch")
    dense = torch.zeros(2, 2)
    for tensor in (
        dense,
        dense.requires_grad_(),
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
    ):
        assert not lies_on_card(tensor)


def test_the_lender_waits_for_the_stream_of_kernels() -> None:
    tensor = Tensor(np.zeros(3, np.float32), device_type=MANAGED)
    interface(tensor)
    assert tensor.streams == [LEGACY_STREAM]


def test_a_view_is_of_what_was_detached_and_of_this_card(monkeypatch: Any) -> None:
    monkeypatch.setattr(memory, "current_device", lambda: 0)
    monkeypatch.setattr(memory.cuda, "as_cuda_array", lambda value: value, raising=False)
    array = np.arange(6, dtype=np.float32)
    for tensor in (Tensor(array), Differentiated(array)):
        seen = memory.view(tensor).__cuda_array_interface__
        assert seen["data"] == (array.ctypes.data, False)
    other = Interface()
    assert memory.view(other) is other
    said = r"lies on CUDA device 1, and this thread computes on device 0: .*select_device\(1\)"
    with pytest.raises(ValueError, match=said):
        memory.view(Tensor(array, device_id=1))
