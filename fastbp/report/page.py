"""The page: its parts in order, with style and script inside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import replacing
from ..errors import plural, shown
from ..outcome import Confusion, Outcome, outcome_of
from . import sections

if TYPE_CHECKING:
    from ..history import History
    from ..network import Network


def report(
    history: History,
    path: str | Path,
    network: Network | None,
    data: tuple[Any, Any] | None,
    title: str | None,
    classes: Sequence[Any] | None,
) -> None:
    """`History.report`: the file appears whole or not at all."""
    _check(history, path, network, data, title)
    summary, outcome = history.summary, history.outcome
    if network is not None and data is not None:
        summary, outcome = network.summary(), outcome_of(network, *data)
    names = None if classes is None else [str(name) for name in classes]
    counted = len(outcome.counts) if isinstance(outcome, Confusion) else None
    if names is not None and counted is not None and len(names) != counted:
        raise ValueError(f"classes has {len(names)} names, and there are {counted} classes")
    text = _page(history, summary, outcome, title or "Training", names)
    with replacing(Path(path)) as temporary:
        # A name of a file that is no UTF-8 comes in halves of characters.
        temporary.write_text(text, encoding="utf-8", errors="replace")


def _check(history: History, path: Any, network: Any, data: Any, title: Any) -> None:
    """Refuse what no page can be made of."""
    if not len(history):
        raise ValueError("history.report: there are no epochs to report; call fit first.")
    if (network is None) != (data is None):
        raise ValueError("history.report: give network and data, or neither of them")
    if data is not None and (not isinstance(data, tuple | list) or len(data) != 2):
        raise TypeError("history.report: data must be (X, y)")
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"history.report: path={shown(path)} must be a file's name")
    if not isinstance(title, str | None):
        raise TypeError(f"history.report: title={shown(title)} must be a text")


def _page(
    history: History,
    summary: Any,
    outcome: Outcome | None,
    title: str,
    classes: Sequence[str] | None,
) -> str:
    charts = "".join(chart.html() for chart in sections.charts(history))
    stopped = f" Stopped: {history.stopped.rstrip('.')}." if history.stopped else ""
    parts = [
        _section("Curves", f'<div class="charts">{charts}</div>'),
        _section("Held-out data", sections.outcome(outcome, classes, history)),
        _section("Network", sections.network(summary)),
        _section("Diagnosis", sections.diagnosis(history)),
        f"<details><summary>Numbers by epoch</summary>{sections.numbers(history)}</details>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_asset('style.css')}</style></head>"
        f"<body><main class=fastbp><header><h1>{escape(title)}</h1>"
        f"<p>Trained for {plural(len(history), 'epoch')}.{escape(stopped)}</p>"
        f"{sections.tiles(history)}"
        f"</header>{''.join(parts)}<footer>fastbp {version('fastbp')}</footer></main>"
        f"<script>{_asset('script.js')}</script></body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _asset(name: str) -> str:
    return files(__package__ or __name__).joinpath(name).read_text(encoding="utf-8")


def notebook(history: History) -> str:
    """What a notebook shows of a history: figures and curves, without a script."""
    if not len(history):
        return f"<p>{escape(repr(history))}</p>"
    charts = "".join(chart.html() for chart in sections.charts(history))
    return (
        f"<style>{_asset('style.css')}</style><div class='fastbp small'>"
        f"{sections.tiles(history)}<div class='charts'>{charts}</div></div>"
    )
