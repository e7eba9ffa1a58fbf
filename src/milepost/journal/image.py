"""The state of a run as its records tell it: a pure fold, without I/O and clocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from milepost.checkpoint.manifest import DirName, checkpoint_name
from milepost.checkpoint.validation import Outcome, Task, merged
from milepost.journal import records as rec

NOTHING: Final = msgspec.Raw(b"null")
"""Stands for a value that is not there; msgspec cannot decode ``Raw | None``."""


class CheckpointImage(msgspec.Struct, kw_only=True):
    """One checkpoint of a trial.

    Attributes:
        index: its number.
        attempt: which start of the trial captured it.
        iteration: ``training_iteration`` of its row.
        stored_row: see :attr:`row`; :data:`NOTHING` for None.
        nbytes: bytes of its files, 0 before the commit.
        digest: of its manifest, "" before the commit.
        validation: how it is to be validated, if it is; known from the commit.
        outcome: what came of that; None while it is pending.
        dir_name: of its directory; unset for ``checkpoint_`` and its number.
    """

    index: int
    attempt: int
    iteration: int = 0
    stored_row: msgspec.Raw = NOTHING
    nbytes: int = 0
    digest: str = ""
    dir_name: DirName = msgspec.UNSET
    validation: Task | None = None
    outcome: Outcome | None = None

    @property
    def awaited(self) -> Task | None:
        """How it is to be validated, as long as that is pending."""
        return self.validation if self.outcome is None else None

    @property
    def row(self) -> msgspec.Raw | None:
        """The row it was reported with, codec JSON without ``config``.

        None when the journal never saw the report; its manifest has the row.
        """
        return _there(self.stored_row)


class TrialImage(msgspec.Struct, kw_only=True):
    """One trial.

    Attributes:
        config: codec JSON; the newest one when a scheduler has changed it.
        stored_first: see :attr:`first_config`; :data:`NOTHING` before the first exploit.
        exploits: how it went on from other trials' checkpoints, oldest first.
        evaluated: the searched variables, codec JSON.
        resources: codec JSON.
        status: PENDING, RUNNING, PAUSED, TERMINATED or ERROR.
        cut_by: what stopped the whole run and ended the trial with it, "budget" or "stopper"; ""
            for one that has not ended or came to an end of its own.
        cut_from: its status before that.
        stored_row: see :attr:`row`; :data:`NOTHING` for None.
        rows: how many rows were reported in all attempts.
        iteration: ``training_iteration`` of the last row.
        action: what was decided about the last row, until that is done: "continue", "stop" or
            "pause"; "" after that. A trial that was cut keeps it.
        by_condition: the run's stop condition decided that.
        attempts: how often it was started.
        next_index: above every checkpoint number that the journal knows.
        failures: how many attempts failed.
        failure: the last failure.
        given_up: that was the end of it, but its status does not say so yet.
        captured: checkpoints that were captured and are neither committed nor lost.
        committed: checkpoints that exist.
        deleting: numbers of those that may be deleted, with the reason; they may still exist.
        lost: numbers of captured checkpoints that were never committed, or were found damaged,
            with the reason.
        start_from: what the last attempt started from.
        first_launched: when it first started, seconds since the epoch; 0 before.
        changed: time of its last record.
        restarted_by: the trial that does it once more; results show that one instead.
    """

    trial: str
    name: str
    directory: str
    tag: str
    order: int
    config: msgspec.Raw
    evaluated: msgspec.Raw
    resources: msgspec.Raw
    status: str = "PENDING"
    cut_by: str = ""
    cut_from: str = ""
    stored_row: msgspec.Raw = NOTHING
    rows: int = 0
    iteration: int = 0
    action: str = ""
    by_condition: bool = False
    attempts: int = 0
    attempt_id: str = ""
    next_index: int = 0
    failures: int = 0
    failure: rec.Failure | None = None
    given_up: bool = False
    captured: dict[int, CheckpointImage] = {}
    committed: dict[int, CheckpointImage] = {}
    deleting: dict[int, str] = {}
    lost: dict[int, str] = {}
    start_from: str | None = None
    first_launched: float = 0.0
    changed: float = 0.0
    restarted_by: str | None = None
    stored_first: msgspec.Raw = NOTHING
    exploits: list[rec.Exploited] = []

    @property
    def first_config(self) -> msgspec.Raw:
        """The config that it had until it first went on from another checkpoint, codec JSON."""
        return self.config if not self.exploits else self.stored_first

    @property
    def fork(self) -> rec.Exploited | None:
        """What it last went on from, unless it has a checkpoint of its own since."""
        last = self.exploits[-1] if self.exploits else None
        if last is None or any(index >= last.first_index for index in self.committed):
            return None
        return last

    @property
    def row(self) -> msgspec.Raw | None:
        """The last reported row, codec JSON without ``config``; None before the first."""
        return _there(self.stored_row)

    def checkpoint_directory(self, index: int) -> str:
        """The name of a checkpoint's directory in the trial's; the usual one if it is not known."""
        known = self.committed.get(index)
        return checkpoint_name(index, msgspec.UNSET if known is None else known.dir_name)

    @property
    def is_finished(self) -> bool:
        """Whether the trial will not run again by itself."""
        return self.status in ("TERMINATED", "ERROR")


class RunImage(msgspec.Struct, kw_only=True):
    """A run: what all of its records amount to.

    Attributes:
        uuid: the experiment's id.
        seq: number of the last record.
        epoch: the last epoch; ``host``, ``pid`` and ``opened`` tell who began it and when.
        stored_setup: see :attr:`setup`; :data:`NOTHING` for None.
        trials: by id, in the order in which they were created.
        searched: digest of the last saved searcher and scheduler state.
        searched_seq: number of the record that says so; what happened since then is in the
            journal's records after it. 0 if nothing was saved.
        saves: how often it was saved.
        saving_s: how long drivers were busy with that, in seconds.
        closed: how the last epoch ended, or None if it did not end in order.
        elapsed_s: seconds that drivers have spent on it, by the times of their records.
        changed: time of the last record.
    """

    uuid: str = ""
    seq: int = 0
    epoch: int = 0
    host: str = ""
    pid: int = 0
    opened: float = 0.0
    stored_setup: msgspec.Raw = NOTHING
    trials: dict[str, TrialImage] = {}
    searched: str | None = None
    searched_seq: int = 0
    saves: int = 0
    saving_s: float = 0.0
    closed: str | None = None
    elapsed_s: float = 0.0
    changed: float = 0.0

    @property
    def exploited(self) -> list[rec.Exploited]:
        """How trials went on from each other's checkpoints, in the order in which they did."""
        found = [record for trial in self.trials.values() for record in trial.exploits]
        return sorted(found, key=lambda record: record.number)

    @property
    def setup(self) -> msgspec.Raw | None:
        """How the run was set up, codec JSON; None before that was recorded."""
        return _there(self.stored_setup)


