"""Kernels that are no source files on disk: in a zip, as bytecode alone, or nowhere to be read."""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastbp
from fastbp.kernels.cpu import jit

STAMP = """
import sys; sys.path.insert(0, sys.argv[1])
from fastbp.kernels.cpu import jit
assert jit.__file__.startswith(sys.argv[1]), jit.__file__
print(jit.source_stamp())
"""


def _tree(place: Path, text: str) -> Path:
    """A copy of the package in `place`, `text` behind one of its kernels' sources."""
    kernels = Path(fastbp.kernels.__file__).parent
    for root, name in ((Path(fastbp.__file__).parent, "fastbp"), (kernels, "fastbp/kernels")):
        ignore = shutil.ignore_patterns("__pycache__", "kernels")
        shutil.copytree(root, place / name, ignore=ignore, dirs_exist_ok=True)
    with (place / "fastbp/kernels/cpu/update_rules.py").open("a") as file:
        file.write(text)
    return place


def _zipped(tree: Path) -> Path:
    return Path(shutil.make_archive(str(tree), "zip", tree))


def _bytecode(tree: Path) -> Path:
    assert compileall.compile_dir(tree, quiet=1, legacy=True)
    for source in tree.rglob("*.py"):
        source.unlink()
    return tree


@pytest.mark.parametrize("shipped", [_zipped, _bytecode])
def test_two_versions_have_two_stamps(shipped, tmp_path: Path) -> None:
    """They had one, of no source at all, and ran each other's compiled code."""
    stamps = set()
    for name, text in {"a": "", "b": "\nCHANGED = 1\n"}.items():
        place = shipped(_tree(tmp_path / name, text))
        command = [sys.executable, "-c", STAMP, str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        stamps.add(done.stdout)
    assert len(stamps) == 2


def test_a_zip_has_the_stamp_of_what_is_in_it(tmp_path: Path) -> None:
    place = _zipped(_tree(tmp_path / "a", ""))
    command = [sys.executable, "-c", STAMP, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == jit.source_stamp()


def test_what_nobody_can_read_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jit, "files", lambda _: tmp_path)
    monkeypatch.setattr(jit, "source_stamp", jit.source_stamp.__wrapped__)
    with pytest.warns(RuntimeWarning, match="cannot keep compiled kernels .the sources"):
        assert jit.cache_directory.__wrapped__() is None
