"""The parts of the page that are words and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

from ..errors import plural
from ..outcome import Confusion, Omitted, Outcome, Residuals
from ..panels import panels, word
from .charts import Chart, scatter
from .scales import label

if TYPE_CHECKING:
    from ..history import History

SHOWN: Final = 30
"""Classes of a confusion matrix that are shown whole; of more, the commonest mistakes."""
MISTAKES: Final = 20
ROWS: Final = 200
"""Epochs in the table of numbers."""


def charts(history: History) -> list[Chart]:
    """The curves that there are."""
    best = history.best_epoch
    marked = None if best is None else (best, f"best, epoch {best + 1}")
    return [
        Chart(p.title, p.curves, p.log, p.ordered, marked if p.marked else None, p.note)
        for p in panels(history)
    ]


def tiles(history: History) -> str:
    """The figures one looks for first."""
    place = -1 if history.best_epoch is None else history.best_epoch
    found = [("epochs", f"{len(history):,}")]
    words = {"loss": "loss", "validation_loss": "held-out loss"}
    words |= {name: word(name, history) for name in history.metrics}
    for name, title in words.items():
        if name in history:
            found.append((title, label(history[name][place])))
    if "seconds" in history:
        seconds = sum(s for s in history.seconds if math.isfinite(s))
        found.append(("training time", f"{seconds:.3g} s"))
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in found)
    return f'<dl class="tiles">{cells}</dl>'


def table(head: Iterable[str], rows: Iterable[Sequence[str]], extra: str = "") -> str:
    """A table that scrolls by itself where the screen is narrow."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody>'
            f"</table></div>{extra}")  # fmt: skip


def network(summary: Any) -> str:
    """The network's table."""
    if summary is None:
        return "<p>The history does not know its network.</p>"
    words = f"<p>{escape(summary.title)}. {escape(summary.total)}.</p>"
    return words + table(summary.HEAD, summary.rows)


def outcome(found: Outcome | None, classes: Sequence[str] | None, history: History) -> str:
    """The confusion matrix, or predictions against the truth."""
    if found is None:
        why = "No data were held out. <code>fit(..., validation=0.1)</code> holds some out, and"
        if "validation_loss" in history and math.isfinite(history.validation_loss[-1]):
            why = (
                "What the network makes of the held-out data is not kept here: the training has "
                "not come to its end, or its history was read from a file."
            )
        other = "<code>history.report(path, network=net, data=(X, y))</code> judges by others."
        return f"<p>{why} {other}</p>"
    if isinstance(found, Omitted):
        return f"<p>{escape(found.why)}</p>"
    if isinstance(found, Residuals):
        return scatter(found.truth, found.predicted) + _spread(found)
    names = [str(n) for n in range(len(found.counts))] if classes is None else [*classes]
    if len(names) > SHOWN:
        return _mistakes(found, names)
    return _matrix(found, names)


def _spread(found: Residuals) -> str:
    pairs = [(t, p) for t, p in zip(found.truth, found.predicted, strict=True) if math.isfinite(p)]
    errors = sorted(p - t for t, p in pairs)
    if not errors:
        return "<p>No prediction is finite.</p>"
    quantiles = {f"{q}%": errors[min(int(q / 100 * len(errors)), len(errors) - 1)]
                 for q in (5, 25, 50, 75, 95)}  # fmt: skip
    head = ["prediction - truth", *quantiles]
    return table(head, [["quantile", *(label(value) for value in quantiles.values())]])


def _matrix(found: Confusion, names: Sequence[str]) -> str:
    """Counts, true classes down, predicted ones across; the darker, the larger a share of a row."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = []
    for number, (name, counts) in enumerate(zip(names, found.counts, strict=True)):
        total = max(sum(counts), 1)
        cells = []
        for column, count in enumerate(counts):
            kind = "right" if column == number else "wrong"
            share = 100 * count / total
            words = f"{name} taken for {names[column]}: {count} of {total}"
            cells.append(f'<td class="{kind}" style="--s:{share:.0f}%" title="{escape(words)}">'
                         f"{count or '·'}</td>")  # fmt: skip
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        "<p>Held-out rows by true class (down) and predicted class (across); "
        f"{100 * found.accuracy:.2f}% are right.{_undecided(found)}</p>"
        '<div class="scroll"><table class="matrix">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _mistakes(found: Confusion, names: Sequence[str]) -> str:
    """Of many classes the commonest mistakes."""
    wrong = [
        (count, true, guess)
        for true, counts in enumerate(found.counts)
        for guess, count in enumerate(counts)
        if count and true != guess
    ]
    wrong.sort(key=lambda mistake: -mistake[0])
    rows = [(names[true], names[guess], str(count)) for count, true, guess in wrong[:MISTAKES]]
    words = (f"<p>{100 * found.accuracy:.2f}% of the held-out rows are right.{_undecided(found)} "
             f"Of {len(names)} classes, the commonest mistakes:</p>")  # fmt: skip
    return words + table(("class", "taken for", "rows"), rows)


def _undecided(found: Confusion) -> str:
    if not found.undecided:
        return ""
    return f" The outputs of {plural(found.undecided, 'row')} are NaN, and no class: counted wrong."


def diagnosis(history: History) -> str:
    """The findings, or that there are none."""
    findings = history.diagnose()
    if not findings:
        return f"<p>{escape(str(findings))}</p>"
    items = "".join(
        f"<li><p>{escape(f.words)}</p><p>Try: {escape(f.advice)}</p></li>" for f in findings
    )
    return f'<ul class="findings">{items}</ul>'


def numbers(history: History) -> str:
    """All scalars by epoch, for eyes that do not read curves."""
    names = [name for name in history if not isinstance(history[name][0], list)]
    every = max(1, math.ceil(len(history) / ROWS))
    shown = {*range(0, len(history), every), len(history) - 1}
    if history.best_epoch is not None:
        shown.add(history.best_epoch)
    rows = [[str(epoch + 1), *(label(history[name][epoch]) for name in names)]
            for epoch in sorted(shown)]  # fmt: skip
    words = "" if every == 1 else f"<p>One of every {every} epochs, the best and the last.</p>"
    return table(("epoch", *(name.replace("_", " ") for name in names)), rows, words)
