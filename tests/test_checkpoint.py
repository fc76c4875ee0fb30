"""Checkpoints: a training cut short anywhere ends as if it never had been, to the last bit."""

from __future__ import annotations

import copy
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_support import WEIGHTS, X, Y, network, standing

import fastbp
from fastbp import Network, Trainer, atomic, checkpoint, tree
from fastbp.keeper import Every, Keeper
from fastbp.kernels.cpu.jit import JIT_DISABLED

ROOT = Path(__file__).resolve().parent.parent

# What is kept besides weights: rows, counters, rates, rules, history, addresses, sums of an epoch.
MANNERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "adam": ({}, {}),
    "sgd without rows": ({"optimizer": "sgd", "sampling": "replacement"}, {}),
    "adadelta, weights": ({"optimizer": "adadelta"}, {"sample_weight": WEIGHTS}),
    "cosine over the fit": ({"optimizer": fastbp.AdamW(fastbp.Cosine(0.01))}, {}),
    "one cycle": ({"optimizer": fastbp.SGD(fastbp.OneCycle(0.1), momentum=0.9)}, {}),
    "plateau": (
        {"optimizer": fastbp.SGD(fastbp.ReduceOnPlateau(0.5, patience=1))},
        {"validation": 0.2},
    ),
    "callable": ({"optimizer": fastbp.Adam(lambda step: 0.01 / (1 + step))}, {}),
    "noise, clips, decay": (
        {"perturbation": 0.1, "clip_norm": 0.5, "weight_decay": 1e-3, "optimizer": "nesterov"},
        {},
    ),
    "early stopping": (
        {"early_stopping": fastbp.EarlyStopping(patience=2), "optimizer": fastbp.Adam(0.05)},
        {"validation": 0.3},
    ),
    "rules": (
        {"stopping": [fastbp.NoChange(0.03, patience=2), fastbp.TimeBudget(3600)]},
        {"validation": (X[:9], Y[:9])},
    ),
    "restarts": ({"restarts": 3, "early_stopping": True}, {"validation": 0.2}),
    "full batch": ({"batch_size": None, "metrics": "accuracy"}, {}),
}


