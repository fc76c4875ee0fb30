"""The machine in plain Python: a Python thread for each of a grid's, blocks side by side.

Numba's own simulator runs one block after another, so that no two can meet, and polls its threads,
which takes milliseconds a meeting. Here all blocks run at once and wait at barriers. Sums and
products are NumPy's, in the kernel's dtype; there is no fused multiply-add.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from .tiles import GROUPS, HEIGHT, THREADS, WARP, WIDTH, Tile, room


class _Block:
    """What the threads of a block share."""

    def __init__(self, index: int) -> None:
        self.index, self.barrier = index, threading.Barrier(THREADS)
        self.lock, self.memory = threading.Lock(), dict[str, Any]()

    def shared(self, name: str, size: int, dtype: Any) -> Any:
        with self.lock:
            if name not in self.memory:
                unknown = {"f": np.nan, "i": -1, "O": None}[np.dtype(dtype).kind]
                self.memory[name] = np.full(size, unknown, dtype)
            return self.memory[name]


class _Grid:
    """What the threads of a grid share."""

    def __init__(self, blocks: int) -> None:
        self.blocks = [_Block(index) for index in range(blocks)]
        self.barrier = threading.Barrier(blocks * THREADS)
        self.errors: list[BaseException] = []

    def abort(self) -> None:
        self.barrier.abort()
        for one in self.blocks:
            one.barrier.abort()


class _Place(threading.local):
    """The thread of the grid that a Python thread plays."""

    grid: _Grid
    block: _Block
    index: int


_place = _Place()


class Kernel:
    """A function that a grid of threads runs."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self.__name__ = function.__name__

    def launch(self, blocks: int, *args: Any) -> None:
        """Run it and wait for its end, by a block at least; the first error of any is raised."""
        grid = _Grid(max(int(blocks), 1))
        plain = [_plain(arg) for arg in args]
        threads = [
            threading.Thread(target=self._run, args=(grid, one, index, plain), daemon=True)
            for one in grid.blocks
            for index in range(THREADS)
        ]
        for each in threads:
            each.start()
        interrupt = _joined(threads)
        if interrupt is not None:
            raise interrupt
        for error in grid.errors:
            if not isinstance(error, threading.BrokenBarrierError):
                raise error

    def _run(self, grid: _Grid, one: _Block, index: int, args: list[Any]) -> None:
        _place.grid, _place.block, _place.index = grid, one, index
        try:
            with np.errstate(all="ignore"):
                self.function(*args)
        except BaseException as error:  # noqa: BLE001 - raised by `launch`
            grid.errors.append(error)
            grid.abort()


def _joined(threads: list[threading.Thread]) -> KeyboardInterrupt | None:
    """Wait for all, as a card's kernel runs to its end; an interrupt meanwhile."""
    interrupt = None
    for each in threads:
        while each.is_alive():
            try:
                each.join()
            except KeyboardInterrupt as error:
                interrupt = error
    return interrupt


def _plain(arg: Any) -> Any:
    """The memory of one of the simulator's arrays."""
    return getattr(arg, "_ary", arg)


def kernel(function: Callable[..., None]) -> Kernel:
    """A function to launch."""
    return Kernel(function)


def device(function: Callable[..., Any]) -> Any:
    """A function that kernels call."""
    return function


def thread() -> int:
    """The thread's number in its block."""
    return _place.index


def block() -> int:
    """The block's number."""
    return _place.block.index


def blocks() -> int:
    """How many blocks there are."""
    return len(_place.grid.blocks)


def sync_block() -> None:
    """All threads of the block wait for each other."""
    _place.block.barrier.wait()


def sync_grid() -> None:
    """All threads of all blocks wait for each other."""
    _place.grid.barrier.wait()


def shuffle_xor(value: Any, offset: int) -> Any:
    """The value of the thread whose number in the warp differs in that bit. All threads call it."""
    slots = _place.block.shared("lanes", THREADS, object)
    slots[_place.index] = value
    sync_block()
    other = slots[_place.index ^ offset]
    sync_block()
    return other


