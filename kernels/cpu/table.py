"""Calls through a table of addresses: each body is compiled and optimised once.

Numba links a callee into every caller and optimises it there again; with five levels of calls that
made the training loop's first compilation four times as long. Here the loop calls its bodies
through a table that compiled code finds by name, and `bind` fills before the loop runs.

A body is declared with a signature in letters, one an argument:

    i int64    b boolean    f float64    V, M vector, matrix of the network's dtype
    I, J int64 vector, matrix    F, G float64 vector, matrix    u, U uint8 vector, matrix
    c int32 vector
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, Final

import llvmlite.binding as llvm
import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.typing import signature
from numba.extending import lower_builtin, type_callable

from .cold import compile_missing, compile_unclaimed
from .emitted import load_address
from .entries import EntriesCache
from .jit import BOUNDS_CHECKED, JIT_DISABLED, body, cache_directory
from .tile_table import bind_tiles

_POSITIONAL: Final = Parameter.POSITIONAL_OR_KEYWORD
_SLOTS: Final = 128
_TABLE: Final = np.zeros(_SLOTS, np.int64)
_NAME: Final = "fastbp_body_table"
llvm.add_symbol(_NAME, _TABLE.ctypes.data)

_FIXED: Final = {
    "i": types.int64,
    "b": types.boolean,
    "f": types.float64,
    "c": types.Array(types.int32, 1, "C"),
    "I": types.Array(types.int64, 1, "C"),
    "J": types.Array(types.int64, 2, "C"),
    "F": types.Array(types.float64, 1, "C"),
    "G": types.Array(types.float64, 2, "C"),
    "u": types.Array(types.uint8, 1, "C"),
    "U": types.Array(types.uint8, 2, "C"),
}
_OWN: Final = {"V": 1, "M": 2}
_DTYPES: Final = (types.float32, types.float64)

_bodies: list[_Body] = []
_loops: list[_Compiled] = []
_lock = threading.Lock()
_bound: set[int] = set()
_BF16: Final = 2  # in `_bound`: the bodies of networks of float32 with products of bfloat16


class _Compiled:
    """A dispatcher with its signatures for both dtypes."""

    def __init__(self, dispatcher: Any, letters: str) -> None:
        self.dispatcher, self.letters = dispatcher, letters.replace(" ", "")

    def arguments(self, which: int) -> tuple[Any, ...]:
        """Numba types of the arguments for float32 (0) or float64 (1)."""
        dtype = _DTYPES[which]
        return tuple(
            types.Array(dtype, _OWN[k], "C") if k in _OWN else _FIXED[k] for k in self.letters
        )

    def unclaimed(self, which: int) -> bool:
        """Whether it is in no cache, and no process is compiling it."""
        cache, context = self.dispatcher._cache, self.dispatcher.targetctx
        return isinstance(cache, EntriesCache) and cache.unclaimed(self.arguments(which), context)

    def compile(self, which: int) -> Any:
        """Compile it, or load it from the cache."""
        arguments = self.arguments(which)
        self.dispatcher.compile(arguments)
        return self.dispatcher.overloads[arguments]


def _fits(have: Any, want: Any) -> bool:
    """Whether an argument may be cast to what is declared; a float is never cut to an integer."""
    whole = types.Integer | types.Boolean
    if isinstance(want, types.Float):
        return isinstance(have, types.Number | types.Boolean)
    return isinstance(have, whole) if isinstance(want, whole) else have == want


class _Body(_Compiled):
    """What is called by its address: the result's type, and two slots of the table."""

    def __init__(self, dispatcher: Any, letters: str, result: Any, bf16: bool) -> None:
        super().__init__(body(dispatcher.py_func), letters)
        self.result, self.bf16 = result, bf16
        self.slot = 2 * len(_bodies)

    def which(self, given: tuple[Any, ...]) -> int | None:
        """The dtype that arguments of these types belong to; None where they do not fit."""
        own = {t.dtype for t, k in zip(given, self.letters, strict=False) if k in _OWN}
        if len(given) != len(self.letters) or len(own) != 1:
            return None
        which = _DTYPES.index(own.pop())
        pairs = zip(given, self.arguments(which), strict=True)
        return which if all(_fits(have, want) for have, want in pairs) else None

    def address(self, which: int) -> int:
        """Where its code lies, compiled or loaded."""
        compiled = self.compile(which)
        name = compiled.fndesc.llvm_func_name
        return int(compiled.library.get_pointer_to_function(name))


