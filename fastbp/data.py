"""The door for data: whatever holds numbers becomes one canonical form, or one clear error.

X becomes (n, m) in the network's dtype. y becomes class labels, int64 (n,), or targets (n, k) in
the network's dtype. In-memory arrays are screened for NaN and inf here; memory-mapped ones row by
row, as they are read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .canonical import Array, as_array, as_floats, check_finite
from .errors import plural, shown, wrong_width
from .kernels.checks import writable_type
from .kernels.tables import LOSSES

_MANY = 10_000
"""A label from here on is hardly meant as the number of a class."""


def as_matrix(
    X: Any,
    columns: int | None,
    dtype: DTypeLike,
    name: str = "X",
    *,
    finite: bool = True,
) -> Array:
    """X as a C-contiguous (n, m) array of `dtype`, n at least 1.

    An array that has this form already is not copied, memory-mapped ones included; a read-only one
    is aliased, so that it has a writable type, and must not be written through. Anything else
    (lists, data frames, integers, booleans, objects, Fortran order, strides, another byte order or
    precision) is copied once.

    Args:
        X: array-like of shape (n, m).
        columns: m, the network's inputs; None: any number.
        dtype: float32 or float64, the network's.
        name: what messages call it.
        finite: refuse NaN and inf (but in memory maps, which are screened as they are read).

    Raises:
        ValueError: not 2-D, another number of columns, no rows, NaN or inf, or a number that
            `dtype` cannot hold.
        TypeError: complex numbers, text, dates, sparse matrices.

    >>> as_matrix([[1, 2], [3, 4]], 2, "float32").dtype
    dtype('float32')
    """
    kind = np.dtype(dtype)
    array = as_array(X, name)
    if array.ndim != 2:
        raise ValueError(_not_a_matrix(array, columns, name))
    if columns is not None and array.shape[1] != columns:
        raise ValueError(wrong_width(name, array.shape[1], columns))
    if array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape}); at least one row is needed.")
    result = as_floats(array, kind, name)
    if finite:
        check_finite(result, name)
    return result


def _not_a_matrix(array: Array, columns: int | None, name: str) -> str:
    if array.ndim == 0:
        return f"{name}={shown(array[()])} is a single number; give shape (n, m), one row a sample."
    if array.ndim > 2:
        return (
            f"{name} has {array.ndim} dimensions, shape {array.shape}; give two, one row a sample: "
            f"{name}.reshape(len({name}), -1)."
        )
    row, column = f"{name}.reshape(1, -1)", f"{name}.reshape(-1, 1)"
    text = f"{name} has one dimension, shape {array.shape}; give two: "
    if columns == 1:
        return f"{text}{column} for {plural(len(array), 'sample')} of one feature."
    if columns is None or columns == len(array):
        return f"{text}{row} for one sample of {plural(len(array), 'feature')}."
    return f"{text}shape (n, {columns}), one row a sample."


def as_targets(
    y: Any,
    rows: int,
    outputs: int,
    dtype: DTypeLike,
    loss: str,
    name: str = "y",
) -> Array:
    """y as class labels, int64 of shape (n,), or as targets, (n, k) of `dtype`, C-contiguous.

    - k = 1 output: (n,) or (n, 1) of numbers or booleans gives targets (n, 1).
    - k > 1 outputs and y of shape (n,) or (n, 1): class labels 0 ... k - 1, as integers, booleans,
      or floats that are whole numbers. With any loss they stand for their one-hot rows.
    - k > 1 outputs and y of shape (n, k): targets as they are, one-hot among them.

    As with X, an array that has the form is not copied; NaN and inf in memory-mapped targets (n, k)
    are met as their rows are read.

    Args:
        y: array-like.
        rows: n, the rows of X.
        outputs: k, the network's outputs.
        dtype: float32 or float64, the network's.
        loss: name in `LOSSES`; with those of probabilities targets must be in [0, 1], with poisson
            0 or more.
        name: what messages call it.

    Raises:
        ValueError: another shape, labels out of range, NaN or inf, targets outside [0, 1].
        TypeError: complex numbers, text, dates, sparse matrices.

    >>> as_targets([0, 2, 1], 3, 3, "float32", "cross_entropy")
    array([0, 2, 1])
    >>> as_targets([True, False], 2, 1, "float32", "binary_cross_entropy").tolist()
    [[1.0], [0.0]]
    """
    kind = np.dtype(dtype)
    array = _text_classes(y, name)
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} has shape {array.shape}; give (n,) or (n, {outputs}), one row a sample."
        )
    if len(array) != rows:
        raise ValueError(
            f"{name} has {plural(len(array), 'row')} but X has {rows}; they must have as many."
        )
    if outputs > 1 and array.size == rows:
        return as_labels(array.reshape(rows), outputs, name)
    if array.size != rows * outputs:
        raise ValueError(
            f"{name} has shape {array.shape} but the network has {plural(outputs, 'output')}; "
            f"give {_shapes(outputs)}."
        )
    targets = as_floats(array.reshape(rows, outputs), kind, name)
    check_finite(targets, name)
    _check_range(targets, loss, name)
    return targets


def labels_or_targets(
    y: Any, rows: int, outputs: int, dtype: DTypeLike, loss: str, name: str = "y"
) -> tuple[Array, Array]:
    """`as_targets` as a batch has them: labels (n,), targets (n, k), of which one is empty."""
    found = as_targets(y, rows, outputs, dtype, loss, name)
    if found.ndim == 1:
        return found, np.empty((0, outputs), dtype)
    return np.empty(0, np.int64), found


def _text_classes(y: Any, name: str) -> Array:
    """`as_array`, whose way out for text is the one for class names."""
    try:
        return as_array(y, name)
    except TypeError as error:
        array = np.asarray(y)
        first = array.flat[0] if array.ndim == 1 and array.size else None
        if not isinstance(first, str | bytes):
            raise
        hint = f"classes, {name} = numpy.unique({name}, return_inverse=True)"
        raise TypeError(f"{error} For class names: {hint}.") from None


def _shapes(outputs: int) -> str:
    if outputs == 1:
        return "(n,) or (n, 1)"
    return f"(n,) with class labels 0 ... {outputs - 1}, or (n, {outputs}) with targets"


def as_labels(array: Array, classes: int, name: str) -> Array:
    """int64 labels of a vector that must hold 0 ... classes - 1."""
    bad = ~((array >= 0) & (array < classes))  # NaN too
    if array.dtype.kind == "f":
        bad |= array != np.floor(array)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"{name}[{row}]={array[row]} is not a class of a network with {classes} outputs: "
            f"labels are whole numbers, 0 ... {classes - 1}.{_label_hint(array, classes, name)}"
        )
    if array.dtype == np.int64 and array.flags.c_contiguous and array.flags.aligned:
        return writable_type(np.asarray(array))
    return np.array(array, dtype=np.int64, order="C", subok=False)


def _label_hint(array: Array, classes: int, name: str) -> str:
    low, high = array.min(), array.max()
    if not np.isfinite([low, high]).all():
        return ""
    if array.dtype.kind == "f" and not np.array_equal(array, np.floor(array)):
        return f" For a regression give {name} of shape (n, {classes})."
    if low == 1 and high == classes:
        return f" They start at 1 here: give {name} - 1."
    if low >= 0 and high < _MANY:
        return f" Give the network {int(high) + 1} outputs, or number the classes from 0 on."
    return f" Number them from 0 on: classes, {name} = numpy.unique({name}, return_inverse=True)."


def _check_range(targets: Array, loss: str, name: str) -> None:
    """Refuse targets that the loss has no meaning for."""
    least, most = LOSSES[loss].targets
    # NaN is passed over: in a memory map it is met when its row is read.
    below = np.isfinite(least) and np.fmin.reduce(targets, axis=None) < least
    above = np.isfinite(most) and np.fmax.reduce(targets, axis=None) > most
    if not (below or above):
        return
    bad = (targets < least) | (targets > most)
    row, column = (int(i) for i in np.unravel_index(bad.argmax(), bad.shape))
    where = f"{name}[{row}, {column}]" if targets.shape[1] > 1 else f"{name}[{row}]"
    value = f"{where}={targets[row, column]}"
    if np.isinf(most):
        raise ValueError(
            f"{value} is below {least:g}; targets of {loss} are counts or rates, {least:g} or more."
        )
    hint = ""
    if set(np.unique(targets[:1000])) <= {-1.0, 1.0}:
        hint = f" For classes -1 and 1 give ({name} + 1) / 2."
    elif targets.shape[1] == 1:
        hint = " For more than two classes the network needs an output for each."
    allowed = f"[{least:g}, {most:g}], the range of targets of {loss}"
    raise ValueError(f"{value} is outside {allowed}.{hint}")


def as_weights(
    sample_weight: Any, rows: int, dtype: DTypeLike, name: str = "sample_weight"
) -> Array:
    """Weights of the samples as a C-contiguous (n,) array of `dtype`: finite, 0 or more, not all 0.

    They are not normalised here.

    Raises:
        ValueError: another shape, a weight that is negative, NaN or inf, or all of them 0.
        TypeError: complex numbers, text, dates, sparse matrices.

    >>> as_weights([1, 2], 2, "float32").tolist()
    [1.0, 2.0]
    """
    kind = np.dtype(dtype)
    array = as_array(sample_weight, name)
    if array.shape not in {(rows,), (rows, 1)}:
        raise ValueError(
            f"{name} has shape {array.shape} but X has {plural(rows, 'row')}; give one weight a "
            f"row, shape ({rows},)."
        )
    weights = as_floats(array.reshape(rows), kind, name)
    if not np.isfinite(weights).all() or weights.min() < 0.0:
        row = int((~(np.isfinite(weights) & (weights >= 0.0))).argmax())
        raise ValueError(f"{name}[{row}]={weights[row]} must be finite and 0 or more.")
    with np.errstate(over="ignore"):
        total = weights.sum(dtype=np.float64)
    if not np.isfinite(total):
        raise ValueError(f"{name} is too large: its sum is no finite number; scale it down.")
    if (denormal := (weights > 0.0) & (weights < np.finfo(kind).tiny)).any():
        weights = np.where(denormal, kind.type(0), weights)  # as the kernels take them
    if not weights.any():
        tiny = f", or below {np.finfo(kind).tiny:.3g}, which is 0 here" if denormal.any() else ""
        raise ValueError(f"{name} is 0{tiny} for every row; at least one must count.")
    return weights
