"""The ways to capture files: moved, leased, reflink, copied. See :mod:`milepost.keeper.capture`."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Collection

from milepost.errors import StorageError
from milepost.keeper import intent as intents
from milepost.keeper.connection import KeeperConnection
from milepost.keeper.copying import Copier
from milepost.keeper.intent import FILES_NAME, CapturedFile, Intent, IntentName
from milepost.keeper.place import Places
from milepost.keeper.protocol import Abandoned, Lease, Leased, Reserve, Reserved
from milepost.keeper.source import Source, SourceFile
from milepost.storage import posix

log = logging.getLogger("milepost.keeper")

SMALL_BYTES = 1 << 20
SMALL_FILES = 8
PATIENCE_S = 1.0
REMIND_S = 30.0
_LEASE_WAIT_S = 30.0
_NOT_LINKABLE = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
)
_NOT_MOVABLE = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EBUSY})


class Means:
    """What captures of one worker share: places, the keeper, and what was learnt about them."""

    def __init__(self, places: Places, keeper: KeeperConnection) -> None:
        self.places = places
        self.keeper = keeper
        self.copier = Copier()
        self._works: dict[int, int | None] = {}

    def candidates(self, source: Source) -> list[int]:
        """Which of the places to try for a capture without copies, the likeliest first."""
        numbers = range(len(self.places.for_source(source.directory)))
        works = self._works.get(source.device, 0)
        return [] if works is None else sorted(numbers, key=lambda number: number != works)

    def learn(self, source: Source, number: int | None) -> None:
        """Remember which place works for files from this file system, or that none does."""
        self._works[source.device] = number


class Taking:
    """One capture: from the intent's directory to the captured files.

    Attributes:
        directory: the intent's directory; empty before it exists.
        moved: whether the source directory itself was renamed into staging.
        waited_s: how long it waited for room.
    """

    def __init__(self, means: Means, source: Source, intent: Intent) -> None:
        self.directory = ""
        self.moved = False
        self.waited_s = 0.0
        self._means = means
        self._source = source
        self._intent = intent
        self._places = means.places.for_source(source.directory)
        self._told_keeper = False

    def run(self, owned: bool) -> tuple[CapturedFile, ...]:
        """Capture by the best way that applies, and return what was captured.

        Raises:
            OSError: it failed; :meth:`undo` must be called.
        """
        source = self._source
        if source.nbytes <= SMALL_BYTES and len(source.files) <= SMALL_FILES:
            return self._copy()
        candidates = self._means.candidates(source)
        if owned and self._is_movable():
            for number in candidates:
                if self._rename(number):
                    self._means.learn(source, number)
                    return self._secure_moved()
        for number in candidates:
            linked = self._link(number)
            if linked is not None:
                self._means.learn(source, number)
                return self._secure_linked(linked)
        self._means.learn(source, None)
        self._exchange(Reserve(index=self._intent.index, nbytes=source.nbytes))
        return self._copy()

    def undo(self) -> None:
        """Remove what this capture made; a source that was moved goes back where it was."""
        if not self.directory:
            return
        try:
            if self.moved and not os.path.lexists(self._source.directory):
                posix.rename(self._root, self._source.directory)
            posix.remove_tree(self.directory)
        except OSError as error:
            log.warning("%s could not be removed and is left to a sweep: %s", self.directory, error)
        if self._told_keeper:
            self._means.keeper.abandon(
                Abandoned(directory=self.directory, index=self._intent.index)
            )

    # --- the intent ----------------------------------------------------------------------------

    @property
    def _root(self) -> str:
        return os.path.join(self.directory, FILES_NAME)

    def _begin(self, number: int, tree: bool = True) -> bool:
        """Write the intent in a place; False where that place cannot be used."""
        intent = self._intent
        try:
            name = IntentName(
                intent.trial_id,
                intent.attempt,
                intent.index,
                intent.rank,
                intent.pid,
                intent.started,
            )
            self.directory = self._means.places.create(self._places[number], name)
            intents.write(self.directory, intent)
            if tree:
                self._make_tree()
        except StorageError:
            raise
        except OSError as error:
            if number == 0:
                raise
            log.debug("%s cannot stage checkpoints: %s", self._places[number], error)
            self._forget()
            return False
        return True

    def _make_tree(self) -> None:
        posix.mkdir(self._root)
        for path in self._source.directories:
            posix.mkdir(os.path.join(self._root, path))
        for path, target in self._source.links:
            posix.symlink(target, os.path.join(self._root, path))

    def _forget(self) -> None:
        if self.directory:
            posix.remove_tree(self.directory)
            self.directory = ""

    # --- moved ---------------------------------------------------------------------------------

    def _is_movable(self) -> bool:
        source = self._source
        if source.strays or os.path.islink(source.directory):
            return False
        real = os.path.realpath(source.directory)
        here = os.getcwd()
        # Else what this process writes by relative names would land in a committed checkpoint.
        return here != real and not here.startswith(real + os.sep)

    def _rename(self, number: int) -> bool:
        if not self._begin(number, tree=False):
            return False
        try:
            posix.rename(self._source.directory, self._root)
        except OSError as error:
            if error.errno not in _NOT_MOVABLE:
                raise
            self._forget()
            return False
        self.moved = True
        for path, target in self._source.links:
            where = os.path.join(self._root, path)
            if os.readlink(where) != target:  # it named its target by the old place
                posix.unlink(where)
                posix.symlink(target, where)
        return True

    def _secure_moved(self) -> tuple[CapturedFile, ...]:
        shared = [file for file in self._source.files if file.info.st_nlink > 1]
        single = [file for file in self._source.files if file.info.st_nlink == 1]
        ways = dict.fromkeys((file.path for file in shared), "leased")
        for path in self._unsafe(shared, single):
            where = os.path.join(self._root, path)
            aside = os.path.join(self.directory, "copied")
            ways[path] = self._means.copier.copy([(where, aside)], 0)[0]
            posix.replace(aside, where)
        return self._listed("moved", ways)

    # --- leased --------------------------------------------------------------------------------

    def _link(self, number: int) -> list[SourceFile] | None:
        """Link the files into a place; those that were, or None if it is the wrong place."""
        if not self._begin(number):
            return None
        linked: list[SourceFile] = []
        crossed = False
        for file in self._source.files:
            try:
                posix.link(file.where, os.path.join(self._root, file.path))
            except OSError as error:
                if error.errno not in _NOT_LINKABLE:
                    raise
                if error.errno == errno.EXDEV and not linked:
                    crossed = True
                    break  # the first file decides
            else:
                linked.append(file)
        if crossed:
            self._forget()
            return None
        return linked

    def _secure_linked(self, linked: list[SourceFile]) -> tuple[CapturedFile, ...]:
        unsafe = self._unsafe(linked, [])
        for path in unsafe:
            posix.unlink(os.path.join(self._root, path))
        leased = {file.path for file in linked} - unsafe
        left = [file for file in self._source.files if file.path not in leased]
        return self._listed("leased", self._copy_files(left))

    def _unsafe(self, hold: list[SourceFile], check: list[SourceFile]) -> set[str]:
        """Have the keeper make room and guard staged files; those that must be copied instead."""
        held, checked = tuple(each.path for each in hold), tuple(each.path for each in check)
        leased = self._exchange(
            Reserve(index=self._intent.index, nbytes=self._source.nbytes),
            Lease(directory=self.directory, hold=held, check=checked),
        )
        if leased is None:
            return {*held, *checked}
        return {path for path, safe in zip(held + checked, leased.safe, strict=True) if not safe}

    # --- copied --------------------------------------------------------------------------------

    def _copy(self) -> tuple[CapturedFile, ...]:
        self._begin(0)
        return self._listed("copied", self._copy_files(self._source.files))

    def _copy_files(self, files: list[SourceFile]) -> dict[str, str]:
        pairs = [(file.where, os.path.join(self._root, file.path)) for file in files]
        nbytes = sum(file.info.st_size for file in files)
        ways = self._means.copier.copy(pairs, nbytes)
        return {file.path: way for file, way in zip(files, ways, strict=True)}

    def _listed(self, usual: str, ways: dict[str, str]) -> tuple[CapturedFile, ...]:
        """The captured files as they are in staging now: sizes and times to compare with later."""
        found = []
        for file in self._source.files:
            info = os.lstat(os.path.join(self._root, file.path))
            found.append(
                CapturedFile(
                    path=file.path,
                    size=info.st_size,
                    mtime_ns=info.st_mtime_ns,
                    way=ways.get(file.path, usual),
                )
            )
        return tuple(found)

    # --- the keeper ----------------------------------------------------------------------------

    def _exchange(self, reserve: Reserve, lease: Lease | None = None) -> Leased | None:
        """Wait for room, and for an answer about the leases; None if no keeper gives one."""
        self._told_keeper = True
        replies = self._means.keeper.exchange(
            [reserve] if lease is None else [reserve, lease], waiting=self._waiting
        )
        reserved, leased = replies.get(Reserved), replies.get(Leased)
        if isinstance(reserved, Reserved):
            self.waited_s += reserved.waited_s
        return leased if isinstance(leased, Leased) else None

    def _waiting(self, waited_s: float, missing: Collection[type]) -> float | None:
        """Say what is waited for; after a while do without leases, by copying."""
        what = f"checkpoint {self._intent.index} of trial {self._intent.trial_id}"
        if Leased in missing:
            if waited_s < _LEASE_WAIT_S:
                return _LEASE_WAIT_S - waited_s
            log.warning("the keeper has not answered for %.0f s; %s is copied", waited_s, what)
            return None
        if waited_s == 0:
            return PATIENCE_S
        log.warning(
            "report waits for %.0f s now: staging has no room for the %s bytes of %s until earlier "
            "checkpoints are committed. Storage is slower than the reports, or "
            "MILEPOST_STAGING_BYTES is small",
            waited_s, f"{self._source.nbytes:,}", what,
        )
        return REMIND_S
