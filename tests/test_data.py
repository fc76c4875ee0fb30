"""The door for data: what passes as it is, what is copied once, and what each mistake gets."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp.canonical import check_finite, is_memory_map
from fastbp.data import as_matrix, as_targets, as_weights

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
VALUES = np.arange(12.0).reshape(4, 3)


def _canonical(array: np.ndarray, dtype: np.dtype[Any]) -> bool:
    flags = array.flags
    return (
        type(array) is np.ndarray
        and array.dtype == dtype
        and array.dtype.isnative
        and bool(flags.c_contiguous and flags.aligned and flags.writeable)
    )


def _strided() -> np.ndarray:
    big = np.zeros((8, 6))
    big[::2, ::2] = VALUES
    return big[::2, ::2]


def _unaligned() -> np.ndarray:
    memory = np.zeros(12 * 8 + 1, dtype=np.uint8)[1:].view(F8).reshape(4, 3)
    memory[:] = VALUES
    return memory


FORMS: dict[str, Any] = {
    "list": VALUES.tolist(),
    "tuple of arrays": tuple(VALUES),
    "int64": VALUES.astype(np.int64),
    "uint8": VALUES.astype(np.uint8),
    "float16": VALUES.astype(np.float16),
    "float32": VALUES.astype(np.float32),
    "longdouble": VALUES.astype(np.longdouble),
    "object": VALUES.astype(object),
    "mixed objects": np.array(
        [[0, 1.0, Decimal(2)], [Fraction(3), np.float32(4), np.int8(5)], [6, 7, 8], [9, 10, 11]],
        dtype=object,
    ),
    "Fortran": np.asfortranarray(VALUES),
    "transposed": np.ascontiguousarray(VALUES.T).T,
    "strided": _strided(),
    "reversed": VALUES[::-1].copy()[::-1],
    "big-endian": VALUES.astype(">f8"),
    "unaligned": _unaligned(),
    "matrix": np.asarray(VALUES).view(np.matrix),
    "masked, nothing masked": np.ma.masked_array(VALUES),
}


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_canonical(form: str, dtype: np.dtype[Any]) -> None:
    result = as_matrix(FORMS[form], 3, dtype)
    assert _canonical(result, dtype)
    np.testing.assert_array_equal(result, VALUES)


@pytest.mark.parametrize("dtype", [F4, F8])
def test_the_canonical_form_is_not_copied(dtype: np.dtype[Any]) -> None:
    X = VALUES.astype(dtype)
    assert as_matrix(X, 3, dtype) is X
    for alike in (X[1:3], X[:1]):
        assert np.shares_memory(as_matrix(alike, 3, dtype), X)


def test_a_read_only_array_is_aliased_not_copied() -> None:
    X = VALUES.copy()
    X.flags.writeable = False
    result = as_matrix(X, 3, F8)
    assert _canonical(result, F8)
    assert np.shares_memory(result, X)
    assert not X.flags.writeable
    del X  # the alias keeps the memory alive
    np.testing.assert_array_equal(result, VALUES)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_memory_map_is_neither_copied_nor_screened(tmp_path: Path, mode: Any) -> None:
    bad = VALUES.copy()
    bad[2, 1] = np.nan
    np.save(tmp_path / "X.npy", bad)
    X = np.load(tmp_path / "X.npy", mmap_mode=mode)
    result = as_matrix(X, 3, F8)
    assert _canonical(result, F8)
    assert np.shares_memory(result, X)
    assert is_memory_map(X)
    assert is_memory_map(result[1:])
    with pytest.raises(ValueError, match=r"X\[2, 1\]=nan"):
        as_matrix(X, 3, F4)  # another precision is a copy, in memory
    with pytest.raises(ValueError, match=r"X\[2, 1\]=nan"):
        as_matrix(X.copy(), 3, F8)  # a copy is no map, though its class is still memmap


def test_a_map_read_as_a_buffer_is_a_map(tmp_path: Path) -> None:
    import mmap

    VALUES.tofile(tmp_path / "X.bin")
    with open(tmp_path / "X.bin", "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert is_memory_map(np.frombuffer(memory).reshape(4, 3))
    assert not is_memory_map(np.frombuffer(VALUES.tobytes()))


def test_data_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    np.testing.assert_array_equal(as_matrix(frame, 3, F4), [[1, 0.5, 1], [2, 1.5, 0]])
    np.testing.assert_array_equal(as_targets(frame["a"], 2, 3, F4, "cross_entropy"), [1, 2])
    with pytest.raises(TypeError, match=r"X\['b'\] holds text \(dtype String\); encode it"):
        as_matrix(pandas.DataFrame({"a": [1], "b": ["x"]}), 2, F4)
    with pytest.raises(TypeError, match="For class names: classes, y ="):
        as_targets(pandas.Series(["cat", "dog"]), 2, 2, F4, "cross_entropy")


def test_nothing_given_is_changed() -> None:
    for form, value in FORMS.items():
        if isinstance(value, np.ndarray):
            as_matrix(value, 3, F4)
            assert value.shape == (4, 3), form
            np.testing.assert_array_equal(value.astype(float), VALUES)


BIG = VALUES.copy()
BIG[3, 0] = 1e39
BAD_X: list[tuple[Any, type[Exception], str]] = [
    (None, TypeError, "X=None; give an array"),
    (3.0, ValueError, "X=3.0 is a single number"),
    ("abc", TypeError, "X holds text"),
    ({"a": 1}, TypeError, "is no number"),
    (np.zeros(3), ValueError, r"X\.reshape\(1, -1\) for one sample of 3 features"),
    (np.zeros(5), ValueError, r"give two: shape \(n, 3\)"),
    (np.zeros((2, 4)), ValueError, r"4 columns but the network has 3 inputs; .* shape \(n, 3\)"),
    (np.zeros((0, 3)), ValueError, r"X is empty \(shape \(0, 3\)\)"),
    ([], ValueError, "one dimension"),
    ([[]], ValueError, "0 columns"),
    (np.zeros((2, 3, 1)), ValueError, r"X\.reshape\(len\(X\), -1\)"),
    ([[1, 2, 3], [4, 5]], ValueError, "row 1 has length 2 and row 0 has 3"),
    (VALUES + 1j, TypeError, r"X is complex \(complex128\); give real numbers"),
    ([[1j, 0, 0]], TypeError, "complex"),
    (np.array([[1j, 0, 0]], dtype=object), TypeError, r"X\[0, 0\]=1j is complex"),
    ([["a", "b", "c"]], TypeError, r"X holds text \(dtype <U1\); encode it"),
    (np.array([["1", 2, 3]], dtype=object), TypeError, r"X\[0, 0\]='1' \(str\) is no number"),
    (np.array([[1, None, 3]], dtype=object), TypeError, r"X\[0, 1\]=None \(NoneType\)"),
    (np.array([[10**400, 0, 0]], dtype=object), ValueError, r"X\[0, 0\]=1000.* too large"),
    (np.zeros((2, 3), dtype="M8[s]"), TypeError, "dates"),
    (np.zeros((2, 3), dtype="m8[s]"), TypeError, "times"),
    (np.zeros((2, 3), dtype=[("a", "f4")]), TypeError, "records"),
    (np.ma.masked_equal(VALUES, 4), ValueError, "masked values; fill them"),
    (np.where(VALUES == 7, np.nan, VALUES), ValueError, r"X\[2, 1\]=nan is not finite"),
    (np.where(VALUES == 5, -np.inf, VALUES), ValueError, r"X\[1, 2\]=-inf is not finite"),
    (BIG, ValueError, r"X\[3, 0\]=1e\+39 is too large for float32 .*3\.4e\+38.*dtype='float64'"),
]


@pytest.mark.parametrize(("value", "kind", "words"), BAD_X)
def test_bad_data_are_named(value: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        as_matrix(value, 3, F4)


def test_sparse_matrices_are_told_apart() -> None:
    """Where a dense matrix is needed; `Trainer` and `Network` take them (test_sparse.py)."""
    sparse = pytest.importorskip("scipy.sparse")
    for make in (sparse.csr_matrix, sparse.coo_array):
        with pytest.raises(TypeError, match=r"X is sparse .* give X\.toarray\(\)"):
            as_matrix(make(VALUES), 3, F4)


def test_overflow_is_told_apart_from_inf() -> None:
    assert as_matrix(BIG, 3, F8)[3, 0] == 1e39
    with pytest.raises(ValueError, match="not finite"):
        as_matrix(np.where(VALUES == 5, np.inf, VALUES), 3, F4)
    assert np.isnan(as_matrix([[np.nan]], 1, F4, finite=False)[0, 0])


def test_screening_counts_from_the_first_row() -> None:
    X = np.ones((40, 7), dtype=F4)
    X[31, 5] = X[38, 0] = np.nan
    with pytest.raises(ValueError, match=r"sample_weight\[31, 5\]=nan"):
        check_finite(X, "sample_weight")
    with pytest.raises(ValueError, match=r"y\[3\]=inf"):
        check_finite(np.array([0, 0, 0, np.inf], dtype=F4), "y")


LABELS = np.array([0, 2, 1, 2])


@pytest.mark.parametrize(
    "y",
    [LABELS.tolist(), LABELS.astype(np.int32), LABELS.astype(np.uint8), LABELS.astype(float),
     LABELS.astype(np.float16), LABELS.astype(object), LABELS.reshape(4, 1), LABELS.astype(">i8"),
     np.repeat(LABELS, 2)[::2]],
)  # fmt: skip
def test_labels(y: Any) -> None:
    for loss in ("cross_entropy", "squared_error"):
        result = as_targets(y, 4, 3, F4, loss)
        assert _canonical(result, np.dtype(np.int64))
        np.testing.assert_array_equal(result, LABELS)


def test_labels_in_canonical_form_are_not_copied() -> None:
    assert np.shares_memory(as_targets(LABELS, 4, 3, F4, "cross_entropy"), LABELS)
    frozen = LABELS.copy()
    frozen.flags.writeable = False
    result = as_targets(frozen, 4, 3, F4, "cross_entropy")
    assert np.shares_memory(result, frozen)
    assert _canonical(result, np.dtype(np.int64))


def test_booleans_are_labels_or_targets() -> None:
    y = [True, False]
    np.testing.assert_array_equal(as_targets(y, 2, 2, F4, "cross_entropy"), [1, 0])
    np.testing.assert_array_equal(as_targets(y, 2, 1, F4, "binary_cross_entropy"), [[1], [0]])


def test_targets_keep_their_shape_and_memory() -> None:
    one_hot = np.eye(3)[LABELS]
    assert np.shares_memory(as_targets(one_hot, 4, 3, F8, "cross_entropy"), one_hot)
    for y in (one_hot.astype(int), one_hot.tolist(), np.asfortranarray(one_hot)):
        result = as_targets(y, 4, 3, F4, "cross_entropy")
        assert _canonical(result, F4)
        np.testing.assert_array_equal(result, one_hot)
    values = np.array([0.5, -3.0, 7.0])
    for y in (values, values.reshape(3, 1), values.tolist()):
        result = as_targets(y, 3, 1, F8, "squared_error")
        assert result.shape == (3, 1)
        assert _canonical(result, F8)
    assert np.shares_memory(as_targets(values, 3, 1, F8, "squared_error"), values)
    assert as_targets([3], 1, 4, F8, "cross_entropy").tolist() == [3]
    assert as_targets([[0.1, 0.2]], 1, 2, F8, "squared_error").tolist() == [[0.1, 0.2]]


CE, BCE, SQ = "cross_entropy", "binary_cross_entropy", "squared_error"
BAD_Y: list[tuple[Any, int, int, str, type[Exception], str]] = [
    ([0, 1], 3, 2, CE, ValueError, "y has 2 rows but X has 3"),
    ([[0], [1]], 3, 2, CE, ValueError, "y has 2 rows but X has 3"),
    (3, 1, 2, CE, ValueError, r"y has shape \(\); give \(n,\) or \(n, 2\)"),
    (np.zeros((2, 2, 2)), 2, 2, CE, ValueError, r"shape \(2, 2, 2\)"),
    (np.zeros((3, 4)), 3, 2, SQ, ValueError, r"shape \(3, 4\) but the network has 2 outputs; give"),
    (np.zeros((3, 2)), 3, 1, SQ, ValueError, r"has 1 output; give \(n,\) or \(n, 1\)"),
    ([0, 1, 5, 9], 4, 3, CE, ValueError, r"y\[2\]=5 is not a class .* 0 \.\.\. 2.* 10 outputs"),
    ([1, 2, 3], 3, 3, CE, ValueError, r"y\[2\]=3 .*They start at 1 here: give y - 1"),
    ([-1, 1, 1], 3, 2, CE, ValueError, r"y\[0\]=-1 .*return_inverse"),
    ([0.0, 1.5], 2, 2, SQ, ValueError, r"y\[1\]=1.5 .*For a regression give y of shape \(n, 2\)"),
    ([0.0, np.nan], 2, 2, CE, ValueError, r"y\[1\]=nan is not a class"),
    (np.array([0, 2**63], dtype=np.uint64), 2, 2, CE, ValueError, r"y\[1\]=9223372036854775808"),
    (["cat", "dog"], 2, 2, CE, TypeError, "For class names: classes, y = numpy.unique"),
    (np.array(["cat", "dog"], dtype=object), 2, 2, CE, TypeError, "For class names"),
    ([1j, 0], 2, 1, SQ, TypeError, "y is complex"),
    (None, 2, 1, SQ, TypeError, "y=None"),
    ([[1, 2], [3]], 2, 1, SQ, ValueError, "row 1 has length 1"),
    ([0.0, np.inf], 2, 1, SQ, ValueError, r"y\[1, 0\]=inf is not finite"),
    ([[0.0, 0.0], [np.nan, 0]], 2, 2, SQ, ValueError, r"y\[1, 0\]=nan"),
    ([0.0, 1e39], 2, 1, SQ, ValueError, r"y\[1, 0\]=1e\+39 is too large for float32"),
    ([0, 1, 2], 3, 1, BCE, ValueError, r"y\[2\]=2.0 is outside \[0, 1\].*an output for each"),
    ([-1, 1, 1], 3, 1, BCE, ValueError, r"y\[0\]=-1.0 .*give \(y \+ 1\) / 2"),
    ([[0.5, 1.5]], 1, 2, CE, ValueError, r"y\[0, 1\]=1.5 is outside \[0, 1\]"),
]


@pytest.mark.parametrize(("y", "rows", "outputs", "loss", "kind", "words"), BAD_Y)
def test_bad_targets_are_named(
    y: Any, rows: int, outputs: int, loss: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        as_targets(y, rows, outputs, F4, loss)


def test_targets_in_a_memory_map_are_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.full((4, 3), np.nan))
    y = np.load(tmp_path / "y.npy", mmap_mode="r")
    assert np.shares_memory(as_targets(y, 4, 3, F8, "cross_entropy"), y)


def test_weights() -> None:
    weights = np.array([1.0, 0.0, 2.5])
    assert np.shares_memory(as_weights(weights, 3, F8), weights)
    for given in ([1, 0, 2.5], weights.reshape(3, 1), weights.astype(object)):
        result = as_weights(given, 3, F4)
        assert _canonical(result, F4)
        np.testing.assert_array_equal(result, weights)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [([1, 2], ValueError, r"shape \(2,\) but X has 3 rows; .* shape \(3,\)"),
     (1.0, ValueError, r"shape \(\)"),
     ([1, -1, 1], ValueError, r"sample_weight\[1\]=-1.0 must be finite and 0 or more"),
     ([1, 1, np.nan], ValueError, r"sample_weight\[2\]=nan"),
     ([np.inf, 1, 1], ValueError, r"sample_weight\[0\]=inf"),
     ([0, 0, 0], ValueError, "0 for every row"),
     ([1e39, 1, 1], ValueError, r"sample_weight\[0\]=1e\+39 is too large"),
     (["a", "b", "c"], TypeError, "sample_weight holds text")],
)  # fmt: skip
def test_bad_weights_are_named(value: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        as_weights(value, 3, F4)


@pytest.mark.parametrize(
    ("loss", "value", "message"),
    [("binary_cross_entropy", -1.0, r"y\[2\]=-1.0 is outside \[0, 1\]"),
     ("binary_cross_entropy", 7.0, r"y\[2\]=7.0 is outside"), ("poisson", -2.0, "is below 0")],
)  # fmt: skip
def test_a_losses_domain_holds_for_memory_maps(
    tmp_path: Path, loss: str, value: float, message: str
) -> None:
    targets = np.array([[0.0], [np.nan], [value], [1.0]])
    np.save(tmp_path / "y.npy", targets)
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
    with pytest.raises(ValueError, match=message):
        as_targets(mapped, 4, 1, F8, loss)
    as_targets(mapped[:2], 2, 1, F8, loss)  # NaN is met when its row is read


def test_pythons_own_numbers_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one a million of them took 4.6 s."""
    mixed = np.array([[1, 2.5, True], [2**53 + 1, -(2**70), 0.1]], dtype=object)
    slowly = as_matrix(np.array([[Decimal(1), *mixed[0, 1:]], mixed[1]], object), 3, np.float64)

    def one_by_one(shape: tuple[int, ...]) -> None:
        raise AssertionError(shape)

    monkeypatch.setattr(np, "ndindex", one_by_one)
    np.testing.assert_array_equal(as_matrix(mixed, 3, np.float64), slowly)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"X\[0, 1\]=1000.* is too large for float64"):
        as_matrix(np.array([[1, 10**400]], dtype=object), 2, np.float64)


