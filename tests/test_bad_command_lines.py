"""Sixty and more wrong command lines and files: one line on standard error, status 2, no trace."""

from __future__ import annotations

import gzip
import json
import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp import Dense, Network, cli, io

TABLE = "length,colour,kind\n" + "".join(
    f"{i % 7},{'red' if i % 2 else 'blue'},{'a' if i % 3 else 'b'}\n" for i in range(40)
)
FILES: dict[str, str | bytes] = {
    "t.csv": TABLE, "nul.csv": b"\0" * 100, "utf16.csv": "a,b\n1,2\n".encode("utf-16"),
    "latin.csv": "a,b\n\xe9,2\n".encode("latin-1"), "bom.csv": b"\xef\xbb\xbf",
    "blank.csv": "\n\n", "quote.csv": 'a,b\n"1,2\n3,4\n', "one_column.csv": "b\n1\n2\n",
    "wide.csv": "a,b\n" + "x" * 200_000 + ",1\n", "missing.csv": "a,b\n,1\n,2\n,3\n,4\n",
    "inf.csv": "a,b\n" + "".join(f"{'inf' if i == 3 else i},{i % 2}\n" for i in range(9)),
    "large.csv": "a,b\n" + "".join(f"{'-' * (i % 2)}1e308,{i % 3}\n" for i in range(20)),
    "target_inf.csv": "a,b\n1,inf\n2,1\n3,2\n", "names.csv": ",\n1,2\n",
    "target_large.csv": "a,b\n" + "".join(f"1,{'-' * (i % 2)}1.{i:02}e308\n" for i in range(40)),
    "classes.csv": "a,b\n" + "".join(f"{i},c{i}\n" for i in range(50)),
    "same.csv": "a,b\n1,x\n2,x\n", "cut.csv.gz": gzip.compress(TABLE.encode())[:-20],
    "far.csv": "length,colour\n1,red\n1e300,red\n", "endless.csv": "length,colour\ninf,red\n",
    "no_zip.npz": b"PK\3\4", "p.parquet": b"PAR1xxxxPAR1", "x.pkl": b"cos\nsystem\n(S'ls'\ntR.",
    "sizes-idx1-ubyte": struct.pack(">BBBBI", 0, 0, 8, 1, 2**31),
    "rows-idx1-ubyte": struct.pack(">BBBBI", 0, 0, 8, 1, 0),
    "rows-idx3-ubyte": struct.pack(">BBBBIII", 0, 0, 8, 3, 0, 2, 2),
    "dimensions-idx255-ubyte": bytes([0, 0, 8, 255]) + b"\0" * 1020,
    "type-idx1-ubyte": bytes([0, 0, 7, 1, 0, 0, 0, 1, 1]),
    "zeros.safetensors": b"\0" * 8, "long.safetensors": struct.pack("<Q", 2**60) + b"{}",
}  # fmt: skip
ARRAYS: dict[str, dict[str, Any]] = {
    "nothing.npz": {},
    "objects.npz": {"x": np.array([{}]), "y": np.zeros(1)},
    "scalar.npz": {"x": 1.0, "y": np.zeros(3)},
    "complex.npz": {"x": np.zeros(4) + 1j},
    "records.npz": {"x": np.zeros(4, [("a", "f4")]), "y": np.zeros(4)},
    "dates.npz": {"x": np.zeros(4, "M8[s]"), "y": np.zeros(4)},
    "no_columns.npz": {"x": np.zeros((4, 0)), "y": np.arange(4) % 2},
    "no_rows.npz": {"x": np.zeros((0, 2)), "y": np.zeros(0)},
    "two_targets.npz": {"x": np.zeros((4, 2)), "y": np.zeros((4, 2))},
    "nan.npz": {"x": np.full((9, 2), np.nan), "y": np.arange(9) % 2},
    "inf.npz": {"x": np.where(np.eye(9, 2) > 0, np.inf, 1), "y": np.arange(9) % 2},
    "texts.npz": {"x": np.array([["a", "b"]] * 4), "y": np.arange(4) % 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, arrays in ARRAYS.items():
        np.savez(folder / name, **arrays)
    with (folder / "single.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    for name, member, content in (
        ("not_arrays.npz", "x.txt", b"hello"),
        # A header that promises 800 GB.
        ("liar.npz", "x.npy", b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f8', 'fortran_order': "
         b"False, 'shape': (99999999999,), }".ljust(117) + b"\n"),
    ):  # fmt: skip
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(member, content)
    (folder / "folder.csv").mkdir()
    (folder / "loop.csv").symlink_to("loop.csv")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.safetensors")
    columns = [
        {"kind": "numeric", "name": "length", "width": 1, "mean": 0.0, "scale": 1.0},
        {"kind": "category", "name": "colour", "values": ["", "blue", "red"]},
    ]
    target = {"kind": "classes", "name": "kind", "labels": ["a", "b"]}
    preparation = {"format": 1, "columns": columns, "target": target}
    net = Network(4, [Dense(2, "softmax")], seed=1)
    io.save(net, folder / "m.safetensors", {"fastbp.preparation": json.dumps(preparation)})
    return folder


def on(name: str, target: str = "b") -> tuple[str, ...]:
    return ("train", name, "--target", target, "--epochs", "1")


T = on("t.csv", "kind")
P = ("predict", "m.safetensors")
LINES: list[tuple[tuple[str, ...], str]] = [
    (("train",), "Missing argument 'data'"),
    (("train", "t.csv"), "Missing option '--target'"),
    (("predict",), "Missing argument 'model'"), (P, "Missing argument 'data'"),
    (("--nope",), "No such option: --nope"), (("",), "No such command"), (("info", "x"), "(x)"),
    ((*T, "extra"), "extra argument"), (("version",), "No such command 'version'"),
    (on("", "b"), "'.' is a folder"), (on("t.csv", ""), "the target '' is not in the data"),
    # --- tables
    (on("nul.csv"), "'nul.csv'"), (on("utf16.csv"), "not a text in UTF-8"),
    (on("latin.csv"), "not a text in UTF-8"), (on("bom.csv"), "'bom.csv' is empty"),
    (on("blank.csv"), "'blank.csv' is empty"), (on("quote.csv"), "row 2 opens a quote"),
    (on("wide.csv"), "field larger than field limit"), (on("missing.csv"), "has no number"),
    (on("inf.csv"), "column 'a' is infinite"), (on("large.csv"), "'a' has numbers too large"),
    (on("target_inf.csv"), "'b' is infinite in row 2"),
    (on("target_large.csv"), "target 'b' has numbers too large"),
    (on("names.csv", ""), "two columns named ''"), (on("one_column.csv"), "no column besides"),
    (on("classes.csv"), "has a class of its own in every row held out"),
    (on("same.csv"), "'x' in every row"),
    (on("folder.csv"), "is a folder"), (on("loop.csv"), "cannot be read"),
    (on("cut.csv.gz", "kind"), "cannot be unpacked"), (on("x.pkl"), "has no ending that says"),
    (on("p.parquet"), "parquet"), (on("/dev/null"), "has no ending"),
    ((*T, *("--ignore", "length", "--ignore", "colour")), "no column besides the target 'kind'"),
    # --- arrays
    (on("no_zip.npz", "y"), "not an NPZ file"), (on("objects.npz", "y"), "not an NPZ file"),
    (on("nothing.npz", "y"), "has no rows"), (on("scalar.npz", "y"), "'x' is a single value"),
    (on("complex.npz", "y"), "complex128"), (on("records.npz", "y"), "not numbers or texts"),
    (on("dates.npz", "y"), "datetime64"), (on("no_columns.npz", "y"), "has no number"),
    (on("no_rows.npz", "y"), "'no_rows.npz' has no rows"),
    (on("two_targets.npz", "y"), "'y' has 2 columns"), (on("nan.npz", "y"), "has no number"),
    (on("inf.npz", "y"), "column 'x' is infinite"), (on("texts.npz", "y"), "<U1"),
    (on("single.npz", "y"), "store with numpy.savez"), (on("liar.npz", "y"), "not an NPZ file"),
    (on("not_arrays.npz", "y"), "is no array"), (on("sizes-idx1-ubyte", "y"), "0 bytes follow"),
    (on("rows-idx1-ubyte", "y"), "has no rows"), (on("rows-idx3-ubyte", "y"), "has no rows"),
    (on("dimensions-idx255-ubyte", "y"), "255 dimensions"),
    (on("type-idx1-ubyte", "y"), "does not begin with"),
    # --- options of train
    ((*T, "--hidden", ""), "'' is not a list"), ((*T, "--hidden", "-5"), "'-5' is not a list"),
    ((*T, "--hidden", "1e3"), "'1e3' is not a list"), ((*T, "--hidden", "8;8"), "'8;8'"),
    ((*T, "--hidden", "9" * 20), "is not a list"),
    ((*T, "--hidden", "100000000,100000000"), "no memory for"),
    ((*T, "--activation", ""), "activation=''"), ((*T, "--task", ""), "task=''"),
    ((*T, "--holdout", "nan"), "nan is not above 0"), ((*T, "--holdout", "0"), "0 is not above 0"),
    ((*T, "--holdout", "x"), "'--holdout'"), ((*T, "--epochs", "0"), "'--epochs'"),
    ((*T, "--epochs", "1.5"), "'--epochs'"), ((*T, "--epochs", "9" * 12), "'--epochs'"),
    ((*T, "--batch-size", "0"), "'--batch-size'"), ((*T, "--optimizer", ""), "optimizer=''"),
    ((*T, "--rate", "nan"), "lr=nan"), ((*T, "--rate", "1e400"), "lr=inf"),
    ((*T, "--dropout", "nan"), "dropout=nan"), ((*T, "--weight-decay", "inf"), "weight_decay=inf"),
    ((*T, "--patience", "0"), "'--patience'"), ((*T, "--seed", "-1"), "'--seed'"),
    ((*T, "--seed", "9" * 20), "'--seed'"), ((*T, "--threads", "2000"), "'--threads'"),
    ((*T, "--out", ""), "cannot be written"), ((*T, "--out", "/"), "cannot be written"),
    ((*T, "--out", "folder.csv"), "cannot be written"),
    ((*T, "--out", "pipe.safetensors"), "no regular file"),
    ((*T, "--out", "/dev/null"), "no regular file"), ((*T, "--report", "no/x.html"), "'--report'"),
    ((*T, "--ignore", ""), "the column '' is not in the data"),
    # --- predict
    (("predict", "zeros.safetensors", "t.csv"), "cannot be loaded as a network"),
    (("predict", "long.safetensors", "t.csv"), "cannot be loaded as a network"),
    (("predict", "x.pkl", "t.csv"), "cannot be loaded as a network"),
    (("predict", "folder.csv", "t.csv"), "is not a regular file"),
    (("predict", "pipe.safetensors", "t.csv"), "is not a regular file"),
    (("predict", "/dev/zero", "t.csv"), "is not a regular file"),
    (("predict", "loop.csv", "t.csv"), "cannot be read"), ((*P, "nowhere.csv"), "cannot be read"),
    ((*P, "blank.csv"), "is empty"), ((*P, "inf.csv"), "'length' is not in the data"),
    ((*P, "far.csv"), "column 'length' is infinite or far too large in row 3"),
    ((*P, "endless.csv"), "column 'length' is infinite"), ((*P, "t.csv", "--out", ""), "'--out'"),
    ((*P, "t.csv", "--out", "folder.csv"), "cannot be written"), ((*P, "t.csv", "x"), "(x)"),
    # --- the others
    (("demo", "--seed", "9" * 20), "'--seed'"), (("demo", "--threads", "x"), "'--threads'"),
    (("demo", "--plot", ""), "'--plot'"), (("demo", "--epochs", "99999"), "'--epochs'"),
    (("explain", "--net", ""), "'--net'"), (("explain", "--net", "3--2"), "'3--2'"),
    (("explain", "--net", "9-2"), "'9-2'"), (("explain", "--seed", "9" * 20), "'--seed'"),
    (("explain", "--decimals", "99"), "'--decimals'"), (("explain", "--loss", ""), "loss=''"),
    (("bench", "--shape", ""), "shape ''"), (("bench", "--shape", "1-1:0"), "shape '1-1:0'"),
    (("bench", "--shape", "0-1:1"), "'0-1:1'"), (("bench", "--peer", ""), "peer=''"),
    (("bench", "--ranks", "99999999"), "'99999999' is not a list of whole numbers from 1"),
    (("bench", "--ranks", "2", "--peer", "torch"), "'--peer': with --ranks, fastbp alone is timed"),
    (("bench", "--ranks", "2", "--threads", "1"), "'--threads': with --ranks, fastbp alone"),
    (("bench", "--threads", ""), "'' is not a list"), (("bench", "--threads", "1,x"), "'1,x'"),
    (("bench", "--repeats", "x"), "'--repeats'"), (("bench", "--steps", "0"), "'--steps'"),
    (("bench", "--json", ""), "'--json'"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "words"), LINES, ids=[" ".join(line)[:40] for line, _ in LINES])
def test_one_line_and_status_2(
    line: tuple[str, ...],
    words: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if any("parquet" in part for part in line):
        pytest.importorskip("pyarrow")
    monkeypatch.chdir(folder)
    before = {path: path.lstat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(SystemExit) as ended:
        cli.main(list(line))
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert words in said.err
    assert "numba" not in said.err.lower()
    assert {path: path.lstat().st_mtime_ns for path in folder.iterdir()} == before


def test_there_are_enough_kinds() -> None:
    assert len({line for line, _ in LINES}) >= 110


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes or modes")
def test_a_device_keeps_its_place_a_link_its_file_and_a_file_its_mode(tmp_path: Path) -> None:
    net = Network(2, [Dense(1)], seed=1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        net.save(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    (tmp_path / "models").mkdir()
    (tmp_path / "latest").symlink_to("models/one")
    net.save(tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert Network.load(tmp_path / "models" / "one").parameters.size == 3
    (tmp_path / "models" / "one").chmod(0o600)
    net.save(tmp_path / "latest")
    assert stat.S_IMODE((tmp_path / "models" / "one").stat().st_mode) == 0o600
