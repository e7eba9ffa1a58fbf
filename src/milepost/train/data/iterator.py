"""A worker's share of a dataset."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from milepost.api import checks
from milepost.api.spelling import did_you_mean, spelled
from milepost.train.data.part import WHOLE, Again, Part, batched, shuffled
from milepost.train.data.sources import Listed, Placed, Source

if TYPE_CHECKING:
    import torch

_FORMATS = ("default", "numpy", "pandas", "pyarrow")


@dataclass(frozen=True)
class Schema:
    """The columns of a dataset. Mirrors ``ray.data.Schema``.

    Attributes:
        names: their names, in order.
        types: what their entries are, as numpy's dtypes.
    """

    names: list[Any]
    types: list[Any]


class DataIterator:
    """A worker's share of a dataset. Mirrors ``ray.data.DataIterator``.

    It can be iterated over again and again; each time is an epoch, with the same rows. Rows are
    dicts, and batches are dicts of arrays; rows without names have the column ``"item"``, those of
    a numpy array the column ``"data"``. What comes is a copy, which may be changed.

    Samples of a PyTorch dataset come as they are, and batches as ``default_collate`` makes them.

    Args:
        name: the dataset's.
        source: its rows.
        part: which of them are in the share.
    """

    def __init__(self, name: str, source: Source, part: Part = WHOLE) -> None:
        self._name = name
        self._source = source
        self._part = part

    @property
    def is_split(self) -> bool:
        """Whether other workers have other rows."""
        return self._part.workers > 1

    def __iter__(self) -> Iterator[Any]:
        for items in batched(self._items(), self._source.at_once, drop_last=False):
            yield from self._source.rows(items)

    def iter_rows(self) -> Iterable[Any]:
        """Return the rows one by one; it can be iterated over again and again."""
        return Again(self.__iter__)

    @spelled
    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        batch_format: Literal["default", "numpy", "pandas", "pyarrow"] | None = "default",
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
    ) -> Iterable[Any]:
        """Return the rows in batches; it can be iterated over again and again.

        Args:
            prefetch_batches: accepted; a batch is made when it is asked for.
            batch_size: how many rows there are in a batch; None for all in one.
            batch_format: ``"numpy"``, like ``"default"`` and None, for dicts of arrays,
                ``"pandas"`` for DataFrames, ``"pyarrow"`` for Tables. Batches of a PyTorch dataset
                are collated by ``"default"`` and None; the others need samples that are dicts.
            drop_last: whether to leave out a last batch with fewer rows.
            local_shuffle_buffer_size: how many rows wait in a buffer, from which they are drawn
                at random; None keeps their order. One as large as the share shuffles it all.
            local_shuffle_seed: the same gives the same order in each iteration; None another one
                each time, drawn from Python's ``random``.

        Raises:
            TypeError: an argument has the wrong type or is misspelt.
            ValueError: an argument is out of range.
            ImportError: pandas or pyarrow is not installed, and batches of it are asked for.
        """
        call = "iter_batches()"
        make = self._maker(call, batch_format)
        checks.integer(at_least=0)(call, "prefetch_batches", prefetch_batches)
        return self._batches(
            call, make, batch_size, drop_last, local_shuffle_buffer_size, local_shuffle_seed
        )

    @spelled
    def iter_torch_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        dtypes: torch.dtype | dict[Any, torch.dtype] | None = None,
        device: str | int | torch.device = "auto",
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
    ) -> Iterable[Any]:
        """Return the rows in batches of tensors; it can be iterated over again and again.

        Args:
            prefetch_batches: as for :meth:`iter_batches`, like all that is not here.
            batch_size: how many rows there are in a batch; None for all in one.
            dtypes: of all tensors, or of columns by name; None for those of the data.
            device: where tensors go; ``"auto"`` is that of
                ``milepost.train.torch.get_device()``.
            collate_fn: makes a batch of a dict of numpy arrays; for a PyTorch dataset of a list of
                samples. Tensors in what it returns are moved to the worker's device.
            drop_last: whether to leave out a last batch with fewer rows.
            local_shuffle_buffer_size: how many rows wait in a buffer; None keeps their order.
            local_shuffle_seed: the same gives the same order in each iteration.

        Returns:
            Dicts of tensors by column, of shape ``(rows, ...)``.

        Raises:
            TypeError: an argument has the wrong type or is misspelt; while iterating, a column
                holds what no tensor can hold.
            ValueError: an argument is out of range, or ``collate_fn`` is given together with
                ``dtypes`` or ``device``.
            ImportError: PyTorch is not installed.
        """
        from milepost.train.data.tensors import converter, placer

        call = "iter_torch_batches()"
        if collate_fn is not None:
            checks.function(call, "collate_fn", collate_fn)
            if dtypes is not None or device != "auto":
                raise ValueError(
                    f"{call} takes no dtypes and no device together with collate_fn, got "
                    f"dtypes={dtypes!r}, device={device!r}. Let collate_fn make tensors of the "
                    "dtypes; move batches yourself if they should not be on get_device()."
                )
        place, convert = placer(device), converter(self._source, dtypes, collate_fn)
        checks.integer(at_least=0)(call, "prefetch_batches", prefetch_batches)
        return self._batches(
            call,
            lambda items: place(convert(items)),
            batch_size,
            drop_last,
            local_shuffle_buffer_size,
            local_shuffle_seed,
        )

    def count(self) -> int:
        """Return how many rows there are; a stream is read through for it."""
        return sum(1 for _ in self._items())

    def schema(self) -> Schema | None:
        """Return the columns, by a first row.

        Returns:
            None if there is no row, or if rows are samples of PyTorch without names.
        """
        for items in batched(self._items(), 1, drop_last=False):
            if self._source.collates and not self._has_names(items):
                return None
            columns = self._source.columns(items)
            return Schema(list(columns), [array.dtype for array in columns.values()])
        return None

    def materialize(self) -> DataIterator:
        """Return the same with all rows in memory, so that they are made or loaded only once."""
        return Indexed(self._name, Listed(list(self.iter_rows()), self._source.collates))

    def to_pandas(self) -> Any:
        """Return all rows as one DataFrame of pandas.

        Raises:
            ValueError: they are samples of PyTorch without names.
            ImportError: pandas is not installed.
        """
        make = self._maker("to_pandas()", "pandas")
        return make(list(self._items()))

    def __repr__(self) -> str:
        part = self._part
        share = f", rank {part.rank} of {part.workers}" if self.is_split else ""
        return f"{type(self).__name__}({self._name!r}{share})"

    # --- inside -------------------------------------------------------------------------------

    def _items(self) -> Iterable[Any]:
        return self._source.items(self._part)

    def _has_names(self, items: Sequence[Any]) -> bool:
        return all(isinstance(row, dict) for row in self._source.rows(items))

    def _maker(self, call: str, batch_format: str | None) -> Callable[[Sequence[Any]], Any]:
        """What makes a batch of items, in a format."""
        if batch_format is not None and batch_format not in _FORMATS:
            raise ValueError(
                f"{call[:-2]}(batch_format={batch_format!r}): there is no such format."
                + did_you_mean(batch_format, _FORMATS)
            )
        if not self._source.collates:
            return self._formatter(batch_format)
        if batch_format in (None, "default"):
            from milepost.train.data.tensors import collated

            return lambda items: collated(list(self._source.rows(items)))
        make = self._formatter(batch_format)

        def made(items: Sequence[Any]) -> Any:
            if not self._has_names(items):
                raise ValueError(
                    f"the samples of the dataset {self._name!r} have no names, so that there are "
                    f"no columns for batch_format={batch_format!r}. Leave it out, which collates "
                    "them as PyTorch does, or have the dataset return dicts."
                )
            return make(items)

        return made

    def _formatter(self, batch_format: str | None) -> Callable[[Sequence[Any]], Any]:
        from milepost.train.data.columns import library

        if batch_format in ("pandas", "pyarrow"):
            library(batch_format)  # now, and not at the first batch
            return self._source.frame if batch_format == "pandas" else self._source.table
        return self._source.columns

    def _batches(
        self,
        call: str,
        make: Callable[[Sequence[Any]], Any],
        size: Any,
        drop_last: Any,
        buffer: Any,
        seed: Any,
    ) -> Again[Any]:
        positive = checks.optional(checks.integer(at_least=1))
        size = positive(call, "batch_size", size)
        buffer = positive(call, "local_shuffle_buffer_size", buffer)
        seed = checks.optional(checks.integer())(call, "local_shuffle_seed", seed)
        drop_last = checks.boolean(call, "drop_last", drop_last)

        def start() -> Iterator[Any]:
            items = self._items()
            if buffer is not None:
                items = shuffled(items, buffer, seed)
            return map(make, batched(items, size, drop_last))

        return Again(start)


class Indexed(DataIterator):
    """A share whose rows can be had by number, so that a ``DataLoader`` takes it as a dataset.

    Args:
        name: the dataset's.
        source: its rows.
        part: which of them are in the share.
    """

    def __init__(self, name: str, source: Placed, part: Part = WHOLE) -> None:
        super().__init__(name, source, part)
        self._places = source.items(part)

    def _items(self) -> range:
        return self._places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Any:
        """Return a row.

        Raises:
            IndexError: there is none of this number.
        """
        (row,) = self.__getitems__([number])
        return row

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Return several rows; loaders of PyTorch ask for those of a batch at once.

        Raises:
            IndexError: there is none of a number.
        """
        return list(self._source.rows([self._places[operator.index(each)] for each in numbers]))

    def count(self) -> int:
        """Return how many rows there are."""
        return len(self)


def iterator_of(name: str, source: Source, part: Part = WHOLE) -> DataIterator:
    """Return a share of a dataset's rows."""
    if isinstance(source, Placed):
        return Indexed(name, source, part)
    return DataIterator(name, source, part)
