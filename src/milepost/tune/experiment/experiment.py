"""The description of an experiment: what runs, over which space, and where results go."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.failure_config import FailureConfig
from milepost.api.run_config import RunConfig
from milepost.api.spelling import did_you_mean, spelled
from milepost.api.stopper import Stopper
from milepost.api.sync_config import SyncConfig
from milepost.api.tune_config import TuneConfig
from milepost.errors import TuneError
from milepost.tune import naming, place
from milepost.tune.arguments import given
from milepost.tune.compatible import require_compatible
from milepost.tune.pickling import require_picklable
from milepost.tune.resolve import Target, resolve

_REMOVED_VARIABLES = ("TUNE_RESULT_DIR", "RAY_AIR_LOCAL_CACHE_DIR")


class Experiment:
    """What to run. Mirrors ``ray.tune.Experiment``, for scripts that call ``tune.run`` with it.

    Everything is checked here, before any trial starts: the trainable (also that it can be sent to
    worker processes), the options and the storage path. Whether there is an experiment of that
    name, and whether that is wanted, is known when it is run.

    Args:
        name: the experiment's directory below ``storage_path``; None for the trainable's name and
            the time.
        run: a function, a ``Trainable`` class, or the name of a registered one.
        stop: when trials or the run end; see ``RunConfig.stop``.
        time_budget_s: seconds after which the run ends.
        config: the search space.
        resources_per_trial: what each trial needs; default one CPU.
        num_samples: how often the space is sampled; default 1.
        storage_path: where experiments go; default ``~/milepost_results``.
        storage_filesystem: the file system it is on; only the local one is supported.
        sync_config: see ``RunConfig.sync_config``.
        checkpoint_config: see ``RunConfig.checkpoint_config``.
        trial_name_creator: ``trial -> name``.
        trial_dirname_creator: ``trial -> directory name``.
        log_to_file: see ``RunConfig.log_to_file``.
        max_failures: how often a failed trial is tried again; default 0.

    Raises:
        TuneError: there is no trainable, or no registered one of that name.
        TypeError: the trainable is of a wrong type or cannot be pickled, or an option has the
            wrong type.
        ValueError: an option has a value that cannot take effect.
        StorageError: results cannot be written to the storage path.
    """

    @spelled
    def __init__(
        self,
        name: str | None,
        run: Any,
        *,
        stop: Mapping[str, Any] | Stopper | list[Stopper] | Callable[..., bool] | None = None,
        time_budget_s: float | timedelta | None = None,
        config: Mapping[str, Any] | None = None,
        resources_per_trial: Any = None,
        num_samples: int = 1,
        storage_path: str | os.PathLike[str] | None = None,
        storage_filesystem: Any | None = None,
        sync_config: SyncConfig | Mapping[str, Any] | None = None,
        checkpoint_config: CheckpointConfig | Mapping[str, Any] | None = None,
        trial_name_creator: Callable[[Any], str] | None = None,
        trial_dirname_creator: Callable[[Any], str] | None = None,
        log_to_file: bool | str | tuple[str, str] = False,
        max_failures: int = 0,
    ) -> None:
        if isinstance(checkpoint_config, Mapping):
            checkpoint_config = CheckpointConfig(**checkpoint_config)
        if isinstance(sync_config, Mapping):
            sync_config = SyncConfig(**sync_config)
        retries = FailureConfig(**given(Experiment, max_failures=max_failures))
        self._describe(
            run,
            config,
            TuneConfig(
                **given(
                    Experiment,
                    num_samples=num_samples,
                    time_budget_s=time_budget_s,
                    trial_name_creator=trial_name_creator,
                    trial_dirname_creator=trial_dirname_creator,
                )
            ),
            RunConfig(
                name=name,
                failure_config=retries,
                **given(
                    Experiment,
                    storage_path=None if storage_path is None else os.fspath(storage_path),
                    storage_filesystem=storage_filesystem,
                    checkpoint_config=checkpoint_config,
                    sync_config=sync_config,
                    stop=stop,
                    log_to_file=log_to_file,
                ),
            ),
            resources_per_trial,
        )

    @classmethod
    def of(
        cls,
        run: Any,
        config: Any,
        tune_config: TuneConfig,
        run_config: RunConfig,
        resources_per_trial: Any = None,
        path: str | None = None,
    ) -> Experiment:
        """Describe an experiment by the configs of a ``Tuner``; checks and errors are the same.

        With ``path``, the directory of one that exists already, name and storage path are its.
        """
        experiment = cls.__new__(cls)
        experiment._describe(run, config, tune_config, run_config, resources_per_trial, path)
        if path is None and experiment.is_named:
            place.check_name_is_free(experiment.storage_path, experiment.name)
        return experiment

    @classmethod
    def from_json(cls, name: str, spec: Mapping[str, Any]) -> Experiment:
        """Describe an experiment by a dict, as ``run_experiments`` takes it.

        Args:
            name: the experiment's name.
            spec: ``{"run": ..., "config": ..., "stop": ...}`` and any further argument of
                :class:`Experiment`.

        Raises:
            TuneError: ``run`` is missing, or a key is no argument of :class:`Experiment`.
        """
        options = dict(spec)
        if "run" not in options:
            raise TuneError(f"the spec of experiment {name!r} has no 'run' entry: {spec!r}")
        known = inspect.signature(cls).parameters.keys() - {"name", "run"}
        for key in options:
            if key != "run" and key not in known:
                raise TuneError(
                    f"the spec of experiment {name!r} has an unknown entry {key!r}."
                    + did_you_mean(key, known)
                )
        return cls(name, options.pop("run"), **options)

    # --- what it says -------------------------------------------------------------------------

    target: Target
    space: dict[str, Any]
    tune_config: TuneConfig
    run_config: RunConfig
    resources_per_trial: Any
    storage_path: str
    name: str
    is_named: bool
    #: Directory of a checkpoint that each trial starts from, absolute; None for none.
    initial_checkpoint: str | None = None

    @property
    def path(self) -> str:
        """The directory that results go to; an automatic name may get a number when it is taken."""
        return os.path.join(self.storage_path, self.name)

    @property
    def spec(self) -> dict[str, Any]:
        """The description as a dict, as searchers read it."""
        return {
            "run": self.target.name,
            "config": self.space,
            "num_samples": self.tune_config.num_samples,
            "stop": self.run_config.stop,
            "time_budget_s": self.tune_config.time_budget_s,
            "resources_per_trial": self.resources_per_trial,
            "storage_path": self.storage_path,
            "checkpoint_config": self.run_config.checkpoint_config,
            "log_to_file": self.run_config.log_to_file,
            "max_failures": self.failure_config.max_failures,
        }

    @property
    def public_spec(self) -> dict[str, Any]:
        """The part of :attr:`spec` that searchers may look at."""
        return {key: self.spec[key] for key in ("num_samples", "stop", "time_budget_s")}

    @property
    def run_identifier(self) -> str:
        """The trainable's name."""
        return self.target.name

    @property
    def failure_config(self) -> FailureConfig:
        """What happens when a trial fails."""
        return self.run_config.failure_config or FailureConfig()

    def checkpoint_config(self, *, at_end: bool) -> CheckpointConfig:
        """Return which checkpoints are made and kept, with ``checkpoint_at_end`` decided.

        Args:
            at_end: whether a class that can save does so at its end when nothing is said. A class
                that leaves ``save_checkpoint`` out has nothing to save then.
        """
        config = self.run_config.checkpoint_config or CheckpointConfig()
        handles = self.target.trainable
        frequency, end = config.checkpoint_frequency, config.checkpoint_at_end
        if end is None:
            end = at_end and self.target.kind == "class" and _can_save(handles)
        if getattr(handles, "_handles_checkpoint_freq", None) is True:
            frequency = 0
        if getattr(handles, "_handles_checkpoint_at_end", None) is True:
            end = False
        return dataclasses.replace(config, checkpoint_frequency=frequency, checkpoint_at_end=end)

    def __repr__(self) -> str:
        return f"Experiment(name={self.name!r}, run={self.target.name!r})"

    # --- inside -------------------------------------------------------------------------------

    def _describe(
        self,
        run: Any,
        config: Any,
        tune_config: TuneConfig,
        run_config: RunConfig,
        resources_per_trial: Any,
        path: str | None = None,
    ) -> None:
        for variable in _REMOVED_VARIABLES:
            if os.environ.get(variable):
                raise DeprecationWarning(
                    f"the environment variable {variable} has no effect any more; unset it and use "
                    "RunConfig(storage_path=...)"
                )
        self.target = resolve(run)
        self.space = check_space(config)
        self.tune_config = tune_config
        self.run_config = run_config
        self.resources_per_trial = resources_per_trial
        _check_checkpoint_options(self.target, run_config.checkpoint_config)
        require_picklable(
            self.target.trainable,
            f"The trainable {self.target.name!r}",
            "Create such objects (locks, open files, connections) inside the trainable, or pass "
            "what they are made from through the config.",
        )
        require_picklable(
            _travelling(self.space),
            "param_space",
            "Put what such objects are made from (a path, a name, settings) into the space, and "
            "create them inside the trainable.",
        )
        require_compatible(self.target, self.space, tune_config)
        if path is None:
            self._check_place()
        else:
            self.storage_path, self.name = os.path.split(path)
            self.is_named = True

    def _check_place(self) -> None:
        if self.run_config.storage_filesystem is not None:
            from milepost.storage.filesystem import require_local

            require_local(self.run_config.storage_filesystem)
        self.storage_path = place.check_storage(str(self.run_config.storage_path))
        self.is_named = bool(self.run_config.name)
        self.name = self.run_config.name or naming.automatic_name(self.target.name)


