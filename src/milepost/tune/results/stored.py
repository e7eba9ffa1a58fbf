"""Results as the disk has them: read without the trainable, unpickling nothing unless asked to."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from milepost.api.fields import CHECKPOINT_DIR_NAME
from milepost.storage import names
from milepost.tune.results import rows
from milepost.tune.results.lazy import Deferred

if TYPE_CHECKING:
    from milepost.api.resources import PlacementGroupFactory
    from milepost.checkpoint.validation import Outcome, Task
    from milepost.control.metrics import Analysis
    from milepost.control.outcome import Kept
    from milepost.journal.image import TrialImage
    from milepost.tune.results.result import Result

log = logging.getLogger("milepost.tune")

R = TypeVar("R", bound="Result")

ERROR_PICKLE = "error.pkl"
ERROR_TEXT = "error.txt"

# --- a trial's directory --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Committed:
    """A good committed checkpoint.

    Attributes:
        index: its number.
        path: its directory.
        row: the row that it was reported with, and the metrics of its validation.
        task: how it was to be validated; None if it was not.
        outcome: what came of that; None while it is pending.
    """

    index: int
    path: str
    row: dict[str, Any]
    task: Task | None
    outcome: Outcome | None

    @property
    def is_pending(self) -> bool:
        """Whether its validation is."""
        return self.task is not None and self.outcome is None


def checkpoints(trial_dir: str) -> list[Committed]:
    """Return the good committed checkpoints of a trial, oldest first.

    A checkpoint counts only with its manifest, and only if its files have the sizes listed there;
    others are left out with a line in the log.
    """
    from milepost.checkpoint import validation, verify
    from milepost.storage import codec

    found = []
    for index, manifest in verify.committed(trial_dir):
        path = os.path.join(trial_dir, manifest.directory)
        problems = verify.check_files(path, manifest)
        if problems:
            log.warning("%s is damaged and left out: %s", path, problems[0].detail)
            continue
        outcome = None if manifest.task is None else validation.read(path, manifest)
        row = codec.preview(validation.merged(manifest.metrics, outcome))
        row = row if isinstance(row, dict) else {}
        found.append(Committed(index, path, row, manifest.task, outcome))
    return found


def ranked(
    trial_dir: str, attribute: str | None, order: str | None, *, without: Container[int] = ()
) -> list[Committed]:
    """Return the good committed checkpoints of a trial, the best one last.

    Args:
        trial_dir: the trial's directory.
        attribute: the metric that ranks them; None ranks by age.
        order: ``"max"`` or ``"min"``.
        without: numbers of those that do not count.
    """
    from milepost.api.nested import flatten_dict
    from milepost.checkpoint import retention

    found = {each.index: each for each in checkpoints(trial_dir) if each.index not in without}
    entries = [
        retention.Entry(index, metrics=flatten_dict(each.row)) for index, each in found.items()
    ]
    return [found[entry.index] for entry in retention.ranked(entries, attribute, order)]


def load_error(trial_dir: str) -> Exception | str | None:
    """Return the error of a trial that failed for good; this unpickles ``error.pkl``.

    A trial that failed and was tried again with success has none. Where the exception cannot be
    loaded, for example because its class is not importable here, the text of ``error.txt`` counts.
    """
    logged = any(
        os.path.isfile(os.path.join(trial_dir, name)) for name in (ERROR_PICKLE, ERROR_TEXT)
    )
    return None if not logged or _ended_well(trial_dir) else _logged_error(trial_dir)


def _logged_error(trial_dir: str) -> Exception | str | None:
    """Return the last error that a trial's directory has, whether the trial got over it or not."""
    pickled = os.path.join(trial_dir, ERROR_PICKLE)
    text = os.path.join(trial_dir, ERROR_TEXT)
    has_text = os.path.isfile(text)
    if os.path.isfile(pickled):
        try:
            with open(pickled, "rb") as file:
                error = pickle.load(file)
        except Exception as problem:  # noqa: BLE001 - a pickle may raise anything; the text stays
            log.warning("%s cannot be loaded (%r); using %s", pickled, problem, ERROR_TEXT)
        else:
            if isinstance(error, Exception):
                return error
    if not has_text:
        return None
    with open(text, encoding="utf-8", errors="replace") as file:
        return file.read()


