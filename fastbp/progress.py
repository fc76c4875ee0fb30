"""A progress bar for training: in a terminal (rich) and in a notebook; nothing elsewhere.

No thread and no timer: the Trainer calls `update` between chunks, and at most ten times a second
something is drawn. rich and IPython are imported only when a bar is shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from html import escape
from importlib import import_module
from types import TracebackType
from typing import Any, Final, Self

from .errors import check_flag

_PAUSE: Final = 0.1
"""Seconds between two drawings: enough for the eye, under 1% of the time of training."""


class Progress:
    """A bar that shows nothing, and the base of those that do. To be used in a `with` block.

    Args:
        epochs: epochs of this fit, or None where only a stopping rule ends it.
        steps: steps of an epoch.
    """

    def __init__(self, epochs: int | None, steps: int) -> None:
        self.epochs, self.steps = epochs, max(steps, 1)
        self._values: dict[str, float] = {}
        self._began = self._drawn = 0.0
        self._done = 0
        self.caption: Callable[[], str] | None = None
        """Says what `text` is to say instead."""

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.draw()
        self.close()

    def update(self, done: int, record: Mapping[str, Any] | None = None) -> None:
        """Show how far training has come.

        Args:
            done: steps of this fit made so far.
            record: values by name (`History.record`) of an epoch that has just finished, or the
                loss and rate so far.
        """
        self._done = done
        if record is not None:
            self._values = {k: v for k, v in record.items() if isinstance(v, int | float)}
        now = time.monotonic()
        if now - self._drawn >= _PAUSE:
            self._drawn = now
            self.draw()

    def text(self) -> str:
        """Epoch, loss, validation loss, metrics, rate and speed on one line.

        >>> bar = Progress(epochs=20, steps=10)
        >>> bar.update(25, {"loss": 0.5, "lr": 0.001})
        >>> bar.text()
        'epoch 3/20  loss 0.5  lr 0.001'
        """
        if self.caption is not None:
            return self.caption()
        epoch = min(self._done // self.steps + 1, self.epochs or sys.maxsize)
        parts = [f"epoch {epoch}" + (f"/{self.epochs}" if self.epochs else "")]
        for name, value in self._values.items():
            if name not in {"epoch", "seconds"}:
                parts.append(f"{name.replace('validation_', 'val ')} {value:.4g}")
        if self.seconds > 0.0 and self._done:
            parts.append(f"{self._done / self.seconds:,.0f} steps/s")
        return "  ".join(parts)

    @property
    def seconds(self) -> float:
        """Since it is shown; 0 before."""
        return time.monotonic() - self._began if self._began else 0.0

    @property
    def share(self) -> float | None:
        """How much of the fit is done, 0 to 1; None where its end is not known."""
        return min(self._done / (self.steps * self.epochs), 1.0) if self.epochs else None

    def draw(self) -> None:
        """Show the present state."""

    def close(self) -> None:
        """Leave the last state on the screen."""


def in_terminal() -> bool:
    """Standard error is a terminal; what stands for it may be None, closed, or a logger's."""
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, ValueError, OSError):
        return False


class TerminalProgress(Progress):
    """One line on standard error, drawn by rich; none where that can no longer be written to."""

    _lost = False

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.errors import LiveError
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            BarColumn(bar_width=24),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        total = self.epochs * self.steps if self.epochs else None
        self._task = self._bar.add_task("", total=total)
        try:
            self._bar.start()
        except LiveError:  # the caller shows a display of their own: leave it the screen
            self._bar.disable = True
        except (OSError, ValueError, AttributeError):
            self._lost = True
        return super().__enter__()

    def draw(self) -> None:
        if self._lost:
            return
        try:
            self._bar.update(self._task, completed=self._done, description=self.text())
            self._bar.refresh()
        except (OSError, ValueError):  # the terminal is gone; the training is not
            self._lost = True

    def close(self) -> None:
        try:
            self._bar.stop()
        except (OSError, ValueError, AttributeError):
            self._lost = True


class NotebookProgress(Progress):
    """A bar in the output of a notebook's cell, by IPython alone (no widgets)."""

    def __enter__(self) -> Self:
        display = import_module("IPython.display").display
        self._display = display(self._html(), display_id=True)
        return super().__enter__()

    def _html(self) -> Any:
        value = "" if self.share is None else f' value="{self.share:.4f}"'
        html = import_module("IPython.display").HTML
        return html(f"<progress{value}></progress> <code>{escape(self.text())}</code>")

    def draw(self) -> None:
        self._display.update(self._html())


def in_notebook() -> bool:
    """This process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def make_progress(progress: bool | None, epochs: int | None, steps: int) -> Progress:
    """The bar to use.

    Args:
        progress: True or False; None: in a terminal or a notebook only.
        epochs: epochs of this fit, or None where only a stopping rule ends it.
        steps: steps of an epoch.

    Raises:
        TypeError: progress is neither True, False nor None.

    >>> with make_progress(False, epochs=20, steps=100) as bar:
    ...     bar.update(100, {"loss": 0.5})
    """
    if progress is not None and not check_flag("progress", progress):
        return Progress(epochs, steps)
    if in_notebook():
        return NotebookProgress(epochs, steps)
    if progress or in_terminal():
        return TerminalProgress(epochs, steps)
    return Progress(epochs, steps)
