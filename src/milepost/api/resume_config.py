"""What a restored experiment does with each trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from milepost.api.config import Config, FieldCheck, checked
from milepost.api.spelling import did_you_mean


class ResumeType(Enum):
    """What happens to one trial when its experiment is restored."""

    #: Go on from the latest committed checkpoint.
    RESUME = "resume"
    #: Start again from nothing, as a new trial.
    RESTART = "restart"
    #: Leave as it is.
    SKIP = "skip"


_Kind = ResumeType  # the config has an attribute of the same name, for users


def _resume_type(owner: str, name: str, value: Any) -> ResumeType:
    if isinstance(value, ResumeType):
        return value
    if isinstance(value, str) and value.lower() in {kind.value for kind in ResumeType}:
        return ResumeType(value.lower())
    raise ValueError(
        f"{owner}.{name} must be a ResumeConfig.ResumeType, got {value!r}."
        + did_you_mean(value, [kind.value for kind in ResumeType])
    )


@checked
@dataclass
class ResumeConfig(Config):
    """What a restored experiment does with finished, unfinished and failed trials.

    Mirrors Ray's class of the same name.

    Args:
        finished: for trials that ended; default SKIP.
        unfinished: for trials that were pending, running or paused; default RESUME.
        errored: for trials that failed; default SKIP.

    Raises:
        ValueError: a value is no :class:`ResumeType` (nor the name of one).
    """

    ResumeType: ClassVar[type[_Kind]] = _Kind

    finished: _Kind = _Kind.SKIP
    unfinished: _Kind = _Kind.RESUME
    errored: _Kind = _Kind.SKIP

    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        "finished": _resume_type,
        "unfinished": _resume_type,
        "errored": _resume_type,
    }
