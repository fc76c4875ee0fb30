"""Rows and labels of data files: what is missing, how it is spelt, where it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastbp import cli
from fastbp.files import read

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command line prints, if it ends with this status."""

    def run(*arguments: object, status: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        printed = "".join(capsys.readouterr())
        assert ended.value.code == status, printed
        return printed

    return run


def csv(name: str, *columns: object) -> Path:
    """A file of columns, their names first."""
    lines = [",".join(map(str, row)) for row in zip(*columns, strict=True)]  # type: ignore[call-overload]
    Path(name).write_text("\n".join(lines))
    return Path(name)


def test_labels_that_are_numbers_stay_numbers(said: Callable[..., str]) -> None:
    X = RNG.normal(size=(60, 2))
    y = 5 + np.arange(60) % 3
    np.savez("d.npz", x=X, y=y)
    np.savez("h.npz", x=X, y=y / 2)
    np.savez("t.npz", x=X, y=np.array(["a", "b", "05"])[y - 5])
    for name, kind in (("d", "i"), ("h", "f"), ("t", "U")):
        said("train", f"{name}.npz", "--target", "y", "--task", "classification", "--epochs", 1)
        said("predict", "model.safetensors", f"{name}.npz", "--out", "out.npz")
        with np.load("out.npz") as found, np.load(f"{name}.npz") as given:
            assert found["prediction"].dtype.kind == kind
            assert set(found["prediction"]) <= set(given["y"])


def test_a_class_that_would_be_held_out_is_trained_on(said: Callable[..., str]) -> None:
    labels = [*("pq" * 25), *(f"z{i}" for i in range(5))]
    data = csv("z.csv", ["a", *RNG.normal(size=55)], ["y", *labels])
    text = said("train", data, "--target", "y", "--epochs", 1)
    assert "target 'y': 7 classes" in " ".join(text.split())
    alone = csv("all.csv", ["a", *range(9)], ["y", *"pqrstuvwx"])
    assert "has a class of its own in every row held out" in said(
        "train", alone, "--target", "y", status=2
    )


def test_rows_without_the_truth_are_left_out_of_the_error(said: Callable[..., str]) -> None:
    x = RNG.normal(size=40)
    data = csv("r.csv", ["a", *x], ["y", *(3 * x)])
    some = csv("s.csv", ["a", *x], ["y", *("" if i < 3 else 3 * v for i, v in enumerate(x))])
    none = csv("n.csv", ["a", *x], ["y", *[""] * 40])
    said("train", data, "--target", "y", "--epochs", 1)
    said("predict", "model.safetensors", data, "--out", "p.csv")
    predicted = np.genfromtxt("p.csv", skip_header=1)
    text = said("predict", "model.safetensors", some, "--out", "p.csv")
    error = np.abs(predicted - 3 * x)[3:].mean()
    assert f"mean absolute error: {error:.4g} (the data have 'y' in 37 rows)" in text
    assert "error" not in said("predict", "model.safetensors", none, "--out", "p.csv")


def test_blank_lines_are_counted(said: Callable[..., str]) -> None:
    Path("b.csv").write_text("a,y\n1,x\n\n3,y\n5\n")
    assert "row 5 has 1 cell" in said("train", "b.csv", "--target", "y", status=2)
    Path("b.csv").write_text("a,y\n\n1,x\n\n3,\n")
    table = read(Path("b.csv"))
    assert [table.number(0), table.number(1), table.take(np.array([1])).number(0)] == [3, 5, 5]
    text = said("train", "b.csv", "--target", "y", status=2)
    assert "'y' is missing (blank, or a word such as NA or none) in 1 of 2 rows" in text
    assert "first in row 5" in text


def test_files_that_are_something_else_are_told_so(said: Callable[..., str]) -> None:
    Path("t.npz").write_text("hello")
    assert "is not an NPZ file: store with numpy.savez" in said(
        "train", "t.npz", "--target", "y", status=2
    )
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    text = said("train", "none.parquet", "--target", "y", status=2)
    assert "'none.parquet' cannot be read: No such file or directory" in text
    twice = pyarrow.table([pyarrow.array([1.0])] * 3, names=["a", "a", "y"])
    parquet.write_table(twice, "twice.parquet")
    assert "has two columns named 'a'" in said("train", "twice.parquet", "--target", "y", status=2)
