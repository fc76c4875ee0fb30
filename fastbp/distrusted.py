"""What was read from a file is distrusted: each value's kind is looked at before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .engine import Array
from .errors import shown

Memory = dict[str, Any]
"""What is kept of an object in a checkpoint: plain values and arrays, nested."""


def part(memory: Memory, name: str) -> Memory:
    """A dict within what was read."""
    value = memory.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"its {name} is {shown(value)}, not a group of values")
    return value


def count(memory: Memory, name: str, least: int = 0) -> int:
    """A whole number within what was read."""
    value = memory.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 63:
        raise ValueError(f"its {name} is {shown(value)}, not a whole number from {least} on")
    return value


def facts(memory: Memory, name: str, like: Mapping[str, Any]) -> dict[str, Any]:
    """A dict of plain values with the names of `like`."""
    value = part(memory, name)
    if value.keys() != like.keys():
        raise ValueError(f"its {name} has {shown(sorted(value))}, not {shown(sorted(like))}")
    for key, item in value.items():
        if isinstance(item, np.ndarray):
            raise ValueError(f"its {name} has an array as {shown(key)}")
    return value


def array_like(memory: Memory, name: str, like: Array) -> Array:
    """An array within what was read, of the shape and dtype of `like`."""
    value = memory.get(name)
    if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (like.shape, like.dtype):
        had = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else shown(value)
        raise ValueError(f"its {name} is {had}, not {like.dtype} {like.shape}")
    return value
