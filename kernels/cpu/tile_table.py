"""The table of the products' addresses, which compiled code finds by name.

Callers of a product stay small, and nothing is re-optimised in them; 0 in the table (or the JIT
switched off) selects the plain loops.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, Final

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .emitted import load_address
from .irtools import I64
from .jit import JIT_DISABLED, piece
from .operands import FORGET
from .product import host_tiles, make_product
from .tiles import FINISH_NONE, START_ZERO

TILE_TABLE: Final = np.zeros(3, np.int64)  # product of float32, of float64; 0: plain loops
BF16_SLOT: Final = 2  # product of bfloat16 operands, float32 beside
_TABLE_NAME: Final = "fastbp_tile_table"
llvm.add_symbol(_TABLE_NAME, TILE_TABLE.ctypes.data)
_lock = threading.Lock()


@functools.cache
def _compiled(itemsize: int) -> Any:
    tiles = host_tiles()
    return None if tiles is None else make_product(tiles, itemsize)


def bind_tiles(dtype: Any, *, plain: bool = False) -> None:
    """Put the product of `dtype` (float32 or float64) into the table.

    Called by the products' doors and before the loop; `plain=True` selects the plain loops.
    """
    itemsize = np.dtype(dtype).itemsize
    slot = 0 if itemsize == 4 else 1
    if JIT_DISABLED or plain:
        TILE_TABLE[slot] = 0
    elif TILE_TABLE[slot] == 0:
        with _lock:
            function = _compiled(itemsize)
            TILE_TABLE[slot] = 0 if function is None else function.address


@intrinsic
def _tile_address_compiled(typingctx: Any, slot: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load_address(builder, _TABLE_NAME, len(TILE_TABLE), args[0])

    return types.int64(types.int64), codegen


@intrinsic
def call_product(typingctx: Any, address: Any, arguments: Any) -> Any:
    """Call the product at an address of `tile_address`, with `product.ARGUMENTS` in a tuple."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(builder, args[1])
        kind = ir.FunctionType(ir.VoidType(), [I64] * len(values))
        function = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(function, values)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen


@piece
def product_of(
    tiles, rows, columns, depth, a, a_row, a_step, b, b_row, transposed, c, c_row, scratch,
    bias=0, beside=0, beside_row=0, start=START_ZERO, finish=FINISH_NONE, across=0, across_row=0,
    prefetched=0, panels=FORGET,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """The product at the address `tiles`; what it is not told of, it does not do."""
    call_product(
        tiles,
        (
            rows, columns, depth, a, a_row, a_step, b, b_row, transposed, c, c_row, bias, beside,
            beside_row, start, finish, scratch, across, across_row, prefetched, panels,
        ),
    )  # fmt: skip


def _no_tiles(slot: int) -> int:
    return 0


tile_address: Any = _no_tiles if JIT_DISABLED else _tile_address_compiled
"""`tile_address(slot)`: of the product in the table, 0 where the plain loops are to be taken."""
