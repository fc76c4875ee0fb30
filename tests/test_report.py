"""The page: whole by itself, true to the history, safe with any names."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from fastbp import Adam, Dense, History, Network, Trainer
from fastbp.outcome import Confusion, Omitted, Residuals, outcome_of
from fastbp.report.charts import Chart
from fastbp.report.scales import Scale, fit
from fastbp.report.sections import charts

VOID = {"meta", "line", "path", "circle", "br"}
RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 4))


class Page(HTMLParser):
    """Checks that every element is closed in order; collects texts, JSON and addresses."""

    def __init__(self, text):
        super().__init__()
        self.open, self.json, self.addresses, self.words = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.addresses += [v for k, v in attributes if k in {"src", "href", "xlink:href"}]
        self.data = tag == "script" and ("type", "application/json") in attributes
        self.open += [tag] if tag not in VOID else []

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            if self.data:
                self.json.append(json.loads(data))
        else:
            self.words += data


@pytest.fixture(scope="module")
def trained():
    """A classifier of three classes and its history with held-out data."""
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
    net = Network(4, [Dense(8, "relu"), Dense(3, "softmax")], seed=1)
    trainer = Trainer(net, Adam(1e-2), 16, metrics="accuracy", early_stopping=True, progress=False)
    return net, trainer.fit(X[:60], y[:60], epochs=6, validation=(X[60:], y[60:])), y


def page(history, path, **options):
    history.report(path, **options)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(", text)  # nothing from elsewhere
    found = Page(text)
    assert found.addresses == []
    return found, text


def test_the_page_says_what_the_history_says(trained, tmp_path):
    net, history, y = trained
    found, _ = page(history, tmp_path / "run.html", title="A <run>", classes=["a", "b<", "c"])
    assert "A <run>" in found.words  # escaped in the text, or the parser had seen an element
    assert len(found.json) == 4
    loss = found.json[0]
    assert loss["names"] == ["training", "held out"]
    assert loss["epochs"] == [1, 2, 3, 4, 5, 6]
    assert [float(v) for v in loss["values"][0]] == pytest.approx(history.loss, rel=1e-3)
    assert [float(v) for v in loss["values"][1]] == pytest.approx(history.validation_loss, rel=1e-3)
    norms = found.json[3]
    assert norms["names"] == ["layer 0", "layer 1"]
    last = [row[1] for row in history.gradient_norm]
    assert [float(v) for v in norms["values"][1]] == pytest.approx(last, rel=1e-3)
    predicted = net.predict(X[60:])
    zeros = np.bincount(predicted[y[60:] == 0], minlength=3)
    assert history.outcome.counts[0] == zeros.tolist()
    right = 100 * np.mean(predicted == y[60:])
    assert f"{right:.2f}% are right" in found.words
    for row in net.summary().rows:
        assert row[2] in found.words
    assert str(history.diagnose()).split("\n")[0] in found.words
    assert [p.name for p in tmp_path.iterdir()] == ["run.html"]


def test_a_regression_has_its_residuals(tmp_path):
    net = Network(4, [Dense(1)], seed=1)
    trainer = Trainer(net, progress=False)
    history = trainer.fit(X, X[:, 0], epochs=2, validation=(X[:30], X[:30, 0]))
    assert history.outcome.truth == pytest.approx(X[:30, 0], rel=1e-6)
    assert history.outcome.predicted == pytest.approx(net.predict(X[:30]), rel=1e-6)
    found, _ = page(history, tmp_path / "run.html")
    points = found.json[-1]["points"]
    assert len(points) == 30
    assert float(points[3][2]) == pytest.approx(X[3, 0], rel=1e-3)
    assert "prediction - truth" in found.words


def test_other_data_and_none(trained, tmp_path):
    net, history, y = trained
    found, _ = page(history, tmp_path / "other.html", network=net, data=(X, y))
    assert f"{100 * net.evaluate(X, y, 'accuracy')['accuracy']:.2f}% are right" in found.words
    bare = Trainer(Network(4, [Dense(1)]), progress=False).fit(X, X[:, 0])
    assert bare.outcome is None
    assert "No data were held out" in page(bare, tmp_path / "bare.html")[0].words
    alone = History({"loss": [1.0, float("nan")], 'odd"<name>': [0.5, 0.25]})
    found, _ = page(alone, tmp_path / "alone.html")
    assert 'odd"<name>' in found.words
    assert found.json[0]["values"] == [["1", "-"]]


@pytest.mark.parametrize(
    ("epochs", "stopped", "words"),
    [
        (1, "", "Trained for 1 epoch."),
        (2, "enough", "Trained for 2 epochs. Stopped: enough."),
        (2, "the loss is nan; try a smaller rate.", "nan; try a smaller rate.\n"),
    ],
)
def test_the_first_sentence_is_one(tmp_path, epochs, stopped, words):
    history = History.from_dict({"loss": [1.0] * epochs}, stopped=stopped)
    text = page(history, tmp_path / "run.html")[1]
    sentence = re.search("Trained for [^<]*", text).group(0)
    assert words in sentence + "\n"
    assert ".." not in sentence


def test_of_many_epochs_the_best_and_the_last_are_in_the_table(tmp_path):
    history = History.from_dict({"loss": list(np.linspace(2, 1, 402))}, best_epoch=100)
    text = page(history, tmp_path / "run.html")[1]
    first = re.findall(r"<tr><td>(\d+)</td>", text[text.index("Numbers by epoch") :])
    assert [int(epoch) for epoch in first] == sorted({*range(1, 403, 3), 101, 402})


def test_what_it_refuses_leaves_no_file(trained, tmp_path):
    net, history, _ = trained
    with pytest.raises(ValueError, match="no epochs to report"):
        History().report(tmp_path / "run.html")
    with pytest.raises(ValueError, match="network and data, or neither"):
        history.report(tmp_path / "run.html", network=net)
    with pytest.raises(TypeError, match=r"data must be \(X, y\)"):
        history.report(tmp_path / "run.html", network=net, data=X)
    with pytest.raises(ValueError, match="classes has 2 names, and there are 3 classes"):
        history.report(tmp_path / "run.html", classes=["a", "b"])
    with pytest.raises(FileNotFoundError, match="is not a directory: make it first"):
        history.report(tmp_path / "none" / "run.html")
    assert list(tmp_path.iterdir()) == []


def test_many_epochs_and_many_classes_stay_readable(tmp_path):
    chart = Chart("Loss", {"loss": [1.0 / (e + 1) for e in range(12_345)]}, log=True)
    assert 900 <= len(chart.epochs) <= 1001
    assert (chart.epochs[0], chart.epochs[-1]) == (0, 12_344)
    history = History({"loss": [1.0]})
    counts = np.diag(np.full(40, 5))
    counts[7, 3] = 2
    history.outcome = Confusion(counts.tolist())
    words = page(history, tmp_path / "run.html")[0].words
    assert "Of 40 classes, the commonest mistakes" in words
    assert "732" in words  # class 7, taken for 3, 2 times


def test_outcomes_of_every_kind():
    binary = Network(4, [Dense(1, "sigmoid")])
    labels = (X[:, 0] > 0).astype(int)
    counts = np.array(outcome_of(binary, X, labels).counts)
    assert counts.sum(axis=1).tolist() == np.bincount(labels).tolist()
    assert counts[:, 1].sum() == binary.predict(X).sum()
    each = outcome_of(Network(4, [Dense(2, "sigmoid")]), X, X[:, :2] > 0)
    assert each == Omitted("Of several labels a row there is no confusion matrix.")
    many = outcome_of(Network(4, [Dense(1001, "softmax")]), X, labels)
    assert many == Omitted("Of 1,001 classes no confusion matrix is kept.")
    several = outcome_of(Network(4, [Dense(3)]), np.tile(X, (10, 1)), np.tile(X[:, :3], (10, 1)))
    assert isinstance(several, Residuals)
    assert len(several.truth) == 1000


def test_gaps_and_single_points():
    nan = float("nan")
    svg = Chart("x", {"a": [1.0, nan, 2.0, 3.0]}).svg()
    assert re.search(r'd="M[\d. ]+ h0.01 M[\d. ]+ L[\d. ]+"', svg)
    middle = Chart("x", {"a": [nan, 2.0, nan], "b": [1.0, 2.0, 3.0]}).svg()
    assert re.search(r'd="M[\d. ]+ h0.01"', middle)
    assert 'h0.01"' in Chart("x", {"a": [1.0]}).svg()
    assert "NaN" not in Chart("x", {"a": [nan, nan]}).html()


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("low", [1e-9, 0.3, 7.0, 123.4])
@pytest.mark.parametrize("spread", [1.0, 1.0001, 3.1, 90.0, 1e7])
def test_scales_have_ticks_within_them(low, spread, log):
    scale = fit([low, low * spread], 200, 0, log)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(0 <= scale(tick) <= 200 for tick in ticks)
    assert scale(low * spread) <= scale(low)


@pytest.mark.parametrize("log", [False, True])
def test_a_logarithmic_chart_places_values_by_their_logarithms(log):
    svg = Chart("x", {"a": [1.0, 0.1, 0.01]}, log=log).svg()
    path = re.search(r'class="curve"[^>]* d="([^"]+)"', svg)[1]
    first, second, third = (float(point.split()[1]) for point in re.split("[ML]", path)[1:])
    middle = (first + third) / 2
    assert (second == pytest.approx(middle, abs=0.11)) is log  # written to a tenth
    assert first < second < third


def test_scale_maps_ends():
    assert [Scale(2.0, 4.0, 10.0, 30.0)(v) for v in (2.0, 3.0, 4.0)] == [10.0, 20.0, 30.0]


def test_notebooks_show_tables_and_curves(trained):
    net, history, _ = trained
    found = Page(history._repr_html_())
    assert len(found.json) == 4
    assert "held-out accuracy" in found.words
    assert "<script>" not in history._repr_html_()
    assert "0 epochs" in History()._repr_html_()
    assert "(4, 8)" in Page(net.summary()._repr_html_()).words


def test_rows_whose_outputs_are_nan_are_counted_wrong(trained, tmp_path):
    _, history, y = trained
    net = Network(4, [Dense(3, "softmax")], seed=1)
    net.layers[0].W[0, 0] = 3e38
    other = np.concatenate([np.full((10, 4), 1e5), X[10:]])
    other[10:, 0] = 0.0
    found = outcome_of(net, other, y)
    assert np.isnan(net.forward(other)).any(axis=1).sum() == found.undecided == 10
    right = (net.predict(other[10:]) == y[10:]).sum()
    assert found.accuracy == right / 80
    words = page(history, tmp_path / "nan.html", network=net, data=(other, y))[0].words
    assert f"{100 * right / 80:.2f}% are right. The outputs of 10 rows are NaN" in words


def test_a_training_that_was_cut_short_says_so(tmp_path):
    def stop(state):
        if state.epoch == 2:
            raise KeyboardInterrupt

    trainer = Trainer(Network(4, [Dense(1)]), progress=False)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, X[:, 0], epochs=9, validation=0.2, callbacks=[stop])
    words = page(trainer.history, tmp_path / "cut.html")[0].words
    assert "the training has not come to its end" in words
    assert "5 parameters" in words
    assert "No data were held out" not in words
    trainer.fit(X, X[:, 0])
    assert "No data were held out" in page(trainer.history, tmp_path / "next.html")[0].words


def test_no_metric_takes_anothers_name():
    def names(metrics):
        trainer = Trainer(Network(4, [Dense(1)]), metrics=metrics, progress=False)
        return list(charts(trainer.fit(X, X[:, 0], validation=0.2))[1].curves)

    one = {"a_b": lambda y, out: 1.0, "a b": lambda y, out: 2.0}
    assert names(one) == ["validation_a_b", "validation_a b"]
    assert names({"my_validation_x": one["a_b"]}) == ["held-out my validation x"]
