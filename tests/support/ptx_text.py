"""PTX as text, parsed: functions, their instructions and registers, and a module's variables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

KINDS = {
    "pred": np.bool_, "u8": np.uint8, "s8": np.int8, "b8": np.uint8, "u16": np.uint16,
    "s16": np.int16, "b16": np.uint16, "u32": np.uint32, "s32": np.int32, "b32": np.uint32,
    "u64": np.uint64, "s64": np.int64, "b64": np.uint64, "f32": np.float32, "f64": np.float64,
}  # fmt: skip


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


def split(text: str) -> list[str]:
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
            for name in split(names):
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
        operands = split(rest)
        self.code.append(Instruction(name.split("."), operands, text, guard))
