"""History: plain lists by name that stay aligned, and travel."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp import run
from fastbp.epochs import BY_LAYER, SCALARS
from fastbp.history import History


def _history() -> History:
    history = History()
    for epoch in range(3):
        history.append_epoch(
            loss=np.float32(1.0 / (epoch + 1)),
            validation_loss=2.0,
            lr=0.1,
            seconds=0.5,
            gradient_norm=np.array([0.1, 0.2], dtype=np.float32),
            accuracy=0.25 * epoch,
            validation_accuracy=np.float64(0.5),
        )
    return history


def _same(a: Any, b: Any) -> bool:
    return json.dumps(a) == json.dumps(b)


def test_values_are_plain() -> None:
    history = _history()
    assert history.loss == [1.0, 0.5, float(np.float32(1 / 3))]
    assert all(type(value) is float for value in history.loss)
    assert history.gradient_norm[0] == pytest.approx([0.1, 0.2], rel=1e-6)
    assert type(history.gradient_norm[0]) is list
    assert list(history.metrics) == ["accuracy", "validation_accuracy"]
    assert history.metrics["accuracy"] == history["accuracy"] == history.accuracy == [0, 0.25, 0.5]
    assert len(history) == 3
    assert json.loads(json.dumps(history.to_dict())) == history.to_dict()


def test_a_fit_records_every_column_by_layer() -> None:
    assert [*run._FIGURES] == [*BY_LAYER]


def test_what_was_not_recorded_is_empty_and_a_slip_is_an_error() -> None:
    history = _history()
    for name in [*SCALARS, *BY_LAYER]:
        assert name in history or (getattr(history, name) == [] and history[name] == [])
    with pytest.raises(AttributeError, match="no 'acuracy'; did you mean 'accuracy'"):
        _ = history.acuracy
    with pytest.raises(KeyError, match="did you mean 'validation_accuracy'"):
        history["validation_acc"]
    assert not hasattr(history, "_secret")
    assert {"loss", "accuracy", "update_norm"} <= set(dir(history))


def test_late_and_missing_values_are_nan() -> None:
    history = _history()
    history.append_epoch(loss=0.1, update_norm=[1.0, 2.0], f1_macro=None)
    assert math.isnan(history.validation_loss[3])
    assert [math.isnan(v) for v in history.update_norm[2]] == [True, True]
    assert history.update_norm[3] == [1.0, 2.0]
    assert np.isnan(history.gradient_norm[3]).tolist() == [True, True]
    assert "f1_macro" not in history
    assert {len(column) for column in history.to_dict().values()} == {4}


def test_the_array_has_the_same_numbers() -> None:
    history = _history()
    array = history.to_array()
    assert array.shape == (3,)
    assert array["epoch"].tolist() == [0, 1, 2]
    assert array["loss"].tolist() == history.loss
    assert array["gradient_norm"].shape == (3, 2)
    assert array["gradient_norm"].tolist() == history.gradient_norm
    assert set(array.dtype.names or ()) == {"epoch", *history}
    assert History().to_array().shape == (0,)


def test_copies_are_equal_and_apart() -> None:
    history = _history()
    history.stopped, history.best_epoch = "enough", 1
    for again in (
        pickle.loads(pickle.dumps(history)),
        copy.deepcopy(history),
        History.from_dict(history.to_dict(), "enough", 1),
    ):
        assert _same(again.to_dict(), history.to_dict())
        assert (again.stopped, again.best_epoch, len(again)) == ("enough", 1, 3)
        again.append_epoch(loss=0.0)
        assert len(history) == len(history.loss) == 3
    history.to_dict()["gradient_norm"][0][0] = 99.0
    assert history.gradient_norm[0][0] != 99.0


def test_it_is_read_as_a_dict_is() -> None:
    history = _history()
    assert dict(history) == {**history} == history.to_dict()
    assert list(history.keys()) == list(history)
    assert list(history.items()) == [(name, history[name]) for name in history]
    assert list(history.values()) == [history[name] for name in history]
    np.testing.assert_array_equal(np.asarray(history), history.to_array())


def test_records() -> None:
    history = _history()
    assert history.record()["epoch"] == 2
    assert history.record(0) == {
        "epoch": 0, "loss": 1.0, "validation_loss": 2.0, "lr": 0.1, "seconds": 0.5,
        "gradient_norm": history.gradient_norm[0], "accuracy": 0.0, "validation_accuracy": 0.5,
    }  # fmt: skip
    for epoch in (3, -4):
        with pytest.raises(IndexError, match=f"epoch={epoch} is not there: the history has 3"):
            history.record(epoch)


def test_an_interrupted_append_leaves_no_trace() -> None:
    history = _history()
    history._columns["loss"].append(5.0)  # as if Ctrl-C had come here
    history.append_epoch(loss=6.0)
    assert history.loss[3:] == [6.0]
    assert {len(column) for column in history.to_dict().values()} == {4}


def test_repr_is_short() -> None:
    history = _history()
    history.stopped, history.best_epoch = "the loss has not improved", 1
    assert repr(history) == (
        "History(3 epochs: loss 1 -> 0.3333, validation_loss 2, accuracy 0.5, "
        "validation_accuracy 0.5, best epoch 1, stopped: the loss has not improved)"
    )
    assert repr(History()) == "History(0 epochs)"
    assert bool(History())


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_plot(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    history = _history()
    history.best_epoch = 1
    path = tmp_path / f"run.{suffix}"
    figure = history.plot(path)
    assert path.stat().st_size > 1000
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Loss", "Metrics", "Rate", "Gradient norm"]
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    assert lines["training"].get_ydata().tolist() == history.loss
    assert lines["layer 1"].get_ydata().tolist() == [row[1] for row in history.gradient_norm]
    assert lines["training"].get_xdata().tolist() == [1, 2, 3]


def test_a_picture_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure

    def fail(self: object, path: Path, **_: object) -> None:
        Path(path).write_text("half of a picture")
        raise OSError("No space left on device")

    path = tmp_path / "run.png"
    path.write_text("the one before")
    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="No space left"):
        _history().plot(path)
    assert [file.name for file in tmp_path.iterdir()] == ["run.png"]
    assert path.read_text() == "the one before"


@pytest.mark.parametrize("rates", [[1.0, np.nan, 0.01], [np.nan, 1.0, 0.01]])
def test_an_axis_is_logarithmic_by_what_is_finite(rates: list[float]) -> None:
    pytest.importorskip("matplotlib")
    figure = History({"loss": [1.0, 0.9, 0.8], "lr": rates}).plot()
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log"]


def test_plot_of_one_epoch_and_of_little(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    history = History()
    history.append_epoch(loss=0.5)
    assert len(history.plot().axes) == 1
    with pytest.raises(ValueError, match="no epochs to draw"):
        History().plot()
    with pytest.raises(ValueError, match=r"path='.*run\.xyz' has no ending .* \.png"):
        history.plot(tmp_path / "run.xyz")


def test_plot_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'fastbp\[plot\]'"):
        _history().plot()


def test_a_copy_does_not_grow_with_the_history() -> None:
    history = _history()
    kept = copy.copy(history)
    history.append_epoch(loss=9.0)
    assert len(kept) == len(kept.loss) == 3
    assert kept.to_array().shape == (3,)


def test_any_name_may_have_values_by_layer(tmp_path: Path) -> None:
    history = History()
    for _ in range(2):
        history.append_epoch(self=0.5, loss=0.5, sparsity=[0.1, 0.2])
    assert repr(history) == "History(2 epochs: self 0.5, loss 0.5 -> 0.5)"
    assert "sparsity" not in history.metrics
    assert "sparsity" not in history._repr_html_()
    history.report(tmp_path / "run.html")
    with pytest.raises(ValueError, match=r"sparsity=0.3 is of another form"):
        history.append_epoch(sparsity=0.3)
    assert len(history) == len(history.loss) == 2


@pytest.mark.parametrize(
    ("given", "words"), [({"path": None}, "path=None must"), ({"title": 5}, "title=5 must")]
)
def test_a_report_names_what_is_wrong(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        _history().report(**{"path": tmp_path / "run.html", **given})


def test_a_history_without_anything_to_draw_says_so() -> None:
    with pytest.raises(ValueError, match="nothing to draw was recorded, only seconds"):
        History({"seconds": [1.0]}).plot()


def test_the_plot_names_every_curve_as_it_is_and_shows_lone_epochs() -> None:
    pytest.importorskip("matplotlib")
    nan = float("nan")
    history = History({"loss": [1.0, nan, 2.0, 3.0], "_cost": [1.0] * 4, "$x_$": [2.0] * 4})
    loss, metrics = history.plot().axes
    assert [text.get_text() for text in metrics.get_legend().get_texts()] == ["cost", "$x $"]
    assert loss.get_lines()[0].get_markevery() == [0]
