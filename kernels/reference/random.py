"""Philox and what is drawn with it in plain NumPy: the same masks, orders and draws to the bit.

The counter of a draw is (block, step, epoch, purpose + 8 layer + 2^16 (block >> 32)), its key the
seed. Normal numbers agree to the rounding of their logarithm, sine and cosine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tables import DROPOUT, NOISE, SAMPLE, SHUFFLE

U = np.uint64
LOW = U(0xFFFFFFFF)


def philox(counter: Any, key: Any) -> np.ndarray:
    """Ten rounds on counters (..., 4) with keys (..., 2): words (..., 4)."""
    a, b, c, d = np.moveaxis(np.asarray(counter, U), -1, 0)
    k, m = np.moveaxis(np.asarray(key, U), -1, 0)
    for _ in range(10):
        p, q = U(0xD2511F53) * a, U(0xCD9E8D57) * c
        a, b, c, d = (q >> U(32)) ^ b ^ k, q & LOW, (p >> U(32)) ^ d ^ m, p & LOW
        k, m = (k + U(0x9E3779B9)) & LOW, (m + U(0xBB67AE85)) & LOW
    return np.stack(np.broadcast_arrays(a, b, c, d), axis=-1).astype(np.uint32)


def words(
    blocks: np.ndarray, seed: int, purpose: int, *, epoch: int = 0, step: int = 0, layer: int = 0
) -> np.ndarray:
    """The four words (..., 4) of each block at an address."""
    blocks = np.asarray(blocks, U)
    counter = np.empty((*blocks.shape, 4), U)
    counter[..., 0] = blocks & LOW
    counter[..., 1] = step % 2**32
    counter[..., 2] = epoch % 2**32
    counter[..., 3] = U(purpose + 8 * layer) | (blocks >> U(32) << U(16))
    return philox(counter, [seed % 2**32, seed >> 32])


def element_words(n: int, columns: int, **address: Any) -> np.ndarray:
    """The words of an (n, columns) matrix as (n, 4, q): those of a block lie q columns apart."""
    q = -(-columns // 4)
    drawn = words(np.arange(n * q).reshape(n, q), **address)
    return drawn.transpose(0, 2, 1)


def _in_rows(x: np.ndarray) -> np.ndarray:
    """(n, 4, q) as (n, 4 q), of no rows or columns as well."""
    return x.reshape(len(x), 4 * x.shape[2])


def dropout(
    A: np.ndarray,
    p: float,
    *,
    seed: int,
    epoch: int = 0,
    step: int = 0,
    layer: int = 0,
    mask: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A / (1 - p) where kept, 0 where dropped; returns (out, mask)."""
    n, columns = A.shape
    address = {"seed": seed, "purpose": DROPOUT, "epoch": epoch, "step": step, "layer": layer}
    drawn = _in_rows(element_words(n, columns, **address))[:, :columns]
    mask = np.empty(A.shape, np.uint8) if mask is None else mask
    out = np.empty_like(A) if out is None else out
    mask[...] = drawn >= min(np.rint(p * 2**32), 2**32 - 1)
    with np.errstate(invalid="ignore"):  # a dropped inf is NaN, not hidden
        out[...] = A * (mask * A.dtype.type(1 / (1 - p)))
    return out, mask


def normal_pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box and Muller: two N(0, 1) of two words; the second word counts from an eighth of a turn."""
    radius = np.sqrt(-2 * np.log((first + 0.5) * 2.0**-32))
    angle = 2 * np.pi * ((second + 0.5) * 2.0**-32 - 0.125)
    return radius * np.cos(angle), radius * np.sin(angle)


def perturb(
    X: np.ndarray,
    sigma: float,
    *,
    seed: int,
    epoch: int = 0,
    step: int = 0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """X + sigma N(0, 1)."""
    n, columns = X.shape
    drawn = element_words(n, columns, seed=seed, purpose=NOISE, epoch=epoch, step=step)
    z = np.empty(drawn.shape)
    z[:, 0], z[:, 1] = normal_pairs(drawn[:, 0], drawn[:, 1])
    z[:, 2], z[:, 3] = normal_pairs(drawn[:, 2], drawn[:, 3])
    out = np.empty_like(X) if out is None else out
    out[...] = X + sigma * _in_rows(z)[:, :columns]
    return out


def accept(word: int, bound: int) -> int | None:
    """Lemire's bounded integer: the high half of word * bound, None for the words that would make
    some results likelier than others.
    """
    high, low = divmod(int(word) * bound, 2**32)
    return None if low < 2**32 % bound else high


def shuffle(order: np.ndarray, seed: int, epoch: int) -> None:
    """Fisher and Yates from the end, with the accepted words in turn; `order` in place."""
    drawn = iter(words(np.arange(order.size + 64), seed, SHUFFLE, epoch=epoch).ravel())
    for i in range(order.size - 1, 0, -1):
        k = None
        while k is None:
            k = accept(next(drawn), i + 1)
        order[[i, k]] = order[[k, i]]


def sample(order: np.ndarray, size: int, seed: int, epoch: int, first: int) -> None:
    """Draws from 0 .. size - 1 with replacement: order[i] is its block's first accepted word."""
    for i in range(order.size):
        k, tried = None, 0
        while k is None:
            drawn = words(np.array(first + i), seed, SAMPLE, epoch=epoch, step=tried // 4)
            k = accept(drawn[tried % 4], size)
            tried += 1
        order[i] = k
