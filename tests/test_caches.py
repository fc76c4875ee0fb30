"""The cache of compiled kernels: damaged, unwritable, foreign, stale or contended, it does no harm.

`python tests/caches.py` races 32 processes on a cold cache, twenty times.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastbp.kernels.cpu import cold, jit, table
from fastbp.kernels.cpu.entries import Entries
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.cpu.operands import make_packing
from fastbp.kernels.cpu.tiles import TILE_SETS

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")

DOOR = """
import numpy as np
from fastbp import kernels
from fastbp.kernels import tables
x = np.linspace(-2, 2, 7)[None]
found = kernels.activate("leaky_relu", x)
assert np.allclose(found, np.where(x < 0, tables.LEAKY_SLOPE * x, x)), found
print(found[0, 0])
"""


def run(
    folder: Path | str, *options: str, code: str = DOOR, **environment: str
) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(folder), **environment}
    variables = {name: value for name, value in variables.items() if value}
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=200)
    assert done.returncode == 0, done.stderr
    return done


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.nbc"))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with one door's kernels."""
    folder = tmp_path_factory.mktemp("cache")
    run(folder)
    assert entries(folder)
    return folder


@pytest.fixture
def cache(compiled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled, tmp_path / "cache"))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "one bit": lambda path: path.write_bytes(
        (blob := path.read_bytes())[:5000] + bytes([blob[5000] ^ 1]) + blob[5001:]
    ),
    "a pickle that runs code": lambda path: path.write_bytes(
        b"cos\nsystem\n(S'echo owned >&2'\ntR."
    ),
    "another entry's": lambda path: path.write_bytes(entries(path.parent)[0].read_bytes()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_compiled_anew(damage: str, cache: Path) -> None:
    for path in reversed(entries(cache)):
        DAMAGE[damage](path)
    done = run(cache, "-W", "error")
    assert done.stdout == "-0.02\n"
    assert done.stderr == ""
    stamps = {path: path.stat().st_mtime_ns for path in entries(cache)}
    run(cache, "-W", "error")  # mended: nothing is compiled now
    assert {path: path.stat().st_mtime_ns for path in entries(cache)} == stamps


@pytest.mark.parametrize(
    "environment",
    [
        {"NUMBA_CACHE_DIR": "/dev/null/nowhere"},
        {"NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": "/dev/null/nobody"},
        {"NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": "/proc/nothing"},
    ],
    ids=["unwritable", "no home", "no cache home"],
)
def test_without_a_place_it_compiles_and_says_so_once(environment: dict[str, str]) -> None:
    folder = environment.pop("NUMBA_CACHE_DIR")
    done = run(folder, **environment)
    assert done.stdout == "-0.02\n"
    assert done.stderr.count("fastbp cannot keep compiled kernels") == 1
    assert "Set NUMBA_CACHE_DIR to a directory you can write to" in done.stderr


def test_another_processor_s_entries_lie_beside_ours(cache: Path) -> None:
    ours = entries(cache)
    assert run(cache, NUMBA_CPU_NAME="generic").stdout == "-0.02\n"
    both = entries(cache)
    assert len(both) == 2 * len(ours)
    run(cache)
    assert entries(cache) == both


def test_other_settings_of_the_compiler_have_entries_of_their_own(cache: Path) -> None:
    """Code without checks must not stand in for code with them, nor the reverse."""
    ours, checks = entries(cache), os.environ.get("NUMBA_BOUNDSCHECK", "0")
    assert run(cache, NUMBA_BOUNDSCHECK="0" if checks == "1" else "1").stdout == "-0.02\n"
    both = entries(cache)
    assert len(both) == 2 * len(ours)
    run(cache)
    assert entries(cache) == both


OUTSIDE = """
import numba, numpy as np
from fastbp.kernels.cpu.memory import segment, window
@numba.njit
def matrix(x, at, rows, columns): return window(x, at, rows, columns).size
@numba.njit
def vector(x, at, size): return segment(x, at, size).size
x = np.zeros(12)
assert (matrix(x, 0, 3, 4), vector(x, 3, 9), vector(x, 12, 0)) == (12, 9, 0)
for call in (lambda: matrix(x, 1, 3, 4), lambda: matrix(x, -1, 1, 1), lambda: vector(x, 4, 9)):
    try:
        call()
    except IndexError as error:
        assert "window outside its array" in str(error)
    else:
        raise AssertionError("not noticed")
"""


def test_with_bounds_checked_a_window_outside_its_array_is_an_error(cache: Path) -> None:
    run(cache, code=OUTSIDE, NUMBA_BOUNDSCHECK="1")


def test_an_edited_source_is_never_stale(tmp_path: Path) -> None:
    """An edit in a file that the compiled function's own file only imports."""
    for name in ("fastbp", "kernels"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    (tmp_path / "fastbp" / "kernels").symlink_to(tmp_path / "kernels")
    tables = tmp_path / "kernels" / "tables.py"
    plain = tables.read_text()
    home = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    found = []
    for slope in ("0.01", "0.25", "0.01"):
        tables.write_text(
            plain.replace("LEAKY_SLOPE: Final = 0.01", f"LEAKY_SLOPE: Final = {slope}")
        )
        found.append(run(tmp_path / "cache", code=home + DOOR).stdout)
    assert found == ["-0.02\n", "-0.5\n", "-0.02\n"]


@pytest.mark.skipif(sys.platform == "win32", reason="no modes")
def test_the_directory_is_private(cache: Path) -> None:
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    folder.chmod(0o777)  # as somebody may have made it
    run(cache)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_no_two_functions_may_have_one_name_in_compiled_code() -> None:
    """Numba names code by a function's name, argument types, and a number that counts from the
    start of the process: what a function closes over is in none of them. Two processes once put
    the packing of float32 and of float64 into a cache under one name.
    """
    factor = 2

    def scaled(x: int) -> int:
        return factor * x

    with pytest.raises(TypeError, match=r"scaled closes over factor; .* inline_as"):
        jit.inline(scaled)
    assert jit.inline_as("by_two")(scaled).py_func.__qualname__ == "scaled_by_two"
    tiles = TILE_SETS["avx512"]
    single, double = (make_packing(tiles, itemsize) for itemsize in (4, 8))
    for one, other in zip(single, double, strict=True):
        assert one.py_func.__qualname__ != other.py_func.__qualname__


def test_processes_that_start_together_compile_once(python: Any) -> None:
    done = python("tests/caches.py", "--processes", "6", "--times", "1")
    assert done.returncode == 0, done.stdout


def test_two_keys_never_share_a_file(tmp_path: Path) -> None:
    one, two = (Entries(str(tmp_path), "f", "stamp") for _ in range(2))
    one.save("float32", b"a" * 1000)
    two.save("float64", b"b" * 1000)
    assert one.load("float64") == b"b" * 1000
    assert two.load("float32") == b"a" * 1000
    assert one.load("int8") is None
    assert Entries(str(tmp_path), "f", "edited").load("float32") is None
    one.flush()
    assert two.load("float32") is None
    assert not list(tmp_path.iterdir())


COLD = """
import numpy as np
from fastbp.kernels.cpu import infer, loop, table
table.bind(np.float32, lambda: 2)
stats = [entry.dispatcher.stats for entry in table._bodies]
print(sum(sum(s.cache_hits.values()) for s in stats))
print(sum(sum(s.cache_misses.values()) for s in stats))
"""


def test_a_cold_cache_is_filled_by_two_cores(tmp_path: Path) -> None:
    """Every body is compiled by one process, and both have a part in it."""
    done = run(tmp_path, "-W", "error", code=COLD)
    loaded, compiled = (int(word) for word in done.stdout.split())
    assert loaded + compiled == sum(not entry.bf16 for entry in table._bodies)
    assert loaded > 0
    assert compiled > 0
    assert done.stderr.count("fastbp: compiling its kernels for float32, once") == 1


def test_of_several_processes_one_speaks_and_calls_helpers(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", COLD]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    crew = [
        subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        for _ in range(3)
    ]
    said = b"".join(process.communicate(timeout=200)[1] for process in crew)
    assert [process.returncode for process in crew] == [0, 0, 0]
    assert said.count(b"\n") == 1
    assert said.startswith(b"fastbp: compiling its kernels for float32, once")


@pytest.mark.parametrize(
    ("executable", "frozen"),
    [("/usr/bin/blender", False), ("", False), (None, False), (sys.executable, True)],
)
def test_only_python_is_started_as_a_helper(
    executable: str | None, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program with Python inside would start itself, whole."""
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    monkeypatch.setattr(cold, "_start", lambda dtype: pytest.fail("a process was started"))
    with cold.helpers("float32", 1) as count:
        assert count == 0


def test_no_helper_outlives_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "_HELP", "import time; time.sleep(600)")
    started, start = [], cold._start
    monkeypatch.setattr(cold, "_start", lambda dtype: started.append(start(dtype)) or started[-1])
    with contextlib.suppress(KeyboardInterrupt), cold.helpers("float32", 2):
        assert [process.poll() for process in started] == [None, None]
        raise KeyboardInterrupt
    assert [process.returncode for process in started] == [-signal.SIGTERM] * 2


def test_where_no_process_can_be_started_there_is_no_help(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **options: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    with cold.helpers("float32", 1) as count:
        assert count == 0


def test_a_helper_with_other_settings_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it compiled would lie where nobody looks."""
    monkeypatch.setattr(table, "compile_unclaimed", lambda *_: pytest.fail("it compiled"))
    table.help_out("float32", "/another/cache")


FAILING = """
from numba import errors, types
from fastbp.kernels.cpu import jit
from fastbp.kernels.cpu.entries import open_lock, take

def bad(x):
    return x.nothing

def good(x):
    return x

def interrupted(*args):
    raise KeyboardInterrupt

wrong, right = jit.serial(bad), jit.serial(good)
right._compiler._compile_core = interrupted
for function, error in ((wrong, errors.TypingError), (right, KeyboardInterrupt)):
    try:
        function.compile((types.int64,))
    except error:
        assert take(open_lock(function._cache._lock_path()))
    else:
        raise AssertionError
"""


def test_who_fails_to_compile_lets_others_try(tmp_path: Path) -> None:
    """The lock of a function is given back: for its holder's life nobody else could compile it."""
    run(tmp_path, code=FAILING)


FORKING = """
import os
import signal
from fastbp.kernels.cpu import cold, jit
from fastbp.kernels.cpu.entries import open_lock, take

@jit.serial
def one(x):
    return x

children = []

def fork():
    children.append(os.fork())
    if children[-1] == 0:
        signal.pause()

cache = one._cache
path = cache._lock_path().with_name("cold.lock")
try:
    cache._wait()
    fork()
    cache._release()
    free = [take(open_lock(cache._lock_path()))]
    with cold.leading(path) as first:
        fork()
    free.append(take(open_lock(path)))
finally:
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
assert first and free == [True, True], free
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_meanwhile_keeps_no_lock(tmp_path: Path) -> None:
    """A lock belongs to what was opened, and the child has that open, too."""
    run(tmp_path, code=FORKING)


def test_who_has_no_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs with any user id."""
    monkeypatch.setattr(jit.config, "CACHE_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def expanduser(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    with pytest.warns(RuntimeWarning, match="cannot keep compiled kernels .Could not determine"):
        assert jit.cache_directory.__wrapped__() is None


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_code_that_holds_addresses_runs(tmp_path: Path) -> None:
    """NUMBA_OPT=0 leaves some in: such code is not kept, and nothing is said of it."""
    code = "import numpy as np; from fastbp.kernels import linear_forward\n"
    code += "print(linear_forward(np.ones((2, 3)), np.ones((3, 1))).tolist())"
    settings = {**os.environ, "NUMBA_OPT": "0", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[[3.0], [3.0]]\n"), done.stderr
    assert "Warning" not in done.stderr
