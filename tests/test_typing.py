"""What a checker of types makes of a user's program: slips are seen, honest code is not accused."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import fastbp
from fastbp.epochs import BY_LAYER, SCALARS, Epochs

ROOT = Path(fastbp.__file__).resolve().parent
KERNELS = Path(fastbp.kernels.__file__).resolve().parent

HONEST = """
import fastbp

fastbp.bench, fastbp.datasets, fastbp.distributed, fastbp.notes, fastbp.trace
net = fastbp.Network(2, [fastbp.Dense(3, "relu"), fastbp.Dense(1, batch_norm=True)], seed=0)


def callback(state: fastbp.State) -> bool:
    state.network.layers[0].W = 0.0
    state.trainer.clip_norm = 1.0
    return state.history.loss[-1] < 0.1


history = fastbp.Trainer(net).fit([[0, 0], [0, 1]], [0, 1], epochs=1, callbacks=callback)
print(history["accuracy"], history.validation_loss, history.dead_relu[0][0] + 1.0)
print(net.layers[0].W @ net.layers[0].W.T, net.layers[1].gamma[0], net.layers[0].dropout + 1.0)
"""
SLIPS = {
    "no_such_part": "fastbp.no_such_part",
    "no_such_method": "state.network.no_such_method()",
    "weigths": "state.network.layers[0].weigths",
    "validaton_loss": "state.history.validaton_loss",
    "epch": "state.epch",
}


@pytest.mark.slow
def test_mypy_sees_slips_and_nothing_else(tmp_path):
    pytest.importorskip("mypy")
    installed = tmp_path / "site" / "fastbp"  # as the wheel has it
    installed.mkdir(parents=True)
    for path in [*ROOT.iterdir(), KERNELS]:
        if path.name != "__pycache__" and not (installed / path.name).exists():
            (installed / path.name).symlink_to(path)
    slips = "".join(f"    {code}\n" for code in SLIPS.values())
    script = tmp_path / "script.py"
    script.write_text(f"{HONEST}\n\ndef slips(state: fastbp.State) -> None:\n{slips}")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent",
               "--ignore-missing-imports", "--config-file=", "script.py"]  # fmt: skip
    paths = {**os.environ, "MYPYPATH": str(installed.parent), "MYPY_CACHE_DIR": str(tmp_path / "c")}
    done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    found = [re.search('has no attribute "(.*?)"', line) for line in lines]
    assert [match and match[1] for match in found] == list(SLIPS), done.stdout + done.stderr


def test_the_declared_names_are_those_that_there_are():
    assert list(Epochs.__annotations__) == [*SCALARS, *BY_LAYER]
    layer = fastbp.Layer
    described = [field.name for field in fields(fastbp.Dense)]
    assert list(layer.__annotations__) == [*layer._NUMBERS, *described]
