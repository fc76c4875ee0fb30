"""A machine for PTX in NumPy: what the compiler made of a kernel, run without a card.

All threads of a block take an instruction together where they are at the same one. Who waits for
whom is kept: a barrier needs its whole block, `mma`, `shfl` their whole warp, and an asynchronous
copy is nobody's before it has been waited for (until then its target holds NaN). An access outside
of what was allocated, or off its alignment, is an error. Arithmetic is NumPy's: the last bit of a
fused or approximate instruction may differ from a card's.

Instructions: PTX ISA 9.0 (NVIDIA), section 9.7; fragments of `mma`: section 9.7.14.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from ptx_instructions import GLOBAL, HANDLERS, LOCAL, SHARED, WARP
from ptx_memory import Memory, Watch
from ptx_text import KINDS, Instruction, Module

Array = np.ndarray[Any, Any]


class Block:
    """A block's threads: registers by function, places in the code, what they wait for."""

    def __init__(self, machine: Machine, index: int, threads: int) -> None:
        self.machine, self.index, self.threads = machine, index, threads
        self.registers: dict[str, dict[str, Array]] = {}
        self.params: dict[str, Array] = {}
        self.at = np.zeros(threads, np.int64)
        self.depth = np.zeros(threads, np.int64)
        self.stack = np.full((threads, 16), -1, np.int64)
        self.waits = np.zeros(threads, np.bool_)  # at a barrier
        self.shared = np.zeros(machine.shared_size, np.uint8)
        self.watch = Watch(machine.shared_size)
        self.local: dict[str, Array] = {}
        self.copies: list[list[list[Any]]] = [[[]] for _ in range(threads)]
        self.turn = True
        self.executed = 0  # instructions, by warps

    def step(self) -> bool:
        """Run until all have ended, or wait for other blocks; whether something was done."""
        did = False
        self.turn = True
        while self.turn:
            ready = (self.at >= 0) & ~self.waits
            if not ready.any():
                if not self.waits.any():
                    return did
                if (self.waits == (self.at >= 0)).all():
                    if np.unique(self.at).size > 1:
                        raise RuntimeError("threads of a block meet at different places")
                    self.waits[:] = False
                    self.watch.meeting += 1
                    continue
                raise RuntimeError("deadlock: some threads have ended, others wait for them")
            self._advance(ready)
            did = True
        return did

    def _advance(self, ready: Array) -> None:
        """One instruction of those threads that are deepest and furthest back."""
        held = np.zeros(self.threads, np.bool_)
        while True:
            able = ready & ~held
            if not able.any():
                raise RuntimeError("deadlock: a warp's threads wait for each other")
            deep = able & (self.depth == self.depth[able].max())
            where = self.at[deep].min()
            group = np.flatnonzero(deep & (self.at == where))
            one = self.machine.code[where]
            if one.name[0] in ("mma", "shfl"):
                whole = np.bincount(group // WARP, minlength=self.threads // WARP) == WARP
                held[group[~whole[group // WARP]]] = True
                group = group[whole[group // WARP]]
                if not group.size:
                    continue
            self.machine.execute(self, one, int(where), group)
            return


class Machine:
    """Runs entries of a module on arrays in its memory."""

    def __init__(self, module: Module, memory: Memory) -> None:
        self.module, self.memory, self.code = module, memory, module.code
        self.addresses: dict[str, int] = {}
        self.shared_size = 0
        for name, (space, size, data) in module.variables.items():
            if space == "shared":
                self.shared_size = -(-self.shared_size // 16) * 16
                self.addresses[name] = self.shared_size
                self.shared_size += size
            else:
                self.addresses[name] = memory.allocate(max(size, 1))
                start = self.addresses[name] - GLOBAL
                memory.bytes[start : start + len(data)] = np.frombuffer(data, np.uint8)
        self.owner = np.zeros(len(self.code) + 1, np.int64)
        self.names = list(module.functions)
        for number, function in enumerate(module.functions.values()):
            self.owner[function.first :] = number

    def launch(self, entry: str, blocks: int, threads: int, values: list[Any]) -> None:
        """Run to the end. values: the entry's parameters, numbers of their own types."""
        function = self.module.functions[entry]
        assert len(values) == len(function.params), (len(values), len(function.params))
        grid = [Block(self, index, threads) for index in range(blocks)]
        self.blocks = blocks
        self.grid = grid
        for one in grid:
            one.at[:] = function.first
            for (name, size), value in zip(function.params.items(), values, strict=True):
                raw = np.frombuffer(value.tobytes()[:size].ljust(size, b"\0"), np.uint8)
                one.params[name] = np.tile(raw, (threads, 1))
        with np.errstate(all="ignore"):
            while any((one.at >= 0).any() for one in grid):
                moved = [one.step() for one in grid]  # all of them, by turns
                if not any(moved):
                    raise RuntimeError("deadlock: blocks wait for each other")

    # --- operands ------------------------------------------------------------------------------

    def _registers(self, block: Block, where: int) -> dict[str, Array]:
        name = self.names[self.owner[where]]
        if name not in block.registers:
            kinds = self.module.functions[name].registers
            block.registers[name] = {
                one: np.zeros(block.threads, kind) for one, kind in kinds.items() if one != "local"
            }
        return block.registers[name]

    def value(
        self, block: Block, one: Instruction, where: int, text: str, g: Array, kind: Any
    ) -> Any:
        """An operand's values of the threads g, as of that kind."""
        if text[0] == "%":
            if text in SPECIAL:
                return SPECIAL[text](block, g).astype(kind)
            found = self._registers(block, where)[text][g]
            if found.dtype == kind:
                return found
            if found.dtype.itemsize == np.dtype(kind).itemsize and found.dtype != np.bool_:
                return found.view(kind)
            return found.astype(kind)
        if text.startswith(("0f", "0F")):
            return np.full(g.size, np.uint32(int(f"0x{text[2:]}", 0))).view(np.float32)
        if text.startswith(("0d", "0D")):
            return np.full(g.size, np.uint64(int(f"0x{text[2:]}", 0))).view(np.float64)
        if re.fullmatch(r"-?\d+|-?0x[0-9a-fA-F]+", text):
            number = int(text, 0)
            bits = np.dtype(kind).itemsize * 8 if kind is not np.bool_ else 8
            if np.dtype(kind).kind == "f":
                return np.full(g.size, number, kind)
            raw = np.full(g.size, number % (1 << bits), KINDS[f"u{bits}"])
            return raw.view(kind) if kind is not np.bool_ else raw != 0
        if text in self.addresses:
            return np.full(g.size, self.addresses[text], np.uint64).astype(kind)
        name = self.names[self.owner[where]]
        if text == self.module.functions[name].registers.get("local"):
            return np.full(g.size, int(self.owner[where]) + 1 << 20, np.uint64).astype(kind)
        raise NotImplementedError(f"operand {text} of {one.text}")

    def put(self, block: Block, where: int, name: str, g: Array, value: Any) -> None:
        """Write a register of the threads g, keeping bits where sizes agree."""
        if name == "_":
            return
        to = self._registers(block, where)[name]
        value = np.asarray(value)
        if value.dtype != to.dtype and value.dtype.itemsize == to.dtype.itemsize:
            if value.dtype != np.bool_ and to.dtype != np.bool_:
                value = np.ascontiguousarray(value).view(to.dtype)
        elif value.dtype.kind == "i" and to.dtype.itemsize > value.dtype.itemsize:
            value = value.astype(f"i{to.dtype.itemsize}").view(to.dtype)
        to[g] = value

    # --- memory --------------------------------------------------------------------------------

    def _place(self, block: Block, space: str, address: Array, size: int, where: int) -> Any:
        """(bytes, offsets) of an access, checked."""
        address = address.astype(np.int64)
        if (address % size).any():
            raise RuntimeError(f"misaligned access of {size} bytes: {self.code[where].text}")
        if space == "generic":
            if (address >= GLOBAL).all():
                space = "global"
            elif (address >= SHARED).all():
                space, address = "shared", address - SHARED
            else:
                space, address = "local", address - LOCAL
        if space == "shared":
            if (address < 0).any() or (address + size > block.shared.size).any():
                raise RuntimeError(f"outside of shared memory: {self.code[where].text}")
            return block.shared, address
        if space == "local":
            return None, address
        offset = address - GLOBAL
        memory = self.memory
        inside = (offset >= 0) & (offset + size <= memory.bytes.size)
        if not inside.all() or not memory.owned[offset >> 2].all():
            raise RuntimeError(f"outside of what was allocated: {self.code[where].text}")
        if not memory.owned[offset + size - 1 >> 2].all():
            raise RuntimeError(f"outside of what was allocated: {self.code[where].text}")
        return memory.bytes, offset

    def _view(
        self, block: Block, space: str, address: Array, kind: Any, where: int, g: Array
    ) -> tuple[Array, Array, bool]:
        """Elements of memory, those that the threads g mean, and whether it is the block's."""
        size = np.dtype(kind).itemsize
        store, at = self._place(block, space, address, size, where)
        if store is None:
            store = self._local(block, where, at, size)
            at = g * store.shape[1] + at
            store = store.reshape(-1)
        return store.view(kind), at // size, store is block.shared

    def read(
        self, block: Block, space: str, address: Array, kind: Any, where: int, g: Array
    ) -> Array:
        """What the threads g load."""
        elements, at, shared = self._view(block, space, address, kind, where, g)
        if shared:
            size = elements.itemsize
            block.watch.read(at * size, size, g, self.code[where].text)
        return elements[at]

    def write(
        self, block: Block, space: str, address: Array, value: Array, where: int, g: Array
    ) -> None:
        """What the threads g store."""
        elements, at, shared = self._view(block, space, address, value.dtype, where, g)
        if shared:
            size = elements.itemsize
            block.watch.write(at * size, size, g, self.code[where].text)
        elements[at] = value

    def _local(self, block: Block, where: int, at: Array, size: int) -> Array:
        """The threads' own memory: of the function whose frame it is, which the address tells."""
        name = self.names[(int(at[0]) >> 20) - 1]
        at &= (1 << 20) - 1
        if name not in block.local:
            room = -(-max(self.module.functions[name].local, 8) // 16) * 16
            block.local[name] = np.zeros((block.threads, room), np.uint8)
        return block.local[name]

    def address(self, block: Block, one: Instruction, where: int, text: str, g: Array) -> Array:
        """[base + offset]."""
        base, _, offset = text.strip("[]").partition("+")
        found = self.value(block, one, where, base.strip(), g, np.uint64).astype(np.int64)
        return found + int(offset or 0)

    # --- execution -----------------------------------------------------------------------------

    def execute(self, block: Block, one: Instruction, where: int, g: Array) -> None:
        """An instruction by the threads g, who are all there."""
        block.at[g] = where + 1
        block.executed += np.unique(g // WARP).size
        if one.guard is not None:
            name, negated = one.guard
            holds = self._registers(block, where)[name][g] != negated
            g = g[holds]
            if not g.size:
                return
        handler = HANDLERS.get(one.name[0])
        if handler is None:
            raise NotImplementedError(one.text)
        handler(self, block, one, where, g)


SPECIAL: dict[str, Callable[[Block, Array], Array]] = {
    "%tid.x": lambda block, g: g,
    "%ctaid.x": lambda block, g: np.full(g.size, block.index),
    "%nctaid.x": lambda block, g: np.full(g.size, block.machine.blocks),
    "%clock64": lambda block, g: np.full(g.size, block.executed),
    "%ntid.x": lambda block, g: np.full(g.size, block.threads),
}
