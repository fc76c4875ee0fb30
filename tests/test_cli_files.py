"""`fastbp train` and `predict` on each kind of file, and what a wrong one gets."""

import csv
import gzip
import json
import re

import numpy as np
import pytest
from cli_support import run

from fastbp import Dense, Network, io
from fastbp.files import read
from fastbp.preparation import Preparation, learn

RNG = np.random.default_rng(0)
ROWS = 120
LENGTH, COLOUR = RNG.standard_normal(ROWS) * 3 + 10, RNG.choice(["red", "blue", ""], ROWS)
KIND = np.where(LENGTH + 2 * (COLOUR == "red") > 10.5, "large", "small")
PRICE = 100 * LENGTH - 300 * (COLOUR == "blue") + 50


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with the same table as CSV, TSV, Parquet and NPZ."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    for name, delimiter in (("t.csv", ","), ("t.tsv", "\t"), ("semicolons.csv", ";")):
        with open(name, "w", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(["length", "colour", "kind", "price"])
            writer.writerows(zip(LENGTH.tolist(), COLOUR, KIND, PRICE.tolist(), strict=True))
    return tmp_path


def parquet(path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    colours = pyarrow.array([c or None for c in COLOUR]).dictionary_encode()
    columns = {"length": LENGTH, "colour": colours, "kind": KIND, "price": PRICE}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def table_of(text):
    """Rows of the printed table of results by name."""
    rows = re.findall(r"│ ([a-z0-9 ]+?) +│ +(\S+) │ +(\S+) │", text)
    return {name: (float(a), float(b)) for name, a, b in rows}


def idx(path, array):
    code = {np.uint8: 8, np.int32: 12, np.float32: 13}[array.dtype.type]
    sizes = np.array(array.shape, ">u4").tobytes()
    values = array.astype(array.dtype.newbyteorder(">")).tobytes()
    content = bytes([0, 0, code, array.ndim]) + sizes + values
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_train_and_predict_classes(capsys, folder):
    status, out, _ = run(
        capsys, "train", "t.csv", "--target", "kind", "--ignore", "price", "--hidden", "16",
        "--rate", "0.01", "--epochs", "40", "--out", "m.safetensors",
    )  # fmt: skip
    assert status == 0
    assert "120 rows: 96 to train on, 24 held out; 2 columns as 4 inputs; target 'kind'" in out
    assert min(table_of(out)["accuracy"]) >= 0.9
    assert run(capsys, "predict", "m.safetensors", "t.csv", "--out", "p.csv")[0] == 0
    with open("p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["prediction", "probability of large", "probability of small"]
    assert np.mean([row["prediction"] for row in rows] == KIND) >= 0.9
    for row in rows:
        both = float(row["probability of large"]) + float(row["probability of small"])
        assert both == pytest.approx(1.0, abs=1e-5)  # written to 6 digits
    # The same by hand, from what the file says of its columns.
    net = Network.load("m.safetensors")
    preparation = Preparation.from_json(io.remarks("m.safetensors")["fastbp.preparation"])
    numeric, category = preparation.columns
    assert category.values == ("", "blue", "red")
    X = np.column_stack([(LENGTH - numeric.mean) / numeric.scale,
                         *(category.values[i] == COLOUR for i in range(3))])  # fmt: skip
    expected = net.forward(X.astype(np.float32))[:, 0]
    mine = [float(row["probability of large"]) for row in rows]
    assert mine == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_every_kind_of_file_gives_the_same_network(capsys, folder):
    parquet("t.parquet")
    with open("t.csv", "rb") as plain, gzip.open("packed.csv.gz", "wb") as packed:
        packed.write(plain.read())
    numbers = []
    for name in ("t.csv", "t.tsv", "semicolons.csv", "packed.csv.gz", "t.parquet"):
        assert run(capsys, "train", name, "--target", "price", "--epochs", "2")[0] == 0
        numbers.append(Network.load("model.safetensors").parameters)
    assert all(np.array_equal(each, numbers[0]) for each in numbers)


def test_a_regression_is_told_in_the_targets_own_unit(capsys, folder):
    status, out, _ = run(
        capsys, "train", "t.csv", "--target", "price", "--ignore", "kind", "--rate", "0.01",
        "--epochs", "60", "--batch-norm", "--patience", "60",
    )  # fmt: skip
    assert status == 0
    error = table_of(out)["mean absolute error"][1]
    assert 5 < error < 100  # of a target whose standard deviation is over 300
    status, out, _ = run(capsys, "predict", "model.safetensors", "t.csv", "--out", "p.npz")
    predicted = np.load("p.npz")["prediction"]
    said = float(re.search(r"mean absolute error: (\S+)", out)[1])
    assert said == pytest.approx(np.abs(predicted - PRICE).mean(), rel=1e-3)
    assert table_of(out) == {}


def test_images_of_npz_and_idx(capsys, folder):
    images = RNG.integers(0, 256, (90, 4, 4)).astype(np.uint8)
    labels = (images[:, :2].sum((1, 2)) > images[:, 2:].sum((1, 2))).astype(np.uint8)
    np.savez("t.npz", x=images, y=labels)
    idx(folder / "some-images-idx3-ubyte.gz", images)
    idx(folder / "some-labels-idx1-ubyte", labels)
    assert run(capsys, "train", "t.npz", "--target", "y", "--epochs", "3")[0] == 0
    one = Network.load("model.safetensors")
    status, out, _ = run(
        capsys, "train", "some-images-idx3-ubyte.gz", "--target", "some-labels-idx1-ubyte",
        "--epochs", "3",
    )  # fmt: skip
    assert status == 0
    assert "1 column as 16 inputs" in out
    assert np.array_equal(Network.load("model.safetensors").parameters, one.parameters)
    status, out, _ = run(capsys, "predict", "model.safetensors", "some-images-idx3-ubyte.gz")
    assert (status, out.count("\n")) == (0, 91)


def test_predict_writes_parquet_and_takes_what_is_new(capsys, folder):
    pytest.importorskip("pyarrow")
    run(capsys, "train", "t.csv", "--target", "kind", "--epochs", "1", "--ignore", "price")
    (folder / "new.csv").write_text("colour,length,other\ngreen,10\n".replace("10", "10,1"))
    (folder / "gaps.csv").write_text("colour,length\nred,\n,NA\n")
    assert run(capsys, "predict", "model.safetensors", "new.csv", "--out", "p.parquet")[0] == 0
    assert read(folder / "p.parquet").columns["prediction"][0] in {"large", "small"}
    status, out, _ = run(capsys, "predict", "model.safetensors", "gaps.csv")
    assert (status, out.count("\n")) == (0, 3)
    # A missing number is the mean; a missing text has its own input.
    net = Network.load("model.safetensors")
    probability = net.forward([[0, 0, 0, 1], [0, 1, 0, 0]])[:, 0]
    assert [float(line.split(",")[1]) for line in out.splitlines()[1:]] == pytest.approx(
        probability, rel=1e-5
    )


TRAIN = ("train", "t.csv", "--target", "kind")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "none.csv", "--target", "y"), "'none.csv' cannot be read: No such file"),
        (("train", ".", "--target", "y"), "'.' is a folder; name a file"),
        (("train", "t.xlsx", "--target", "y"), "'t.xlsx' has no ending that says what it is"),
        (("train", "empty.csv", "--target", "y"), "'empty.csv' is empty"),
        (("train", "header.csv", "--target", "y"), "'header.csv' has no rows"),
        (("train", "ragged.csv", "--target", "a"), "row 3 has 3 cells, the first line has 2"),
        (("train", "twice.csv", "--target", "a"), "has two columns named 'a'"),
        (("train", "binary.csv", "--target", "a"), "is not a text in UTF-8"),
        (("train", "binary.csv.gz", "--target", "a"), "cannot be unpacked: Not a gzipped file"),
        (("train", "bad.npz", "--target", "a"), "'bad.npz' is not an NPZ file: store with"),
        (("train", "lengths.npz", "--target", "y"), "its arrays differ in length (x 3, y 2)"),
        (("train", "bad-idx1-ubyte", "--target", "a"), "is not an IDX file"),
        (("train", "short-idx1-ubyte", "--target", "a"), "3 bytes follow its sizes (5,), which"),
        (("train", "gap.csv", "--target", "b"), "'b' is missing in 1 of 2 rows, first in row 3"),
        (("train", "keys.csv", "--target", "y"), "'key' has 160 different texts, such as 'k0'"),
        (("train", "constant.csv", "--target", "y"), "target 'y' is '1' in every row"),
        (("train", "one.csv", "--target", "y"), "there is one row"),
        (("train", "bare.csv", "--target", "y"), "the data have no column besides the target"),
        ((*TRAIN[:3], "kinds"), "the target 'kinds' is not in the data; did you mean 'kind'?"),
        ((*TRAIN, "--ignore", "colours"), "did you mean 'colour'?"),
        ((*TRAIN, "--ignore", "kind"), "'kind' is the target"),
        ((*TRAIN, "--hidden", "64,x"), "'64,x' is not a list of positive whole numbers"),
        ((*TRAIN, "--activation", "rellu"), "did you mean 'relu'?"),
        ((*TRAIN, "--task", "regressions"), "did you mean 'regression'?"),
        ((*TRAIN, "--task", "regression"), "target 'kind' holds texts, which is no regression"),
        ((*TRAIN, "--holdout", "1.5"), "1.5 is not above 0 and below 1"),
        ((*TRAIN, "--optimizer", "adm"), "did you mean 'adam'?"),
        ((*TRAIN, "--rate", "-1"), "Invalid value for '--rate': lr=-1.0 must be 0 or more"),
        ((*TRAIN, "--dropout", "1"), "dropout=1.0 must be 0 or more and below 1"),
        ((*TRAIN, "--batch-norm", "--batch-size", "1"), "Invalid value for '--batch-size'"),
        ((*TRAIN, "--weight-decay", "-1"), "Invalid value for '--weight-decay'"),
        ((*TRAIN, "--rate", "1e30", "--optimizer", "sgd"), "Try a --rate below 1e+30, or"),
        ((*TRAIN, "--out", "no/m.safetensors"), "'no/m.safetensors' cannot be written"),
        ((*TRAIN, "--report", "no/run.html"), "'no/run.html' cannot be written"),
        (("train", "t.csv"), "Missing option '--target'"),
        (("predict", "none.safetensors", "t.csv"), "'none.safetensors' cannot be read: No such"),
        (("predict", "t.csv", "t.csv"), "'t.csv' cannot be loaded as a network"),
        (("predict", "plain.safetensors", "t.csv"), "says nothing of its columns"),
        (("predict", "forged.safetensors", "t.csv"), "the preparation of its columns is not valid"),
        (("predict", "misfit.safetensors", "t.csv"), "its columns do not fit its network"),
        (("predict", "good.safetensors", "keys.csv"), "the input column 'length' is not in"),
        (("predict", "good.safetensors", "texts.csv"), "'length' holds texts, and was trained"),
        (("predict", "good.safetensors", "t.csv", "--out", "p.doc"), "'p.doc' ends in none of"),
        (("predict", "good.safetensors", "t.csv", "--out", "no/p.csv"), "cannot be written"),
    ],
)  # fmt: skip
def test_what_is_wrong_gets_one_line_and_status_2(capsys, folder, arguments, message):
    texts = {
        "empty.csv": "", "header.csv": "x,y\n", "ragged.csv": "a,b\n1,2\n1,2,3\n",
        "twice.csv": "a,a\n1,2\n", "t.xlsx": "", "gap.csv": "a,b\n1,2\n3,\n",
        "keys.csv": "key,y\n" + "".join(f"k{i},{i % 2}\n" for i in range(200)),
        "constant.csv": "x,y\n1,1\n2,1\n", "one.csv": "x,y\n1,2\n", "bare.csv": "y\n1\n2\n3\n",
        "texts.csv": "length,colour\nlong,red\n", "bad.npz": "x",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    for name in ("binary.csv", "binary.csv.gz"):
        (folder / name).write_bytes(b"a,b\n\xff\xfe,1\n")
    (folder / "bad-idx1-ubyte").write_bytes(b"abcdefgh")
    (folder / "short-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x05abc")
    np.savez(folder / "lengths.npz", x=np.zeros(3), y=np.zeros(2))
    net = Network(4, [Dense(2, "softmax")])
    columns = [
        {"kind": "numeric", "name": "length", "width": 1, "mean": 0.0, "scale": 1.0},
        {"kind": "category", "name": "colour", "values": ["", "blue", "red"]},
    ]
    target = {"kind": "classes", "name": "kind", "labels": ["large", "small"]}
    good = {"format": 1, "columns": columns, "target": target}
    misfit = {"format": 1, "columns": columns[:1], "target": target}
    forged = {"format": 1, "columns": [{**columns[0], "scale": -1}], "target": target}
    io.save(net, "plain.safetensors")
    for name, preparation in (("good", good), ("misfit", misfit), ("forged", forged)):
        io.save(net, f"{name}.safetensors", {"fastbp.preparation": json.dumps(preparation)})
    before = sorted(folder.iterdir())
    status, _, error = run(capsys, *arguments)
    assert status == 2
    assert message in error
    assert error.count("\n") == 1
    assert sorted(folder.iterdir()) == before


X = {"kind": "numeric", "name": "x", "width": 1, "mean": 0.0, "scale": 1.0}
Y = {"kind": "scaled", "name": "y", "mean": 0.0, "scale": 1.0}


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{}", "nan", '{"format": 2}', '{"format": 1, "columns": [], "target": []}',
        json.dumps({"format": 1, "columns": [Y], "target": Y}),
        json.dumps({"format": 1, "columns": [X], "target": X}),
        json.dumps({"format": 1, "columns": [{**X, "width": True}], "target": Y}),
        json.dumps({"format": 1, "columns": [{**X, "more": 1}], "target": Y}),
        json.dumps({"format": 1, "columns": [{**X, "kind": "os"}], "target": Y}),
        json.dumps({"format": 1, "columns": [X], "target": {**Y, "name": 1}}),
        json.dumps({"format": 1, "columns": [X], "target": {**Y, "mean": float("inf")}}),
        json.dumps({"format": 1, "columns": [X], "target": {**Y, "scale": -1.0}}),
        json.dumps({"format": 1, "columns": [X], "target": {**Y, "scale": "1"}}),
    ],
)  # fmt: skip
def test_a_forged_preparation_is_refused(text):
    with pytest.raises(ValueError, match="the preparation of its columns is not valid"):
        Preparation.from_json(text)


