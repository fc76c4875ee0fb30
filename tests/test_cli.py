"""The command line: what the commands print, and what a wrong option gets."""

import json
import re
import subprocess
import sys

import pytest
from cli_support import run

from fastbp.kernels.tables import LOSSES


def test_demo_reaches_97_per_cent_and_shows_its_work(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curve.png"
    status, out, _ = run(capsys, "demo", "--plot", str(picture))
    assert status == 0
    accuracy = re.search(r"^test accuracy: (\d+\.\d)%$", out, re.MULTILINE)
    assert float(accuracy[1]) >= 97.0
    assert picture.read_bytes().startswith(b"\x89PNG")
    for part in ("confusion matrix", "recognised:", "loss by epoch:", "us a step", str(picture)):
        assert part in out


def test_demo_is_the_same_each_time(capsys):
    first = run(capsys, "demo", "--epochs", "2", "--threads", "1")[1]
    second = run(capsys, "demo", "--epochs", "2", "--threads", "2")[1]

    def without_time(text):
        return re.sub(r"time: .*", "", text)

    assert without_time(first) == without_time(second)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--net", "4-5-3-3", "--activation", "sigmoid", "--seed", "3"],
        ["--net", "2-1", "--loss", "nll"],
        ["--net", "2-3-2", "--loss", "squared_error", "--activation", "relu"],
        ["--net", "2-2", "--loss", "absolute_error", "--decimals", "2"],
    ],
)
def test_explain_agrees_with_the_kernels(capsys, arguments):
    status, out, _ = run(capsys, "explain", *arguments)
    assert status == 0
    # float64, sums of at most 5 terms of order 1: a handful of roundings.
    assert float(re.search(r"largest difference: (\S+)", out)[1]) <= 1e-14
    assert out.index("forward") < out.index("backward")


def test_explain_names_every_quantity(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    out = run(capsys, "explain")[1]
    for name in ("Z1", "A2", "dL/dA2", "dA1/dZ1", "dL/dZ2", "dZ2/dA1", "dL/dW1", "dL/dW0,2"):
        assert name in out


def test_info_names_the_machine(capsys):
    status, out, _ = run(capsys, "info")
    assert status == 0
    for name in ("processor", "vectors", "cores", "threading layer", "compiled kernels", "numba "):
        assert name in out


def test_bench_measures_a_shape_and_stores_it(capsys, tmp_path):
    file = tmp_path / "bench.json"
    status, out, _ = run(
        capsys,
        *("bench", "--shape", "12-8-3:16", "--peer", "numpy", "--threads", "1", "--repeats", "1"),
        *("--json", str(file)),
    )
    assert status == 0
    assert "12-8-3:16" in out
    stored = json.loads(file.read_text())
    assert {row["peer"] for row in stored["shapes"][0]["rows"]} == {"fastbp", "numpy"}
    assert stored["machine"]["processor"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dmeo"], "No such command 'dmeo'"),
        (["demo", "--epochs", "0"], "Invalid value for '--epochs':"),
        (["demo", "--epochs", "many"], "Invalid value for '--epochs':"),
        (["demo", "--fast"], "No such option: --fast"),
        (["demo", "--plot", "nowhere/x.png"], "'nowhere/x.png' cannot be written"),
        (["demo", "--plot", "x.doc"], "'x.doc' ends in none of "),
        (["explain", "--net", "3"], "'3' is not two or more widths from 1 to 8 such as 3-4-2"),
        (["explain", "--net", "3-900-2"], "'3-900-2' is not two or more widths"),
        (["explain", "--activation", "rellu"], "did you mean 'relu'?"),
        (["explain", "--loss", "cross-entropy"], "did you mean 'cross_entropy'?"),
        (["bench", "--shape", "mnits"], "shape 'mnits' is neither one of online, notes"),
        (["bench", "--peer", "pytorch"], "did you mean 'torch'?"),
        (["bench", "--threads", "0"], "'0' is not a list of whole numbers from 1 to"),
        (["bench", "--threads", "9999"], "'9999' is not a list of whole numbers from 1 to"),
        (["bench", "--json", "nowhere/x.json"], "'nowhere/x.json' cannot be written"),
    ],
)
def test_a_wrong_option_gets_one_line_and_status_2(
    capsys, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    status, out, error = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_version_and_help(capsys):
    assert run(capsys, "--version")[:2] == (0, "fastbp 0.1.0\n")
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for name in ("demo", "train", "predict", "explain", "bench", "info"):
        assert name in out


def test_the_installed_script_passes_its_status_on():
    code = "import sys; from fastbp.cli import main; sys.argv = ['fastbp', 'nothing']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("fastbp: No such command 'nothing'")


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_explained(capsys, loss):
    status, _, said = run(capsys, "explain", "--loss", loss)
    assert (status, said) == (0, "")
