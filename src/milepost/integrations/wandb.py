"""Weights & Biases: a callback for the driver, and ``setup_wandb`` for trials."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Final

from milepost.integrations import wandb_setup, within
from milepost.integrations.tracker import (
    Ending,
    Tracked,
    TrackerCallback,
    is_under,
    number,
    require,
)

_ALWAYS_EXCLUDED: Final = ("done", "should_checkpoint")
#: Parts of a result that belong to the run's config.
_CONFIG_KEYS: Final = (
    "config", "date", "experiment_id", "experiment_tag", "hostname", "node_ip", "pid", "trial_id",
)  # fmt: skip
_EXIT_CODES: Final[dict[Ending, int]] = {"finished": 0, "failed": 1, "interrupted": 255}
_SEVERAL_RUNS: Final = (0, 19, 10)


class WandbLoggerCallback(TrackerCallback):
    """Logs each trial to a run of Weights & Biases. Mirrors ``ray.air.integrations.wandb``'s class.

    A run has the trial's id and name, and the experiment's name as its group. Numbers of results
    are logged with ``training_iteration`` as their step; arrays of three to five dimensions become
    images and videos.

    Args:
        project: of Weights & Biases; ``WANDB_PROJECT_NAME`` if None.
        group: of the runs; ``WANDB_GROUP_NAME``, or the experiment's name, if None.
        api_key_file: its first line is the key.
        api_key: the key itself. It is not recorded with the experiment: where that is restored,
            use ``wandb login``, ``WANDB_API_KEY`` or ``api_key_file``.
        excludes: keys of results that are not logged, with all below them.
        log_config: update the run's config with the ``config`` of each result.
        upload_checkpoints: upload each checkpoint as an artifact when it is committed.
        save_checkpoints: deprecated, the same.
        upload_timeout: how long to wait for uploads when the experiment has ended, in seconds.
        video_kwargs: for ``wandb.Video``.
        image_kwargs: for ``wandb.Image``.
        **kwargs: for ``wandb.init``; they win over what is said above.

    Raises:
        ImportError: wandb is not installed, or too old for several runs in one process.
        ValueError: both ``api_key`` and ``api_key_file`` are given.
    """

    tracker: ClassVar[str] = "Weights & Biases"
    secrets: ClassVar[tuple[str, ...]] = ("api_key",)

    def __init__(
        self,
        project: str | None = None,
        group: str | None = None,
        api_key_file: str | None = None,
        api_key: str | None = None,
        excludes: Sequence[str] | None = None,
        log_config: bool = False,
        upload_checkpoints: bool = False,
        save_checkpoints: bool = False,
        upload_timeout: float = 1800,
        video_kwargs: Mapping[str, Any] | None = None,
        image_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        _require(type(self).__name__)
        wandb_setup.refuse_two_keys(api_key_file, api_key)
        super().__init__()
        if save_checkpoints:
            warnings.warn(
                "save_checkpoints is deprecated, use upload_checkpoints.",
                DeprecationWarning,
                stacklevel=2,
            )
        self.project = project
        self.group = group
        self.api_key_path = api_key_file
        self.api_key = api_key
        self.excludes = list(excludes or ())
        self.log_config = log_config
        self.upload_checkpoints = upload_checkpoints or save_checkpoints
        self._patience_s = float(upload_timeout)
        self.video_kwargs = dict(video_kwargs or {})
        self.image_kwargs = dict(image_kwargs or {})
        self.kwargs = kwargs

    def setup(self, *args: Any, **info: Any) -> None:
        """Find project and key.

        Raises:
            ValueError: there is no project, or no key.
        """
        mode = self.kwargs.get("mode") or os.environ.get("WANDB_MODE", "online")
        wandb_setup.provide_api_key(self.api_key_path, self.api_key, mode)
        self.project = wandb_setup.project(self.project or self.kwargs.get("project"))
        self.group = self.group or os.environ.get(wandb_setup.GROUP)
        if not self.project:
            raise ValueError(
                f"{type(self).__name__} does not know the project: give project=..., or set "
                f"{wandb_setup.PROJECT}."
            )
        super().setup(*args, **info)

    @property
    def _wants_checkpoints(self) -> bool:
        return self.upload_checkpoints

    # --- in the thread ----------------------------------------------------------------------

    def _begin(self, trial: Tracked, run_id: str | None) -> tuple[str, Any]:
        import wandb

        settings = self.kwargs.get("settings")
        if settings is None or isinstance(settings, Mapping):
            # What the driver prints is not the trial's.
            settings = {"console": "off", "quiet": True, **(settings or {})}
        asked: dict[str, Any] = {
            "id": run_id or trial.trial_id,
            "name": trial.name,
            "group": self.group or trial.experiment,
            "project": self.project,
            "config": {**wandb_setup.plain(trial.config), "trial_log_path": trial.path},
            "resume": "allow",
            "reinit": "create_new",
            "allow_val_change": True,
            **self.kwargs,
            "settings": settings,
        }
        run = wandb.init(**asked)
        wandb_setup.tell_about(run)
        return str(run.id), run

    def _go_on(self, trial: Tracked, run: Any) -> None:
        run.config.update(wandb_setup.plain(trial.config), allow_val_change=True)

    def _log(self, trial: Tracked, run: Any, result: dict[str, Any], at: float) -> None:
        logged: dict[str, Any] = {}
        config: dict[str, Any] = {}
        excluded = [*_ALWAYS_EXCLUDED, *self.excludes]
        if not self.log_config:
            excluded.append("config")
        for key, value in result.items():
            if is_under(key, excluded):
                continue
            if is_under(key, _CONFIG_KEYS):
                config[key] = wandb_setup.plain(value)
            elif (shown := self._shown(value)) is not None:
                logged[key] = shown
        run.config.update(config, allow_val_change=True)
        run.log(logged, step=result.get("training_iteration"))

    def _shown(self, value: Any) -> Any:
        """What wandb shows for a value of a result; None for nothing."""
        simple = number(value)
        if simple is not None:
            return simple
        import wandb
        from wandb.sdk.data_types.base_types.wb_value import WBValue

        one = value[0] if isinstance(value, list | tuple) and value else value
        if isinstance(one, WBValue):
            return value
        if not hasattr(value, "dtype") or not hasattr(value, "ndim"):
            return None
        if value.ndim == 3:
            return wandb.Image(value, **self.image_kwargs)
        if value.ndim == 4:
            return [wandb.Image(image, **self.image_kwargs) for image in value]
        if value.ndim == 5:
            return [wandb.Video(video, **self.video_kwargs) for video in value]
        return None

    def _upload(self, trial: Tracked, run: Any, path: str) -> None:
        import wandb

        artifact = wandb.Artifact(
            name=re.sub(r"[^\w.-]", "_", f"checkpoint_{trial.name}"),
            type="model",
            metadata={"checkpoint": os.path.basename(path)},
        )
        artifact.add_dir(path)
        run.log_artifact(artifact)

    def _end(self, trial: Tracked, run: Any, ending: Ending) -> None:
        run.finish(exit_code=_EXIT_CODES[ending])


def setup_wandb(
    config: Mapping[str, Any] | None = None,
    api_key: str | None = None,
    api_key_file: str | None = None,
    rank_zero_only: bool = True,
    **kwargs: Any,
) -> Any:
    """Start a run of Weights & Biases in a trial, and return it.

    Mirrors ``ray.air.integrations.wandb.setup_wandb``. The run has the trial's id and name, and
    the experiment's name as its group; a trial that is tried again, or goes on after a restore,
    goes on in its run.

    Args:
        config: the run's config.
        api_key: the key.
        api_key_file: its first line is the key.
        rank_zero_only: in a group of workers, only the first one logs.
        **kwargs: for ``wandb.init``.

    Returns:
        The run; in workers that do not log, an object whose methods do nothing.

    Raises:
        ImportError: wandb is not installed.
        ValueError: there is no project, or no key, or two.
    """
    require("wandb", "wandb", "setup_wandb")
    wandb_setup.refuse_two_keys(api_key_file, api_key)
    place = within.place()
    if rank_zero_only and place.rank != 0:
        return within.Nothing()
    import wandb

    mode = kwargs.get("mode") or os.environ.get("WANDB_MODE", "online")
    wandb_setup.provide_api_key(api_key_file, api_key, mode)
    asked: dict[str, Any] = {
        "id": place.trial_id,
        "name": place.trial_name,
        "group": os.environ.get(wandb_setup.GROUP) or place.experiment_name,
        "resume": "allow" if place.trial_id is not None else None,
        "allow_val_change": True,
        "config": wandb_setup.plain(config or {}),
        **kwargs,
        "project": wandb_setup.project(kwargs.get("project")),
    }
    if not asked["project"]:
        raise ValueError(
            "setup_wandb does not know the project: give project=..., or set "
            f"{wandb_setup.PROJECT}."
        )
    run = wandb.init(**asked)
    wandb_setup.tell_about(run)
    return run


def _require(owner: str) -> None:
    """Make sure that wandb is there and can have several runs in one process."""
    require("wandb", "wandb", owner)
    try:
        installed = version("wandb")
    except PackageNotFoundError:  # a copy without metadata
        return
    if tuple(int(part) for part in re.findall(r"\d+", installed)[:3]) < _SEVERAL_RUNS:
        needed = ".".join(map(str, _SEVERAL_RUNS))
        raise ImportError(
            f"{owner} needs wandb {needed} or newer, because each trial has a run of its own at "
            f"the same time; this is {installed}. Run `pip install -U 'wandb>={needed}'`.",
            name="wandb",
        )
