"""Warnings that name the user's line, however many of our own frames lie between."""

from __future__ import annotations

import sys
import warnings
from typing import Final

_OURS: Final = {"fastbp", "sklearn", "joblib"}
"""Packages whose lines are not to blame: scikit-learn wraps the estimators' `fit`, and joblib."""


def warn(message: str, category: type[Warning], module: str | None = None) -> None:
    """Warn at the line that called into the package: the first one outside it.

    `skip_file_prefixes`, which would do this, is new in Python 3.12.

    Args:
        message, category: as of `warnings.warn`.
        module: whose warning it is to users' filters; None: the module of that line, as ever.
    """
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame = frame.f_back
    where = frame.f_globals
    warnings.warn_explicit(
        message, category, frame.f_code.co_filename, frame.f_lineno,
        module=where.get("__name__", "<unknown>") if module is None else module,
        registry=where.setdefault("__warningregistry__", {}),
    )  # fmt: skip
