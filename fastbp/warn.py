"""Warnings that name the user's line, however many of our own frames lie between."""

from __future__ import annotations

import sys
import warnings
from typing import Final

_OURS: Final = {"fastbp", "sklearn"}
"""Packages whose lines are not to blame: scikit-learn wraps the estimators' `fit`."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line that called into the package: the first one outside it.

    `skip_file_prefixes`, which would do this, is new in Python 3.12.
    """
    frame, level = sys._getframe(1), 2  # the caller of this function
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
