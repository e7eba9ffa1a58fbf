"""Going on with a training run from its directory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from milepost.api.config import Config
from milepost.api.training.conversion import for_training
from milepost.api.training.run_config import RunConfig
from milepost.api.training.scaling_config import ScalingConfig
from milepost.errors import JournalError, StorageError
from milepost.train.fit import recorded_run
from milepost.tune.overrides import at_its_place, made, merge
from milepost.tune.recorded import Recorded
from milepost.tune.restoring import directory_of
from milepost.tune.space_diff import Unloadable

log = logging.getLogger("milepost.train")


def arguments(
    path: str | os.PathLike[str],
    function: Callable[..., Any] | None,
    config: dict[str, Any] | None,
    backend: str,
    given: dict[str, Any],
) -> dict[str, Any]:
    """Return what a trainer is made with to go on with a run; see ``restore`` of trainers.

    Args:
        path: the run's directory.
        function: in place of the recorded one.
        config: in place of the recorded one.
        backend: what the trainer calls its backend's config.
        given: other arguments, in place of recorded ones.
    """
    directory = directory_of(path, given.pop("storage_filesystem", None))
    recorded = recorded_run(directory)
    whole = {
        "train_loop_per_worker": function,
        "train_loop_config": config,
        "backend_config": given.pop(backend, None),
        "validation_config": given.pop("validation_config", None),
    }
    for name, value in whole.items():
        whole[name] = _value(recorded, name) if value is None else value
    whole[backend] = whole.pop("backend_config")
    _require_datasets(recorded, given.get("datasets"))
    if given.get("dataset_config") is None:
        given["dataset_config"] = _value(recorded, "dataset_config")
    scaling = _fields(recorded, ScalingConfig, "scaling_config", given)
    run = given.pop("run_config", None)
    run = None if run is None else for_training(run)
    merged = merge(recorded.config("run_config", RunConfig), run, RunConfig)
    _require(directory, merged.missing)
    return {
        **whole,
        "scaling_config": made(ScalingConfig, scaling),
        "run_config": made(RunConfig, at_its_place(merged, run, directory)),
        **given,
    }


def can_restore(path: str | os.PathLike[str], storage_filesystem: Any | None) -> bool:
    """Whether there is a training run to go on with at a path; if not, the log says why."""
    try:
        recorded_run(directory_of(path, storage_filesystem))
    except (StorageError, JournalError, ValueError) as error:
        log.info("can_restore(%r) is False: %s", os.fspath(path), error)
        return False
    return True


def _fields(
    recorded: Recorded, kind: type[Config], name: str, given: dict[str, Any]
) -> dict[str, Any]:
    config = given.pop(name, None)
    merged = merge(recorded.config(name, kind), config, kind)
    _require(recorded.path, merged.missing)
    return merged.fields


def _value(recorded: Recorded, name: str) -> Any:
    value = recorded.value(name)
    if isinstance(value, Unloadable):
        _require(recorded.path, {name: value})
    return value


def _require_datasets(recorded: Recorded, given: Any) -> None:
    """Check that the datasets of a run are there again.

    Raises:
        ValueError: some are missing.
    """
    names = recorded.value("datasets") or []
    missing = sorted(set(names) - set(given if isinstance(given, dict) else ()))
    if missing:
        entries = ", ".join(f"{name!r}: ..." for name in names)
        raise ValueError(
            f"The run in {recorded.path} had the datasets {names}; its record has their names, not "
            f"their data, and {missing} is not given. Give all: "
            f"restore(..., datasets={{{entries}}}).\nNothing was changed."
        )


def _require(path: str, missing: dict[str, Unloadable]) -> None:
    """Ask for what cannot be had from the record.

    Raises:
        ValueError: with each such argument.
    """
    if not missing:
        return
    lines = "".join(
        f"\n  - {name}, which was {missing[name].text} ({missing[name].why})"
        for name in sorted(missing)
    )
    raise ValueError(
        f"The record of {path} has only the text of some objects, which could not be pickled then "
        f"or cannot be loaded now. Give them to restore():{lines}\nNothing was changed."
    )
