"""Ranks that are not alike say so, all of them, and go on; what ends all names its rank."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ranks_support import MPIEXEC, NEEDED, module_of

PROGRAM = Path(__file__).with_name("unlike_ranks.py")

pytestmark = NEEDED

GIVEN = "; all ranks must be given the same."
FAILED = "rank 1 of 2 failed: "
# What both ranks raise, in the same words; after FAILED, what the second raises and the first
# hears of.
MET = {
    "other seeds": f"ValueError: rank 1 differs from rank 0 in seed: 2, not 1{GIVEN}",
    "other rates": "ValueError: rank 1 differs from rank 0 in lr: 'Constant(lr=1.1)', not",
    "other steps": f"ValueError: rank 1 differs from rank 0 in steps_per_epoch: 6, not 5{GIVEN}",
    "validation of one rank": "ValueError: rank 1 differs from rank 0 in held: {}, not",
    "bad validation": f"{FAILED}ValueError: validation[0][3, 3]=nan is not finite",
    "no epochs": f"{FAILED}ValueError: epochs=0 must be",
    "no callback": f"{FAILED}TypeError: callbacks=3 is of type int",
    "metrics of a stream": f"{FAILED}ValueError: metrics=['accuracy'] are measured on held-out",
    "other metrics": "ValueError: rank 1 differs from rank 0 in metrics: ['accuracy'], not []",
    "other rules": "ValueError: rank 1 differs from rank 0 in rules: ",
    "other ends": "ValueError: rank 1 differs from rank 0 in on_divergence: 'warn', not 'raise'",
    "nan of one rank": "DivergenceError: a parameter, a running statistic or an optimizer's row is",
    "decay of one rank": "ValueError: rank 1 differs from rank 0 in weight_decay: 0.0, not 0.1",
    "parameters of one rank": "ValueError: rank 1 differs from rank 0 in parameters: 'checksum",
    "statistics of one rank": "ValueError: rank 1 differs from rank 0 in running statistics: 'c",
    "late interrupt": "KeyboardInterrupt: ",
    "many": "ValueError: networks[0]: distributed='mpi': fit_many trains networks side by side in",
    "no items": "ValueError: batches gave nothing: there is nothing to train on",
    "no stream": f"{FAILED}TypeError: batches=3 must be an iterator of (X, y)",
    "bad row": "BadRowError: rank 1: batches[7]: X[10, 2]=nan is not finite",
}  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What every case gave, by rank."""
    place = tmp_path_factory.mktemp("unlike")
    command = [str(MPIEXEC), "-n", "2", sys.executable, str(PROGRAM), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads((place / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", MET)
def test_all_ranks_raise_and_can_go_on(case: str, told: list[dict[str, Any]]) -> None:
    first, second = (rank[case] for rank in told)
    wanted = MET[case]
    if wanted.startswith(FAILED):
        assert first.startswith(f"RankError: {wanted}")
        assert second == first.removeprefix(f"RankError: {FAILED}")
    else:
        assert first.startswith(wanted)
        assert second == first


def test_an_item_without_weights_weighs_one_a_row(told: list[dict[str, Any]]) -> None:
    alone = module_of(PROGRAM).norms(None)
    for rank in told:
        assert rank["weights of one rank"] == pytest.approx(alone, rel=1e-6)


def test_what_is_right_on_ranks_is_taken(told: list[dict[str, Any]]) -> None:
    """Items of one row for batch norm; a warning of one rank; a history to the last bit."""
    assert [rank["single rows"] for rank in told] == [1, 1]
    assert [rank["warnings"] for rank in told] == [1, 0]
    assert [rank["sums"] for rank in told] == [True, True]
    assert told[0]["rates"] == told[1]["rates"]
    assert len(told[0]["rates"]) == 2


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("second try", "fastbp: rank 1 of 2 failed: MemoryError: a schedule's own"),
        ("killed between", ") was gone before the others began a fit: killed"),
    ],
)
def test_what_ends_all_names_the_rank(case: str, words: str) -> None:
    command = [str(MPIEXEC), "-n", "2", sys.executable, str(PROGRAM), case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert "rank 1 of 2" in done.stderr
    assert "rank 0 of 2" not in done.stderr
