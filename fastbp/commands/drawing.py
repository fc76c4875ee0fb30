"""Pictures made of characters: images, curves, the confusion matrix."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

_SHADES, _PLAIN_SHADES = " ░▒▓█", " .+#@"


def shades(console: Console) -> str:
    """Five shades from dark to bright that the console's encoding can print."""
    return _SHADES if "utf" in console.encoding.lower() else _PLAIN_SHADES


def image(pixels: NDArray[np.floating], levels: str = _SHADES) -> list[str]:
    """The rows of a square image in 0..1, two characters a pixel.

    Example:
        >>> image(np.array([0.0, 1.0, 0.5, 0.0]), " .+#@")
        ['  @@', '++  ']
    """
    side = math.isqrt(pixels.size)
    steps = np.rint(pixels.reshape(side, side) * (len(levels) - 1)).astype(int)
    return ["".join(levels[step] * 2 for step in row) for row in steps]


def side_by_side(blocks: Sequence[Sequence[str]], gap: int = 3) -> list[str]:
    """Blocks of text next to each other, each padded to its own width."""
    widths = [max(map(len, block)) for block in blocks]
    height = max(map(len, blocks))
    rows = []
    for index in range(height):
        cells = [block[index] if index < len(block) else "" for block in blocks]
        rows.append((" " * gap).join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)))
    return rows


def curve(series: Mapping[str, Sequence[float]], width: int = 64, height: int = 10) -> list[str]:
    r"""Curves over epochs on a logarithmic axis; each has a mark by its position in `series`.

    Example:
        >>> print("\n".join(curve({"loss": [1.0, 0.1, 0.01]}, width=5, height=3)))
               1 |o
             0.1 |  o
            0.01 |    o
                 +-----
                  1   3   o loss
    """
    marks = itertools.cycle("ox+*")
    marked = [(next(marks), name, line) for name, line in series.items()]
    values = [v for line in series.values() for v in line if v > 0 and math.isfinite(v)]
    epochs = max((len(line) for line in series.values()), default=0)
    if not values:
        return ["(no finite, positive values to draw)"]
    low, high = math.log10(min(values)), math.log10(max(values))
    span = (high - low) or 1.0
    grid = [[" "] * width for _ in range(height)]
    for mark, _, line in marked:
        for epoch, value in enumerate(line):
            if value > 0 and math.isfinite(value):
                column = round(epoch / max(epochs - 1, 1) * (width - 1))
                row = round((high - math.log10(value)) / span * (height - 1))
                grid[row][column] = mark
    rows = []
    for index, cells in enumerate(grid):
        tick = 10 ** (high - span * index / max(height - 1, 1))
        label = f"{tick:.3g}" if index in {0, height // 2, height - 1} else ""
        rows.append(f"{label:>15} |{''.join(cells)}".rstrip())
    legend = "   ".join(f"{mark} {name}" for mark, name, _ in marked)
    ticks = f"1{epochs:>{width - 1}}"
    return [*rows, f"{'':>15} +{'-' * width}", f"{'':>15}  {ticks}   {legend}"]


def confusion(y: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Table:
    """Counts of held-out images by true class (rows) and predicted class (columns)."""
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (y, predicted), 1)
    table = Table(title="confusion matrix (rows: true, columns: predicted)", box=box.SIMPLE)
    table.add_column("")
    for label in range(classes):
        table.add_column(str(label), justify="right")
    for label, row in enumerate(counts):
        cells = [
            f"[bold]{count}[/]" if column == label else (f"[red]{count}[/]" if count else "·")
            for column, count in enumerate(row)
        ]
        table.add_row(f"[bold]{label}[/]", *cells)
    return table
