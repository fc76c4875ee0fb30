"""Compile every CUDA kernel to PTX without a card, and look at what came out.

    python tests/ptx.py [--arch 80 90] [--only linear run_steps]

Each public kernel is called as usual on arrays of the host; instead of a launch it is compiled, for
both dtypes. NVVM is needed (a CUDA toolkit, or the extra cuda12 or cuda13); with ptxas on PATH its
registers and spills are printed. Exit 77: there is no NVVM.

Checked: all compile; the products are the tensor cores', their factors come by 16 bytes, and their
sums are in registers (no local memory).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

PRODUCTS = {"linear", "weight", "inward"}


def signature_of(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numba's types of a kernel's arguments."""
    from numba import typeof, types

    return tuple(
        typeof(a)
        if isinstance(a, np.ndarray)
        else types.int64
        if isinstance(a, int | np.integer)
        else types.float64
        for a in args
    )


class Compiler:
    """Stands for a card: what would be launched is compiled."""

    def __init__(self, arch: int, only: list[str]) -> None:
        self.cc, self.only = (arch // 10, arch % 10), only
        self.seen: set[Any] = set()
        self.problems: list[str] = []

    def install(self) -> None:
        """Put this in place of launches, memory and the card's own capability."""
        from numba.cuda import compiler, dispatcher

        from fastbp.kernels.cuda import device, memory

        card = SimpleNamespace(compute_capability=self.cc)
        dispatcher.get_current_device = compiler.get_current_device = lambda: card
        compile_it = self.compile
        device.Kernel.launch = lambda kernel, blocks, *args: compile_it(kernel, args)
        memory.allocate = lambda size, dtype, what: np.zeros(max(int(size), 1), dtype)
        memory.upload = lambda array, what: np.zeros(max(array.size, 1), array.dtype)
        memory.fill = memory.read = memory.copy = lambda *args: None
        memory.on_card = lambda value: False

    def compile(self, kernel: Any, args: tuple[Any, ...]) -> None:
        """One kernel for the types of these arguments."""
        from numba import cuda, types

        if self.only and kernel.__name__ not in self.only:
            return
        signature = signature_of(args)
        key = kernel.function.__module__, kernel.__name__, signature
        if key in self.seen:
            return
        self.seen.add(key)
        start = time.perf_counter()
        ptx, _ = cuda.compile_ptx(kernel.function, signature, cc=self.cc)
        double = "float64" in str(next(t for t in signature if isinstance(t, types.Array)))
        self.report(kernel.__name__, ptx, time.perf_counter() - start, double)

    def report(self, name: str, ptx: str, seconds: float, double: bool) -> None:
        """A line about one kernel, and what is wrong with it."""
        fragments = len(re.findall(r"mma\.sync", ptx))
        copies = len(re.findall(r"cp\.async\.cg", ptx))
        local = len(re.findall(r"(?:ld|st)\.local", self.sums(ptx)))
        made = f"{fragments:3} mma, {copies:3} copies of 16 bytes, {local} local accesses of sums"
        arch = f"sm_{self.cc[0]}{self.cc[1]}"
        print(f"{arch} {name:16} {seconds:5.1f} s, {made}; {self.assembled(ptx)}", flush=True)
        if name in PRODUCTS and not (fragments and copies and not local):
            self.problems.append(f"{name} ({'float64' if double else 'float32'})")

    def sums(self, ptx: str) -> str:
        """The functions that form sums."""
        functions = re.split(r"^\.(?=func|weak|visible|entry)", ptx, flags=re.MULTILINE)
        return "".join(one for one in functions if "mma.sync" in one)

    def assembled(self, ptx: str) -> str:
        """What ptxas says of registers and spills."""
        if shutil.which("ptxas") is None:
            return "no ptxas"
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "kernel.ptx"
            source.write_text(ptx)
            command = ["ptxas", f"-arch=sm_{self.cc[0]}{self.cc[1]}", "-v", "-c"]
            done = subprocess.run(
                [*command, "-o", f"{folder}/kernel.o", str(source)], capture_output=True, text=True
            )
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
        registers = re.search(r"Used (\d+) registers", done.stderr)
        spilled = re.findall(r"(\d+) bytes spill stores", done.stderr)
        return f"{registers[1] if registers else '?'} registers, {max(map(int, spilled))} B spilled"


def kernels() -> None:
    """Call everything that launches, in both dtypes."""
    from fastbp.kernels.cuda import (
        activation,
        batchnorm,
        linear,
        loop,
        loss,
        random,
        screen,
        update,
    )

    random.shuffle(np.arange(5), 1, 1)
    random.sample(np.arange(5), 5, 1, 1, 1)
    random.philox([0, 0, 0, 0], [0, 0])
    for real in (np.float32, np.float64):
        x, v = np.zeros((3, 3), real), np.zeros(3, real)
        linear.linear_forward(x, x, v, "softmax")
        linear.weight_gradient(x, x)
        linear.input_gradient(x, x)
        activation.activate("relu", x)
        activation.apply_derivative("relu", x, x)
        random.dropout(x, 0.3, seed=1)
        random.perturb(x, 0.3, seed=1)
        batchnorm.batch_statistics(x)
        batchnorm.batchnorm_forward(x, v, v, v, v)
        batchnorm.batchnorm_backward(x, x, v, v)
        loss.loss_forward("nll", x, x)
        loss.loss_gradient("nll", x, x)
        loss.loss_and_delta("nll", "sigmoid", x, x)
        update.update("adam", v, v.copy(), np.zeros((2, 3), real), step=1, lr=0.1)
        screen.all_finite(v)
        screen.rows_of(v, 1, np.arange(2))
        screen.cast(np.arange(3), real)
        integers, doubles, table = np.zeros(1, np.int64), np.zeros(1), np.zeros((1, 1))
        loop.kernels[real].launch(
            1, np.zeros((1, 1), np.int64), table, integers, integers, doubles, v, integers, v, v,
            integers, integers, v, v, v, v, v, 1, v, np.zeros(1, np.uint8), doubles, integers,
            doubles, v, table, doubles, integers, v, np.zeros(1, np.int32), integers,
        )  # fmt: skip


def nvvm_problem() -> str:
    """Why nothing can be compiled; nothing where it can."""
    try:
        from numba import cuda, types

        cuda.compile_ptx(lambda x: None, (types.float32[::1],), cc=(9, 0))
    except Exception as error:  # noqa: BLE001 - of any kind: there is no compiler
        return f"NVVM cannot be used here: {' '.join(str(error).split())[:200]}"
    return ""


def main() -> int:
    """Compile, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, nargs="+", default=[90])
    parser.add_argument("--only", nargs="+", default=[])
    given = parser.parse_args()
    if problem := nvvm_problem():
        print(problem)
        return 77
    for arch in given.arch:
        compiler = Compiler(arch, given.only)
        compiler.install()
        kernels()
        for problem in compiler.problems:
            print(f"sm_{arch}: {problem} is not what a product should be")
        if compiler.problems:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
