"""How datasets are handed to training workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from milepost.api import checks
from milepost.api.spelling import Spelled, did_you_mean


class DataConfig(Spelled):
    """Which datasets are split among the workers. Mirrors ``ray.train.DataConfig``.

    Of a dataset that is split, each row is seen by one worker per epoch, and all workers have
    equally many: rows are dealt out in turns, and those of an incomplete last turn, fewer than
    there are workers, go to nobody. The same number of workers has the same rows each time; of
    another number, each has others. Other datasets are seen whole by each worker. Override
    :meth:`configure` to hand them out in another way.

    An object with methods ``streaming_split`` and ``iterator``, like those of Ray Data, splits
    itself, in each worker.

    Args:
        datasets_to_split: names of those that are split, or ``"all"`` (the default).
        execution_options: raises; set options where the dataset is made.
        enable_shard_locality: whether parts go to workers near them; default True.

    Raises:
        TypeError: a value has the wrong type, or an argument is misspelt.
        ValueError: ``execution_options`` is set.

    Example:
        >>> DataConfig(datasets_to_split=["train"])
        DataConfig(datasets_to_split=['train'], enable_shard_locality=True)
    """

    def __init__(
        self,
        datasets_to_split: Literal["all"] | list[str] = "all",
        execution_options: Any | None = None,
        enable_shard_locality: bool = True,
    ) -> None:
        if datasets_to_split != "all" and not (
            isinstance(datasets_to_split, list | tuple)
            and all(isinstance(name, str) for name in datasets_to_split)
        ):
            raise TypeError(
                "DataConfig.datasets_to_split must be 'all' or a list of names of datasets, got "
                f"{datasets_to_split!r} ({type(datasets_to_split).__name__})."
            )
        if execution_options is not None:
            raise ValueError(
                "DataConfig.execution_options cannot take effect: Milepost hands datasets to its "
                f"workers as they are, got {execution_options!r}. Set it where the dataset is "
                "made: dataset.context.execution_options = ..."
            )
        self._to_split = (
            datasets_to_split if isinstance(datasets_to_split, str) else list(datasets_to_split)
        )
        self._locality = checks.boolean(
            "DataConfig", "enable_shard_locality", enable_shard_locality
        )

    def configure(
        self,
        datasets: Mapping[str, Any],
        world_size: int,
        worker_handles: Sequence[Any] | None,
        worker_node_ids: Sequence[str] | None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Return what each worker iterates over.

        It is called in each worker, which takes the entry of its rank; so it must return the same
        in all of them. What an override returns may also be data, such as a list of rows.

        Args:
            datasets: datasets by name. Each has ``streaming_split(n, equal=...)`` and
                ``iterator()``; in ``data`` those of Milepost have what the trainer was given.
            world_size: how many workers there are.
            worker_handles: None; workers have no handles.
            worker_node_ids: ids of their machines, by world rank.
            **kwargs: accept more; later versions may pass it.

        Returns:
            Parts or whole datasets by name, for each world rank.

        Raises:
            ValueError: a name in ``datasets_to_split`` is that of no dataset.
            TypeError: a dataset lacks the method that it needs.
        """
        require_known(self, datasets)
        hints = list(worker_node_ids) if worker_node_ids and self._locality else None
        handed: list[dict[str, Any]] = [{} for _ in range(world_size)]
        for name, dataset in datasets.items():
            if self._to_split == "all" or name in self._to_split:
                split = _method(name, dataset, "streaming_split")
                parts = split(world_size, equal=True, locality_hints=hints)
            else:
                whole = _method(name, dataset, "iterator")
                parts = [whole() for _ in range(world_size)]
            for worker, part in zip(handed, parts, strict=True):
                worker[name] = part
        return handed

    def __repr__(self) -> str:
        return (
            f"DataConfig(datasets_to_split={self._to_split!r}, "
            f"enable_shard_locality={self._locality!r})"
        )


def require_known(config: DataConfig, datasets: Mapping[str, Any]) -> None:
    """Check that the datasets that are to be split exist.

    Raises:
        ValueError: a name is that of no dataset; with the closest one.
    """
    for name in config._to_split if isinstance(config._to_split, list) else ():
        if name not in datasets:
            raise ValueError(
                f"DataConfig.datasets_to_split names {name!r}, and the trainer has no dataset "
                f"of that name.{did_you_mean(name, datasets)}"
            )


def _method(name: str, dataset: Any, method: str) -> Any:
    found = getattr(dataset, method, None)
    if not callable(found):
        raise TypeError(
            f"The dataset {name!r} is a {type(dataset).__name__}, which has no {method}(). "
            "Make it in the training function, which knows its rank, or override "
            "DataConfig.configure."
        )
    return found
