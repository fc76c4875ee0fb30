"""From emitted LLVM functions to code that kernels call: by a choice among them, by an address."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .irtools import I64, POINTER
from .jit import cached
from .numba_private import CFunc


def emitted(builds: Mapping[int, Callable[[ir.Module], ir.Function]], pointers: int) -> Any:
    """An intrinsic f(which, arguments) that calls the function that builds[which] emits.

    The arguments are int64 numbers in a tuple, the first `pointers` of them addresses.
    """

    @intrinsic
    def call(typingctx: Any, which: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = cgutils.unpack_tuple(builder, args[1]) if len(sig.args[1]) else []
            values = [
                builder.inttoptr(v, POINTER) if i < pointers else v for i, v in enumerate(values)
            ]
            done = builder.append_basic_block("chosen")
            choice = builder.switch(args[0], done)
            for number, build in builds.items():
                function = build(builder.module)
                block = builder.append_basic_block(f"choice{number}")
                choice.add_case(ir.Constant(I64, number), block)
                builder.position_at_end(block)
                builder.call(function, values)
                builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return types.void(types.int64, arguments), codegen

    return call


def emitted_by_width(
    build: Callable[..., ir.Function], widths: Iterable[int], pointers: int
) -> Any:
    """`emitted` for a build that takes `vectors`, one of the widths."""
    builds = {v: functools.partial(build, vectors=v) for v in sorted(widths)}
    return emitted(builds, pointers)


def load_address(builder: Any, name: str, size: int, index: Any) -> Any:
    """Entry `index` (an int, or an i64) of the table of so many addresses that has this name."""
    module = builder.module
    table = module.globals.get(name)
    if table is None:
        table = ir.GlobalVariable(module, ir.ArrayType(I64, size), name)
        table.linkage = "external"
    at = ir.Constant(I64, index) if isinstance(index, int) else index
    return builder.load(builder.gep(table, [at], source_etype=I64), typ=I64)


def c_function(function: Callable[..., None], name: str, signature: Any) -> Any:
    """`function` compiled to be reached by its address, and kept on disk under this name."""
    function.__qualname__ = name
    given = (signature.args, signature.return_type)
    compiled = CFunc(function, given, {}, {"nopython": True, "error_model": "numpy"})
    cached(compiled, function).compile()
    return compiled
