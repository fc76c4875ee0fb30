"""Rows and labels of data files: what is missing, how it is spelt, where it stands."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastbp import cli
from fastbp.columns import Classes
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


def _predicted(said: Callable[..., str], data: Path) -> list[str]:
    said("predict", "model.safetensors", data, "--out", "p.csv")
    return Path("p.csv").read_text().splitlines()[1:]


def test_a_row_is_predicted_alike_whatever_rows_are_beside_it(said: Callable[..., str]) -> None:
    """A column of texts may hold nothing but numbers in another file."""
    codes = ["01", "1", "x", "02"]
    data = csv("zip.csv", ["zip", *codes * 20], ["y", *"0110" * 20])
    said("train", data, "--target", "y", "--epochs", 20)
    all_rows = _predicted(said, data)[:4]
    alone = [_predicted(said, csv("one.csv", ["zip", code], ["y", 0]))[0] for code in codes]
    assert alone == all_rows
    assert len(set(alone)) == 4


def test_labels_are_given_back_as_they_were_written(said: Callable[..., str]) -> None:
    x = ["x", *range(60)]
    near = [2**53, 2**53 + 1, 2**53 + 2]
    for labels, wanted in (
        (["01", "02"], {"01", "02"}), (["1.0", "2", "2.0"], {"1", "2"}),
        (["True", "False"], {"True", "False"}), (near, set(map(str, near))),
    ):  # fmt: skip
        data = csv("l.csv", x, ["y", *labels * (60 // len(labels))])
        said("train", data, "--target", "y", "--epochs", 1, "--task", "classification")
        head = said("predict", "model.safetensors", data).splitlines()[0]
        assert {name.removeprefix("probability of ") for name in head.split(",")[1:]} == wanted
        text = said("predict", "model.safetensors", data, "--out", "p.csv")
        assert "accuracy" in text
    for kind in ("npz", "parquet"):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"x": np.arange(60.0), "y": near * 20, "b": [True, False] * 30})
        np.savez("l.npz", **{name: frame[name].to_numpy() for name in frame})
        frame.to_parquet("l.parquet")
        said("train", f"l.{kind}", "--target", "y", "--epochs", 1)
        assert str(near[1]) in said("predict", "model.safetensors", f"l.{kind}").splitlines()[0]
        said("train", f"l.{kind}", "--target", "b", "--epochs", 1)
        assert "of False,probability of True" in said("predict", "model.safetensors", f"l.{kind}")


def test_true_and_false_are_1_and_0_of_an_input(said: Callable[..., str]) -> None:
    data = csv("b.csv", ["b", *["TRUE", "false", ""] * 4], ["y", *range(12)])
    column = read(data).columns["b"]
    np.testing.assert_array_equal(column, [1.0, 0.0, np.nan] * 4)


def test_names_of_rows_are_no_input(said: Callable[..., str]) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": RNG.normal(size=40), "y": np.arange(40) % 2})
    frame = frame.sample(frac=1, random_state=0)
    frame.to_csv("i.csv")
    frame.to_parquet("i.parquet")
    assert list(read(Path("i.csv")).columns) == ["a", "y"]
    assert list(read(Path("i.parquet")).columns) == ["a", "y"]
    named = frame.rename_axis("id")
    named.to_csv("n.csv")
    named.to_parquet("n.parquet")
    assert {*read(Path("n.csv")).columns} == {*read(Path("n.parquet")).columns} == {"id", "a", "y"}


def test_what_is_read_is_not_written_over(said: Callable[..., str]) -> None:
    data = csv("k.csv", ["a", *range(40)], ["y", *"pq" * 20])
    said("train", data, "--target", "y", "--epochs", 1)
    before, model = data.read_bytes(), Path("model.safetensors").read_bytes()
    train = ("train", data, "--target", "y", "--epochs", 1)
    Path("same.csv").symlink_to("k.csv")
    for line in (
        (*train, "--out", data), (*train, "--out", "same.csv"), (*train, "--report", data),
        ("predict", "model.safetensors", data, "--out", data),
    ):  # fmt: skip
        assert "is what is read; its data would be gone" in said(*line, status=2)
    assert data.read_bytes() == before
    assert Path("model.safetensors").read_bytes() == model


def test_an_ending_that_is_known_says_more_than_a_name(said: Callable[..., str]) -> None:
    data = csv("my-idx.csv", ["a", 1], ["y", 2])
    assert list(read(data).columns) == ["a", "y"]
    Path("z.CSV.GZ").write_bytes(gzip.compress(data.read_bytes()))
    assert list(read(Path("z.CSV.GZ")).columns) == ["a", "y"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_predictions_that_cannot_be_printed_are_one_line(said: Callable[..., str]) -> None:
    data = csv("u.csv", ["a", *range(40)], ["y", *["gr\u00f6\u00dfe", "q"] * 20])
    said("train", data, "--target", "y", "--epochs", 1)
    command = [sys.executable, "-m", "fastbp", "predict", "model.safetensors", "u.csv"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "standard output' cannot be written: No space left" in " ".join(done.stderr.split())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    out = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert "probability of gr\u00f6\u00dfe" in out.decode("utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("arguments", [["info"], ["--version"], ["train", "--help"]])
def test_what_cannot_be_printed_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastbp", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "fastbp: the output cannot be written: No space left on device\n"


def test_labels_that_are_texts_stay_as_they_are(said: Callable[..., str]) -> None:
    """In files that tell texts from numbers, and where digits are a code."""
    pandas, x = pytest.importorskip("pandas"), np.arange(60.0)
    for labels in (["3.1", "3.10", "3.2"], ["+1", "-1", "1"], ["1", "nan", "2"], ["1.0", "2.0"]):
        y = labels * (60 // len(labels))
        np.savez("s.npz", x=x, y=np.array(y))
        pandas.DataFrame({"x": x, "y": y}).to_parquet("s.parquet")
        for kind in ("npz", "parquet"):
            said("train", f"s.{kind}", "--target", "y", "--epochs", 1)
            head = said("predict", "model.safetensors", f"s.{kind}").splitlines()[0]
            assert {name[15:] for name in head.split(",")[1:]} == set(labels)
    for labels in (["-01", "-1"], ["1_0", "10"], ["\u0661", "1"]):
        data = csv("s.csv", ["x", *x], ["y", *labels * 30])
        text = said("train", data, "--target", "y", "--epochs", 1)
        assert "target 'y': 2 classes" in " ".join(text.split())


def test_every_kind_of_parquet_column_is_read_alike_both_times(said: Callable[..., str]) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    days = [3 * i for i in range(4)] * 10
    columns = {
        "bytes": pyarrow.array([b"p", b"q", b"r", b"p"] * 10),
        "date": pyarrow.array(days, pyarrow.date32()),
        "duration": pyarrow.array(days, pyarrow.duration("us")),
        "time": pyarrow.array(days, pyarrow.time64("ns")),
        "timestamp": pyarrow.array([10**15 * d for d in days], pyarrow.timestamp("us")),
        "far": pyarrow.array([10**15] * 20 + [0] * 20, pyarrow.timestamp("s")),
        "category": pyarrow.array(["a", "b", None, "a"] * 10).dictionary_encode(),
    }
    parquet.write_table(pyarrow.table(columns), "k.parquet")
    plain, asked = (read(Path("k.parquet"), names) for names in ((), [*columns]))
    for name in columns:
        if plain.columns[name].dtype.kind == "O":
            assert asked.written(name).tolist() == plain.columns[name].tolist()


def test_names_of_rows_may_be_wanted(said: Callable[..., str]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": RNG.normal(size=40)}, index=np.arange(40)[::-1] % 2)
    frame.to_csv("w.csv")
    frame.to_parquet("w.parquet")
    for data, name in (("w.csv", ""), ("w.parquet", "__index_level_0__")):
        text = said("train", data, "--target", name, "--epochs", 1)
        assert f"target {name!r}: 2 classes" in " ".join(text.split())
        assert list(read(Path(data)).columns) == ["a"]
        said("train", data, "--target", "a", "--ignore", name, "--epochs", 1, status=2)


def test_models_of_before_texts_were_kept_are_judged(said: Callable[..., str]) -> None:
    """Their labels were the numbers': 1 for `01` and True."""
    x = ["x", *range(60)]
    said("train", csv("o.csv", x, ["y", *[0, 1] * 30]), "--target", "y", "--epochs", 1)
    for labels in (["00", "01"], ["False", "True"]):
        data = csv("o.csv", x, ["y", *labels * 30])
        assert "accuracy" in said("predict", "model.safetensors", data, "--out", "p.csv")


