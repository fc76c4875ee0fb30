"""The house decorators: how every CPU kernel is compiled and where the result is cached.

`serial` is a body that the training loop calls; `parallel` is a public door over the same body.
Bodies and helpers count no references to arrays (`_nrt=False`): they allocate none, and whoever
calls keeps them alive. A count is an atomic addition, which threads fight over: without them a step
of 784-30-10 on one sample takes 0.93 of the time, of 20-64-64-2 on 32 samples 0.96 to 0.98.
fastmath leaves out nnan and ninf (with them `isnan` is folded away and divergence hidden) and
reassoc (it would undo the split constants of the elementary functions).

Numba's own cache looks at one file: an edit in a helper of another file would leave stale code.
Ours is salted with a hash of every source file of the kernels and kept in a directory private to
the user; `NUMBA_CACHE_DIR` is honoured; other packages' caches are never moved.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import llvmlite
import numba
from numba.core import config

from .entries import EntriesCache
from .numba_private import CacheLocator, CompileResultCacheImpl, FunctionCache

FASTMATH: Final = {"contract", "nsz"}
JIT_DISABLED: Final = bool(config.DISABLE_JIT)
BOUNDS_CHECKED: Final = bool(config.BOUNDSCHECK) and not JIT_DISABLED
"""With NUMBA_BOUNDSCHECK=1 windows are checked, too, and what a body raises reaches its caller."""

_UNWRAPPED: Final = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_OPTIONS: Final[dict[str, Any]] = {"error_model": "numpy", "fastmath": FASTMATH}

# What Numba compiles differently for; the processor is part of each entry's key.
_SETTINGS: Final = (
    "BOUNDSCHECK", "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT",
    "LLVM_REFPRUNE_PASS", "LLVM_PASS_TIMINGS", "DISABLE_INTEL_SVML",
)  # fmt: skip


def serial(function: Callable[..., Any]) -> Any:
    """Compile a serial body: no GIL, cached, callable from other kernels."""
    return cached(numba.njit(nogil=True, _nrt=False, **_OPTIONS)(function), function)


def _unwrapped(function: Callable[..., Any], *, counts: bool = False, copied: bool = False) -> Any:
    options = {"_nrt": counts, "forceinline": copied, **_UNWRAPPED, **_OPTIONS}
    return numba.njit(nogil=True, **options)(function)


def inline(function: Callable[..., Any]) -> Any:
    """Compile a helper that only other kernels call: not cached alone, no way in from Python.

    What returns an array that it was given, in a tuple, may not be called by what counts.
    """
    if function.__closure__:
        held = ", ".join(function.__code__.co_freevars)
        raise TypeError(f"{function.__name__} closes over {held}; give it a name by inline_as")
    return _unwrapped(function)


def piece(function: Callable[..., Any]) -> Any:
    """`inline` for a part of one long function: copied into it, however large.

    Left to LLVM it may stay a call, which hands over a dozen arrays on the stack.
    """
    return _unwrapped(function, copied=True)


def view(function: Callable[..., Any]) -> Any:
    """`inline` for a helper that returns a part of an array, which Numba wants to be counted."""
    return _unwrapped(function, counts=True)


def inline_as(kind: str) -> Callable[[Callable[..., Any]], Any]:
    """`inline` for a function within a function, of which there is one of each kind.

    What it closes over is not in its name in compiled code, and its number there counts from the
    start of the process: without its kind, two that were compiled by two processes may have one
    name, and who loads both from the cache calls the first for either.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        function.__qualname__ = f"{function.__name__}_{kind}"
        return _unwrapped(function)

    return compiled


def body(function: Callable[..., Any]) -> Any:
    """Compile what is reached by address alone: cached, and no way in from Python.

    Unboxing a dozen arrays is more code than most bodies: without it they compile in half the time.
    """
    return cached(_unwrapped(function), function, "body")


def parallel(function: Callable[..., Any]) -> Any:
    """Compile a public door: `prange` over the shares of a serial body."""
    return cached(numba.njit(parallel=True, **_OPTIONS)(function), function)


@functools.cache
def source_stamp() -> str:
    """Hash of the kernel sources, the compiler's versions and its settings: the salt of the cache.

    Without the settings, code compiled with NUMBA_BOUNDSCHECK=1 would be run later without it, and
    a check for bounds would run code that has none.

    Raises:
        FileNotFoundError: nothing can be read that tells these kernels from another version's.
    """
    digest = hashlib.sha256()
    settings = [f"{name}={getattr(config, name, None)}" for name in _SETTINGS]
    for part in (numba.__version__, llvmlite.__version__, sys.version, *settings):
        digest.update(part.encode())
    root = files(__package__.rpartition(".")[0])
    found = [*sources_of(root)]
    if not found:
        raise FileNotFoundError("the sources of its kernels are not to be read")
    for name, content in found:
        digest.update(name.encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def sources_of(folder: Traversable, above: str = "") -> Iterator[tuple[str, bytes]]:
    """Names and contents of the kernels' files, in a zip as well, or compiled ones alone."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = f"{above}{entry.name}"
        if entry.is_dir():
            # Numba's cache for a card is apart, and a file's bytecode beside it says nothing more.
            if entry.name not in {"cuda", "__pycache__"}:
                yield from sources_of(entry, f"{name}/")
        elif name.endswith((".py", ".pyc")):
            yield name, entry.read_bytes()


def _base() -> Path:
    """Where caches are kept; RuntimeError where nobody knows the user's home."""
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR)
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "fastbp"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~")).expanduser() / "fastbp"
    return Path("~/.cache/fastbp").expanduser()


@functools.cache
def cache_directory() -> Path | None:
    """Directory of the compiled kernels, private to the user; None where none can be written."""
    try:
        path = _base() / f"fastbp-{source_stamp()}"
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if hasattr(os, "getuid"):
            if path.is_symlink() or path.stat().st_uid != os.getuid():
                raise PermissionError(f"{path} belongs to another user")
            path.chmod(0o700)  # its files are pickles: nobody else may write them
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, RuntimeError) as error:
        warnings.warn(
            f"fastbp cannot keep compiled kernels ({error}); they are compiled anew in every "
            "process. Set NUMBA_CACHE_DIR to a directory you can write to.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return path


class Locator(CacheLocator):  # type: ignore[misc]
    """Where one function's cache lies, and the stamp that tells whether it is stale."""

    kind = ""

    def __init__(self, py_func: Callable[..., Any], path: Path) -> None:
        self._name = f"{self.kind}:{py_func.__module__}.{py_func.__qualname__}"
        self._path = path

    def get_cache_path(self) -> str:
        return str(self._path)

    def get_source_stamp(self) -> str:
        return source_stamp()

    def get_disambiguator(self) -> str:
        return hashlib.sha256(self._name.encode()).hexdigest()[:10]

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> Locator | None:
        path = cache_directory()
        return None if path is None else cls(py_func, path)


def cached(dispatcher: Any, py_func: Callable[..., Any], kind: str = "") -> Any:
    """Give a dispatcher (or C function) the salted cache; a kind has files of its own."""
    if not JIT_DISABLED and cache_directory() is not None:
        cache = dispatcher._cache = _caches(kind)(py_func)
        cache.guard(dispatcher._compiler)
    return dispatcher


@functools.cache
def _caches(kind: str) -> type[FunctionCache]:
    locator = type("_KindLocator", (Locator,), {"kind": kind})
    impl = type("_Impl", (CompileResultCacheImpl,), {"_locator_classes": [locator]})
    return type("_Cache", (EntriesCache,), {"_impl_class": impl})
