"""A barrier for threads that run compiled code side by side.

Two counters in a shared int64 vector, a cache line apart: how many have arrived, and how many
barriers have been passed. A waiting thread spins for a while, longer than a step's phases, then
yields its core to whoever has not arrived, so that more threads than cores still make way.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .host import ARM, X86
from .irtools import I64, VOID, call_intrinsic
from .jit import JIT_DISABLED, inline

SYNC_SIZE: Final = 16  # int64 elements of the shared vector
_PASSED: Final = 8  # index of the second counter
_SPINS: Final = 1000
"""Pauses before the first yield: about 50 us of Intel's since Skylake (140 cycles each), a third of
that on a Zen; ARM's were not measured."""

_yield = types.ExternalFunction(
    "SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32()
)


def _element(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    array = context.make_array(sig.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


@intrinsic
def _atomic_load(typingctx: Any, array: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_element(context, builder, sig, args), "acquire", 8, typ=I64)

    return types.int64(array, types.intp), codegen


@intrinsic
def _atomic_store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _element(context, builder, sig, args), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def _atomic_add(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _element(context, builder, sig, args)
        return builder.atomic_rmw("add", place, args[2], "acq_rel")

    return types.int64(array, types.intp, types.int64), codegen


@intrinsic
def _pause(typingctx: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if X86:
            call_intrinsic(builder, "llvm.x86.sse2.pause", VOID, [])
        elif ARM:  # most cores do nothing at "yield"
            builder.asm(ir.FunctionType(VOID, []), "isb", "", [], True)
        return context.get_dummy_value()

    return types.void(), codegen


@inline
def _barrier(sync, threads):  # type: ignore[no-untyped-def]
    if threads == 1:
        return
    passed = _atomic_load(sync, _PASSED)
    if _atomic_add(sync, 0, 1) == threads - 1:
        _atomic_store(sync, 0, 0)
        _atomic_store(sync, _PASSED, passed + 1)
        return
    spins = 0
    while _atomic_load(sync, _PASSED) == passed:
        if spins < _SPINS:
            spins += 1
            _pause()
        else:
            _yield()


def _barrier_python(sync: Any, threads: int) -> None:
    """With the JIT off there is one thread, and nothing to wait for."""


barrier: Any = _barrier_python if JIT_DISABLED else _barrier
"""`barrier(sync, threads)`: return when all threads have called it; `sync` starts as zeros."""
