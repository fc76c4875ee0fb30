"""The header of a stored network, distrusted: every number in it is checked before it is used.

    8 bytes             length of the header, little-endian
    header              JSON: name -> dtype, shape, data_offsets; and __metadata__
    the rest            the tensors, back to back, little-endian, row-major

`__metadata__["fastbp"]` is JSON text: {"format": 1, "version": ..., "architecture": {...}}, and in
a checkpoint "training": {...}, whose tensors are named "training...".
The tensors must fill the file to the last byte and hold each layer's weights, so whatever an
architecture asks for is bounded by the size of the file that asks.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any, BinaryIO, Final, NamedTuple, TypeGuard

import numpy as np

from .errors import shown

FORMAT: Final = 1
MAX_HEADER: Final = 4 << 20  # bytes; a layer takes about 600, so some 7,000 layers
MAX_DEPTH: Final = 8  # nesting of the architecture; ours has 3
MAX_TEXT: Final = 200  # characters of a string in the architecture
MAX_WORDS: Final = 10_000  # ... in a training: reasons to stop, in words
TRAINING: Final = "training"  # what its tensors' names begin with, before a dot

ITEMS: Final[dict[str, np.dtype[Any]]] = {
    "F32": np.dtype("float32"),
    "F64": np.dtype("float64"),
}
CODES: Final = {"float32": "F32", "float64": "F64"}


class Tensor(NamedTuple):
    """One entry of the header: code of the dtype, shape, and where it lies in the data."""

    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """A checked header: architecture, tensors, where the data begin, texts, a training if any."""

    architecture: dict[str, Any]
    tensors: dict[str, Tensor]
    data: int
    metadata: dict[str, str]
    training: dict[str, Any] | None

    def match(self, expected: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
        """Raise ValueError unless the tensors are exactly the `expected` shapes and dtypes.

        A checkpoint has those of its training besides.
        """
        if missing := sorted(expected.keys() - self.tensors.keys()):
            raise ValueError(f"it lacks the tensor {missing[0]!r} of its architecture")
        extra = sorted(self.tensors.keys() - expected.keys())
        if self.training is not None:
            extra = [name for name in extra if not name.startswith(f"{TRAINING}.")]
        if extra:
            raise ValueError(f"its tensor {shown(extra[0])} has no place in its architecture")
        for name, (shape, dtype) in expected.items():
            tensor = self.tensors[name]
            if tensor.shape != shape or ITEMS[tensor.code] != dtype:
                raise ValueError(
                    f"its tensor {name!r} is {ITEMS[tensor.code]} {tensor.shape}, "
                    f"but its architecture needs {dtype} {shape}"
                )


def read(file: BinaryIO) -> tuple[bytes, int]:
    """The header's bytes, and how many bytes of data follow it."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length < 2 or length > size - 8:
        raise ValueError(f"it is not a safetensors file, or was cut off ({size} bytes)")
    if length > MAX_HEADER:
        raise ValueError(f"its header of {length} bytes is longer than the {MAX_HEADER} allowed")
    return file.read(length), size - 8 - length


def parse(text: bytes, size: int) -> Header:
    """Check a header's text against the `size` of the data that follow it.

    Raises:
        ValueError: what is wrong with it, as the end of a sentence about the file.
    """
    entries = _json(text, "header")
    metadata = entries.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("fastbp"), str):
        raise ValueError("it holds tensors, but no fastbp network (no architecture)")
    description = _json(metadata["fastbp"].encode(), "description")
    architecture = _architecture(description)
    training = description.get(TRAINING)
    if training is not None and not isinstance(training, dict):
        raise ValueError("its training is not a JSON object")
    _plain(training, "training", 2 * MAX_DEPTH, MAX_WORDS)
    tensors = {name: _tensor(name, entry) for name, entry in entries.items()}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if tensor.begin != end:
            raise ValueError(
                f"its tensor {shown(name)} begins at byte {tensor.begin}, not at {end}"
            )
        end = tensor.end
    if end != size:
        raise ValueError(f"its tensors take {end} bytes, but {size} follow the header")
    _bound(architecture, tensors)
    texts = {name: value for name, value in metadata.items() if isinstance(value, str)}
    return Header(architecture, tensors, 8 + len(text), texts, training)


