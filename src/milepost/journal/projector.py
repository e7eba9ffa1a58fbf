"""Turning the records of a journal into result files."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec

from milepost.checkpoint.collect import sweep
from milepost.journal import records as rec
from milepost.journal import replay
from milepost.journal.files import failures
from milepost.journal.files.policy import PolicyFiles
from milepost.journal.files.rows import Row
from milepost.journal.files.trial import TrialFiles
from milepost.journal.image import RunImage, TrialImage
from milepost.journal.objects import Objects
from milepost.storage import names

KINDS: Final = frozenset({"json", "csv", "tensorboard"})


class Projector:
    """Keeps the result files of all trials in step with the records it is given.

    Memory is needed for trials that are not finished only.

    Args:
        experiment_path: the experiment's directory.
        kinds: which files are wanted, of :data:`KINDS`; ``error.txt`` always is.
        notice: is told of what cannot be shown.
    """

    def __init__(
        self, experiment_path: str, kinds: Collection[str], notice: Callable[[str], None]
    ) -> None:
        self._path = experiment_path
        self._kinds = kinds
        self._notice = notice
        self._objects = Objects(experiment_path)
        self._created: dict[str, rec.Created] = {}
        self._files: dict[str, TrialFiles] = {}
        self._fresh: dict[str, TrialFiles] = {}
        self._policy = PolicyFiles(experiment_path)

    def adopt(self, image: RunImage, settled: RunImage | None = None) -> None:
        """Bring the files in line with the state of a run, whatever happened to them.

        Rows that the journal does not know are cut, rows that a file does not have are added.

        Args:
            image: the state.
            settled: an earlier state that the files are known to show; what has not changed since
                is not looked at, so that this takes no longer for a longer history.
        """
        short: dict[str, int] = {}
        self._policy.adopt(image.exploited)
        for trial in image.trials.values():
            self._created[trial.trial] = _as_created(trial)
            before = settled.trials.get(trial.trial) if settled else None
            if _is_shown_differently(trial, before):
                files = self._files_of(trial.trial)
                sweep(files.directory)  # drafts of a writer that was killed
                files.show_config()
            if _has_more(trial, before):
                files = self._files_of(trial.trial)
                there = files.keep(trial.rows)
                if there < trial.rows or failures.last_number(files.directory) < trial.failures:
                    short[trial.trial] = there
            if trial.trial not in short:
                self._files.pop(trial.trial, None)
        if short:
            self._complete(image, short)
        for trial in image.trials.values():
            if trial.status == "TERMINATED":  # one that failed may be tried again
                self._forget(trial.trial)

    def apply(self, record: rec.AnyRecord) -> None:
        """Take one record; rows reach their files with :meth:`flush`."""
        handle = _HANDLERS.get(type(record))
        if handle is not None:
            handle(self, record)

    def flush(self) -> None:
        """Write all rows that were taken."""
        for files in self._fresh.values():
            files.flush()
        self._fresh.clear()

    def _complete(self, image: RunImage, short: dict[str, int]) -> None:
        """Add what is missing in the files of some trials.

        Args:
            image: the state to be reached.
            short: trial -> rows that its files have.
        """
        rows: dict[str, list[rec.Reported]] = {trial: [] for trial in short}
        failed: dict[str, list[rec.Failure]] = {trial: [] for trial in short}
        for seq, record in replay.records(self._path):
            if seq > image.seq:
                break
            if isinstance(record, rec.Reported) and record.trial in short:
                rows[record.trial].append(record)
            elif isinstance(record, rec.Failure) and record.trial in short:
                failed[record.trial].append(record)
        for trial, there in short.items():
            files = self._files_of(trial)
            first = image.trials[trial].rows - len(rows[trial])
            if there < first:
                self._notice(
                    f"{files.directory}: rows {there + 1} to {first} are in no result file and "
                    "have left the journal; later rows are complete"
                )
            files.complete(first, [self._row(record) for record in rows[trial]])
            known = failures.last_number(files.directory)
            for failure in failed[trial]:
                if failure.failures > known:
                    self._failure(failure)
            del self._files[trial]

    def _files_of(self, trial: str) -> TrialFiles:
        files = self._files.get(trial)
        if files is None:
            created = self._created_of(trial)
            files = self._files[trial] = TrialFiles(
                names.trial_directory(self._path, created.directory),
                created.config,
                created.evaluated,
                self._kinds,
                self._objects.get,
                self._notice,
            )
        return files

    def _created_of(self, trial: str) -> rec.Created:
        created = self._created.get(trial)
        if created is None:  # it had ended, and goes on after all
            created = _as_created(replay.image(self._path).trials[trial])
            self._created[trial] = created
        return created

    def _forget(self, trial: str) -> None:
        self._created.pop(trial, None)
        self._files.pop(trial, None)
        self._fresh.pop(trial, None)

    def _create(self, record: rec.Created) -> None:
        self._created[record.trial] = _detached(record)

    def _launched(self, record: rec.Launched) -> None:
        self._files_of(record.trial).begin()

    def _reported(self, record: rec.Reported) -> None:
        files = self._files_of(record.trial)
        files.add(self._row(record))
        self._fresh[record.trial] = files

    def _row(self, record: rec.Reported) -> Row:
        return Row(record.row, record.at, self._objects.get)

    def _exploited(self, record: rec.Exploited) -> None:
        self._reconfigured(record)
        self._policy.add(record)

    def _reconfigured(self, record: rec.Reconfigured | rec.Exploited) -> None:
        config = record.config.copy()
        created = self._created_of(record.trial)
        self._created[record.trial] = _with_config(created, config)
        if record.trial in self._files:
            self._files[record.trial].reconfigure(config)

    def _failure(self, record: rec.Failure) -> None:
        text = record.traceback or f"{record.kind}: {record.message}"
        files = self._files_of(record.trial)
        files.flush()
        files.fail(record.failures, record.at, text, record.error)

    def _changed(self, record: rec.Changed) -> None:
        if record.status in ("TERMINATED", "ERROR") and record.trial in self._created:
            files = self._files.get(record.trial)
            if files is not None:
                files.end(record.at)
            self._forget(record.trial)


_HANDLERS: Final[dict[type, Callable[[Projector, Any], None]]] = {
    rec.Created: Projector._create,
    rec.Launched: Projector._launched,
    rec.Reported: Projector._reported,
    rec.Reconfigured: Projector._reconfigured,
    rec.Exploited: Projector._exploited,
    rec.Failure: Projector._failure,
    rec.Changed: Projector._changed,
}


def _is_shown_differently(trial: TrialImage, settled: TrialImage | None) -> bool:
    """Whether the trial was started, or its config changed, since the settled state."""
    if settled is None or not settled.attempts:
        return trial.attempts > 0
    return bytes(trial.config) != bytes(settled.config)


def _has_more(trial: TrialImage, settled: TrialImage | None) -> bool:
    """Whether there are rows or failures since the settled state."""
    if settled is None:
        return trial.rows + trial.failures > 0
    return (trial.rows, trial.failures) != (settled.rows, settled.failures)


def _as_created(trial: TrialImage) -> rec.Created:
    return rec.Created(
        at=trial.changed,
        trial=trial.trial,
        name=trial.name,
        directory=trial.directory,
        tag=trial.tag,
        order=trial.order,
        config=trial.config,
        evaluated=trial.evaluated,
        resources=trial.resources,
    )


def _detached(record: rec.Created) -> rec.Created:
    """The record without a hold on the line that it was read from."""
    return _with_config(record, record.config.copy())


def _with_config(record: rec.Created, config: msgspec.Raw) -> rec.Created:
    return msgspec.structs.replace(
        record,
        config=config,
        evaluated=record.evaluated.copy(),
        resources=record.resources.copy(),
    )
