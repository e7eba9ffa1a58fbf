"""Where a run's results go, when it stops, and what is shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from milepost.api import checks, uri
from milepost.api.callback import Callback
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.config import Config, FieldCheck, checked
from milepost.api.failure_config import FailureConfig
from milepost.api.progress import ProgressReporter
from milepost.api.stopper import Stopper, check_stop
from milepost.api.sync_config import SyncConfig

#: Where experiments go when no storage path is given.
DEFAULT_STORAGE_PATH = "~/milepost_results"


def _name(owner: str, name: str, value: Any) -> str:
    path = checks.path_text(owner, name, value)
    if os.path.isabs(path) or {".", ".."} & set(path.split("/")):
        raise ValueError(
            f"{owner}.{name} must be the name of a directory inside storage_path, got {path!r}. "
            "Put the rest into storage_path."
        )
    return path


def _verbose(owner: str, name: str, value: Any) -> int:
    if value is None:
        return 3 if os.environ.get("RAY_AIR_NEW_OUTPUT", "1") == "0" else 1
    if isinstance(value, int):  # keeps Verbosity members, and bool as scripts write it
        if value < 0:
            raise ValueError(
                f"{owner}.{name} must be 0 (silent), 1 or 2 (every result), got {value!r}."
            )
        return value
    raise TypeError(
        f"{owner}.{name} must be 0 (silent), 1 or 2 (every result), got {value!r} "
        f"({type(value).__name__})."
    )


def _callbacks(owner: str, name: str, value: Any) -> list[Callback] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise TypeError(f"{owner}.{name} must be a list of Callback objects, got {value!r}.")
    member = checks.instance_of(Callback)
    for i, callback in enumerate(value):
        member(owner, f"{name}[{i}]", callback)
    return list(value)


def check_log_to_file(owner: str, name: str, value: Any) -> bool | str | tuple[str, str]:
    """Return a checked ``log_to_file``: a bool, one file name, or (stdout's, stderr's).

    Raises:
        ValueError: it is something else, or a sequence of another length than 2.
    """
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, str | os.PathLike):
        return checks.path_text(owner, name, value)
    if isinstance(value, list | tuple):
        if len(value) != 2:
            raise ValueError(
                f"{owner}.{name} must name two files, for stdout and for stderr, got {value!r} "
                f"({len(value)} entries)."
            )
        return checks.path_text(owner, name, value[0]), checks.path_text(owner, name, value[1])
    raise ValueError(
        f"{owner}.{name} must be a bool, a file name or a pair of file names, got {value!r}."
    )


def resolve_storage_path(path: str | os.PathLike[str] | None) -> str:
    """Return where experiments go, as an absolute path.

    Args:
        path: a ``file://`` URI, or a path that may start with ``~`` or be relative to the current
            directory. None means ``~/milepost_results``.

    Raises:
        ValueError: it is a URI of storage that this version cannot use.
    """
    return uri.resolve(DEFAULT_STORAGE_PATH if path is None else path)


@checked
@dataclass
class RunConfig(Config):
    """Where a run's results go, when it stops, what is kept and what is shown.

    Mirrors Ray's class of the same name, with one difference: a relative ``storage_path`` is
    accepted, and taken from the current directory at construction.

    Args:
        name: the experiment's directory below ``storage_path``; the default is the trainable's
            name and the time.
        storage_path: where experiments go: a path or a ``file://`` URI; default
            ``~/milepost_results``.
        storage_filesystem: a file system object on which ``storage_path`` is used verbatim.
        failure_config: see :class:`FailureConfig`.
        checkpoint_config: see :class:`CheckpointConfig`.
        sync_config: see :class:`SyncConfig`.
        verbose: 0 (silent), 1 (tables, the default) or 2 (every result as well).
        stop: a dict ``metric -> threshold`` (a trial stops when a metric reaches it), a function
            ``(trial_id, result) -> bool``, a ``Stopper``, or a list of Stoppers.
        callbacks: objects that are told what happens; see :class:`milepost.tune.Callback`.
        progress_reporter: shows progress instead of the built-in display.
        log_to_file: True keeps each trial's output in ``stdout`` and ``stderr`` in its directory;
            a name puts both into one file, a pair names them; default False.
        local_dir: raises; use ``storage_path``.

    Raises:
        TypeError: a field is misspelt or has the wrong type.
        ValueError: a value is out of range, no stop condition, or a storage path that this version
            cannot use.
        DeprecationWarning: ``local_dir`` is set.

    Example:
        >>> RunConfig(name="digits", stop={"accuracy": 0.97}).verbose
        1
    """

    name: str | None = None
    storage_path: str | None = None
    storage_filesystem: Any | None = None
    failure_config: FailureConfig | None = None
    checkpoint_config: CheckpointConfig | None = None
    sync_config: SyncConfig | None = None
    verbose: int | None = None
    stop: Mapping[str, Any] | Stopper | list[Stopper] | Callable[..., bool] | None = None
    callbacks: list[Callback] | None = None
    progress_reporter: ProgressReporter | None = None
    log_to_file: bool | str | tuple[str, str] = False
    local_dir: str | None = None

    _parts: ClassVar[Mapping[str, type[Config]]] = {
        "failure_config": FailureConfig,
        "checkpoint_config": CheckpointConfig,
        "sync_config": SyncConfig,
    }
    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        "name": checks.optional(_name),
        "storage_path": checks.optional(checks.path_text),
        "failure_config": checks.instance_of(FailureConfig, FailureConfig),
        "checkpoint_config": checks.instance_of(CheckpointConfig, CheckpointConfig),
        "sync_config": checks.instance_of(SyncConfig, SyncConfig),
        "verbose": _verbose,
        "stop": check_stop,
        "callbacks": _callbacks,
        "progress_reporter": checks.optional(checks.instance_of(ProgressReporter)),
        "log_to_file": check_log_to_file,
        "local_dir": checks.refused("Use RunConfig(storage_path=...) instead.", None),
    }

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # A path can be resolved once it is known whether another file system interprets it.
        if name in ("storage_path", "storage_filesystem") and "storage_filesystem" in vars(self):
            if self.storage_filesystem is None:
                vars(self)["storage_path"] = resolve_storage_path(self.storage_path)
            elif self.storage_path is None:
                raise ValueError(
                    "RunConfig.storage_filesystem is set, so storage_path must say where on it "
                    "experiments go."
                )

    def _repr_html_(self) -> str:
        from milepost.api.html import config_table

        return config_table(self)
