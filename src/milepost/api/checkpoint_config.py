"""Which checkpoints are made and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from milepost.api import checks
from milepost.api.config import Config, FieldCheck, checked


@checked
@dataclass
class CheckpointConfig(Config):
    """Which checkpoints a trial makes and which of them are kept. Mirrors Ray's class.

    Args:
        num_to_keep: how many checkpoints to keep per trial, the best ones by
            ``checkpoint_score_attribute`` or else the newest; the latest committed one is kept in
            any case. None (the default) keeps all.
        checkpoint_score_attribute: the metric that ranks checkpoints; ``a/b`` names a nested one.
            None ranks by age. A missing, NaN or non-numeric score never wins.
        checkpoint_score_order: ``"max"`` (the default) or ``"min"``.
        checkpoint_frequency: class API only: a checkpoint every so many iterations. 0, the
            default, makes none.
        checkpoint_at_end: class API only: a checkpoint when the trial ends. None (the default)
            means True for class trainables under ``Tuner`` and False otherwise.

    Raises:
        ValueError: a number is out of range or the order is unknown.
        TypeError: a value has the wrong type, or a field is misspelt.
        DeprecationWarning: one of the two underscored fields is set.

    Example:
        >>> CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="loss",
        ...                  checkpoint_score_order="min").num_to_keep
        2
    """

    num_to_keep: int | None = None
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: str | None = "max"
    checkpoint_frequency: int | None = 0
    checkpoint_at_end: bool | None = None
    _checkpoint_keep_all_ranks: bool | str | None = checks.DEPRECATED
    _checkpoint_upload_from_workers: bool | str | None = checks.DEPRECATED

    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        "num_to_keep": checks.optional(
            checks.integer(at_least=1, meaning=" Leave it unset (None) to keep all checkpoints.")
        ),
        "checkpoint_score_attribute": checks.optional(checks.text),
        "checkpoint_score_order": checks.one_of("max", "min"),
        "checkpoint_frequency": checks.optional(checks.integer(at_least=0)),
        "checkpoint_at_end": checks.optional(checks.boolean),
        "_checkpoint_keep_all_ranks": checks.refused(
            "Let only the rank that should save pass a checkpoint to report().", checks.DEPRECATED
        ),
        "_checkpoint_upload_from_workers": checks.refused(
            "Checkpoints always go from the worker's node to storage.", checks.DEPRECATED
        ),
    }

    def _repr_html_(self) -> str:
        from milepost.api.html import config_table

        return config_table(self)
