"""Kernels on disk, as the CPU's are: the loop takes some 20 s to compile, and 0.1 s to read.

Entries lie in the CPU's cache directory, under a stamp that covers this folder's sources too.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from numba.cuda.dispatcher import CUDACacheImpl

from ..cpu.entries import EntriesCache
from ..cpu.jit import Locator, cache_directory, source_stamp, sources_of
from .shim import version


@functools.cache
def card_stamp() -> str:
    """Hash of all kernels' sources, the compiler's versions and its settings."""
    digest = hashlib.sha256(f"{source_stamp()} {version()}".encode())
    for name, content in sources_of(files(__package__)):
        digest.update(name.encode())
        digest.update(content)
    return digest.hexdigest()[:16]


class _CardLocator(Locator):
    kind = "card"

    def get_source_stamp(self) -> str:
        return card_stamp()


class _CardImpl(CUDACacheImpl):  # type: ignore[misc]
    _locator_classes = (_CardLocator,)


class _CardCache(EntriesCache):
    _impl_class = _CardImpl


def keep(dispatcher: Any, function: Callable[..., None]) -> Any:
    """Give a kernel's dispatcher the cache, where there is a directory to write to."""
    if cache_directory() is not None:
        cache = dispatcher._cache = _CardCache(function)
        cache.guard(dispatcher)
    return dispatcher
