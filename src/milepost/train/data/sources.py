"""Where the rows of datasets come from, in one form for all kinds of data.

An *item* is what is dealt out, shuffled and put together in batches: the number of a row where rows
can be had by number, else the row. What is handed out is a copy: a loop that changes a batch in
place would find its own changes in the next epoch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from milepost.train.data import columns
from milepost.train.data.kinds import is_of_pytorch, kind_of
from milepost.train.data.part import Again, Part

if TYPE_CHECKING:
    from milepost.train.data.columns import Columns

# Of columns, single rows take as long as many.
_OF_COLUMNS = 256


class Source:
    """Rows of a dataset."""

    #: Whether rows are samples of PyTorch, which are put together as it does it.
    collates = False
    #: How many rows are had at a time where they are wanted one by one.
    at_once = 1

    def items(self, part: Part) -> Iterable[Any]:
        """Return the items of a worker, to be iterated over once."""
        raise NotImplementedError

    def rows(self, items: Sequence[Any]) -> Iterable[Any]:
        """Return the rows of items."""
        return columns.rows_of(self.columns(items))

    def columns(self, items: Sequence[Any]) -> Columns:
        """Return the rows of items as an array for each column."""
        raise NotImplementedError

    def frame(self, items: Sequence[Any]) -> Any:
        """Return the rows of items as a DataFrame of pandas."""
        return columns.frame_of(self.columns(items))

    def table(self, items: Sequence[Any]) -> Any:
        """Return the rows of items as a Table of pyarrow."""
        return columns.table_of(self.columns(items))


class Placed(Source):
    """Rows that can be had by number.

    Args:
        data: whatever has them.
    """

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def items(self, part: Part) -> range:
        """Return the numbers of rows of a worker."""
        return part.places(len(self))


class Arrays(Placed):
    """Columns of numpy.

    Args:
        data: equally long arrays, lists or tensors by name.
    """

    at_once = _OF_COLUMNS

    def __init__(self, data: Mapping[Any, Any]) -> None:
        super().__init__({key: columns.column(values) for key, values in data.items()})

    def __len__(self) -> int:
        return len(next(iter(self.data.values())))

    def columns(self, items: Sequence[Any]) -> Columns:
        """Return arrays of their own."""
        numbers = columns.numbers(items)
        return {
            key: columns.stacked(array.take(numbers, axis=0)) for key, array in self.data.items()
        }


class Frame(Placed):
    """A DataFrame of pandas."""

    at_once = _OF_COLUMNS

    def __init__(self, data: Any) -> None:
        whole = {key: _in_one(data[key].array) for key in data.columns}
        if any(array is not None for array in whole.values()):
            data = data.copy(deep=False)
            for key, array in whole.items():
                if array is not None:
                    data[key] = array
        super().__init__(data)

    def columns(self, items: Sequence[Any]) -> Columns:
        """Return its columns; those of arrays are one array where they have a common shape."""
        frame = self.frame(items)
        return {key: columns.stacked(frame[key].to_numpy(copy=True)) for key in frame.columns}

    def frame(self, items: Sequence[Any]) -> Any:
        """Return rows, numbered from 0."""
        return self.data.take(columns.numbers(items)).reset_index(drop=True)

    def table(self, items: Sequence[Any]) -> Any:
        """Return rows without their index."""
        return columns.library("pyarrow").Table.from_pandas(self.frame(items), preserve_index=False)


class Table(Placed):
    """A Table of pyarrow."""

    at_once = _OF_COLUMNS

    def __init__(self, data: Any) -> None:
        super().__init__(data.combine_chunks())  # from many, each batch would take long

    def columns(self, items: Sequence[Any]) -> Columns:
        """Return its columns; those of lists are one array where they have a common length."""
        import numpy as np

        table = self.table(items)
        return {
            key: columns.stacked(np.array(array.to_numpy()))  # what it returns may be read-only
            for key, array in zip(table.column_names, table.columns, strict=True)
        }

    def rows(self, items: Sequence[Any]) -> Iterable[Any]:
        """Return rows with Python's values, so that what is null is None."""
        return self.table(items).to_pylist()  # type: ignore[no-any-return]

    def frame(self, items: Sequence[Any]) -> Any:
        """Return what pyarrow makes of the rows."""
        columns.library("pandas")  # which pyarrow would miss in words of its own
        return self.table(items).to_pandas()

    def table(self, items: Sequence[Any]) -> Any:
        """Return rows with the table's schema."""
        return self.data.take(columns.numbers(items))


