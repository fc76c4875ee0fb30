"""`fastbp bench`: its shapes, its checks before it times, its tables."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from fastbp.bench import peers, runner, table
from fastbp.bench.shapes import SHAPES, make_task, parse
from fastbp.kernels.cpu import bf16

ROOT = Path(__file__).resolve().parent.parent


def test_named_shapes_are_those_of_the_documents():
    assert {name: str(shape) for name, shape in SHAPES.items()} == {
        "online": "784-30-10:1",
        "notes": "784-10-10:32",
        "tabular": "20-64-64-2:32",
        "mnist": "784-128-10:128",
        "wide": "784-512-512-10:256",
        "large": "1024-2048-2048-10:512",
    }


def test_steps_of_an_epoch_are_those_asked_for_or_as_many_as_the_work_of_one_allows():
    assert parse("5-4-3:4", 7).steps == 7
    assert len(make_task(parse("5-4-3:4", 7)).X) == 7 * 4
    assert parse("5-4-3:4").steps == 600
    assert SHAPES["large"].steps == 12
    assert 12 < SHAPES["mnist"].steps < 600


def test_flops_of_a_step():
    # 3-4-2, 5 samples: forward 2*5*(12+8), weights the same, inputs of the second layer 2*5*8.
    assert parse("3-4-2:5").flops == 200 + 200 + 80


@pytest.mark.parametrize("text", ["", "mnits", "784:1", "784-10", "3-0-2:5", "3-4-1:5", "3-2:0"])
def test_bad_shapes_are_refused(text):
    with pytest.raises(ValueError, match=r"is neither one of online, notes, .* 784-128-10:128"):
        parse(text)


def test_a_task_is_the_same_in_every_process_and_has_every_class():
    one, two = make_task(parse("7-5-4:3")), make_task(parse("7-5-4:3"))
    assert one.X.tobytes() == two.X.tobytes()
    assert one.y.tobytes() == two.y.tobytes()
    assert set(one.y[:4]) == {0, 1, 2, 3}
    assert len(one.X) == 3 * one.shape.steps


@pytest.mark.parametrize("name", peers.PEERS)
def test_every_installed_peer_computes_what_the_numpy_loop_does(name):
    if name not in peers.installed():
        pytest.skip(f"{name} is not installed")
    if name == "torch.compile":
        pytest.skip("needs a C++ compiler and half a minute; fastbp bench checks it")
    if name == "fastbp bf16" and not bf16.instructions():
        pytest.skip(f"no bfloat16: {bf16.missing()}")
    task = make_task(parse("12-8-3:16"))
    peer = peers.make(name, task, 1)
    numpy = peers.make("numpy", task, 1)
    for steps in (1, 20):
        expected = numpy.losses(steps)
        assert peer.losses(steps) == pytest.approx(expected, rel=peers.PEERS[name].tolerance)
    peer.train(1)
    # Twice in a row: the start weights are back each time.
    assert peer.losses(20) == pytest.approx(expected, rel=peers.PEERS[name].tolerance)


def test_the_numpy_loops_gradient_is_that_of_its_loss():
    """One step from rest moves the weights by -lr times the gradient: central differences."""
    task = make_task(parse("5-4-3:6"))
    loop = peers.make("numpy", task, 1)
    loop._reset()
    X, y = task.X[:6].astype(float), task.y[:6]
    loop._parameters = [a.astype(float) for a in loop._parameters]
    _, gradients = loop._step(X, y)
    for parameter, gradient in zip(loop._parameters, gradients, strict=True):
        for index in np.ndindex(parameter.shape):
            kept, losses = parameter[index], []
            for move in (1e-6, -1e-6):
                parameter[index] = kept + move
                losses.append(loop._step(X, y)[0])
            parameter[index] = kept
            # h^2 of the second-order term and eps / h of the rounding: both below 1e-9.
            assert gradient[index] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-8)


@pytest.fixture(scope="module")
def result():
    return runner.run([parse("12-8-3:16")], ["fastbp"], [1], repeats=2)


def test_a_run_measures_and_checks(result):
    (entry,) = result["shapes"]
    assert entry["left_out"] == []
    assert {row["peer"] for row in entry["rows"]} == {"fastbp", "numpy"}
    for row in entry["rows"]:
        assert 0 < row["low"] <= row["us"] <= row["high"]
    assert result["roof"]["1"] > 0
    assert json.loads(json.dumps(result)) == result


def test_a_peer_that_computes_something_else_is_left_out(monkeypatch):
    """The workers' answers are replaced: one peer's loss is off by 1%."""

    def ask(self, do, **arguments):
        slow = 2.0 if self.peer == "sklearn" else 1.0
        loss = 1.01 if self.peer == "torch" else float("nan") if self.peer == "jax" else 1.0
        return {"losses": {"loss": loss}, "time": {"us": slow}, "roof": {"gflops": 100.0}}.get(
            do, {}
        )

    monkeypatch.setattr(runner.Remote, "ask", ask)
    monkeypatch.setattr(runner.Remote, "__init__", fake_remote)
    monkeypatch.setattr(runner.Remote, "__exit__", lambda *_: None)
    names = ["fastbp", "torch", "jax", "sklearn"]
    (entry,) = runner.run([parse("12-8-3:16")], names, [1, 2], repeats=3)["shapes"]
    assert {row["peer"] for row in entry["rows"]} == {"numpy", "fastbp", "sklearn"}
    assert len(entry["rows"]) == 2 * 3
    assert {out["peer"]: out["why"] for out in entry["left_out"]} == {
        "torch": "its loss over 1 steps is 1.01, the NumPy loop's 1",
        "jax": "its loss over 1 steps is nan, the NumPy loop's 1",
    }


def test_a_row_says_over_how_many_steps_its_loss_was_compared(monkeypatch):
    """With two classes scikit-learn trains one sigmoid, and only the first loss is the same."""
    replies = {"losses": {"loss": 0.5}, "time": {"us": 1.0}, "roof": {"gflops": 100.0}}
    monkeypatch.setattr(runner.Remote, "ask", lambda self, do, **_: replies.get(do, {}))
    monkeypatch.setattr(runner.Remote, "__init__", fake_remote)
    monkeypatch.setattr(runner.Remote, "__exit__", lambda *_: None)
    (entry,) = runner.run([parse("20-64-2:32")], ["fastbp", "sklearn"], [1], repeats=1)["shapes"]
    steps = {row["peer"]: row["loss_steps"] for row in entry["rows"]}
    assert steps == {"numpy": 20, "fastbp": 20, "sklearn": 1}


def fake_remote(self, peer, threads, device="cpu"):
    self.peer, self.threads, self.device = peer, threads, device


def test_a_worker_says_what_went_wrong():
    with runner.Remote("numpy", 1) as worker:
        with pytest.raises(runner.Failure, match="ValueError: shape 'x' is neither"):
            worker.ask("open", shape="x", steps=3)
        worker.ask("open", shape="3-2:1", steps=3)
        worker._process.kill()
        with pytest.raises(runner.Failure, match="its process ended"):
            worker.ask("time")


def test_tables_for_the_terminal_and_the_documents(result, tmp_path, monkeypatch):
    faked = json.loads(json.dumps(result))
    for row, us in zip(faked["shapes"][0]["rows"], (10.0, 40.0), strict=True):
        row["us"] = us if row["peer"] == "fastbp" else 40.0
    faked["roof"], faked["machine"] = {"1": 1.0}, {"processor": "a CPU"}
    headings, rows = table.cells(faked)
    ours, theirs = rows[0][1], rows[0][-1]
    assert headings == ["shape", "us/step", "threads", "GFLOP/s", "of roof", "numpy"]
    assert theirs == "40.0 (1x)" if ours == "40.0" else theirs == "40.0 (4x)"
    assert rows[0][0] == "12-8-3:16"
    if not (ROOT / "benchmarks" / "report.py").is_file():
        pytest.skip("the tests run outside the source tree")
    report = runpy.run_path(str(ROOT / "benchmarks" / "report.py"))
    assert "| 12-8-3:16 |" in report["summary"](faked)
    assert "a CPU" in report["details"](faked)
    text = f"a\n{report['BEGIN']}\nold\n{report['END']}\nb\n"
    assert report["between_marks"](text, "new") == text.replace("old", "new")


def test_the_model_of_scale_finds_the_costs_it_was_made_of():
    from fastbp.bench import scaling

    rows = [
        {"ranks": 1, "threads": 1, "us": 1000.0 + 200.0, "sum_us": 0.0, "call_us": 0.0},
        {"ranks": 2, "threads": 1, "us": 500.0 + 200.0 + 50.0, "sum_us": 50.0, "call_us": 1.0},
        {"ranks": 1, "threads": 2, "us": 600.0, "sum_us": 0.0, "call_us": 0.0},
    ]
    entry = {"name": "a", "shape": "784-128-10:128", "rows": rows}
    costs = scaling.fitted(entry)
    assert (costs.shared, costs.repeated) == (1000.0, 200.0)
    assert costs.bytes == 4 * (785 * 128 + 129 * 10)
    network = scaling.Interconnect("quick", 1e12, 0.0)
    assert costs.step(4, 1, network) == pytest.approx(1000 / 4 + 200)
    slow = scaling.Interconnect("slow", costs.bytes / 100.0, 3.0)  # 100 us to move a gradient once
    assert costs.step(2, 1, slow) == pytest.approx(500 + 200 + 100 + 6)
    assert (costs.best(1, network), costs.best(1, slow)) == (32, 8)
    head, lines = scaling.measured({"ranks": [1, 2], "shapes": [entry]})
    assert len(head) == len(lines[0]) == 6
    assert lines[1][4] == "80%"
