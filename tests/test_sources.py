"""What every source file keeps to, that no linter looks for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastbp

ROOTS = [Path(fastbp.__file__).parent, Path(fastbp.kernels.__file__).parent]
SOURCES = {f"{root.name}/{p.relative_to(root)}": p for root in ROOTS for p in root.rglob("*.py")}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _defined(tree: ast.Module) -> set[str]:
    """Names of the functions and classes of a module."""
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def _targets(tree: ast.AST) -> Iterator[ast.Name]:
    """The variables of all comprehensions."""
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS):
            for generator in node.generators:
                yield from (n for n in ast.walk(generator.target) if isinstance(n, ast.Name))


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_no_comprehension_hides_a_function_of_its_module(name: str) -> None:
    """CPython 3.12.1 takes such a name for a local one in the comprehensions that follow.

    They are inlined there; a call of the function is then an UnboundLocalError.
    """
    tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"))
    hidden = [f"{n.id}, line {n.lineno}" for n in _targets(tree) if n.id in _defined(tree)]
    assert not hidden
