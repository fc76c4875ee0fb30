"""Random numbers: known answers, the reference to the bit, cuts, and the distributions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from fastbp.kernels.cpu import random as bodies
from fastbp.kernels.cpu import random_doors as doors
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.cpu.philox import CHUNK, LANES
from fastbp.kernels.cpu.random_doors import dropout, normals, perturb, philox, uniforms
from fastbp.kernels.reference import random as truth
from fastbp.kernels.tables import DROPOUT, INIT, NOISE, SHUFFLE

DTYPES = ["float32", "float64"]
SHAPES = [(1, 1), (3, 2), (2, 3), (5, 7), (4, 64), (7, 131), (2, 784), (131, 10), (1, 1031)]
compiled = pytest.mark.skipif(JIT_DISABLED, reason="millions of draws, which are the reference's")
ADDRESS = {"seed": 2**62 + 12345678901, "epoch": 2, "step": 9}


@pytest.mark.parametrize("rounds", [philox, truth.philox])
def test_known_answers(rounds: Any) -> None:
    """The vectors of Random123's kat_vectors for philox4x32 10."""
    counter = [
        [0, 0, 0, 0],
        [0xFFFFFFFF] * 4,
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
    ]
    key = [[0, 0], [0xFFFFFFFF] * 2, [0xA4093822, 0x299F31D0]]
    words = [
        [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ]
    found = rounds(counter, key)
    assert found.dtype == np.uint32
    assert found.tolist() == words


@pytest.mark.parametrize("block", [0, 1, 2**32 - 5, 2**40 + 3])
def test_compiled_words_are_those_of_the_address(block: int) -> None:
    words = np.zeros(4 * CHUNK, np.uint32)
    _draw_chunk(words, block, 7, 2**32 - 1, 3 + 8 * 8191, 2**63 - 9)
    want = truth.words(block + np.arange(CHUNK), 2**63 - 9, 3, epoch=2**32 - 1, step=7, layer=8191)
    assert (want == words.reshape(4, CHUNK).T).all()


@bodies.serial
def _draw_chunk(words: Any, block: int, step: int, epoch: int, label: int, seed: int) -> None:
    bodies.fill_words(words, CHUNK, np.uint64(block), step, epoch, np.uint64(label), seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.999])
def test_masks_equal_the_reference(shape: tuple[int, int], dtype: str, p: float) -> None:
    A = np.random.default_rng(0).normal(size=shape).astype(dtype)
    out, mask = dropout(A, p, layer=3, **ADDRESS)
    want, want_mask = truth.dropout(A, p, layer=3, **ADDRESS)
    assert (mask == want_mask).all()
    assert (out == want).all()
    if p == 0:
        assert (out == A).all()


@pytest.mark.parametrize("count", [1, 15, 16, 37])
def test_a_word_at_the_limit_is_kept(count: int) -> None:
    """Dropped are the words below p 2^32: as many as p says, where that is whole."""
    limit = 2**31
    words = (limit - 1 + np.arange(1, 1 + count + LANES) % 3).astype(np.uint32)
    mask = np.full(count, 7, np.uint8)
    _mark(mask, words, limit, count)
    assert mask.tolist() == (words[:count] >= limit).tolist()


@bodies.serial
def _mark(mask: Any, words: Any, limit: int, count: int) -> None:
    bodies.mark(mask, words, np.uint32(limit), count)


def test_a_mask_is_its_address_alone() -> None:
    A = np.ones((8, 32))
    base = dropout(A, 0.5, seed=1)[1]
    for other in ({"seed": 2}, {"epoch": 1}, {"step": 1}, {"layer": 1}):
        assert (dropout(A, 0.5, **{"seed": 1, **other})[1] != base).any()
    assert (dropout(A.astype("float32"), 0.5, seed=1)[1] == base).all()
    assert (dropout(A[:3], 0.5, seed=1)[1] == base[:3]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 3, 10, 64, 101])
