"""Everything that a card is asked for but its kernels: memory is NumPy's, launches are counted.

    python tests/dry_card.py

Run as for a card, not in the simulator, whose kernels are functions of Python: on a card a kernel's
helper cannot be called by the host, and only here (or there) would that be found. Exit 77: Numba
has no CUDA target. `tests/test_cuda.py` starts it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


class Memory(np.ndarray):
    """An array that passes for a card's."""

    def copy_to_device(self, source: Any) -> None:
        self[...] = source

    def copy_to_host(self, into: Any) -> None:
        into[...] = self


def dry() -> list[str]:
    """Put this in place of the card; the names of what is launched from then on."""
    from fastbp import devices
    from fastbp.cuda import programs
    from fastbp.kernels.cuda import device, loop, memory

    launched: list[str] = []

    def launch(kernel: Any, blocks: int, *args: Any) -> None:
        launched.append(kernel.__name__)
        if kernel.__name__ == "run_steps":  # a step was made, of loss 1 a sample
            from fastbp.kernels.cpu.slots import LOSS_SUM, STEPS, WEIGHT_SUM

            results, bounds = args[RESULTS], args[BOUNDS]
            results[STEPS] += len(bounds) - 1
            results[LOSS_SUM] += bounds[-1]
            results[WEIGHT_SUM] += bounds[-1]

    names = loop.kernels[np.float32].function.__code__.co_varnames
    RESULTS, BOUNDS = names.index("results"), names.index("bounds")
    device.Kernel.launch = launch  # type: ignore[method-assign]
    memory.allocate = lambda size, dtype, what: np.zeros(max(int(size), 1), dtype).view(Memory)
    memory.current_device = lambda: 0
    programs.processors = lambda: 132
    devices.cuda_problem = lambda: ""
    return launched


def kept_on_disk() -> None:
    """The loop has the cache's lock, directory and a stamp of its own."""
    from fastbp.kernels.cpu.entries import EntriesCache
    from fastbp.kernels.cpu.jit import cache_directory, source_stamp
    from fastbp.kernels.cuda import cache, loop

    kept = loop.kernels[np.float32].dispatcher._cache
    assert isinstance(kept, EntriesCache)
    assert kept._cache_file.directory == cache_directory()
    assert kept._cache_file.stamp == cache.card_stamp() != source_stamp()
    kept._cache_file.save("key", [1, 2])
    assert kept._cache_file.load("key") == [1, 2]
    kept.flush()
    assert kept._cache_file.load("key") is None


def locks_are_given_back() -> None:
    """Who fails to compile a kernel does not keep other processes from it."""
    from numba import types

    from fastbp.kernels.cpu.entries import open_lock, take
    from fastbp.kernels.cuda.device import Kernel

    def wrong(x: Any) -> None:
        x.nothing()

    dispatcher = Kernel(wrong).dispatcher
    try:
        dispatcher.compile((types.int64,))
    except Exception:  # noqa: BLE001 - of a type that differs with the compiler and the driver
        assert take(open_lock(dispatcher._cache._lock_path()))
    else:
        raise AssertionError


def launches_are_bounded() -> None:
    """A block at least. Their numbers have 16 bits: of more tiles, blocks have several each."""
    from fastbp.kernels.cuda.device import BLOCK_MASK, Kernel

    kernel, started = Kernel.__new__(Kernel), list[int]()
    kernel._grids = {}
    kernel._grid = lambda blocks: started.append(blocks) or (lambda *args: None)  # type: ignore[method-assign, func-returns-value]
    for blocks in (0, 1, BLOCK_MASK, BLOCK_MASK + 1, 10**6):
        kernel.launch(blocks)
    assert started == [1, BLOCK_MASK]


def cut_into_items() -> None:
    """Products are cut so that all of a card works, and parts of sums are all of the terms."""
    from fastbp.kernels.cuda.cut import cut
    from fastbp.kernels.cuda.tiles import PROCESSORS, TILES

    for real in (np.float32, np.float64):
        for rows, columns, length in (
            (32, 10, 784), (128, 128, 784), (256, 512, 784), (512, 2048, 2048), (512, 10, 2048),
            (128, 128, 4096), (1, 1, 1), (3, 2, 0),
        ):  # fmt: skip
            made = cut([(rows, columns)], length, real)
            tile = TILES[real][made.size]
            items = tile.number(rows, columns) * made.parts
            assert made.span % tile.depth == 0
            assert (made.parts - 1) * made.span < max(length, 1) <= made.parts * made.span
            assert made.parts == 1 or items <= PROCESSORS
    assert cut([(32, 10)], 784, np.float32).parts > 8
    assert cut([(512, 2048)], 2048, np.float32).parts == 1


def main() -> int:
    """Train, look and infer with every layer there is."""
    try:
        from fastbp.kernels.cuda.shim import SIMULATED
    except ImportError as error:
        print(error)
        return 77
    assert not SIMULATED
    launches_are_bounded()
    launched = dry()
    import fastbp
    from fastbp import Dense

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 6)).astype(np.float32), rng.integers(0, 4, 40)
    for activation in ("relu", "gelu", "softmax", "tanh"):
        for norm in (False, True, "after"):
            layers = [Dense(300, activation, batch_norm=norm, dropout=0.1), Dense(9, activation)]
            net = fastbp.Network(6, [*layers, Dense(4, "softmax")], device="cuda")
            given = {"batch_size": 16, "progress": False, "clip_norm": 1.0}
            history = fastbp.Trainer(net, "adam", **given).fit(X, y, epochs=2, validation=0.25)
            assert history.loss == [1.0, 1.0]
            net.forward(X)
            net.evaluate(X, y)
            net.gradients(X, y)
    kept_on_disk()
    locks_are_given_back()
    cut_into_items()
    print(f"{len(launched)} launches of {', '.join(sorted(set(launched)))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