def test_a_preparation_survives_its_json():
    text = json.dumps({
        "format": 1,
        "columns": [{"kind": "numeric", "name": "x", "width": 2, "mean": 0.1, "scale": 1 / 3}],
        "target": {"kind": "classes", "name": "y", "labels": ["a", "b"]},
    })  # fmt: skip
    assert json.loads(Preparation.from_json(text).to_json()) == json.loads(text)


def test_tables_without_a_header_and_with_quotes(tmp_path):
    (tmp_path / "plain.csv").write_text("1,2.5\n3,4\n")
    table = read(tmp_path / "plain.csv")
    assert {name: c.tolist() for name, c in table.columns.items()} == {"c0": [1, 3], "c1": [2.5, 4]}
    (tmp_path / "quoted.csv").write_text('\ufeff"name, first",n\n"A, B",1\n"say ""x""",?\n')
    columns = read(tmp_path / "quoted.csv").columns
    assert columns["name, first"].tolist() == ["A, B", 'say "x"']
    assert np.isnan(columns["n"][1])


def write(path, header, lines):
    path.write_text("\n".join([header, *lines, ""]))


def test_digits_beside_a_large_mean_are_written(capsys, folder):
    write(folder / "times.csv", "x,y", (f"{i / 100},{1.7e12 + 50 * i}" for i in range(200)))
    run(capsys, "train", "times.csv", "--target", "y", "--epochs", "40", "--task", "regression")
    run(capsys, "predict", "model.safetensors", "times.csv", "--out", "found.csv")
    with open("found.csv", newline="") as file:
        found = [float(row["prediction"]) for row in csv.DictReader(file)]
    assert len(set(found)) > 190


