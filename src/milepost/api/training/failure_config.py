"""How failures of training workers are answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from milepost.api import checks, failure_config
from milepost.api.config import FieldCheck, checked


@checked
@dataclass
class FailureConfig(failure_config.FailureConfig):
    """How often a training run is tried again, by what went wrong.

    Mirrors ``ray.train.FailureConfig``. Each time, all workers start again from the latest
    committed checkpoint. Counts are those of one ``fit()``; progress does not reset them, and -1
    means without limit.

    Args:
        max_failures: how often after workers failed; default 0.
        fail_fast: True, or ``"raise"``, says that a failure ends the run, as ``max_failures=0``
            does; the default is False. Ray refuses it here.
        controller_failure_limit: no effect; workers that could not be started count in
            ``max_failures``. Default -1.
        max_preemption_failures: how often after machines went away; default -1.
        relax_collectives_on_preemption: no effect; all workers save together before a machine goes
            away, and begin again if it is gone before. Default False.
        preemption_grace_s: seconds (or a ``timedelta``) that workers have after their machines
            were to go away, before they are killed; default 0.
        trial_timeout_s: seconds (or a ``timedelta``) that a worker may be silent, from its start to
            its first report and between two reports. The default None sets no limit. Not in Ray.

    Raises:
        ValueError: a value is out of range, or ``max_failures`` and ``fail_fast`` are both set.
        TypeError: a value has the wrong type, or a field is misspelt.

    Example:
        >>> FailureConfig(max_failures=3, max_preemption_failures=20).controller_failure_limit
        -1
    """

    controller_failure_limit: int = -1
    max_preemption_failures: int = -1
    relax_collectives_on_preemption: bool = False
    preemption_grace_s: float = 0.0
    # Ray's arguments keep their places.
    trial_timeout_s: float | timedelta | None = field(default=None, kw_only=True)

    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        **failure_config.FailureConfig._checks,
        "controller_failure_limit": checks.integer(at_least=0, but=-1),
        "max_preemption_failures": checks.integer(at_least=0, but=-1),
        "relax_collectives_on_preemption": checks.boolean,
        "preemption_grace_s": checks.delay,
    }

    @property
    def without_effect(self) -> list[str]:
        """Fields that are set and have no effect here."""
        blank = FailureConfig()
        names = ("controller_failure_limit", "relax_collectives_on_preemption")
        return [name for name in names if getattr(self, name) != getattr(blank, name)]
