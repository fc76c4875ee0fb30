"""Files and paths that people have and do not expect: open quotes, blank columns, long names."""

import csv
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cli_support import run

from fastbp import History
from fastbp.columns import Classes
from fastbp.files import read
from fastbp.files.table import Table
from fastbp.report.scales import fit, labels

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def write(name, text):
    with open(name, "w", newline="", encoding="utf-8") as file:
        file.write(text)
    return name


def test_a_quote_that_is_never_closed_is_named(capsys, folder):
    lines = [f"{i},{i}.5,k" for i in range(60)]
    lines[20] = '20,20.5,"bad'
    write("q.csv", "\n".join(["x,y,note", *lines]) + "\n")
    status, _, error = run(capsys, "train", "q.csv", "--target", "y", "--out", "q.safetensors")
    assert status == 2
    assert "row 22 opens a quote that is never closed; 40 lines would be one cell" in error
    # Several lines in quotes that are closed are one cell, at the end of the file, too.
    lines[20] = '20,20.5,"bad' + "x" * 200_000
    write("long.csv", "\n".join(["x,y,note", *lines]) + "\n")
    error = run(capsys, "train", "long.csv", "--target", "y", "--out", "q.safetensors")[2]
    assert "row 22 cannot be read" in error
    assert "is a quote open there?" in error
    write("last.csv", 'x,note\n1,"a"b\n2,"open\n')
    with pytest.raises(ValueError, match="row 3 opens a quote"):
        read(folder / "last.csv", set())
    write("closed.csv", 'x,note\n1,a\n2,"two\nlines"\n')
    assert read(folder / "closed.csv", {"note"}).columns["note"].tolist() == ["a", "two\nlines"]


def test_a_quote_within_a_cell_is_a_letter(folder):
    write("screens.csv", '15" screen;price;name\n1,5;2,5;a\n2,5;3;"x, y"\n')
    table = read(folder / "screens.csv", set())
    assert list(table.columns) == ['15" screen', "price", "name"]


def test_numbers_may_have_a_decimal_comma_where_it_separates_no_cells(folder):
    write("d.csv", "a;b;c\n1,5;-2;1,5x\n;3,25e1;2\n")
    table = read(folder / "d.csv", set()).columns
    np.testing.assert_array_equal(table["a"], [1.5, np.nan])
    np.testing.assert_array_equal(table["b"], [-2.0, 32.5])
    assert table["c"].tolist() == ["1,5x", "2"]
    write("bare.csv", "1,5\t2\t3\n2,5\t3\t4\n")  # no header line
    assert read(folder / "bare.csv", set()).columns["c0"].tolist() == [1.5, 2.5]
    write("list.csv", 'a,b\n"1,5",2\n')  # here it separates cells
    assert read(folder / "list.csv", set()).columns["a"].tolist() == ["1,5"]


def test_numbers_written_otherwise_are_not_told_to_be_left_out(capsys, folder):
    write("t.csv", "y;a\n" + "\n".join(f"{i % 2};{100 + i}.000,5" for i in range(200)) + "\n")
    error = run(capsys, "train", "t.csv", "--target", "y", "--out", "t.safetensors")[2]
    assert "such as '100.000,5', more than the 100" in error
    assert "if they are numbers, write them plainly (1234.5), or leave it out" in error


def test_a_quote_may_come_after_a_space(folder):
    write("q.csv", '"a", "b"\n1, "red, x"\n2, "blue"\n')
    table = read(folder / "q.csv", set()).columns
    assert list(table) == ["a", "b"]
    assert table["b"].tolist() == ["red, x", "blue"]


def test_predicted_booleans_are_booleans(capsys, folder):
    x = np.repeat([0.0, 10.0], 30) + RNG.normal(size=60)
    np.savez("b.npz", x=x, y=x > 5)
    arguments = ("--target", "y", "--epochs", "30", "--out", "b.safetensors")
    assert run(capsys, "train", "b.npz", *arguments)[0] == 0
    assert run(capsys, "predict", "b.safetensors", "b.npz", "--out", "p.npz")[0] == 0
    with np.load("p.npz") as found:
        np.testing.assert_array_equal(found["prediction"], x > 5)
        assert found["prediction"].dtype == bool


@pytest.mark.parametrize("head", ["\na;b\n", '"a\nx";b\n', "\r\n\r\na;b\r\n"])
def test_the_delimiter_is_that_of_the_header(head, folder):
    write("d.csv", head + "1,5;2\n3,5;4\n")
    assert list(read(folder / "d.csv", set()).columns)[1] == "b"


