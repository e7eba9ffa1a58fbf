"""How much a training run logs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from milepost.api.config import Config, FieldCheck, checked
from milepost.api.spelling import did_you_mean


def _level(owner: str, name: str, value: Any) -> str:
    known = logging.getLevelNamesMapping()
    if isinstance(value, int) and not isinstance(value, bool) and value in known.values():
        return logging.getLevelName(value)
    level = value.upper() if isinstance(value, str) else value
    if not isinstance(level, str) or level not in known:
        raise ValueError(
            f"{owner}.{name} must be the name of a logging level, got {value!r}."
            + did_you_mean(level, known)
        )
    return level


@checked
@dataclass
class LoggingConfig(Config):
    """How much of a training run goes to the log. Mirrors ``ray.train.LoggingConfig``.

    Args:
        log_level: name of the least level that is logged, in any case; default ``"INFO"``. Numbers
            such as ``logging.DEBUG`` are taken as well.

    Raises:
        ValueError: there is no such level.

    Example:
        >>> LoggingConfig("debug")
        LoggingConfig(log_level='DEBUG')
    """

    log_level: str = "INFO"

    _checks: ClassVar[Mapping[str, FieldCheck]] = {"log_level": _level}

    def _repr_html_(self) -> str:
        from milepost.api.html import config_table

        return config_table(self)