def test_a_target_is_no_file_but_of_images(said: Callable[..., str]) -> None:
    data = csv("n.csv", ["a", *range(40)], ["y", *"pq" * 20])
    Path("y").write_text("a file of that name")
    said("train", data, "--target", "y", "--epochs", 1, "--out", "y")
    text = said("train", data, "--target", "y" * 300, "--epochs", 1, "--out", "y", status=2)
    assert "is not in the data" in text


def test_what_only_python_reads_as_a_number_is_another_label() -> None:
    found = Classes("y", ("1", "10")).places(np.array(["10", "1_0", "\u0661", "1.0", "01"], object))
    assert found.tolist() == [1, -1, -1, 0, -1]


def test_dates_are_spelt_alike_in_whatever_unit_they_are_kept(said: Callable[..., str]) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow.parquet")
    days = pandas.DatetimeIndex(np.array(["2020-01-01", "2020-01-02T12:00:00.25"], "M8[ns]"))
    spelt = ["2020-01-01", "2020-01-02 12:00:00.25"]
    for unit in ("s", "ms", "us", "ns"):
        kept = days[:1] if unit == "s" else days
        pandas.DataFrame({"d": kept.astype(f"datetime64[{unit}]")}).to_parquet("d.parquet")
        assert read(Path("d.parquet")).columns["d"].tolist() == spelt[: len(kept)]
    pandas.DataFrame({"d": days.date}).to_parquet("d.parquet")
    assert read(Path("d.parquet")).columns["d"].tolist() == ["2020-01-01", "2020-01-02"]


def test_a_column_of_which_no_text_was_trained_on_is_named(said: Callable[..., str]) -> None:
    data = csv("k.csv", ["c", *"pq" * 20], ["y", *range(40)])
    said("train", data, "--target", "y", "--epochs", 1)
    text = "no text of column 'c' (such as 'new') was trained on (such as 'p')"
    for cells, told in ((["new", "", "old"], True), (["new", "p"], False), (["", ""], False)):
        data = csv("k.csv", ["c", *cells], ["a", *range(len(cells))])
        assert (text in said("predict", "model.safetensors", data)) == told
