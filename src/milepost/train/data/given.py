"""The check of what a trainer is given as datasets."""

from __future__ import annotations

from typing import Any

from milepost.api.training.data_config import DataConfig, require_known
from milepost.train.data.kinds import kind_of


def given_datasets(owner: str, datasets: Any, config: DataConfig) -> dict[str, Any]:
    """Return a trainer's datasets, once they are known to be usable by its workers.

    Args:
        owner: the trainer's class, for errors.
        datasets: by name; None for none.
        config: how they are handed out.

    Raises:
        TypeError: it is no dict of names, one is no dataset, or cannot be pickled.
        ValueError: one has columns of different lengths, or the config names one that is not there.
    """
    from milepost.tune.pickling import require_picklable

    if datasets is None:
        return {}
    if not isinstance(datasets, dict):
        raise TypeError(
            f"{owner}.datasets must be a dict of datasets by name, got a "
            f"{type(datasets).__name__}: write datasets={{'train': ...}}."
        )
    for name, data in datasets.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"{owner}.datasets has a name that is no text: {name!r}.")
        kind_of(name, data)
    if datasets and type(config).configure is DataConfig.configure:
        require_known(config, datasets)
    require_picklable(
        datasets,
        f"A dataset of {owner}",
        "Give a function without arguments that makes the dataset: it is called in each worker.",
    )
    require_picklable(
        config, f"{owner}.dataset_config", "Create such objects in configure(), in each worker."
    )
    return dict(datasets)
