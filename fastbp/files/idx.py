"""IDX files, the format of MNIST: a code for the type, the sizes, then the values, big-endian.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "The IDX file format".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np

from .table import Table, Wanted, content, numbers, written

_TYPES: Final = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST: Final = 32  # dimensions


def read_idx(path: Path, texts: Collection[str], wanted: Wanted) -> Table:  # noqa: ARG001
    """One array: labels (n,) as the column "labels", images (n, ...) as the block "pixels"."""
    data = content(path)
    where = f"{str(path)!r} is not an IDX file"
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES or not data[3]:
        raise ValueError(f"{where}: it does not begin with 00 00, a type and its dimensions")
    kind, dimensions = np.dtype(_TYPES[data[2]]), data[3]
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise ValueError(f"{where}: it ends within its sizes")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != math.prod(shape) * kind.itemsize:
        raise ValueError(
            f"{where}: {len(data) - start} bytes follow its sizes {shape}, which need "
            f"{math.prod(shape) * kind.itemsize}"
        )
    if dimensions > _MOST:
        raise ValueError(f"{where}: it has {dimensions} dimensions, and more than {_MOST} are odd")
    array = np.frombuffer(data, kind, offset=start).reshape(shape)
    if array.ndim == 1:
        kept = {"labels": written(array)} if "labels" in texts else {}
        return Table({"labels": numbers(array)}, texts=kept).checked(path)
    native = array.astype(kind.newbyteorder("="))
    return Table({"pixels": native.reshape(len(array), math.prod(shape[1:]))}).checked(path)
