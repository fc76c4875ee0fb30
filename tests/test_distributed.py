"""Several ranks: the numbers of one process, the same bits twice, and ends that are understood."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ranks_support import MPIEXEC, NEEDED, module_of

import fastbp
from fastbp.distributed import sentinel, shared

PROGRAM = Path(__file__).with_name("ranks.py")

pytestmark = NEEDED


def program() -> Any:
    """`ranks.py` as a module."""
    return module_of(PROGRAM)


def launched(case: str, directory: Path, ranks: int = 2) -> tuple[int, str]:
    """Exit status and standard error of a run on so many ranks."""
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, str(PROGRAM), case, str(directory)]
    # A group of its own: what a time-out leaves behind can be ended with it.
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            _, said = process.communicate(timeout=150)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    return process.returncode, said


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What two runs of every recipe on two ranks left, by run and rank."""
    runs = []
    for _ in range(2):
        place = tmp_path_factory.mktemp("same")
        status, said = launched("same", place)
        assert status == 0, said
        runs.append([dict(np.load(place / f"{rank}.npz")) for rank in range(2)])
    return runs


def test_the_same_ranks_twice_give_the_same_bits_on_each(twice: list[list[dict[str, Any]]]) -> None:
    first = twice[0][0]
    for other in (twice[0][1], *twice[1]):
        assert first.keys() == other.keys()
        for name, numbers in first.items():
            if "seconds" not in name:
                assert (numbers == other[name]).all(), name


@pytest.mark.parametrize("how", ["apart", "threads"])
def test_the_sum_of_two_has_the_same_bits_by_whatever_way(
    how: str, twice: list[list[dict[str, Any]]], tmp_path: Path
) -> None:
    """By MPI's sum instead of shared memory, and on two threads a rank: a + b is b + a."""
    status, said = launched(how, tmp_path)
    assert status == 0, said
    for rank in range(2):
        for name, numbers in np.load(tmp_path / f"{rank}.npz").items():
            assert (numbers == twice[0][rank][name]).all(), name


