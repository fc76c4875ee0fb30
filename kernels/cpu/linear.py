"""The three products of a layer as public kernels, over the bodies the training loop calls.

linear_forward: A = f(X W + b); weight_gradient: dL/dW = A^T dL/dZ and dL/db, the column sums of
dL/dZ; input_gradient: dL/dA = dL/dZ W^T.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numba import get_num_threads, prange

from ..checks import array, code_of, output
from ..tables import ACTIVATIONS, IDENTITY, RELU
from .activation import activate_rows
from .bf16 import is_bf16
from .bf16_product import BF16_SCRATCH_BYTES, bind_bf16
from .doors import launch
from .jit import parallel, serial
from .layer_products import NO_PREFETCH, gradient_rows, input_rows, linear_rows
from .memory import flush_denormals, restore_mode, segment
from .operands import FORGET, SCRATCH_BYTES
from .shares import COLUMNS, SAMPLES, share, share_of_rows
from .sums import column_sums
from .tile_table import bind_tiles
from .tiles import FINISH_NONE, FINISH_RELU

_kept = threading.local()


def _made_ready(dtype: Any, bf16: bool) -> np.ndarray:
    """The tiles bound, and packing space for every thread a door may use.

    That is kept, so that calls allocate nothing.
    """
    name, threads = "bfloat16" if bf16 else np.dtype(dtype).name, get_num_threads()
    found: np.ndarray | None = getattr(_kept, name, None)
    if found is None or len(found) < threads:
        size = BF16_SCRATCH_BYTES if bf16 else SCRATCH_BYTES
        found = np.empty((threads, size // np.dtype(dtype).itemsize), dtype)
        setattr(_kept, name, found)
    if bf16:
        bind_bf16()
    else:
        bind_tiles(dtype)
    return found


@serial
def _linear_share(
    A: Any,
    W: Any,
    b: Any,
    code: int,
    Z: Any,
    out: Any,
    bf16: int,
    scratches: Any,
    part: int,
    parts: int,
) -> None:
    mode = flush_denormals()
    m, n = W.shape
    lo, hi = share(A.shape[0], SAMPLES, part, parts)
    scratch = segment(scratches, part * scratches.shape[1], scratches.shape[1])
    keep = Z.size > 0
    if keep:
        linear_rows(A, W, b, Z, lo, hi, m, n, FINISH_NONE, bf16, scratch, NO_PREFETCH, Z)
        activate_rows(code, Z, out, lo, hi, n)
    elif code == RELU:
        linear_rows(A, W, b, out, lo, hi, m, n, FINISH_RELU, bf16, scratch, NO_PREFETCH, out)
    else:
        linear_rows(A, W, b, out, lo, hi, m, n, FINISH_NONE, bf16, scratch, NO_PREFETCH, out)
        if code != IDENTITY:
            activate_rows(code, out, out, lo, hi, n)
    restore_mode(mode)


@parallel
def _linear_shares(
    A: Any, W: Any, b: Any, code: int, Z: Any, out: Any, bf16: int, scratches: Any, parts: int
) -> None:
    for t in prange(parts):
        _linear_share(A, W, b, code, Z, out, bf16, scratches, np.int64(t), parts)


@serial
def _weight_share(
    A: Any, dZ: Any, out: Any, bias: Any, bf16: int, scratches: Any, part: int, parts: int
) -> None:
    mode = flush_denormals()
    rows, n = dZ.shape
    lo, hi = share_of_rows(A.shape[1], part, parts)
    scratch = segment(scratches, part * scratches.shape[1], scratches.shape[1])
    gradient_rows(A, dZ, out, 0, lo, hi, rows, n, bf16, scratch, segment(scratch, 0, 0), FORGET)
    lo, hi = share(n, COLUMNS, part, parts)
    column_sums(dZ, bias, rows, lo, hi)
    restore_mode(mode)


@parallel
def _weight_shares(
    A: Any, dZ: Any, out: Any, bias: Any, bf16: int, scratches: Any, parts: int
) -> None:
    for t in prange(parts):
        _weight_share(A, dZ, out, bias, bf16, scratches, np.int64(t), parts)


@serial
def _input_share(
    dZ: Any, W: Any, out: Any, bf16: int, scratches: Any, part: int, parts: int
) -> None:
    mode = flush_denormals()
    m, n = W.shape
    lo, hi = share(dZ.shape[0], SAMPLES, part, parts)
    scratch = segment(scratches, part * scratches.shape[1], scratches.shape[1])
    input_rows(dZ, W, dZ, out, lo, hi, n, m, FINISH_NONE, bf16, scratch)
    restore_mode(mode)


@parallel
def _input_shares(dZ: Any, W: Any, out: Any, bf16: int, scratches: Any, parts: int) -> None:
    for t in prange(parts):
        _input_share(dZ, W, out, bf16, scratches, np.int64(t), parts)


def linear_forward(
    A: np.ndarray,
    W: np.ndarray,
    b: np.ndarray | None = None,
    activation: str | int = "identity",
    *,
    out: np.ndarray | None = None,
    Z: np.ndarray | None = None,
    precision: str | None = None,
) -> np.ndarray:
    """f(A W + b): the linear part and the activation of a layer, fused (notes 004, 6.6.2).

    Args:
        A: the layer's input (n, m), C-contiguous float32 or float64.
        W: weights (m, k), like A.
        b: bias (k,), or None for none.
        activation: a name of `tables.ACTIVATIONS` or its code.
        out: array for the output (n, k). Default: a new one.
        Z: array to receive the pre-activations A W + b (n, k); None: they are not kept.
        precision: "bfloat16" rounds A and W to it and adds up in float32; None: all in their dtype.

    Returns:
        The output (n, k).

    Raises:
        ValueError, TypeError: an unknown activation, shapes that do not fit, an array of another
            kind.
        RuntimeError: nothing here multiplies bfloat16.

    >>> linear_forward(np.array([[1.0, 2.0]]), np.array([[1.0], [-2.0]]), activation="relu")
    array([[0.]])
    """
    code = code_of("activation", activation, ACTIVATIONS)
    A = array("A", A, (None, None))
    bf16 = is_bf16(precision, A.dtype)
    W = array("W", W, (A.shape[1], None), A.dtype)
    k = W.shape[1]
    bias = np.empty(0, A.dtype) if b is None else array("b", b, (k,), A.dtype)
    inputs = {"A": A, "W": W, "b": bias}
    result = output("out", out, (len(A), k), A.dtype, inputs)
    kept = np.empty((0, k), A.dtype)
    if Z is not None:
        kept = output("Z", Z, (len(A), k), A.dtype, {**inputs, "out": result})
    work = A.size * k // 16
    rest = (kept, result, int(bf16), _made_ready(A.dtype, bf16))
    launch(_linear_share, _linear_shares, work, A, W, bias, code, *rest)
    return result if out is None else out


def weight_gradient(
    A: np.ndarray,
    dZ: np.ndarray,
    *,
    out: np.ndarray | None = None,
    bias_out: np.ndarray | None = None,
    precision: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """dL/dW = A^T dL/dZ, the outer products summed over the batch, and dL/db (notes 004, 6.5.17).

    Args:
        A: the layer's input (n, m), C-contiguous float32 or float64.
        dZ: dL/dZ (n, k), like A.
        out: array for dL/dW (m, k). Default: a new one.
        bias_out: array for dL/db (k,). Default: a new one.
        precision: "bfloat16" for dL/dW of rounded A and dZ; see `linear_forward`.

    Returns:
        (dL/dW, dL/db).

    Raises:
        ValueError, TypeError, RuntimeError: as for `linear_forward`.

    >>> dW, db = weight_gradient(np.array([[1.0, 2.0]]), np.array([[3.0]]))
    >>> dW.tolist(), db.tolist()
    ([[3.0], [6.0]], [3.0])
    """
    A = array("A", A, (None, None))
    bf16 = is_bf16(precision, A.dtype)
    dZ = array("dZ", dZ, (len(A), None), A.dtype)
    m, k = A.shape[1], dZ.shape[1]
    inputs = {"A": A, "dZ": dZ}
    result = output("out", out, (m, k), A.dtype, inputs)
    bias = output("bias_out", bias_out, (k,), A.dtype, {**inputs, "out": result})
    work = A.size * k // 16
    rest = (result, bias, int(bf16), _made_ready(A.dtype, bf16))
    launch(_weight_share, _weight_shares, work, A, dZ, *rest)
    return (result if out is None else out), (bias if bias_out is None else bias_out)


def input_gradient(
    dZ: np.ndarray,
    W: np.ndarray,
    *,
    out: np.ndarray | None = None,
    precision: str | None = None,
) -> np.ndarray:
    """dL/dA = dL/dZ W^T, what the layer before gets (notes 004, dZ/dA = W).

    Args:
        dZ: dL/dZ (n, k), C-contiguous float32 or float64.
        W: weights (m, k), like dZ.
        out: array for dL/dA (n, m). Default: a new one.
        precision: "bfloat16" for rounded dZ and W; see `linear_forward`.

    Returns:
        dL/dA (n, m).

    Raises:
        ValueError, TypeError, RuntimeError: as for `linear_forward`.

    >>> input_gradient(np.array([[3.0]]), np.array([[1.0], [2.0]])).tolist()
    [[3.0, 6.0]]
    """
    dZ = array("dZ", dZ, (None, None))
    bf16 = is_bf16(precision, dZ.dtype)
    W = array("W", W, (None, dZ.shape[1]), dZ.dtype)
    result = output("out", out, (len(dZ), W.shape[0]), dZ.dtype, {"dZ": dZ, "W": W})
    rest = (result, int(bf16), _made_ready(dZ.dtype, bf16))
    launch(_input_share, _input_shares, dZ.size * len(W) // 16, dZ, W, *rest)
    return result if out is None else out
