"""Where checkpoints come from, as their manifests tell it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from milepost.checkpoint.manifest import Manifest


def ancestry(manifest: Manifest, known: Iterable[Manifest]) -> list[Manifest]:
    """Return a checkpoint and those it was trained from, newest first, as far as they are known.

    Args:
        manifest: where to begin.
        known: the manifests that still exist, of any trial.
    """
    by_id = {other.id: other for other in known}
    line = [manifest]
    seen = {manifest.id}
    while (parent := line[-1].parent) is not None and parent in by_id and parent not in seen:
        seen.add(parent)  # damaged records could form a circle
        line.append(by_id[parent])
    return line