@pytest.mark.parametrize("value", ["0.1", "1e100", "-7.3"])
def test_a_column_of_one_number_has_no_spread(capsys, folder, value):
    write(folder / "same.csv", "x,k,y", (f"{i},{value},{2 * i}" for i in range(60)))
    table = read(folder / "same.csv")
    assert learn(table, "y", "regression").columns[1].scale == 0.0
    status, _, said = run(capsys, "train", "same.csv", "--target", "k", "--task", "regression")
    assert status == 2
    assert "in every row to train on: nothing to learn" in said


def test_texts_that_came_as_numbers_are_refused(capsys, folder):
    codes = ["01", "02", "03", "A4"]
    write(folder / "zips.csv", "zip,y", (f"{codes[i % 4]},{i % 4}" for i in range(60)))
    write(folder / "few.csv", "zip,y", ["1,0", "2,1"])
    run(capsys, "train", "zips.csv", "--target", "y", "--epochs", "2")
    status, _, said = run(capsys, "predict", "model.safetensors", "few.csv", "--out", "found.csv")
    assert status == 2
    assert "column 'zip' holds numbers, and was trained on as texts" in said


def test_rows_are_named_by_their_numbers_in_the_file(capsys, folder):
    lines = [f"{i},{i % 2}" for i in range(200)]
    lines[100] = "inf,0"
    write(folder / "bad.csv", "x,y", lines)
    for seed in range(4):
        said = run(capsys, "train", "bad.csv", "--target", "y", "--seed", seed)[2]
        assert "'x' is infinite or far too large in row 102;" in said