@pytest.mark.parametrize("cuts", [[0, 29], [0, 1, 29], [0, 8, 16, 29], [0, 3, 4, 25, 29]])
def test_no_cut_changes_a_bit(dtype: str, n: int, cuts: list[int]) -> None:
    """Padded windows, rows cut anywhere, the second part as a window of its own (first_row)."""
    rows, ld = 29, n + 6
    A = np.random.default_rng(0).normal(size=(rows, n)).astype(dtype)
    want, want_mask = dropout(A, 0.3, layer=2, **ADDRESS)
    noisy = perturb(A, 0.7, **ADDRESS)
    seed, epoch, step = ADDRESS.values()
    padded, shaken = np.full((2, rows, ld), 7, dtype)
    padded[:, :n] = shaken[:, :n] = A
    mask = np.full((rows, ld), 9, np.uint8)
    for lo, hi in itertools.pairwise(cuts):
        bodies.dropout_rows(padded, mask, 0.3, seed, epoch, step, 2, 0, lo, hi, n)
        bodies.perturb_rows(shaken[lo:], 0.7, seed, epoch, step, lo, 0, hi - lo, n)
    assert padded[:, :n].tobytes() == want.tobytes()
    assert mask[:, :n].tobytes() == want_mask.tobytes()
    assert shaken[:, :n].tobytes() == noisy.tobytes()
    assert (padded[:, n:] == 7).all()
    assert (shaken[:, n:] == 7).all()
    assert (mask[:, n:] == 9).all()


def test_the_parallel_shares_give_the_bits_of_one() -> None:
    dtype = "float32"  # one is enough: each parallel region takes seconds to compile
    A = np.random.default_rng(0).normal(size=(67, 83)).astype(dtype)
    found = set()
    for parts in (1, 2, 3, 7):
        dropped, noisy = A.copy(), A.copy()
        mask = np.zeros(A.shape, np.uint8)
        doors._dropout_shares(dropped, mask, 0.4, 1, 2, 3, 4, parts)
        doors._perturb_shares(noisy, 0.5, 1, 2, 3, parts)
        found.add(dropped.tobytes() + mask.tobytes() + noisy.tobytes())
    assert len(found) == 1


@compiled
def test_the_share_dropped_is_p() -> None:
    """4e6 draws: five standard deviations of the share are 5 sqrt(p (1 - p) / 4e6)."""
    for p in (0.01, 0.2, 0.5):
        mask = dropout(np.ones((2000, 2000), "float32"), p, seed=3)[1]
        bound = 5 * math.sqrt(p * (1 - p) / mask.size)
        assert abs(1 - mask.mean() - p) < bound
        # ... in every column, and neighbours in a row or a column are independent.
        kept = mask.astype(float) - mask.mean()
        assert np.abs(kept.mean(axis=0)).max() < 6 * math.sqrt(p * (1 - p) / 2000)
        pairs = (kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1]), (kept[:, 500:], kept[:, :-500])
        for product in (a * b for a, b in pairs):
            assert abs(product.mean()) < 5 * p * (1 - p) / math.sqrt(product.size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_is_the_same_gate_and_nan_stays(dtype: str) -> None:
    A = np.ones((5, 13), dtype)
    A[0], A[1] = np.nan, np.inf
    out, mask = dropout(A, 0.5, seed=0)
    assert np.isnan(out[0]).all()
    assert np.isnan(out[1][mask[1] == 0]).all()
    assert np.isposinf(out[1][mask[1] == 1]).all()
    dA = np.random.default_rng(1).normal(size=A.shape).astype(dtype)
    want = np.where(mask, dA * dA.dtype.type(2), 0)
    bodies.apply_mask_rows(dA, mask, 0.5, 0, 5, 13)
    assert (dA == want).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_noise_agrees_with_the_reference(shape: tuple[int, int]) -> None:
    """float64: log, sine and cosine within 2 units of numbers up to 6.8. float32: the logarithm's
    argument is rounded to 2^-24, which near u = 1 moves sqrt(-2 log u) by up to 2^-12."""
    X = np.zeros(shape)
    want = truth.perturb(X, 1.0, **ADDRESS)
    assert np.abs(perturb(X, 1.0, **ADDRESS) - want).max() < 8 * 2.0**-52 * 6.8
    single = perturb(X.astype("float32"), 1.0, **ADDRESS)
    assert np.abs(single - want).max() < 2.0**-11


@compiled
@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_is_normal(dtype: str) -> None:
    z = perturb(np.zeros((1000, 1000), dtype), 1.0, seed=11).astype(float)
    size = z.size
    # Five standard deviations of each moment's estimate.
    assert abs(z.mean()) < 5 / math.sqrt(size)
    assert abs((z**2).mean() - 1) < 5 * math.sqrt(2 / size)
    assert abs((z**3).mean()) < 5 * math.sqrt(15 / size)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / size)
    assert 4.4 < np.abs(z).max() <= 6.77
    for product in (z[:, 1:] * z[:, :-1], z[1:] * z[:-1], z[:, 250:] * z[:, :-250]):
        assert abs(product.mean()) < 5 / math.sqrt(product.size)
    # Pairs share their radius: squares must be independent, too.
    squares = z**2 - 1
    assert abs((squares[:, 250:] * squares[:, :-250]).mean()) < 5 * 2 / math.sqrt(size)
    stats = pytest.importorskip("scipy.stats")
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4