def _ended_well(trial_dir: str) -> bool:
    """Whether the journal says that the trial of a directory has ended without an error."""
    experiment_path = _experiment_above(trial_dir)
    if experiment_path is None:
        return False
    from milepost.journal import rebuild

    directory = os.path.relpath(trial_dir, experiment_path)
    return any(
        trial.directory == directory and trial.status == "TERMINATED"
        for trial in rebuild.image(experiment_path).trials.values()
    )


def _experiment_above(path: str) -> str | None:
    from milepost.journal.experiment import is_experiment

    parent = path
    while not is_experiment(parent):
        if parent == os.path.dirname(parent):
            return None
        parent = os.path.dirname(parent)
    return parent


def result_from_path(
    cls: type[R], path: str | os.PathLike[str], storage_filesystem: Any | None
) -> R:
    """See :meth:`Result.from_path`."""
    from milepost.api import uri
    from milepost.checkpoint.handle import Checkpoint

    trial_dir = _local(path, storage_filesystem, uri.resolve)
    if not os.path.isdir(trial_dir):
        raise RuntimeError(f"There is no trial directory {trial_dir}.")
    failed_early = os.path.isfile(os.path.join(trial_dir, ERROR_TEXT))
    if not failed_early and not rows.has_rows(trial_dir):
        raise RuntimeError(
            f"{trial_dir} holds no results: it has neither {rows.ROWS_FILE} nor {rows.TABLE_FILE}. "
            "A trial's directory is meant, the one that has params.json, not the experiment's."
        )
    metrics = rows.last_row(trial_dir) or {}
    config = metrics.get("config")
    found = checkpoints(trial_dir)
    kept = [
        (
            Checkpoint.from_directory(each.path),
            each.row if config is None else {**each.row, "config": config},
        )
        for each in found
    ]
    return cls(
        metrics=_with_validation(metrics, found),
        checkpoint=kept[-1][0] if kept else None,
        error=Deferred(load_error, trial_dir),
        path=trial_dir,
        metrics_dataframe=Deferred(rows.frame, trial_dir),
        best_checkpoints=kept,
        _storage_filesystem=storage_filesystem,
    )


def _with_validation(metrics: dict[str, Any], found: list[Committed]) -> dict[str, Any]:
    """The last row, with the metrics of its checkpoint's validation."""
    from milepost.storage import codec

    name = metrics.get(CHECKPOINT_DIR_NAME)
    for each in found:
        if each.outcome is not None and os.path.basename(each.path) == name:
            return {**metrics, **codec.preview(each.outcome.metrics)}
    return metrics


# --- an experiment's directory ----------------------------------------------------------------


def experiment_directory(path: str | os.PathLike[str], storage_filesystem: Any | None) -> str:
    """Return the experiment's directory for its path or that of a file in it.

    Raises:
        ValueError: there is no experiment.
    """
    from milepost.api import uri
    from milepost.journal.experiment import is_experiment

    directory = _local(path, storage_filesystem, uri.resolve)
    for candidate in (directory, os.path.dirname(directory)):
        if is_experiment(candidate):
            return candidate
    raise ValueError(
        f"there is no experiment in {directory}: it has no .milepost/experiment.json. Give the "
        "directory that has the trials' directories in it"
    )


def stored_records(experiment_path: str) -> Sequence[StoredTrial]:
    """Return the trials of an experiment as its journal tells them, in order of creation.

    Trials that were restarted as others are not among them.

    Where the journal is damaged, what is left of it and the trials' files count, with a warning.

    Raises:
        JournalError: the journal cannot be read.
    """
    from milepost.journal import rebuild
    from milepost.storage import codec

    image = rebuild.image(experiment_path)
    setup = codec.preview(image.setup) if image.setup is not None else {}
    keeping = (setup.get("run_config") or {}).get("checkpoint_config") or {}
    name = str(setup.get("trainable", ""))
    directories = {
        trial.trial: names.trial_directory(experiment_path, trial.directory)
        for trial in image.trials.values()
    }
    return [
        StoredTrial(experiment_path, trial, keeping, name, directories)
        for trial in image.trials.values()
        if trial.restarted_by is None
    ]