def check_space(config: Any) -> dict[str, Any]:
    """Return a search space as a dict.

    Raises:
        ValueError: it is neither a dict nor something with ``to_dict()``.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping) and callable(getattr(config, "to_dict", None)):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise ValueError(f"param_space must be a dict, got {config!r} ({type(config).__name__}).")
    space = dict(config)
    scaling = space.get("scaling_config")
    if type(scaling).__name__ == "ScalingConfig":
        space["scaling_config"] = dict(vars(scaling))
    return space


def _travelling(value: Any) -> Any:
    """A search space without its functions, which are called here and never sent anywhere."""
    if isinstance(value, dict):
        return {key: _travelling(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [_travelling(item) for item in value]
    is_function = getattr(value, "is_function", None)
    return None if callable(is_function) and is_function() else value


def _check_checkpoint_options(target: Target, config: CheckpointConfig | None) -> None:
    """Refuse options that the trainable cannot obey."""
    if config is None:
        return
    given = {
        "checkpoint_frequency": (config.checkpoint_frequency, "_handles_checkpoint_freq"),
        "checkpoint_at_end": (config.checkpoint_at_end, "_handles_checkpoint_at_end"),
    }
    for option, (value, attribute) in given.items():
        handles = getattr(target.trainable, attribute, None)
        if not value or handles is True:
            continue
        if target.kind == "function" or handles is False:
            kind = "function trainable" if target.kind == "function" else "trainable"
            raise ValueError(
                f"CheckpointConfig({option}={value!r}) has no effect on the {kind} "
                f"{target.name!r}, which decides itself when to save. Leave {option} out, and pass "
                "checkpoint=Checkpoint.from_directory(...) to tune.report() when a checkpoint is "
                "wanted, at the last iteration for one at the end."
            )


def _can_save(cls: Any) -> bool:
    from milepost.worker.trainable import Trainable

    return cls.save_checkpoint is not Trainable.save_checkpoint
