"""The record of how a run was set up, for people and for going on with it later."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any

from milepost.errors import CodecError
from milepost.tune.experiment.experiment import Experiment

log = logging.getLogger("milepost.tune")


def description(experiment: Experiment, path: str) -> dict[str, Any]:
    """Return how an experiment is set up, as JSON values.

    What JSON cannot hold (search variables, callbacks, functions) appears as its repr, and is
    pickled, all of it as one object: ``pickled`` has its digest, and what it holds by the names
    listed there. What cannot be pickled either is left out of it, and the log says so.

    Args:
        experiment: what runs.
        path: the experiment's directory.

    Raises:
        JournalError: the directory cannot be written.
    """
    from milepost.journal.objects import Objects

    rest: dict[str, Any] = {}
    said = {
        "trainable": experiment.target.name,
        "kind": experiment.target.kind,
        "param_space": _plain(experiment.space, "param_space", rest),
        "tune_config": _plain(_fields(experiment.tune_config), "tune_config", rest),
        "run_config": _plain(_fields(experiment.run_config), "run_config", rest),
        "resources_per_trial": _plain(experiment.resources_per_trial, "resources_per_trial", rest),
    }
    rest = _picklable(rest)
    if rest:
        said["pickled"] = {"object": Objects(path).put_value(rest), "names": sorted(rest)}
    return said


def _fields(config: Any) -> dict[str, Any]:
    """The public fields of a config that say something; configs inside it become dicts too."""
    said = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name.startswith("_") or value is None:
            continue
        is_config = dataclasses.is_dataclass(value) and not isinstance(value, type)
        said[field.name] = _fields(value) if is_config else value
    return said


def _plain(value: Any, where: str, rest: dict[str, Any]) -> Any:
    """Return a value as JSON; what JSON cannot hold goes to ``rest`` under its place."""
    from milepost.storage import codec

    try:
        return json.loads(codec.encode(value))
    except CodecError:
        if type(value) is dict and all(isinstance(key, str) for key in value):
            return {key: _plain(item, f"{where}/{key}", rest) for key, item in value.items()}
    rest[where] = value
    return f"{value!r:.200}"


def _picklable(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that can be pickled; usually all, and then in one attempt."""
    if _pickling_error(values) is None:
        return values
    kept = {}
    for where, value in values.items():
        error = _pickling_error(value)
        if error is None:
            kept[where] = value
        else:
            log.warning(
                "%s cannot be pickled (%s), so the experiment's record has only its repr",
                where,
                error,
            )
    return kept


def _pickling_error(value: Any) -> Exception | None:
    import cloudpickle

    try:
        cloudpickle.dumps(value)
    except Exception as error:  # noqa: BLE001 - objects raise what they like; it is reported
        return error
    return None
