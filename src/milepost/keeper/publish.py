"""Turning captured directories into committed checkpoints."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.commit import Prepared, commit
from milepost.checkpoint.manifest import (
    MANIFEST_NAME,
    Manifest,
    Times,
    checkpoint_id,
    checkpoint_name,
)
from milepost.checkpoint.share import share_unchanged
from milepost.checkpoint.tree import Tree, describe, new_hasher, walk
from milepost.errors import CaptureError, CheckpointError, LeaseLostError, MilepostError
from milepost.journal.epochs import newest_epoch
from milepost.journal.experiment import writer_version
from milepost.journal.objects import Objects
from milepost.keeper import intent as intents
from milepost.keeper.intent import CapturedFile, ExperimentRef, Staged
from milepost.keeper.lease import Leases, OverwrittenError
from milepost.keeper.place import DRAFT_SUFFIX
from milepost.storage import names, posix

log = logging.getLogger("milepost.keeper")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Job:
    """A complete capture that is to be committed.

    Attributes:
        base: its path in staging, without suffix.
        recovered: whether it was found by looking, and not announced by its worker.
    """

    base: str
    uuid: str
    trial_id: str
    attempt: int
    index: int
    rank: int
    nbytes: int
    recovered: bool = False


class Outcome(NamedTuple):
    """What became of a job.

    Attributes:
        path: the checkpoint directory.
        manifest: what was committed, or None.
        digest: XXH3-128 of the manifest's bytes.
        error: why it was not committed; None if it was.
        disk_full: whether storage had no room.
        keep: whether the captured bytes stay in staging.
        fenced: another driver has taken the experiment over, whose keeper will commit it.
    """

    job: Job
    path: str
    manifest: Manifest | None = None
    digest: str = ""
    error: str | None = None
    disk_full: bool = False
    keep: bool = False
    fenced: bool = False
    took_s: float = 0.0


class Owner(NamedTuple):
    """An experiment that this keeper serves, and the journal epoch of its driver."""

    experiment: ExperimentRef
    epoch: int

    def require_held(self) -> None:
        """Raise if another driver has taken the experiment over, or it is not there any more.

        Raises:
            LeaseLostError: a higher epoch exists.
            CheckpointError: the experiment directory is gone or is another one.
        """
        path = self.experiment.path
        try:
            info = os.stat(path)
        except FileNotFoundError:
            raise CheckpointError(
                f"the experiment directory {path} is gone; what was captured cannot be committed"
            ) from None
        if (info.st_dev, info.st_ino) != (self.experiment.device, self.experiment.inode):
            raise CheckpointError(
                f"{path} is not the experiment directory that this run started with (it was "
                "replaced); what was captured is not committed into it"
            )
        highest = newest_epoch(path)
        if highest > self.epoch:
            raise LeaseLostError(
                f"another driver has taken {path} over (journal epoch {highest}, ours is "
                f"{self.epoch}); what was captured stays in staging for its keeper"
            )


class Publisher:
    """Commits jobs; its methods run in commit threads.

    Args:
        leases: the leases on staged files.
        owner: finds the experiment of a job by its uuid.
        umask: what the modes of committed files follow.
    """

    def __init__(self, leases: Leases, owner: Callable[[str], Owner], umask: int) -> None:
        self._leases = leases
        self._owner = owner
        self._umask = umask

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
                outcomes[number] = self._after_commit(job, prepared, result)
        took_s = time.monotonic() - started
        return [outcomes[number]._replace(took_s=took_s) for number in range(len(jobs))]

    def _settle_by_copy(self, job: Job) -> Outcome:
        """Staging only seemed to be on the storage's file system: mounts can share a device."""
        found = self._prepare(job, in_place=False)
        if not isinstance(found, Prepared):
            return found
        return self._after_commit(job, found, self._commit([job], [found])[0])

    def _after_commit(self, job: Job, item: Prepared, result: Manifest | Exception) -> Outcome:
        outcome = _outcome(job, item.target, result)
        if outcome.error is not None and published(item.target, item.manifest.id) is not None:
            # Only the flush of its name failed. It is whole, so it is better than none.
            text = (
                f"{outcome.error}. The checkpoint is whole at {item.target}, but may not survive a "
                "power loss, so it does not count as committed"
            )
            return outcome._replace(error=text)
        return outcome

    def _commit(self, jobs: Sequence[Job], items: Sequence[Prepared]) -> list[Manifest | Exception]:
        owners = {item.target: self._owner(job.uuid) for job, item in zip(jobs, items, strict=True)}
        results = commit(items, fence=lambda item: owners[item.target].require_held())
        for item, result in zip(items, results, strict=True):
            is_copy = names.is_leftover(os.path.basename(item.directory))
            if isinstance(result, Exception) and is_copy:
                posix.remove_tree(item.directory)
        return results

    # --- preparing -----------------------------------------------------------------------------

    def _prepare(self, job: Job, in_place: bool) -> Prepared | Outcome:
        owner = self._owner(job.uuid)
        target = ""
        try:
            owner.require_held()
            staged = intents.read(job.base)
            if staged is None or staged.captured is None:
                raise CaptureError(f"{job.base} holds no complete capture (any more)")
            trial = os.path.join(owner.experiment.path, staged.intent.trial_dir)
            target = os.path.join(trial, checkpoint_name(job.index))
            before = published(target, checkpoint_id(staged.intent.attempt_id, job.index))
            if before is not None:
                return _outcome(job, target, before)
            if not os.path.isdir(trial):  # the commit flushes the name of one that exists
                posix.durable_makedirs(trial)
            if staged.intent.objects:
                objects = Objects(owner.experiment.path)
                for data in staged.intent.objects.values():
                    objects.put(data)
            if staged.captured.packed:
                directory, tree = self._unpack_to(staged, trial)
            elif in_place and os.stat(staged.tree).st_dev == os.stat(trial).st_dev:
                directory, tree = staged.tree, self._finish_in_place(staged)
            else:
                directory, tree = self._copy_to(staged, trial)
            _share(staged, trial, directory, tree)
            return Prepared(directory, target, _manifest(staged, tree))
        except (OSError, MilepostError) as error:
            return _outcome(job, target, error)

    def _finish_in_place(self, staged: Staged) -> Tree:
        """Make the captured tree itself ready to become the checkpoint."""
        assert staged.captured is not None
        # A source that was moved may have had something of this name, even a directory.
        posix.remove_tree(os.path.join(staged.tree, MANIFEST_NAME))
        digests = {}
        for file in staged.captured.files:
            path = os.path.join(staged.tree, file.path)
            if file.way == "leased":
                # Reading it all first gives its owner the time to remove the other name.
                digests[file.path] = self._leases.digest(staged.base, path)
                self._make_private(staged, path)
            _require_unchanged(path, file)
            if file.way in ("leased", "moved"):
                self._follow_umask(path)
        for item in walk(staged.tree):
            if item.is_directory:
                self._follow_umask(os.path.join(staged.tree, item.path))
        self._follow_umask(staged.tree)
        return _described(staged, staged.tree, digests)

    def _make_private(self, staged: Staged, path: str) -> None:
        if self._leases.holds(staged.base, path):
            self._leases.make_private(staged.base, path)
        elif os.lstat(path).st_nlink > 1:  # a writer has it open since an earlier keeper died
            draft = f"{staged.base}{DRAFT_SUFFIX}{os.lstat(path).st_ino}"
            posix.remove_tree(draft)
            times = os.stat(path)
            posix.copy_file(path, draft)
            os.utime(draft, ns=(times.st_atime_ns, times.st_mtime_ns))
            if os.stat(path).st_mtime_ns == times.st_mtime_ns:  # else the caller finds it changed
                posix.replace(draft, path)

    def _copy_to(self, staged: Staged, trial: str) -> tuple[str, Tree]:
        """Copy the captured tree to the storage's file system, computing digests on the way."""
        assert staged.captured is not None
        with _new_tree(staged, trial) as target:
            for item in reversed(list(walk(staged.tree))):  # a directory before its entries
                if item.is_directory:
                    posix.mkdir(os.path.join(target, item.path))
                elif item.is_link:
                    link = os.readlink(os.path.join(staged.tree, item.path))
                    posix.symlink(link, os.path.join(target, item.path))
            digests = {
                file.path: self._copy_file(staged, file, os.path.join(target, file.path))
                for file in staged.captured.files
            }
            return target, _described(staged, target, digests)

    def _unpack_to(self, staged: Staged, trial: str) -> tuple[str, Tree]:
        """Write the files of a small checkpoint, which are part of its record."""
        assert staged.captured is not None
        digests = {}
        with _new_tree(staged, trial) as target, staged.open_packed() as record:
            for path in staged.captured.directories:
                posix.mkdir(os.path.join(target, path))
            for path, link in staged.captured.links:
                posix.symlink(link, os.path.join(target, path))
            for file in staged.captured.files:
                data = record.read(file.size)
                if len(data) != file.size:
                    raise CaptureError(f"{record.name} was cut after it had been completed")
                mode = 0o777 if file.executable else 0o666
                posix.write_new(os.path.join(target, file.path), data, mode)
                hasher = new_hasher()
                hasher.update(data)
                digests[file.path] = hasher.hexdigest()
            return target, _described(staged, target, digests)

    def _copy_file(self, staged: Staged, file: CapturedFile, target: str) -> str:
        path = os.path.join(staged.tree, file.path)
        mode = None if file.way in ("leased", "moved") else stat.S_IMODE(os.lstat(path).st_mode)

        def copy(source: str) -> str:
            posix.remove_tree(target)
            hasher = new_hasher()
            posix.copy_file(source, target, hasher, mode)
            digest: str = hasher.hexdigest()
            return digest

        digest = self._leases.stable(staged.base, path, copy)
        _require_unchanged(path, file)
        return digest

    def _follow_umask(self, path: str) -> None:
        mode = os.lstat(path).st_mode
        wanted = (0o777 if mode & stat.S_IXUSR else 0o666) & ~self._umask
        if stat.S_IMODE(mode) != wanted:
            posix.chmod(path, wanted)


