"""Panels of dL/dZ that blocks of rows of dL/dW share: the same bits, and copied once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.cpu.layer_products import gradient_rows
from fastbp.kernels.cpu.operands import FORGET, KEEP, KEPT, SCRATCH_BYTES
from fastbp.kernels.cpu.product import host_tiles
from fastbp.kernels.cpu.scratch import CONSTANTS, KEPT_BYTES, ROOM, scratch_elements
from fastbp.kernels.cpu.shares import TALL
from fastbp.kernels.cpu.tile_table import bind_tiles
from fastbp.kernels.layout import FIELDS, LD, M, leading_dimension

DTYPES = ["float32", "float64"]


def table(itemsize: int, *layers: tuple[int, int]) -> np.ndarray:
    """A plan with what `scratch_elements` reads of it."""
    plan = np.full((len(layers), FIELDS), -1, np.int64)
    for row, (m, n) in zip(plan, layers, strict=True):
        row[[M, LD]] = m, leading_dimension(n, itemsize)
    return plan


def operands(rng: Any, dtype: str, batch: int, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A and dL/dZ as they lie in training: rows of whole cache lines."""
    found = []
    for width in (m, n):
        ld = leading_dimension(width, np.dtype(dtype).itemsize)
        found.append(rng.standard_normal((batch, ld)).astype(dtype))
    return found[0], found[1]


@pytest.mark.skipif(JIT_DISABLED or host_tiles() is None, reason="only tiles pack")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [256, 301, 512])
@pytest.mark.parametrize("batch", [33, 256, 700])
def test_blocks_that_share_panels_have_the_same_bits(dtype: str, batch: int, n: int) -> None:
    """Several panels, the last one narrow, several blocks of the depth. The first block of rows
    packs them: what dL/dZ holds afterwards is not read again."""
    rng, itemsize, m = np.random.default_rng(3), np.dtype(dtype).itemsize, 130
    bind_tiles(dtype)
    A, D = operands(rng, dtype, batch, m, n)
    room = batch * D.shape[1]
    scratch = np.full(SCRATCH_BYTES // itemsize + room + 64, np.nan, dtype)
    wanted, found = (np.full((m, n), np.nan, dtype) for _ in range(2))
    gradient_rows(A, D, wanted, 0, 0, m, batch, n, 0, scratch, D[0, :0], FORGET)
    for lo, hi in ((0, 48), (48, 57), (57, m)):
        panels = KEPT if lo else KEEP
        gradient_rows(A, D, found, 0, lo, hi, batch, n, 0, scratch, D[0, :0], panels)
        D[:] = np.nan
    assert found.tobytes() == wanted.tobytes()
    assert np.isnan(scratch[-64:]).all()


@pytest.mark.parametrize("itemsize", [4, 8])
def test_room_for_panels_is_had_by_wide_layers_in_blocks_alone(itemsize: int) -> None:
    least = SCRATCH_BYTES // itemsize + ROOM + CONSTANTS
    given: Any = {"rows": 32, "itemsize": itemsize, "bf16": False, "count": 2}
    few = table(itemsize, (TALL, 600), (784, 512 // itemsize))  # one block; rows read in place
    assert scratch_elements(few, **given) == least
    wide, kept = table(itemsize, (TALL + 1, 600), (700, 301)), 32 * leading_dimension(600, itemsize)
    assert scratch_elements(wide, **given) == least + kept
    # More than all threads together may keep, and just as much.
    most = KEPT_BYTES // (kept * itemsize)
    assert scratch_elements(wide, **given | {"count": most}) == least + kept
    assert scratch_elements(wide, **given | {"count": most + 1}) == least


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_training_has_the_same_bits_where_no_panels_are_kept(
    dtype: str, clip_norm: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways from gradients to parameters, on one thread and on two."""
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((80, 450)).astype(dtype), rng.integers(3, size=80)
    found = set()
    for most in (KEPT_BYTES, 0):
        monkeypatch.setattr("fastbp.kernels.cpu.scratch.KEPT_BYTES", most)
        for threads in (1, 2):
            layers = [fastbp.Dense(270, "relu"), fastbp.Dense(3)]
            net = fastbp.Network(450, layers, seed=1, dtype=dtype)
            trainer = fastbp.Trainer(
                net, "adam", 40, n_threads=threads, clip_norm=clip_norm, progress=False
            )
            trainer.fit(X, y, epochs=2)
            elements = net._workspace(40).scratches(threads).shape[1]
            assert (elements > SCRATCH_BYTES // X.itemsize + ROOM + CONSTANTS) == (most > 0)
            found.add(net.parameters.tobytes())
    assert len(found) == 1
