"""`fastbp bench`: microseconds a training step, beside every peer that is installed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options

MOST_A_CORE = 4
"""Threads: enough to see what too many cost. A peer starts as many as it is told to."""


def bench(
    shape: Annotated[
        list[str] | None,
        typer.Option(help="A named shape or one such as 784-128-10:128; may be repeated."),
    ] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="Only these peers (and fastbp); may be repeated.")
    ] = None,
    threads: Annotated[
        str | None, typer.Option(help="Numbers of threads, such as 1,2; default 1 and all cores.")
    ] = None,
    ranks: Annotated[
        str | None,
        typer.Option(help="fastbp alone, on so many ranks under mpiexec, such as 1,2."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Fits timed of each.")] = 5,
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="Steps of an epoch; default 12 to 600, by work."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    output: Annotated[
        Path | None, typer.Option("--json", help="Write what was measured into this file.")
    ] = None,
) -> None:
    """Time training steps of fastbp and of every installed peer, interleaved in one run."""
    from ..bench import peers, runner, shapes

    if output is not None:
        options.check_replaceable("--json", output)
    with options.blaming("--shape"):
        chosen = [shapes.parse(text, steps) for text in shape or shapes.SHAPES]
    most = MOST_A_CORE * (os.cpu_count() or 1)
    if ranks is not None:
        asked = {"--peer": peer, "--threads": threads, "--device": device != "cpu"}
        for option in (name for name, value in asked.items() if value):
            raise options.refuse(
                option, "with --ranks, fastbp alone is timed, on this machine's cores."
            )
        _on_ranks(chosen, sorted({1, *options.numbers("--ranks", ranks, most)}), repeats, output)
        return
    known = peers.installed()
    if device != "cpu":
        _check_card(device)
        known = [name for name in known if name in peers.ON_A_CARD]
        chosen = [one.on_a_card() for one in chosen]
    names = _peers(peer, known, list(peers.PEERS))
    numbers = _threads_of(device, threads, most)
    console = options.console(stderr=True)
    with console.status("starting") as status:
        result = runner.run(chosen, names, numbers, repeats, status.update, device)
    _print(_stored(result, output))


def _on_ranks(shapes: list[Any], ranks: list[int], repeats: int, output: Path | None) -> None:
    """Steps on several ranks, and the sums between them."""
    from rich.table import Table

    from ..bench import scaling

    options.check_package("--ranks", "mpi4py", "mpi")
    if scaling.launcher() is None:
        raise options.refuse("--ranks", "there is no mpiexec: pip install 'fastbp[mpi]'")
    with options.console(stderr=True).status("starting") as status:
        try:
            result = scaling.run(shapes, ranks, repeats, status.update)
        except RuntimeError as error:
            raise options.refuse("--ranks", str(error)) from None
    result = _stored(result, output)
    head, rows = scaling.measured(result)
    printed = Table()
    for place, heading in enumerate(head):
        printed.add_column(heading, justify="right" if place else "left")
    for row in rows:
        printed.add_row(*row)
    options.console(width=None if sys.stdout.isatty() else 120).print(printed)


def _threads_of(device: str, text: str | None, most: int) -> list[int]:
    """Numbers of threads to time: those asked for, else 1 and all cores; on a card 1."""
    from ..budget import available_cores

    if text is not None:
        return sorted(set(options.numbers("--threads", text, most)))
    return sorted({1, available_cores()}) if device == "cpu" else [1]


def _print(result: dict[str, Any]) -> None:
    """The table of what was measured."""
    from ..bench import table

    # A file or a pipe has no width: room for every peer.
    printed = options.console(width=None if sys.stdout.isatty() else 160)
    for line in table.render(result):
        printed.print(line, soft_wrap=isinstance(line, str), markup=False)


def _check_card(device: str) -> None:
    from ..devices import check_device

    try:
        check_device(device)
    except (ValueError, ImportError, RuntimeError) as error:
        raise options.refuse("--device", str(error)) from None


def _peers(wanted: list[str] | None, installed: list[str], known: list[str]) -> list[str]:
    from ..bench.peers import OURS

    for name in wanted or []:
        options.check_choice("--peer", name, known)
        if name not in installed:
            raise options.refuse("--peer", f"{name!r} is not installed; here are {installed}.")
    return [OURS, *(name for name in wanted or installed if name != OURS)]


def _stored(result: dict[str, Any], output: Path | None) -> dict[str, Any]:
    """The result with the machine, written where that is wanted."""
    from ..atomic import replacing
    from .info import collect

    result = {"machine": collect(), **result}
    if output is not None:
        with options.writing("--json", output), replacing(output) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result
