"""Compiled code on disk: a file an entry, each with the checksum of what it holds.

Numba's own files share an index: two processes that save two signatures of one function at once can
give both the same data file, and a later one runs the wrong code; a damaged file raises, or is run.
Here the name of a file is a hash of what it is for, and what does not match its checksum is as good
as not there. Whoever compiles an entry holds a lock that others wait for: of many processes that
start on a cold cache one does the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from .numba_private import FunctionCache, dumps

try:
    import fcntl
except ImportError:  # Windows: each process compiles for itself
    fcntl = None  # type: ignore[assignment]

LOCKS: Final = fcntl is not None
"""Whether processes can tell each other what they compile."""
_DIGEST: Final = 32  # bytes of SHA-256
_PATIENCE: Final = 180.0  # seconds to wait for another process's compiler


class Entries:
    """The entries of one function, in a directory."""

    def __init__(self, directory: str, base: str, stamp: str) -> None:
        self.directory, self.base, self.stamp = Path(directory), base, stamp

    def path(self, key: Any) -> Path:
        """The file of an entry: named by stamp, signature and processor."""
        name = hashlib.sha256(f"{self.stamp} {key!r}".encode()).hexdigest()[:24]
        return self.directory / f"{self.base}.{name}.nbc"

    def load(self, key: Any) -> Any:
        """What was saved under this key; None where nothing was, or it is damaged."""
        try:
            blob = self.path(key).read_bytes()
        except OSError:
            return None
        digest, content = blob[:_DIGEST], blob[_DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            return None
        stamp, kept, data = pickle.loads(content)  # noqa: S301 - a directory of the user alone
        return data if (stamp, kept) == (self.stamp, repr(key)) else None

    def save(self, key: Any, data: Any) -> None:
        """Write an entry, whole or not at all."""
        content = dumps((self.stamp, repr(key), data))
        path = self.path(key)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.tmp")
        try:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def flush(self) -> None:
        """Forget all entries of the function."""
        for path in self.directory.glob(f"{self.base}.*.nbc"):
            with contextlib.suppress(OSError):
                path.unlink()


class EntriesCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache of a function over `Entries`: it never fails, at worst it does not help."""

    def __init__(self, py_func: Any) -> None:
        super().__init__(py_func)
        locator = self._impl.locator
        base = self._impl.filename_base
        self._cache_file = Entries(locator.get_cache_path(), base, locator.get_source_stamp())
        self._lock: int | None = None

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """The name stands for the code, and the stamp for its text.

        Numba's key hashes the function's closure, whose pickle differs from process to process.
        """
        return sig, codegen.magic_tuple(), self._impl.filename_base

    def unclaimed(self, sig: Any, target_context: Any) -> bool:
        """Whether nobody has compiled this, and nobody is at it."""
        if self._cache_file.path(self._index_key(sig, target_context.codegen())).exists():
            return False
        lock = open_lock(self._lock_path())
        if lock is None:
            return True
        try:
            return take(lock)
        finally:
            let_go(lock)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None: then this process is to compile it, and no other."""
        found = self._found(sig, target_context)
        if found is None:
            with self._given_back():
                self._wait()
                found = self._found(sig, target_context)
            if found is not None:
                self._release()
        return found

    def guard(self, compiler: Any) -> None:
        """Give the lock back, too, where compiling ends in an error or an interrupt."""
        compile_it = compiler.compile

        def guarded(*args: Any) -> Any:
            with self._given_back():
                return compile_it(*args)

        compiler.compile = guarded

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, if it can be kept: a full disk is no reason to stop."""
        try:
            # Addresses of this process mean nothing to another; NUMBA_OPT=0 leaves some in.
            if data.library.has_dynamic_globals:
                return
            with contextlib.suppress(OSError):
                super().save_overload(sig, data)
        finally:
            self._release()

    def _found(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # noqa: BLE001 - whatever is wrong with an entry, code can be compiled
            return None

    def _wait(self) -> None:
        """Hold the function's lock, or give up on it after a while."""
        if self._lock is not None:
            return
        self._lock = open_lock(self._lock_path())
        end = time.monotonic() + _PATIENCE
        while self._lock is not None and not take(self._lock) and time.monotonic() < end:
            time.sleep(0.05)

    @contextlib.contextmanager
    def _given_back(self) -> Iterator[None]:
        """Who fails does not hold the lock on, for all others to wait."""
        try:
            yield
        except BaseException:
            self._release()
            raise

    def _lock_path(self) -> Path:
        return self._cache_file.directory / f"{self._cache_file.base}.lock"

    def _release(self) -> None:
        if self._lock is not None:
            let_go(self._lock)
            self._lock = None


def open_lock(path: Path) -> int | None:
    """A file to lock; None where there are no locks."""
    if fcntl is None:
        return None
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None


def take(lock: int) -> bool:
    """Whether an open lock is ours now; where files cannot be locked it is everyone's."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def let_go(lock: int) -> None:
    """Unlock and close: closed alone it stays locked while a child forked meanwhile has it open."""
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)
