"""A trainer's dataset in a worker, with the methods by which Ray Data's datasets are split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from milepost.train.data.iterator import DataIterator, iterator_of
from milepost.train.data.part import Part
from milepost.train.data.sources import Placed, source_of


class Dataset:
    """A dataset that was given to the trainer, as ``DataConfig.configure`` gets it.

    Args:
        name: its name.
        data: what the trainer was given; a function among these is called.

    Attributes:
        data: what the trainer was given.

    Raises:
        TypeError: what a function returned is no dataset.
        ValueError: what a function returned has no columns, or columns of different lengths.
    """

    def __init__(self, name: str, data: Any) -> None:
        self.data = data
        self._name = name
        self._source = source_of(name, data)

    def streaming_split(
        self, n: int, *, equal: bool = False, locality_hints: Sequence[str] | None = None
    ) -> list[DataIterator]:
        """Return a share for each of several workers. Mirrors Ray's method.

        Rows are dealt out in turns: the first worker has the first row, the second the second.

        Args:
            n: how many workers there are.
            equal: whether all have equally many rows. At most ``n - 1`` rows, the last ones, go to
                nobody then.
            locality_hints: accepted; all workers are on one machine.

        Raises:
            ValueError: shares are to be equal, and there are fewer rows than workers.
        """
        count = len(self._source) if isinstance(self._source, Placed) else 0
        if equal and 0 < count < n:
            raise ValueError(
                f"The dataset {self._name!r} has fewer rows than there are workers: {count} for "
                f"{n}, so that none would get any. Let each see it whole: "
                "DataConfig(datasets_to_split=[...]) with the names of the others."
            )
        return [iterator_of(self._name, self._source, Part(rank, n, equal)) for rank in range(n)]

    def iterator(self) -> DataIterator:
        """Return all rows. Mirrors Ray's method."""
        return iterator_of(self._name, self._source)

    def __repr__(self) -> str:
        return f"Dataset({self._name!r})"
