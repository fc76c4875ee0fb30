"""Checkpoints that are not gone on with: of other fits, of other networks, from strangers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_support import X, Y, network, standing

import fastbp
from fastbp import Dense, Network, Trainer
from fastbp.keeper import Keeper


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A checkpoint in the middle of the second of four epochs."""
    path = tmp_path / "cut"
    trainer = Trainer(network(), batch_size=8, early_stopping=True, seed=3)
    plain = Keeper.due_within_epoch

    def within(keeper: Any) -> bool:
        if trainer.step == 7:
            trainer.save(path)
            raise KeyboardInterrupt
        return False

    Keeper.due_within_epoch = within  # type: ignore[method-assign]
    rooms = Keeper.room
    Keeper.room = lambda keeper, step: 1  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, Y, epochs=4, validation=0.2)
    finally:
        Keeper.due_within_epoch, Keeper.room = plain, rooms  # type: ignore[method-assign]
    return path


OTHER: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "epochs": ({}, {"epochs": 5}, "epochs: 5, not 4"),
    "fewer rows": ({}, {"rows": 40}, "samples: 32, not 40"),
    "other numbers": ({}, {"shift": 1.0}, "other numbers in X, y, weights or validation"),
    "nothing held out": ({}, {"validation": None}, "samples held out: 0, not 10"),
    "another share": ({}, {"validation": 0.1}, "samples: 45, not 40; .*samples held out: 5"),
    "batches": ({"batch_size": 4}, {}, "steps an epoch: 10, not 5"),
    "rules": ({"early_stopping": None}, {}, r"stopping rules: \[\], not \['EarlyStopping'\]"),
    "restarts": ({"restarts": 2}, {}, "had restarts=1"),
}


@pytest.mark.parametrize("case", OTHER)
@pytest.mark.filterwarnings("ignore:the trainer differs:RuntimeWarning")
def test_a_fit_that_is_not_the_one_cut_short_is_refused(case: str, cut: Path) -> None:
    options, call, words = OTHER[case]
    options = {"batch_size": 8, "early_stopping": True, **options}
    trainer = Trainer(network(), **options)
    trainer.resume(cut)
    before = trainer.network.parameters.tobytes(), trainer.step, trainer.epoch
    rows = call.get("rows", 50)
    given: dict[str, Any] = {"validation": call.get("validation", 0.2)}
    shifted = X[:rows] + np.float32(call.get("shift", 0.0))
    if case == "nothing held out":
        trainer.early_stopping = fastbp.EarlyStopping("loss")
    with pytest.raises(ValueError, match=words) as caught:
        trainer.fit(shifted, Y[:rows], epochs=call.get("epochs", 4), **given)
    assert case == "restarts" or "resume(PATH, finish=False)" in str(caught.value)
    assert (trainer.network.parameters.tobytes(), trainer.step, trainer.epoch) == before
    if case not in {"batches", "rules", "restarts"}:  # the right call still goes on
        rule = fastbp.EarlyStopping()
        trainer.early_stopping = rule
        assert len(trainer.fit(X, Y, epochs=4, validation=0.2)) == 4


def test_other_settings_are_warned_of(cut: Path) -> None:
    trainer = Trainer(network(), fastbp.Adam(0.5), 8, early_stopping=True, weight_decay=0.1)
    with pytest.warns(RuntimeWarning, match=r"lr='Constant\(lr=0.5\)' \(it had.*weight_decay=0.1"):
        trainer.resume(cut)


NETWORKS: dict[str, tuple[Callable[[], Trainer], str]] = {
    "widths": (lambda: Trainer(Network(6, [Dense(9), Dense(3)])), "its network has layers="),
    "dtype": (lambda: Trainer(network("float64")), "its network has dtype='float32'"),
    "optimizer": (lambda: Trainer(network(), "sgd"), "its optimizer is 'adam', .* 'sgd'"),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_another_network_or_optimizer_is_refused(case: str, cut: Path) -> None:
    make, words = NETWORKS[case]
    trainer = make()
    before = trainer.network.parameters.tobytes()
    with pytest.raises(ValueError, match=words):
        trainer.resume(cut)
    assert trainer.network.parameters.tobytes() == before


# --- files from strangers ------------------------------------------------------------------------


def _spoil(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the description of a training within a file."""
    blob = path.read_bytes()
    (length,) = struct.unpack("<Q", blob[:8])
    header = json.loads(blob[8 : 8 + length])
    description = json.loads(header["__metadata__"]["fastbp"])
    change(description)
    header["__metadata__"]["fastbp"] = json.dumps(description)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob[8 + length :])


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no fit": (lambda t: t.pop("fit"), "it lacks 'fit'"),
    "a list": (lambda t: t.update(standing=[]), "cannot be resumed from"),
    "step below 0": (lambda t: t["standing"].update(step=-1), "its step is -1"),
    "step a float": (lambda t: t["standing"].update(step=1.5), "its step is 1.5"),
    "seed": (lambda t: t.update(seed="3"), "its seed is '3'"),
    "a tensor twice": (
        lambda t: t["fit"]["best"].update(running=t["fit"]["best"]["parameters"]),
        "lacks the tensor 'training.fit.best.parameters'",
    ),
    "a tensor of the network": (
        lambda t: t["fit"].update(results={"$tensor": "layers.0.W"}),
        "lacks the tensor 'layers.0.W' of its training",
    ),
    "another shape": (
        lambda t: t["fit"].update(results=t["standing"]["numbers"].pop("state")),
        "its results is float32",
    ),
    "a schedule's memory": (
        lambda t: t["standing"].update(schedule={"best": 1}),
        r"its schedule has \['best'\], not \[\]",
    ),
    "rules": (lambda t: t["fit"].update(rules={}), "its rules are {}"),
    "words for a reason": (
        lambda t: t["fit"]["history"].update(stopped=3),
        "neither why it stopped",
    ),
    "a column of text": (
        lambda t: t["fit"]["history"]["columns"].update(loss=["a"]),
        "cannot be resumed from",
    ),
    "nested": (lambda t: t.update(deep=json.loads("[" * 40 + "]" * 40)), "nested too deeply"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_training_is_refused_and_changes_nothing(case: str, cut: Path) -> None:
    change, words = SPOILT[case]
    _spoil(cut, lambda description: change(description["training"]))
    trainer = Trainer(network(), batch_size=8, early_stopping=True)
    trainer.fit(X, Y, validation=0.2)
    before = standing(trainer, trainer.history)
    with pytest.raises(ValueError, match=words):
        trainer.resume(cut)
    assert standing(trainer, trainer.history) == before


def test_what_a_rule_has_seen_is_distrusted(cut: Path) -> None:
    _spoil(cut, lambda d: d["training"]["fit"]["rules"][0]["seen"].update(start="evil"))
    trainer = Trainer(network(), batch_size=8, early_stopping=True)
    trainer.resume(cut)
    with pytest.raises(ValueError, match="EarlyStopping has seen"):
        trainer.fit(X, Y, epochs=4, validation=0.2)
