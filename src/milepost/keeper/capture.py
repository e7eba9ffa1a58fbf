"""Capturing a checkpoint in a worker, without waiting for its bytes.

After :meth:`Capturer.capture` has returned, the caller may read, change or delete the directory;
what was captured stays as it was, and will be committed by the keeper even if this process dies.
Per file the best way that applies is taken:

* *moved*: a directory that was handed over is renamed into staging;
* *leased*: a hard link in staging, guarded by a read lease of the keeper's until it has the bytes
  for itself, so that a writer under another name waits for that;
* *reflink*: a copy that shares its blocks. It comes after *leased*, because the file system first
  writes out what is not on the disk yet: two seconds for a fresh file of 512 MiB on XFS;
* *copied*, several files at a time. Small checkpoints are always copied: that is as fast, and
  needs no word with the keeper before the report goes on.

Nothing is flushed here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections import Counter
from typing import NamedTuple

import msgspec

from milepost.checkpoint.manifest import DirName, checkpoint_id, checkpoint_name
from milepost.checkpoint.read import hold
from milepost.checkpoint.validation import Task
from milepost.errors import (
    CaptureError,
    ChannelClosedError,
    CheckpointFailedError,
    MilepostError,
)
from milepost.keeper.connection import KeeperConnection
from milepost.keeper.intent import ExperimentRef, FileList, Intent
from milepost.keeper.place import Places
from milepost.keeper.protocol import Captured, Expected, Hello
from milepost.keeper.source import scan
from milepost.keeper.ways import PATIENCE_S, REMIND_S, Means, Taking
from milepost.process import boot_id, started_at
from milepost.storage import names, posix

log = logging.getLogger("milepost.keeper")

IN_FLIGHT = 64
_REMEMBERED = 4 * IN_FLIGHT


class Capture(NamedTuple):
    """What a capture did.

    Attributes:
        nbytes: bytes of all files.
        waited_s: how long it waited because too much was in staging.
        captured: the files.
    """

    nbytes: int
    waited_s: float
    captured: FileList

    @property
    def ways(self) -> dict[str, int]:
        """Number of files by the way they were captured."""
        return dict(Counter(file.way for file in self.captured.files))


class Capturer:
    """Captures the checkpoints of one attempt of a trial, in one of its workers.

    It may be used by the threads of the process that made it, one at a time, and by no child.

    Args:
        experiment_path: the experiment directory, absolute.
        experiment_uuid: its id; ``device`` and ``inode`` identify the directory itself.
        keeper_address: path of the keeper's socket.
        node_root: directory of this node's staging.
        trial_id: the trial's id.
        trial_dir: its directory, absolute or relative to the experiment.
        attempt: how often the trial had been started before.
        attempt_id: a random id of this attempt.
        rank: which worker of the trial this is.
        parent: id of the checkpoint that this attempt started from, or None.
        parent_dir_name: of its directory, if that is not ``checkpoint_`` and its number.
    """

    def __init__(
        self,
        *,
        experiment_path: str,
        experiment_uuid: str,
        device: int,
        inode: int,
        keeper_address: str,
        node_root: str,
        trial_id: str,
        trial_dir: str,
        attempt: int,
        attempt_id: str,
        rank: int = 0,
        parent: str | None = None,
        parent_dir_name: DirName = msgspec.UNSET,
    ) -> None:
        pid = os.getpid()
        self._template = Intent(
            experiment=ExperimentRef(
                path=experiment_path, device=device, inode=inode, uuid=experiment_uuid
            ),
            trial_id=trial_id,
            trial_dir=os.path.relpath(os.path.join(experiment_path, trial_dir), experiment_path),
            attempt=attempt,
            attempt_id=attempt_id,
            index=-1,
            rank=rank,
            ranks=(rank,),
            parent=parent,
            parent_dir_name=parent_dir_name,
            pid=pid,
            started=started_at(pid),
            boot=boot_id(),
        )
        self._unsettled: dict[int, Captured | Expected] = {}
        self._unannounced: list[tuple[int, Taking]] = []
        self._outcomes: dict[int, str | CheckpointFailedError] = {}
        self._untold: dict[int, CheckpointFailedError] = {}
        self._has_waited = False
        self._lock = threading.RLock()
        self._keeper = KeeperConnection(
            keeper_address,
            Hello(
                experiment=self._template.experiment,
                trial_id=trial_id,
                trial_dir=self._template.trial_dir,
                attempt=attempt,
                attempt_id=attempt_id,
                rank=rank,
            ),
            unsettled=lambda: list(self._unsettled.values()),
        )
        self._places = Places(node_root, os.path.dirname(experiment_path), experiment_uuid)
        self._means = Means(self._places, self._keeper)
        _open.add(self)

    def new_directory(self) -> str:
        """Create an empty directory to be filled and then captured with ``owned=True``.

        It is where a capture can move it from without copying. It is removed after the death of
        this process, if it has not been captured.
        """
        return self._places.scratch(self._template.pid, self._template.started)

    def capture(
        self,
        directory: str | os.PathLike[str],
        index: int,
        row: bytes,
        objects: dict[str, bytes] | None = None,
        iteration: int = 0,
        owned: bool = False,
        announce: bool = True,
        ranks: tuple[int, ...] | None = None,
        validation: Task | None = None,
        dir_name: DirName = msgspec.UNSET,
        in_place: bool = False,
    ) -> Capture:
        """Capture a directory as the checkpoint with this number.

        *Atomicity*: it will be committed whole or not at all.
        *Durability*: against the death of any process, from when this returns; against power loss
        from its commit.
        *After a crash*: an incomplete capture is removed; earlier checkpoints are not affected.

        Args:
            directory: what to capture; it stays as it was, unless ``owned``.
            index: its number, above every number that this trial has used.
            row: the result row it belongs to, as :mod:`milepost.storage.codec` encodes it.
            objects: pickled values that row and validation refer to, by digest.
            iteration: ``training_iteration`` of the row.
            owned: whether the directory is handed over; it is gone afterwards.
            announce: whether the keeper is told at once, or by :meth:`announce`.
            ranks: of the workers whose captures make up the checkpoint, the same for each of them;
                it is committed when all are there. None for this one alone.
            validation: how the checkpoint is to be validated, if it is; that of the lowest rank
                counts.
            dir_name: of the checkpoint's directory, the same for each of them; it must be free.
                Unset for ``checkpoint_`` and its number.
            in_place: whether the directory, which is ``owned``, lies below the trial's. It is moved
                or an error, and put back if it cannot be committed.

        Raises:
            FileNotFoundError: there is no such directory.
            NotADirectoryError: it is a file.
            CaptureError: it cannot be captured; the message names what stands in the way.
            StorageError: the staging place cannot be used.
        """
        with self._lock:
            self._require_own_process()
            source = scan(os.fspath(directory))
            # A committed one must not be collected meanwhile. Nothing is verified: a copy of it is
            # the user's to change, manifest and all; what is captured gets a manifest of its own.
            held = hold(source.directory) if source.is_committed else None
            try:
                waited_s = self._wait_for_turn()
                intent = msgspec.structs.replace(
                    self._template,
                    index=index,
                    iteration=iteration,
                    row=msgspec.Raw(row),
                    objects=objects or {},
                    validation=validation or msgspec.UNSET,
                    ranks=self._template.ranks if ranks is None else ranks,
                    dir_name=dir_name,
                    came_from=self._relative(directory) if in_place else msgspec.UNSET,
                )
                taking = Taking(self._means, source, intent)
                try:
                    captured = taking.run(owned)
                except BaseException as error:
                    taking.undo()
                    if isinstance(error, OSError) and not isinstance(error, MilepostError):
                        raise _failed(source.directory, error) from error
                    raise
            finally:
                if held is not None:
                    held.release()
            capture = Capture(captured.nbytes, waited_s + taking.waited_s, captured)
            self._unsettled[index] = Captured(
                base=taking.base,
                index=index,
                nbytes=capture.nbytes,
                ranks=intent.ranks,
                dir_name=dir_name,
            )
            self._unannounced.append((index, taking))
            self._template = msgspec.structs.replace(
                self._template,
                parent=checkpoint_id(intent.attempt_id, index),
                parent_dir_name=dir_name,
            )
            if announce:
                self.announce()
            if owned and not taking.moved:
                _remove_handed_over(source.directory)
            return capture

    def announce(self) -> None:
        """Have the keeper commit what was captured since the last call.

        It is apart from :meth:`capture` so that a report can be answered first: the keeper's work
        would take the processor from whoever answers. What is never announced, because this
        process dies before, the keeper finds in staging.

        Raises:
            ChannelClosedError: there is no keeper, and no driver to start one.
        """
        with self._lock:
            while self._unannounced:
                index, taking = self._unannounced.pop(0)
                taking.hand_over()
                self._keeper.announce(self._unsettled[index])

    def settled(
        self, index: int, *, elsewhere: bool = False, dir_name: DirName = msgspec.UNSET
    ) -> str:
        """Wait for the commit of a captured checkpoint and return its directory.

        Args:
            index: its number.
            elsewhere: whether other workers of the trial capture it, and this one has no part.
            dir_name: of its directory, as for :meth:`capture`.

        Raises:
            CheckpointFailedError: it was captured but could not be committed.
            KeyError: this attempt captured no such checkpoint.
        """
        with self._lock:
            self._require_own_process()
            self.announce()
            self._note_settled()
            if index not in self._outcomes and index not in self._unsettled:
                if not elsewhere:
                    raise KeyError(index)
                self._unsettled[index] = Expected(index=index, dir_name=dir_name)
                self._keeper.announce(self._unsettled[index])
            started = time.monotonic()
            remind = started + PATIENCE_S
            while index in self._unsettled:
                self._keeper.wait(max(0.0, remind - time.monotonic()))
                self._note_settled()
                if time.monotonic() >= remind and index in self._unsettled:
                    log.warning(
                        "checkpoint %d of trial %s is captured; waiting for the keeper to commit "
                        "it for %.0f s now",
                        index,
                        self._template.trial_id,
                        time.monotonic() - started,
                    )
                    remind = time.monotonic() + REMIND_S
            outcome = self._outcomes[index]
            if isinstance(outcome, CheckpointFailedError):
                self._untold.pop(index, None)
                raise outcome
            return outcome

    def failures(self) -> list[CheckpointFailedError]:
        """Why captured checkpoints could not be committed, each told once; never waits."""
        with self._lock:
            if self._unsettled:
                self._note_settled()
            found, self._untold = self._untold, {}
            return [found[index] for index in sorted(found)]

    def close(self) -> None:
        """Close the connection to the keeper, which commits what was captured all the same."""
        with contextlib.suppress(ChannelClosedError):  # it is found in staging
            self.announce()
        self._keeper.close()
        _open.discard(self)

    def _forked(self) -> None:
        """In a child: give back what belongs to its parent."""
        for _, taking in self._unannounced:
            taking.close_guards()
        self._unannounced.clear()
        self.close()

    def _require_own_process(self) -> None:
        if os.getpid() != self._template.pid:
            raise CaptureError(
                f"process {os.getpid()} is a child of worker {self._template.pid} and cannot "
                "report a checkpoint; report from the process that runs the training function"
            )

    def _relative(self, directory: str | os.PathLike[str]) -> str:
        """A directory's path below the trial's, however both are reached."""
        home, trial = self._template.experiment.path, self._template.trial_dir
        trial = os.path.realpath(names.trial_directory(home, trial))
        return os.path.relpath(os.path.realpath(directory), trial)

    def _wait_for_turn(self) -> float:
        """Wait while too many checkpoints of this trial are captured and not committed yet."""
        if len(self._unsettled) < IN_FLIGHT:
            return 0.0
        self._note_settled()
        if len(self._unsettled) < IN_FLIGHT:
            return 0.0
        started = time.monotonic()
        if not self._has_waited:
            self._has_waited = True
            log.warning(
                "report waits: %d checkpoints of trial %s are captured and not committed yet, "
                "which is the bound. Storage is slower than the reports; report checkpoints less "
                "often. Later waits are in the results",
                len(self._unsettled),
                self._template.trial_id,
            )
        while len(self._unsettled) >= IN_FLIGHT:
            self._keeper.wait(REMIND_S)
            self._note_settled()
        return time.monotonic() - started

    def _note_settled(self) -> None:
        for message in self._keeper.settled():
            known = self._unsettled.pop(message.index, None)
            if message.error is None:
                self._outcomes[message.index] = message.path
                continue
            name = checkpoint_name(
                message.index, msgspec.UNSET if known is None else known.dir_name
            )
            self._outcomes[message.index] = self._untold[message.index] = CheckpointFailedError(
                f"{name} of trial {self._template.trial_id} was "
                f"captured but could not be committed: {message.error}"
            )
        while len(self._outcomes) > _REMEMBERED:
            self._outcomes.pop(min(self._outcomes))


def _failed(directory: str, error: OSError) -> CaptureError:
    where = f" at {error.filename}" if error.filename else ""
    return CaptureError(
        f"{directory} could not be captured: {error.strerror or error}{where}. Nothing of it was "
        "published; earlier checkpoints and the directory itself are intact"
    )


def _remove_handed_over(directory: str) -> None:
    try:
        posix.remove_tree(directory)
    except OSError as error:
        log.warning("%s was handed over, but not all of it could be removed: %s", directory, error)


_open: weakref.WeakSet[Capturer] = weakref.WeakSet()


def _close_in_child() -> None:
    # Else a child that outlives its worker would hold the connection open.
    for capturer in list(_open):
        capturer._forked()


os.register_at_fork(after_in_child=_close_in_child)