class StoredTrial:
    """One trial as the journal and its directory tell it.

    It has what :class:`milepost.control.outcome.TrialFacts` has. Values that JSON cannot hold
    show as their repr.

    Args:
        experiment_path: where the trial's directory is.
        image: what the journal knows of the trial.
        keeping: the fields of the run's ``CheckpointConfig``.
        trainable_name: name of the function or class.
        directories: of all trials by id, absolute.
    """

    def __init__(
        self,
        experiment_path: str,
        image: TrialImage,
        keeping: dict[str, Any],
        trainable_name: str = "",
        directories: dict[str, str] | None = None,
    ) -> None:
        self.trainable_name = trainable_name
        self._directories = directories or {}
        self._image = image
        self._keeping = keeping
        self.trial_id = image.trial
        self.name = image.name
        self.tag = image.tag
        self.status = image.status
        self.failures = image.failures
        self.experiment_path = experiment_path
        self.directory = names.trial_directory(experiment_path, image.directory)
        self.start_time = image.first_launched or None
        self.last_time = image.changed

    @cached_property
    def resources(self) -> PlacementGroupFactory | None:
        """What it asks for."""
        from milepost.api.resources import PlacementGroupFactory
        from milepost.storage import codec

        bundles = codec.preview(self._image.resources)
        return PlacementGroupFactory(bundles) if bundles else None

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its configuration."""
        return self._decoded(self._image.config)

    @cached_property
    def evaluated(self) -> dict[str, Any]:
        """The searched variables with flat names."""
        return self._decoded(self._image.evaluated)

    @cached_property
    def last_row(self) -> dict[str, Any]:
        """The last reported row with ``config``, or the trial's id alone."""
        if self._image.row is None:
            return {"trial_id": self.trial_id}
        row = self._decoded(self._image.row)
        if self.status == "TERMINATED":  # how a function ends is known after its last row
            row["done"] = True
        return {**row, "config": self.config, "experiment_tag": self.tag}

    @cached_property
    def checkpoints(self) -> list[Kept]:
        """The kept checkpoints, the best one last."""
        kept = ranked(
            self.directory,
            self._keeping.get("checkpoint_score_attribute"),
            self._keeping.get("checkpoint_score_order"),
            without=self._image.deleting,
        )
        return [(each.index, each.path, {**each.row, "config": self.config}) for each in kept]

    @property
    def latest(self) -> Kept | None:
        """The newest checkpoint; another trial's if it went on from that and has none since."""
        fork = self._image.fork
        if fork is not None and fork.donor in self._directories:
            kept = checkpoints(self._directories[fork.donor])
            for each in kept:
                if each.index == fork.index:
                    ours = {"trial_id": self.trial_id, "config": self.config}
                    return each.index, each.path, {**each.row, **ours}
        return max(self.checkpoints, key=lambda kept: kept[0], default=None)

    @property
    def num_to_keep(self) -> int | None:
        """How many checkpoints count as the best ones; None for all."""
        return self._keeping.get("num_to_keep")

    @property
    def error(self) -> Exception | str | None:
        """Why it failed; this unpickles the exception."""
        if self.status == "TERMINATED":
            return None
        failure = self._image.failure
        return _logged_error(self.directory) or (failure.message if failure else None)

    @cached_property
    def analysis(self) -> Analysis:
        """What its numeric metrics amount to; from its last row alone where no rows are logged."""
        from milepost.control.metrics import RunningMetrics

        metrics = RunningMetrics()
        for row in rows.rows(self.directory):
            metrics.add(row)
        if not metrics.analysis() and self._image.row is not None:
            metrics.add(self.last_row)
        return metrics.analysis()

    @staticmethod
    def _decoded(raw: Any) -> dict[str, Any]:
        from milepost.storage import codec

        value = codec.preview(raw)
        return value if isinstance(value, dict) else {}


def _local(path: str | os.PathLike[str], storage_filesystem: Any | None, resolve: Any) -> str:
    """Return the absolute local path for a path of a user."""
    if storage_filesystem is not None:
        from milepost.storage.filesystem import require_local

        require_local(storage_filesystem)
    resolved: str = resolve(path)
    return resolved
