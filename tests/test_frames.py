"""Data frames of three libraries: the same numbers, and the column that will not do is named."""

import decimal
import re
import sys

import numpy as np
import pytest

from fastbp import Dense, Network, Trainer
from fastbp.data import as_matrix, as_targets, as_weights
from fastbp.frames import from_frame, is_frame

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")

COLUMNS = {"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "c": [True, False, True]}
NUMBERS = [[1, 0.5, 1], [2, 1.5, 0], [3, 2.5, 1]]
MOMENT = np.datetime64("2020-01-01", "us").item()
FRAMES = {
    "pandas": pandas.DataFrame,
    "pandas, nullable": lambda columns: pandas.DataFrame(columns).convert_dtypes(),
    "pandas, arrow": lambda columns: pandas.DataFrame(columns).convert_dtypes(
        dtype_backend="pyarrow"
    ),
    "polars": polars.DataFrame,
    "pyarrow": pyarrow.table,
    "pyarrow, batch": pyarrow.record_batch,
}
SERIES = {
    "pandas": pandas.Series,
    "polars": polars.Series,
    "pyarrow": lambda values: pyarrow.chunked_array([values[:1], values[1:]]),
    "pandas, index": pandas.Index,
    "pyarrow, array": pyarrow.array,
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_frames_are_matrices(frame):
    assert is_frame(frame(COLUMNS))
    for dtype in (np.float32, np.float64):
        matrix = as_matrix(frame(COLUMNS), 3, dtype)
        assert (matrix.dtype, matrix.flags.c_contiguous) == (dtype, True)
        np.testing.assert_array_equal(matrix, NUMBERS)
    one = from_frame(frame({"a": np.full(2, 0.5, "f4"), "b": np.full(2, 1.5, "f4")}), "X")
    assert one.dtype == np.float32
    assert from_frame(frame({"a": [5, 6]}), "X").tolist() == [[5], [6]]


@pytest.mark.parametrize("series", SERIES.values(), ids=SERIES)
def test_columns_are_labels_targets_and_weights(series):
    labels = as_targets(series([0, 2, 1]), 3, 3, np.float32, "cross_entropy")
    assert (labels.dtype, labels.tolist()) == (np.int64, [0, 2, 1])
    targets = as_targets(series([0.5, 2.0]), 2, 1, np.float32, "squared_error")
    assert targets.tolist() == [[0.5], [2.0]]
    assert as_weights(series([1.0, 0.5]), 2, np.float32).tolist() == [1.0, 0.5]


def test_a_fit_is_the_same_from_any_of_them():
    losses = []
    for frame in FRAMES.values():
        net = Network(3, [Dense(4, "tanh"), Dense(1)], seed=1)
        table = frame(COLUMNS)
        history = Trainer(net, batch_size=2, progress=False).fit(table, [1.0, 2.0, 3.0], epochs=2)
        losses.append((history.loss, net.evaluate(table, [1.0, 2.0, 3.0]), net.forward(table)[0]))
    assert all(str(other) == str(losses[0]) for other in losses)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1], "b": ["x"]}, r"X\['b'\] holds text \(dtype String\); encode it as numbers"),
        ({"a": [1, 2], "b": [1.0, None]}, r"X\['b'\] is missing in row 1, and in 1 in all"),
        (
            {"a": [MOMENT]},
            r"X\['a'\] holds .*Date.* take numbers from it",
        ),
    ],
)
@pytest.mark.parametrize("frame", [FRAMES["pandas, arrow"], polars.DataFrame, pyarrow.table])
def test_what_will_not_do_is_named(frame, columns, message):
    with pytest.raises((TypeError, ValueError), match=message):
        as_matrix(frame(columns), None, np.float32)


