"""Whether a trial's own files go to storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from milepost.api import checks
from milepost.api.config import Config, FieldCheck, checked


@checked
@dataclass
class SyncConfig(Config):
    """Whether files that a trial writes into its working directory go to storage.

    Mirrors Ray's class of the same name. On local storage a trial works in its own directory of
    the experiment, so its files are there at once whatever is set here.

    Args:
        sync_period: seconds between two uploads of artifacts; default 300.
        sync_timeout: seconds after which an upload counts as failed; default 1800.
        sync_artifacts: upload artifacts to remote storage; default False.
        sync_artifacts_on_checkpoint: upload them with every checkpoint as well; default True.

    Raises:
        TypeError, ValueError: a value is of the wrong type or out of range.
    """

    sync_period: int = 300
    sync_timeout: int = 1800
    sync_artifacts: bool = False
    sync_artifacts_on_checkpoint: bool = True

    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        "sync_period": checks.integer(at_least=0),
        "sync_timeout": checks.integer(at_least=0),
        "sync_artifacts": checks.boolean,
        "sync_artifacts_on_checkpoint": checks.boolean,
    }

    def _repr_html_(self) -> str:
        from milepost.api.html import config_table

        return config_table(self)
