"""What the commands share: complaints about options, and checks made before any work starts."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ..files import Table
    from ..files.table import Wanted


MOST = 10**9
"""The largest of numbers that have no other limit."""


def refuse(option: str, problem: str) -> typer.BadParameter:
    """The error for a wrong option: one line, exit status 2; to be raised by the caller."""
    return typer.BadParameter(problem, param_hint=f"'{option}'")


def console(**how: Any) -> Console:
    """Where a command prints: names and numbers as they are, none of them a picture or coloured.

    A terminal that does not know its width says 0 (COLUMNS), which is room for nothing.
    """
    from rich.console import Console

    made = Console(emoji=False, highlight=False, **how)
    if not made.width:
        made.width = 80
    return made


def check_replaceable(option: str, path: Path, *read: Path) -> None:
    """Refuse what no file can take the place of: a device or a pipe, or a file that is `read`."""
    from ..atomic import check_target

    with writing(option, path):
        check_target(path)
    if any(other.exists() and path.exists() and other.samefile(path) for other in read):
        raise refuse(option, f"{str(path)!r} is what is read; its data would be gone.")


@contextlib.contextmanager
def blaming(
    option: str, kinds: tuple[type[Exception], ...] = (ValueError, TypeError, MemoryError)
) -> Iterator[None]:
    """What is refused within is said to be wrong with the option."""
    try:
        yield
    except kinds as error:
        raise refuse(option, str(error)) from None


@contextlib.contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """The system's refusal to write a file as one line."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever reads has seen enough
    except OSError as error:
        problem = error.strerror or str(error)
        raise refuse(option, f"{str(path)!r} cannot be written: {problem}.") from None


def check_plotting(option: str, path: Path) -> None:
    """Refuse a picture that could not be drawn or written."""
    check_replaceable(option, path)
    if importlib.util.find_spec("matplotlib") is None:
        raise refuse(option, "drawing needs matplotlib: pip install 'fastbp[plot]'")
    from matplotlib import rcParams
    from matplotlib.backend_bases import FigureCanvasBase

    allowed = {*FigureCanvasBase.get_supported_filetypes()}
    if shutil.which(rcParams["pgf.texsystem"]) is None:  # TeX says how wide its letters are
        allowed.discard("pgf")
    if path.suffix.lower().lstrip(".") not in allowed:
        raise refuse(option, f"{path.name!r} ends in none of {', '.join(sorted(allowed))}.")


def numbers(option: str, text: str, most: int = MOST) -> list[int]:
    """Whole numbers from 1 to `most`, written with commas: `1,2` is [1, 2]."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1 or max(found) > most:
        allowed = f"whole numbers from 1 to {most}" if most < MOST else "positive whole numbers"
        raise refuse(option, f"{text!r} is not a list of {allowed} such as 1,2.")
    return found


def check_choice(option: str, value: str, allowed: Iterable[str]) -> None:
    """Refuse a name that is not in a table; the nearest one is suggested."""
    from ..errors import unknown_name

    names = list(allowed)
    if value not in names:
        raise refuse(option, str(unknown_name(option.lstrip("-"), value, names)))


def check_package(option: str, module: str, extra: str) -> None:
    """Refuse what needs a package that is not installed."""
    if importlib.util.find_spec(module) is None:
        raise refuse(option, f"needs {module}: pip install 'fastbp[{extra}]'")


def reason(error: Exception, path: Path) -> str:
    """An error about a file in words: the system's are a number and a phrase."""
    if isinstance(error, OSError) and error.strerror:
        return f"{str(path)!r} cannot be read: {error.strerror}."
    return str(error)


def table(
    option: str,
    path: Path,
    texts: Collection[str],
    keep: Collection[str] = (),
    wanted: Wanted = lambda name: True,
) -> Table:
    """The table in a data file, as `files.read` has it; what is wrong is one line."""
    from ..files import read

    try:
        return read(path, texts, keep, wanted)
    except (ValueError, OSError, ImportError) as error:
        raise refuse(option, reason(error, path)) from None
