"""The console script `fastbp`: the commands, and what a wrong option gets."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Final

import typer

from .commands import bench, demo, explain, info, predict, train

app = typer.Typer(
    name="fastbp",
    help="Back-propagation, compiled: train multilayer perceptrons as fast as the machine allows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_OF_OUTPUT: Final = frozenset({errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF, errno.EDQUOT})
_COMMANDS = (demo.demo, train.train, predict.predict, explain.explain, bench.bench, info.info)
for _command in _COMMANDS:
    app.command()(_command)


@app.callback(invoke_without_command=True)
def _top(
    show: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True
    ),
) -> None:
    if show:
        print(f"fastbp {version('fastbp')}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run a command line, by default this process's, and exit with its status.

    Status 2 and one line on standard error for a wrong command line, 130 after Ctrl-C, 1 where
    the output cannot be written.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # its encoding may lack a letter of a name
            stream.reconfigure(errors="replace")
    try:
        status = app(arguments, prog_name="fastbp", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # commands answer for their files
        if error.filename is not None or error.errno not in _OF_OUTPUT:
            raise
        _complain(f"the output cannot be written: {error.strerror or error}")
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what it holds is not tried again
        sys.exit(1)
    except Exception as error:
        # Typer's usage errors say what they are by these two fields, wherever they come from.
        if not hasattr(error, "format_message") or not hasattr(error, "exit_code"):
            if type(error).__name__ == "Abort":  # Ctrl-C within Typer
                sys.exit(130)
            raise
        message = " ".join(error.format_message().split())
        if message:
            _complain(f"{message} (see fastbp --help)")
        sys.exit(error.exit_code)
    sys.exit(status if isinstance(status, int) else 0)


def _complain(what: str) -> None:
    """A line on standard error, if that is open and takes one: the status says it, too."""
    with suppress(OSError):
        typer.echo(f"fastbp: {what}", err=True)
