"""In place where the table of kernels/README.md says so, in either backend; elsewhere refused."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp import kernels
from fastbp.kernels import reference
from fastbp.kernels.tables import LOSSES

README = (Path(kernels.__file__).parent / "README.md").read_text(encoding="utf-8")
SIZE = 23  # longer than a vector
VECTORS = ("b", "mean", "variance", "gamma", "beta", "weight")
NUMBERS = {"p": 0.4, "sigma": 0.5, "seed": 1}
OUTPUTS = {
    "linear_forward": ("out", "Z"),
    "weight_gradient": ("out", "bias_out"),
    "batch_statistics": ("mean", "variance"),
    "batchnorm_forward": ("out", "normalized"),
    "batchnorm_backward": ("out", "gamma_out", "beta_out"),
    "loss_and_delta": ("out", "losses"),
}
"""By kernel; of all others `out`."""

CASES: list[tuple[str, dict[str, Any]]] = [
    ("linear_forward", {"activation": "tanh"}),
    *(("activate", {"activation": f}) for f in ("relu", "gelu", "softmax")),
    *(("apply_derivative", {"activation": f}) for f in ("relu", "gelu", "softmax")),
    ("weight_gradient", {}),
    ("input_gradient", {}),
    ("batch_statistics", {}),
    ("batchnorm_forward", {"form": "sigma"}),
    ("batchnorm_backward", {"form": "sigma"}),
    ("loss_forward", {"loss": "squared_error"}),
    *(("loss_gradient", {"loss": f}) for f in LOSSES),
    *(("loss_and_delta", {"loss": f, "activation": g}) for f in LOSSES for g in LOSSES[f].pairs),
    ("dropout", {}),
    ("perturb", {}),
]


def in_place() -> dict[str, set[tuple[str, ...]]]:
    """The pairs (output, input) that the table names, by kernel."""
    rows = re.findall(r"^\| `(\w+)\(.*?\)` \|[^|]*\|([^|]*)\|", README, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)=(\w+)`", cell)) for name, cell in rows}


def arguments(door: str, given: dict[str, Any]) -> dict[str, Any]:
    """Square matrices, vectors and numbers for all that is no output, within (0, 1)."""
    rng = np.random.default_rng(0)
    made = dict(given)
    for name, parameter in inspect.signature(getattr(kernels, door)).parameters.items():
        if name in NUMBERS:
            made[name] = NUMBERS[name]
        elif name == "weight" or (
            parameter.kind is not parameter.KEYWORD_ONLY and name not in made
        ):
            made[name] = rng.uniform(0.1, 0.9, SIZE if name in VECTORS else (SIZE, SIZE))
    return made


def results(backend: Any, door: str, given: dict[str, Any]) -> list[np.ndarray]:
    found = getattr(backend, door)(**given)
    return list(found) if isinstance(found, tuple) else [found]


def test_the_table_names_every_kernel() -> None:
    assert {*in_place()} == {*kernels.__all__}
    assert {name for name, pairs in in_place().items() if pairs} < {door for door, _ in CASES}


@pytest.mark.parametrize(("door", "given"), CASES)
def test_an_output_may_be_an_input_where_the_table_says_so(
    door: str, given: dict[str, Any]
) -> None:
    for output in OUTPUTS.get(door, ("out",)):
        for name, value in arguments(door, given).items():
            if not isinstance(value, np.ndarray):
                continue
            if (output, name) in in_place()[door]:
                for backend in (kernels, reference):
                    want = results(backend, door, arguments(door, given))
                    aliased = arguments(door, given)
                    found = results(backend, door, {**aliased, output: aliased[name]})
                    for a, b in zip(found, want, strict=True):
                        np.testing.assert_array_equal(a, b, err_msg=f"{backend} {output}={name}")
            else:
                aliased = arguments(door, given)
                with pytest.raises(ValueError, match=f"{output}: (shares memory|expected shape)"):
                    results(kernels, door, {**aliased, output: aliased[name]})
