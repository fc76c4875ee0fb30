"""What PTX's instructions do, on arrays of the threads that execute them (`ptx_machine.py`).

A handler has the machine, the block, the instruction, its place and the threads' numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ptx_text import KINDS, Instruction, split

WARP = 32
LOCAL, SHARED, GLOBAL = 1 << 40, 1 << 41, 1 << 42
"""Where the windows of generic addresses begin."""
Array = np.ndarray[Any, Any]
Machine = Block = Any
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


@handler("prmt")
def _prmt(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    """Bytes of b and a by number; with its fourth bit set, a byte's sign instead of it."""
    a, b, c = (m.value(block, one, where, x, g, np.uint32) for x in one.operands[1:])
    pair = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32)
    found = np.zeros(g.size, np.uint32)
    for i in range(4):
        number = c >> np.uint32(4 * i) & np.uint32(15)
        byte = pair >> (number & np.uint32(7)).astype(np.uint64) * np.uint64(8) & np.uint64(255)
        sign = np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
        found |= np.where(number & 8, sign, byte).astype(np.uint32) << np.uint32(8 * i)
    m.put(block, where, one.operands[0], g, found)


@handler("mov", "cvta")
def _mov(m: Machine, block: Block, one: Instruction, where: int, g: Array) -> None:
    to, source = one.operands
    kind = one.kind
    if source[0] == "{" or to[0] == "{":
        parts = split((source if source[0] == "{" else to).strip("{}"))
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
    return split(text.strip("{}")) if text[0] == "{" else [text]


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
    for to, source in zip(function.params, split(given.strip("()")), strict=True):
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


def _of_warps(
    m: Machine, block: Block, one: Instruction, where: int, g: Array, at: int, kind: Any
) -> Array:
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
    block.watch.write(to, size, g, one.text)
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
