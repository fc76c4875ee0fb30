"""Samples in the form that the compiled loop takes: dense rows, or the parts of a CSR matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.utils.validation import validate_data

from ..budget import at_most
from ..canonical import as_floats, find_not_finite
from ..engine import Array
from ..network import Network
from ..sparse import Sparse, check_given, is_sparse, parts


def as_samples(X: Any, dtype: np.dtype[Any]) -> Array | Sparse:
    """A validated dense array or sparse matrix for the loop; copied only where its form is another.

    A sparse one is never made dense as a whole: the loop unpacks the rows of a batch.
    """
    return Sparse.of(X, dtype) if is_sparse(X) else as_floats(X, dtype, "X")


def validated(estimator: Any, X: Any, y: Any, *, reset: bool, numeric: bool = False) -> Any:
    """scikit-learn's door for samples to train on: X and y, or its error.

    A C-contiguous float array has its NaN and inf looked for by the threads that train, where
    scikit-learn sums it up on one: 10 ms of the 145 that a fit of MNIST takes. What has any goes in
    as it came, so that scikit-learn says so, in its words and at its place among the complaints.
    """
    if is_sparse(X):
        check_given(X, "X")
    with at_most(estimator.n_threads):
        known = (
            type(X) is np.ndarray
            and X.dtype in (np.float32, np.float64)
            and X.ndim == 2
            and X.flags.carray
            and not get_config()["assume_finite"]  # then nobody looks
            and find_not_finite(X) is None
        )
    return validate_data(
        estimator, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=numeric,
        dtype=(np.float64, np.float32), reset=reset, ensure_all_finite=not known,
    )  # fmt: skip


def outputs(net: Network, X: Array | Sparse, n_threads: int | None = None) -> tuple[Array, bool]:
    """What the network gives for every row, and whether all rows are finite."""
    out, bad = net._run_inference(*parts(X), len(X), n_threads=n_threads)
    return out, not bad
