"""Philox 4x32-10 on a card: the words of an address, as `cpu/philox.py` lays them out."""

from __future__ import annotations

from typing import Any, Final

from ..cpu.philox import BITS, LOW, MULTIPLY, ROUNDS, WEYL, U
from .machine import device

HIGH: Final = U(16)
_M0, _M1 = (U(part) for part in MULTIPLY)
_W0, _W1 = (U(part) for part in WEYL)


@device
def rounds(a: Any, b: Any, c: Any, d: Any, k: Any, m: Any) -> Any:
    """Ten rounds on uint64 values below 2^32; the 32 x 32 bit product is one instruction."""
    for _ in range(ROUNDS):
        p, q = _M0 * a, _M1 * c
        a, b, c, d = (q >> BITS) ^ b ^ k, q & LOW, (p >> BITS) ^ d ^ m, p & LOW
        k, m = (k + _W0) & LOW, (m + _W1) & LOW
    return a, b, c, d


@device
def words(block: int, step: int, epoch: int, label: int, seed: int) -> Any:
    """The four words of a block; `label` is the purpose + 8 times the layer."""
    b, s = U(block), U(seed)
    last = U(label) | ((b >> BITS) << HIGH)
    return rounds(b & LOW, U(step) & LOW, U(epoch) & LOW, last & LOW, s & LOW, s >> BITS)


@device
def word(row: int, column: int, n: int, step: int, epoch: int, label: int, seed: int) -> Any:
    """The word of an element of a matrix of n columns: those of a block lie n / 4 columns apart."""
    q = (n + 3) // 4
    a, b, c, d = words(row * q + column % q, step, epoch, label, seed)
    which = column // q
    if which == 0:
        return a
    if which == 1:
        return b
    return c if which == 2 else d
