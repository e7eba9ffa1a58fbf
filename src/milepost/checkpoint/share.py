"""Storing files only once that did not change since the checkpoint before."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.manifest import FileEntry
from milepost.checkpoint.tree import digest
from milepost.errors import CheckpointError
from milepost.storage import names, posix

log = logging.getLogger("milepost.checkpoint")

SHARE_BYTES = 64 << 10


def share_unchanged(
    tree: str,
    files: Sequence[FileEntry],
    previous: str,
    *,
    hard_links: bool | None = None,
) -> int:
    """Let a staged checkpoint share the bytes of equal files with a committed one.

    Blocks are shared by reflink where the file system can. Elsewhere files are hard-linked and made
    read-only (0444, in both checkpoints; ``to_directory`` restores the modes of the manifests), but
    not by root, whom a mode does not keep from writing. Neither checkpoint depends on the other
    afterwards: deleting one leaves the other whole.

    Files below 64 KiB are left alone. A file of the previous checkpoint is read again first, so
    that damage to it cannot spread. Whatever cannot be shared stays as it is.

    Args:
        tree: the staged directory, in the trial's; nobody else may write to it.
        files: what is in it, as :func:`~.tree.describe` lists it.
        previous: the committed checkpoint.
        hard_links: whether to hard-link where there are no reflinks; default unless root.

    Returns:
        The number of bytes that are shared now.
    """
    by_content = _contents(previous)
    may_link = os.geteuid() != 0 if hard_links is None else hard_links
    reflinks = True
    shared = 0
    for entry in files:
        candidate = by_content.get((entry.size, entry.xxh3))
        if candidate is None or entry.link is not None or entry.size < SHARE_BYTES:
            continue
        if not (reflinks or may_link):
            break
        source = os.path.join(previous, candidate.path)
        target = os.path.join(tree, entry.path)
        # Beside the tree, where a sweep finds it; inside it would become part of the checkpoint.
        draft = names.temporary(os.path.dirname(tree), "share")
        try:
            if digest(source) != (entry.xxh3, entry.size):
                continue  # damaged; whoever reads that checkpoint will say so
            reflinks = reflinks and posix.reflink(source, draft)
            if reflinks:
                posix.chmod(draft, entry.mode)
            elif may_link:
                posix.chmod(source, 0o444)
                posix.link(source, draft)
            else:
                continue
            posix.replace(draft, target)
        except OSError as error:  # too many links, gone meanwhile, no room: keep our own bytes
            with contextlib.suppress(OSError):
                posix.unlink(draft)
            log.debug("%s is stored again, not shared with %s: %s", target, source, error)
            continue
        shared += entry.size
    return shared


def _contents(checkpoint: str) -> dict[tuple[int, str], FileEntry]:
    """Return a checkpoint's regular files by size and digest; none if it cannot be read."""
    try:
        manifest = manifests.read(checkpoint)
    except (OSError, CheckpointError) as error:
        log.debug("nothing is shared with %s: %s", checkpoint, error)
        return {}
    return {(entry.size, entry.xxh3): entry for entry in manifest.files if entry.link is None}
