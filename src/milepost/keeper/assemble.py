"""Making the directory that becomes a checkpoint out of what was captured."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.manifest import MANIFEST_NAME, checkpoint_name
from milepost.checkpoint.share import share_unchanged
from milepost.checkpoint.tree import Tree, describe, new_hasher, walk
from milepost.errors import CaptureError
from milepost.keeper.intent import CapturedFile, Staged
from milepost.keeper.lease import Leases, OverwrittenError
from milepost.keeper.place import DRAFT_SUFFIX
from milepost.storage import names, posix

_NOT_LINKABLE = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP})
_SPARE_BYTES = 1 << 20


class Assembled(NamedTuple):
    """A directory that is ready to be committed, on the file system of its trial.

    Attributes:
        directory: where it is, under a name that no reader lists.
        tree: what is in it.
        parts: which rank contributed what; empty for a trial of one worker.
    """

    directory: str
    tree: Tree
    parts: list[manifests.Part]


class Assembler:
    """Makes checkpoint directories; its methods run in commit threads.

    Args:
        leases: the leases on staged files.
        umask: what the modes of committed files follow.
    """

    def __init__(self, leases: Leases, umask: int) -> None:
        self._leases = leases
        self._umask = umask

    def assemble(self, parts: Sequence[Staged], trial: str, *, in_place: bool) -> Assembled:
        """Make the directory of a checkpoint.

        Args:
            parts: the complete captures of the trial's workers, by rank.
            trial: the trial's directory.
            in_place: whether a captured tree itself may become the checkpoint. Pass False when
                renaming it has failed, because mounts can share a device number.

        Raises:
            CaptureError: two workers captured different files under one path, or bytes were lost.
            OSError: it failed; nothing of it is left in the trial's directory.
        """
        first = parts[0]
        assert first.captured is not None
        if (
            in_place
            and len(parts) == 1
            and not first.captured.packed
            and os.stat(first.tree).st_dev == os.stat(trial).st_dev
        ):
            made = Assembled(first.tree, self._finish(first), [])
        else:
            made = self._join(parts, trial)
        _share(first, trial, made)
        return made

    # --- in place ------------------------------------------------------------------------------

    def _finish(self, staged: Staged) -> Tree:
        """Make a captured tree ready to become the checkpoint itself."""
        assert staged.captured is not None
        # A source that was moved may have had something of this name, even a directory.
        posix.remove_tree(os.path.join(staged.tree, MANIFEST_NAME))
        digests = {}
        for file in staged.captured.files:
            digest = self._settle(staged, file)
            if digest is not None:
                digests[file.path] = digest
        for item in walk(staged.tree):
            if item.is_directory:
                self._follow_umask(os.path.join(staged.tree, item.path))
        self._follow_umask(staged.tree)
        return _described(staged.tree, {file.path for file in staged.captured.files}, digests)

    def _settle(self, staged: Staged, file: CapturedFile) -> str | None:
        """Make a staged file nobody else's; its digest, if it had to be read for that."""
        path = os.path.join(staged.tree, file.path)
        digest = None
        if file.way == "leased":
            # Reading it all first gives its owner the time to remove the other name.
            digest = self._leases.digest(staged.base, path)
            self._make_private(staged, path)
        _require_unchanged(path, file)
        if file.way in ("leased", "moved"):
            self._follow_umask(path)
        return digest

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

    def _follow_umask(self, path: str) -> None:
        mode = os.lstat(path).st_mode
        wanted = (0o777 if mode & stat.S_IXUSR else 0o666) & ~self._umask
        if stat.S_IMODE(mode) != wanted:
            posix.chmod(path, wanted)

    # --- in the trial's directory --------------------------------------------------------------

    def _join(self, parts: Sequence[Staged], trial: str) -> Assembled:
        """Bring one or several captures together in a new directory."""
        _require_room(parts, trial)
        with _new_directory(parts[0], trial) as target:
            joined = _Joined(target)
            for staged in parts:
                assert staged.captured is not None
                if staged.captured.packed:
                    _unpack(staged, joined)
                else:
                    self._add_tree(staged, joined, link=len(parts) > 1)
            tree = _described(target, joined.digests.keys(), joined.digests)
            listed = joined.parts if len(parts) > 1 else []
            return Assembled(target, tree, listed)

    def _add_tree(self, staged: Staged, joined: _Joined, link: bool) -> None:
        assert staged.captured is not None
        part = joined.begin(staged)
        for item in reversed(list(walk(staged.tree))):  # a directory before its entries
            if item.is_directory:
                part.add_directory(item.path)
            elif item.is_link:
                part.add_link(item.path, os.readlink(os.path.join(staged.tree, item.path)))
        for file in staged.captured.files:
            if link:
                self._link_file(staged, file, part)
            else:
                self._copy_file(staged, file, part)

    def _link_file(self, staged: Staged, file: CapturedFile, part: _Joining) -> None:
        """Take a file without a copy, and leave it in staging too, in case this is repeated."""
        path = os.path.join(staged.tree, file.path)
        digest = self._settle(staged, file) or self._leases.digest(staged.base, path)
        target = part.add_file(file.path, digest)
        if target is None:
            return
        try:
            posix.link(path, target)
        except OSError as error:
            if error.errno not in _NOT_LINKABLE:
                raise
            posix.copy_file(path, target)

    def _copy_file(self, staged: Staged, file: CapturedFile, part: _Joining) -> None:
        path = os.path.join(staged.tree, file.path)
        mode = None if file.way in ("leased", "moved") else stat.S_IMODE(os.lstat(path).st_mode)
        target = os.path.join(part.target, file.path)

        def copy(source: str) -> str:
            posix.remove_tree(target)
            hasher = new_hasher()
            posix.copy_file(source, target, hasher, mode)
            digest: str = hasher.hexdigest()
            return digest

        digest = self._leases.stable(staged.base, path, copy)
        _require_unchanged(path, file)
        part.add_file(file.path, digest)