def test_a_column_of_nothing_but_missing_values_is_one_of_numbers(capsys, folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    a, b = RNG.normal(size=(2, 60))
    parquet.write_table(pyarrow.table({"a": a, "b": b, "y": 2 * a + b}), "n.parquet")
    parquet.write_table(pyarrow.table({"a": pyarrow.nulls(1), "b": [2.0]}), "null.parquet")
    write("null.csv", "a,b\n,2.0\n")
    arguments = ("--target", "y", "--epochs", "1", "--out", "n.safetensors")
    assert run(capsys, "train", "n.parquet", *arguments)[0] == 0
    found = [run(capsys, "predict", "n.safetensors", name) for name in ("null.parquet", "null.csv")]
    assert found[0] == found[1]
    assert found[0][0] == 0


@pytest.mark.parametrize(
    ("names", "kind"), [(("7", "other"), "U"), (("7", "8"), "i"), (("1e+20", "2e+20"), "f")]
)
def test_the_type_of_predictions_is_that_of_all_labels(capsys, folder, names, kind):
    """Whichever of them a file is predicted to have."""
    x = np.repeat([0.0, 10.0], 30) + RNG.normal(size=60)
    rows = [f"{v},{names[v > 5]}" for v in x.tolist()]
    write("l.csv", "\n".join(["x,label", *rows]) + "\n")
    arguments = ("--target", "label", "--task", "classification", "--epochs", "30")
    assert run(capsys, "train", "l.csv", *arguments, "--out", "l.safetensors")[0] == 0
    write("one.csv", "x\n-1.0\n0.0\n")
    status, _, error = run(capsys, "predict", "l.safetensors", "one.csv", "--out", "one.npz")
    assert (status, error) == (0, "")
    with np.load("one.npz") as found:
        assert found["prediction"].dtype.kind == kind
        assert found["prediction"].tolist() == [type(found["prediction"][0].item())(names[0])] * 2


def test_a_path_that_cannot_be_is_refused_before_the_work(capsys, folder):
    write("a.csv", "x,y\n" + "".join(f"{i},{i}\n" for i in range(40)))
    for option in ("--out", "--report"):
        status, out, error = run(capsys, "train", "a.csv", "--target", "y", option, "a" * 300)
        assert status == 2
        assert "File name too long" in error
        assert out == ""


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_refused(capsys, folder):
    write("a.csv", "x,y\n" + "".join(f"{i},{i}\n" for i in range(40)))
    (folder / "shut").mkdir(mode=0o500)
    status, out, error = run(capsys, "train", "a.csv", "--target", "y", "--out", "shut/x")
    assert status == 2
    assert "cannot be written" in error
    assert out == ""


def test_a_folder_that_the_system_says_is_shut_is_refused(capsys, folder, monkeypatch):
    write("a.csv", "x,y\n" + "".join(f"{i},{i}\n" for i in range(40)))
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)
    for option in ("--out", "--report"):
        status, out, error = run(capsys, "train", "a.csv", "--target", "y", option, "x")
        assert (status, out) == (2, "")
        assert "cannot be written" in error


def test_a_report_is_written_whatever_a_name_holds(folder):
    History({"loss": [1.0, 0.5]}).report("r.html", title="caf\udce9")
    text = (folder / "r.html").read_text(encoding="utf-8")
    assert "caf?" in text


@pytest.mark.parametrize(
    "values",
    [
        [1e-16, 3e-16],
        [2020.0, 2020.9],
        [1.7e9, 1.7e9 + 1000],
        [1.0, 1.00002],
        [0, 7],
        [1e3, 1e3 + 1e-10],
    ],
)
def test_an_axis_tells_its_values_apart(values):
    scale = fit(values, 0.0, 100.0)
    ticks = scale.ticks()
    assert len(ticks) >= 3
    assert len(set(labels(ticks))) == len(ticks)
    places = [scale(tick) for tick in ticks]
    assert places == sorted(places)
    assert min(places) > -1e-6
    assert max(places) < 100 + 1e-6
    shown = [float(text) for text in labels(ticks)]
    step = ticks[1] - ticks[0]
    assert max(abs(a - b) for a, b in zip(shown, ticks, strict=True)) < step / 2


def test_a_column_that_was_constant_says_nothing_later(capsys, folder):
    x = RNG.normal(size=200)
    write("c.csv", "year,x,y\n" + "".join(f"2020,{v:.3f},{v:.3f}\n" for v in x))
    assert run(capsys, "train", "c.csv", "--target", "y", "--out", "c.safetensors")[0] == 0
    write("p.csv", "year,x\n2020,1\n2021,1\n1e6,1\n")
    _, out, _ = run(capsys, "predict", "c.safetensors", "p.csv")
    assert len(set(out.split()[1:])) == 1


