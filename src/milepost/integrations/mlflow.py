"""MLflow: a callback for the driver, and ``setup_mlflow`` for trials that log by themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Final

from milepost.integrations import within
from milepost.integrations.mlflow_store import find_experiment, key_of, log_params, resumable
from milepost.integrations.tracker import Ending, Tracked, TrackerCallback, number, require

_NAME, _ID, _TOKEN = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_TRACKING_TOKEN"
_STATUS: Final[dict[Ending, str]] = {
    "finished": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
_MOST_METRICS: Final = 1000
_SETTLE_S: Final = 5.0


class MLflowLoggerCallback(TrackerCallback):
    """Logs each trial to a run of MLflow. Mirrors ``ray.air.integrations.mlflow``'s class.

    The config becomes parameters, numbers of results become metrics with
    ``timesteps_total`` or else ``training_iteration`` as their step. A parameter that changes
    later is kept as tag ``param.<name>``, because MLflow cannot change parameters.

    Args:
        tracking_uri: of the tracking server; MLflow's own default if None.
        registry_uri: of the model registry.
        experiment_name: created if it does not exist; ``MLFLOW_EXPERIMENT_NAME`` or
            ``MLFLOW_EXPERIMENT_ID`` if None.
        tags: of each run.
        tracking_token: set as ``MLFLOW_TRACKING_TOKEN``; it is not recorded with the experiment,
            so set the variable where the experiment is restored.
        save_artifact: upload the trial's directory, checkpoints included, when the trial ends.
        log_params_on_trial_end: log the config at the end of the trial instead of its start.

    Raises:
        ImportError: MLflow is not installed.
    """

    tracker: ClassVar[str] = "MLflow"
    secrets: ClassVar[tuple[str, ...]] = ("tracking_token", "_client", "_experiment_id")

    def __init__(
        self,
        tracking_uri: str | None = None,
        *,
        registry_uri: str | None = None,
        experiment_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        tracking_token: str | None = None,
        save_artifact: bool = False,
        log_params_on_trial_end: bool = False,
    ) -> None:
        require("mlflow", "mlflow", type(self).__name__)
        super().__init__()
        self.tracking_uri = tracking_uri
        self.registry_uri = registry_uri
        self.experiment_name = experiment_name
        self.tags = dict(tags or {})
        self.tracking_token = tracking_token
        self.should_save_artifact = save_artifact
        self.log_params_on_trial_end = log_params_on_trial_end

    def setup(self, *args: Any, **info: Any) -> None:
        """Check what was configured.

        Raises:
            ValueError: there is no name of an experiment.
        """
        self.experiment_name = self.experiment_name or os.environ.get(_NAME)
        if not self.experiment_name and not os.environ.get(_ID):
            raise ValueError(
                f"{type(self).__name__} does not know which experiment of MLflow the trials belong "
                f"to: give experiment_name=..., or set {_NAME} or {_ID}."
            )
        if self.tracking_token:
            os.environ[_TOKEN] = self.tracking_token
        for connection in ("_client", "_experiment_id"):
            vars(self).pop(connection, None)
        super().setup(*args, **info)

    # --- in the thread ----------------------------------------------------------------------

    @cached_property
    def _client(self) -> Any:
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.registry_uri)

    @cached_property
    def _experiment_id(self) -> str:
        return find_experiment(self._client, os.environ.get(_ID), self.experiment_name, create=True)

    def _begin(self, trial: Tracked, run_id: str | None) -> tuple[str, Any]:
        mark = {"milepost.trial": f"{_uuid(trial.experiment_path)}/{trial.trial_id}"}
        run_id = resumable(self._client, run_id, self._experiment_id, mark)
        if run_id is None:
            run_id = self._client.create_run(
                self._experiment_id,
                start_time=int(trial.at * 1000),
                tags={**self.tags, "trial_name": trial.name, **mark},
                run_name=trial.name,
            ).info.run_id
        else:
            self._client.update_run(run_id, status="RUNNING")
        if not self.log_params_on_trial_end:
            log_params(self._client, run_id, trial.config)
        return run_id, {"id": run_id}

    def _go_on(self, trial: Tracked, run: dict[str, Any]) -> None:
        if not self.log_params_on_trial_end:
            log_params(self._client, run["id"], trial.config)

    def _log(self, trial: Tracked, run: dict[str, Any], result: dict[str, Any], at: float) -> None:
        from mlflow.entities import Metric

        run["iteration"] = result.get("training_iteration")
        step = int(result.get("timesteps_total") or result.get("training_iteration") or 0)
        metrics = [
            Metric(key_of(key), float(value), int(at * 1000), step)
            for key, value in ((key, number(value)) for key, value in result.items())
            if value is not None and not key.startswith("config/")
        ]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(run["id"], metrics=metrics[first : first + _MOST_METRICS])

    def _end(self, trial: Tracked, run: dict[str, Any], ending: Ending) -> None:
        try:
            if self.log_params_on_trial_end:
                log_params(self._client, run["id"], trial.config)
            if self.should_save_artifact and ending != "interrupted":
                _settle(trial.path, run.get("iteration"))
                self._upload_all(trial, run["id"])
        finally:
            self._client.set_terminated(run["id"], status=_STATUS[ending])

    def _upload_all(self, trial: Tracked, run_id: str) -> None:
        with os.scandir(trial.path) as entries:
            wanted = sorted(e.path for e in entries if not e.name.startswith(".milepost"))
        for path in wanted:
            if os.path.isdir(path):
                self._client.log_artifacts(run_id, path, os.path.basename(path))
            else:
                self._client.log_artifact(run_id, path)


def setup_mlflow(
    config: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
    experiment_id: str | None = None,
    experiment_name: str | None = None,
    tracking_token: str | None = None,
    artifact_location: str | None = None,
    run_name: str | None = None,
    create_experiment_if_not_exists: bool = False,
    tags: Mapping[str, Any] | None = None,
    rank_zero_only: bool = True,
) -> Any:
    """Start a run of MLflow in a trial; log to it with what is returned.

    Mirrors ``ray.air.integrations.mlflow.setup_mlflow``. A trial that is tried again, or goes on
    after a restore, goes on in the run that it began.

    Args:
        config: logged as parameters.
        tracking_uri: of the tracking server; MLflow's own default if None.
        registry_uri: of the model registry.
        experiment_id: of MLflow; ``MLFLOW_EXPERIMENT_ID`` if None.
        experiment_name: ``MLFLOW_EXPERIMENT_NAME``, or the trial's name, if None.
        tracking_token: set as ``MLFLOW_TRACKING_TOKEN``.
        artifact_location: where a new experiment keeps its artifacts.
        run_name: the trial's name if None.
        create_experiment_if_not_exists: create an experiment that is not there.
        tags: of the run.
        rank_zero_only: in a group of workers, only the first one logs.

    Returns:
        The module ``mlflow`` with an active run; in workers that do not log, an object whose
        methods do nothing.

    Raises:
        ImportError: MLflow is not installed.
        ValueError: the experiment does not exist, and may not be created.
    """
    require("mlflow", "mlflow", "setup_mlflow")
    place = within.place()
    if rank_zero_only and place.rank != 0:
        return within.Nothing()
    import mlflow

    if tracking_token:
        os.environ[_TOKEN] = tracking_token
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
    if registry_uri:
        mlflow.set_registry_uri(registry_uri)
    client = mlflow.MlflowClient()
    found = find_experiment(
        client,
        experiment_id or os.environ.get(_ID),
        experiment_name or os.environ.get(_NAME) or place.trial_name,
        artifact_location,
        create=create_experiment_if_not_exists,
    )
    mark, known = {}, None
    if place.trial_id is not None:
        mark = {"milepost.setup": f"{place.experiment_uuid}/{place.trial_id}"}
        known = resumable(client, None, found, mark)
    mlflow.set_experiment(experiment_id=found)
    if known is not None:
        run = mlflow.start_run(run_id=known)
        if tags:
            mlflow.set_tags(dict(tags))
    else:
        run = mlflow.start_run(
            experiment_id=found,
            run_name=run_name or place.trial_name,
            tags={**(tags or {}), **mark},
        )
    log_params(client, run.info.run_id, config or {})
    return mlflow


def _uuid(experiment_path: str) -> str:
    from milepost.journal import experiment

    return experiment.open(experiment_path).uuid


def _settle(path: str, iteration: Any) -> None:
    """Wait until the trial's last result is in its file, which is written by another process."""
    import json

    file = os.path.join(path, "result.json")
    deadline = time.monotonic() + _SETTLE_S
    while iteration is not None and os.path.exists(file) and time.monotonic() < deadline:
        with open(file, "rb") as rows:
            last = rows.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
        if last and (json.loads(last).get("training_iteration") or 0) >= iteration:
            return
        time.sleep(0.02)