def test_numbers_for_a_start() -> None:
    stats = pytest.importorskip("scipy.stats")
    z, u = normals(1, INIT, 0, 200_001), uniforms(1, INIT, 0, 200_001)
    assert z.dtype == u.dtype == np.float64
    assert stats.kstest(z, "norm").pvalue > 1e-4
    assert stats.kstest(u, "uniform").pvalue > 1e-4
    assert u.min() > 0
    assert u.max() < 1
    assert (normals(1, INIT, 0, 77) == z[:77]).all()
    assert (uniforms(1, INIT, 0, 77) == u[:77]).all()
    for other in (normals(2, INIT, 0, 9), normals(1, NOISE, 0, 9), normals(1, INIT, 1, 9)):
        assert (other != z[:9]).all()
    words = truth.words(np.arange(50_001), 1, INIT)
    pairs = truth.normal_pairs(words[:, ::2], words[:, 1::2])
    want = np.stack(pairs, axis=-1).reshape(-1)[: z.size]
    assert np.abs(z - want).max() < 8 * 2.0**-52 * 6.8
    words = truth.words(np.arange(100_001), 1, INIT)
    high, low = words.reshape(-1, 2).astype(np.uint64).T
    cells = ((high << np.uint64(20)) + (low >> np.uint64(12)))[: u.size]
    assert (u * 2.0**52 == cells + 0.5).all()


@pytest.mark.parametrize("size", [0, 1, 2, 5, 63, 257, 1000])
def test_orders_equal_the_reference(size: int) -> None:
    for seed, epoch in ((0, 0), (5, 3), (2**62, -1)):
        order, want = np.arange(size), np.arange(size)
        bodies.shuffle(order, seed, epoch)
        truth.shuffle(want, seed, epoch)
        assert (order == want).all()
        assert (np.sort(order) == np.arange(size)).all()


