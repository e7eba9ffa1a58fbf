"""Comet: a callback for the driver."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from milepost.api.spelling import did_you_mean
from milepost.integrations.tracker import (
    Ending,
    Tracked,
    TrackerCallback,
    is_under,
    number,
    require,
)
from milepost.integrations.wandb_setup import plain

# They would describe the driver, and slow down what it does.
_NOT_AUTOMATIC: Final = (
    "auto_output_logging", "log_env_cpu", "log_env_gpu", "log_git_metadata", "log_git_patch",
)  # fmt: skip
_OF_START: Final[tuple[str, ...]] = ("api_key", "project_name", "workspace")
_EXCLUDED: Final = ("config", "done", "should_checkpoint")
_SYSTEM: Final = ("date", "hostname", "node_ip", "pid")
_OTHER: Final = ("experiment_id", "experiment_tag", "trial_id")
_CURVES: Final = ("hist_stats/episode_lengths", "hist_stats/episode_reward")


class CometLoggerCallback(TrackerCallback):
    """Logs each trial to an experiment of Comet. Mirrors ``ray.air.integrations.comet``'s class.

    The config becomes parameters, numbers of results become metrics with ``training_iteration``
    as their step. A trial that goes on after a restore goes on in its experiment.

    Args:
        online: talk to Comet; False writes archives for ``comet upload``.
        tags: of each experiment.
        save_checkpoints: upload each checkpoint when it is committed: as an artifact, or, into an
            archive, as a model.
        **experiment_kwargs: those of ``comet_ml.start`` and ``comet_ml.ExperimentConfig``, which
            are nearly all of ``comet_ml.Experiment``. An ``api_key`` is not recorded with the
            experiment: where that is restored, set ``COMET_API_KEY``.

    Raises:
        ImportError: comet_ml is not installed.
    """

    tracker: ClassVar[str] = "Comet"
    secrets: ClassVar[tuple[str, ...]] = ("_api_key",)

    def __init__(
        self,
        online: bool = True,
        tags: Sequence[str] | None = None,
        save_checkpoints: bool = False,
        **experiment_kwargs: Any,
    ) -> None:
        require("comet_ml", "comet-ml", type(self).__name__)
        super().__init__()
        self.online = online
        self.tags = list(tags or ())
        self.save_checkpoints = save_checkpoints
        self._api_key = experiment_kwargs.pop("api_key", None)
        self.experiment_kwargs = {**dict.fromkeys(_NOT_AUTOMATIC, False), **experiment_kwargs}

    @property
    def _wants_checkpoints(self) -> bool:
        return self.save_checkpoints

    def setup(self, *args: Any, **info: Any) -> None:
        """Check what was configured.

        Raises:
            ImportError: comet_ml is too old to go on with experiments.
            TypeError: Comet does not know an argument.
        """
        # Comet would patch the libraries that the driver imports.
        os.environ.setdefault("COMET_DISABLE_AUTO_LOGGING", "1")
        import comet_ml

        if not hasattr(comet_ml, "start"):
            raise ImportError(
                f"{type(self).__name__} needs a newer comet_ml than {comet_ml.__version__}: run "
                "`pip install -U comet-ml`.",
                name="comet_ml",
            )
        self._options(comet_ml)
        super().setup(*args, **info)

    def _options(self, comet_ml: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arguments of ``comet_ml.start``, and those of an experiment's config."""
        options = dict(self.experiment_kwargs)
        if self._api_key is not None:
            options["api_key"] = self._api_key
        of_start: dict[str, Any] = {
            name: options.pop(name) for name in _OF_START if name in options
        }
        known = inspect.signature(comet_ml.ExperimentConfig).parameters
        for name in options:
            if name not in known:
                raise TypeError(
                    f"{type(self).__name__} got an argument {name!r} that Comet does not know."
                    + did_you_mean(name, [*_OF_START, *known])
                )
        return of_start, options

    # --- in the thread ----------------------------------------------------------------------

    def _begin(self, trial: Tracked, run_id: str | None) -> tuple[str, Any]:
        import comet_ml
        from comet_ml.config import set_global_experiment

        of_start, of_config = self._options(comet_ml)
        experiment = comet_ml.start(
            experiment_key=run_id or _key_of(trial),
            mode="get_or_create",
            online=self.online,
            experiment_config=comet_ml.ExperimentConfig(**of_config),
            **of_start,
        )
        # Several experiments go on at the same time; none is that of the process.
        set_global_experiment(None)
        experiment.set_name(trial.name)
        if self.tags:
            experiment.add_tags(self.tags)
        experiment.log_other("Created from", "Milepost")
        experiment.log_parameters(plain(trial.config))
        return str(experiment.get_key()), experiment

    def _go_on(self, trial: Tracked, run: Any) -> None:
        run.log_parameters(plain(trial.config))

    def _log(self, trial: Tracked, run: Any, result: dict[str, Any], at: float) -> None:
        step = result.get("training_iteration")
        metrics = {}
        for key, value in result.items():
            if is_under(key, _EXCLUDED):
                continue
            if key in _OTHER:
                run.log_other(key, value)
            elif key in _SYSTEM:
                run.log_system_info(key, value)
            elif key in _CURVES:
                run.log_curve(key, x=list(range(len(value))), y=list(value), step=step)
            elif (simple := number(value)) is not None:
                metrics[key] = simple
        run.log_metrics(metrics, step=step)

    def _upload(self, trial: Tracked, run: Any, path: str) -> None:
        if not self.online:  # archives cannot hold artifacts
            run.log_model(f"{trial.name}_{os.path.basename(path)}", path)
            return
        import comet_ml

        artifact = comet_ml.Artifact(
            name=f"checkpoint_{trial.name}",
            artifact_type="model",
            metadata={"checkpoint": os.path.basename(path)},
        )
        artifact.add(path)
        run.log_artifact(artifact)

    def _end(self, trial: Tracked, run: Any, ending: Ending) -> None:
        run.log_other("trial_status", ending)
        run.end()


def _key_of(trial: Tracked) -> str:
    """The key of a trial's experiment, the same whenever it is asked for."""
    from milepost.journal import experiment

    name = f"{experiment.open(trial.experiment_path).uuid}/{trial.trial_id}"
    return hashlib.sha256(name.encode()).hexdigest()[:40]
