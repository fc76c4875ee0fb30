"""Warnings name the line that called fastbp, through whatever lies between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_fits import X, Y, plain_net

import fastbp
from fastbp import Dense, MLPClassifier, Network, Trainer


def _restarts(_: Path) -> None:
    net = Network(6, [Dense(3, "relu"), Dense(3)], seed=1)
    trainer = Trainer(net, fastbp.SGD(1e9), restarts=3, on_divergence="warn")
    trainer.fit(X, np.eye(3)[Y], epochs=3)


def _stream(_: Path) -> None:
    net = Network(6, [Dense(3, "relu"), Dense(3)], seed=1)
    trainer = Trainer(net, fastbp.SGD(1e9), on_divergence="warn")
    trainer.fit_stream([(X, np.eye(3)[Y])] * 9, steps_per_epoch=3)


def _many(_: Path) -> None:
    nets = [Network(6, [Dense(3, "relu"), Dense(3)], seed=seed) for seed in (1, 2)]
    fastbp.fit_many(nets, X, np.eye(3)[Y], 3, optimizer=fastbp.SGD(1e9))


def _resumed(folder: Path) -> None:
    Trainer(plain_net(), batch_size=8).save(folder / "net.safetensors")
    Trainer(plain_net(), batch_size=9).resume(folder / "net.safetensors")


def _unfinished(_: Path) -> None:
    MLPClassifier((3,), max_iter=1).fit(X, Y)


def _clipped(_: Path) -> None:
    MLPClassifier((3,), max_iter=1, batch_size=1000).partial_fit(X, Y, classes=[0, 1, 2])


WORDS = "diverged|differs from|Maximum iterations|going to be clipped"


@pytest.mark.parametrize("call", [_restarts, _stream, _many, _resumed, _unfinished, _clipped])
def test_the_callers_line_is_named(call: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.warns(Warning, match=WORDS) as caught:
        call(tmp_path)
    assert {one.filename for one in caught} == {__file__}


@pytest.mark.filterwarnings("ignore:.*which is always 1")
def test_a_loaded_networks_warning_names_the_callers_line(tmp_path: Path) -> None:
    Network(2, [Dense(1, "softmax")]).save(tmp_path / "net.safetensors")
    with pytest.warns(UserWarning, match="which is always 1") as caught:
        Network.load(tmp_path / "net.safetensors")
    assert [one.filename for one in caught] == [__file__]
