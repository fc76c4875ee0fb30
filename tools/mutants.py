#!/usr/bin/env python3
"""Change the code a little, and see whether a test notices: a seeded sample of mutants.

    python tools/mutants.py --count 400 --seed 0 --jobs 2 --json mutants.json

The JIT is off, so that a mutant needs no compiling, and everything happens in a temporary copy. A
first run of the profile, the test files below, notes which test executes which line. A mutant is
one change to one line that some test executes (a comparison, an operator, a constant, a condition,
a statement left out), put into the live functions of a fork, where the tests that execute its line
are run until one fails: the quickest of each file first, up to a limit. It survives if none does.
Code that only the compiler runs (intrinsics) has no mutants: the JIT-on suite is for it.

Survivors are printed; `tools/survivors.md` gives the reason of each known one.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
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
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "kernels/*.py", "kernels/cpu/*.py", "kernels/reference/*.py", "fastbp/trainer.py",
    "fastbp/settings.py", "fastbp/resuming.py", "fastbp/fitting.py", "fastbp/run.py",
    "fastbp/divergence.py", "fastbp/engine.py", "fastbp/sampling.py", "fastbp/samples.py",
    "fastbp/snapshot.py", "fastbp/stopping.py", "fastbp/rates.py", "fastbp/schedules.py",
    "fastbp/plateau.py", "fastbp/passes.py", "fastbp/parameters.py", "fastbp/fit_state.py",
    "fastbp/restarts.py", "fastbp/checkpoint.py", "fastbp/keeper.py", "fastbp/optimizers.py",
)  # fmt: skip
PROFILE = (
    "activation", "bad_arguments", "bad_input", "batchnorm", "callbacks", "checkpoint", "data",
    "divergence", "elementary", "history", "initializers", "keras", "loss", "network", "onnx_cases",
    "optimizers", "properties", "random", "reference", "schedules", "screen", "sklearn_parity",
    "small", "stopping", "stream", "threads", "trainer", "update",
)  # fmt: skip
LIMIT = 15.0  # seconds of tests that are run for a mutant at most, where several would do
UNREACHED = 77  # exit status
PATIENCE = 3  # times what its tests take without it, a mutant may take: an endless loop is noticed


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


def mutated(text: str, number: int, kind: str) -> tuple[ast.Module, str]:
    """The file's tree with one change, its lines as they were, and the change in words."""
    tree = ast.parse(text)
    for place, (parent, name, index, node) in enumerate(places(tree)):
        if place != number:
            continue
        other = dict(mutants_of(node))[kind]
        words = f"{ast.unparse(node)}  ->  {ast.unparse(other)}"
        ast.copy_location(other, node)
        if index is None:
            setattr(parent, name, other)
        else:
            getattr(parent, name)[index] = other
        return ast.fix_missing_locations(tree), " ".join(words.split())
    raise LookupError(number)


def put_in_place(tree: ast.Module, path: Path) -> int:
    """Give the file's live functions the code of a changed tree; how many have changed."""
    codes: dict[tuple[str, int], types.CodeType] = {}

    def gather(code: types.CodeType) -> None:
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                codes[inner.co_qualname, inner.co_firstlineno] = inner
                gather(inner)

    gather(compile(tree, str(path), "exec"))
    changed, real = 0, path.resolve()
    for function in [o for o in gc.get_objects() if isinstance(o, types.FunctionType)]:
        old = function.__code__
        new = codes.get((old.co_qualname, old.co_firstlineno))
        if new is None or Path(old.co_filename).resolve() != real:
            continue
        if (new.co_code, new.co_consts, new.co_names) != (old.co_code, old.co_consts, old.co_names):
            function.__code__ = new.replace(co_filename=old.co_filename)
            changed += 1
    return changed


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
    pytest.main([*PYTEST, *profile()], plugins=[recorder])
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