def _json(text: bytes, what: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(result := dict(pairs)) != len(pairs):
            raise ValueError("a name occurs twice")
        return result

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number of JSON")

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its {what} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"its {what} is not a JSON object")
    return value


def _architecture(description: dict[str, Any]) -> dict[str, Any]:
    """The architecture of a description, with everything checked that sizes hang on."""
    number, writer = description.get("format"), description.get("version")
    if not _is_count(number) or number < 1:
        raise ValueError(f"its format {shown(number)} is not known")
    if number > FORMAT:
        raise ValueError(
            f"its format {number} is newer than the {FORMAT} that this version reads: "
            f"install fastbp {shown(writer)} or later"
        )
    architecture = description.get("architecture")
    if not isinstance(architecture, dict):
        raise ValueError("its description has no architecture")
    _plain(architecture, "architecture", MAX_DEPTH, MAX_TEXT)
    layers = architecture.get("layers")
    if not isinstance(layers, list) or not layers:
        raise ValueError("its architecture has no list of layers")
    widths = [architecture.get("inputs")]
    widths += [layer.get("units") if isinstance(layer, dict) else None for layer in layers]
    for width in widths:
        if not _is_count(width) or width < 1:
            raise ValueError(f"its architecture has a width of {shown(width)}, not a whole number")
    dtype = architecture.get("dtype")
    if not isinstance(dtype, str) or dtype not in CODES:
        raise ValueError(f"its dtype {shown(dtype)} is none of {[*CODES]}")
    return architecture


def _plain(value: Any, what: str, depth: int, text: int) -> None:
    """Raise ValueError unless `value` is shallow, with short strings and finite numbers."""
    if depth == 0:
        raise ValueError(f"its {what} is nested too deeply")
    if isinstance(value, dict):
        for name, item in value.items():
            _plain(name, what, depth - 1, text)
            _plain(item, what, depth - 1, text)
    elif isinstance(value, list):
        for item in value:
            _plain(item, what, depth - 1, text)
    elif isinstance(value, str) and len(value) > text:
        raise ValueError(f"its {what} has a string of over {text} characters")
    elif isinstance(value, int) and abs(value) >= 1 << 64:
        raise ValueError(f"its {what} has a whole number of over 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):  # JSON's 1e999
        raise ValueError(f"its {what} has an infinite number")


def _tensor(name: str, entry: Any) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"its tensor {shown(name)} is not described by dtype, shape, data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    where = f"its tensor {shown(name)}"
    if not isinstance(code, str) or code not in ITEMS:
        raise ValueError(f"{where} has dtype {shown(code)}, not one of {[*ITEMS]}")
    if not _are_counts(shape) or not 1 <= len(shape) <= 2:
        raise ValueError(f"{where} has shape {shown(shape)}, not one or two sizes")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{where} has data_offsets {shown(offsets)}, not two bytes")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEMS[code].itemsize:
        raise ValueError(f"{where} of shape {shown(shape)} takes {end - begin} bytes")
    return Tensor(code, tuple(shape), begin, end)


def _bound(architecture: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Raise ValueError unless the file holds the weights that the architecture asks for.

    Every other tensor of a layer is a vector of its width, no larger than its weights, so that
    building the network cannot take more than a few times the size of the file.
    """
    rows = architecture["inputs"]
    for index, layer in enumerate(architecture["layers"]):
        name, expected = f"layers.{index}.W", (rows, layer["units"])
        if name not in tensors:
            raise ValueError(f"it lacks the tensor {name!r} of its architecture")
        if tensors[name].shape != expected:
            raise ValueError(
                f"its tensor {name!r} has shape {tensors[name].shape}, "
                f"but its architecture needs {expected}"
            )
        if tensors[name].code != CODES[architecture["dtype"]]:
            raise ValueError(f"its tensor {name!r} is not of dtype {architecture['dtype']}")
        rows = layer["units"]


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(_is_count(item) for item in value)
