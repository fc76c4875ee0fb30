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
from dataclasses import dataclass, field
from typing import Any

import numpy as np

WARP = 32
LOCAL, SHARED, GLOBAL = 1 << 40, 1 << 41, 1 << 42
"""Where the windows of generic addresses begin."""
KINDS = {
    "pred": np.bool_, "u8": np.uint8, "s8": np.int8, "b8": np.uint8, "u16": np.uint16,
    "s16": np.int16, "b16": np.uint16, "u32": np.uint32, "s32": np.int32, "b32": np.uint32,
    "u64": np.uint64, "s64": np.int64, "b64": np.uint64, "f32": np.float32, "f64": np.float64,
}  # fmt: skip
Array = np.ndarray[Any, Any]


@dataclass
class Instruction:
    """guard: the predicate's register, and whether it has to be false."""

    name: list[str]
    operands: list[str]
    text: str
    guard: tuple[str, bool] | None = None
    target: int = -1
    plan: Any = None

    @property
    def kind(self) -> Any:
        return KINDS[self.name[-1]]


@dataclass
class Function:
    """Instructions [first, end) of the module's; registers by name."""

    name: str
    first: int
    params: dict[str, int] = field(default_factory=dict)
    registers: dict[str, Any] = field(default_factory=dict)
    local: int = 0
    result: str = ""


def _split(text: str) -> list[str]:
    """Operands, where {..} and [..] hold together."""
    found, depth, start = [], 0, 0
    for at, c in enumerate(text):
        depth += (c in "{[(") - (c in "}])")
        if c == "," and depth == 0:
            found.append(text[start:at].strip())
            start = at + 1
    return [*found, text[start:].strip()] if text.strip() else []


class Module:
    """A parsed text of PTX."""

    def __init__(self, text: str) -> None:
        self.code: list[Instruction] = []
        self.functions: dict[str, Function] = {}
        self.variables: dict[str, tuple[str, int, bytes]] = {}
        text = re.sub(r"//[^\n]*", "", text)
        text = re.sub(r'\.pragma "[^"]*";', "", text)
        body = re.compile(
            r"(?:\.visible|\.weak)\s+\.(?:entry|func)\s+(?:\(([^)]*)\)\s*)?(\S+?)\s*\(([^)]*)\)"
            r"[^{;]*\{"
        )
        for found in re.finditer(
            r"^\.(?:\w+ \.)?(shared|global|const)\s+(?:\.align \d+\s+)?\.(\w+)\s+([\w$]+)"
            r"(?:\[(\d+)\])?(?:\s*=\s*([^;]+))?;", text, re.MULTILINE,
        ):  # fmt: skip
            space, kind, name, count, values = found.groups()
            size = np.dtype(KINDS[kind]).itemsize * int(count or 1)
            numbers = re.findall(r"-?\w+", values or "")
            data = np.array([int(n, 0) for n in numbers], KINDS[kind]).tobytes()
            self.variables[name] = space, size, data
        for found in body.finditer(text):
            self._function(found, text)

    def _function(self, found: Any, text: str) -> None:
        result, name, params = found.groups()
        made = Function(name, len(self.code))
        for kind, param in re.findall(r"\.param\s+\.(\w+)\s+(?:\.align \d+\s+)?(\S+?)(?:,|\s|$)",
                                      params):  # fmt: skip
            made.params[param] = np.dtype(KINDS[kind]).itemsize
        if result:
            made.result = result.split()[-1]
        at, depth, end = found.end(), 1, found.end()
        while depth:
            depth += (text[end] == "{") - (text[end] == "}")
            end += 1
        labels: dict[str, int] = {}
        body = re.sub(r"(\$\w+):", r"\1:;", text[at : end - 1])
        for statement in self._statements(body):
            self._statement(statement, made, labels)
        for one in self.code[made.first :]:
            if one.name[0] == "bra":
                one.target = labels[one.operands[0]]
        self.functions[name] = made

    @staticmethod
    def _statements(body: str) -> list[str]:
        """Statements: blocks in braces are only of calls, whose names are made anew each time."""
        body = re.sub(r"^\s*[{}]\s*$", ";", body, flags=re.MULTILINE)
        return [" ".join(one.split()) for one in body.split(";") if one.split()]

    def _statement(self, text: str, made: Function, labels: dict[str, int]) -> None:
        if text.endswith(":"):
            labels[text[:-1]] = len(self.code)
            return
        if text.startswith(".reg"):
            kind, names = re.fullmatch(r"\.reg \.(\w+) (.+)", text).groups()  # type: ignore[union-attr]
            for name in _split(names):
                many = re.fullmatch(r"(\S+)<(\d+)>", name)
                every = [f"{many[1]}{i}" for i in range(int(many[2]))] if many else [name]
                made.registers |= dict.fromkeys(every, KINDS[kind])
            return
        if text.startswith(".local"):
            made.local = int(re.search(r"\[(\d+)\]", text)[1])  # type: ignore[index]
            made.registers["local"] = re.search(r"(\S+)\[", text)[1]  # type: ignore[index]
            return
        if text.startswith("."):  # .param of a call
            return
        guard = None
        if text.startswith("@"):
            first, text = text.split(" ", 1)
            guard = first.lstrip("@!"), "!" in first
        name, _, rest = text.partition(" ")
        operands = _split(rest)
        self.code.append(Instruction(name.split("."), operands, text, guard))