def in_child(work: Callable[[], int], copied: Path, cpu: int) -> int:
    """Exit status of `work`, run in a fork with the copy in front; negative where killed.

    `cpu` is how many seconds of a core it may take.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
            null = os.open(
                copied / f"log-{os.getppid()}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            )
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


class Judge:
    """A pytest plugin: collects the profile once, then runs each mutant's tests in a fork."""

    def __init__(self, copied: Path, learnt: dict[str, Any], asked: argparse.Namespace) -> None:
        self.copied, self.learnt, self.asked = copied, learnt, asked

    def sample(self) -> tuple[list[Any], int]:
        """Mutants drawn, and how many there are."""
        known = []
        for file in sorted({p for pattern in SOURCES for p in self.copied.glob(pattern)}):
            path = str(file.relative_to(self.copied))
            if self.asked.only in path and path in self.learnt["lines"]:
                lines = {int(n): set(t) for n, t in self.learnt["lines"][path].items() if t}
                known += [(path, *entry) for entry in candidates(file, lines)]
        rng = random.Random(self.asked.seed)  # noqa: S311 - a sample
        return rng.sample(known, min(self.asked.count, len(known))), len(known)

    def pytest_runtestloop(self, session: Any) -> bool:
        """Instead of running all tests once: the mutants, shared out among processes."""
        self.items = {item.nodeid: item for item in session.items}
        sample, known = self.sample()
        print(f"{len(sample)} of {known} mutants", flush=True)
        jobs = self.asked.jobs
        notes = [self.copied / f"judged-{job}.jsonl" for job in range(jobs)]
        for note in notes:
            note.unlink(missing_ok=True)
        crew = []
        for job in range(jobs):
            if (child := os.fork()) == 0:
                try:
                    self.judge(sample[job::jobs], notes[job])
                    os._exit(0)
                except BaseException:  # noqa: BLE001 - told, and not pytest's affair
                    traceback.print_exc()
                    os._exit(1)
            crew.append(child)
        failed = [child for child in crew if os.waitpid(child, 0)[1] != 0]
        results = [json.loads(line) for note in notes for line in note.read_text().splitlines()]
        if self.asked.json:
            self.asked.json.write_text(json.dumps(results, indent=1))
        print(summary(results))
        if failed:
            raise RuntimeError("a judge failed, see above")
        return True

    def judge(self, share: list[Any], note: Path) -> None:
        """Run the tests of each mutant, and note a line of JSON for it."""
        results: list[dict[str, Any]] = []
        for path, line, number, kind, _ in share:
            file = self.copied / path
            tree, words = mutated(file.read_text(), number, kind)
            tests = self.tests(path, line)
            if len(results) % 40 == 0 and self.failing(None, file, tests):
                raise RuntimeError(f"without a change, the tests of {path}:{line} fail")
            status = self.failing(tree, file, tests)
            if status == UNREACHED:
                print(f"left out, for its closure is another: {path}:{line}: {words}", flush=True)
                continue
            killed = status != 0
            results.append({"where": f"{path}:{line}", "change": words, "killed": killed})
            with note.open("a") as file_of_notes:
                print(json.dumps(results[-1]), file=file_of_notes)
            if not killed:
                print(f"survived {path}:{line}: {words}", flush=True)
            if len(results) % 20 == 0:
                print(summary(results), flush=True)

    def tests(self, path: str, line: int) -> list[str]:
        """Those that execute the line and pass without the change: the quickest of each file, in
        turns over the files, up to a limit; in the order of their times.
        """
        times, failed = self.learnt["times"], set(self.learnt["failed"])
        queues: dict[str, list[str]] = {}
        for test in sorted(self.learnt["lines"][path][str(line)], key=times.__getitem__):
            if test not in failed:
                queues.setdefault(test.partition("::")[0], []).append(test)
        seconds, chosen = LIMIT, []
        while queues and seconds > 0.0:
            for name in sorted(queues, key=lambda name: float(times[queues[name][0]])):
                test = queues[name].pop(0)
                if not queues[name]:
                    del queues[name]
                if seconds > 0.0:
                    seconds -= times[test]
                    chosen.append(test)
        return sorted(chosen, key=lambda test: float(times[test]))

    def failing(self, tree: ast.Module | None, file: Path, tests: list[str]) -> int:
        """Nonzero where one of the tests notices the change."""

        def work() -> int:
            if tree is not None:
                try:
                    if not put_in_place(tree, file):
                        return UNREACHED
                except ValueError:  # it has other free variables
                    return UNREACHED
            for test in tests:
                item = self.items[test]
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                if item.session.testsfailed:
                    return 1
            return 0

        usual = sum(self.learnt["times"][test] for test in tests)
        return in_child(work, self.copied, 5 + int(PATIENCE * usual))


def summary(results: list[dict[str, Any]]) -> str:
    """How many, and how many were noticed."""
    killed = sum(result["killed"] for result in results)
    return f"{len(results)} mutants, {killed} killed: {100 * killed / max(len(results), 1):.1f}%"


def main() -> int:
    """Survey, sample, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a file, such as kernels/cpu/loop.py")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--copy", type=Path, help="a copy that an earlier run has surveyed")
    asked = parser.parse_args()
    os.environ |= {"NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    import pytest

    copied = asked.copy or make_copy()
    if not (copied / "survey.json").exists():
        in_child(lambda: survey(copied) or 0, copied, 3600)  # type: ignore[func-returns-value]
    learnt = json.loads((copied / "survey.json").read_text())
    print(f"{len(learnt['times'])} tests in {sum(learnt['times'].values()):.0f} s", flush=True)
    print(f"{len(learnt['failed'])} fail by themselves; the copy, surveyed: {copied}", flush=True)
    os.chdir(copied)
    sys.path.insert(0, str(copied))
    return int(pytest.main([*PYTEST, "-s", *profile()], plugins=[Judge(copied, learnt, asked)]))


def profile() -> list[str]:
    """The test files of the profile that there are."""
    files = [f"tests/test_{name}.py" for name in PROFILE]
    return [file for file in files if Path(file).exists()]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main())
