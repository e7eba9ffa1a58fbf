"""Checkpoints as the machine knows them: captured ones and committed ones.

Rows are opaque: encoded JSON that is carried along.
"""

from __future__ import annotations

import msgspec


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A committed checkpoint.

    Attributes:
        index: its number within the trial.
        path: its directory, absolute.
        iteration: ``training_iteration`` of its row.
        row: the whole result row without config, encoded.
        score: what the row has under the metric that ranks checkpoints.
    """

    index: int
    path: str
    iteration: int
    row: msgspec.Raw
    score: object = None


class Capture(msgspec.Struct, frozen=True):
    """A checkpoint that was captured and is not yet committed."""

    iteration: int
    row: msgspec.Raw
    score: object
