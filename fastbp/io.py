"""Networks on disk: safetensors, with the architecture as JSON in the metadata. Never pickle.

A file is data and nothing else: loading runs no code from it. Everything that its header says is
checked (`_header.py`) before anything is allocated, and the numbers are read straight into the
network's own memory: loading takes about the size of the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ._header import FORMAT, Header, parse, read


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
    net: Storable, path: str | os.PathLike[str], remarks: Mapping[str, str] | None = None
) -> None:
    """Store a network: architecture, parameters and running statistics.

    The file appears whole or not at all: it is written beside `path`, flushed to the disk and
    renamed. What was there before stays until then.

    Args:
        net: the network.
        path: file to write, by custom ending in `.safetensors`.
        remarks: further metadata by name, for `remarks` to read; "fastbp" is taken.

    Raises:
        OSError: the file cannot be written.
    """
    description = {
        "format": FORMAT,
        "version": version("fastbp"),
        "architecture": net.architecture(),
    }
    metadata = {**(remarks or {}), "fastbp": json.dumps(description, allow_nan=False)}
    arrays = {name: np.ascontiguousarray(view) for name, view in net.tensors().items()}
    with replacing(Path(path)) as temporary:
        save_file(arrays, temporary, metadata)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A file beside `target` to write to, which takes its place when the block ends well.

    Raises:
        OSError: it cannot be written there; nothing is left behind.
    """
    if target.is_dir():
        raise IsADirectoryError(f"{str(target)!r} is a directory: name a file to write")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{str(target.parent)!r} is not a directory: make it first")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        # Made here first to learn the permissions that the user's umask gives to a new file:
        # safetensors would leave it readable by its owner alone.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(mode)
        _flush(temporary, os.O_RDWR)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if os.name != "nt":  # Windows cannot open a directory
        _flush(target.parent, os.O_RDONLY)


def load(path: str | os.PathLike[str], cls: type[N]) -> N:
    """Read a network that `save` wrote.

    Args:
        path: the file.
        cls: the class to build, `fastbp.Network`.

    Returns:
        A network with the stored architecture, parameters and running statistics.

    Raises:
        ValueError: the file is not such a network, is damaged, or is of a newer format.
        OSError: the file cannot be read.
    """
    source = _regular(path)
    with source.open("rb") as file:
        try:
            header = parse(*read(file))
            net = _build(cls, header.architecture)
            tensors = net.tensors()
            header.match({name: (view.shape, view.dtype) for name, view in tensors.items()})
            for name, view in tensors.items():
                _fill(view, file, header, name)
        except ValueError as error:
            raise ValueError(f"{str(source)!r} cannot be loaded as a network: {error}") from error
    return net


def remarks(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a stored network, its own description among them, as texts by name.

    Raises:
        ValueError: the file is not a stored network.
        OSError: the file cannot be read.
    """
    source = _regular(path)
    with source.open("rb") as file:
        try:
            return parse(*read(file)).metadata
        except ValueError as error:
            raise ValueError(f"{str(source)!r} cannot be loaded as a network: {error}") from error


def _regular(path: str | os.PathLike[str]) -> Path:
    """Looked at before it is opened: to open a named pipe would wait for its writer."""
    source = Path(path)
    if not stat.S_ISREG(source.stat().st_mode):
        raise ValueError(f"{str(source)!r} is not a regular file: name one that save wrote")
    return source


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


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
