"""Philox 4x32-10 (Salmon et al., SC 2011): random numbers that are functions of their address.

A number is never the next of a stream, so nothing depends on the number of threads or on how work
is cut. The key is the 64-bit seed; the four 32-bit counter words are

    block | step | epoch | purpose + 8 layer + 2^16 (block >> 32)

where `purpose` is a constant of `tables.py`, `layer` counts to 8191 and `block` to 2^48.

The rounds are emitted as LLVM vector IR on 64-bit lanes, where the 32 x 32 -> 64 bit product is one
instruction: left to the loop vectoriser, four times as many blocks were needed before it paid.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .irtools import I32, I64, splat
from .jit import JIT_DISABLED, inline

U: Final = np.uint64
BITS: Final = U(32)
LOW: Final = U(0xFFFFFFFF)
MULTIPLY: Final = 0xD2511F53, 0xCD9E8D57
WEYL: Final = 0x9E3779B9, 0xBB67AE85
ROUNDS: Final = 10
BLOCK_LIMIT: Final = 1 << 48

LANES: Final = 16
"""Blocks drawn by one call: two AVX-512 vectors, which hide the latency of the products."""

CHUNK: Final = 64
"""Blocks in a buffer of words; word w of the buffer's block t is words[w * CHUNK + t]."""

_VECTOR = ir.VectorType(I64, LANES)


def _emit(builder: Any, counter: list[Any], key: list[Any]) -> list[Any]:
    """The rounds on vectors of counter words; key words are scalars.

    Only the low 32 bits count, of arguments and results. They are masked right before each product
    and nowhere else: there LLVM sees that the 32-bit product will do (the 64-bit one takes three
    times as long), while masks on loop invariants would be moved out of its sight.
    """

    def constant(value: int) -> Any:
        return ir.Constant(_VECTOR, [value] * LANES)

    low, half = constant(0xFFFFFFFF), constant(32)
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0 = builder.mul(constant(MULTIPLY[0]), builder.and_(c0, low))
        p1 = builder.mul(constant(MULTIPLY[1]), builder.and_(c2, low))
        high0, high1 = builder.lshr(p0, half), builder.lshr(p1, half)
        c0 = builder.xor(builder.xor(high1, c1), splat(builder, k0, _VECTOR))
        c2 = builder.xor(builder.xor(high0, c3), splat(builder, k1, _VECTOR))
        c1, c3 = p1, p0
        k0 = builder.add(k0, I64(WEYL[0]))
        k1 = builder.add(k1, I64(WEYL[1]))
    return [c0, c1, c2, c3]


@intrinsic
def _draw(
    typingctx: Any, words: Any, slot: Any, block: Any, step: Any, epoch: Any, label: Any, seed: Any
) -> Any:
    sig = types.void(words, types.intp, *[types.uint64] * 5)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        block, step, epoch, label, seed = args[2:]
        blocks = builder.add(
            splat(builder, block, _VECTOR), ir.Constant(_VECTOR, list(range(LANES)))
        )
        above = builder.lshr(blocks, ir.Constant(_VECTOR, [32] * LANES))
        high = builder.shl(above, ir.Constant(_VECTOR, [16] * LANES))
        last = builder.or_(splat(builder, label, _VECTOR), high)
        counter = [blocks, splat(builder, step, _VECTOR), splat(builder, epoch, _VECTOR), last]
        drawn = _emit(builder, counter, [seed, builder.lshr(seed, I64(32))])
        narrow = ir.VectorType(I32, LANES)
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        for w, word in enumerate(drawn):
            place = builder.gep(data, [builder.add(args[1], ir.Constant(I64, w * CHUNK))])
            pointer = builder.bitcast(place, narrow.as_pointer())
            builder.store(builder.trunc(word, narrow), pointer, align=4)
        return context.get_dummy_value()

    return sig, codegen


def rounds(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """The rounds in plain Python, on uint64 scalars or arrays of values below 2^32."""
    for _ in range(ROUNDS):
        p0 = U(MULTIPLY[0]) * c0
        p1 = U(MULTIPLY[1]) * c2
        c0, c1, c2, c3 = (p1 >> BITS) ^ c1 ^ k0, p1 & LOW, (p0 >> BITS) ^ c3 ^ k1, p0 & LOW
        k0 = (k0 + U(WEYL[0])) & LOW
        k1 = (k1 + U(WEYL[1])) & LOW
    return c0, c1, c2, c3


def _draw_python(
    words: np.ndarray, slot: int, block: Any, step: Any, epoch: Any, label: Any, seed: Any
) -> None:
    blocks = block + np.arange(LANES, dtype=U)
    high = label | ((blocks >> BITS) << U(16))
    drawn = rounds(blocks & LOW, step & LOW, epoch & LOW, high & LOW, seed & LOW, seed >> BITS)
    for w in range(4):
        words[w * CHUNK + slot : w * CHUNK + slot + LANES] = drawn[w]


draw: Any = _draw_python if JIT_DISABLED else _draw
"""`draw(words, slot, block, step, epoch, label, seed)`: the words of the LANES blocks from `block`
on, into a buffer of 4 * CHUNK uint32 from its block `slot` on."""


@inline
def fill_words(
    words: Any, count: int, block: Any, step: int, epoch: int, label: Any, seed: int
) -> None:
    """The words of `count` <= CHUNK blocks (and some more, up to a multiple of LANES)."""
    for slot in range(0, count, LANES):
        at = block + U(slot)
        draw(words, slot, at, U(np.int64(step)), U(np.int64(epoch)), label, U(seed))


@inline
def tag(purpose: int, layer: int) -> Any:
    """The last counter word but for the high bits of the block."""
    return U(purpose + 8 * layer)