def _there(value: msgspec.Raw) -> msgspec.Raw | None:
    return None if bytes(value) == b"null" else value


class InconsistentRecordError(Exception):
    """A record does not fit those before it; :mod:`.replay` adds where it is."""


def apply(image: RunImage, seq: int, record: rec.AnyRecord) -> None:
    """Bring ``image`` forward by one record.

    Raises:
        InconsistentRecordError: the record names a trial that was never created.
    """
    if type(record) is not rec.Opened and image.changed:
        image.elapsed_s += max(0.0, record.at - image.changed)
    image.seq = seq
    image.changed = record.at
    trial_id = getattr(record, "trial", None)
    if trial_id is None:
        _OF_RUN[type(record)](image, record)
    elif type(record) is rec.Created:
        _created(image, record)
    else:
        trial = _trial(image, trial_id)
        trial.changed = record.at
        _OF_TRIAL[type(record)](trial, record)


def _trial(image: RunImage, trial_id: str) -> TrialImage:
    trial = image.trials.get(trial_id)
    if trial is None:
        raise InconsistentRecordError(
            f"record {image.seq} is about the trial {trial_id!r}, which was never created"
        )
    return trial


def _opened(image: RunImage, record: rec.Opened) -> None:
    image.uuid, image.epoch = record.uuid, record.epoch
    image.host, image.pid, image.opened = record.host, record.pid, record.at
    image.closed = None


def _continued(image: RunImage, record: rec.Continued) -> None:
    """A new file changes nothing."""


def _planned(image: RunImage, record: rec.Planned) -> None:
    image.stored_setup = record.setup.copy()


def _searched(image: RunImage, record: rec.Searched) -> None:
    image.searched = record.state or None
    image.searched_seq = image.seq
    image.saves += bool(record.state)
    image.saving_s += record.took_s


def _closed(image: RunImage, record: rec.Closed) -> None:
    image.closed = record.outcome


def _created(image: RunImage, record: rec.Created) -> None:
    if record.restarts is not None:
        _trial(image, record.restarts).restarted_by = record.trial
    image.trials[record.trial] = TrialImage(
        trial=record.trial,
        name=record.name,
        directory=record.directory,
        tag=record.tag,
        order=record.order,
        # A Raw keeps the line that it was cut from alive, so copy what is kept.
        config=record.config.copy(),
        evaluated=record.evaluated.copy(),
        resources=record.resources.copy(),
        changed=record.at,
    )