def test_what_only_some_have():
    def matrix(table):
        return as_matrix(table, None, np.float64).tolist()

    with pytest.raises(TypeError, match="holds categories"):
        matrix(pandas.DataFrame({"a": ["u", "v"]}, dtype="category"))
    with pytest.raises(ValueError, match=r"X\['a'\] is missing in row 1"):
        matrix(pandas.DataFrame({"a": [0.0, np.nan]}))
    with pytest.raises(TypeError, match=r"X is lazy \(LazyFrame\); give X.collect\(\)"):
        matrix(polars.DataFrame(COLUMNS).lazy())
    with pytest.raises(TypeError, match=r"X\[1, 0\]='x' \(str\) is no number"):
        matrix(pandas.DataFrame({"a": [1, "x"], "b": [0.5, 1.5]}, dtype=object))
    with pytest.raises(ValueError, match="X is empty"):
        matrix(polars.DataFrame({}))
    assert matrix(pandas.DataFrame({"a": [1, 2.5]}, dtype=object)) == [[1.0], [2.5]]
    assert matrix(pandas.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])) == [[1, 2], [3, 4]]
    assert matrix(polars.DataFrame({"a": [decimal.Decimal("1.5")]})) == [[1.5]]


@pytest.mark.parametrize("series", [pandas.Series, polars.Series, SERIES["pyarrow"]])
def test_class_names_have_a_way_out(series):
    with pytest.raises(
        TypeError, match=r"y holds text.*For class names: classes, y = numpy.unique"
    ):
        as_targets(series(["cat", "dog"]), 2, 2, np.float32, "cross_entropy")


def test_without_narwhals_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "narwhals", None)
    with pytest.raises(ImportError, match=r"X is a DataFrame; reading it needs narwhals.*tables\]"):
        as_matrix(pandas.DataFrame(COLUMNS), 3, np.float32)


LABELS = {
    "numbers": [0, 1, 2], "floats": [0.5, 1.5, 2.5], "booleans and none": [True, False, None],
    "dates": list(pandas.date_range("2020-01-01", periods=3)),
    "tuples": [(0, "a"), (0, "b"), (1, "a")],
}  # fmt: skip


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_columns_may_have_any_names(labels):
    frame = pandas.DataFrame(np.array(NUMBERS), columns=pandas.Index(labels))
    assert as_matrix(frame, 3, np.float64).tolist() == NUMBERS
    frame.iloc[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"X\[1, 2\]=nan|is missing in row 1"):
        as_matrix(frame, 3, np.float64)


def test_sparse_columns_of_pandas_are_numbers():
    frame = pandas.get_dummies(pandas.DataFrame({"c": ["a", "b", "a"]}), sparse=True, dtype=float)
    assert from_frame(frame, "X").tolist() == [[1, 0], [0, 1], [1, 0]]
    periods = pandas.DataFrame({"p": pandas.period_range("2020", periods=3, freq="M"), "x": 1.0})
    with pytest.raises(TypeError, match=r"X\['p'\] holds period\[M\]"):
        from_frame(periods, "X")


@pytest.mark.skipif(not hasattr(polars, "Int128"), reason="polars 1.18 has them")
def test_integers_of_128_bits_are_read():
    frame = polars.DataFrame({"a": [1, 4], "b": [2, 5]}).cast(polars.Int128)
    assert from_frame(frame, "X").tolist() == [[1.0, 2.0], [4.0, 5.0]]


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_columns_are_gone_through_and_not_looked_up(frame, monkeypatch):
    """A look-up costs as much as there are columns: 10,000 of them took minutes."""
    narwhals = pytest.importorskip("narwhals")

    def look_up(table, place):
        raise AssertionError(f"column {place} is looked up")

    monkeypatch.setattr(narwhals.DataFrame, "__getitem__", look_up)
    np.testing.assert_array_equal(from_frame(frame(COLUMNS), "X"), NUMBERS)


