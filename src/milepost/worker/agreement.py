"""What the workers of a trial tell each other of a report, and what follows from it. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

_BRINGS, _AWAITS, _UPLOADS = 1, 2, 4


class Part(NamedTuple):
    """What one worker says.

    Attributes:
        brings: it has a part of a checkpoint.
        awaits: it waits for the decision.
        uploads: it has to call a function of the user's before it can bring its part.
        name: rank 0's for the directory of the checkpoint; empty for the usual one.
        path: of the directory that is its part and lies where the checkpoint is to be; empty for
            one that is copied.
        error: why it cannot bring its part after all; empty if it can.
    """

    brings: bool = False
    awaits: bool = False
    uploads: bool = False
    name: str = ""
    path: str = ""
    error: str = ""

    def encode(self) -> bytes:
        """As bytes; one if there is no text."""
        flags = self.brings * _BRINGS | self.awaits * _AWAITS | self.uploads * _UPLOADS
        texts = self[3:]
        return bytes([flags]) + ("\0".join(texts).encode(errors="surrogatepass") * any(texts))


def decode(note: bytes) -> Part:
    """Undo :meth:`Part.encode`."""
    flags = note[0]
    said = bool(flags & _BRINGS), bool(flags & _AWAITS), bool(flags & _UPLOADS)
    if len(note) == 1:
        return Part(*said)
    return Part(*said, *note[1:].decode(errors="surrogatepass").split("\0", 2))


class Agreement(NamedTuple):
    """What the workers of a trial have agreed upon for a report.

    Attributes:
        checkpoint: its number, if any of them brings a part of one.
        name: of its directory.
        ranks: of those that do.
        path: of this worker's part, if that is not copied.
        metrics: of rank 0, pickled, if it brings none; else empty.
        awaits: whether all wait for the decision; None where one alone decides that.
    """

    checkpoint: int | None = None
    name: str = ""
    ranks: tuple[int, ...] = ()
    path: str = ""
    metrics: bytes = b""
    awaits: bool | None = None


def bringing(parts: Sequence[Part]) -> tuple[int, ...]:
    """Return the ranks that bring a part of the checkpoint.

    Of those that pass the same directory, which is not copied, the lowest brings it.

    Raises:
        ValueError: a directory that is not copied lies in another one.
    """
    owners: dict[str, int] = {}
    for rank, part in enumerate(parts):
        if part.brings and part.path:
            owners.setdefault(part.path, rank)
    for path, rank in owners.items():
        for other, lowest in owners.items():
            if path.startswith(other + os.sep):
                raise ValueError(
                    f"rank {rank} reports {path}, which lies in {other} of rank {lowest}. Report "
                    "the outer one on both, or directories beside each other. Nothing was reported."
                )
    return tuple(
        rank
        for rank, part in enumerate(parts)
        if part.brings and (not part.path or owners[part.path] == rank)
    )
