"""Examples run: the doctests of every module, README's commands and the READMEs' Python blocks."""

import doctest
import importlib
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

import fastbp
import fastbp.kernels

ROOT = Path(__file__).resolve().parent.parent

# Both paths: fastbp.kernels lies in another folder than fastbp.
MODULES = sorted(
    {
        module.name
        for package in (fastbp, fastbp.kernels)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    }
)
# Modules that cannot be imported, or whose examples cannot run, without an optional package.
OPTIONAL = {
    "fastbp.bench.peers.jax_peer": "jax",
    "fastbp.bench.peers.sklearn_peer": "sklearn",
    "fastbp.bench.peers.torch_peer": "torch",
    "fastbp.bridges": "onnx",
    "fastbp.bridges.onnx_graph": "onnx",
    "fastbp.bridges.from_module": "torch",
    "fastbp.bridges.from_pytorch": "torch",
    "fastbp.bridges.from_state_dict": "torch",
    "fastbp.bridges.to_pytorch": "torch",
    "fastbp.bridges.torch_layers": "torch",
    "fastbp.bridges.torch_modules": "torch",
    "fastbp.bridges.skl2onnx_converter": "skl2onnx",
    "fastbp.frames": "pandas",
    "fastbp.history": "matplotlib",
    **{name: "sklearn" for name in MODULES if name.startswith("fastbp.sklearn_api.")},
}


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name])
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    # Examples may use the names of the face as a reader has them after `from fastbp import *`.
    face = {public: getattr(fastbp, public) for public in fastbp.__all__}
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=flags, extraglobs=face)
    assert failed == 0


def test_every_package_is_covered():
    assert {"fastbp.datasets", "fastbp.kernels.tables", "fastbp.kernels.cpu.jit"} <= set(MODULES)


@pytest.mark.parametrize("path", ["README.md", "kernels/README.md"])
def test_python_blocks_of_readmes(path, tmp_path, monkeypatch):
    if not (ROOT / path).is_file():
        pytest.skip("the tests run outside the source tree")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for number, block in enumerate(blocks):
        script = tmp_path / f"block_{number}.py"
        script.write_text(block)
        runpy.run_path(str(script))


def test_readme_gives_its_two_commands():
    if not (ROOT / "README.md").is_file():
        pytest.skip("the tests run outside the source tree")
    readme = runpy.run_path(str(ROOT / "tools" / "readme.py"))
    text = (ROOT / "README.md").read_text()
    assert readme["command"](text, "demo").endswith("fastbp demo")
    assert readme["command"](text, "test").endswith("python -m pytest -n 2")
    with pytest.raises(SystemExit, match="exactly one one-line command marked 'other'"):
        readme["command"](text, "other")
