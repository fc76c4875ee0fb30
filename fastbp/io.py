"""Networks on disk: safetensors, with the architecture as JSON in the metadata. Never pickle.

A file is data and nothing else: loading runs no code from it. Everything that its header says is
checked (`_header.py`) before anything is allocated, and the numbers are read straight into the
network's own memory: loading takes about the size of the file.

A checkpoint is such a file with a training under way beside the network (`checkpoint.py`): more
JSON, and tensors named "training...", which `load` leaves unread.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ._header import CODES, FORMAT, ITEMS, TRAINING, Header, parse, read
from .atomic import replacing
from .errors import check_path, shown
from .tree import flatten, unflatten


class Storable(Protocol):
    """What a network offers to be stored: its architecture as JSON types, and its tensors."""

    def architecture(self) -> dict[str, Any]:
        """The architecture as plain dicts, lists, strings, numbers, booleans and None."""

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """Every stored array by name, as views that may be written to."""

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any]) -> Self:
        """A fresh network; ValueError or TypeError where a field is unknown or out of range."""


N = TypeVar("N", bound=Storable)


def save(
    net: Storable,
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Store a network: architecture, parameters and running statistics.

    The file appears whole or not at all: it is written beside `path`, flushed to the disk and
    renamed. What was there before stays until then.

    Args:
        net: the network.
        path: file to write, by convention ending in `.safetensors`.
        metadata: further texts by name, for `remarks` to read; "fastbp" is taken.
        training: nested plain values and arrays to be kept with it, a training under way.

    Raises:
        OSError: the file cannot be written.
        TypeError: `training` holds something else.
    """
    tensors = dict(net.tensors())
    description = {
        "format": FORMAT,
        "version": version("fastbp"),
        "architecture": net.architecture(),
    }
    if training is not None:
        description["training"] = flatten(dict(training), TRAINING, tensors)
    own = {"fastbp": json.dumps(description, allow_nan=False)}
    _write(path, {**(metadata or {}), **own}, tensors)


def _write(
    path: str | os.PathLike[str], metadata: dict[str, str], tensors: Mapping[str, Any]
) -> None:
    """A safetensors file: 8 bytes of length, JSON, and the tensors back to back.

    Written here and not by the safetensors package, which goes through a temporary file of its own
    that a killed process leaves behind, and without a copy of the numbers.
    """
    # As safetensors orders them: large items first, so that each is aligned.
    arrays = dict(sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary, temporary.open("r+b") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            if stored.size:
                file.write(stored.data.cast("B"))


def load(path: str | os.PathLike[str], cls: type[N], instead: Mapping[str, Any] | None = None) -> N:
    """Read a network that `save` wrote, of a checkpoint the network alone.

    Args:
        path: the file.
        cls: the class to build, `fastbp.Network`.
        instead: fields of the architecture to take instead of the file's.

    Returns:
        A network with the stored architecture, parameters and running statistics.

    Raises:
        ValueError: the file is not such a network, is damaged, or is of a newer format.
        OSError: the file cannot be read.
    """
    with _opened(path, "loaded as a network") as (file, header):
        return _network(file, header, cls, instead or {})


def load_training(path: str | os.PathLike[str], cls: type[N]) -> tuple[N, dict[str, Any]]:
    """Read a network and what `save` was given as `training`, arrays and all.

    Raises:
        ValueError: the file is no checkpoint, is damaged, or is of a newer format.
        OSError: the file cannot be read.
    """
    with _opened(path, "resumed from") as (file, header):
        net = _network(file, header, cls, {})
        if header.training is None:
            raise ValueError("it is a network without a training")
        return net, unflatten(header.training, _Tensors(file, header).take)


def remarks(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a stored network, its own description among them, as texts by name.

    Raises:
        ValueError: the file is not a stored network.
        OSError: the file cannot be read.
    """
    with _opened(path, "loaded as a network") as (_, header):
        return header.metadata


@contextmanager
def _opened(path: str | os.PathLike[str], what: str) -> Iterator[tuple[BufferedReader, Header]]:
    """A stored file and its header; errors within say that it cannot be `what`."""
    source = _regular(path)
    with source.open("rb") as file:
        try:
            yield file, parse(*read(file))
        except ValueError as error:
            raise ValueError(f"{str(source)!r} cannot be {what}: {error}") from error


def _regular(path: str | os.PathLike[str]) -> Path:
    """Looked at before it is opened: to open a named pipe would wait for its writer."""
    source = check_path("path", path)
    if not stat.S_ISREG(source.stat().st_mode):
        raise ValueError(f"{str(source)!r} is not a regular file: name one that save wrote")
    return source


def _network(file: BufferedReader, header: Header, cls: type[N], instead: Mapping[str, Any]) -> N:
    net = _build(cls, {**header.architecture, **instead})
    tensors = net.tensors()
    header.match({name: (view.shape, view.dtype) for name, view in tensors.items()})
    for name, view in tensors.items():
        _fill(view, file, header, name)
    return net


class _Tensors:
    """The tensors of a training, each to be taken once: no more memory than the file has bytes."""

    def __init__(self, file: BufferedReader, header: Header) -> None:
        self.file, self.header = file, header
        self.left = {name for name in header.tensors if name.startswith(f"{TRAINING}.")}

    def take(self, name: str) -> NDArray[Any]:
        if name not in self.left:
            raise ValueError(f"it lacks the tensor {shown(name)} of its training")
        self.left.remove(name)
        tensor = self.header.tensors[name]
        array = np.empty(tensor.shape, ITEMS[tensor.code])
        _fill(array, self.file, self.header, name)
        return array


def _build(cls: type[N], architecture: dict[str, Any]) -> N:
    try:
        return cls.from_architecture(architecture)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"its architecture is not valid: {error}") from error


def _fill(view: NDArray[Any], file: BufferedReader, header: Header, name: str) -> None:
    """Read one tensor into its place, without a copy where the place is contiguous."""
    tensor = header.tensors[name]
    file.seek(header.data + tensor.begin)
    stored = view if view.flags.c_contiguous else np.empty(view.shape, view.dtype)
    if stored.size and file.readinto(stored.data.cast("B")) != tensor.end - tensor.begin:
        raise ValueError(f"it ends within the tensor {name!r}")
    if stored.dtype.newbyteorder("<") != stored.dtype:
        stored.byteswap(inplace=True)
    if stored is not view:
        view[...] = stored
