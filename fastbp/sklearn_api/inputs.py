"""Samples in the form that the compiled loop takes: dense rows, or the parts of a CSR matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from sklearn import get_config
from sklearn.utils.validation import validate_data

from ..budget import at_most
from ..canonical import as_floats, find_not_finite
from ..engine import NO_COLUMNS, NO_STARTS, Array, Batch
from ..network import Network
from ..sparse import Sparse, check_given, is_sparse, parts


@dataclass(slots=True)  # not frozen: that would cost a prediction of one row a tenth of its time
class Inputs:
    """A matrix of samples (rows, inputs), dense or sparse.

    A sparse one is never made dense as a whole: the loop unpacks the rows of a batch.

    Attributes:
        X: (rows, inputs), or the values (1, nnz) of a sparse matrix; C-contiguous.
        columns: (nnz,) int32, empty where X is dense.
        starts: (rows + 1,) int64: where each row's values begin; empty where X is dense.
        rows: number of samples.
    """

    X: Array
    columns: Array
    starts: Array
    rows: int

    @classmethod
    def of(cls, X: Any, dtype: np.dtype[Any]) -> Self:
        """A validated dense array or sparse matrix; copied only where its form is another."""
        if not is_sparse(X):
            dense = as_floats(X, dtype, "X")
            return cls(dense, NO_COLUMNS, NO_STARTS, len(dense))
        sparse = Sparse.of(X, dtype)
        return cls(*parts(sparse), len(sparse))

    def taken(self, indices: Array) -> Inputs:
        """Copies of some rows alone."""
        if not self.starts.size:
            return replace(self, X=self.X[indices], rows=len(indices))
        sparse = Sparse(self.X, self.columns, self.starts)[indices]
        return Inputs(*parts(sparse), len(sparse))


@dataclass(frozen=True)
class Data:
    """Samples with what is wanted of them.

    Attributes:
        inputs: the samples.
        labels: (rows,) int64 classes, or empty.
        targets: (rows, outputs) of the network's dtype; (0, outputs) where there are labels.
        weights: (rows,) of the network's dtype, or empty for ones.
    """

    inputs: Inputs
    labels: Array
    targets: Array
    weights: Array

    @property
    def weights_or_none(self) -> Array | None:
        """What scikit-learn's scores take."""
        return self.weights if self.weights.size else None

    def batch(self, order: Array, bounds: Array) -> Batch:
        """What the engine takes."""
        given = self.inputs
        return Batch(
            given.X, self.labels, self.targets, self.weights, order, bounds, given.columns,
            given.starts,
        )  # fmt: skip

    def taken(self, indices: Array) -> Data:
        """Copies of some samples alone."""
        labels, targets, weights = (
            part[indices] if len(part) else part
            for part in (self.labels, self.targets, self.weights)
        )
        return Data(self.inputs.taken(indices), labels, targets, weights)


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


def outputs(net: Network, inputs: Inputs, n_threads: int | None = None) -> tuple[Array, bool]:
    """What the network gives for every row, and whether all rows are finite."""
    out, bad = net._run_inference(
        inputs.X, inputs.columns, inputs.starts, inputs.rows, n_threads=n_threads
    )
    return out, not bad
