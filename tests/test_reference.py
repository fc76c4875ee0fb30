"""Every public kernel has its reference, under the same name, signature and description."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from fastbp import kernels
from fastbp.kernels import reference


def arguments(function: Any) -> list[tuple[Any, ...]]:
    """Name, kind and default of each argument; annotations may be spelled otherwise."""
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


def described(function: Any) -> list[str] | None:
    """The arguments that the docstring's Args section describes; None where it has none."""
    text = inspect.getdoc(function) or ""
    section = re.search(r"^Args:\n((?:    .*\n|\n)*)", text + "\n", re.MULTILINE)
    if section is None:
        return None
    heads = re.findall(r"^    ([\w*][\w*, ]*):", section[1], re.MULTILINE)
    return [name.lstrip("*") for head in heads for name in head.split(", ")]


def test_the_same_names() -> None:
    assert sorted(kernels.__all__) == sorted(reference.__all__)
    assert len(kernels.__all__) >= 15


@pytest.mark.parametrize("name", kernels.__all__)
def test_the_same_signature(name: str) -> None:
    assert arguments(getattr(reference, name)) == arguments(getattr(kernels, name))


@pytest.mark.parametrize("name", kernels.__all__)
def test_arguments_are_described(name: str) -> None:
    """By the door, each once and in order; by the reference, the same or not again."""
    wanted = [argument for argument, _, _ in arguments(getattr(kernels, name))]
    assert described(getattr(kernels, name)) == wanted
    assert described(getattr(reference, name)) in (None, wanted)
    assert inspect.getdoc(getattr(reference, name))


@pytest.mark.parametrize("name", kernels.__all__)
def test_a_reference_is_of_its_own_making(name: str) -> None:
    function = getattr(reference, name)
    assert function.__module__.startswith("fastbp.kernels.reference.")
    assert function is not getattr(kernels, name)
