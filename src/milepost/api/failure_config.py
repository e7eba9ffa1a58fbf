"""What happens when a trial fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from milepost.api import checks
from milepost.api.config import Config, FieldCheck, checked


def _fail_fast(owner: str, name: str, value: Any) -> bool | str:
    if isinstance(value, str):
        if value.lower() == "raise":
            return "raise"
    elif isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise ValueError(f"{owner}.{name} must be True, False or 'raise', got {value!r}.")


@checked
@dataclass
class FailureConfig(Config):
    """When a trial has failed, how often it is tried again, and whether a failure ends the run.

    Mirrors Ray's class of the same name.

    Args:
        max_failures: how many times a failed trial is tried again, each time from its latest
            committed checkpoint. 0 (the default) never, -1 without limit.
        fail_fast: True ends the run at the first failure; ``"raise"`` also raises the trial's
            error from ``fit()``. The default is False.
        trial_timeout_s: seconds (or a ``timedelta``) that a trial may be silent: from its start to
            its first report, between two reports, and while a class saves. One that is silent for
            longer hangs: it is killed with everything that it started, and has failed with a
            ``TrialTimeoutError`` that shows where it hung. Waiting for Milepost itself, as for a
            checkpoint to be captured, does not count. The default None sets no limit. Not in Ray.

    Raises:
        ValueError: a value is out of range, or ``max_failures`` and ``fail_fast`` are both set:
            they contradict each other.
        TypeError: a value has the wrong type, or a field is misspelt.
    """

    max_failures: int = 0
    fail_fast: bool | str = False
    trial_timeout_s: float | timedelta | None = None

    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        "max_failures": checks.integer(at_least=0, but=-1),
        "fail_fast": _fail_fast,
        "trial_timeout_s": checks.optional(checks.seconds),
    }

    def __post_init__(self) -> None:
        if self.fail_fast and self.max_failures != 0:
            raise ValueError(
                f"FailureConfig(max_failures={self.max_failures}, fail_fast={self.fail_fast!r}): "
                "a run that ends at the first failure cannot try trials again. "
                "Set max_failures to 0, or leave fail_fast out."
            )

    def _repr_html_(self) -> str:
        from milepost.api.html import config_table

        return config_table(self)