def _unpack(staged: Staged, joined: _Joined) -> None:
    """Write the files of a small capture, which are part of its record."""
    assert staged.captured is not None
    part = joined.begin(staged)
    for path in staged.captured.directories:
        part.add_directory(path)
    for path, link in staged.captured.links:
        part.add_link(path, link)
    with staged.open_packed() as record:
        for file in staged.captured.files:
            data = record.read(file.size)
            if len(data) != file.size:
                raise CaptureError(f"{record.name} was cut after it had been completed")
            hasher = new_hasher()
            hasher.update(data)
            target = part.add_file(file.path, hasher.hexdigest())
            if target is not None:
                posix.write_new(target, data, 0o777 if file.executable else 0o666)


class _Joined:
    """A directory into which the captures of several workers go, and who brought what."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.digests: dict[str, str] = {}
        self.parts: list[manifests.Part] = []
        self.owners: dict[str, tuple[int, str]] = {}  # path -> rank, and what it is

    def begin(self, staged: Staged) -> _Joining:
        """Begin with the capture of the next rank."""
        rank = staged.intent.rank
        paths: list[str] = []
        self.parts.append(manifests.Part(rank=rank, paths=paths))
        return _Joining(self, rank, paths)


class _Joining:
    """One worker's capture on its way into the directory."""

    def __init__(self, joined: _Joined, rank: int, paths: list[str]) -> None:
        self.target = joined.target
        self._joined = joined
        self._rank = rank
        self._paths = paths

    def add_directory(self, path: str) -> None:
        """Make a directory, unless another worker had it too."""
        if self._is_new(path, "a directory"):
            posix.mkdir(os.path.join(self.target, path))

    def add_link(self, path: str, link: str) -> None:
        """Make a symbolic link, unless another worker had the same one."""
        if self._is_new(path, f"a link to {link!r}"):
            posix.symlink(link, os.path.join(self.target, path))
        self._paths.append(path)

    def add_file(self, path: str, digest: str) -> str | None:
        """Where to put a file; None if another worker had the same one, which is there."""
        self._paths.append(path)
        if not self._is_new(path, f"a file with XXH3-128 {digest}"):
            return None
        self._joined.digests[path] = digest
        return os.path.join(self.target, path)

    def _is_new(self, path: str, what: str) -> bool:
        rank, other = self._joined.owners.setdefault(path, (self._rank, what))
        if other != what:
            raise CaptureError(
                f"workers {rank} and {self._rank} both captured {path!r}, as {other} and as "
                f"{what}. Give files that differ between workers different names"
            )
        return rank == self._rank


def _require_room(parts: Sequence[Staged], trial: str) -> None:
    """Begin no copy that would fill the disk to the brim, even for a moment.

    The journal and the result files of all trials may lie there too; a checkpoint that does not
    fit must not cost them their next row.
    """
    device = os.stat(trial).st_dev
    nbytes = sum(
        part.captured.nbytes
        for part in parts
        if part.captured is not None and os.stat(os.path.dirname(part.base)).st_dev != device
    )
    room = os.statvfs(trial)
    free = room.f_bavail * room.f_frsize
    if nbytes and free < nbytes + _SPARE_BYTES:
        reason = (
            f"{os.strerror(errno.ENOSPC)} ({nbytes:,} bytes are needed and {free:,} are free, of "
            f"which {_SPARE_BYTES:,} stay for journal and results)"
        )
        raise OSError(errno.ENOSPC, reason, trial)


@contextlib.contextmanager
def _new_directory(staged: Staged, trial: str) -> Iterator[str]:
    """Make a directory for a checkpoint in its trial, which is removed if the block fails."""
    label = checkpoint_name(staged.intent.index)
    # Whoever sweeps the directory meanwhile sees by the process id that somebody works with it.
    name = f"{names.TMP_PREFIX}{label}-{staged.intent.attempt_id}.{os.getpid()}"
    target = os.path.join(trial, name)
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


def _described(directory: str, captured: Collection[str], digests: dict[str, str]) -> Tree:
    """What the manifest lists: what was captured, and nothing that appeared since."""
    tree = describe(directory, known=digests)
    files = [entry for entry in tree.files if entry.link is not None or entry.path in captured]
    return Tree(files, tree.directories, sum(entry.size for entry in files))


def _share(staged: Staged, trial: str, made: Assembled) -> None:
    """Store files that did not change since the checkpoint before only once."""
    index = (staged.intent.parent or "").rpartition("-")[2]
    if index.isdecimal():
        name = checkpoint_name(int(index), staged.intent.parent_dir_name)
        previous = os.path.join(trial, name)
        share_unchanged(made.directory, made.tree.files, previous)