class Exported:
    """An array on the host that is known by DLPack alone."""

    def __init__(self, held: np.ndarray[Any, Any]) -> None:
        self.held = held

    def __dlpack__(self, **how: Any) -> Any:
        return self.held.__dlpack__(**how)

    def __dlpack_device__(self) -> Any:
        return self.held.__dlpack_device__()


def test_arrays_known_by_dlpack_alone() -> None:
    held = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(as_matrix(Exported(held), 3, np.float64), held)
    with pytest.raises(TypeError, match=r"X \(Exported\) cannot be read as an array: "):
        as_matrix(Exported(np.zeros(2, "M8[s]")), None, np.float64)


def test_numbers_that_numpy_does_not_know_are_told_so() -> None:
    types = pytest.importorskip("ml_dtypes")
    for kind in ("bfloat16", "float8_e4m3fn", "int4"):
        array = np.ones((2, 2)).astype(getattr(types, kind))
        with pytest.raises(TypeError, match=rf"X is of dtype {kind}.*give X.astype\('float32'\)"):
            as_matrix(array, 2, np.float64)
    with pytest.raises(TypeError, match="X holds records"):
        as_matrix(np.zeros(2, "f4, f4"), 2, np.float64)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_sparse_tensors_are_told_apart() -> None:
    torch = pytest.importorskip("torch")
    for sparse in (torch.eye(3).to_sparse_csr(), torch.eye(3).to_sparse()):
        with pytest.raises(TypeError, match=r"X \(Tensor\) cannot be read as an array: "):
            as_matrix(sparse, 3, np.float64)
