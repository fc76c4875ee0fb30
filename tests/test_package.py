"""What is shipped: the wheel's and the source archive's files, to the last one."""

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("the tests run outside the source tree", allow_module_level=True)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUP = PROJECT["tool"]["setuptools"]
NAME = f"fastbp-{version('fastbp')}"

# Files of the packages that are not Python.
DATA = {
    "fastbp/py.typed",
    "fastbp/datasets/README.md",
    "fastbp/datasets/digits.npz",
    "fastbp/kernels/README.md",
    "fastbp/report/script.js",
    "fastbp/report/style.css",
}


def installed_name(path):
    """Where a source file lands: kernels/cpu/jit.py in fastbp/kernels/cpu/jit.py."""
    relative = path.relative_to(ROOT).as_posix()
    return f"fastbp/{relative}" if relative.startswith("kernels/") else relative


def sources():
    """Every Python file of the packages as it is installed."""
    found = [path for top in ("fastbp", "kernels") for path in (ROOT / top).rglob("*.py")]
    return {installed_name(path) for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and source archive, built from a copy so that the tree stays clean."""
    if importlib.util.find_spec("build") is None or importlib.util.find_spec("setuptools") is None:
        pytest.skip("needs `build` and `setuptools`: pip install 'fastbp[test]'")
    copy = tmp_path_factory.mktemp("copy") / "fastbp"
    junk = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, copy, ignore=junk)
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_folder_is_a_listed_package():
    folders = {name.rpartition("/")[0].replace("/", ".") for name in sources()}
    assert set(SETUP["packages"]) == folders
    for package in folders:
        path = ROOT / SETUP["package-dir"].get(package, package.replace(".", "/"))
        assert (path / "__init__.py").is_file(), f"{package} needs an __init__.py"
        if package.startswith("fastbp.kernels"):
            assert SETUP["package-dir"][package] == package.removeprefix("fastbp.").replace(
                ".", "/"
            )


def test_wheel_holds_exactly_the_packages(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        information = {name.partition("/")[2] for name in set(wheel.namelist()) - names}
        scripts = wheel.read(f"{NAME}.dist-info/entry_points.txt").decode()
    assert names == sources() | DATA
    assert {name.split("/")[0] for name in names} == {"fastbp"}  # no top-level `kernels`
    assert "licenses/LICENSE" in information
    assert "fastbp = fastbp.cli:main" in scripts


def test_source_archive_can_build_the_same(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"pyproject.toml", "README.md", "LICENSE"}
    needed |= {name.replace("fastbp/kernels", "kernels", 1) for name in sources() | DATA}
    assert needed <= names


def test_source_archive_can_be_tested_and_read(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("benchmarks", "docs", "examples", "tests", "tools")
    files = [*ROOT.glob("*.md"), *(f for name in folders for f in (ROOT / name).rglob("*.*"))]
    needed = {file.relative_to(ROOT).as_posix() for file in files if file.is_file()}
    assert {name for name in needed if "__pycache__" not in name} <= names


def test_importing_fastbp_brings_no_optional_package_and_no_kernels_module():
    code = (
        "import sys, fastbp\n"
        "unwanted = {'sklearn', 'matplotlib', 'torch', 'jax', 'typer', 'kernels'}\n"
        "found = unwanted & sys.modules.keys()\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("name", ["bench", "datasets", "distributed", "notes", "trace"])
def test_a_part_that_the_pages_name_is_there_when_asked_for(name):
    code = (
        f"import sys, fastbp; assert {name!r} in dir(fastbp)\n"
        f"assert 'fastbp.{name}' not in sys.modules\n"
        f"assert fastbp.{name} is sys.modules['fastbp.{name}']"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_core_dependencies_are_four():
    names = {text.split(">")[0] for text in PROJECT["project"]["dependencies"]}
    assert names == {"numpy", "numba", "rich", "typer"}


@pytest.mark.parametrize("name", ["numba", "llvmlite", "numpy"])
def test_without_a_compiler_the_message_says_what_to_do(name):
    code = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "try:\n    import fastbp\n"
        f"except ImportError as error:\n    assert error.name == {name!r}; print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"fastbp needs {name} to ")
    assert f"pip install {name}" in done.stdout
