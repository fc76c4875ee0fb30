"""How commands end: output that nobody reads or that has no room, Ctrl-C, a lack of memory."""

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_support import run

from fastbp import Network, Trainer
from fastbp.commands import train as command
from fastbp.commands.drawing import curve

TRAIN = ("train", "d.npz", "--target", "y", "--hidden", "4", "--report", "r.html")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder to work in, with a table of 40 rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    np.savez("d.npz", x=np.random.default_rng(0).normal(size=(40, 2)), y=np.arange(40) % 2)
    return tmp_path


def test_a_training_outlives_what_goes_wrong_when_it_is_told_of(capsys, folder, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_results", interrupted)
    assert run(capsys, *TRAIN, "--epochs", "1")[0] == 130
    assert Network.load("model.safetensors").inputs == 2
    assert "1 epoch" in (folder / "r.html").read_text()


@pytest.mark.parametrize("epochs", [0, 2])
def test_what_ctrl_c_leaves_is_stored(capsys, folder, monkeypatch, epochs):
    fit = Trainer.fit

    def interrupted(trainer, *data, **how):
        if epochs:
            fit(trainer, *data, **{**how, "epochs": epochs})
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "fit", interrupted)
    status, out, _ = run(capsys, *TRAIN)
    assert status == 130
    assert (folder / "model.safetensors").exists() == bool(epochs)
    assert ("interrupted: what was stored has not all of 30 epochs" in out) == bool(epochs)
    if epochs:
        assert "Stopped: interrupted." in (folder / "r.html").read_text()


@pytest.mark.parametrize("columns", ["0", "200"])
def test_names_are_printed_as_they_are_whatever_width_a_terminal_says(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    path = "a:smile:.safetensors"
    status, out, _ = run(capsys, *TRAIN, "--epochs", "1", "--out", path)
    assert (status, f"model: {path}" in out) == (0, True)
    np.savez("d.npz", x=np.zeros((40, 2)), **{"y:heart:": np.arange(40) % 2})
    _, out, _ = run(capsys, *TRAIN[:2], "--target", "y:heart:", "--epochs", "1")
    assert "target 'y:heart:': 2" in out
    assert "held out" in out


@pytest.mark.parametrize("method", ["__init__", "fit"])
def test_a_lack_of_memory_is_one_line_about_the_units(capsys, monkeypatch, method):
    def lacking(*given, **how):
        raise MemoryError("Unable to allocate 3 TiB")

    monkeypatch.setattr(Trainer, method, lacking)
    status, _, error = run(capsys, *TRAIN)
    assert status == 2
    assert "'--hidden'" in error
    assert "Unable to allocate 3 TiB" in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_an_error_that_cannot_be_told_is_a_status(where):
    command = f"{shlex.quote(sys.executable)} -m fastbp train none.csv --target y {where}"
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


def test_a_picture_that_needs_tex_is_refused_at_once(capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("shutil.which", lambda program: None)
    status, out, error = run(capsys, "demo", "--plot", "x.pgf")
    assert (status, out) == (2, "")
    assert "'x.pgf' ends in none of" in error
    assert " png" in error


def test_a_fifth_curve_is_drawn_too():
    drawn = "\n".join(curve({name: [2.0**-place] for place, name in enumerate("abcde")}, 20))
    assert "o a   x b   + c   * d   o e" in drawn
    assert sum(line.count("o") for line in drawn.splitlines()[:-1]) == 2