class Memory:
    """The card's global memory: allocations with gaps, every access checked."""

    def __init__(self, size: int = 1 << 26) -> None:
        self.bytes = np.zeros(size, np.uint8)
        self.owned = np.zeros(size >> 2, np.bool_)  # by words
        self.free = 256

    def allocate(self, size: int) -> int:
        """The address of so many bytes."""
        start = self.free
        self.free += -(-size // 256) * 256 + 256
        if self.free > self.bytes.size:
            raise MemoryError("the machine's memory is full: make it larger")
        self.owned[start >> 2 : (start + size + 3) >> 2] = True
        return GLOBAL + start


class Block:
    """A block's threads: registers by function, places in the code, what they wait for."""

    def __init__(self, machine: Machine, index: int, threads: int) -> None:
        self.machine, self.index, self.threads = machine, index, threads
        self.registers: dict[str, dict[str, Array]] = {}
        self.params: dict[str, Array] = {}
        self.at = np.zeros(threads, np.int64)
        self.depth = np.zeros(threads, np.int64)
        self.stack = np.full((threads, 16), -1, np.int64)
        self.inside = [""] * 16
        self.waits = np.zeros(threads, np.bool_)  # at a barrier
        self.shared = np.zeros(machine.shared_size, np.uint8)
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
                    self.waits[:] = False
                    continue
                raise RuntimeError("deadlock: some threads have ended, others wait for them")
            if not self._advance(ready):
                return did
            did = True
        return did

    def _advance(self, ready: Array) -> bool:
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
            return True


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
        for one in grid:
            one.at[:] = function.first
            for (name, size), value in zip(function.params.items(), values, strict=True):
                raw = np.frombuffer(value.tobytes()[:size].ljust(size, b"\0"), np.uint8)
                one.params[name] = np.tile(raw, (threads, 1))
        with np.errstate(all="ignore"):
            while any((one.at >= 0).any() for one in grid):
                if not any([one.step() for one in grid]):
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

    def value(self, block: Block, one: Instruction, where: int, text: str, g: Array, kind: Any) -> Any:
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
            return np.full(g.size, np.uint32(int(text[2:], 16))).view(np.float32)
        if text.startswith(("0d", "0D")):
            return np.full(g.size, np.uint64(int(text[2:], 16))).view(np.float64)
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

    def read(
        self, block: Block, space: str, address: Array, kind: Any, where: int, g: Array
    ) -> Array:
        size = np.dtype(kind).itemsize
        store, at = self._place(block, space, address, size, where)
        if store is None:
            store = self._local(block, where, at, size)
            at = g * store.shape[1] + at
            store = store.reshape(-1)
        return store.view(kind)[at // size]

    def write(
        self, block: Block, space: str, address: Array, value: Array, where: int, g: Array
    ) -> None:
        size = value.dtype.itemsize
        store, at = self._place(block, space, address, size, where)
        if store is None:
            store = self._local(block, where, at, size)
            at = g * store.shape[1] + at
            store = store.reshape(-1)
        store.view(value.dtype)[at // size] = value

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
HANDLERS: dict[str, Callable[..., None]] = {}


def handler(*names: str) -> Any:
    """Register a function for these instructions."""

    def register(function: Any) -> Any:
        HANDLERS.update(dict.fromkeys(names, function))
        return function

    return register


def _bits(kind: Any) -> int:
    return int(np.dtype(kind).itemsize * 8)


def _rounded(exact: Array, kind: Any, way: str) -> Array:
    """A float64 to float32, towards minus infinity (rm), zero (rz), or the nearest."""
    found = exact.astype(kind)
    if kind == np.float64 or way not in ("rm", "rz"):
        return found
    over = found.astype(np.float64) > exact if way == "rm" else np.abs(found) > np.abs(exact)
    toward = np.full_like(found, -np.inf) if way == "rm" else np.zeros_like(found)
    return np.where(over, np.nextafter(found, toward), found)


def _arithmetic(name: str, values: list[Array], kind: Any) -> Array:
    a, *rest = values
    b = rest[0] if rest else a
    if name == "add":
        return a + b
    if name == "sub":
        return a - b
    if name == "mul":
        return a * b
    if name == "neg":
        return -a if np.dtype(kind).kind == "f" else (0 - a.astype(kind)).astype(kind)
    if name == "abs":
        return np.abs(a)
    if name == "min":
        return np.fmin(a, b)
    if name == "max":
        return np.fmax(a, b)
    if name == "and":
        return a & b
    if name == "or":
        return a | b
    if name == "xor":
        return a ^ b
    if name == "not":
        return ~a
    if name == "sqrt":
        return np.sqrt(a)
    if name == "rcp":
        return (1 / a).astype(kind)
    if name == "ex2":
        return np.exp2(a)
    if name == "lg2":
        return np.log2(a)
    if name == "copysign":
        return np.copysign(b, a)
    raise NotImplementedError(name)


@handler(
    "add", "sub", "neg", "abs", "min", "max", "and", "or", "xor", "not", "sqrt", "rcp", "ex2",
    "lg2", "copysign",
)  # fmt: skip
def _simple(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    kind = one.kind
    values = [m.value(block, one, where, x, g, kind) for x in one.operands[1:]]
    way = next((x for x in one.name if x in ("rm", "rz")), "")
    if way:
        values = [x.astype(np.float64) for x in values]
    found = _arithmetic(one.name[0], values, kind)
    m.put(block, where, one.operands[0], g, _rounded(found, kind, way) if way else found)


@handler("mul")
def _mul(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    kind = one.kind
    a, b = (m.value(block, one, where, x, g, kind) for x in one.operands[1:])
    if np.dtype(kind).kind == "f":
        found = a * b
    elif "wide" in one.name:
        wider = f"{np.dtype(kind).kind}{2 * np.dtype(kind).itemsize}"
        found = a.astype(wider) * b.astype(wider)
    elif "hi" in one.name:
        product = a.astype(object) * b.astype(object)
        found = np.array([int(x) >> _bits(kind) for x in product], object).astype(kind)
    else:
        found = a * b
    m.put(block, where, one.operands[0], g, found)


@handler("mad", "fma")
def _fma(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    kind = one.kind
    a, b, c = (m.value(block, one, where, x, g, kind) for x in one.operands[1:])
    if np.dtype(kind).kind != "f":
        if "wide" in one.name:
            raise NotImplementedError(one.text)
        m.put(block, where, one.operands[0], g, a * b + c)
        return
    wider = np.float64 if kind == np.float32 else np.longdouble
    exact = a.astype(wider) * b.astype(wider) + c.astype(wider)
    way = next((x for x in one.name if x in ("rm", "rz")), "")
    m.put(block, where, one.operands[0], g, _rounded(exact, kind, way))


@handler("div", "rem")
def _div(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    kind = one.kind
    a, b = (m.value(block, one, where, x, g, kind) for x in one.operands[1:])
    if np.dtype(kind).kind == "f":
        m.put(block, where, one.operands[0], g, a / b)
        return
    if (b == 0).any():
        raise RuntimeError(f"division by zero: {one.text}")
    quotient = (np.abs(a) // np.abs(b)) * np.sign(a) * np.sign(b)  # towards zero
    found = quotient if one.name[0] == "div" else a - quotient * b
    m.put(block, where, one.operands[0], g, found.astype(kind))


@handler("shl", "shr")
def _shift(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    kind = one.kind
    a = m.value(block, one, where, one.operands[1], g, kind)
    by = m.value(block, one, where, one.operands[2], g, np.uint32).astype(np.int64)
    most = _bits(kind)
    left = one.name[0] == "shl"
    inside = np.minimum(by, most - 1).astype(kind)
    found = a << inside if left else a >> inside
    beyond = np.where(a < 0, -1, 0) if np.dtype(kind).kind == "i" and not left else 0
    m.put(block, where, one.operands[0], g, np.where(by >= most, beyond, found).astype(kind))


@handler("bfi")
def _bfi(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    kind = one.kind
    a, b = (m.value(block, one, where, x, g, kind) for x in one.operands[1:3])
    at, size = (int(m.value(block, one, where, x, g[:1], np.uint32)[0]) for x in one.operands[3:])
    mask = kind(((1 << size) - 1) << at)
    m.put(block, where, one.operands[0], g, (b & ~mask) | ((a << kind(at)) & mask))


@handler("mov", "cvta")
def _mov(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    to, source = one.operands
    kind = one.kind
    if source[0] == "{" or to[0] == "{":
        parts = _split((source if source[0] == "{" else to).strip("{}"))
        half = KINDS[f"b{_bits(kind) // len(parts)}"]
        if source[0] == "{":
            found = np.zeros(g.size, kind)
            for i, part in enumerate(parts):
                value = m.value(block, one, where, part, g, half).astype(kind)
                found |= value << kind(i * _bits(half))
            m.put(block, where, to, g, found)
            return
        value = m.value(block, one, where, source, g, kind)
        for i, part in enumerate(parts):
            m.put(block, where, part, g, (value >> kind(i * _bits(half))).astype(half))
        return
    value = m.value(block, one, where, source, g, kind)
    if one.name[0] == "cvta":
        base = {"global": 0, "shared": SHARED, "local": LOCAL}[
            next(x for x in one.name if x in ("global", "shared", "local"))
        ]
        change = np.uint64(base)
        value = value - change if "to" in one.name else value + change
    m.put(block, where, to, g, value)


_COMPARE = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip


@handler("setp")
def _setp(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    a, b = (m.value(block, one, where, x, g, one.kind) for x in one.operands[1:3])
    name = one.name[1]
    floats = np.dtype(one.kind).kind == "f"
    unordered = np.isnan(a) | np.isnan(b) if floats else np.zeros(g.size, np.bool_)
    if name == "nan":
        found = unordered
    elif name == "num":
        found = ~unordered
    elif name in _COMPARE:
        found = _COMPARE[name](a, b) & ~unordered
    else:
        found = _COMPARE[name[:-1]](a, b) | unordered
    m.put(block, where, one.operands[0].split("|")[0], g, found)


@handler("selp")
def _selp(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    a, b = (m.value(block, one, where, x, g, one.kind) for x in one.operands[1:3])
    chosen = m.value(block, one, where, one.operands[3], g, np.bool_)
    m.put(block, where, one.operands[0], g, np.where(chosen, a, b))


@handler("cvt")
def _cvt(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    if "tf32" in one.name:  # 11 bits, to the nearest and away from zero
        bits = m.value(block, one, where, one.operands[1], g, np.uint32)
        infinite = (bits & 0x7F800000) == 0x7F800000
        found = np.where(infinite, bits, (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000))
        m.put(block, where, one.operands[0], g, found.astype(np.uint32))
        return
    to, source = KINDS[one.name[-2]], KINDS[one.name[-1]]
    value = m.value(block, one, where, one.operands[1], g, source)
    if "sat" in one.name:
        value = np.clip(np.nan_to_num(value, nan=0.0), 0, 1)
    rounding = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
    way = next((x for x in one.name if x in rounding), "")
    if way:
        value = rounding[way](value)
        if np.dtype(to).kind in "iu":
            most = np.iinfo(to)
            value = np.clip(np.nan_to_num(value, nan=0.0), float(most.min), float(most.max))
    m.put(block, where, one.operands[0], g, value.astype(to))


def _space(one: Instruction) -> str:
    return next((x for x in one.name if x in ("global", "shared", "local", "param")), "generic")


def _many(text: str) -> list[str]:
    return _split(text.strip("{}")) if text[0] == "{" else [text]


@handler("ld")
def _ld(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    names, kind, space = _many(one.operands[0]), one.kind, _space(one)
    size = np.dtype(kind).itemsize
    if space == "param":
        name, _, offset = one.operands[1].strip("[]").partition("+")
        raw = np.ascontiguousarray(block.params[name][g, int(offset or 0) :][:, :size])
        m.put(block, where, names[0], g, raw.view(kind)[:, 0])
        return
    start = m.address(block, one, where, one.operands[1], g)
    if (start % (size * len(names))).any():
        raise RuntimeError(f"misaligned: {one.text}")
    for i, name in enumerate(names):
        m.put(block, where, name, g, m.read(block, space, start + i * size, kind, where, g))
    if "acquire" in one.name:
        block.turn = False


@handler("st")
def _st(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    names, kind, space = _many(one.operands[1]), one.kind, _space(one)
    size = np.dtype(kind).itemsize
    values = [m.value(block, one, where, name, g, kind) for name in names]
    if space == "param":
        name, _, offset = one.operands[0].strip("[]").partition("+")
        if name not in block.params:
            block.params[name] = np.zeros((block.threads, 16), np.uint8)
        first = int(offset or 0)
        block.params[name][g, first : first + size] = (
            np.ascontiguousarray(values[0]).view(np.uint8).reshape(g.size, size)
        )
        return
    start = m.address(block, one, where, one.operands[0], g)
    if (start % (size * len(names))).any():
        raise RuntimeError(f"misaligned: {one.text}")
    for i, value in enumerate(values):
        m.write(block, space, start + i * size, np.ascontiguousarray(value), where, g)


@handler("bra")
def _bra(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    block.at[g] = one.target


@handler("call")
def _call(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    *results, name, given = one.operands if one.operands[0][0] == "(" else ["", *one.operands]
    if results and results[0]:
        block.params.setdefault(results[0].strip("()"), np.zeros((block.threads, 16), np.uint8))
    if name == "cudaCGGetIntrinsicHandle":  # all blocks are there at once
        return
    function = m.module.functions[name]
    for to, source in zip(function.params, _split(given.strip("()")), strict=True):
        if source in block.params:  # one that is not used was not set
            if to not in block.params:
                block.params[to] = np.zeros((block.threads, 16), np.uint8)
            block.params[to][g] = block.params[source][g]
    block.stack[g, block.depth[g]] = where + 1
    block.depth[g] += 1
    block.at[g] = function.first
    if function.result:
        block.params.setdefault(function.result, np.zeros((block.threads, 16), np.uint8))


@handler("ret")
def _ret(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    top = block.depth[g] == 0
    block.at[g[top]] = -1
    inner = g[~top]
    if inner.size:
        block.depth[inner] -= 1
        block.at[inner] = block.stack[inner, block.depth[inner]]
        function = m.module.functions[m.names[m.owner[where]]]
        if function.result and "retval0" in block.params:
            block.params["retval0"][inner] = block.params[function.result][inner]


@handler("bar", "barrier")
def _bar(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    block.waits[g] = True


@handler("atom")
def _atom(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    assert one.name[1] == "add"
    address = m.address(block, one, where, one.operands[1], g)
    add = m.value(block, one, where, one.operands[2], g, one.kind)
    for i in range(g.size):
        old = m.read(block, "global", address[i : i + 1], one.kind, where, g[i : i + 1])
        m.write(block, "global", address[i : i + 1], old + add[i : i + 1], where, g[i : i + 1])
        m.put(block, where, one.operands[0], g[i : i + 1], old)


@handler("membar", "fence")
def _fence(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    """Memory is in order here."""


@handler("shfl")
def _shfl(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    assert "bfly" in one.name
    value = m.value(block, one, where, one.operands[1], g, np.uint32)
    by = m.value(block, one, where, one.operands[2], g, np.uint32).astype(np.int64)
    place = np.arange(g.size)  # whole warps, in order
    m.put(block, where, one.operands[0].split("|")[0], g, value[place ^ by])


def _of_warps(m: Machine, block: Block, one: Instruction, where: int, g: Array, at: int, kind: Any) -> Array:
    """(registers, warps, 8 groups, 4 threads) of an operand in braces."""
    values = [m.value(block, one, where, x, g, kind) for x in _many(one.operands[at])]
    return np.array(values).reshape(len(values), g.size // WARP, 8, 4)


@handler("mma")
def _mma(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    """m16n8k8 of tf32, m8n8k4 of f64: A by rows, B by columns."""
    double = one.kind == np.float64
    kind = np.float64 if double else np.uint32
    a, b = (_of_warps(m, block, one, where, g, at, kind) for at in (1, 2))
    c = _of_warps(m, block, one, where, g, 3, one.kind)
    if not double:  # the last 13 bits are not looked at
        a, b = ((x & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64) for x in (a, b))
    halves, terms = (1, 1) if double else (2, 2)
    warps = a.shape[1]
    A, B = np.zeros((warps, 8 * halves, 4 * terms)), np.zeros((warps, 4 * terms, 8))
    C = np.zeros((warps, 8 * halves, 8))
    for t in range(terms):
        for h in range(halves):
            A[:, 8 * h : 8 * h + 8, 4 * t : 4 * t + 4] = a[h + 2 * t if not double else 0]
        B[:, 4 * t : 4 * t + 4] = b[t].transpose(0, 2, 1)
    for h in range(halves):
        for i in range(2):
            C[:, 8 * h : 8 * h + 8, i::2] = c[2 * h + i]
    D = (A @ B + C).astype(one.kind)
    for h in range(halves):
        for i in range(2):
            name = _many(one.operands[0])[2 * h + i]
            m.put(block, where, name, g, D[:, 8 * h : 8 * h + 8, i::2].reshape(-1))


@handler("cp")
def _cp(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    """cp.async: what is copied arrives when it is waited for, and not before."""
    if "commit_group" in one.name:
        for t in g:
            block.copies[t].append([])
        return
    if "wait_group" in one.name:
        left = int(one.operands[0])
        for t in g:
            groups = block.copies[t]
            done, block.copies[t] = groups[: len(groups) - 1 - left], groups[-1 - left :]
            for group in done:
                for to, data in group:
                    block.shared[to : to + data.size] = data
        return
    to = m.value(block, one, where, one.operands[0].strip("[]"), g, np.uint32).astype(np.int64)
    source = m.address(block, one, where, one.operands[1], g)
    size = int(one.operands[2])
    count = m.value(block, one, where, one.operands[3], g, np.uint32).astype(np.int64)
    if (to % size).any() or (to + size > block.shared.size).any():
        raise RuntimeError(f"misaligned or outside of shared memory: {one.text}")
    if (count > size).any() or (source[count > 0] % size).any():
        raise RuntimeError(f"misaligned or too long: {one.text}")
    for i, t in enumerate(g):
        data = np.zeros(size, np.uint8)
        here = int(count[i])
        if here:
            for at in (source[i], source[i] + here - 1):
                m._place(block, "global", np.array([at]), 1, where)
            start = int(source[i]) - GLOBAL
            data[:here] = m.memory.bytes[start : start + here]
        block.copies[t][-1].append((int(to[i]), data))
        block.shared[to[i] : to[i] + size] = 0xFF  # NaN, until it is waited for
