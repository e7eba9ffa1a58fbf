"""The record of how a run was set up, for people and for going on with it later."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from milepost.errors import CodecError
from milepost.tune.experiment.experiment import Experiment
from milepost.tune.fingerprint import code_of

log = logging.getLogger("milepost.tune")

# Objects are pickled one by one as well, unless that would take much more room than this.
_SMALL_BYTES = 1 << 20
# What is larger, such as an array among the constants of a space, is kept beside the journal.
_LARGE_BYTES = 1 << 15


@dataclass(frozen=True)
class Description:
    """How an experiment is set up, before anything of it is on disk.

    It is made before a run begins to use the objects of users, so that it has them as they were
    given. :mod:`milepost.tune.recorded` reads it.

    Attributes:
        said: JSON values. What JSON cannot hold (search variables, callbacks, functions) appears
            as its repr.
        names: places of those values, such as ``run_config/callbacks``.
        together: all of them in one pickle, so that what they share stays shared; empty when
            there are none.
        parts: each in a pickle of its own, so that one that cannot be loaded takes no other with
            it; empty when they are large, or only one.
        unpicklable: places of values that cannot be pickled either, with the reason.
    """

    said: dict[str, Any]
    names: list[str]
    together: bytes
    parts: dict[str, bytes]
    unpicklable: dict[str, str] = field(default_factory=dict)

    def stored(self, path: str) -> dict[str, Any]:
        """Put the pickles into an experiment's directory; return its setup as JSON values.

        Raises:
            JournalError: the directory cannot be written.
        """
        from milepost.journal.objects import Objects

        setup = dict(self.said)
        objects = Objects(path)
        if self.names:
            setup["pickled"] = {"names": self.names}
        if self.together:
            setup["pickled"]["object"] = objects.put(self.together)
        if self.parts:
            setup["pickled"]["parts"] = objects.put(pickle.dumps(self.parts))
        if self.unpicklable:
            setup["unpicklable"] = self.unpicklable
        return setup


def describe(
    experiment: Experiment, *, save_at_end: bool = False, codes_before: Sequence[str] = ()
) -> Description:
    """Return how an experiment is set up.

    What cannot be pickled is left out of it, and the log says so.

    Args:
        experiment: what runs.
        save_at_end: whether classes save at their end when nothing is said about it.
        codes_before: digests of the trainable's code in earlier runs of this experiment.
    """
    code: dict[str, Any] = {**code_of(experiment.target.trainable)}
    before = [digest for digest in codes_before if digest != code["digest"]]
    if before:
        code["before"] = before
    said = {
        "trainable": experiment.target.name,
        "kind": experiment.target.kind,
        "code": code,
        "save_at_end": save_at_end,
    }
    if experiment.initial_checkpoint is not None:
        said["initial_checkpoint"] = experiment.initial_checkpoint
    return recorded_as(
        said,
        {
            "param_space": experiment.space,
            "tune_config": fields(experiment.tune_config),
            "run_config": fields(experiment.run_config),
            "resources_per_trial": experiment.resources_per_trial,
        },
    )


def recorded_as(said: dict[str, Any], values: dict[str, Any]) -> Description:
    """Return the record of a setup.

    What cannot be pickled is left out of it, and the log says so.

    Args:
        said: JSON values.
        values: any values, by name.
    """
    rest: dict[str, Any] = {}
    for name, value in values.items():
        said[name] = _plain(value, name, rest)
    together, parts, unpicklable = _pickles(rest)
    names = sorted(rest.keys() - unpicklable.keys())
    return Description(said, names, together, parts, unpicklable)


def pointer(parent: str, key: str) -> str:
    """Return where the value of a key is, as ``pickled`` names it.

    The names are those of JSON pointers: a slash in a key is ``~1``, a tilde ``~0``.
    """
    return f"{parent}/{key.replace('~', '~0').replace('/', '~1')}"


def fields(config: Any) -> dict[str, Any]:
    """Return the public fields of a config that say something; configs in it become dicts too."""
    said = {}
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        if entry.name.startswith("_") or value is None:
            continue
        is_config = dataclasses.is_dataclass(value) and not isinstance(value, type)
        said[entry.name] = fields(value) if is_config else value
    return said


def _plain(value: Any, where: str, rest: dict[str, Any]) -> Any:
    """Return a value as JSON; what JSON cannot hold, or is large, goes to ``rest``."""
    from milepost.storage import codec

    with contextlib.suppress(CodecError):
        data = codec.encode(value)
        if len(data) <= _LARGE_BYTES:
            return json.loads(data)
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {key: _plain(item, pointer(where, key), rest) for key, item in value.items()}
    rest[where] = value
    return f"{value!r:.200}"


def _pickles(values: dict[str, Any]) -> tuple[bytes, dict[str, bytes], dict[str, str]]:
    """Return all values in one pickle, each in one of its own, and why others are in none."""
    if not values:
        return b"", {}, {}
    unpicklable: dict[str, str] = {}
    together = _pickled(values)
    if isinstance(together, bytes) and (len(values) == 1 or len(together) > _SMALL_BYTES):
        return together, {}, unpicklable
    parts: dict[str, bytes] = {}
    for where, value in values.items():
        part = _pickled(value)
        if isinstance(part, bytes):
            parts[where] = part
            continue
        unpicklable[where] = f"{type(part).__name__}: {part}"
        log.warning(
            "%s cannot be pickled (%s), so the experiment's record has only its repr; whoever goes "
            "on with the run must give it again",
            where,
            part,
        )
    if unpicklable:
        together = _pickled({where: values[where] for where in parts}) if parts else b""
    return together if isinstance(together, bytes) else b"", parts, unpicklable


def _pickled(value: Any) -> bytes | Exception:
    import cloudpickle

    from milepost.worker.protocol import take_script_by_value

    take_script_by_value()
    try:
        data: bytes = cloudpickle.dumps(value)
    except Exception as error:  # noqa: BLE001 - objects raise what they like; it is reported
        return error
    return data
