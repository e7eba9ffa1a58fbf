"""``get_dataset_shard``: what training functions call for their data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from milepost.api.spelling import did_you_mean
from milepost.train.context import current

if TYPE_CHECKING:
    from milepost.api.training.data_config import DataConfig
    from milepost.train.data.iterator import DataIterator


class Shards:
    """A worker's shares of all datasets, made when the first one is asked for.

    Args:
        datasets: what the trainer was given, by name.
        config: says what is split, and how.
        rank: the worker's number, from 0.
        workers: how many there are.
    """

    def __init__(
        self, datasets: Mapping[str, Any], config: DataConfig, rank: int, workers: int
    ) -> None:
        self._datasets = datasets
        self._config = config
        self._rank = rank
        self._workers = workers
        self._handed: dict[str, Any] | None = None

    def get(self, name: str | None) -> Any:
        """Return the share of a dataset, the same object each time.

        Raises:
            KeyError: there is no such dataset.
        """
        if self._handed is None:
            self._handed = self._hand_out()
        if name in self._handed:
            return self._handed[name]
        if name in self._datasets:
            raise KeyError(
                f"{_call(self._config)} returned nothing for the dataset {name!r} and rank "
                f"{self._rank}, only: {sorted(self._handed)}."
            )
        raise KeyError(_unknown(name, self._handed))

    def _hand_out(self) -> dict[str, Any]:
        from milepost.train.data.dataset import Dataset
        from milepost.train.data.kinds import kind_of

        datasets = {
            name: data if kind_of(name, data) == "split by itself" else Dataset(name, data)
            for name, data in self._datasets.items()
        }
        machine = os.uname().nodename
        handed = self._config.configure(
            datasets,
            self._workers,
            worker_handles=None,
            worker_node_ids=[machine] * self._workers,
        )
        if not isinstance(handed, list | tuple) or len(handed) != self._workers:
            raise ValueError(
                f"{_call(self._config)} must return a list with a dict for each of the "
                f"{self._workers} workers, got {handed!r:.200}."
            )
        mine = handed[self._rank]
        if not isinstance(mine, Mapping):
            raise TypeError(
                f"{_call(self._config)} must return a dict for each worker, got {mine!r:.200} for "
                f"rank {self._rank}."
            )
        return {name: _iterated(name, data) for name, data in mine.items()}


def _iterated(name: str, data: Any) -> Any:
    """What a configure of the user's has made for a worker, with the methods of a share.

    What has them already is left as it is, and so is what is no dataset: it is the user's.
    """
    from milepost.train.data.dataset import Dataset
    from milepost.train.data.kinds import kind_of

    if isinstance(data, Dataset):
        return data.iterator()
    if hasattr(data, "iter_batches"):
        return data
    try:
        kind = kind_of(name, data)
    except (TypeError, ValueError):
        return data
    return data if kind in ("made", "split by itself") else Dataset(name, data).iterator()


def _call(config: DataConfig) -> str:
    return f"{type(config).__name__}.configure()"


def _unknown(name: Any, datasets: Mapping[str, Any]) -> str:
    if not datasets:
        return (
            f"get_dataset_shard({name!r}): the trainer has no datasets. Give it some: "
            "datasets={'train': ...}."
        )
    if name is None:
        return f"get_dataset_shard() needs the name of a dataset, one of: {sorted(datasets)}."
    return f"get_dataset_shard({name!r}): the trainer has no dataset of that name." + did_you_mean(
        name, datasets
    )


def get_dataset_shard(dataset_name: str | None = None) -> DataIterator:
    """Return this worker's share of a dataset. Mirrors ``ray.train.get_dataset_shard``.

    Which datasets are split, and which ones each worker sees whole, is said by the trainer's
    ``DataConfig``. The same workers always have the same rows.

    Args:
        dataset_name: its name among the trainer's ``datasets``.

    Returns:
        A :class:`~milepost.train.data.iterator.DataIterator`, the same object each time.

    Raises:
        KeyError: the trainer has no dataset of that name; None is that of none.
        ValueError: a dataset that is split has fewer rows than there are workers.
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        DeprecationWarning: this is a trial of a ``Tuner``.
    """
    context = current("milepost.train.get_dataset_shard")
    shards = context._shards
    if shards is None:
        raise KeyError(_unknown(dataset_name, {}))
    return cast("DataIterator", shards.get(dataset_name))
