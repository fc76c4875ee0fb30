#!/usr/bin/env python3
"""Change the code a little, and see whether a test notices: a seeded sample of mutants.

    python tools/mutants.py --count 400 --seed 0 --json mutants.json

The JIT is off, so that a mutant needs no compiling, and everything happens in a temporary copy. A
first run of the profile, the test files below, notes which test executes which line. A mutant is
one change to one line that some test executes (a comparison, an operator, a constant, a condition,
a statement left out); the tests that execute its line are run until one fails. It survives when
none does. Code that only the compiler runs (intrinsics) has no mutants: the JIT-on suite is for it.

Survivors are printed; `tools/survivors.md` gives the reason of each known one.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "kernels/*.py", "kernels/cpu/*.py", "kernels/reference/*.py", "fastbp/trainer.py",
    "fastbp/fitting.py", "fastbp/run.py", "fastbp/engine.py", "fastbp/sampling.py",
    "fastbp/samples.py", "fastbp/snapshot.py", "fastbp/stopping.py", "fastbp/rates.py",
    "fastbp/schedules.py", "fastbp/passes.py", "fastbp/parameters.py", "fastbp/underway.py",
    "fastbp/checkpoint.py", "fastbp/optimizers.py",
)  # fmt: skip
PROFILE = (
    "activation", "bad_arguments", "batchnorm", "checkpoint", "divergence", "elementary",
    "loss", "network", "optimizers", "properties", "random", "reference", "schedules",
    "screen", "stopping", "trainer", "update",
)  # fmt: skip
FIRST, ALL = 5.0, 25.0  # seconds of tests before a mutant is looked at closely, and in all
CPU = 200  # seconds of a core after which a mutant counts as an endless loop: noticed

Change = Callable[[ast.AST], ast.AST | None]
"""Gives the node in its place, or None where the node has no such mutant."""


# --- mutants -------------------------------------------------------------------------------------

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


def mutants_of(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What may stand in the place of a node, and what to call it."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        other = copy.deepcopy(node)
        other.ops[0] = COMPARISONS[type(node.ops[0])]()
        yield "comparison", other
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        swapped = copy.deepcopy(node)
        swapped.op = OPERATORS[type(node.op)]()
        yield "operator", swapped
    if isinstance(node, ast.BoolOp):
        swap = copy.deepcopy(node)
        swap.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield "and, or", swap
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield "sign", node.operand
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        turned = copy.deepcopy(node)
        turned.test = ast.UnaryOp(ast.Not(), node.test)
        yield "condition", turned
    if isinstance(node, ast.Constant) and type(node.value) in {int, float, bool}:
        value: Any = node.value
        changed = (not value) if isinstance(value, bool) else value + 1
        yield "constant", ast.Constant(changed)
    if isinstance(node, ast.Assign | ast.AugAssign) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield "statement", ast.Pass()


def places(tree: ast.Module) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Parent, field, index and node of everything within functions but words and types."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "type_params"}:
                continue
            entries = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
            for index, child in entries:
                if not isinstance(child, ast.AST) or isinstance(child, ast.Raise | ast.JoinedStr):
                    continue
                deeper = inside or isinstance(node, ast.FunctionDef)
                if deeper and name != "args":
                    yield node, name, index, child
                yield from walk(child, deeper)

    yield from walk(tree, inside=False)


def candidates(path: Path, lines: dict[int, set[str]]) -> list[tuple[int, int, str, str]]:
    """Line, running number, kind and text of the mutants of a file on lines that tests execute."""
    found = []
    for number, (_, _, _, node) in enumerate(places(ast.parse(path.read_text()))):
        line = getattr(node, "lineno", 0)
        if line not in lines:
            continue
        found += [(line, number, kind, ast.unparse(node)) for kind, _ in mutants_of(node)]
    return found


def mutated(text: str, number: int, kind: str) -> tuple[str, str]:
    """The file's text with one change, and the change in words."""
    tree = ast.parse(text)
    for place, (parent, name, index, node) in enumerate(places(tree)):
        if place != number:
            continue
        other = dict(mutants_of(node))[kind]
        words = f"{ast.unparse(node)}  ->  {ast.unparse(other)}"
        if index is None:
            setattr(parent, name, other)
        else:
            getattr(parent, name)[index] = other
        return ast.unparse(ast.fix_missing_locations(tree)), words.replace("\n", " ")
    raise LookupError(number)


# --- which test executes which line --------------------------------------------------------------


class Recorder:
    """A pytest plugin: a coverage context and a time for each test."""

    def __init__(self, coverage: Any) -> None:
        self.coverage, self.times, self.failed = coverage, {}, []  # type: ignore[var-annotated]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note the time; what runs now is this test's."""
        self.coverage.switch_context(nodeid)
        self.times[nodeid] = time.process_time()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note how long it took."""
        self.times[nodeid] = time.process_time() - self.times[nodeid]
        self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test that fails by itself notices nothing."""
        if report.failed:
            self.failed.append(report.nodeid)