def test_a_label_nan_has_its_place_whatever_the_hash(capsys, folder):
    names = ["nan", "1", "2", "3", "-5"]
    learnt = Classes.learn("y", Table({"y": np.array(names * 2, dtype=object)}))
    assert learnt.labels == ("-5", "1", "2", "3", "nan")


@pytest.mark.parametrize(
    ("spelt", "labels"),
    [
        (["True", "true", "FALSE"], ("False", "True")), (["true", "false"], ("false", "true")),
        (["1.0", "1", "0"], ("0", "1")),
    ],
)  # fmt: skip
def test_spellings_of_one_boolean_are_one_class(folder, spelt, labels):
    write("b.csv", "y,z\n" + "".join(f"{text},1\n" for text in spelt))
    learnt = Classes.learn("y", read(folder / "b.csv", {"y"}))
    assert learnt.labels == labels
    assert learnt.places(np.array([text.upper() for text in spelt], dtype=object)).min() >= 0


def test_a_label_is_itself_before_it_is_another_spelling():
    texts = Classes("y", ("3.1", "3.10", "3.2"))
    assert texts.places(np.array(["3.10", "3.100", "3.20", "x"], dtype=object)).tolist() == [
        1, 0, 2, -1,
    ]  # fmt: skip


def test_an_encoding_without_a_letter_is_no_error(folder):
    write("r.csv", "x,\u043a\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    command = [sys.executable, "-m", "fastbp", "train", "r.csv", "--target", "\u043a"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "200"}
    done = subprocess.run(
        [*command, "--epochs", "1", "--out", "r.safetensors"], env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "target '?': 2 classes" in done.stdout


def test_a_target_of_one_column_is_scored(capsys, folder):
    x = RNG.normal(size=(40, 2))
    np.savez("one.npz", X=x, y=(x[:, :1] > 0).astype(int))
    assert run(capsys, "train", "one.npz", "--target", "y", "--out", "one.safetensors")[0] == 0
    error = run(capsys, "predict", "one.safetensors", "one.npz", "--out", "p.csv")
    assert "accuracy: " in error[1] + error[2]
    np.savez("bytes.npz", X=x[:3], y=np.array([b"a\xff", b"b", b"c"]))
    _, _, error = run(capsys, "train", "bytes.npz", "--target", "y")
    assert "'bytes.npz': 'y' holds bytes that are no ASCII" in " ".join(error.split())


def test_columns_that_nobody_wants_may_hold_anything(capsys, folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    numbers, lists = list(range(40)), [[1]] * 40
    odd = {"list": lists, "map": pyarrow.array([[("k", 1)]] * 40, pyarrow.map_("string", "int64"))}
    parquet.write_table(pyarrow.table({"x": numbers, "y": numbers, **odd}), "p.parquet")
    np.savez(
        "n.npz", x=np.arange(40), y=np.arange(40),
        one=1.0, days=np.zeros(40, "M8[D]"), short=np.zeros(3), things=np.array([{}]),
    )  # fmt: skip
    write("d.csv", "x,y,z,z,,\n" + "".join(f"{i},{i},1,2,,\n" for i in range(40)))
    files = {
        "p.parquet": ["list", "map"], "d.csv": ["z", ""],
        "n.npz": ["one", "days", "short", "things"],
    }  # fmt: skip
    for name, ignored in files.items():
        left_out = [part for column in ignored for part in ("--ignore", column)]
        train = ("train", name, "--target", "y", "--epochs", "1", "--hidden", "0")
        assert run(capsys, *train)[0] == 2
        assert run(capsys, *train, *left_out)[::2] == (0, "")
        assert run(capsys, "predict", "model.safetensors", name)[::2] == (0, "")
        error = run(capsys, *train, *left_out, "--ignore", "ys")[2]
        assert "is not in the data; did you mean 'y'? It has 'x', 'y'," in error


def test_a_column_that_is_not_there_is_named_beside_all_that_are(capsys, folder):
    np.savez("n.npz", x=np.arange(40), y=np.arange(40))
    np.savez("m.npz", xs=np.arange(40), z=np.array([{}]))
    run(capsys, "train", "n.npz", "--target", "y", "--epochs", "1", "--hidden", "0")
    error = run(capsys, "predict", "model.safetensors", "m.npz")[2]
    assert "'x' is not in the data; did you mean 'xs'? It has 'xs', 'z'." in error


@pytest.mark.parametrize("way", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_that_is_damaged_is_told_so(folder, way):
    array = io.BytesIO()
    np.save(array, np.random.default_rng(0).integers(9, size=1000))
    with zipfile.ZipFile("a.npz", "w", way) as archive:
        archive.writestr("x.npy", array.getvalue())
    whole = Path("a.npz").read_bytes()
    assert len(read(folder / "a.npz")) == 1000
    entry = whole.rindex(b"PK\1\2")
    flags, method = entry + 8, entry + 10
    for places, value in ((range(45, 75), 0xFF), ([flags, 6], 1), ([method, 8], 99)):
        bad = bytearray(whole)
        for place in places:
            bad[place] = value
        Path("a.npz").write_bytes(bad)
        with pytest.raises(ValueError, match=r"a.npz' is not an NPZ file of plain arrays: ."):
            read(folder / "a.npz")


def test_columns_numbered_from_0_are_a_header_and_a_lack_of_one_is_told(capsys, folder):
    for head, columns, told in (
        ("0,1,2", ["0", "1", "2"], False), ("0,1,3", ["c0", "c1", "c2"], True),
        ("0,1.0,2", ["c0", "c1", "c2"], True),
    ):  # fmt: skip
        write("d.csv", head + "\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(40)))
        assert list(read(folder / "d.csv").columns) == columns
        _, out, _ = run(capsys, "train", "d.csv", "--target", columns[2], "--epochs", "1")
        assert ("(no header line)" in out) == told
    write("one.csv", "0\n1\n2\n")
    assert read(folder / "one.csv").columns["c0"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["999", "1,000", "-1,200"], "'1,000': a comma that may be"),
        (["1.234", "2,5"], "'2,5' and '1.234': a comma that may be"),
        (["12,345", "", "1"], "'12,345': a comma that may be"),
        (["0,125", "1,250"], ""), (["1,000", "1,5"], ""), (["1.5", "2"], ""),
        (["1,234", "x"], ""), (["1234,567", "1"], ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_commas_that_may_be_for_thousands_are_refused(folder, cells, message, delimiter):
    write("d.csv", f"a{delimiter}b\n" + "".join(f"{cell}{delimiter}1\n" for cell in cells))
    if not message:
        read(folder / "d.csv")
        return
    with pytest.raises(ValueError, match=rf"d.csv': column 'a' has {message}"):
        read(folder / "d.csv")
    read(folder / "d.csv", wanted=lambda name: name == "b")


def test_a_text_among_numbers_is_named_with_its_row(capsys, folder):
    write("d.csv", "a,y\n" + "".join(f"{i}.5,{i}.25\n" for i in range(40)))
    run(capsys, "train", "d.csv", "--target", "y", "--epochs", "1", "--hidden", "0")
    write("d.csv", "a,y\n1,2\n,2\n1x,2\n3,4\n")
    error = run(capsys, "predict", "model.safetensors", "d.csv")[2]
    assert "column 'a' holds texts, and was trained on as numbers: it is '1x' in row 4" in error


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_programs_put_around_a_table_is_no_row(folder, end):
    lines = ["sep=;", "a,b;c", "1;2", "   ", "3;4", "", "\x1a"]
    write("excel.csv", end.join(lines))
    table = read(folder / "excel.csv")
    assert {name: column.tolist() for name, column in table.columns.items()} == {
        "a,b": [1, 3], "c": [2, 4],
    }  # fmt: skip
    assert [table.number(row) for row in range(2)] == [3, 5]
    write("one.csv", end.join(["a", "1", "  ", "", "3"]))
    np.testing.assert_array_equal(read(folder / "one.csv").columns["a"], [1, np.nan, 3])


def test_an_array_without_a_name_is_a_column(folder):
    np.savez("n.npz", **{"": np.arange(3), "y": np.arange(3)})
    assert list(read(folder / "n.npz").columns) == ["", "y"]


def test_a_path_that_looks_like_a_uri_is_a_file(folder):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    with open("s3:x.parquet", "wb") as file:
        parquet.write_table(pyarrow.table({"a": [1, 2]}), file)
    assert read(Path("s3:x.parquet")).columns["a"].tolist() == [1, 2]


def test_a_label_with_a_carriage_return_is_read_as_it_was(capsys, folder):
    write("d.csv", "a,y\n" + "".join(f'{2 * i},"p\rq"\n{2 * i + 1},r\n' for i in range(20)))
    run(capsys, "train", "d.csv", "--target", "y", "--epochs", "1", "--hidden", "0")
    run(capsys, "predict", "model.safetensors", "d.csv", "--out", "p.csv")
    with open("p.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["prediction", "probability of p\rq", "probability of r"]
    assert len(rows) == 41
