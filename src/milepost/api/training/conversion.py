"""Run configs of tuning where training takes them, and the other way round.

A training run is one trial, so that most fields mean the same in both. What a config sets and the
other side cannot do is an error; nothing is dropped.
"""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import TypeVar

from milepost.api import checks
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.config import Config, converted, given_fields
from milepost.api.failure_config import FailureConfig as OfTrials
from milepost.api.run_config import RunConfig as OfTuning
from milepost.api.training.callback import UserCallback
from milepost.api.training.failure_config import FailureConfig
from milepost.api.training.run_config import RunConfig

C = TypeVar("C", bound=Config)


def for_training(config: OfTuning | None) -> RunConfig:
    """Return the run config of a trainer, a copy.

    Args:
        config: one of training or of tuning, or None for the defaults.

    Raises:
        TypeError: it is something else.
        DeprecationWarning: it asks for checkpoints that no training function makes by itself.
    """
    given = checks.instance_of(OfTuning, RunConfig)("trainer", "run_config", config)
    made = copy.copy(converted(given, RunConfig))
    if made.failure_config is not None and made.failure_config.fail_fast == "raise":
        # The error of a trainer is raised in any case; so it has the workers' ranks.
        made.failure_config = copy.copy(made.failure_config)
        made.failure_config.fail_fast = True
    kept = made.checkpoint_config or CheckpointConfig()
    for name, blank in (("checkpoint_frequency", 0), ("checkpoint_at_end", False)):
        value = getattr(kept, name)
        if value:
            raise DeprecationWarning(
                f"CheckpointConfig.{name}={value!r} has no effect on a training function, which "
                "makes its checkpoints itself. Call report(metrics, checkpoint=...) when one is "
                f"due, and leave {name} out (or set it to {blank!r})."
            )
    return made


def for_tuning(config: OfTuning) -> OfTuning:
    """Return the run config of a ``Tuner``.

    Args:
        config: one of tuning, which is returned as it is, or one of training.

    Raises:
        ValueError: something is set in it that has a meaning for training workers only.
    """
    made = config
    if isinstance(config, RunConfig):
        for i, callback in enumerate(config.callbacks or ()):
            if isinstance(callback, UserCallback):
                raise ValueError(
                    f"RunConfig.callbacks[{i}] is a milepost.train.UserCallback, which is told of "
                    f"training workers, got {callback!r}. A Tuner takes milepost.tune.Callback "
                    "objects; give this one to a trainer."
                )
        made = _without_workers(config, RunConfig, OfTuning)
    if isinstance(made.failure_config, FailureConfig):
        failure = _without_workers(made.failure_config, FailureConfig, OfTrials)
        made = copy.copy(made)
        made.failure_config = failure
    return made


def _without_workers(config: Config, kind: type[Config], other: type[C]) -> C:
    """Return a config of training as one of tuning; fields of its own must not be set."""
    blank = kind()
    own = _names(kind) - _names(other)
    for name in sorted(given_fields(config) & own):
        value = getattr(config, name)
        if value != getattr(blank, name):
            raise ValueError(
                f"{kind.__name__}.{name}={value!r} is for training workers and has no effect on "
                f"the trials of a Tuner. Leave it out, or give it to a trainer."
            )
    return other(**{n: getattr(config, n) for n in given_fields(config) & _names(other)})


def _names(kind: type[Config]) -> set[str]:
    return {entry.name for entry in fields(kind) if entry.init}  # type: ignore[arg-type]
