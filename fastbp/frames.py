"""Data frames and their columns, of pandas, polars, PyArrow and their kin, as arrays of numbers.

narwhals (an extra) reads them all alike, so that a column which cannot be used is named whatever
the library.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .extras import require

_LIBRARIES: Final = frozenset({"pandas", "polars", "pyarrow", "modin", "cudf", "narwhals"})
_ENCODE: Final = "encode it as numbers first, such as a column of 0 and 1 for each category."
_MARKS: Final = ("__narwhals_dataframe__", "__arrow_c_stream__", "__dataframe__")


def is_frame(value: object) -> bool:
    """A data frame or a column of one: not an array, and known by its library or its interchange.

    >>> is_frame(np.zeros(3)), is_frame([[1, 2]])
    (False, False)
    """
    if isinstance(value, np.ndarray | list | tuple):
        return False
    library = type(value).__module__.partition(".")[0]
    return library in _LIBRARIES or any(hasattr(value, mark) for mark in _MARKS)


def from_frame(value: Any, name: str) -> NDArray[Any]:
    """The numbers of a table, (n, m), or of a column, (n,).

    float32 where every column is float32, the column's own dtype where there is one column, else
    float64. Booleans are 0 and 1.

    Args:
        value: an eager data frame or series that narwhals knows, or that PyArrow can take over.
        name: what messages call it.

    Raises:
        ImportError: narwhals is not installed (extra `tables`), or PyArrow (extra `parquet`),
            where the frame is known by its interchange protocol alone.
        TypeError: a column of text, categories, dates or nested values; a lazy frame.
        ValueError: a missing value.

    >>> import pandas
    >>> from_frame(pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}), "X").tolist()
    [[1.0, 0.5], [2.0, 1.5]]
    """
    nw = require("narwhals", "tables", f"{name} is a {type(value).__name__}; reading it")
    try:
        table = nw.from_native(value, allow_series=True)
    except (TypeError, nw.exceptions.DuplicateError):
        if hasattr(value, "__array__"):  # an Index, a name that occurs twice: NumPy's own reading
            return np.asarray(value)
        return from_frame(_exchanged(value, name), name)
    if isinstance(table, nw.LazyFrame):
        ready = "compute" if hasattr(value, "compute") else "collect"  # Dask's, and all others'
        raise TypeError(f"{name} is lazy ({type(value).__name__}); give {name}.{ready}()")
    if isinstance(table, nw.Series):
        return _column(table, name, "encode it as numbers first.")
    if (matrix := _plain(table)) is not None:
        return matrix
    arrays = [
        _column(column, f"{name}[{label!r}]", _ENCODE)
        for label, column in zip(table.columns, table.iter_columns(), strict=True)
    ]
    if len(arrays) == 1:
        return arrays[0][:, None]
    matrix = np.empty((len(table), len(arrays)), _common({array.dtype for array in arrays}))
    for index, array in enumerate(arrays):
        matrix[:, index] = array
    return matrix


def _exchanged(value: Any, name: str) -> Any:
    """PyArrow's table or column of what can be had by an interchange protocol alone."""
    asker = f"{name} is a {type(value).__name__}; reading it"
    if hasattr(value, "__arrow_c_stream__"):
        pyarrow = require("pyarrow", "parquet", asker)
        try:
            return pyarrow.table(value)
        except pyarrow.ArrowInvalid:  # a column
            return pyarrow.chunked_array(value)
    if hasattr(value, "__dataframe__"):
        return require("pyarrow.interchange", "parquet", asker).from_dataframe(value)
    kind = type(value).__name__
    raise TypeError(f"{name} ({kind}) is no table or column of numbers; make one of it first.")


def _plain(table: Any) -> NDArray[Any] | None:
    """pandas' table of NumPy's own numbers at once, some 50 times as fast as column by column.

    None where it is another, or has something missing that is to be named.
    """
    frame = table.to_native()
    if type(frame).__module__.partition(".")[0] != "pandas":
        return None
    kinds = {*frame.dtypes}
    if not kinds or not all(isinstance(k, np.dtype) and k.kind in "fiub" for k in kinds):
        return None
    common = kinds.pop() if frame.shape[1] == 1 else _common(kinds)
    matrix: NDArray[Any] = frame.to_numpy(common)
    return matrix if common.kind != "f" or not np.isnan(matrix).any() else None


def _common(kinds: set[np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype to put columns side by side in; objects are looked at by the caller, one by one."""
    if np.dtype(object) in kinds:
        return np.dtype(object)
    return np.dtype(np.float32 if kinds == {np.dtype(np.float32)} else np.float64)


def _column(column: Any, where: str, way_out: str) -> NDArray[Any]:
    """One column as numbers, or as the objects that it holds."""
    try:
        kind = column.dtype
    except NotImplementedError:  # of Arrow's own, within pandas
        return _unknown(column, where, way_out)
    if len(column) and column.null_count() == len(column):
        raise _missing(column, where)
    if str(kind) == "Unknown":
        return _unknown(column, where, way_out)
    if not kind.is_numeric() and str(kind) != "Boolean":
        if str(kind) == "Object":  # Python's own numbers, perhaps
            return np.asarray(column.to_numpy())
        if str(kind).startswith(("Date", "Time", "Duration")):
            way_out = "take numbers from it, such as days or hours."
        raise TypeError(f"{where} holds {_what(str(kind))}; {way_out}")
    if column.null_count():
        raise _missing(column, where)
    if str(kind) in {"Int128", "UInt128"}:  # NumPy has none
        import narwhals

        column = column.cast(narwhals.Float64)
    array = np.asarray(column.to_numpy())
    return array.astype(np.float64) if array.dtype.kind == "O" else array  # decimals


def _unknown(column: Any, where: str, way_out: str) -> NDArray[Any]:
    """A column of a type that narwhals does not know: pandas' sparse ones are numbers, say."""
    native = column.to_native()
    kind = str(native.type if hasattr(native, "type") else native.dtype)
    try:
        array = np.asarray(column.to_numpy())
    except NotImplementedError:  # Arrow's unions
        array = np.empty(0, object)
    if kind.startswith("decimal"):  # of 32, 64 or 256 bits
        if column.null_count():
            raise _missing(column, where)
        return array.astype(np.float64)
    if array.dtype.kind in "biuf":
        return array
    raise TypeError(f"{where} holds {_what(kind)}; {way_out}")


def _missing(column: Any, where: str) -> ValueError:
    row = int(np.asarray(column.is_null().to_numpy()).argmax())
    return ValueError(
        f"{where} is missing in row {row}, and in {column.null_count()} in all; leave such "
        "rows out or fill them first."
    )


def _what(kind: str) -> str:
    names = {"String": "text", "Categorical": "categories", "Enum": "categories"}
    return f"{names.get(kind.partition('(')[0], kind)} (dtype {kind})"