def fit(trainer: Trainer, epochs: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return standing(trainer, trainer.fit(X, Y, epochs=epochs, **arguments))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Copies of every checkpoint that is written, in order."""
    copies: list[Path] = []
    plain = checkpoint.write

    def write(trainer: Trainer, path: Path) -> None:
        plain(trainer, path)
        copies.append(Path(shutil.copy(path, tmp_path / f"copy{len(copies)}")))

    monkeypatch.setattr(checkpoint, "write", write)
    return copies


@pytest.mark.parametrize("manner", MANNERS)
def test_the_end_is_that_of_the_uninterrupted_run(
    manner: str, kept: list[Path], tmp_path: Path
) -> None:
    options, arguments = MANNERS[manner]
    options = {"optimizer": "adam", "batch_size": 8, "progress": False, **options}

    def trainer(**more: Any) -> Trainer:
        return Trainer(network(), **options, **more)

    plain = trainer()
    fit(plain, 2, arguments)  # a finished fit before the one that is cut short
    want = fit(plain, 4, arguments)
    watched = trainer(checkpoint=tmp_path / "run", every="3 steps")
    fit(watched, 2, arguments)
    before = len(kept)
    assert fit(watched, 4, arguments) == want  # writing changes nothing
    cuts = kept[before:-1]
    assert len(cuts) >= (1 if manner == "full batch" else 4)
    for cut in cuts[:: max(1, len(cuts) // 8)]:
        again = trainer()
        assert again.resume(cut) >= 1
        assert fit(again, 4, arguments) == want, cut
    ended = trainer()
    assert ended.resume(kept[-1]) == 0
    assert fit(ended, 1, arguments) == fit(plain, 1, arguments)


@pytest.mark.parametrize("every", ["1 epoch", 2, "7 steps", "0.000001 seconds"])
def test_when_checkpoints_are_written(every: Any, kept: list[Path], tmp_path: Path) -> None:
    trainer = Trainer(network(), batch_size=8, checkpoint=tmp_path / "run", every=every)
    trainer.fit(X, Y, epochs=5)
    steps = [Trainer(network(), batch_size=8).resume(path) for path in kept]  # epochs left
    expected = {
        "1 epoch": [4, 3, 2, 1, 0],
        2: [3, 1, 0],
        "7 steps": [4, 3, 2, 1, 0],  # with the end of each epoch of 7 steps
        "0.000001 seconds": [4, 3, 2, 1, 0],
    }[every]
    if every == "0.000001 seconds":  # between chunks, too, which the clock decides
        steps = sorted(set(steps), reverse=True)
        expected = [epochs for epochs in (5, *expected) if epochs in steps]
        assert set(steps) >= {4, 3, 2, 1, 0}
    assert steps == expected


def test_steps_between_checkpoints_are_counted_from_the_trainers_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer = Trainer(network(), batch_size=8, sampling="order")
    trainer.fit(X[:24], Y[:24])  # 3 steps
    trainer.checkpoint, trainer.every = tmp_path / "run", "5 steps"  # type: ignore[assignment]
    steps: list[int] = []
    monkeypatch.setattr(checkpoint, "write", lambda trainer, path: steps.append(trainer.step))
    trainer.fit(X, Y, epochs=2)
    assert steps[:3] == [5, 10, 15]


def test_the_clock_begins_anew_with_a_checkpoint(tmp_path: Path) -> None:
    keeper = Keeper(Trainer(network(), checkpoint=tmp_path / "run", every="1 hour"))
    assert not keeper.due_within_epoch()
    keeper.written -= 3601.0
    assert keeper.due_within_epoch()
    keeper.write()
    assert not keeper.due_within_epoch()


def test_a_checkpoint_is_a_network_too(tmp_path: Path) -> None:
    trainer = Trainer(network("float64"), checkpoint=tmp_path / "run")
    trainer.fit(X, Y)
    net = Network.load(tmp_path / "run")
    assert net.forward(X).tobytes() == trainer.network.forward(X).tobytes()
    net.save(tmp_path / "net")
    with pytest.raises(ValueError, match="cannot be resumed from: it is a network without a train"):
        trainer.resume(tmp_path / "net")


def test_saved_by_hand_after_an_interrupt_and_in_a_callback(tmp_path: Path) -> None:
    path = tmp_path / "run"

    def interrupt(state: fastbp.State) -> None:
        state.trainer.save(path)
        if state.epoch == 1:
            raise KeyboardInterrupt

    one, two = Trainer(network(), batch_size=8), Trainer(network(), batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        one.fit(X, Y, epochs=4, callbacks=[interrupt])
    again = Trainer(network(), batch_size=8)
    assert again.resume(path) == 2
    assert fit(again, 4, {}) == fit(two, 4, {})
    one.save(path)  # now it is between fits
    assert again.resume(path) == 0
    assert (again.epoch, again.step) == (2, 14)


@pytest.mark.parametrize(
    "options",
    [
        {"early_stopping": fastbp.EarlyStopping("loss", patience=1, min_delta=np.float32(0.5))},
        {"restarts": 2},
        {"restarts": 2, "early_stopping": fastbp.EarlyStopping("loss", patience=1, min_delta=0.5)},
        {"optimizer": fastbp.Adam(fastbp.Cosine(np.float64(0.01), steps=9)), "restarts": 3},
        {},
    ],
)
def test_resumed_behind_its_last_epoch_a_fit_is_at_its_end(
    options: dict[str, Any], tmp_path: Path, recwarn: Any
) -> None:
    """A callback wrote it after the last epoch; the best weights, of the best start, come after."""
    path = tmp_path / "run"

    def made() -> Trainer:
        return Trainer(network(), batch_size=8, progress=False, **copy.deepcopy(options))

    one, two = made(), made()
    one.fit(X, Y, epochs=3, callbacks=[lambda state: state.trainer.save(path)])
    assert two.resume(path) == 0
    assert two.network.parameters.tobytes() == one.network.parameters.tobytes()
    assert two.state.tobytes() == one.state.tobytes()
    assert repr(dict(two.history)) == repr(dict(one.history))  # NaN among them
    assert (two.history.stopped, two.history.best_epoch) == (
        one.history.stopped,
        one.history.best_epoch,
    )
    assert (two.epoch, two.step) == (one.epoch, one.step)
    assert len(two.fit(X[:30], Y[:30], epochs=1)) == 1  # of other data: it is another fit
    assert not recwarn.list


def test_a_number_of_numpys_is_no_other_setting(tmp_path: Path, recwarn: Any) -> None:
    path = tmp_path / "run"
    optimizer = fastbp.SGD(fastbp.Cosine(np.float64(0.01), steps=50))
    Trainer(network(), optimizer, checkpoint=path).fit(X, Y)
    Trainer(network(), fastbp.SGD(fastbp.Cosine(0.01, steps=50))).resume(path)
    assert not recwarn.list


def test_a_new_fit_may_begin_from_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run"
    saved: list[bytes] = []

    def save(state: fastbp.State) -> None:
        if state.epoch == 1:
            state.trainer.save(path)
            saved.append(state.network.parameters.tobytes())

    Trainer(network(), batch_size=8, callbacks=[save]).fit(X, Y, epochs=4)
    trainer = Trainer(network(), batch_size=8)
    assert trainer.resume(path, finish=False) == 0
    assert trainer.network.parameters.tobytes() == saved[0]
    assert len(trainer.fit(X[:30], Y[:30], epochs=3)) == 3
    assert trainer.epoch == 5


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count", "unit"),
    [
        (3, 3, "epochs"),
        ("1 epoch", 1, "epochs"),
        ("500 steps", 500, "steps"),
        ("1 step", 1, "steps"),
        ("0.5 seconds", 0.5, "seconds"),
        (" 10  minutes ", 600.0, "seconds"),
        ("1 hour", 3600.0, "seconds"),
    ],
)
def test_every(text: Any, count: float, unit: str) -> None:
    assert Every.of(text) == Every(count, unit)


@pytest.mark.parametrize(
    "text", ["", "5", "5 lightyears", "0 steps", "-1 epochs", "1.5 steps", "nan s", "inf hours", 0]
)
def test_every_that_is_not_understood(text: Any) -> None:
    with pytest.raises(ValueError, match=r"every=.*'500 steps', '30 seconds'"):
        Trainer(network(), every=text)


def test_bad_paths_are_named_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="checkpoint=3 is of type int; it must be a path"):
        Trainer(network(), checkpoint=3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="is not a directory: make it first"):
        Trainer(network(), checkpoint=tmp_path / "nowhere" / "run")
    with pytest.raises(IsADirectoryError, match="name a file to write"):
        Trainer(network(), checkpoint=tmp_path)
    with pytest.raises(ValueError, match="path=None needs a trainer with checkpoint=PATH"):
        Trainer(network()).resume()
    with pytest.raises(TypeError, match="finish=1 is of type int"):
        Trainer(network()).resume(tmp_path / "run", finish=1)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        Trainer(network(), checkpoint=tmp_path / "run").resume()


def test_a_rule_that_cannot_be_kept_is_named(tmp_path: Path) -> None:
    class Mine(fastbp.Stopping):
        def start(self) -> None:
            self.seen = {1, 2}

        def update(self, record: Any) -> None:
            return None

    trainer = Trainer(network(), stopping=Mine(), checkpoint=tmp_path / "run")
    with pytest.raises(TypeError, match=r"rules\.0\.seen\.seen=\{1, 2\} is of type set"):
        trainer.fit(X, Y, epochs=2)


def test_two_arrays_of_one_name_are_refused() -> None:
    """A state of a schedule's own: {"m.x": ..., "m": {"x": ...}} kept one of them, twice."""
    with pytest.raises(TypeError, match=r"s\.m\.x is the name of two arrays"):
        tree.flatten({"m.x": np.zeros(2), "m": {"x": np.ones(2)}}, "s", {})


# --- writing is all or nothing -------------------------------------------------------------------


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_not(tmp_path: Path) -> None:
    dead = tmp_path / ".run.0123456789ab.tmp"
    dead.write_bytes(b"half of it")
    (tmp_path / ".running.0123456789ab.tmp").touch()  # of another path
    (tmp_path / ".run.link.tmp").symlink_to(dead)
    with atomic.replacing(tmp_path / "run") as slow:
        slow.write_bytes(b"slow")
        assert not dead.exists()
        with atomic.replacing(tmp_path / "run") as fast:
            fast.write_bytes(b"fast")
        assert (tmp_path / "run").read_bytes() == b"fast"
    assert (tmp_path / "run").read_bytes() == b"slow"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".run.link.tmp", ".running.0123456789ab.tmp", "run",
    ]  # fmt: skip


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        done.append(f"{kind} flushed")
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        done.append("renamed")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    network().save(tmp_path / "net")
    assert done == ["file flushed", "renamed", "directory flushed"]