@pytest.mark.parametrize("size", [2, 5, 63, 300])
def test_an_order_whose_words_are_rejected_draws_more(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shuffle in a test's life would reject one: two of three do here, in plain Python."""
    address = {"seed": 5, "epoch": 3}

    def accept(word: Any, bound: Any) -> Any:
        return bound if word % 3 else (int(word) * int(bound)) >> 32

    def fill(words: Any, count: int, block: Any, *rest: Any) -> None:
        drawn = truth.words(int(block) + np.arange(count), 5, SHUFFLE, epoch=3)
        words.reshape(4, -1)[:, :count] = drawn.T  # and no more: the others stay None

    words = np.full(4 * CHUNK, None)
    for name, stub in {"local": lambda *_: words, "fill_words": fill, "accept": accept}.items():
        monkeypatch.setattr(bodies, name, stub)
    monkeypatch.setattr(bodies, "tag", lambda *_: 0)
    order = np.arange(size)
    getattr(bodies.shuffle, "py_func", bodies.shuffle)(order, **address)
    monkeypatch.setattr(truth, "accept", lambda w, n: None if w % 3 else (int(w) * n) >> 32)
    want = np.arange(size)
    truth.shuffle(want, **address)
    assert (order == want).all()


@pytest.mark.parametrize("size", [1, 2, 3, 60000, 2**31 + 1, 3 * 2**30 - 1])
def test_draws_equal_the_reference(size: int) -> None:
    """The last two sizes reject half and a quarter of the words: blocks run out, steps go on."""
    order, want = np.zeros((2, 150), np.int64)
    bodies.sample(order, size, 7, 1, 1000)
    truth.sample(want, size, 7, 1, 1000)
    assert (order == want).all()
    assert order.min() >= 0
    assert order.max() < size
    parts = np.zeros(150, np.int64)
    bodies.sample(parts[:67], size, 7, 1, 1000)
    bodies.sample(parts[67:], size, 7, 1, 1067)
    assert (parts == order).all()


@pytest.mark.parametrize("bound", [3, 5, 60001, 2**31 + 1, 3 * 2**30 - 1])
def test_the_last_word_that_is_rejected(bound: int) -> None:
    """2^32 % bound words are too many: those whose product with it ends in a smaller number."""
    excess = 2**32 % bound
    for low in (0, excess - 1, excess, excess + 1):
        word = low * pow(bound, -1, 2**32) % 2**32  # word * bound ends in `low`
        want = truth.accept(word, bound)
        assert (want is None) == (low < excess)
        assert _accept(word, bound) == (bound if want is None else want)


@bodies.serial
def _accept(word: int, bound: int) -> int:
    return np.int64(bodies.accept(np.uint64(word), np.uint64(bound)))


@compiled
@pytest.mark.parametrize("draw", [normals, uniforms])
@pytest.mark.parametrize("first", [4, 252, 256, 1000])
def test_a_part_of_the_numbers_for_a_start(draw: Any, first: int) -> None:
    whole = draw(3, INIT, 1, 1301)
    np.testing.assert_array_equal(draw(3, INIT, 1, 301, first), whole[first : first + 301])
    with pytest.raises(ValueError, match=r"first: expected a multiple of \d, got 253"):
        draw(3, INIT, 1, 301, 253)


def test_permutations_are_equally_likely() -> None:
    """chi^2 of the 24 permutations of four things over 24,000 epochs: above 58 once in 10^4."""
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(24_000):
        order = np.arange(4)
        bodies.shuffle(order, 1, epoch)
        counts[tuple(order.tolist())] = counts.get(tuple(order.tolist()), 0) + 1
    assert len(counts) == 24
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 58


def test_draws_are_uniform() -> None:
    draws = np.zeros(100_000, np.int64)
    bodies.sample(draws, 100, 1, 0, 0)
    counts = np.bincount(draws, minlength=100)
    # chi^2 with 99 degrees of freedom: above 161 once in 10^4.
    assert ((counts - 1000) ** 2 / 1000).sum() < 161


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda A: dropout(A, 1.0, seed=0), r"p: expected a probability of dropping in \[0, 1\)"),
        (lambda A: dropout(A, 0.5, seed=-1), "seed: expected an integer from 0 to"),
        (lambda A: dropout(A, 0.5, seed=0.5), "seed: expected an integer, got 0.5"),
        (lambda A: dropout(A, 0.5, seed=0, layer=8192), "layer: .* 0 to 8191, got 8192"),
        (lambda A: dropout(A, 0.5, seed=0, mask=A), "mask: expected a writable C-contiguous uint8"),
        (lambda A: perturb(A, -1.0, seed=0), "sigma: expected a finite number >= 0, got -1.0"),
        (lambda A: philox([0, 0], [0, 0]), "counter: expected a last axis of 4 words"),
    ],
)
def test_bad_arguments_are_named(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call(np.ones((2, 3)))


def test_outputs_are_filled_in_place() -> None:
    A = np.ones((4, 9), "float32")
    mask = np.zeros((4, 9), np.uint8)
    want = dropout(A, 0.5, seed=1)[0]
    out, marked = dropout(A, 0.5, seed=1, mask=mask, out=A)
    assert out is A
    assert marked is mask
    assert (want == A).all()
    assert perturb(A, 0.1, seed=1, out=A) is A
    assert DROPOUT != NOISE


@pytest.mark.parametrize(
    ("counter", "error", "message"),
    [
        ([0, 0, 0, 1.5], TypeError, "counter: expected integers, got float64"),
        ([0, 0, 0, 1 << 32], ValueError, r"counter: expected words from 0 to 2\^32 - 1"),
        ([0, 0, 0, -1], ValueError, r"counter: expected words from 0 to 2\^32 - 1"),
    ],
)
def test_what_is_no_word_is_refused(counter: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        philox(counter, [0, 0])
    with pytest.raises(error, match=message.replace("counter", "key")):
        philox([0] * 4, counter[-2:])


def test_a_mask_shares_no_memory_with_the_activations() -> None:
    A, out = np.ones((3, 4), np.float32), np.empty((3, 4), np.float32)
    for name, whole in (("A", A), ("out", out)):
        mask = whole.view(np.uint8).reshape(-1)[:12].reshape(3, 4)
        with pytest.raises(ValueError, match=f"mask: shares memory with {name}"):
            dropout(A, 0.5, seed=1, mask=mask, out=out)
    assert (A == 1).all()


def test_counters_and_keys_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"key: shape \(2, 2\) does not fit counter's \(3, 4\)"):
        philox(np.zeros((3, 4), int), np.zeros((2, 2), int))
    assert philox(np.zeros((3, 1, 4), int), np.zeros((2, 2), int)).shape == (3, 2, 4)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_nothing_may_be_drawn(shape: tuple[int, int]) -> None:
    A = np.empty(shape)
    for kernels in (doors, truth):
        assert kernels.dropout(A, 0.5, seed=1)[0].shape == shape
        assert kernels.perturb(A, 0.5, seed=1).shape == shape
