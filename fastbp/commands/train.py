"""`fastbp train`: a network from a data file, judged on rows that it has not seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import LARGEST_SEED, plural
from . import options
from .split import Split, cut, load

if TYPE_CHECKING:
    from rich.console import Console

    from ..files import Table
    from ..history import History
    from ..network import Network
    from ..trainer import Trainer

TASKS = ("auto", "classification", "regression")
INTERRUPTED = "interrupted"


def train(
    data: Annotated[
        Path, typer.Argument(help="CSV, Parquet, NPZ or IDX file; .gz after CSV and IDX.")
    ],
    target: Annotated[
        str, typer.Option(help="Column (or array) to predict; for IDX the file of the labels.")
    ],
    hidden: Annotated[
        str, typer.Option(help="Units of the hidden layers, such as 64,64; 0 for none.")
    ] = "64,64",
    activation: Annotated[str, typer.Option(help="Of the hidden layers.")] = "relu",
    task: Annotated[str, typer.Option(help="auto, classification or regression.")] = "auto",
    ignore: Annotated[
        list[str] | None, typer.Option(help="A column to leave out; may be repeated.")
    ] = None,
    holdout: Annotated[
        float, typer.Option(help="Share of the rows, drawn at random, to judge by.")
    ] = 0.2,
    epochs: Annotated[int, typer.Option(min=1, max=1_000_000, help="Passes over the data.")] = 30,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a step.")] = 32,
    optimizer: Annotated[str, typer.Option(help="sgd, adam, adamw, rmsprop, ...")] = "adam",
    rate: Annotated[float | None, typer.Option(help="Step size; by default the optimizer's.")] = (
        None
    ),
    dropout: Annotated[float, typer.Option(help="Share of hidden units dropped.")] = 0.0,
    batch_norm: Annotated[bool, typer.Option(help="Batch norm in the hidden layers.")] = False,
    weight_decay: Annotated[float, typer.Option(help="Lambda in lambda ||W||^2.")] = 0.0,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many epochs without progress on held-out rows."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Of split, weights and batches.")
    ] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads; by default as many as pay.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to store the model.")] = Path(
        "model.safetensors"
    ),
    report: Annotated[
        Path | None, typer.Option(help="Write a page with curves and results (.html).")
    ] = None,
) -> None:
    """Train a network on a table, judge it on held-out rows, store it with its preparation.

    Under mpiexec the ranks share each batch, and the first one tells and writes.
    """
    _check_files(data, target, out, report)
    options.check_choice("--task", task, TASKS)
    if not 0.0 < holdout < 1.0:
        raise options.refuse("--holdout", f"{holdout:g} is not above 0 and below 1.")
    widths = [] if hidden.strip() == "0" else options.numbers("--hidden", hidden)
    distributed, leads = _ranks()
    table, target = load(data, target, ignore or [])
    split = cut(table, target, task, holdout, seed)
    net = _network(split, widths, activation, dropout, batch_norm, seed)
    trainer = _trainer(net, optimizer, rate, batch_size, weight_decay, patience, threads, split)
    trainer.distributed = distributed
    console = options.console(quiet=not leads)
    _introduce(console, table, split, net)
    history = _fit(trainer, split, epochs)
    if leads:  # of several ranks one tells and writes; the training outlives who reads of it
        _write(split, net, history, out, report, data.name)
        console.print(_results(split, net, history))
        for what, path in (("model", out), ("report", report)):
            if path is not None:
                console.print(f"{what}: {path}", soft_wrap=True, markup=False)
    if history.stopped == INTERRUPTED:
        console.print(f"{INTERRUPTED}: what was stored has not all of {plural(epochs, 'epoch')}")
        raise typer.Exit(130)


def _check_files(data: Path, target: str, out: Path, report: Path | None) -> None:
    """Model and report can be written, and over nothing that is read."""
    from ..files import format_of

    read = [data, Path(target)] if format_of(data) == ".idx" else [data]
    options.check_replaceable("--out", out, *read)
    if report is not None:
        options.check_replaceable("--report", report, *read)
        if report.resolve() == out.resolve():
            raise options.refuse("--report", f"{str(report)!r} is where --out puts the model.")


def _fit(trainer: Trainer, split: Split, epochs: int) -> History:
    """Train; what goes wrong is said in words of the options.

    Ctrl-C after the first epoch leaves the weights of the last step.
    """
    from .. import DivergenceError

    try:
        return trainer.fit(split.X, split.y, epochs=epochs, validation=(split.Xv, split.yv))
    except KeyboardInterrupt:
        if not len(trainer.history):
            raise
        trainer.history.stopped = INTERRUPTED
        return trainer.history
    except DivergenceError as error:
        less = " or less --weight-decay" if trainer.weight_decay > 0 else ""
        advice = f"Try a --rate below {trainer.optimizer.lr:g}{less}, or --batch-norm."
        raise options.refuse("--rate", f"{error.what} {advice}") from None
    except MemoryError as error:
        problem = f"there is too little memory to train so many units on such batches: {error}"
        raise options.refuse("--hidden", problem) from None
    except ValueError as error:  # one row with batch norm
        raise options.refuse("DATA", str(error)) from None


def _ranks() -> tuple[str | None, bool]:
    """What a Trainer is told of the ranks that share its batches, and whether this one leads."""
    from ..ranks import launched, world_of

    distributed = "mpi" if launched() else None
    try:
        return distributed, world_of(distributed).leads
    except ImportError as error:
        raise options.refuse("DATA", str(error)) from None


def _write(
    split: Split, net: Network, history: History, out: Path, report: Path | None, title: str
) -> None:
    """Store the model with its preparation and, where wanted, the report."""
    from .. import io

    with options.writing("--out", out):
        io.save(net, out, {"fastbp.preparation": split.preparation.to_json()})
    if report is not None:
        history.outcome = _own_unit(history.outcome, split.preparation.target)
        with options.writing("--report", report):
            history.report(report, title=title, classes=split.labels)


def _network(
    split: Split, widths: list[int], activation: str, dropout: float, norm: bool, seed: int
) -> Network:
    from .. import Dense, Network
    from ..kernels.tables import ACTIVATIONS

    options.check_choice("--activation", activation, ACTIVATIONS)
    with options.blaming("--dropout"):
        layers = [Dense(n, activation, batch_norm=norm, dropout=dropout) for n in widths]
    labels = split.labels
    last = Dense(1) if labels is None else Dense(len(labels), "softmax")
    with options.blaming("--hidden"):  # more than there is memory for
        return Network(split.preparation.width, [*layers, last], seed=seed)


def _trainer(
    net: Network,
    optimizer: str,
    rate: float | None,
    batch_size: int,
    weight_decay: float,
    patience: int | None,
    threads: int | None,
    split: Split,
) -> Trainer:
    from .. import EarlyStopping, Trainer
    from ..errors import check_not_negative
    from ..optimizers import get_optimizer

    with options.blaming("--optimizer"):
        chosen = get_optimizer(optimizer)
    with options.blaming("--rate"):
        chosen = chosen if rate is None else replace(chosen, lr=rate)  # type: ignore[type-var]
    with options.blaming("--weight-decay"):
        check_not_negative("weight_decay", weight_decay)
    # An optimizer's numbers are as many as the weights; a batch of 1 goes ill with batch norm.
    with options.blaming("--batch-size"), options.blaming("--hidden", (MemoryError,)):
        return Trainer(
            net,
            chosen,
            batch_size,
            weight_decay=weight_decay,
            early_stopping=None if patience is None else EarlyStopping(patience=patience),
            metrics=("accuracy",) if split.labels else ("r2",),
            n_threads=threads,
        )


def _introduce(console: Console, table: Table, split: Split, net: Network) -> None:
    labels = split.labels
    what = f"{len(labels)} classes" if labels else "a number"
    columns = plural(len(split.preparation.columns), "column")
    console.print(
        f"{len(table):,} rows: {len(split.X):,} to train on, {len(split.Xv):,} held out; "
        f"{columns} as {plural(net.inputs, 'input')}; target "
        f"{split.preparation.target.name!r}: {what}{'' if table.header else ' (no header line)'}",
        markup=False,
    )
    console.print(str(net.summary()), markup=False, soft_wrap=True)


def _own_unit(outcome: Any, target: Any) -> Any:
    """Residuals of a scaled target in the unit of the data."""
    from ..outcome import Residuals

    if not isinstance(outcome, Residuals):
        return outcome
    pairs = (outcome.truth, outcome.predicted)
    return Residuals(*([v * target.scale + target.mean for v in values] for values in pairs))


def _results(split: Split, net: Network, history: History) -> Any:
    """A table of losses and metrics, of a regression in the target's own unit."""
    from rich.table import Table as Printed

    from ..errors import plural

    printed = Printed(title=f"after {plural(len(history), 'epoch')}", title_justify="left")
    for heading in ("", "training", "held out"):
        printed.add_column(heading, justify="right" if heading else "left")
    metrics = ("accuracy", "f1_macro") if split.labels else ("mean_absolute_error", "r2")
    both = [net.evaluate(X, y, metrics) for X, y in ((split.X, split.y), (split.Xv, split.yv))]
    scale = getattr(split.preparation.target, "scale", 1.0)
    for name in ("loss", *metrics):
        factor = scale if name == "mean_absolute_error" else 1.0
        printed.add_row(name.replace("_", " "), *(f"{factor * row[name]:.4g}" for row in both))
    return printed