def compiled_loop(dispatcher: Any, letters: str) -> None:
    """Have `dispatcher`, whose callers are in Python, compiled with the bodies that it calls."""
    if not JIT_DISABLED:
        _loops.append(_Compiled(dispatcher, letters))


def reached(dispatcher: Any, letters: str, result: Any = types.void, *, bf16: bool = False) -> Any:
    """The name by which compiled callers reach `dispatcher` through the table.

    Python may call it too; with the JIT off it is the function itself. bf16: only networks with
    products of bfloat16 need it; it is compiled when the first of them is there.
    """
    if JIT_DISABLED:
        return dispatcher
    entry = _Body(dispatcher, letters, result, bf16)
    _bodies.append(entry)

    def stub(*args: Any) -> Any:
        return dispatcher(*args)

    stub.__name__ = stub.__qualname__ = dispatcher.__name__

    @type_callable(stub)
    def typer(context: Any) -> Callable[..., Any]:
        def typed(*given: Any) -> Any:
            return None if entry.which(given) is None else entry.result

        names = [f"a{i}" for i in range(len(entry.letters))]
        typed.__signature__ = Signature([Parameter(n, _POSITIONAL) for n in names])  # type: ignore[attr-defined]
        return typed

    @lower_builtin(stub, types.VarArg(types.Any))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        which = entry.which(sig.args)
        assert which is not None
        wanted = signature(entry.result, *entry.arguments(which))
        values = [
            context.cast(builder, value, have, want)
            for value, have, want in zip(args, sig.args, wanted.args, strict=True)
        ]
        kind = context.call_conv.get_function_type(wanted.return_type, wanted.args)
        address = load_address(builder, _NAME, _SLOTS, entry.slot + which)
        function = builder.inttoptr(address, kind.as_pointer())
        status, value = context.call_conv.call_function(
            builder, function, wanted.return_type, wanted.args, values
        )
        if BOUNDS_CHECKED:  # else bodies raise nothing
            with cgutils.if_unlikely(builder, status.is_error):
                context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value() if entry.result == types.void else value

    return stub


def bind(dtype: Any, cores: Callable[[], int]) -> None:
    """Fill the table for float32 or float64: every body is compiled or loaded, once a process.

    cores: how many may be used, asked where there is much to compile.
    """
    which = 0 if np.dtype(dtype).itemsize == 4 else 1
    if not JIT_DISABLED and which not in _bound:
        with _lock:
            if which not in _bound:
                compile_missing(_all(), which, _DTYPES[which], cores)
                for entry in (entry for entry in _bodies if not entry.bf16):
                    _TABLE[entry.slot + which] = entry.address(which)
                _bound.add(which)
    bind_tiles(dtype)


def _all() -> list[_Compiled]:
    """What every network needs; first the training loop, the longest to compile by far."""
    return [*_loops, *(entry for entry in _bodies if not entry.bf16)]


def help_out(dtype: str, directory: str) -> None:
    """What a helper does; nothing where its cache is another, as its settings are then."""
    if str(cache_directory()) == directory:
        compile_unclaimed(_all(), 0 if np.dtype(dtype).itemsize == 4 else 1)
        bind_tiles(dtype)


def bind_bodies_of_bf16() -> None:
    """Fill the table with what only products of bfloat16 need, once a process."""
    if _BF16 in _bound:
        return
    with _lock:
        for entry in (entry for entry in _bodies if entry.bf16):
            _TABLE[entry.slot] = entry.address(0)
        _bound.add(_BF16)