def _launched(trial: TrialImage, record: rec.Launched) -> None:
    trial.attempts = max(trial.attempts, record.attempt + 1)
    trial.attempt_id = record.attempt_id
    trial.next_index = max(trial.next_index, record.first_index)
    trial.start_from = record.checkpoint
    trial.action, trial.given_up = "", False
    if not trial.first_launched:
        trial.first_launched = record.at


def _reported(trial: TrialImage, record: rec.Reported) -> None:
    trial.stored_row = record.row.copy()
    trial.rows += 1
    trial.iteration = record.iteration
    trial.action, trial.by_condition = record.action, record.by_condition
    if record.checkpoint is not None:
        _capture(trial, record.checkpoint, record.attempt)


def _saving(trial: TrialImage, record: rec.Saving) -> None:
    _capture(trial, record.index, record.attempt)


def _capture(trial: TrialImage, index: int, attempt: int) -> None:
    trial.next_index = max(trial.next_index, index + 1)
    if index not in trial.committed:
        trial.captured[index] = CheckpointImage(
            index=index, attempt=attempt, iteration=trial.iteration, stored_row=trial.stored_row
        )


def _committed(trial: TrialImage, record: rec.Committed) -> None:
    known = trial.captured.pop(record.index, None)
    trial.lost.pop(record.index, None)  # a later keeper may succeed where an earlier one did not
    trial.next_index = max(trial.next_index, record.index + 1)
    trial.committed[record.index] = CheckpointImage(
        index=record.index,
        attempt=record.attempt,
        iteration=record.iteration,
        stored_row=known.stored_row if known is not None else NOTHING,
        nbytes=record.nbytes,
        digest=record.digest,
        validation=_copied(record.validation),
        dir_name=record.dir_name,
    )


def _copied(task: Task | msgspec.UnsetType) -> Task | None:
    if isinstance(task, msgspec.UnsetType):
        return None
    return msgspec.structs.replace(task, arguments=task.arguments.copy())


def _validated(trial: TrialImage, record: rec.Validated) -> None:
    checkpoint = trial.committed.get(record.index)
    if checkpoint is None:
        return
    checkpoint.outcome = Outcome(
        status=record.status, metrics=record.metrics.copy(), reason=record.reason
    )
    if checkpoint.row is not None and checkpoint.row == trial.row:
        trial.stored_row = merged(checkpoint.row, checkpoint.outcome)


def _lost(trial: TrialImage, record: rec.Lost) -> None:
    trial.captured.pop(record.index, None)
    trial.committed.pop(record.index, None)  # it was found damaged
    trial.next_index = max(trial.next_index, record.index + 1)
    trial.lost[record.index] = record.reason


def _deleting(trial: TrialImage, record: rec.Deleting) -> None:
    trial.deleting[record.index] = record.reason


def _deleted(trial: TrialImage, record: rec.Deleted) -> None:
    trial.committed.pop(record.index, None)
    trial.deleting.pop(record.index, None)


def _failure(trial: TrialImage, record: rec.Failure) -> None:
    trial.failures = record.failures
    trial.failure = record
    trial.action, trial.given_up = "", not record.retried


def _changed(trial: TrialImage, record: rec.Changed) -> None:
    trial.cut_by, trial.cut_from = record.cut_by, trial.status if record.cut_by else ""
    trial.status = record.status
    trial.given_up = False
    if not record.cut_by:
        trial.action = ""


def _reconfigured(trial: TrialImage, record: rec.Reconfigured) -> None:
    trial.config = record.config.copy()
    trial.tag = record.tag


def _exploited(trial: TrialImage, record: rec.Exploited) -> None:
    if not trial.exploits:
        trial.stored_first = trial.config
    kept = msgspec.structs.replace(record, config=record.config.copy())
    trial.config, trial.tag = kept.config, kept.tag
    trial.exploits.append(kept)
    trial.next_index = max(trial.next_index, record.first_index)
    trial.iteration = record.iteration
    trial.status, trial.action = "PENDING", ""


_OF_RUN: Final[dict[type, Callable[[RunImage, Any], None]]] = {
    rec.Opened: _opened,
    rec.Continued: _continued,
    rec.Planned: _planned,
    rec.Searched: _searched,
    rec.Closed: _closed,
}
_OF_TRIAL: Final[dict[type, Callable[[TrialImage, Any], None]]] = {
    rec.Launched: _launched,
    rec.Reported: _reported,
    rec.Saving: _saving,
    rec.Committed: _committed,
    rec.Validated: _validated,
    rec.Lost: _lost,
    rec.Deleting: _deleting,
    rec.Deleted: _deleted,
    rec.Failure: _failure,
    rec.Changed: _changed,
    rec.Reconfigured: _reconfigured,
    rec.Exploited: _exploited,
}
