"""Where a training run's results go, what is kept, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from milepost.api import checks, run_config
from milepost.api.callback import Callback
from milepost.api.config import Config, FieldCheck, checked, converted
from milepost.api.failure_config import FailureConfig as OfTrials
from milepost.api.progress import ProgressReporter
from milepost.api.spelling import did_you_mean
from milepost.api.stopper import Stopper
from milepost.api.sync_config import SyncConfig
from milepost.api.training.callback import UserCallback
from milepost.api.training.failure_config import FailureConfig
from milepost.api.training.logging_config import LoggingConfig

# What Ray can do to the machines of a cluster before it starts workers there.
_OF_CLUSTERS = (
    "conda",
    "config",
    "container",
    "excludes",
    "image_uri",
    "nsight",
    "pip",
    "py_executable",
    "py_modules",
    "uv",
    "worker_process_setup_hook",
    "working_dir",
)


def _callbacks(owner: str, name: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise ValueError(f"{owner}.{name} must be a list of callbacks, got {value!r}.")
    for i, callback in enumerate(value):
        if isinstance(callback, UserCallback | Callback):
            continue
        made = f": write {callback.__name__}()" if isinstance(callback, type) else ""
        raise ValueError(
            f"{owner}.{name}[{i}] must be a milepost.train.UserCallback or a "
            f"milepost.tune.Callback, got {callback!r}{made}."
        )
    return list(value)


def _failure(owner: str, name: str, value: Any) -> FailureConfig:
    given = checks.instance_of(OfTrials, FailureConfig)(owner, name, value)
    return converted(given, FailureConfig)


def _environment(owner: str, name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{owner}.{name} must be a dict such as {{'env_vars': {{'NAME': 'value'}}}}, "
            f"got {value!r} ({type(value).__name__})."
        )
    for key in value:
        if key in _OF_CLUSTERS:
            raise ValueError(
                f"{owner}.{name}[{key!r}] cannot take effect: workers run on this machine, in the "
                f"Python environment and with the files of the driver, got {value[key]!r}. Only "
                "env_vars can be set."
            )
        if key != "env_vars":
            raise ValueError(
                f"{owner}.{name} has no entry {key!r}." + did_you_mean(key, ("env_vars",))
            )
    variables = value.get("env_vars") or {}
    texts = isinstance(variables, Mapping) and all(
        isinstance(text, str) for item in variables.items() for text in item
    )
    if not texts:
        raise TypeError(f"{owner}.{name}['env_vars'] must be a dict of texts, got {variables!r}.")
    return {"env_vars": dict(variables)} if "env_vars" in value else {}


@checked
@dataclass
class RunConfig(run_config.RunConfig):
    """Where a training run's results go, what is kept, and who is told.

    Mirrors ``ray.train.RunConfig``. The options of tuning, which Ray refuses here, take effect in a
    training run too: it is one trial.

    Args:
        name: the run's directory below ``storage_path``. A run with the name of an earlier one
            goes on from its latest checkpoint. None (the default) leaves it to the trainer.
        storage_path: where runs go: a path or a ``file://`` URI; default ``~/milepost_results``.
        storage_filesystem: a file system object on which ``storage_path`` is used verbatim.
        failure_config: see :class:`FailureConfig`; one of :mod:`milepost.tune` is taken over.
        checkpoint_config: see :class:`milepost.tune.CheckpointConfig`.
        callbacks: objects that are told what happens: each a :class:`UserCallback` or a
            ``milepost.tune.Callback``.
        worker_runtime_env: ``{"env_vars": {...}}`` sets environment variables of workers.
        logging_config: see :class:`LoggingConfig`.
        sync_config: see :class:`milepost.tune.SyncConfig`.
        verbose: 0 (silent), 1 (the default) or 2 (every result as well).
        stop: when to stop: as in :class:`milepost.tune.RunConfig`.
        progress_reporter: shows progress instead of the built-in display.
        log_to_file: True keeps the output of workers in files of the run's directory.
        local_dir: raises; use ``storage_path``.

    Raises:
        TypeError: a field is misspelt or has the wrong type.
        ValueError: a value is out of range, cannot take effect, or is no callback.
        DeprecationWarning: ``local_dir`` is set.

    Example:
        >>> RunConfig(name="digits", worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": "2"}}).name
        'digits'
    """

    callbacks: list[UserCallback | Callback] | None = None  # type: ignore[assignment]
    worker_runtime_env: dict[str, Any] | None = None
    logging_config: LoggingConfig | None = None
    # Ray's arguments keep their places, which are others than in tuning.
    sync_config: SyncConfig | None = field(default=None, kw_only=True)
    verbose: int | None = field(default=None, kw_only=True)
    stop: Mapping[str, Any] | Stopper | list[Stopper] | Callable[..., bool] | None = field(
        default=None, kw_only=True
    )
    progress_reporter: ProgressReporter | None = field(default=None, kw_only=True)
    log_to_file: bool | str | tuple[str, str] = field(default=False, kw_only=True)
    local_dir: str | None = field(default=None, kw_only=True)

    _parts: ClassVar[Mapping[str, type[Config]]] = {
        **run_config.RunConfig._parts,
        "failure_config": FailureConfig,
        "logging_config": LoggingConfig,
    }
    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        **run_config.RunConfig._checks,
        "failure_config": _failure,
        "callbacks": _callbacks,
        "worker_runtime_env": _environment,
        "logging_config": checks.instance_of(LoggingConfig, LoggingConfig),
    }