class Listed(Placed):
    """A sequence of rows, or a map-style dataset of PyTorch."""

    def __init__(self, data: Any, collates: bool = False) -> None:
        super().__init__(data)
        self.collates = collates
        self._at_once: Callable[[Sequence[int]], list[Any]] | None = getattr(
            data, "__getitems__", None
        )

    def rows(self, items: Sequence[Any]) -> Iterable[Any]:
        """Return rows as dicts, and samples of PyTorch as they are."""
        got = self._at_once(items) if self._at_once else [self.data[item] for item in items]
        return got if self.collates else map(columns.named, got)

    def columns(self, items: Sequence[Any]) -> Columns:
        """Return the columns that rows have in common."""
        return columns.columns_of(list(self.rows(items)))


class Stream(Source):
    """Rows that come one after the other, in each iteration anew.

    Args:
        data: it can be iterated over again and again, in the same order in all workers.
        collates: whether rows are samples of PyTorch.
    """

    def __init__(self, data: Iterable[Any], collates: bool = False) -> None:
        self.data = data
        self.collates = collates

    def items(self, part: Part) -> Iterator[Any]:
        """Return the rows of a worker."""
        return part.of(self.data)

    def rows(self, items: Sequence[Any]) -> Iterable[Any]:
        """Return rows as dicts, and samples of PyTorch as they are."""
        return items if self.collates else map(columns.named, items)

    def columns(self, items: Sequence[Any]) -> Columns:
        """Return the columns that rows have in common."""
        return columns.columns_of(items)


def _in_one(array: Any) -> Any:
    """Return a column of pandas that pyarrow keeps in chunks, as text is, in one; else None.

    From many chunks, each batch would take long.
    """
    dtype = array.dtype
    if getattr(dtype, "storage", None) != "pyarrow" and not hasattr(dtype, "pyarrow_dtype"):
        return None
    kept = array.__arrow_array__()
    if getattr(kept, "num_chunks", 1) == 1:
        return None
    return columns.library("pandas").array(kept.combine_chunks(), dtype=dtype)


def source_of(name: str, data: Any) -> Source:
    """Return the rows of a dataset; a function is called for it.

    Args:
        name: the dataset's, for errors.
        data: as given to the trainer, but with no methods of Ray Data.

    Raises:
        TypeError: what a function returned is no dataset.
        ValueError: what a function returned has no columns, or columns of different lengths.
    """
    match kind_of(name, data):
        case "frame":
            return Frame(data)
        case "table":
            return Table(data)
        case "array":
            title = getattr(data, "name", None)  # a series has one, a tensor None
            return Arrays({columns.DATA if title is None else title: data})
        case "columns":
            return Arrays(data)
        case "places":
            return Listed(data, is_of_pytorch(data))
        case "stream":
            return Stream(data, is_of_pytorch(data))
        case "made":
            return _made(name, data)
        case "split by itself":
            raise TypeError(f"The dataset {name!r} is split by its own streaming_split().")


def _made(name: str, function: Callable[[], Any]) -> Source:
    data = function()
    if isinstance(data, Iterator):  # the function is a generator's, which is called for each epoch
        _close(data)
        return Stream(Again(functools.partial(_read, function)))
    if callable(data) and kind_of(name, data) == "made":
        raise TypeError(
            f"The function of the dataset {name!r} returned {data!r}, another function. Return "
            "the data."
        )
    return source_of(name, data)


def _read(function: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    rows = function()
    try:
        yield from rows
    finally:
        _close(rows)


def _close(rows: Any) -> None:
    """Close a generator or a file, which may be one of many epochs."""
    if callable(close := getattr(rows, "close", None)):
        close()
