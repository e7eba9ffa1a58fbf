"""The state of a run whose journal is damaged: from what is left of it and the trials' files.

A checkpoint's manifest has its row, ``result.json`` has all rows, ``params.json`` the config and
``error.txt`` the failures. So most of what a damaged or shortened journal has lost can be told
from the trials' directories. What it amounts to is written down as records, in the order in which
things happened, so that whoever reads them need not know that they were put together afterwards.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from milepost.api.fields import DONE
from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import validation
from milepost.checkpoint.manifest import Manifest
from milepost.checkpoint.tree import new_hasher
from milepost.errors import JournalCorruptError
from milepost.journal import evidence, replay, salvage
from milepost.journal import experiment as experiments
from milepost.journal import records as rec
from milepost.journal.chain import START, Mark
from milepost.journal.evidence import FileRow, Key, PutObject, TrialDirectory, key_in
from milepost.journal.experiment import Experiment
from milepost.journal.image import RunImage, TrialImage, apply
from milepost.journal.salvage import Salvage
from milepost.storage import codec

log = logging.getLogger("milepost.journal")

_ID: Final = re.compile(r"([0-9a-f]{5}_\d{5}|[0-9a-f]{8})(?:_|$)")  # as searchers make them
_NUMBER: Final = re.compile(r"_(\d+)$")
_CONTINUE: Final = "continue"
_STOP: Final = "stop"


class Rebuilt(NamedTuple):
    """A run that was put together from what is left.

    Attributes:
        image: its state.
        mark: the end of the snapshot that ``records`` go on from.
        records: everything since then.
        summary: what was found and what was not, for people.
    """

    image: RunImage
    mark: Mark
    records: list[rec.AnyRecord]
    summary: str


def image(experiment_path: str) -> RunImage:
    """Return the state of a run, for reading, also when its journal is damaged or gone.

    Damage is a warning: the state is then what :func:`rebuilt` makes of the rest. Nothing is
    changed; a restore repairs the journal.

    Raises:
        JournalError: a newer version wrote the journal.
    """
    try:
        state = replay.image(experiment_path)
        if state.seq:
            return state
        problem = f"The journal of {experiment_path} is empty."
    except JournalCorruptError as error:
        problem = str(error)
    except FileNotFoundError:
        problem = f"The journal of {experiment_path} is gone."
    found = rebuilt(experiments.open(experiment_path))
    if found.records:
        log.warning("%s What is left is shown: %s", problem, found.summary)
    return found.image


def rebuilt(experiment: Experiment, put_object: PutObject | None = None) -> Rebuilt:
    """Put a run together from what can be read of its journal and from its trials' files.

    Args:
        experiment: whose journal is damaged.
        put_object: stores values that are taken from ``params.pkl``; without it nothing is
            unpickled. Nothing else is changed.

    Raises:
        JournalError: a newer version wrote some of the journal.
        JournalCorruptError: it holds whole records that are not understood.
    """
    left = salvage.read(experiment)
    base = left.base.seq
    left.base.uuid = experiment.uuid
    known = {trial.directory for trial in left.base.trials.values()}
    known.update(record.directory for _, record in left.records if isinstance(record, rec.Created))
    work = _Rebuilding(experiment, left.base, known, put_object)
    for _, record in left.records:
        work.take(record)
    work.find_trials()
    for trial in list(work.image.trials.values()):
        work.complete(trial)
    work.forget_search(base)
    return Rebuilt(work.image, left.mark, work.records, _summary(left, work))


def missing(experiment: Experiment, known: RunImage, put_object: PutObject) -> list[rec.AnyRecord]:
    """Return what a whole journal lacks that the trials' files have: its end was cut off.

    That does not happen when a process dies. Of trials that the journal knows only rows are
    taken, each with the checkpoint that was saved with it: whether that is committed, and whether
    a trial whose last row is done has ended, is for the restore to find out, as after any death.

    Args:
        experiment: the experiment.
        known: what the journal amounts to; it is brought forward by the records.
        put_object: stores values that are taken from ``params.pkl``.
    """
    directories = {trial.directory for trial in known.trials.values()}
    work = _Rebuilding(experiment, known, directories, put_object)
    before = list(known.trials.values())
    for trial in work.find_trials():
        work.complete(trial)
    for trial in before:
        if not trial.is_finished and work.directory(trial).row_count > trial.rows:
            work.add_saves(trial)
            work.add_rows(trial)
    return work.records


class _Rebuilding:
    """A state, and the records that have led to it from where it began."""

    def __init__(
        self,
        experiment: Experiment,
        state: RunImage,
        known_directories: Iterable[str],
        put_object: PutObject | None,
    ) -> None:
        self.image = state
        self.records: list[rec.AnyRecord] = []
        self.dropped = 0
        self.found: list[str] = []
        self.rows_found = 0
        self.adopted = 0
        self._experiment = experiment
        self._put_object = put_object
        self._directories: dict[str, TrialDirectory] = {}
        self._saved_with: dict[str, dict[Key | None, list[Manifest]]] = {}
        self._places: dict[str, int] = {}
        known = set(known_directories)
        unknown = (name for name in evidence.directories(experiment.path) if name not in known)
        found = (TrialDirectory(experiment.path, name) for name in unknown)
        self._unknown = {each.name: each for each in found if not self._is_anothers(each)}

    def _is_anothers(self, directory: TrialDirectory) -> bool:
        """Whether it is of another experiment's trial, and somebody has put it there."""
        runs = {manifest.run for _, manifest in directory.manifests}
        return bool(runs) and self._experiment.uuid not in runs

    # --- what the journal has ------------------------------------------------------------------

    def take(self, record: rec.AnyRecord) -> None:
        """Go on with a record that was read, after what is missing before it."""
        if isinstance(record, rec.Continued):
            return
        if isinstance(record, rec.Created):
            if record.restarts is not None and record.restarts not in self.image.trials:
                record = msgspec.structs.replace(record, restarts=None)
            if record.trial not in self.image.trials:
                self._add(record)
            return
        trial_id = getattr(record, "trial", None)
        if trial_id is not None:
            trial = self.image.trials.get(trial_id) or self._recreate(trial_id)
            if trial is None:
                self.dropped += 1
                return
            if not isinstance(record, rec.Launched):
                self._launch(trial, getattr(record, "attempt", -1))
            if isinstance(record, rec.Reported):
                self._add_rows_before(trial, record)
        self._add(record)

    # --- what the files have -------------------------------------------------------------------

    def find_trials(self) -> list[TrialImage]:
        """Add the trials that only their directories know."""
        found = []
        for directory in list(self._unknown.values()):
            trial_id = directory.trial_id or self._named(directory)
            if trial_id is not None and trial_id not in self.image.trials:
                found.append(self._create(trial_id, directory))
        return found

    def complete(self, trial: TrialImage) -> None:
        """Add all that a trial's files have and the records have not."""
        self.add_rows(trial)
        for manifest in self._manifests(trial):
            self._adopt(trial, manifest)
        self._add_failures(trial)
        self.end_if_done(trial)

    def add_saves(self, trial: TrialImage) -> None:
        """Add the checkpoints that were saved with a trial's last known row.

        To be done before rows are added: afterwards these numbers are below others, like those
        that were given up.
        """
        known = trial.committed.keys() | trial.captured.keys() | trial.deleting.keys()
        for manifest in self._saved(trial).get(key_in(trial.stored_row), []):
            if manifest.index not in known | trial.lost.keys():
                self._save(trial, manifest)

    def add_rows(self, trial: TrialImage) -> None:
        """Add the rows of a trial that come after all that are known."""
        directory = self.directory(trial)
        if directory.row_count > trial.rows:
            for row in directory.rows[self._places.get(trial.trial, trial.rows) :]:
                self._report(trial, row, max(row.at, self.image.changed))

    def end_if_done(self, trial: TrialImage) -> None:
        """Add that a trial has ended, if its last row says so."""
        if trial.is_finished or trial.row is None:
            return
        row = codec.preview(trial.row)
        if isinstance(row, dict) and row.get(DONE) is True:
            self._add(rec.Changed(at=self.image.changed, trial=trial.trial, status="TERMINATED"))

    def forget_search(self, base: int) -> None:
        """Add that no saved search counts, if what happened up to the base since is not there."""
        if self.image.searched is not None and self.image.searched_seq < base:
            self._add(rec.Searched(at=self.image.changed, state=""))

    def directory(self, trial: TrialImage) -> TrialDirectory:
        """The files of a trial."""
        found = self._directories.get(trial.directory)
        if found is None:
            found = TrialDirectory(self._experiment.path, trial.directory)
            self._directories[trial.directory] = found
        return found

    # --- records -------------------------------------------------------------------------------

    def _add(self, record: rec.AnyRecord) -> None:
        apply(self.image, self.image.seq + 1, record)
        self.records.append(record)

    def _add_rows_before(self, trial: TrialImage, record: rec.Reported) -> None:
        """Add the rows that the file has between the last known one and this."""
        rows = self.directory(trial).rows
        begin = self._places.get(trial.trial, trial.rows)
        place = _place(rows, begin, record)
        if place is None:
            return  # the file is behind, or not there
        for row in rows[begin:place]:
            # No time passes: the records around it have the run's time.
            self._report(trial, row, self.image.changed)
        self._places[trial.trial] = place + 1

    def _report(self, trial: TrialImage, row: FileRow, at: float) -> None:
        saved = self._saved(trial).get(row.key, [])
        self._launch(trial, saved[0].attempt if saved else 0)
        self.rows_found += 1
        self._add(
            rec.Reported(
                at=at,
                trial=trial.trial,
                attempt=trial.attempts - 1,
                iteration=row.iteration,
                row=msgspec.Raw(codec.encode(row.values)),
                # Of the last row of a stopped trial a searcher was told at its end only.
                action=_STOP if row.values.get(DONE) is True else _CONTINUE,
                checkpoint=saved[0].index if saved else None,
            )
        )
        for manifest in saved[1:]:
            self._save(trial, manifest)

    def _save(self, trial: TrialImage, manifest: Manifest) -> None:
        self._launch(trial, manifest.attempt)
        self._add(
            rec.Saving(
                at=self.image.changed,
                trial=trial.trial,
                attempt=manifest.attempt,
                index=manifest.index,
            )
        )

    def _manifests(self, trial: TrialImage) -> list[Manifest]:
        """Those of the trial's own checkpoints, oldest first."""
        return [
            manifest
            for _, manifest in self.directory(trial).manifests
            if (manifest.run, manifest.trial) == (self._experiment.uuid, trial.trial)
        ]

    def _saved(self, trial: TrialImage) -> dict[Key | None, list[Manifest]]:
        """The checkpoints that were saved with each row, oldest first."""
        found = self._saved_with.get(trial.trial)
        if found is None:
            found = self._saved_with[trial.trial] = {}
            for manifest in self._manifests(trial):
                if (key := key_in(manifest.metrics)) is not None:
                    found.setdefault(key, []).append(manifest)
        return found

    def _adopt(self, trial: TrialImage, manifest: Manifest) -> None:
        index = manifest.index
        if index in trial.committed:
            self._add_outcome(trial, manifest)
            return
        self._launch(trial, manifest.attempt)
        self.adopted += 1
        if manifest.iteration > trial.iteration:
            self._add(
                rec.Reported(
                    at=max(manifest.times.captured, self.image.changed),
                    trial=trial.trial,
                    attempt=manifest.attempt,
                    iteration=manifest.iteration,
                    row=manifest.metrics,
                    action=_CONTINUE,
                    checkpoint=index,
                )
            )
        hasher = new_hasher()
        hasher.update(manifests.to_bytes(manifest))
        self._add(
            rec.Committed(
                at=max(manifest.times.committed, self.image.changed),
                trial=trial.trial,
                attempt=manifest.attempt,
                index=index,
                iteration=manifest.iteration,
                nbytes=manifest.nbytes,
                digest=hasher.hexdigest(),
                validation=manifest.validation,
                dir_name=manifest.dir_name,
            )
        )
        self._add_outcome(trial, manifest)

    def _add_outcome(self, trial: TrialImage, manifest: Manifest) -> None:
        """Add what came of a checkpoint's validation, which is beside its manifest."""
        checkpoint = trial.committed.get(manifest.index)
        if checkpoint is None or checkpoint.validation is None or checkpoint.outcome is not None:
            return
        path = os.path.join(self.directory(trial).path, manifest.directory)
        outcome = validation.read(path, manifest)
        if outcome is not None:
            self._add(
                rec.Validated(
                    at=self.image.changed,
                    trial=trial.trial,
                    index=manifest.index,
                    status=outcome.status,
                    metrics=outcome.metrics,
                    reason=outcome.reason,
                )
            )

    def _add_failures(self, trial: TrialImage) -> None:
        for number, text in self.directory(trial).failures:
            if number <= trial.failures:
                continue
            self._launch(trial, 0)
            kind, _, message = text.rstrip().rpartition("\n")[2].partition(": ")
            self._add(
                rec.Failure(
                    at=self.image.changed,
                    trial=trial.trial,
                    attempt=trial.attempts - 1,
                    failures=number,
                    kind=kind,
                    message=message,
                    traceback=text,
                    retried=True,
                )
            )

    def _launch(self, trial: TrialImage, attempt: int) -> None:
        """Add that a trial was started, if that is not known of an attempt."""
        if attempt >= trial.attempts:
            self._add(
                rec.Launched(
                    at=self.image.changed,
                    trial=trial.trial,
                    attempt=attempt,
                    attempt_id="",
                    first_index=trial.next_index,
                )
            )

    # --- trials --------------------------------------------------------------------------------

    def _recreate(self, trial_id: str) -> TrialImage | None:
        """Add a trial of which there are records, but not the one of its creation."""
        by_content = [d for d in self._unknown.values() if d.trial_id == trial_id]
        by_name = [d for d in self._unknown.values() if d.trial_id is None and trial_id in d.name]
        found = by_content or by_name
        return self._create(trial_id, found[0]) if len(found) == 1 else None

    def _named(self, directory: TrialDirectory) -> str | None:
        """The id in the name of a directory of a trial that has not reported yet."""
        if not directory.is_of_a_trial:
            return None
        found = _ID.match(directory.name.removeprefix(f"{self._experiment.trainable}_"))
        return found[1] if found is not None else None

    def _create(self, trial_id: str, directory: TrialDirectory) -> TrialImage:
        del self._unknown[directory.name]
        self._directories[directory.name] = directory
        config = directory.config(self._put_object)
        tag = directory.rows[-1].values.get("experiment_tag") if directory.rows else None
        others = self.image.trials.values()
        resources = next((o.resources for o in others), msgspec.Raw(b'[{"CPU":1.0}]'))
        if config is None:
            log.warning(
                "%s has no config that can be read; trial %s goes on with an empty one",
                directory.path,
                trial_id,
            )
            config = msgspec.Raw(b"{}")
        self.found.append(trial_id)
        self._add(
            rec.Created(
                at=self.image.changed,
                trial=trial_id,
                name=_name(directory.name, trial_id),
                directory=directory.name,
                tag=tag if isinstance(tag, str) else "",
                order=self._order(trial_id),
                config=config,
                evaluated=_evaluated(config, others),
                resources=resources,
            )
        )
        return self.image.trials[trial_id]

    def _order(self, trial_id: str) -> int:
        taken = {trial.order for trial in self.image.trials.values()}
        number = _NUMBER.search(trial_id)
        if number is not None and int(number[1]) not in taken:
            return int(number[1])
        return max(taken, default=-1) + 1


