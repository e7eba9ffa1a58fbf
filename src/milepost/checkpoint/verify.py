"""Comparing committed checkpoints with their manifests, and choosing one to go on from."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import sys
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from msgspec import structs

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.manifest import MANIFEST_NAME, FileEntry, Manifest
from milepost.checkpoint.tree import digest
from milepost.errors import CheckpointError, CorruptCheckpointError
from milepost.storage import names, posix

log = logging.getLogger("milepost.checkpoint")

#: A number of more digits would never be reached.
_USUAL_NAME: Final = re.compile(r"checkpoint_([0-9]{6,15})")

Kind = Literal["manifest", "missing", "type", "size", "digest", "unreadable"]


class Problem(NamedTuple):
    """One difference between a checkpoint and its manifest.

    Attributes:
        kind: what differs; ``"manifest"`` is the manifest itself.
        path: the file, relative to the checkpoint.
        detail: a sentence for people.
    """

    kind: Kind
    path: str
    detail: str


def check(directory: str, digests: bool = False) -> list[Problem]:
    """Compare a committed checkpoint with its manifest.

    Exactly the files listed are compared; others are ignored.

    Args:
        directory: the checkpoint.
        digests: read every file and compare its content too, not only its size and kind.

    Returns:
        The differences; empty when the checkpoint is good.

    Raises:
        FileNotFoundError: there is no such directory, or it has no manifest: it is not committed.
        CheckpointError: its manifest is of a newer format, so nothing can be said.
    """
    try:
        manifest = manifests.read(directory)
    except CorruptCheckpointError as error:
        return [Problem("manifest", MANIFEST_NAME, str(error))]
    return check_files(directory, manifest, digests=digests)


def check_files(directory: str, manifest: Manifest, *, digests: bool = False) -> list[Problem]:
    """Compare a directory with a manifest that was read before; see :func:`check`."""
    listed = {entry.path: entry for entry in manifest.files}
    problems = [
        _check_link(directory, entry, listed, digests)
        if entry.link is not None
        else _check_file(directory, entry, digests)
        for entry in manifest.files
    ]
    problems += [_check_directory(directory, path) for path in manifest.directories]
    return [problem for problem in problems if problem is not None]


def require_good(directory: str, manifest: Manifest, *, digests: bool = False) -> None:
    """Raise if a checkpoint differs from its manifest.

    Raises:
        CorruptCheckpointError: naming the first difference and the number of them.
    """
    problems = check_files(directory, manifest, digests=digests)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CorruptCheckpointError(
            f"checkpoint {directory} does not match its manifest: {problems[0].detail}{more}. "
            "Nothing was changed; use an older checkpoint. If you changed its files on purpose, "
            f"delete {MANIFEST_NAME} in it, and it is used unverified"
        )


def _check_file(directory: str, entry: FileEntry, digests: bool) -> Problem | None:
    path = os.path.join(directory, entry.path)
    try:
        info = os.lstat(path)
        if not stat.S_ISREG(info.st_mode):
            return Problem("type", entry.path, f"{entry.path} is not a regular file")
        if info.st_size != entry.size:
            return Problem(
                "size",
                entry.path,
                f"{entry.path} has {info.st_size:,} bytes, the manifest says {entry.size:,}",
            )
        if digests and (found := digest(path)[0]) != entry.xxh3:
            return Problem(
                "digest",
                entry.path,
                f"{entry.path} has other bytes than were saved (XXH3-128 is {found}, the manifest "
                f"says {entry.xxh3})",
            )
    except (FileNotFoundError, NotADirectoryError):
        return Problem("missing", entry.path, f"{entry.path} is missing")
    except OSError as error:
        return Problem("unreadable", entry.path, f"{entry.path} cannot be read: {error.strerror}")
    return None


def _check_link(
    directory: str, entry: FileEntry, listed: Mapping[str, FileEntry], digests: bool
) -> Problem | None:
    assert entry.link is not None
    path = os.path.join(directory, entry.path)
    if os.path.islink(path):
        found = os.readlink(path)
        if found == entry.link:
            return None
        detail = f"{entry.path} is a link to {found!r}, the manifest says to {entry.link!r}"
        return Problem("type", entry.path, detail)
    if not os.path.lexists(path):
        return Problem("missing", entry.path, f"{entry.path} is missing")
    # Tools and stores that know no links put what a link leads to in its place.
    target = listed.get(os.path.normpath(os.path.join(os.path.dirname(entry.path), entry.link)))
    if target is None or target.link is not None:
        return None
    return _check_file(directory, structs.replace(target, path=entry.path), digests)


def _check_directory(directory: str, path: str) -> Problem | None:
    if os.path.isdir(os.path.join(directory, path)):
        return None
    return Problem("missing", path, f"the directory {path} is missing")


# --- the checkpoints of a trial -----------------------------------------------------------------


def committed(trial_dir: str) -> list[tuple[int, Manifest]]:
    """List a trial's committed checkpoints by their manifests, oldest first.

    A directory counts only when its manifest can be read and says that this is its name, so that
    copies under other names are left alone. Files are not compared.

    Returns:
        ``(index, manifest)`` pairs; the directory is ``manifest.directory``. Empty for a trial
        without a directory.
    """
    found = []
    for name in directories(trial_dir):
        directory = os.path.join(trial_dir, name)
        try:
            manifest = manifests.read(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue  # a foreign directory, or it was collected just now
        except CheckpointError as error:
            log.warning("%s is not listed: %s", directory, error)
            continue
        if manifest.directory == name:
            found.append((manifest.index, manifest))
    return sorted(found, key=lambda pair: pair[0])


def newest_good(
    trial_dir: str,
    *,
    digests: bool = False,
    quarantine: bool = False,
    among: Mapping[str, int] | None = None,
    log: logging.Logger = log,
) -> tuple[int, Manifest] | None:
    """Return the newest committed checkpoint whose files are those of its manifest.

    Each one that is passed over is one warning, with the reason and what is used instead.

    Args:
        trial_dir: the trial's directory.
        digests: compare contents too; for use after an unclean end.
        quarantine: rename the bad ones (``.milepost-quarantine-...``) once a second read agrees.
            Only the process that holds the experiment may do that.
        among: directory names of those that may be chosen, with their numbers; others (which may
            be about to be deleted) are left alone. None means all.
        log: where to say what was passed over.

    Returns:
        Its ``(index, manifest)``, or None when there is no good one.
    """
    bad: list[str] = []
    chosen = None
    numbers = _numbered(trial_dir) if among is None else among
    there = [name for name in directories(trial_dir) if name in numbers]
    for name in sorted(there, key=numbers.__getitem__, reverse=True):
        directory = os.path.join(trial_dir, name)
        manifest, reason = _examine(directory, digests)
        if reason is not None:
            bad.append(_pass_over(directory, reason, digests, quarantine))
        elif manifest is not None:
            chosen = manifest.index, manifest
            break
    instead = f"using {chosen[1].directory}" if chosen else "no older checkpoint is left"
    for line in bad:
        log.warning("%s; %s", line, instead)
    return chosen


def directories(trial_dir: str) -> list[str]:
    """Return the names in a trial's directory that may be of checkpoints; none if it is gone."""
    try:
        with os.scandir(trial_dir) as entries:
            return [
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _numbered(trial_dir: str) -> dict[str, int]:
    """The numbers of checkpoints by the names of their directories.

    One whose manifest cannot be read has that of its usual name, else it is taken for the newest.
    """
    found = {}
    for name in directories(trial_dir):
        number = number_of(name)
        try:
            found[name] = manifests.read(os.path.join(trial_dir, name)).index
        except (FileNotFoundError, NotADirectoryError):
            continue  # a foreign directory
        except (CheckpointError, OSError):
            found[name] = sys.maxsize if number is None else number
    return found


def number_of(name: str) -> int | None:
    """Return the number that a directory has by its name alone; None for a name of another kind."""
    found = _USUAL_NAME.fullmatch(name)
    return None if found is None else int(found[1])


def _examine(directory: str, digests: bool) -> tuple[Manifest | None, str | None]:
    """Return a manifest, or why it cannot be used; neither for a foreign directory or a copy."""
    try:
        manifest = manifests.read(directory)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except (CheckpointError, OSError) as error:
        return None, str(error)
    if manifest.directory != os.path.basename(directory):
        return None, None
    problems = check_files(directory, manifest, digests=digests)
    if not problems:
        return manifest, None
    return None, "; ".join(problem.detail for problem in problems[:3])


def _pass_over(directory: str, reason: str, digests: bool, quarantine: bool) -> str:
    trial, name = os.path.split(directory)
    line = f"{name} of trial directory {trial} failed verification: {reason}"
    if not quarantine:
        return line
    if not _is_bad_again(directory, digests):
        return f"{line}; a second read did not agree, so it stays where it is"
    aside = names.quarantine(directory)
    try:
        posix.rename_noreplace(directory, aside)
        posix.fsync_dir(trial)
    except OSError as error:
        return f"{line}; moving it to quarantine failed too ({error.strerror}), so it stays"
    return f"{line}; the bad copy is in {os.path.basename(aside)}"


def _is_bad_again(directory: str, digests: bool) -> bool:
    """Read a checkpoint once more, from the disk: memory may have been at fault."""
    try:
        for entry in manifests.read(directory).files:
            if entry.link is None:
                _forget_cached(os.path.join(directory, entry.path))
        return bool(check(directory, digests=digests))
    except CorruptCheckpointError:
        _forget_cached(os.path.join(directory, MANIFEST_NAME))
        return bool(check(directory, digests=digests))
    except (CheckpointError, OSError):
        return False  # of a newer format, or gone: nothing that a quarantine would improve


def _forget_cached(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            raise
        return
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
