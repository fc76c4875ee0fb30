"""Pictures of a training, with matplotlib, which is an extra and imported only here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .extras import require

if TYPE_CHECKING:
    from .history import History


def plot_history(history: History, path: str | Path | None = None) -> Any:
    """The figure that `History.plot` returns: a panel each for what was recorded."""
    if len(history) == 0:
        raise ValueError("history.plot: there are no epochs to draw; call fit first.")
    require("matplotlib", "plot", "history.plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels(history)
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    # No pyplot: it would keep the figure alive and choose a backend for the whole process.
    figure = Figure(figsize=(5.0 * columns, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels, 1):
        _draw(figure.add_subplot(rows, columns, number), panel, history)
    if path is not None:
        _save(figure, Path(path))
    return figure


class Panel(NamedTuple):
    """What one panel shows.

    Attributes:
        title: above it.
        unit: of the upright axis.
        log: a logarithmic axis suits it, where all values are above 0.
        ordered: the curves are steps of one thing (layers): shades, not colours.
        curves: values by name.
    """

    title: str
    unit: str
    log: bool
    ordered: bool
    curves: dict[str, list[float]]


def _panels(history: History) -> list[Panel]:
    """The panels that there is something to show in."""
    names = {"loss": "loss", "validation_loss": "validation loss"}
    loss = {word: history[name] for name, word in names.items() if name in history}
    by_layer = zip(*history.gradient_norm, strict=True)
    norms = {f"layer {layer}": list(values) for layer, values in enumerate(by_layer)}
    panels = [
        Panel("loss", "mean of the samples' losses", False, False, loss),
        Panel("metrics", "", False, False, history.metrics),
        Panel("rate", "step size", True, False, {"lr": history.lr} if "lr" in history else {}),
        Panel("gradient norm", "||dL/dW||", True, True, norms),
    ]
    return [panel for panel in panels if panel.curves]


def _draw(axes: Any, panel: Panel, history: History) -> None:
    from matplotlib import colormaps

    epochs, count = range(1, len(history) + 1), len(panel.curves)
    for number, (name, values) in enumerate(panel.curves.items()):
        shade = colormaps["viridis"](0.9 * number / max(count - 1, 1)) if panel.ordered else None
        marker = "o" if len(history) == 1 else None
        axes.plot(epochs, values, label=name, marker=marker, color=shade)
    every = [value for values in panel.curves.values() for value in values]
    if panel.log and min(every) > 0 and max(every) > 3 * min(every):
        axes.set_yscale("log")
    if history.best_epoch is not None and panel.title in {"loss", "metrics"}:
        axes.axvline(history.best_epoch + 1, color="0.6", linestyle=":", label="best")
    axes.set(title=panel.title, xlabel="epoch", ylabel=panel.unit)
    axes.legend(fontsize="small", ncols=1 + count // 8)


def _save(figure: Any, path: Path) -> None:
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in formats:
        raise ValueError(
            f"path={str(path)!r} has no ending that says how to draw; "
            f"allowed: {', '.join('.' + name for name in sorted(formats))}."
        )
    figure.savefig(path, dpi=150)
