"""What the files in a trial's directory tell of the trial, without the journal."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, NamedTuple

import msgspec

from milepost.checkpoint import verify
from milepost.checkpoint.manifest import MANIFEST_NAME, Manifest
from milepost.journal.files import failures, params, result_json
from milepost.storage import codec, names

log = logging.getLogger("milepost.journal")

#: Stores bytes and returns their digest.
PutObject = Callable[[bytes], str]

Key = tuple[Any, Any, Any]
NO_KEY: Final[Key] = (None, None, None)
_KEY_FIELDS: Final = ("training_iteration", "time_total_s", "timestamp")


class FileRow(NamedTuple):
    """A row as ``result.json`` has it.

    Attributes:
        values: the row without ``config``, in types that JSON has.
        key: tells it from other rows of the trial; see :func:`key_of`.
    """

    values: dict[str, Any]
    key: Key

    @property
    def iteration(self) -> int:
        """Its ``training_iteration``; 0 if it has none that is a number."""
        value = self.values.get("training_iteration")
        return value if isinstance(value, int) else 0

    @property
    def at(self) -> float:
        """When it was reported, seconds since the epoch; 0 if it does not say."""
        value = self.values.get("timestamp")
        return float(value) if isinstance(value, int | float) else 0.0


def key_of(values: dict[str, Any]) -> Key:
    """What tells a row from the others of its trial, and is the same in file and journal."""
    first, second, third = (values.get(name) for name in _KEY_FIELDS)
    return first, second, third


def key_in(row: msgspec.Raw) -> Key | None:
    """The key of a row in codec JSON; None if nothing in it tells it from others."""
    values = codec.preview(row)
    key = key_of(values) if isinstance(values, dict) else NO_KEY
    return None if key == NO_KEY else key


class TrialDirectory:
    """A trial's directory; each file is read when it is asked for.

    Args:
        experiment_path: the experiment's directory.
        name: the trial's directory in it.
    """

    def __init__(self, experiment_path: str, name: str) -> None:
        self.name = name
        self.path = names.trial_directory(experiment_path, name)

    @cached_property
    def rows(self) -> list[FileRow]:
        """The whole rows of ``result.json``, in order."""
        found = []
        for line in self._lines:
            try:
                values = json.loads(line)
            except ValueError:
                break  # what follows a damaged line cannot be told from a power loss's leavings
            if not isinstance(values, dict):
                break
            values.pop("config", None)
            found.append(FileRow(values, key_of(values)))
        return found

    @property
    def row_count(self) -> int:
        """How many lines ``result.json`` has; at least as many as rows, and quickly counted."""
        return len(self._lines)

    @cached_property
    def manifests(self) -> list[tuple[int, Manifest]]:
        """Its committed checkpoints, oldest first."""
        return verify.committed(self.path)

    @property
    def trial_id(self) -> str | None:
        """The id of its trial, if a checkpoint or a row says so."""
        for _, manifest in self.manifests:
            return manifest.trial
        for row in self.rows:
            found = row.values.get("trial_id")
            return found if isinstance(found, str) else None
        return None

    @cached_property
    def failures(self) -> list[tuple[int, str]]:
        """Number and text of each failure in ``error.txt``."""
        return failures.entries(self.path)

    @property
    def is_of_a_trial(self) -> bool:
        """Whether it has the config of a trial that was started."""
        return os.path.isfile(os.path.join(self.path, params.JSON_NAME))

    @property
    def has_reported(self) -> bool:
        """Whether it is a trial's, with at least a row or a checkpoint."""
        return self.is_of_a_trial and bool(self.row_count or self.manifests)

    def config(self, put_object: PutObject | None) -> msgspec.Raw | None:
        """The trial's config, codec JSON; None if no file has it.

        Args:
            put_object: stores what JSON cannot hold, which is then taken from ``params.pkl``.
                Without it nothing is unpickled, and such values are their text.
        """
        if put_object is not None:
            try:
                with open(os.path.join(self.path, params.PICKLE_NAME), "rb") as file:
                    return msgspec.Raw(codec.encode(pickle.load(file), put_object))
            except FileNotFoundError:
                pass
            except Exception as error:  # noqa: BLE001 - a pickle may raise anything
                log.warning(
                    "%s in %s cannot be loaded (%r); values of the config that JSON cannot hold "
                    "are taken as text from %s",
                    params.PICKLE_NAME,
                    self.path,
                    error,
                    params.JSON_NAME,
                )
        try:
            with open(os.path.join(self.path, params.JSON_NAME), "rb") as file:
                return msgspec.Raw(codec.encode(json.loads(file.read())))
        except (OSError, ValueError):
            return None

    @cached_property
    def _lines(self) -> list[bytes]:
        try:
            with open(os.path.join(self.path, result_json.NAME), "rb") as file:
                lines = file.read().split(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return []
        return lines[:-1]  # the last one has no line break: it is empty or torn


def directories(experiment_path: str) -> list[str]:
    """The names of all directories that can be trials', sorted."""
    with os.scandir(experiment_path) as entries:
        found = sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(names.PREFIX)
            and entry.is_dir(follow_symlinks=False)
            and not os.path.lexists(os.path.join(entry.path, MANIFEST_NAME))  # a checkpoint
        )
    itself = TrialDirectory(experiment_path, names.ITSELF)
    return [names.ITSELF, *found] if itself.is_of_a_trial else found
