"""Compiled kernels, run without a card: what `ptx_machine` makes of them against NumPy.

    python tests/ptx_run.py [--training | --count SHAPE ...]
    FASTBP_TEST_PTX=1 python -m pytest tests/card

NVVM is needed, as for `tests/ptx.py`; exit 77 where there is none. Half a minute each; the tests of
a card, some minutes. --count: instructions that a warp executes in a step of momentum, in the block
that executes most: what a step of a small network waits for on a card (docs/cuda.md).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "support"))

from ptx import nvvm_problem, signature_of
from ptx_instructions import GLOBAL
from ptx_machine import Machine
from ptx_memory import Memory
from ptx_text import Module

THREADS = 256
PROCESSORS = 3
NEAR = 1e-5
"""Agreement of two orders of summation in float32 after six steps; a wrong term is off by 1e-2."""


class There(np.ndarray):
    """An array in the machine's memory."""

    def copy_to_device(self, source: Any) -> None:
        self[...] = source

    def is_c_contiguous(self) -> bool:
        return bool(self.flags.c_contiguous)

    def copy_to_host(self, into: Any = None) -> Any:
        if into is None:
            return np.array(self)
        into[...] = self
        return into


class Emulated:
    """Stands for a card: memory and launches are the machine's."""

    def __init__(self) -> None:
        self.memory = Memory(1 << 28)
        self.machines: dict[Any, tuple[Machine, str]] = {}

    def install(self) -> None:
        """Put this in place of launches, memory and the card's own capability."""
        from numba.cuda import compiler, dispatcher

        from fastbp import devices
        from fastbp.cuda import programs
        from fastbp.kernels.cuda import device, memory

        card = SimpleNamespace(compute_capability=(9, 0))
        dispatcher.get_current_device = compiler.get_current_device = lambda: card
        launch = self.launch
        device.Kernel.launch = lambda kernel, blocks, *args: launch(kernel, blocks, args)
        memory.cuda.device_array = self.allocate
        memory.on_card = lambda value: isinstance(value, There)
        memory.view = lambda value: value
        memory.current_device = lambda: 0
        programs.processors = lambda: PROCESSORS
        devices.cuda_problem = lambda: ""

    def allocate(self, size: int, dtype: Any) -> Any:
        """As `cuda.device_array`; what is there before is NaN, or -1."""
        count, kind = int(size), np.dtype(dtype)
        start = self.memory.allocate(count * kind.itemsize) - GLOBAL
        raw = self.memory.bytes[start : start + count * kind.itemsize]
        raw[:] = 0xFF
        return raw.view(kind).view(There)

    def address(self, array: Any) -> int:
        """Where an array begins, as the kernels see it."""
        return int(array.ctypes.data - self.memory.bytes.ctypes.data + GLOBAL)

    def launch(self, kernel: Any, blocks: int, args: tuple[Any, ...]) -> None:
        """Compile a kernel for its arguments, once, and run it."""
        from numba import cuda, types

        plain = [np.asarray(a) if isinstance(a, np.ndarray) else a for a in args]
        signature = signature_of(tuple(plain))
        key = kernel.function, signature
        if key not in self.machines:
            ptx, _ = cuda.compile_ptx(kernel.function, signature, cc=(9, 0))
            module = Module(ptx)
            entry = next(name for name in module.functions if f".entry {name}" in ptx)
            self.machines[key] = Machine(module, self.memory), entry
        machine, entry = self.machines[key]
        values: list[Any] = []
        for a, kind in zip(plain, signature, strict=True):
            if isinstance(a, np.ndarray):
                head = [0, 0, a.size, a.itemsize, self.address(a), *a.shape, *a.strides]
                values += [np.int64(x) for x in head]
            else:
                values.append(np.int64(a) if kind is types.int64 else np.float64(a))
        machine.launch(entry, int(blocks), THREADS, values)


