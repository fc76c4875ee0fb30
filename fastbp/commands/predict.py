"""`fastbp predict`: what a network that `fastbp train` stored says of the rows of a file."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from . import options

if TYPE_CHECKING:
    from ..engine import Array
    from ..files import Table
    from ..network import Network
    from ..preparation import Preparation


def predict(
    model: Annotated[Path, typer.Argument(help="File that `fastbp train` stored.")],
    data: Annotated[Path, typer.Argument(help="CSV, Parquet, NPZ or IDX file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .csv, .tsv, .npz or .parquet; else CSV is printed."),
    ] = None,
) -> None:
    """Predict a target, row by row: labels and their probabilities, or numbers."""
    if out is not None:
        options.check_replaceable("--out", out, model, data)
        if out.suffix.lower() not in WRITERS:
            raise options.refuse("--out", f"{out.name!r} ends in none of {', '.join(WRITERS)}.")
        if out.suffix.lower() == ".parquet":
            options.check_package("--out", "pyarrow", "parquet")
    net, preparation = _stored(model)
    table = options.table(
        "DATA", data, preparation.texts, preparation.names, {*preparation.names}.__contains__
    )
    with options.blaming("DATA"):
        X = preparation.inputs(table)
    _warn_of_strangers(table, preparation)
    with options.blaming("MODEL"):
        columns = _columns(net.forward(X), preparation)
    if out is None:
        _print(columns)
        return
    with options.writing("--out", out):
        _write(out, columns, getattr(preparation.target, "labels", ()))
    from ..errors import plural

    console = options.console()
    console.print(f"{plural(len(table), 'row')}: {out}", soft_wrap=True, markup=False)
    if (score := _score(columns, table, preparation)) is not None:
        console.print(score, markup=False)


def _warn_of_strangers(table: Table, preparation: Preparation) -> None:
    """A line for each column of texts none of which is known: it says nothing to the network."""
    from ..columns import Category
    from ..errors import shown

    for column in preparation.columns:
        if isinstance(column, Category) and (text := column.stranger(table)):
            known = next((value for value in column.values if value), "")
            typer.echo(
                f"fastbp: no text of column {column.name!r} (such as {shown(text)}) was trained "
                f"on (such as {shown(known)}): it counts for nothing",
                err=True,
            )


def _print(columns: dict[str, Array]) -> None:
    """CSV to standard output, in UTF-8 as the files are; a terminal has its own encoding."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")
    if sys.stdout is None:  # closed by who started this
        return
    with options.writing("--out", Path("standard output")):
        _write_delimited(sys.stdout, columns, ",")
        sys.stdout.flush()


def _stored(path: Path) -> tuple[Network, Preparation]:
    from .. import Network
    from ..io import remarks
    from ..preparation import Preparation

    try:
        texts = remarks(path)
        net = Network.load(path)
    except (ValueError, OSError) as error:
        raise options.refuse("MODEL", options.reason(error, path)) from None
    if "fastbp.preparation" not in texts:
        raise options.refuse(
            "MODEL", f"{str(path)!r} says nothing of its columns: it is not from `fastbp train`."
        )
    try:
        preparation = Preparation.from_json(texts["fastbp.preparation"])
    except ValueError as error:
        raise options.refuse("MODEL", f"{str(path)!r}: {error}") from None
    outputs = len(getattr(preparation.target, "labels", (None,)))
    if (preparation.width, outputs) != (net.inputs, net.layers[-1].units):
        raise options.refuse("MODEL", f"{str(path)!r}: its columns do not fit its network.")
    return net, preparation


def _columns(outputs: Array, preparation: Preparation) -> dict[str, Array]:
    """What is written, by name."""
    import numpy as np

    from ..columns import Classes

    target = preparation.target
    if not isinstance(target, Classes):
        return {"prediction": target.restored(outputs)}
    labels = np.array(target.labels)
    columns = {"prediction": labels[outputs.argmax(axis=1)]}
    for place, label in enumerate(target.labels):
        columns[f"probability of {label}"] = outputs[:, place].astype(np.float64)
    return columns


