"""Rows and columns: what batches are made of, in the formats of numpy, pandas and pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from milepost.api.spelling import did_you_mean

if TYPE_CHECKING:
    import numpy as np

    Columns = Mapping[Any, np.ndarray[Any, Any]]

#: What Ray calls the only column of rows, and of an array, that have no names.
ITEM, DATA = "item", "data"

# Their Python values say the same as numpy's.
_PLAIN = "biufcUSO"


def named(row: Any) -> dict[Any, Any]:
    """Return a row as a dict of its own; one without names has the column ``"item"``."""
    return dict(row) if isinstance(row, Mapping) else {ITEM: row}


def columns_of(rows: Sequence[Any]) -> Columns:
    """Return the columns of rows.

    Args:
        rows: each is a dict, or a value without a name.

    Raises:
        ValueError: they do not have the same names.
    """
    if not rows:
        return {}
    first, *others = all_named = [named(row) for row in rows]
    for number, other in enumerate(others, start=1):
        if other.keys() != first.keys():
            raise ValueError(
                f"rows of a batch must have the same columns: the first has {list(first)}, row "
                f"{number} of the batch has {list(other)}."
            )
    return {key: column([row[key] for row in all_named]) for key in first}


def numbers(items: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return numbers of rows as an array, as arrays and tables take them; there may be none."""
    import numpy as np

    return np.asarray(items, dtype=np.intp)


def column(values: Any) -> np.ndarray[Any, Any]:
    """Return values as one array; its entries are objects where they have no common shape."""
    import numpy as np

    if hasattr(values, "detach"):  # a tensor, also on a GPU or with a gradient
        return np.asarray(values.detach().cpu())
    if not isinstance(values, list | tuple):
        return np.asarray(values)
    values = [each.detach().cpu() if hasattr(each, "detach") else each for each in values]
    try:
        return np.asarray(values)
    except ValueError:  # of different shapes
        return _objects(values)


def stacked(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a column of arrays as one array, where they have a common shape."""
    import numpy as np

    if array.dtype == object and len(array) and isinstance(array[0], np.ndarray):
        return column(list(array))
    return array


def rows_of(columns: Columns) -> Iterator[dict[Any, Any]]:
    """Yield the rows of columns, with plain Python values where there are such."""
    values = [
        array.tolist() if array.ndim == 1 and array.dtype.kind in _PLAIN else array
        for array in columns.values()
    ]
    for entries in zip(*values, strict=True):
        yield dict(zip(columns, entries, strict=True))


def frame_of(columns: Columns) -> Any:
    """Return columns as a DataFrame of pandas; what is no single value is an array per row."""
    return library("pandas").DataFrame(
        {key: array if array.ndim == 1 else list(array) for key, array in columns.items()}
    )


def table_of(columns: Columns) -> Any:
    """Return columns as a Table of pyarrow; what is no single value is a list per row."""
    return library("pyarrow").table(
        {str(key): array if array.ndim == 1 else array.tolist() for key, array in columns.items()}
    )


def library(name: str) -> Any:
    """Import pandas or pyarrow.

    Raises:
        ImportError: it is not installed; the message has the command.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise  # it is there, something that it needs is not
        raise ImportError(
            f"Batches of {name} need it: run `pip install 'milepost[{name}]'`, or take batches of "
            "numpy with batch_format='numpy'.",
            name=name,
        ) from None


def require_known(names: Mapping[Any, Any], columns: Mapping[Any, Any]) -> None:
    """Check that names are those of columns.

    Raises:
        ValueError: one is not; with the closest one.
    """
    for name in names:
        if name not in columns:
            raise ValueError(
                f"dtypes names the column {name!r}, which the batch does not have."
                + did_you_mean(name, map(str, columns))
            )


def _objects(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    array = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        array[place] = value
    return array
