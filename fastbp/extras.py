"""Optional packages: imported when they are needed, named with their extra when missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def require(module: str, extra: str, asker: str) -> Any:
    """The module, imported; its package is one that `pip install 'fastbp[extra]'` brings.

    Args:
        module: dotted name of what to import.
        extra: name of fastbp's extra that has it.
        asker: what needs it, for the message.

    Raises:
        ImportError: it is not installed; the message says how to get it.

    >>> require("nowhere.at_all", "plot", "history.plot")
    Traceback (most recent call last):
    ...
    ImportError: history.plot needs nowhere, which is not installed: pip install 'fastbp[plot]'
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or package).partition(".")[0] != package:
            raise  # it is there, but lacks something of its own
        raise ImportError(
            f"{asker} needs {package}, which is not installed: pip install 'fastbp[{extra}]'"
        ) from None
