"""The public doors to random numbers: dropout, noise, Philox itself, and numbers for a start."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from ..checks import array, mask_bytes, output, words
from ..values import MOST_LAYERS, check_philox, deviation, probability, random_address, whole
from .doors import launch
from .jit import parallel, serial
from .memory import flush_denormals, restore_mode, segment
from .normal import fill_normals
from .philox import BLOCK_LIMIT, CHUNK, U, fill_words, rounds, tag
from .random import WORDS, dropout_rows, perturb_rows
from .shares import ANYWHERE, share


@serial
def _dropout_share(
    A: Any, mask: Any, p: float, seed: int, epoch: int, step: int, layer: int, part: int, parts: int
) -> None:
    mode = flush_denormals()
    lo, hi = share(A.shape[0], ANYWHERE, part, parts)
    dropout_rows(A, mask, p, seed, epoch, step, layer, 0, lo, hi, A.shape[1])
    restore_mode(mode)


@parallel
def _dropout_shares(
    A: Any, mask: Any, p: float, seed: int, epoch: int, step: int, layer: int, parts: int
) -> None:
    for t in prange(parts):
        _dropout_share(A, mask, p, seed, epoch, step, layer, np.int64(t), parts)


@serial
def _perturb_share(
    X: Any, sigma: float, seed: int, epoch: int, step: int, part: int, parts: int
) -> None:
    mode = flush_denormals()
    lo, hi = share(X.shape[0], ANYWHERE, part, parts)
    perturb_rows(X, sigma, seed, epoch, step, 0, lo, hi, X.shape[1])
    restore_mode(mode)


@parallel
def _perturb_shares(X: Any, sigma: float, seed: int, epoch: int, step: int, parts: int) -> None:
    for t in prange(parts):
        _perturb_share(X, sigma, seed, epoch, step, np.int64(t), parts)


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
    """Inverted dropout: each activation is 0 with probability p, else divided by 1 - p.

    Srivastava et al. (2014), scaled in training, so that inference needs nothing. The mask is a
    function of (seed, epoch, step, layer, row, column), whatever the dtype or the threads.

    Args:
        A: activations (n, k), C-contiguous float32 or float64.
        p: probability of dropping, in [0, 1), met to the nearest 2^-32.
        seed, epoch, step, layer: the address of the mask, each from 0; layer below 8192.
        mask: uint8 array (n, k) to receive 1 (kept) or 0 (dropped). Default: a new one.
        out: array for the result, like A; may be A. Default: a new one.

    Returns:
        (out, mask). NaN and inf are NaN where dropped: a mask does not hide a divergence.

    Raises:
        ValueError, TypeError: p outside [0, 1), a bad address, or an array of another kind.

    >>> A, mask = dropout(np.ones((2, 4)), 0.5, seed=1)
    >>> A.tolist(), mask.tolist()
    ([[0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 2.0]], [[0, 0, 0, 0], [0, 1, 0, 1]])
    """
    A = array("A", A, (None, None))
    p, address = probability(p), random_address(seed, epoch, step, layer)
    result = output("out", out, A.shape, A.dtype, {"A": A}, in_place=("A",))
    mask = mask_bytes("mask", mask, A.shape, {"A": A, "out": result})
    if result.ctypes.data != A.ctypes.data:
        np.copyto(result, A)
    launch(_dropout_share, _dropout_shares, A.size, result, mask, p, *address)
    return result, mask


def perturb(
    X: np.ndarray,
    sigma: float,
    *,
    seed: int,
    epoch: int = 0,
    step: int = 0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """X + sigma N(0, 1): zero-mean Gaussian noise, fresh at each (seed, epoch, step).

    Args:
        X: samples (n, m), C-contiguous float32 or float64.
        sigma: standard deviation of the noise, >= 0.
        seed, epoch, step: the address of the noise, each from 0.
        out: array for the result, like X; may be X. Default: a new one.

    Returns:
        The perturbed samples. No |noise| exceeds 6.77 sigma.

    Raises:
        ValueError, TypeError: a negative sigma, a bad address, or an array of another kind.

    >>> noise = perturb(np.zeros((1000, 4)), 0.1, seed=0)
    >>> bool(abs(noise.mean()) < 0.01), round(float(noise.std()), 2)
    (True, 0.1)
    """
    X = array("X", X, (None, None))
    sigma, address = deviation(sigma), random_address(seed, epoch, step)[:3]
    result = output("out", out, X.shape, X.dtype, {"X": X}, in_place=("X",))
    if result.ctypes.data != X.ctypes.data:
        np.copyto(result, X)
    launch(_perturb_share, _perturb_shares, X.size, result, sigma, *address)
    return result


def philox(counter: Any, key: Any) -> np.ndarray:
    """Philox 4x32-10: four random words for each counter of four words and key of two.

    Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).

    Args:
        counter: integers (..., 4) from 0 to 2^32 - 1.
        key: integers (..., 2) from 0 to 2^32 - 1, broadcast against the counters.

    Returns:
        uint32 words (..., 4).

    Raises:
        ValueError, TypeError: a last axis of another length, or what is no such integer.

    >>> [hex(word) for word in philox([0, 0, 0, 0], [0, 0])]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    counter, key = words("counter", counter), words("key", key)
    check_philox(counter, key)
    drawn = rounds(*np.moveaxis(counter, -1, 0), *np.moveaxis(key, -1, 0))
    return np.stack(np.broadcast_arrays(*drawn), axis=-1).astype(np.uint32)