KINDS = {
    "bytes": "u1 i1", "float32": "f4 f4", "narrow": "f2 f4", "one": "f2", "one float32": "f4",
    "whole": "i8 u8", "all": "b i8 f4 f8 u2", "booleans": "b b", "one boolean": "b",
}  # fmt: skip


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_columns_of_numpy_are_read_at_once_as_they_are_one_by_one(kinds, monkeypatch):
    drawn = np.random.default_rng(0).uniform(0, 2, 5)
    frame = pandas.DataFrame(
        {place: (drawn + place).astype(kind) for place, kind in enumerate(kinds.split())}
    )
    at_once = from_frame(frame, "X")
    monkeypatch.setattr("fastbp.frames._plain", lambda table: None)
    one_by_one = from_frame(frame, "X")
    assert at_once.dtype == one_by_one.dtype
    np.testing.assert_array_equal(at_once, one_by_one)


UNKNOWN = {
    "fixed_size_binary[2]": lambda: pyarrow.array([b"ab"] * 2, pyarrow.binary(2)),
    "list_view": lambda: pyarrow.array([[1]] * 2, pyarrow.list_view(pyarrow.int64())),
    "sparse_union": lambda: pyarrow.UnionArray.from_sparse(
        pyarrow.array([0, 0], pyarrow.int8()), [pyarrow.array([1, 2])]
    ),
}


@pytest.mark.parametrize("within", ["pyarrow", "pandas"])
def test_types_that_narwhals_does_not_know_are_named_or_read(within):
    def frame(values):
        if within == "pyarrow":
            return pyarrow.table({"a": values})
        return pandas.DataFrame({"a": pandas.arrays.ArrowExtensionArray(values)})

    for kind, values in UNKNOWN.items():
        with pytest.raises(TypeError, match=rf"X\['a'\] holds {re.escape(kind)}.*; encode it"):
            from_frame(frame(values()), "X")
    for bits in (32, 64, 256):
        kind = getattr(pyarrow, f"decimal{bits}", lambda *digits: pytest.skip("pyarrow 18 has it"))
        values = pyarrow.array([decimal.Decimal("1.5"), None], kind(5, 1))
        assert from_frame(frame(values[:1]), "X").tolist() == [[1.5]]
        with pytest.raises(ValueError, match=r"X\['a'\] is missing in row 1"):
            from_frame(frame(values), "X")


class Stream:
    """A table or column known by Arrow's C stream alone."""

    def __init__(self, held):
        self.held = held

    def __arrow_c_stream__(self, requested_schema=None):
        return self.held.__arrow_c_stream__(requested_schema)


class Interchange:
    """A table known by the data frame interchange protocol alone."""

    def __init__(self, held):
        self.held = held

    def __dataframe__(self, nan_as_null=False, allow_copy=True):
        return self.held.__dataframe__(nan_as_null, allow_copy)


def reader(table):
    return pyarrow.RecordBatchReader.from_batches(table.schema, table.to_batches())


@pytest.mark.parametrize("known_by", [Stream, Interchange, reader])
def test_frames_known_by_their_interchange_alone(known_by, monkeypatch):
    table = pyarrow.table({"a": [1, 2], "b": [0.5, 1.5]})
    assert from_frame(known_by(table), "X").tolist() == [[1, 0.5], [2, 1.5]]
    assert from_frame(Stream(pyarrow.chunked_array([[1], [2]])), "y").tolist() == [1, 2]
    with pytest.raises(TypeError, match=r"X\['a'\] holds text"):
        from_frame(known_by(pyarrow.table({"a": ["x"]})), "X")
    for module in ("pyarrow", "pyarrow.interchange"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"X is a \w+; reading it needs pyarrow.*parquet\]"):
        from_frame(known_by(table), "X")


def test_what_pandas_has_that_is_no_table_is_named():
    with pytest.raises(TypeError, match=r"X \(DataFrameGroupBy\) is no table or column"):
        from_frame(pandas.DataFrame({"a": [1, 1], "b": [1, 2]}).groupby("a"), "X")


@pytest.mark.filterwarnings("ignore:Dask support is moving")
def test_a_lazy_frame_of_dask_is_told_its_own_word():
    dask = pytest.importorskip("dask.dataframe")
    with pytest.raises(TypeError, match=r"X is lazy \(DataFrame\); give X.compute\(\)"):
        from_frame(dask.from_pandas(pandas.DataFrame(COLUMNS), npartitions=1), "X")
