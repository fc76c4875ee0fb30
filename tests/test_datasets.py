"""The digits that ship with the package, and the split that holds some of them out."""

import numpy as np
import pytest

from fastbp.datasets import load_digits, stratified_split


def test_digits_are_scikit_learns_divided_by_16():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    X, y = load_digits("float64")
    assert np.array_equal(X * 16, theirs.data)
    assert np.array_equal(y, theirs.target)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_pixel_is_a_sixteenth_in_every_float_type(dtype):
    X, y = load_digits(dtype)
    assert X.dtype == dtype
    assert X.shape == (1797, 64)
    assert np.array_equal(X * 16, np.rint(X * 16))
    assert (X.min(), X.max()) == (0, 1)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_split_is_stratified_disjoint_and_complete():
    X, y = load_digits()
    split = stratified_split(X, y)
    # One in five of each class, rounded down: 178 // 5 = 35 zeros and so on.
    assert np.array_equal(np.bincount(split.y_test), np.bincount(y) // 5)
    assert len(split.y_train) + len(split.y_test) == len(y)
    rows = np.sort(np.concatenate([split.X_train, split.X_test]).view("V256").ravel())
    assert np.array_equal(rows, np.sort(X.view("V256").ravel()))


def test_bad_arguments_are_named():
    X, y = load_digits()
    with pytest.raises(TypeError, match="floating-point type such as 'float32', not 'int8'"):
        load_digits("int8")
    with pytest.raises(ValueError, match="every must be at least 2"):
        stratified_split(X, y, every=1)
    with pytest.raises(ValueError, match="X has 1796 rows and y 1797 labels"):
        stratified_split(X[1:], y)
