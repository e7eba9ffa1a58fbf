"""What is asked of MLflow's store: experiments, runs to go on with, parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from milepost.api.nested import flatten_dict

_MOST_PARAMS: Final = 100
_LONGEST: Final = 6000
_MISSING: Final = "RESOURCE_DOES_NOT_EXIST"


def find_experiment(
    client: Any,
    by_id: str | None,
    by_name: str | None,
    artifact_location: str | None = None,
    *,
    create: bool,
) -> str:
    """Return the id of an experiment of MLflow that is there, or was created.

    Args:
        client: of MLflow.
        by_id: an id; None, or one that does not exist, leaves it to the name.
        by_name: a name.
        artifact_location: where a new experiment keeps its artifacts.
        create: create an experiment of that name if there is none.

    Raises:
        ValueError: it does not exist, and there is no name to create it, or it may not be.
    """
    from mlflow.exceptions import MlflowException

    if by_id is not None:
        try:
            return str(client.get_experiment(by_id).experiment_id)
        except MlflowException as error:
            if error.error_code != _MISSING:
                raise
    if by_name is not None:
        found = client.get_experiment_by_name(by_name)
        if found is not None:
            return str(found.experiment_id)
    if by_name is None or not create:
        asked = " or ".join(
            [f"id {by_id!r}"] * (by_id is not None) + [f"name {by_name!r}"] * (by_name is not None)
        )
        advice = (
            "Give a name, to have it created."
            if create
            else "To have it created, give a name and create_experiment_if_not_exists=True."
        )
        raise ValueError(
            f"MLflow has no experiment with {asked or 'neither id nor name'}. {advice}"
        )
    try:
        return str(client.create_experiment(by_name, artifact_location))
    except MlflowException:
        found = client.get_experiment_by_name(by_name)
        if found is None:  # nobody else was faster: it cannot be created
            raise
        return str(found.experiment_id)


def resumable(
    client: Any, run_id: str | None, experiment: str, mark: Mapping[str, str]
) -> str | None:
    """Return the run to go on with; None if there is none.

    Args:
        client: of MLflow.
        run_id: the run that is known, or None; it may have been deleted.
        experiment: the id of the experiment.
        mark: name and value of a tag that only this trial's run has.
    """
    from mlflow.exceptions import MlflowException

    if run_id is not None:
        try:
            if client.get_run(run_id).info.lifecycle_stage == "active":
                return run_id
        except MlflowException as error:
            if error.error_code != _MISSING:
                raise
    ((name, value),) = mark.items()
    found = client.search_runs([experiment], f"tags.`{name}` = '{value}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def log_params(client: Any, run_id: str, config: Mapping[str, Any]) -> None:
    """Log a config; a value that has changed becomes a tag, since parameters are final."""
    from mlflow.entities import Param, RunTag

    known = client.get_run(run_id).data.params
    values = {
        key_of(str(key)): str(value)[:_LONGEST] for key, value in flatten_dict(config).items()
    }
    new = [Param(key, value) for key, value in values.items() if key not in known]
    for first in range(0, len(new), _MOST_PARAMS):
        client.log_batch(run_id, params=new[first : first + _MOST_PARAMS])
    changed = [
        RunTag(f"param.{key}", value)
        for key, value in values.items()
        if key in known and known[key] != value
    ]
    for first in range(0, len(changed), _MOST_PARAMS):
        client.log_batch(run_id, tags=changed[first : first + _MOST_PARAMS])


def key_of(name: str) -> str:
    """Return a name with the characters that MLflow takes."""
    return re.sub(r"[^\w.\- /]", "_", name).strip("/")[:250]
