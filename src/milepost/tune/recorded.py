"""What an experiment's directory says about how it was set up."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from milepost.api.config import Config
from milepost.errors import ExperimentNotFoundError, JournalError
from milepost.tune.setup import pointer
from milepost.tune.space_diff import Unloadable

if TYPE_CHECKING:
    from milepost.journal.experiment import Experiment as Stored
    from milepost.journal.image import RunImage

log = logging.getLogger("milepost.tune")

C = TypeVar("C", bound=Config)


class Recorded:
    """The record of an experiment. It is read only; nothing on disk is changed.

    Where the journal is damaged, what is left of it and the trials' files count, with a warning.

    Args:
        path: the experiment's directory, absolute.

    Raises:
        ExperimentNotFoundError: there is no experiment, or its run ended before it had recorded
            anything.
        JournalError: a newer version wrote its journal.

    Attributes:
        stored: its identity.
        image: its trials and how they stand.
        setup: how it was set up, as JSON values; empty when damage has taken that.
    """

    def __init__(self, path: str) -> None:
        from milepost.journal import experiment as experiments
        from milepost.journal import rebuild
        from milepost.storage import codec

        obstacle = _obstacle(path)
        if obstacle is not None:
            raise ExperimentNotFoundError(obstacle)
        self.path = path
        self.stored: Stored = experiments.open(path)
        self._tip = _tip(path)
        self.image: RunImage = rebuild.image(path)
        if self.image.setup is None and not self.image.trials:
            raise ExperimentNotFoundError(
                f"nothing was recorded in {path} but its name: its run ended while it started, "
                f"before the first trial. Start it as a new one: {_as_new(path)}"
            )
        setup = self.image.setup
        self.setup: dict[str, Any] = {} if setup is None else codec.decode(setup)

    @property
    def is_current(self) -> bool:
        """Whether nothing has been added to the journal since this was read."""
        return self._tip == _tip(self.path)

    @property
    def trainable(self) -> str:
        """Name of the function or class."""
        return str(self.setup.get("trainable") or self.stored.trainable)

    @property
    def codes(self) -> list[str]:
        """Digests of the trainable's code in all runs, the last one's last."""
        code = self.setup.get("code") or {}
        return [*code.get("before", []), *filter(None, [code.get("digest")])]

    # --- values -------------------------------------------------------------------------------

    def space(self) -> dict[str, Any]:
        """Return the search space; :class:`Unloadable` stands for what cannot be had."""
        value = self._value(self.setup.get("param_space") or {}, "param_space")
        return value if isinstance(value, dict) else {}

    def value(self, name: str) -> Any:
        """Return something that was recorded; :class:`Unloadable` where it cannot be had."""
        return self._value(self.setup.get(name), name)

    def config(self, name: str, kind: type[C]) -> dict[str, Any]:
        """Return the recorded fields of a config, by name; unset ones are left out.

        Args:
            name: ``tune_config`` or ``run_config``.
            kind: its class; configs inside it are made again.
        """
        said = self.setup.get(name) or {}
        known = {entry.name: entry for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
        fields = {}
        for field, plain in said.items():
            if field not in known:  # of another version
                log.info("the recorded %s.%s is not known to this version", name, field)
                continue
            fields[field] = self._value(plain, pointer(name, field))
        return fields

    def resources_per_trial(self) -> Any:
        """Return what was asked for per trial, or None."""
        return self.value("resources_per_trial")

    def _value(self, plain: Any, where: str) -> Any:
        """Return the value that was recorded at a place."""
        if where in self._unpicklable:
            return Unloadable(str(plain), self._unpicklable[where])
        if where in self._objects:
            return self._objects[where]
        if isinstance(plain, dict) and any(
            name.startswith(f"{where}/") for name in (*self._objects, *self._unpicklable)
        ):
            return {key: self._value(item, pointer(where, key)) for key, item in plain.items()}
        import msgspec

        from milepost.storage import codec

        return codec.decode(msgspec.json.encode(plain))

    @cached_property
    def _unpicklable(self) -> dict[str, str]:
        return dict(self.setup.get("unpicklable") or {})

    @cached_property
    def _objects(self) -> dict[str, Any]:
        """What was pickled by place; :class:`Unloadable` stands for what cannot be loaded."""
        from milepost.journal.objects import Objects

        pickled = self.setup.get("pickled") or {}
        names: list[str] = pickled.get("names", [])
        objects = Objects(self.path)
        why = "it is not there"
        if "object" in pickled:
            try:
                return dict(objects.get_value(pickled["object"]))
            except Exception as error:  # noqa: BLE001 - unpickling imports and runs users' code
                why = f"{type(error).__name__}: {error}"
                log.info("what was recorded of %s cannot be loaded: %s", self.path, why)
        found: dict[str, Any] = {}
        parts = self._parts(objects, pickled.get("parts"))
        for name in names:
            try:
                found[name] = pickle.loads(parts[name])
            except KeyError:
                found[name] = Unloadable(self._text(name), why)
            except Exception as error:  # noqa: BLE001 - as above
                found[name] = Unloadable(self._text(name), f"{type(error).__name__}: {error}")
        return found

    def _parts(self, objects: Any, digest: str | None) -> dict[str, bytes]:
        if digest is None:
            return {}
        try:
            return dict(objects.get_value(digest))
        except JournalError as error:
            log.info("what was recorded of %s cannot be loaded: %s", self.path, error)
            return {}

    def _text(self, name: str) -> str:
        """The repr that was recorded at a place."""
        value: Any = self.setup
        for step in name.split("/"):
            value = value[step.replace("~1", "/").replace("~0", "~")]
        return str(value)


def nothing_recorded(path: str) -> bool:
    """Whether a directory is an experiment whose run ended before it had recorded anything."""
    from milepost.journal import experiment as experiments
    from milepost.journal import lease, replay

    if not experiments.is_experiment(path) or lease.is_held(path):
        return False
    try:
        image = replay.image(path)
    except JournalError:  # it is damaged, or a newer version's: there is something
        return False
    return image.setup is None and not image.trials


def _obstacle(path: str) -> str | None:
    """Why there is no experiment at a path, and what may have been meant; None if there is one."""
    from milepost.journal.experiment import is_experiment

    if is_experiment(path):
        return None
    if not os.path.lexists(path):
        return f"there is no directory {path}"
    if not os.path.isdir(path):
        return f"{path} is a file; give the experiment's directory"
    above = os.path.dirname(path)
    if is_experiment(above):
        return f"{path} is inside of an experiment; give the experiment's directory, {above}"
    if os.path.lexists(os.path.join(path, "tuner.pkl")):
        return f"{path} was written by Ray, and Milepost cannot go on with runs of Ray"
    inside = sorted(name for name in os.listdir(path) if is_experiment(os.path.join(path, name)))
    if inside:
        shown = ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "")
        return f"{path} is no experiment; it holds the experiments {shown}: give the path of one"
    return f"there is no experiment in {path}: it has no .milepost/experiment.json"


def _tip(path: str) -> tuple[str, int]:
    """The newest file of the journal and its size."""
    from milepost.journal import epochs

    try:
        newest = epochs.segments(path)[-1].name
        return newest, os.path.getsize(os.path.join(epochs.journal_directory(path), newest))
    except (FileNotFoundError, IndexError):
        return "", 0


def _as_new(path: str) -> str:
    storage_path, name = os.path.split(path)
    return f"Tuner(..., run_config=RunConfig(name={name!r}, storage_path={storage_path!r}))."
