"""The ways to capture files: moved, leased, reflink, copied. See :mod:`milepost.keeper.capture`."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable

import msgspec

from milepost.errors import CaptureError, StorageError
from milepost.keeper import intent as intents
from milepost.keeper.connection import KeeperConnection
from milepost.keeper.copying import Copier
from milepost.keeper.guard import Guarded, guard, is_written, release
from milepost.keeper.intent import FILES_SUFFIX, INTENT_SUFFIX, CapturedFile, FileList, Intent
from milepost.keeper.place import DRAFT_SUFFIX, PLACES, Places
from milepost.keeper.protocol import Abandoned, Reserve, Reserved
from milepost.keeper.source import Source, SourceFile
from milepost.keeper.wire import MOST_DESCRIPTORS
from milepost.storage import posix

log = logging.getLogger("milepost.keeper")

SMALL_BYTES = 1 << 20
SMALL_FILES = 8
PATIENCE_S = 1.0
REMIND_S = 30.0
_ANSWER_S = 10.0
_NOT_LINKABLE = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_MOVABLE = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EBUSY})


class Means:
    """What captures of one worker share: places, the keeper, and what was learnt about them."""

    def __init__(self, places: Places, keeper: KeeperConnection) -> None:
        self.places = places
        self.keeper = keeper
        self.copier = Copier()
        self.buffer = memoryview(bytearray(SMALL_BYTES))
        self._works: dict[int, int | None] = {}

    def candidates(self, source: Source) -> list[int]:
        """Which of the places to try for a capture without copies, the likeliest first."""
        works = self._works.get(source.device, 0)
        return [] if works is None else sorted(range(PLACES), key=lambda each: each != works)

    def learn(self, source: Source, number: int | None) -> None:
        """Remember which place works for files from this file system, or that none does."""
        self._works[source.device] = number


class Taking:
    """One capture: from the intent to the captured files.

    Attributes:
        base: the capture's path in staging without suffix; empty before there is one.
        moved: whether the source directory itself was renamed into staging.
        waited_s: how long it waited for room.
    """

    def __init__(self, means: Means, source: Source, intent: Intent) -> None:
        self.base = ""
        self.moved = False
        self.waited_s = 0.0
        self._guards: list[Guarded] = []
        self._keeper_pid: int | None = None
        self._means = means
        self._source = source
        self._intent = intent
        self._told_keeper = False
        self._has_record = False

    def run(self, owned: bool) -> FileList:
        """Capture by the best way that applies, and return what was captured.

        Raises:
            OSError: it failed; :meth:`undo` must be called.
        """
        source = self._source
        is_small = source.nbytes <= SMALL_BYTES and len(source.files) <= SMALL_FILES
        if is_small and not self._is_only_copy:
            return self._pack()
        captured = FileList(files=self._take(owned), at=time.time())
        if self._has_record:
            intents.complete(self.base, captured)
        else:
            intents.write_complete(self.base, self._intent, captured)
        return captured

    def _take(self, owned: bool) -> tuple[CapturedFile, ...]:
        source = self._source
        if self._is_only_copy:
            return self._take_only_copy()
        candidates = self._means.candidates(source)
        if owned and self._in_the_way() is None:
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
        self._enter(0, self._write_intent)
        self._make_tree(self.base)
        self._ask_for_room()
        return self._listed("copied", self._copy_files(source.files))

    @property
    def _is_only_copy(self) -> bool:
        return self._intent.came_from is not msgspec.UNSET

    def _take_only_copy(self) -> tuple[CapturedFile, ...]:
        """Move the source directory, or leave it; it must outlast whatever happens meanwhile.

        The node root is no place for it: temporary directories are emptied when a machine starts.
        """
        in_the_way = self._in_the_way()
        if in_the_way is None:
            for number in range(1, PLACES):
                if self._rename(number):
                    return self._secure_moved()
            in_the_way = "no place beside it takes it (a mount point, no permission, or no room)"
        raise CaptureError(
            f"{self._source.directory} cannot become a checkpoint without a copy: {in_the_way}. "
            "It is as it was; report it with another upload mode, which copies it"
        )

    def hand_over(self) -> None:
        """Give the keeper the leases that are still here."""
        if self._guards and self._keeper_pid is not None:
            self._means.keeper.hand_over(self.base, self._guards, self._keeper_pid)

    def let_go(self) -> None:
        """End the leases that are still here."""
        while self._guards:
            release(self._guards.pop().fd)

    def close_guards(self) -> None:
        """In a forked child: close what would keep the leases alive; they are its parent's."""
        while self._guards:
            os.close(self._guards.pop().fd)

    def undo(self) -> None:
        """Remove what this capture made; a source that was moved goes back where it was."""
        self.let_go()
        if not self.base:
            return
        try:
            if self.moved and not os.path.lexists(self._source.directory):
                posix.rename(self._root, self._source.directory)
            intents.remove(self.base)
        except OSError as error:
            log.warning("%s could not be removed and is left to a sweep: %s", self.base, error)
        if self._told_keeper:
            self._means.keeper.abandon(Abandoned(base=self.base, index=self._intent.index))

    # --- the record ----------------------------------------------------------------------------

    @property
    def _root(self) -> str:
        return self.base + FILES_SUFFIX

    def _enter(self, number: int, first: Callable[[str], None]) -> None:
        """Make the first file or directory of this capture in a place, and the place if need be.

        Raises:
            StorageError: the node root's own staging cannot be used.
            OSError: another place cannot be used.
        """
        places = self._means.places
        place = places.for_source(self._source.directory, number)
        self.base = places.base(place, self._intent.name)
        try:
            try:
                first(self.base)
            except FileNotFoundError:
                places.prepare(place)
                first(self.base)
        except OSError as error:
            if isinstance(error, StorageError) or error.errno in _FULL:
                raise
            raise places.explain(place, error) from error

    def _try_enter(self, number: int, first: Callable[[str], None]) -> bool:
        """As :meth:`_enter`; False where the place cannot be used, unless it is the node root."""
        try:
            self._enter(number, first)
        except OSError as error:
            if number == 0:
                raise
            log.debug("%s cannot be used to stage checkpoints: %s", self.base, error)
            self._forget()
            return False
        return True

    def _write_intent(self, base: str) -> None:
        intents.write(base, self._intent)
        self._has_record = True
        if self._is_only_copy:  # by its record it is found again after a power loss
            posix.fsync_file(base + INTENT_SUFFIX)
            own = os.path.dirname(base)
            for directory in (own, os.path.dirname(own), os.path.dirname(os.path.dirname(own))):
                posix.fsync_dir(directory)

    def _make_tree(self, base: str) -> None:
        root = base + FILES_SUFFIX
        posix.mkdir(root)
        for path in self._source.directories:
            posix.mkdir(os.path.join(root, path))
        for path, target in self._source.links:
            posix.symlink(target, os.path.join(root, path))

    def _forget(self) -> None:
        intents.remove(self.base)
        self.base, self._has_record = "", False

    # --- packed --------------------------------------------------------------------------------

    def _pack(self) -> FileList:
        """Copy a small checkpoint into its record."""
        buffer, end = self._means.buffer, 0
        files = []
        for file in self._source.files:
            # What was appended since the directory was listed is no part of the checkpoint.
            begin, end = end, end + _read_into(file.where, buffer[end : end + file.info.st_size])
            files.append(
                CapturedFile(
                    path=file.path,
                    size=end - begin,
                    way="copied",
                    executable=bool(file.info.st_mode & stat.S_IXUSR),
                )
            )
        captured = FileList(
            files=tuple(files),
            at=time.time(),
            packed=True,
            directories=tuple(self._source.directories),
            links=tuple(self._source.links),
        )
        contents = buffer[:end]
        self._enter(0, lambda base: intents.write_complete(base, self._intent, captured, contents))
        return captured

    # --- moved ---------------------------------------------------------------------------------

    def _in_the_way(self) -> str | None:
        """Why the source directory itself must not be moved; None if it may be."""
        source = self._source
        if source.strays:
            return f"{source.strays[0]} in it is a symbolic link that leads out of it"
        if os.path.islink(source.directory):
            return "it is a symbolic link"
        real = os.path.realpath(source.directory)
        here = os.getcwd()
        # Else what this process writes by relative names would land in a committed checkpoint.
        if here == real or here.startswith(real + os.sep):
            return "this process works in it (os.getcwd())"
        return None

    def _rename(self, number: int) -> bool:
        if not self._try_enter(number, self._write_intent):
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
        keeper_pid = self._keeper()
        ways = {}
        for file in self._source.files:
            if file.info.st_nlink > 1:
                safe = self._guard(file.path, keeper_pid)
                ways[file.path] = "leased"
            else:
                safe = keeper_pid is not None and not is_written(self._root, file.path, keeper_pid)
            if not safe:
                where = os.path.join(self._root, file.path)
                aside = f"{self.base}{DRAFT_SUFFIX}{os.lstat(where).st_ino}"
                ways[file.path] = self._means.copier.copy([(where, aside)], 0)[0]
                posix.replace(aside, where)
        return self._listed("moved", ways)

    # --- leased --------------------------------------------------------------------------------

    def _link(self, number: int) -> list[SourceFile] | None:
        """Link the files into a place; those that were, or None if it is the wrong place."""
        if not self._try_enter(number, self._make_tree):
            return None
        root = self._root
        linked: list[SourceFile] = []
        crossed = False
        for file in self._source.files:
            try:
                posix.link(file.where, f"{root}/{file.path}")
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
        # Until there is a record, a dead process leaves links that are swept by their name.
        keeper_pid = self._keeper()
        leased = set()
        for file in linked:
            if self._guard(file.path, keeper_pid):
                leased.add(file.path)
            else:
                posix.unlink(os.path.join(self._root, file.path))
        left = [file for file in self._source.files if file.path not in leased]
        return self._listed("leased", self._copy_files(left) if left else {})

    def _guard(self, path: str, keeper_pid: int | None) -> bool:
        """Make a staged file safe against changes under another name; False if it must be copied.

        The last leases stay here, so that the keeper need not wake before the report is answered.
        """
        guarded = None if keeper_pid is None else guard(self._root, path, keeper_pid)
        if guarded is None or keeper_pid is None:
            return False
        if len(self._guards) == MOST_DESCRIPTORS:
            self._told_keeper = True
            self._means.keeper.hand_over(self.base, self._guards, keeper_pid)
        self._guards.append(guarded)
        return True

    # --- copied --------------------------------------------------------------------------------

    def _copy_files(self, files: list[SourceFile]) -> dict[str, str]:
        root = self._root
        pairs = [(file.where, f"{root}/{file.path}") for file in files]
        nbytes = sum(file.info.st_size for file in files)
        ways = self._means.copier.copy(pairs, nbytes)
        return {file.path: way for file, way in zip(files, ways, strict=True)}

    def _listed(self, usual: str, ways: dict[str, str]) -> tuple[CapturedFile, ...]:
        """The captured files as they are in staging now: sizes and times to compare with later."""
        root = self._root
        found = []
        for file in self._source.files:
            info = os.lstat(f"{root}/{file.path}")
            found.append(
                CapturedFile(
                    path=file.path,
                    size=info.st_size,
                    way=(way := ways.get(file.path, usual)),
                    mtime_ns=info.st_mtime_ns if way == "leased" else 0,
                )
            )
        return tuple(found)

    # --- the keeper ----------------------------------------------------------------------------

    def _keeper(self) -> int | None:
        """The keeper's process id, once there is room; None when no keeper answers."""
        pid = self._means.keeper.keeper_with_room(self._source.nbytes)
        if pid is None:
            reply = self._ask_for_room()
            pid = None if reply is None else reply.pid
        self._keeper_pid = pid
        return pid

    def _ask_for_room(self) -> Reserved | None:
        self._told_keeper = True
        request = Reserve(index=self._intent.index, nbytes=self._source.nbytes)
        reply = self._means.keeper.ask(request, waiting=self._waiting)
        if reply is not None:
            self.waited_s += reply.waited_s
        return reply

    def _waiting(self, waited_s: float, staged_bytes: int | None) -> float | None:
        """Say what is waited for; after a while do without a keeper that does not answer."""
        what = f"checkpoint {self._intent.index} of trial {self._intent.trial_id}"
        if staged_bytes is None:
            if waited_s < _ANSWER_S:
                return _ANSWER_S - waited_s
            log.warning("no keeper has answered for %.0f s; %s is copied", waited_s, what)
            return None
        log.warning(
            "report waits, for %.0f s now: %s bytes are in staging, and there is no room for %s "
            "more of %s until they are committed. Storage is slower than the reports, or "
            "MILEPOST_STAGING_BYTES is small",
            waited_s,
            f"{staged_bytes:,}",
            f"{self._source.nbytes:,}",
            what,
        )
        return REMIND_S


def _read_into(path: str, buffer: memoryview) -> int:
    """Fill a buffer from a file as far as its bytes go; how many there were."""
    count = 0
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while count < len(buffer) and (read := os.readv(fd, [buffer[count:]])):
            count += read
    finally:
        os.close(fd)
    return count