@serial
def _initial_words(words: Any, seed: int, purpose: int, layer: int, block: int) -> None:
    """The words of the blocks from `block` on."""
    label = tag(purpose, layer)
    for chunk in range(words.shape[0] // WORDS):
        part = segment(words, chunk * WORDS, WORDS)
        fill_words(part, CHUNK, U(block + chunk * CHUNK), 0, 0, label, seed)


@serial
def _initial_normals(words: Any, z: Any) -> None:
    for chunk in range(words.shape[0] // WORDS):
        at = chunk * WORDS
        fill_normals(segment(words, at, WORDS), segment(z, at, WORDS), CHUNK)


def _words(seed: int, purpose: int, layer: int, size: int, first: int, elements: int) -> np.ndarray:
    """The words of the elements from `first` on, so many elements to a block."""
    whole("seed", seed, 2**63)
    whole("layer", layer, MOST_LAYERS)
    if first < 0 or first % elements:
        raise ValueError(f"first: expected a multiple of {elements}, got {first!r}")
    blocks = -(-size // elements)
    whole("size", first // elements + blocks, BLOCK_LIMIT)
    words = np.empty(-(-blocks // CHUNK) * WORDS, np.uint32)
    _initial_words(words, seed, purpose, layer, first // elements)
    return words


def _in_order(buffer: np.ndarray) -> np.ndarray:
    """The words (or what was made of them) block after block."""
    return buffer.reshape(-1, 4, CHUNK).transpose(0, 2, 1).reshape(-1)


def normals(seed: int, purpose: int, layer: int, size: int, first: int = 0) -> np.ndarray:
    """`size` numbers from N(0, 1) in float64: the same on every machine with fused multiply-add.

    Element e is made of block e // 4 at (seed, purpose, layer). `purpose` is one of `tables.py`;
    the elements from `first` on, a multiple of 4, are given.

    >>> normals(0, 4, 0, 3).round(4).tolist()
    [0.9109, -1.8855, 0.889]
    """
    words = _words(seed, purpose, layer, size, first, 4)
    z = np.empty(words.size)
    _initial_normals(words, z)
    return _in_order(z)[:size]


def uniforms(seed: int, purpose: int, layer: int, size: int, first: int = 0) -> np.ndarray:
    """`size` numbers uniform on (0, 1) in float64, the same on every machine.

    Element e is made of two words of block e // 2: the middle of one of 2^52 equal cells. The
    elements from `first` on, an even number, are given.

    >>> uniforms(0, 4, 0, 3).round(4).tolist()
    [0.1117, 0.4659, 0.156]
    """
    words = _in_order(_words(seed, purpose, layer, size, first, 2))
    high, low = words.reshape(-1, 2).T.astype(U)
    return (((high[:size] << U(20)) | (low[:size] >> U(12))) + 0.5) * 2.0**-52