@contextlib.contextmanager
def _new_tree(staged: Staged, trial: str) -> Iterator[str]:
    """Make a directory for a checkpoint in its trial, which is removed if the block fails."""
    label = checkpoint_name(staged.intent.index)
    target = os.path.join(trial, f"{names.TMP_PREFIX}{label}-{staged.intent.attempt_id}")
    posix.remove_tree(target)  # what an earlier keeper had begun
    try:
        posix.mkdir(target)
        yield target
    except BaseException:
        posix.remove_tree(target)
        raise


def _require_unchanged(path: str, file: CapturedFile) -> None:
    info = os.lstat(path)
    if info.st_size != file.size or (file.way == "leased" and info.st_mtime_ns != file.mtime_ns):
        raise OverwrittenError(
            f"{path} changed after it was captured ({file.size:,} bytes then, {info.st_size:,} "
            "now): it was written to under its other name while no keeper guarded it. The "
            "checkpoint is not committed; earlier ones are intact"
        )


def _described(staged: Staged, directory: str, digests: dict[str, str]) -> Tree:
    """What the manifest lists: what was captured, and nothing that appeared since."""
    assert staged.captured is not None
    captured = {file.path for file in staged.captured.files}
    tree = describe(directory, known=digests)
    files = [entry for entry in tree.files if entry.link is not None or entry.path in captured]
    return Tree(files, tree.directories, sum(entry.size for entry in files))