def survey(copied: Path) -> None:
    """In a child: run the profile once and write what was learnt beside it."""
    import coverage
    import pytest

    meter = coverage.Coverage(str(copied / ".coverage"), config_file=False, include=[f"{copied}/*"])
    meter.start()
    recorder = Recorder(meter)
    files = [f"tests/test_{name}.py" for name in PROFILE]
    pytest.main([*PYTEST, *(f for f in files if Path(f).exists())], plugins=[recorder])
    meter.stop()
    meter.save()
    data = meter.get_data()
    lines: dict[str, dict[int, list[str]]] = {}
    for name in data.measured_files():
        by_line = data.contexts_by_lineno(name)
        lines[str(Path(name).relative_to(copied))] = {
            line: [c for c in contexts if c] for line, contexts in by_line.items()
        }
    learnt = {"lines": lines, "times": recorder.times, "failed": recorder.failed}
    (copied / "survey.json").write_text(json.dumps(learnt))


PYTEST = ("-q", "-p", "no:cacheprovider", "--no-header", "--timeout=0")


def in_child(work: Callable[[], int], copied: Path) -> int:
    """Exit status of `work`, run in a fork with the copy in front; negative where killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
            null = os.open(copied / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.chdir(copied)
            sys.path.insert(0, str(copied))
            status = work()
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:  # noqa: BLE001 - into the log
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def tests_pass(tests: list[str]) -> int:
    """In a child: pytest's exit status."""
    import pytest

    return int(pytest.main([*PYTEST, "-x", *tests]))


def make_copy() -> Path:
    """A copy in which fastbp.kernels lies where it is installed."""
    copied = Path(tempfile.mkdtemp(prefix="mutants-"))
    ignore = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
    for folder in ("fastbp", "kernels", "tests", "tools", "docs"):
        shutil.copytree(ROOT / folder, copied / folder, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copied)
    (copied / "fastbp" / "kernels").symlink_to(copied / "kernels")
    return copied


def judge(copied: Path, path: str, line: int, change: str, learnt: dict[str, Any]) -> bool:
    """Whether a test notices."""
    rng = random.Random(f"{path}{line}{change}")  # noqa: S311 - a sample
    tests = [t for t in learnt["lines"][path][str(line)] if t not in learnt["failed"]]
    rng.shuffle(tests)
    done: set[str] = set()
    for budget in (FIRST, ALL):
        chosen: list[str] = []
        for test in tests:
            if test in done or budget <= 0.0:
                continue
            budget -= learnt["times"][test] + 0.01
            chosen.append(test)
        done |= set(chosen)
        chosen.sort(key=lambda test: float(learnt["times"][test]))
        if chosen and in_child(lambda c=chosen: tests_pass(c), copied) != 0:  # type: ignore[misc]
            return True
    return False


def main() -> int:
    """Survey, sample, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a file, such as kernels/cpu/epoch.py")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--copy", type=Path, help="a copy that an earlier run has surveyed")
    parser.add_argument("--skip", type=int, default=0, help="mutants of the sample to leave out")
    asked = parser.parse_args()
    os.environ |= {"NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    for name in ("coverage", "numba", "numpy", "pytest", "rich", "safetensors"):
        __import__(name)  # once, before the forks
    global CPU
    copied = asked.copy or make_copy()
    if not (copied / "survey.json").exists():
        limit, CPU = CPU, 3600
        in_child(lambda: survey(copied) or 0, copied)  # type: ignore[func-returns-value]
        CPU = limit
    learnt = json.loads((copied / "survey.json").read_text())
    print(f"{len(learnt['times'])} tests in {sum(learnt['times'].values()):.0f} s", flush=True)
    print("fail by themselves:", learnt["failed"], flush=True)
    files = sorted({p for pattern in SOURCES for p in copied.glob(pattern)})
    known = []
    for file in files:
        path = str(file.relative_to(copied))
        if asked.only in path and path in learnt["lines"]:
            lines = {int(n): set(t) for n, t in learnt["lines"][path].items() if t}
            known += [(path, *entry) for entry in candidates(file, lines)]
    rng = random.Random(asked.seed)  # noqa: S311 - a sample
    sample = rng.sample(known, min(asked.count, len(known)))
    print(f"{len(sample)} of {len(known)} mutants", flush=True)
    survivors, results = [], []
    sample = sample[asked.skip :]
    for count, (path, line, number, kind, _) in enumerate(sample, 1):
        text = (copied / path).read_text()
        changed, words = mutated(text, number, kind)
        (copied / path).write_text(changed)
        killed = judge(copied, path, line, words, learnt)
        (copied / path).write_text(text)
        results.append(
            {"file": path, "line": line, "kind": kind, "change": words, "killed": killed}
        )
        if not killed:
            survivors.append(f"{path}:{line}: {words}")
            print(f"survived {survivors[-1]}", flush=True)
        if count % 20 == 0:
            print(f"{count}: {100 * (1 - len(survivors) / count):.1f}% killed", flush=True)
        if asked.json:
            asked.json.write_text(json.dumps(results, indent=1))
    print(f"{len(sample)} mutants, {len(survivors)} survived: "
          f"{100 * (1 - len(survivors) / len(sample)):.1f}% killed")  # fmt: skip
    print(f"the copy, surveyed: {copied}")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main())