def cooperative() -> None:
    """Blocks are threads here: they always run at once."""


def noinline() -> None:
    """Nothing is compiled here that could be in or out of line."""


def shared_reals(real: Any) -> Any:
    """The block's shared memory in the kernel's dtype; `real` is an array of it."""
    return _place.block.shared("reals", room(real.dtype.type), real.dtype)


def shared_integers(size: int) -> Any:
    """So many integers of the block's shared memory; of another number, other memory."""
    return _place.block.shared(f"{size} integers", size, np.int64)


def shared_doubles(size: int) -> Any:
    """So many float64 of the block's shared memory; of another number, other memory."""
    return _place.block.shared(f"{size} doubles", size, np.float64)


def like(x: Any, number: float) -> Any:
    """A number in the dtype of x."""
    return np.asarray(x).dtype.type(number)


def fma(a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded twice, where a card rounds once."""
    return a * b + c


def shared_load(shared: Any, index: int) -> Any:
    """shared[index]."""
    return shared[index]


def shared_store(shared: Any, index: int, value: Any) -> None:
    """shared[index] = value."""
    shared[index] = value


def blanking(count: int) -> Any:
    """`blank(array)`: so many sums of its dtype."""
    return lambda real: np.zeros(count, real.dtype)


def async_copy(size: int, rounds: int, gap: int, step: int) -> Any:
    """`copy(...)`: what a card copies meanwhile is there at once; outside of the array, 0."""

    def copy(
        shared: Any, to: int, array: Any, source: int, ld: int, first: int, second: int
    ) -> None:
        for u in range(rounds):
            count = max(0, min(first, size)) if u * gap < second else 0
            at, index = to + u * gap * step, source + u * gap * ld
            assert at % size == 0
            assert count == 0 or (index >= 0 and index % size == 0)
            shared[at : at + size] = 0
            shared[at : at + count] = array[index : index + count]

    return copy


def commit_group() -> None:
    """Nothing is under way that a group of copies could be."""


def wait_group(pending: int) -> Any:
    """`wait()`: nothing to wait for, what is copied is there at once."""
    return commit_group


def _places(tile: Tile) -> tuple[Any, Any]:
    """Rows and columns of a thread's results, from its first row and its warp's first column."""
    down, across = tile.fragments
    of_row = [f // across * HEIGHT + half * GROUPS for f in range(down * across) for half in (0, 1)]
    of_column = [f % across * WIDTH for f in range(down * across)]
    return np.repeat(of_row, 2), np.repeat(of_column, 4) + np.tile([0, 1], tile.results // 2)


def accumulation(tile: Tile, a_strides: tuple[int, int], b_strides: tuple[int, int]) -> Any:
    """`accumulate(shared, a, b, sums)`: sums + a warp's part of a stage's products."""
    rows, columns = _places(tile)
    terms = np.arange(tile.terms)

    def accumulate(shared: Any, a: int, b: int, sums: Any) -> Any:
        # On a card a thread loads a share of its warp's factors; here, all that it needs itself.
        lane = _place.index % WARP
        a -= lane % 4 * a_strides[1]
        b += 2 * (lane % 4) * b_strides[0] - lane % 4 * b_strides[1] - lane // 4 * b_strides[0]
        x = shared[a + rows[:, None] * a_strides[0] + terms * a_strides[1]]
        y = shared[b + columns[:, None] * b_strides[0] + terms * b_strides[1]]
        return sums + (x * y).sum(axis=1)

    return accumulate


def store_fragments(tile: Tile) -> Any:
    """`store(sums, shared, base)`: a thread's results to shared memory, the first two at `base`."""
    rows, columns = _places(tile)

    def store(sums: Any, shared: Any, base: int) -> None:
        shared[base + rows * tile.pitch + columns] = sums

    return store
