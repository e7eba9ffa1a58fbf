"""Publishing checkpoints: all of one, durably, or nothing of it.

The order is the whole point::

    files durable -> directories durable, leaves first -> manifest durable in the staged directory
    -> rename to the final name, which must be free -> parent directory durable

A reader that finds the final name therefore finds every byte, after a power loss too. Several
small checkpoints share one ``syncfs`` for everything before the renames, and one flush per
directory after them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.manifest import MANIFEST_NAME, Manifest
from milepost.checkpoint.tree import walk
from milepost.errors import CheckpointError, MilepostError
from milepost.storage import posix

log = logging.getLogger("milepost.checkpoint")

GROUP_BYTES = 64 << 20
GROUP_FILES = 16
SLOW_SYNC_S = 1.0
SLOW_SYNC_MEMORY_S = 60.0


class Prepared(NamedTuple):
    """A staged checkpoint that is ready to be published.

    Attributes:
        directory: the staged tree, under a name no reader lists, on the file system of
            ``target``. It becomes the checkpoint; nobody else may write to it any more.
        target: the final directory, ``<trial>/checkpoint_000012``.
        manifest: what to publish; its files are listed as :func:`~.tree.describe` does.
    """

    directory: str
    target: str
    manifest: Manifest


Fence = Callable[[Prepared], None]


def commit(batch: Sequence[Prepared], *, fence: Fence | None = None) -> list[Manifest | Exception]:
    """Publish staged checkpoints; those returned as manifests are durable and visible.

    *Atomicity*: each checkpoint is visible whole or not at all; items do not depend on each other.
    *Durability*: files, names and manifest of what is returned as a manifest survive power loss.
    *Concurrency*: a target that exists is never touched. One with the same id counts as done, so
    repeating a commit whose outcome is unknown is safe.
    *After a crash*: the staged directory or the committed checkpoint is there, not both.

    Args:
        batch: the checkpoints, in the order in which they become visible.
        fence: called for each item right before it becomes visible; raises
            (:class:`~milepost.errors.LeaseLostError`) when this process may not publish any more.

    Returns:
        For each item its manifest, or the exception that stopped it. After an ``OSError`` from the
        last flush the checkpoint may be visible; it is complete, and whoever finds it may use it.
    """
    works = [_Work(item) for item in batch]
    _each(works, _write_manifest)
    _make_durable(works)

    def publish(work: _Work) -> None:
        if fence is not None:
            fence(work.item)
        _publish(work.item)

    _each((work for work in works if not work.published), publish)
    _flush_parents(works)
    return [work.item.manifest if work.error is None else work.error for work in works]


@dataclass(slots=True)
class _Work:
    """One item on its way: what stopped it, and whether an earlier commit had published it."""

    item: Prepared
    error: Exception | None = None
    published: bool = False


def _each(works: Iterable[_Work], step: Callable[[_Work], None]) -> None:
    """Run a step for each item that has not failed; a failure stays with its item."""
    for work in works:
        if work.error is not None:
            continue
        try:
            step(work)
        except (OSError, MilepostError) as error:
            error.add_note(f"while committing {work.item.target}; earlier checkpoints are intact")
            work.error = error


def _write_manifest(work: _Work) -> None:
    item = work.item
    if not os.path.isdir(item.directory) and _published_id(item.target) == item.manifest.id:
        work.published = True
        return
    path = os.path.join(item.directory, MANIFEST_NAME)
    if os.path.lexists(path):  # an attempt before this one, or the source was itself a checkpoint
        posix.unlink(path)
    posix.write_new(path, manifests.to_bytes(item.manifest))


# --- everything before the rename ---------------------------------------------------------------

_slow_until: dict[int, float] = {}


def _make_durable(works: Sequence[_Work]) -> None:
    waiting = [work for work in works if work.error is None and not work.published]
    groups: dict[int, list[_Work]] = {}

    def group(work: _Work) -> None:
        groups.setdefault(os.stat(work.item.directory).st_dev, []).append(work)

    _each(waiting, group)
    for device, members in groups.items():
        if not _try_syncfs(device, [work.item for work in members]):
            _each(members, lambda work: _flush_tree(work.item.directory))


def _try_syncfs(device: int, items: list[Prepared]) -> bool:
    """Flush a whole file system if that is cheaper than flushing each file, and works."""
    files = sum(len(item.manifest.files) for item in items)
    nbytes = sum(item.manifest.nbytes for item in items)
    if (len(items) == 1 and files <= GROUP_FILES) or nbytes > GROUP_BYTES:
        return False
    started = time.monotonic()
    if started < _slow_until.get(device, 0.0):
        return False
    try:
        posix.syncfs(items[0].directory)
    except OSError as error:
        # It speaks for every file of the file system. Flushing ours one by one still reports
        # those of them that failed, since each was opened after its failure.
        log.warning(
            "flushing file system of %s failed (%s); flushing files one by one",
            items[0].directory,
            error,
        )
        return False
    took = time.monotonic() - started
    if took > SLOW_SYNC_S:
        _slow_until[device] = time.monotonic() + SLOW_SYNC_MEMORY_S
        log.info(
            "flushing file system of %s took %.1f s, so files are flushed one by one for %.0f s",
            items[0].directory,
            took,
            SLOW_SYNC_MEMORY_S,
        )
    return True


def _flush_tree(directory: str) -> None:
    """Flush every file and directory of a tree, leaves first, the root last."""
    items = [(os.path.join(directory, item.path), item) for item in walk(directory)]
    for path, item in items:
        if item.is_file:
            posix.start_writeback(path)
    for path, item in items:
        if item.is_file:
            posix.fsync_file(path)
        elif item.is_directory:
            posix.fsync_dir(path)
    posix.fsync_dir(directory)


# --- the rename and after -----------------------------------------------------------------------


def _publish(item: Prepared) -> None:
    try:
        posix.rename_noreplace(item.directory, item.target)
    except (FileExistsError, FileNotFoundError) as error:
        # NFS may answer so to its own repetition of a rename that worked; and a repeated commit
        # finds what it had already published.
        if _published_id(item.target) != item.manifest.id:
            raise _conflict(item) if isinstance(error, FileExistsError) else error from None


def _published_id(target: str) -> str | None:
    try:
        return manifests.read(target).id
    except (OSError, CheckpointError):
        return None


def _conflict(item: Prepared) -> FileExistsError:
    return FileExistsError(
        f"{item.target} exists and is not checkpoint {item.manifest.id}; it was not touched, and "
        f"the new one stays in {item.directory}. Two processes write to one trial, or a directory "
        "was put there by hand"
    )


def _flush_parents(works: Sequence[_Work]) -> None:
    """Flush the directories that hold the new names, and the one that holds these."""
    parents = {os.path.dirname(work.item.target) for work in works if work.error is None}
    failures: dict[str, OSError] = {}
    for directory in sorted(parents | {os.path.dirname(parent) for parent in parents}):
        try:
            posix.fsync_dir(directory)
        except OSError as error:
            failures[directory] = error

    def check(work: _Work) -> None:
        parent = os.path.dirname(work.item.target)
        for directory in (parent, os.path.dirname(parent)):
            if failure := failures.get(directory):
                raise OSError(failure.errno, failure.strerror, directory)

    _each(works, check)
