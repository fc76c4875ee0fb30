"""Find the first element that is NaN or inf."""

from __future__ import annotations

import numpy as np


def first_not_finite(X: np.ndarray, n_threads: int | None = None) -> tuple[int, int] | None:
    """Row and column of the first element, in C order, that is NaN or inf; None if all are finite.

    X is (n, k) or (n,); of (n,) the column is 0.
    """
    rows, columns = np.nonzero(~np.isfinite(X.reshape(len(X), -1)))
    return (int(rows[0]), int(columns[0])) if len(rows) else None