def test_memory_is_shared_where_there_is_twice_the_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three vectors of 1,001 float32, a page and one to begin on a page: 24,576 bytes."""
    monkeypatch.setattr(shared, "_FILES", tmp_path)
    for room, enough in ((2 * 24_576, True), (2 * 24_576 - 1, False)):
        found = SimpleNamespace(f_bavail=room, f_frsize=1)
        monkeypatch.setattr(shared, "os", SimpleNamespace(statvfs=lambda _, found=found: found))
        assert shared.fits(1_001, "float32", ranks=2) is enough
    monkeypatch.setattr(shared, "_FILES", tmp_path / "none")
    assert shared.fits(10**12, "float32", ranks=2)


# How far rounding may take the numbers: entries are sums over the batch in another order, and each
# step multiplies what came before: Adam by up to 1 / eps where a unit's gradients are rounding
# alone, batch norm by up to 1 / sqrt(eps) where a unit hardly varies. Such recipes train by SGD,
# with a larger eps, or they would measure that.
@pytest.mark.parametrize("dtype, bound", [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("name", list(program().RECIPES))
def test_two_ranks_are_one_process(
    name: str, dtype: str, bound: float, twice: list[list[dict[str, Any]]]
) -> None:
    alone = program().train(name, dtype, None)
    for key, numbers in alone.items():
        ours = twice[0][0][f"{name} {dtype} {key}"]
        assert ours.shape == numbers.shape
        if numbers.size:
            assert abs(ours - numbers).max() <= bound * abs(numbers).max(), key


def test_a_stream_a_rank_is_a_stream_of_what_they_give_together(tmp_path: Path) -> None:
    status, said = launched("stream", tmp_path)
    assert status == 0, said
    ours, theirs = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(2))
    for name, numbers in program().stream(tmp_path, ranks=2).items():
        assert (ours[name] == theirs[name]).all(), name
        assert abs(ours[name] - numbers).max() <= 1e-12 * abs(numbers).max(), name


def test_what_a_rank_says_with_its_greeting_is_heard() -> None:
    """A sentinel that starts slowly finds both at once; that the rank is in a fit is not lost."""
    command = [sys.executable, "-S", "-E", sentinel.__file__, "127.0.0.1", "word", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        with socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as rank:
            rank.sendall(b"word 0 123 here\n" + sentinel.FITTING)
        _, said = process.communicate(timeout=30)
    assert b"fastbp: rank 0 of 1 (process 123 on here) died in the middle of a fit" in said


def test_a_killed_rank_is_named_and_the_training_resumes_to_the_same_end(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    assert launched("nothing", whole)[0] == 0
    status, said = launched("killed", cut)
    assert status != 0
    assert "rank 1 of 2" in said
    assert "died in the middle of a fit" in said
    assert said.count("fastbp: rank") == 1
    assert (cut / "kept.safetensors").exists()
    status, said = launched("resumed", cut)
    assert status == 0, said
    for rank in range(2):
        one, other = (np.load(place / f"{rank}.npz") for place in (whole, cut))
        assert (one["parameters"] == other["parameters"]).all()
        assert (one["state"] == other["state"]).all()


@pytest.mark.parametrize(
    "what, words",
    [
        ("raised", "rank 1 of 2 failed: LookupError: a callback's own"),
        ("row", r"rank 1 of 2 failed: ValueError: X[7, 5]=nan is not finite"),
        ("unlike", "rank 1 differs from rank 0 in parameters"),
        ("inside", "fastbp: rank 1 of 2 failed: ZeroDivisionError: a schedule's own"),
    ],
)
def test_a_failure_of_one_rank_ends_all_and_names_it(what: str, words: str, tmp_path: Path) -> None:
    status, said = launched(what, tmp_path)
    assert status != 0
    assert words in said
    assert "died" not in said


@pytest.mark.parametrize(
    "what, words",
    [
        ("interrupted", "KeyboardInterrupt: "),
        ("mapped", "ValueError: X[700, 0]=nan is not finite"),
        ("diverged", "DivergenceError: training diverged in epoch 0, batch 1"),
        ("settings", "ValueError: clip_norm=-3.0"),
    ],
)
def test_what_all_ranks_meet_they_all_raise_at_the_same_step(
    what: str, words: str, tmp_path: Path
) -> None:
    status, said = launched(what, tmp_path)
    assert status == 0, said
    told = [(tmp_path / f"{rank}.txt").read_text().rpartition(" ")[0] for rank in range(2)]
    assert told[0] == told[1]
    assert told[0].startswith(words)


def test_callbacks_may_be_of_one_rank_alone(tmp_path: Path) -> None:
    assert launched("watched by one", tmp_path)[0] == 0
    one, two = (np.load(tmp_path / f"{rank}.npz")["parameters"] for rank in range(2))
    assert (one == two).all()


def test_one_rank_alone_trains_as_without(tmp_path: Path) -> None:
    alone = program().train("all", "float32", None)
    assert launched("same", tmp_path, ranks=1)[0] == 0
    ours = dict(np.load(tmp_path / "0.npz"))
    for key, numbers in alone.items():
        assert (ours[f"all float32 {key}"] == numbers).all()


def test_the_command_trains_on_all_ranks_and_one_tells(tmp_path: Path) -> None:
    X, y = program().load_digits()
    np.savez(tmp_path / "digits.npz", x=X, y=y)
    model = tmp_path / "model.safetensors"
    start = "from fastbp.cli import main; main()"
    command = [sys.executable, "-c", start, "train", str(tmp_path / "digits.npz")]
    command += ["--target", "y", "--epochs", "3", "--batch-size", "64", "--out"]
    alone = subprocess.run([*command, str(tmp_path / "alone.safetensors")], check=True)
    assert alone.returncode == 0
    done = subprocess.run(
        [str(MPIEXEC), "-n", "2", *command, str(model)], check=True, capture_output=True, text=True
    )
    assert done.stdout.count("after 3 epochs") == 1
    one, two = (fastbp.Network.load(tmp_path / f"{n}.safetensors") for n in ("alone", "model"))
    assert abs(one.parameters - two.parameters).max() <= 1e-4 * abs(one.parameters).max()


def test_the_argument_is_checked() -> None:
    net = fastbp.Network(2, [fastbp.Dense(1)])
    with pytest.raises(ValueError, match="distributed='nccl'"):
        fastbp.Trainer(net, distributed="nccl")
    with pytest.raises(ValueError, match="distributed"):
        fastbp.fit_many([net], [[0.0, 1.0]], [1.0], distributed="mpi")