@pytest.mark.parametrize("cells", [("1_0", "10"), ("\u0663", "3")])
def test_only_plain_digits_are_numbers(folder, cells):
    write(folder / "codes.csv", "x,y", (f"{cell},1" for cell in cells))
    assert read(folder / "codes.csv").columns["x"].tolist() == list(cells)


def test_model_and_report_in_one_place_are_refused(capsys, folder):
    write(folder / "line.csv", "x,y", (f"{i},{i % 2}" for i in range(20)))
    given = ("--target", "y", "--out", "one", "--report", "./one")
    status, _, said = run(capsys, "train", "line.csv", *given)
    assert status == 2
    assert "'one' is where --out puts the model" in said
    assert not (folder / "one").exists()


def test_a_quoted_cell_may_hold_what_delimits_elsewhere(folder):
    write(folder / "net.csv", '"price, EUR, net";y', ["1.5;0", "2.5;1"])
    table = read(folder / "net.csv")
    assert list(table.columns) == ["price, EUR, net", "y"]
    assert table.columns["y"].tolist() == [0.0, 1.0]


def test_numbers_among_texts_that_were_trained_on_are_taken(folder):
    write(folder / "codes.csv", "c,y", ["1,0", "2,1", "x,0", ",1"])
    write(folder / "few.csv", "c,y", ["1,0", "2,1", "9,0"])
    write(folder / "none.csv", "c,y", [",0", ",1"])
    learnt = learn(read(folder / "codes.csv"), "y", "auto")
    assert learnt.columns[0].values == ("", "1", "2", "x")
    found = learnt.inputs(read(folder / "few.csv"))
    assert found.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert learnt.inputs(read(folder / "none.csv")).tolist() == [[1, 0, 0, 0]] * 2


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (",".join(f"gene{i:06}" for i in range(20_000)) + "\n" + ",".join(["1"] * 20_000), 20_000),
        ("x,y\r1,0\r2,1\r", 2),
        ("x,y\n\u00a01.5,0\n2.5\u00a0,1\n", 2),
    ],
    ids=["wide", "carriage returns", "no-break spaces"],
)
def test_files_of_other_habits_are_read(folder, text, columns):
    (folder / "other.csv").write_text(text, newline="")
    table = read(folder / "other.csv")
    assert len(table.columns) == columns
    assert all(column.dtype == np.float64 for column in table.columns.values())
