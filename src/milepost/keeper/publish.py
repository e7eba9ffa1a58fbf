"""Committing what was captured."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.commit import Prepared, commit
from milepost.checkpoint.manifest import Manifest, Times, checkpoint_id
from milepost.checkpoint.tree import new_hasher
from milepost.errors import CaptureError, CheckpointError, LeaseLostError, MilepostError
from milepost.journal.experiment import writer_version
from milepost.journal.objects import Objects
from milepost.keeper import intent as intents
from milepost.keeper.assemble import Assembled, Assembler
from milepost.keeper.intent import Staged
from milepost.keeper.job import ExperimentGoneError, Job, Outcome, Owner
from milepost.storage import names, posix

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Publisher:
    """Commits jobs; its methods run in commit threads.

    Args:
        assembler: makes the directories.
        owner: finds the experiment of a job by its uuid.
    """

    def __init__(self, assembler: Assembler, owner: Callable[[str], Owner]) -> None:
        self._assembler = assembler
        self._owner = owner

    def settle(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Commit jobs as one group, in order; a failure of one does not stop the others."""
        started = time.monotonic()
        outcomes: dict[int, Outcome] = {}
        ready: list[tuple[int, Prepared]] = []
        for number, job in enumerate(jobs):
            found = self._prepare(job, in_place=True)
            if isinstance(found, Prepared):
                ready.append((number, found))
            else:
                outcomes[number] = found
        results = self._commit([jobs[number] for number, _ in ready], [each for _, each in ready])
        for (number, prepared), result in zip(ready, results, strict=True):
            job = jobs[number]
            if isinstance(result, OSError) and result.errno == errno.EXDEV:
                outcomes[number] = self._settle_by_copy(job)
            else:
                outcomes[number] = _after_commit(job, prepared, result)
        took_s = time.monotonic() - started
        return [
            outcomes[number]._replace(took_s=took_s, home=self._owner(job.uuid).experiment.path)
            for number, job in enumerate(jobs)
        ]

    def _settle_by_copy(self, job: Job) -> Outcome:
        """Staging only seemed to be on the storage's file system: mounts can share a device."""
        found = self._prepare(job, in_place=False)
        if not isinstance(found, Prepared):
            return found
        return _after_commit(job, found, self._commit([job], [found])[0])

    def _commit(self, jobs: Sequence[Job], items: Sequence[Prepared]) -> list[Manifest | Exception]:
        owners = {item.target: self._owner(job.uuid) for job, item in zip(jobs, items, strict=True)}
        results = commit(items, fence=lambda item: owners[item.target].require_held())
        for item, result in zip(items, results, strict=True):
            is_copy = names.is_leftover(os.path.basename(item.directory))
            if isinstance(result, Exception) and is_copy:
                posix.remove_tree(item.directory)
        return results

    def _prepare(self, job: Job, in_place: bool) -> Prepared | Outcome:
        owner = self._owner(job.uuid)
        target = ""
        try:
            owner.require_held()
            parts = [_read(part.base) for part in job.parts]
            first = parts[0].intent
            trial = names.trial_directory(owner.experiment.path, first.trial_dir)
            target = os.path.join(trial, first.directory)
            before = published(target, checkpoint_id(first.attempt_id, job.index))
            if before is not None:
                return _outcome(job, target, before)
            if job.missing:
                raise CaptureError(_missing(job))
            if not os.path.isdir(trial):  # the commit flushes the name of one that exists
                posix.durable_makedirs(trial)
            if first.objects:
                objects = Objects(owner.experiment.path)
                for data in first.objects.values():
                    objects.put(data)
            made = self._assembler.assemble(parts, trial, in_place=in_place)
            return Prepared(made.directory, target, _manifest(parts, made))
        except (OSError, MilepostError) as error:
            return _outcome(job, target, error)


def published(target: str, wanted: str) -> Manifest | None:
    """The manifest at ``target`` if it is this very checkpoint (``wanted`` is its id), or None."""
    try:
        found = manifests.read(target)
    except (OSError, CheckpointError):
        return None
    return found if found.id == wanted else None


def _missing(job: Job) -> str:
    workers = f"worker{'s' if len(job.missing) > 1 else ''} {', '.join(map(str, job.missing))}"
    return (
        f"it has no part from {workers} of {len(job.missing) + len(job.parts)}, which ended before "
        "that. The other parts were given up"
    )


def _read(base: str) -> Staged:
    staged = intents.read(base)
    if staged is None or staged.captured is None:
        raise CaptureError(f"{base} holds no complete capture (any more)")
    return staged


def _manifest(parts: Sequence[Staged], made: Assembled) -> Manifest:
    intent = parts[0].intent
    return Manifest(
        id=checkpoint_id(intent.attempt_id, intent.index),
        attempt=intent.attempt,
        run=intent.experiment.uuid,
        trial=intent.trial_id,
        index=intent.index,
        iteration=intent.iteration,
        metrics=intent.row,
        files=made.tree.files,
        directories=made.tree.directories,
        parts=made.parts,
        parent=intent.parent,
        validation=intent.validation,
        times=Times(
            captured=max(part.captured.at for part in parts if part.captured is not None),
            committed=time.time(),
        ),
        writer=writer_version(),
        dir_name=intent.dir_name,
    )


def _after_commit(job: Job, item: Prepared, result: Manifest | Exception) -> Outcome:
    outcome = _outcome(job, item.target, result)
    if outcome.error is not None and published(item.target, item.manifest.id) is not None:
        # Only the flush of its name failed. It is whole, so it is better than none.
        text = (
            f"{outcome.error}. The checkpoint is whole at {item.target}, but may not survive a "
            "power loss, so it does not count as committed"
        )
        return outcome._replace(error=text)
    return outcome


def _outcome(job: Job, target: str, result: Manifest | Exception) -> Outcome:
    if isinstance(result, Manifest):
        hasher = new_hasher()
        hasher.update(manifests.to_bytes(result))
        return Outcome(job, target, manifest=result, digest=hasher.hexdigest())
    if isinstance(result, LeaseLostError):
        return Outcome(job, target, error=str(result), keep=True, fenced=True)
    gone = isinstance(result, ExperimentGoneError)
    full = isinstance(result, OSError) and result.errno in _FULL
    taken = isinstance(result, FileExistsError)
    text = _describe_error(result)
    if full:
        text += (
            ". Storage has no room; the captured bytes were given up. Free some space, or keep "
            "fewer checkpoints (CheckpointConfig(num_to_keep=...))"
        )
    elif taken:
        text += f". The captured bytes stay in {', '.join(part.base for part in job.parts)}.*"
    return Outcome(job, target, error=text, disk_full=full, keep=taken or gone)


def _describe_error(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not isinstance(error, MilepostError):
        where = error.filename2 or error.filename
        return f"{error.strerror}: {where}" if where else error.strerror
    return str(error) or type(error).__name__
