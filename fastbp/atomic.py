"""Files that appear whole or not at all: written beside their place, flushed, renamed into it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import check_path

try:
    import fcntl
except ImportError:  # Windows: nothing tells a file under way from one left behind
    fcntl = None  # type: ignore[assignment]


def check_target(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """`path`, if a file can be written there; `argument` is what messages call it.

    Raises:
        TypeError, ValueError: it is no path.
        OSError: it is a directory or a device, or its name is too long; its directory is missing
            or may not be written to.
    """
    target = check_path(argument, path)
    if target.is_symlink():  # the link stays, the file that it names is replaced
        target = Path(os.path.realpath(target))
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        target.stat()  # a name that is too long, a folder that may not be entered
    if target.is_dir():
        raise IsADirectoryError(f"{str(target)!r} is a directory: name a file to write")
    if target.exists() and not target.is_file():  # a device would be gone
        raise OSError(f"{str(target)!r} is no regular file: name another to write")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{str(target.parent)!r} is not a directory: make it first")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"{str(target.parent)!r} may not be written to: name another")
    return target


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file to write to, empty, that takes the place of `path` when the block ends well.

    It lies beside `path` until then, and what was at `path` stays; the new file has the permissions
    of the old one. The bytes are flushed to disk before the rename, and the directory entry before
    this returns. A writer that was killed leaves its file behind; the next writer of the same path
    removes it.

    Raises:
        OSError: the file cannot be written.
    """
    target = check_target(path)
    _sweep(target)
    file, temporary = _beside(target)
    try:
        with file:  # whoever writes opens it again: it is this one that is locked and flushed
            if hasattr(os, "fchmod"):
                with contextlib.suppress(OSError):
                    os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield temporary
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno and error.filename is None:  # of a write
            error.filename = str(target)
        raise
    if os.name != "nt":  # Windows cannot open a directory
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _beside(target: Path) -> tuple[BinaryIO, Path]:
    """A new file beside `target`, locked for as long as it is open."""
    while True:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(temporary, flags, 0o666), "w+b")
        if fcntl is None:
            return file, temporary
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:  # nobody swept it before it was locked
            return file, temporary
        file.close()


def _sweep(target: Path) -> None:
    """Remove what killed writers of `target` left: files that nobody holds a lock on."""
    if fcntl is None:
        return
    prefix = f".{target.name}."
    for entry in os.scandir(target.parent):
        if not (entry.name.startswith(prefix) and entry.name.endswith(".tmp")):
            continue
        with contextlib.suppress(OSError):  # somebody writes it, or it is not ours
            descriptor = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Path(entry.path).unlink()
            finally:
                os.close(descriptor)
