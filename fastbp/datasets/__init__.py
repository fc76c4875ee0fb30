"""The data that ships with the package: 1797 hand-written digits (see README.md beside it)."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Split(NamedTuple):
    """Data to train on and data held out to judge by."""

    X_train: NDArray[Any]
    y_train: NDArray[np.int64]
    X_test: NDArray[Any]
    y_test: NDArray[np.int64]


def load_digits(dtype: DTypeLike = np.float32) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The UCI hand-written digits: images (1797, 64) scaled to 0..1, and labels (1797,) 0..9.

    A row is an image of 8 x 8 pixels. The data are E. Alpaydin and C. Kaynak's (1998), CC BY 4.0.

    Args:
        dtype: floating-point type of the images; pixels are multiples of 1/16, exact in each.

    Returns:
        X of shape (1797, 64) and `dtype`, y of shape (1797,) and int64.

    Raises:
        TypeError: `dtype` is not a floating-point type.

    Example:
        >>> X, y = load_digits()
        >>> X.shape, X.dtype.name, float(X.max()), y[:5].tolist()
        ((1797, 64), 'float32', 1.0, [0, 1, 2, 3, 4])
    """
    kind = np.dtype(dtype)
    if kind.kind != "f":
        raise TypeError(f"dtype must be a floating-point type such as 'float32', not {kind.name!r}")
    with files(__name__).joinpath("digits.npz").open("rb") as file, np.load(file) as stored:
        images, labels = stored["images"], stored["labels"]
    return images.astype(kind) / kind.type(16), labels.astype(np.int64)


def stratified_split(X: NDArray[Any], y: NDArray[Any], every: int = 5) -> Split:
    """Hold out every `every`-th sample of each class, in the order of the data.

    No random numbers: the split is the same on every machine and with every version.

    Args:
        X: samples, shape (n, m).
        y: class labels, shape (n,).
        every: one sample in so many is held out, at least 2.

    Returns:
        X_train, y_train, X_test, y_test, rows in their former order.

    Raises:
        ValueError: `every` is below 2, or X and y differ in length.

    Example:
        >>> split = stratified_split(*load_digits())
        >>> split.X_train.shape, split.X_test.shape
        ((1442, 64), (355, 64))
    """
    if every < 2:
        raise ValueError(
            f"every must be at least 2 (one sample in every so many is held out), not {every}"
        )
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} rows and y {len(y)} labels: they must be as many")
    held_out = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        held_out[np.flatnonzero(y == label)[every - 1 :: every]] = True
    kept = ~held_out
    return Split(X[kept], y[kept].astype(np.int64), X[held_out], y[held_out].astype(np.int64))