def _share(staged: Staged, trial: str, directory: str, tree: Tree) -> None:
    """Store files that did not change since the checkpoint before only once."""
    index = (staged.intent.parent or "").rpartition("-")[2]
    if index.isdecimal():
        share_unchanged(directory, tree.files, os.path.join(trial, checkpoint_name(int(index))))


def _manifest(staged: Staged, tree: Tree) -> Manifest:
    intent = staged.intent
    assert staged.captured is not None
    return Manifest(
        id=checkpoint_id(intent.attempt_id, intent.index),
        attempt=intent.attempt,
        run=intent.experiment.uuid,
        trial=intent.trial_id,
        index=intent.index,
        iteration=intent.iteration,
        metrics=intent.row,
        files=tree.files,
        directories=tree.directories,
        parent=intent.parent,
        times=Times(captured=staged.captured.at, committed=time.time()),
        writer=writer_version(),
    )


def published(target: str, wanted: str) -> Manifest | None:
    """The manifest at ``target`` if it is this very checkpoint (``wanted`` is its id), or None."""
    try:
        found = manifests.read(target)
    except (OSError, CheckpointError):
        return None
    return found if found.id == wanted else None


def _outcome(job: Job, target: str, result: Manifest | Exception) -> Outcome:
    if isinstance(result, Manifest):
        hasher = new_hasher()
        hasher.update(manifests.to_bytes(result))
        return Outcome(job, target, manifest=result, digest=hasher.hexdigest())
    if isinstance(result, LeaseLostError):
        return Outcome(job, target, error=str(result), keep=True, fenced=True)
    full = isinstance(result, OSError) and result.errno in _FULL
    taken = isinstance(result, FileExistsError)
    text = _describe_error(result)
    if full:
        text += (
            ". Storage has no room; the captured bytes were given up. Free some space, or keep "
            "fewer checkpoints (CheckpointConfig(num_to_keep=...))"
        )
    elif taken:
        text += f". The captured bytes stay in {job.base}.*"
    return Outcome(job, target, error=text, disk_full=full, keep=taken)


def _describe_error(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not isinstance(error, MilepostError):
        where = error.filename2 or error.filename
        return f"{error.strerror}: {where}" if where else error.strerror
    return str(error) or type(error).__name__
