"""Pictures of a training, with matplotlib, which is an extra and imported only here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    # No pyplot: it would keep the figure alive and choose a backend for the whole process.
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = range(1, len(history) + 1)
    for number, (title, log, curves) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), number)
        for name, values in curves.items():
            axes.plot(epochs, values, label=name, marker="o" if len(history) == 1 else None)
        if log and all(value > 0 for values in curves.values() for value in values):
            axes.set_yscale("log")
        if history.best_epoch is not None and title == "loss":
            axes.axvline(history.best_epoch + 1, color="0.6", linestyle=":", label="best")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.legend(fontsize="small")
    if path is not None:
        _save(figure, Path(path))
    return figure


def _panels(history: History) -> list[tuple[str, bool, dict[str, list[float]]]]:
    """Title, whether a logarithmic axis suits it, and curves by name."""
    loss = {name: history[name] for name in ("loss", "validation_loss") if name in history}
    panels = [("loss", False, loss), ("metrics", False, history.metrics)]
    panels.append(("rate", False, {"lr": history.lr} if "lr" in history else {}))
    by_layer = zip(*history.gradient_norm, strict=True)
    norms = {f"layer {layer}": list(values) for layer, values in enumerate(by_layer)}
    panels.append(("gradient norm", True, norms))
    return [panel for panel in panels if panel[2]]


def _save(figure: Any, path: Path) -> None:
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in formats:
        raise ValueError(
            f"path={str(path)!r} has no ending that says how to draw; "
            f"allowed: {', '.join('.' + name for name in sorted(formats))}."
        )
    figure.savefig(path, dpi=150)
