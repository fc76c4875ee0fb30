"""The progress bar: where it shows, what it says, and that it leaves no trace behind."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import types
from typing import Any

import pytest

from fastbp import progress as p


def test_it_shows_in_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(p.make_progress(None, 3, 10)) is p.Progress
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert type(p.make_progress(None, 3, 10)) is p.TerminalProgress
    assert type(p.make_progress(False, 3, 10)) is p.Progress
    monkeypatch.setattr(sys, "stderr", None)  # pythonw
    assert type(p.make_progress(None, 3, 10)) is p.Progress


@pytest.mark.parametrize("value", [1, "yes", 0.5])
def test_progress_must_be_a_flag(value: Any) -> None:
    with pytest.raises(TypeError, match="progress="):
        p.make_progress(value, 3, 10)


def test_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with p.Progress(20, 10) as bar:
        now = 3.0
        record = {
            "epoch": 1, "loss": 0.123456, "validation_loss": 2.0, "lr": 1e-3, "seconds": 9.0,
            "gradient_norm": [1.0], "validation_accuracy": 0.975,
        }  # fmt: skip
        bar.update(24_690, record)
        assert bar.text() == (
            "epoch 20/20  loss 0.1235  val loss 2  lr 0.001  val accuracy 0.975  12,345 steps/s"
        )
        bar.update(0, {})
        assert bar.text() == "epoch 1/20"
    assert (p.Progress(None, 10).share, p.Progress(4, 10).share) == (None, 0.0)


def test_it_draws_ten_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now, drawn = 1.0, []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bar = p.Progress(1, 1000)
    monkeypatch.setattr(bar, "draw", lambda: drawn.append(now))
    for _ in range(100):
        now += 0.01
        bar.update(1)
    assert 10 <= len(drawn) <= 11


@pytest.mark.parametrize("epochs", [3, None])
def test_the_terminal_bar_writes_to_stderr(epochs: int | None, capsys: Any) -> None:
    out, err = sys.stdout, sys.stderr
    with p.TerminalProgress(epochs, 10) as bar:
        bar.update(10, {"loss": 0.25, "[bold]": 1.0})
        bar.update(20, {"loss": 0.125})
        print("a callback prints")
    assert (sys.stdout, sys.stderr) == (out, err)
    captured = capsys.readouterr()
    assert "loss 0.125" in captured.err
    assert "loss" not in captured.out
    assert "a callback prints" in captured.out + captured.err


def _interrupted() -> None:
    with p.TerminalProgress(3, 10) as bar:
        bar.update(10, {"loss": 0.25})
        raise KeyboardInterrupt


def test_an_error_closes_the_bar(capsys: Any) -> None:
    out = sys.stdout
    with pytest.raises(KeyboardInterrupt):
        _interrupted()
    assert sys.stdout is out
    assert "loss 0.25" in capsys.readouterr().err


def test_the_callers_own_display_keeps_the_screen(capsys: Any) -> None:
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True)) as own:
        own.add_task("theirs")
        with p.TerminalProgress(3, 10) as bar:
            bar.update(10, {"loss": 0.25})
    assert "theirs" in capsys.readouterr().err


def test_the_notebook_bar_updates_one_output(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, html: str) -> None:
            shown.append(html)

    display = types.ModuleType("IPython.display")
    display.HTML = str  # type: ignore[attr-defined]
    display.display = lambda html, display_id: shown.append(html) or Handle()  # type: ignore[attr-defined]
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=1)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert p.in_notebook()
    with p.make_progress(None, 2, 10) as bar:
        assert isinstance(bar, p.NotebookProgress)
        bar.update(10, {"loss": 0.5, "<b>": 1.0})
    assert shown[0] == '<progress value="0.0000"></progress> <code>epoch 1/2</code>'
    assert shown[-1].startswith('<progress value="0.5000"></progress> <code>epoch 2/2  loss 0.5')
    assert "&lt;b&gt; 1" in shown[-1]
    ipython.get_ipython = lambda: None  # type: ignore[attr-defined]
    assert not p.in_notebook()


def test_rich_is_not_imported_where_nothing_is_shown() -> None:
    code = (
        "import sys; from fastbp.progress import make_progress\n"
        "with make_progress(None, 1, 1) as bar: bar.update(1)\n"
        "assert 'rich' not in sys.modules and 'IPython' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.PIPE, timeout=60)


class _Logger:
    """What programs put in the place of standard error."""

    def write(self, text: str) -> None: ...
    def flush(self) -> None: ...


class _Gone(_Logger):
    """A terminal that went away."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        raise OSError(5, "Input/output error")

    flush = write  # type: ignore[assignment]


@pytest.mark.parametrize("progress", [None, True])
@pytest.mark.parametrize("kind", ["logger", "closed", "gone"])
def test_no_bar_ends_a_training(
    monkeypatch: pytest.MonkeyPatch, kind: str, progress: bool | None
) -> None:
    closed = io.StringIO()
    closed.close()
    streams = {"logger": _Logger(), "closed": closed, "gone": _Gone()}
    monkeypatch.setattr(sys, "stderr", streams[kind])
    with p.make_progress(progress, 2, 10) as bar:
        for done in (5, 10, 20):
            bar._drawn = 0.0
            bar.update(done, {"loss": 1.0})
