"""What the commands share: complaints about options, and checks made before any work starts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import typer


def refuse(option: str, problem: str) -> typer.BadParameter:
    """The error for a wrong option: one line, exit status 2; to be raised by the caller."""
    return typer.BadParameter(problem, param_hint=f"'{option}'")


def check_writable(option: str, path: Path) -> None:
    """Refuse a file that could not be written, before time is spent on its content."""
    if path.is_dir() or not path.parent.is_dir():
        raise refuse(option, f"{str(path)!r} cannot be written: name a file in an existing folder.")


def check_plotting(option: str, path: Path) -> None:
    """Refuse a picture that could not be drawn or written."""
    check_writable(option, path)
    if importlib.util.find_spec("matplotlib") is None:
        raise refuse(option, "drawing needs matplotlib: pip install 'fastbp[plot]'")
    from matplotlib.backend_bases import FigureCanvasBase

    allowed = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in allowed:
        raise refuse(option, f"{path.name!r} ends in none of {', '.join(sorted(allowed))}.")


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers from 1, written with commas: `1,2` is [1, 2]."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise refuse(option, f"{text!r} is not a list of positive whole numbers such as 1,2.")
    return found