@pytest.mark.skipif(JIT_DISABLED, reason="slow without compiled code")
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_killed_at_random_moments(tmp_path: Path, python: Any) -> None:
    """A small sample; `python tests/kill.py --kills 200` is the whole of it."""
    done = python("tests/kill.py", "--kills", "10", "--folder", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 kills" in done.stdout


def test_a_stream_is_kept_between_its_epochs(tmp_path: Path) -> None:
    """What has come by is gone: the trainer is kept, and goes on with what comes next."""
    batches = [(X[i : i + 10], Y[i : i + 10]) for i in range(0, 50, 10)]

    def trainer(**more: Any) -> Trainer:
        return Trainer(network(), progress=False, **more)

    whole, first = trainer(), trainer(checkpoint=tmp_path / "run")
    for _ in range(2):
        whole.fit_stream(batches, steps_per_epoch=5)
    first.fit_stream(batches, steps_per_epoch=5)
    again = trainer()
    assert again.resume(tmp_path / "run") == 0
    again.fit_stream(batches, steps_per_epoch=5)
    assert again.network.parameters.tobytes() == whole.network.parameters.tobytes()
    assert (again.step, again.epoch) == (10, 2)


def test_a_bad_row_leaves_the_checkpoint_as_it_was(tmp_path: Path) -> None:
    """The first steps are made, and kept, before the row is met."""
    bad = X.astype(np.float32)
    bad[len(X) - 2, 1] = np.nan
    np.save(tmp_path / "X.npy", bad)
    path = tmp_path / "run"
    trainer = Trainer(network(), batch_size=8, sampling="order", checkpoint=path, every="2 steps")
    trainer.fit(X, Y)
    before = path.read_bytes()
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    with pytest.raises(ValueError, match=r"has changed \(.*run was written meanwhile, and is so"):
        trainer.fit(mapped, Y)
    assert path.read_bytes() == before


def test_fewer_restarts_than_a_checkpoint_has_made_are_refused(
    kept: list[Path], tmp_path: Path
) -> None:
    trainer = Trainer(network(), batch_size=8, restarts=3, checkpoint=tmp_path / "run", every=1)
    trainer.fit(X, Y, epochs=2)
    again = Trainer(network(), batch_size=8, restarts=1 + 1)
    with pytest.warns(RuntimeWarning, match="restarts=2"):
        again.resume(kept[2])
    with pytest.raises(ValueError, match="restarts=2, and the checkpoint's fit is at its start 3"):
        again.fit(X, Y, epochs=2)


def test_a_fit_to_be_gone_on_with_is_kept_in_a_further_checkpoint(
    kept: list[Path], tmp_path: Path
) -> None:
    Trainer(network(), batch_size=8, checkpoint=tmp_path / "run").fit(X, Y, epochs=3)
    again, last = Trainer(network(), batch_size=8), Trainer(network(), batch_size=8)
    assert again.resume(kept[0]) == 2
    again.save(tmp_path / "more")
    assert last.resume(tmp_path / "more") == 2