def products() -> None:
    """Each product, by each size of tile, on 16 bytes and off them."""
    from fastbp.kernels.cuda import linear
    from fastbp.kernels.cuda.cut import Cut
    from fastbp.kernels.cuda.tiles import TILES

    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        eps = np.finfo(dtype).eps
        for size, tile in enumerate(TILES[dtype]):
            for odd in (0, 3):
                linear.cut = lambda *args, size=size, whole: Cut(size, 1, 0, 0)
                n, m, k = tile.rows + 4 + odd, 2 * tile.depth + 8 - odd, tile.columns + 4 + odd
                A, W, D = (
                    rng.standard_normal(shape).astype(dtype) for shape in ((n, m), (m, k), (n, k))
                )
                for what, found, x, y in (
                    ("A W", linear.linear_forward(A, W), A, W),
                    ("A^T dZ", linear.weight_gradient(A, D)[0], A.T, D),
                    ("dZ W^T", linear.input_gradient(D, W), D, W.T),
                ):
                    exact = x.astype(np.longdouble) @ y.astype(np.longdouble)
                    sizes = np.abs(x).astype(np.float64) @ np.abs(y).astype(np.float64)
                    off = (np.abs(found - exact) / (sizes * eps)).max()
                    print(
                        f"{np.dtype(dtype).name} {what:7} tile {size} odd {odd}: "
                        f"{float(off):.2f} eps",
                        flush=True,
                    )
                    assert off < 4 + x.shape[1] / 2, "wrong"


def training() -> None:
    """A few steps of networks of all kinds beside the CPU's."""
    import fastbp
    from fastbp import Dense

    rng = np.random.default_rng(0)
    cases = {
        "plain": ([Dense(40, "relu"), Dense(3, "softmax")], 37, "adam"),
        "alone": (
            [Dense(33, "tanh", dropout=0.2), Dense(9, "relu"), Dense(3, "softmax")],
            5,
            "adam",
        ),
        "norm": ([Dense(70, "relu", batch_norm=True), Dense(3, "softmax")], 5, "sgd"),
        "parts": ([Dense(12, "relu"), Dense(3, "softmax")], 300, "sgd"),
    }
    for name, (layers, inputs, rule) in cases.items():
        X = rng.standard_normal((50, inputs)).astype(np.float32)
        y = rng.integers(0, 3, 50)
        nets = [fastbp.Network(inputs, layers, seed=1, device=device) for device in ("cpu", "cuda")]
        for net in nets:
            fastbp.Trainer(net, rule, batch_size=20, progress=False).fit(X, y, epochs=2)
        off = np.abs(nets[0].parameters - nets[1].parameters).max()
        print(f"{name}: weights differ by {off:.1e}", flush=True)
        assert off < NEAR
        off = np.abs(nets[0].forward(X) - nets[1].forward(X)).max()
        print(f"{name}: outputs differ by {off:.1e}", flush=True)
        assert off < NEAR


def executed(emulated: Emulated, text: str, steps: int) -> int:
    """Instructions of the busiest block's warps in a launch of so many steps, by PTX."""
    import fastbp
    from fastbp.bench.shapes import make_task, network_of, parse

    task = make_task(parse(text, steps))
    net = network_of(task.shape, device="cuda")
    rule = fastbp.SGD(0.01, momentum=0.9)
    fastbp.Trainer(net, rule, task.shape.batch, progress=False).fit(task.X, task.y)
    loops = [machine for (f, _), (machine, _) in emulated.machines.items() if "steps" in f.__name__]
    return max(block.executed for block in loops[0].grid)


def count(emulated: Emulated, shapes: list[str]) -> None:
    """Instructions a warp and step: of nine steps more, so that a launch's own are left out."""
    from fastbp.cuda import programs

    programs.processors = lambda: 132
    for text in shapes:
        few, many = (executed(emulated, text, steps) for steps in (3, 12))
        warps = THREADS // 32
        print(f"{text}: {(many - few) / 9 / warps:,.0f} instructions a warp and step", flush=True)


def main() -> int:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", action="store_true", help="whole networks: minutes")
    parser.add_argument("--count", nargs="+", metavar="SHAPE", help="notes, 784-128-10:128, ...")
    given = parser.parse_args()
    if problem := nvvm_problem():
        print(problem)
        return 77
    emulated = Emulated()
    emulated.install()
    if given.count:
        count(emulated, given.count)
    elif given.training:
        training()
    else:
        products()
    return 0


if __name__ == "__main__":
    sys.exit(main())
