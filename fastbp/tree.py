"""Nested plain values with arrays among them, as JSON and named tensors, and back.

JSON holds an array's name in its place, and NaN and inf as text: {"$tensor": "training.state"},
{"$float": "nan"}.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from .engine import Array
from .errors import shown

_TENSOR: Final = "$tensor"
_FLOAT: Final = "$float"


def flatten(value: Any, name: str, tensors: dict[str, Array]) -> Any:
    """`value` as JSON types; its arrays go into `tensors`, named by where they stand.

    Raises:
        TypeError: something that JSON cannot hold, or two arrays of one name; the message says
            where.

    >>> tensors = {}
    >>> flatten({"step": 3, "rows": np.zeros(2), "best": float("inf")}, "now", tensors)
    {'step': 3, 'rows': {'$tensor': 'now.rows'}, 'best': {'$float': 'inf'}}
    >>> tensors
    {'now.rows': array([0., 0.])}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        if name in tensors:
            raise TypeError(f"{name} is the name of two arrays: one of its keys has a dot in it.")
        tensors[name] = value
        return {_TENSOR: name}
    if isinstance(value, dict):
        if any(not isinstance(key, str) or key.startswith("$") for key in value):
            raise TypeError(f"{name}={shown(value)} must have names of text, without a $ in front.")
        return {key: flatten(item, f"{name}.{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [flatten(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: repr(value)}
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(
        f"{name}={shown(value)} is of type {type(value).__name__}; a checkpoint holds None, "
        "booleans, numbers, text, lists, dicts and arrays."
    )


def unflatten(value: Any, tensor: Callable[[str], Array]) -> Any:
    """What `flatten` was given (tuples as lists); `tensor` gives an array by its name.

    >>> unflatten([{"$tensor": "x"}, {"$float": "nan"}], {"x": 1}.get)
    [1, nan]
    """
    if isinstance(value, list):
        return [unflatten(item, tensor) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TENSOR} and isinstance(value[_TENSOR], str):
        return tensor(value[_TENSOR])
    if value.keys() == {_FLOAT} and value[_FLOAT] in {"nan", "inf", "-inf"}:
        return float(value[_FLOAT])
    return {key: unflatten(item, tensor) for key, item in value.items()}