def _place(rows: list[FileRow], begin: int, record: rec.Reported) -> int | None:
    """Where in a file a reported row is."""
    key = key_in(record.row)
    for place in range(begin, len(rows)):
        if rows[place].key == key:
            return place
    return None


def _name(directory: str, trial_id: str) -> str:
    """The name of a trial, with which its directory's begins."""
    head, found, _ = directory.partition(trial_id)
    return head + found if found else trial_id


def _evaluated(config: msgspec.Raw, others: Iterable[TrialImage]) -> msgspec.Raw:
    """The searched variables of a trial: those that other trials have."""
    values: dict[str, Any] = msgspec.json.decode(config)
    names: Iterable[str] = next((msgspec.json.decode(other.evaluated) for other in others), ())
    found: dict[str, Any] = {}
    if "$" in values:  # not a plain dict
        return msgspec.Raw(b"{}")
    for name in names:
        value: Any = values
        for part in name.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return msgspec.Raw(msgspec.json.encode(found))


def _summary(left: Salvage, work: _Rebuilding) -> str:
    state = work.image
    parts = [
        f"{len(left.records)} records could be read"
        + (" after a good snapshot" if left.mark != START else "")
        + (f", {left.mended} of them after one flipped bit was put right" if left.mended else ""),
        f"{left.lost} are lost" if left.lost else "none is lost",
    ]
    if work.dropped:
        parts.append(f"{work.dropped} are about trials of which nothing else is known")
    if work.found:
        parts.append(f"found by their directories alone: trials {', '.join(work.found)}")
    if work.rows_found:
        parts.append(f"{work.rows_found} rows were taken from result files")
    if work.adopted:
        parts.append(f"{work.adopted} checkpoints were found by their manifests")
    finished = sum(trial.is_finished for trial in state.trials.values())
    parts.append(f"there are {len(state.trials)} trials, of which {finished} have ended")
    return "; ".join(parts) + "."
