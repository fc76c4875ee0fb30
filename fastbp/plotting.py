"""Pictures of a training, with matplotlib, which is an extra and imported only here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import replacing
from .extras import require
from .panels import Panel, logarithmic, panels

if TYPE_CHECKING:
    from .finder import RateSearch
    from .history import History


def plot_history(history: History, path: str | Path | None = None) -> Any:
    """The figure that `History.plot` returns: a panel each for what was recorded."""
    if len(history) == 0:
        raise ValueError("history.plot: there are no epochs to draw; call fit first.")
    found = panels(history)
    if not found:
        names = ", ".join(history)
        raise ValueError(f"history.plot: nothing to draw was recorded, only {names}.")
    columns = min(len(found), 2)
    rows = -(-len(found) // columns)
    figure = _figure(5.0 * columns, 3.4 * rows, "history.plot")
    for number, panel in enumerate(found, 1):
        _draw(figure.add_subplot(rows, columns, number), panel, history)
    if path is not None:
        _save(figure, Path(path))
    return figure


def _draw(axes: Any, panel: Panel, history: History) -> None:
    from matplotlib import colormaps

    epochs, count = range(1, len(history) + 1), len(panel.curves)
    for number, (name, values) in enumerate(panel.curves.items()):
        shade = colormaps["viridis"](0.9 * number / max(count - 1, 1)) if panel.ordered else None
        axes.plot(epochs, values, label=name, marker="o", markevery=_alone(values), color=shade)
    if panel.log and logarithmic(v for values in panel.curves.values() for v in values):
        axes.set_yscale("log")
    if history.best_epoch is not None and panel.marked:
        axes.axvline(history.best_epoch + 1, color="0.6", linestyle=":", label="best")
    axes.set(title=panel.title, xlabel="epoch", ylabel=panel.note)
    lines = axes.get_lines()
    legend = axes.legend(lines, range(len(lines)), fontsize="small", ncols=1 + count // 8)
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set_parse_math(False)  # nor is a name left out for beginning with "_"
        text.set_text(line.get_label())


def _alone(values: Sequence[float]) -> list[int]:
    """The epochs without a neighbour to draw a line to: they get a dot."""
    there = [False, *map(math.isfinite, values), False]
    return [at for at in range(len(values)) if there[at : at + 3] == [False, True, False]]


def plot_rates(found: RateSearch, path: str | Path | None = None) -> Any:
    """The figure that `RateSearch.plot` returns; trials that diverged are ticks at the top."""
    figure = _figure(5.0, 3.4, "RateSearch.plot")
    axes = figure.add_subplot()
    finite = [(r, v) for r, v in zip(found.rates, found.losses, strict=True) if math.isfinite(v)]
    axes.plot(*zip(*finite, strict=True), marker="o", label=f"after {found.steps} steps")
    diverged = [r for r, v in zip(found.rates, found.losses, strict=True) if not math.isfinite(v)]
    if diverged:
        top = [0.97] * len(diverged)
        axes.plot(diverged, top, "x", color="C3", transform=axes.get_xaxis_transform(),
                  label="diverged")  # fmt: skip
    axes.axvline(found.rate, color="0.6", linestyle=":", label=f"suggested: {found.rate:.3g}")
    axes.set(title="rate finder", xlabel="rate", ylabel="loss", xscale="log")
    if min(v for _, v in finite) > 0:
        axes.set_yscale("log")
    axes.legend(fontsize="small")
    if path is not None:
        _save(figure, Path(path))
    return figure


def _figure(width: float, height: float, asker: str) -> Any:
    """An empty figure. No pyplot: it would keep it alive, and choose a backend for the process."""
    require("matplotlib", "plot", asker)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    formats, ending = figure.canvas.get_supported_filetypes(), path.suffix.lower().lstrip(".")
    if ending not in formats:
        raise ValueError(
            f"path={str(path)!r} has no ending that says how to draw; "
            f"allowed: {', '.join('.' + name for name in sorted(formats))}."
        )
    with replacing(path) as temporary:
        figure.savefig(temporary, format=ending, dpi=150)