def _write(out: Path, columns: dict[str, Array], labels: Sequence[str]) -> None:
    from ..atomic import replacing

    with replacing(out) as temporary:
        WRITERS[out.suffix.lower()](temporary, columns, labels)


def _write_npz(path: Path, columns: dict[str, Array]) -> None:
    import numpy as np

    with path.open("wb") as binary:
        np.savez(binary, **columns)  # type: ignore[arg-type]


def _write_parquet(path: Path, columns: dict[str, Array]) -> None:
    from ..extras import require

    pyarrow = require("pyarrow", "parquet", "--out")
    parquet = require("pyarrow.parquet", "parquet", "--out")
    parquet.write_table(pyarrow.table(columns), path)


def _write_text(path: Path, columns: dict[str, Array], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as text:
        _write_delimited(text, columns, delimiter)


WRITERS: Final[dict[str, Callable[[Path, dict[str, Array], Sequence[str]], None]]] = {
    ".csv": lambda path, columns, _: _write_text(path, columns, ","),
    ".tsv": lambda path, columns, _: _write_text(path, columns, "\t"),
    ".npz": lambda path, columns, labels: _write_npz(path, _typed(columns, labels)),
    ".parquet": lambda path, columns, labels: _write_parquet(path, _typed(columns, labels)),
}
"""Endings of `--out`, and what writes such a file; labels are the target's, none of numbers."""


def _typed(columns: dict[str, Array], labels: Sequence[str]) -> dict[str, Array]:
    """Labels that are numbers, or true and false, as such: for files that tell them from texts."""
    import numpy as np

    from ..files.table import spelt

    if labels and {*labels} <= {"False", "True"}:
        return {**columns, "prediction": columns["prediction"] == "True"}
    try:
        numbers = {label: float(label) for label in labels}
    except ValueError:
        return columns
    if not numbers or any(spelt(number) != label for label, number in numbers.items()):
        return columns
    whole = all(value.is_integer() and abs(value) < 2**53 for value in numbers.values())
    found = [numbers[label] for label in columns["prediction"].tolist()]
    return {**columns, "prediction": np.array(found, np.int64 if whole else np.float64)}


def _write_delimited(file: Any, columns: dict[str, Array], delimiter: str) -> None:
    """A header line and a row a line; probabilities to 6 digits, values as they are.

    A value is the network's output times a scale plus a mean: beside a large mean, digits beyond
    float32's 7 tell the rows apart.
    """
    writer = csv.writer(
        file,
        delimiter=delimiter,
        lineterminator="\n",
        # It quotes what ends lines elsewhere only where it quotes all.
        quoting=csv.QUOTE_ALL if "\r" in "".join(columns) else csv.QUOTE_MINIMAL,
    )
    writer.writerow(columns)
    cells = [
        values if name == "prediction" and values.dtype.kind == "U"
        else [repr(float(v)) if name == "prediction" else f"{v:.6g}" for v in values]
        for name, values in columns.items()
    ]  # fmt: skip
    writer.writerows(zip(*cells, strict=True))


def _score(columns: dict[str, Array], table: Table, preparation: Preparation) -> str | None:
    """How good the predictions are, where the data hold the truth."""
    import numpy as np

    from ..columns import Classes

    target = preparation.target
    if target.name not in table.columns:
        return None
    if (found := table.columns[target.name]).ndim > 1:
        if found.shape[1] > 1:
            return None
        table = replace(table, columns={**table.columns, target.name: found[:, 0]})
    try:
        truth = preparation.targets(table)
    except ValueError:
        return None  # other labels than those known: nothing to compare
    predicted = columns["prediction"]
    if isinstance(target, Classes):
        right = np.array(target.labels)[truth] == predicted
        return f"accuracy: {right.mean():.4g} (the data have {target.name!r})"
    errors = np.abs(target.restored(truth) - predicted)
    known = errors[~np.isnan(errors)]
    if not known.size:
        return None
    where = "" if known.size == errors.size else f" in {known.size:,} rows"
    return f"mean absolute error: {known.mean():.4g} (the data have {target.name!r}{where})"
