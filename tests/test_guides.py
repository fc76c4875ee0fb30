"""The guides' code runs, block after block in one namespace; so do the examples."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from fastbp import kernels
from fastbp.kernels.tables import ACTIVATIONS, LOSS_ALIASES, LOSSES
from fastbp.optimizers import OPTIMIZERS

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "docs").is_dir():
    pytest.skip("the tests run outside the source tree", allow_module_level=True)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize(
    ("page", "needs", "least"),
    [
        ("from-pytorch.md", "torch", 5),
        ("from-scikit-learn.md", "sklearn", 5),
        ("distributed.md", "sklearn", 1),
    ],
)
def test_guides(page, needs, least, tmp_path, monkeypatch):
    pytest.importorskip(needs)
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= least
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "guide.py"
    script.write_text("\n".join(blocks))
    runpy.run_path(str(script))


def test_mathematics_names_every_kernel_and_entry_of_the_tables():
    text = (ROOT / "docs" / "mathematics.md").read_text()
    optimizers = {type(make()).__name__ for make in OPTIMIZERS.values()}
    names = [*kernels.__all__, *ACTIVATIONS, *LOSSES, *LOSS_ALIASES, *optimizers]
    assert [name for name in names if f"`{name}" not in text] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples(path, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
