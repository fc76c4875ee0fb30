"""Curves and points as inline SVG, with the numbers beside them for the page's script."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from .scales import Scale, fit, label, labels

# In user units of the picture, which is shown about as large on a phone and 1.4 times as large on a
# desk: text of 11.5 is read on both.
WIDTH, HEIGHT = 350, 205
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 8, 26
POINTS: Final = 1000
"""Epochs that a curve shows at most; of longer trainings evenly chosen ones."""


@dataclass(frozen=True)
class Chart:
    """Curves over the epochs (which count from 1).

    Attributes:
        title: above the chart.
        curves: values by name; NaN leaves a gap.
        log: a logarithmic axis where all values are above 0 and spread.
        ordered: the curves are steps of one thing (layers): shades, not colours.
        marked: an epoch to mark, with the word for it.
        note: what the numbers are, in a line under the title.
    """

    title: str
    curves: Mapping[str, Sequence[float]]
    log: bool = False
    ordered: bool = False
    marked: tuple[int, str] | None = None
    note: str = ""

    def html(self) -> str:
        """A figure: title, legend, picture, and its numbers as JSON."""
        return (
            f'<figure class="chart"><figcaption><h3>{escape(self.title)}</h3>'
            f"<p>{escape(self.note)}</p>{self._legend()}</figcaption>{self.svg()}"
            f'<script type="application/json">{self._numbers()}</script></figure>'
        )

    @property
    def epochs(self) -> list[int]:
        """The epochs that are shown."""
        count = max((len(values) for values in self.curves.values()), default=0)
        every = max(1, math.ceil(count / POINTS))
        shown = list(range(0, count, every))
        return shown if not shown or shown[-1] == count - 1 else [*shown, count - 1]

    def _scales(self) -> tuple[Scale, Scale]:
        last = max(max(map(len, self.curves.values())), 2)
        x = Scale(1, last, LEFT, WIDTH - RIGHT)
        values = [value for curve in self.curves.values() for value in curve]
        return x, fit(values, HEIGHT - BOTTOM, TOP, self.log)

    def svg(self) -> str:
        """The picture alone."""
        x, y = self._scales()
        parts = [axes(x, y, [t for t in x.ticks(7) if t == int(t)])]
        if self.marked:
            place = x(self.marked[0] + 1)
            parts.append(f'<line class="mark" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" '
                         f'y2="{HEIGHT - BOTTOM}"/>')  # fmt: skip
        for number, values in enumerate(self.curves.values()):
            parts.append(self._curve(number, values, x, y))
        words = ", ".join(self.curves)
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" '
            f'aria-label="{escape(self.title)}: {escape(words)} by epoch">{"".join(parts)}'
            '<line class="cross" hidden=""/></svg>'
        )

    def _curve(self, number: int, values: Sequence[float], x: Scale, y: Scale) -> str:
        """A line through what is finite, with gaps; a dot where an epoch stands alone."""

        def drawn(epoch: int) -> bool:
            return math.isfinite(values[epoch]) and not (y.log and values[epoch] <= 0)

        path = []
        for there, stretch in itertools.groupby(self.epochs, drawn):
            if there:
                points = [f"{x(epoch + 1):.1f} {y(values[epoch]):.1f}" for epoch in stretch]
                path.append(f"M{' L'.join(points)}{' h0.01' if len(points) == 1 else ''}")
        return f'<path class="curve" {self._stroke(number)} d="{" ".join(path)}"/>'

    def _stroke(self, number: int) -> str:
        if not self.ordered:
            return f'style="--ink:var(--c{number % 6})"'
        share = 100 * number / max(len(self.curves) - 1, 1)
        return f'style="--ink:color-mix(in oklab,var(--r0),var(--r1) {share:.0f}%)"'

    def _legend(self) -> str:
        items = [
            f"<li {self._stroke(number)}>{escape(name)}</li>"
            for number, name in enumerate(self.curves)
        ]
        if self.marked:
            items.append(f'<li class="dotted">{escape(self.marked[1])}</li>')
        return f'<ul class="legend">{"".join(items)}</ul>'

    def _numbers(self) -> str:
        """What the script needs: epochs, their places, values, names."""
        x, _ = self._scales()
        content = {
            "epochs": [epoch + 1 for epoch in self.epochs],
            "x": [round(x(epoch + 1), 1) for epoch in self.epochs],
            "names": list(self.curves),
            "values": [
                [label(v) if math.isfinite(v) else "-" for v in (c[e] for e in self.epochs)]
                for c in self.curves.values()
            ],
            "box": [WIDTH, HEIGHT, TOP, HEIGHT - BOTTOM],
        }
        return as_json(content)


def axes(x: Scale, y: Scale, x_ticks: Sequence[float]) -> str:
    """Grid lines and labels."""
    parts = []
    ticks = y.ticks()
    for tick, text in zip(ticks, labels(ticks), strict=True):
        at = y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" '
                     f'y2="{at:.1f}"/><text class="left" x="{LEFT - 5}" y="{at + 3.5:.1f}">'
                     f"{text}</text>")  # fmt: skip
    for tick, text in zip(x_ticks, labels([*x_ticks]), strict=True):
        at = x(tick)
        parts.append(f'<text class="below" x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}">'
                     f"{text}</text>")  # fmt: skip
    return "".join(parts)


def scatter(truth: Sequence[float], predicted: Sequence[float]) -> str:
    """Predictions against the truth: right ones lie on the line."""
    x = fit([*truth, *predicted], LEFT, WIDTH - RIGHT)
    y = Scale(x.low, x.high, HEIGHT - BOTTOM, TOP)
    dots = "".join(
        f'<circle cx="{x(t):.1f}" cy="{y(p):.1f}" r="2.5"/>'
        for t, p in zip(truth, predicted, strict=True)
        if math.isfinite(p)
    )
    content = {
        "points": [[round(x(t), 1), round(y(p), 1), label(t), label(p)]
                   for t, p in zip(truth, predicted, strict=True) if math.isfinite(p)],
        "box": [WIDTH, HEIGHT, TOP, HEIGHT - BOTTOM],
    }  # fmt: skip
    diagonal = (f'<line class="mark" x1="{x(x.low):.1f}" y1="{y(x.low):.1f}" '
                f'x2="{x(x.high):.1f}" y2="{y(x.high):.1f}"/>')  # fmt: skip
    return (
        '<figure class="chart"><figcaption><h3>Prediction by truth</h3><p>Held-out rows; '
        "right ones lie on the line.</p></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="predictions against truth">'
        f'{axes(x, y, x.ticks())}{diagonal}<g class="dots">{dots}</g></svg>'
        f'<script type="application/json">{as_json(content)}</script></figure>'
    )


def as_json(content: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
