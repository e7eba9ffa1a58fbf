"""Where checkpoints come from, and what forks of them hold on to. Pure.

A fork (a trial that goes on from another's checkpoint, a warm start, a restore) copies no bytes:
it is a record, and a pin on the checkpoint it starts from. The pin ends at the fork's own first
commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from milepost.checkpoint.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Fork:
    """A trial that started from a checkpoint.

    Attributes:
        trial: the trial that started.
        first_index: the lowest index its own commits can have since then.
        source_trial: whose checkpoint it started from; may be the same trial.
        source_index: which one.
    """

    trial: str
    first_index: int
    source_trial: str
    source_index: int


def pins(
    forks: Iterable[Fork],
    committed: Mapping[str, Collection[int]],
    ended: Collection[str] = (),
) -> dict[str, dict[int, str]]:
    """Return what must not be deleted because a fork may still have to start from it.

    Args:
        forks: all forks of the experiment.
        committed: the committed indices of each trial.
        ended: trials that will never start again; their forks hold nothing.

    Returns:
        For each trial its pinned indices with the reason, as :func:`~.retention.plan` takes them.
    """
    pinned: dict[str, dict[int, str]] = {}
    for fork in forks:
        if fork.trial in ended:
            continue
        if any(index >= fork.first_index for index in committed.get(fork.trial, ())):
            continue  # it has a checkpoint of its own by now
        reason = f"trial {fork.trial} started from it and has no checkpoint of its own yet"
        pinned.setdefault(fork.source_trial, {})[fork.source_index] = reason
    return pinned


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
