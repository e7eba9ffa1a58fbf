"""Names of trainables, experiments, trials and their directories."""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.control.facade import Trial

log = logging.getLogger("milepost.tune")

_UNSAFE = re.compile(r'[/()<>:"\\|?*\x00-\x1f]')
_NAME_BYTES = 255  # the longest name that Linux file systems take
_SUFFIX_BYTES = len("_2026-01-31_23-59-59_abcd")

UNNAMED = "DEFAULT"


def trainable_name(trainable: Any) -> str:
    """Return the name of a trainable, which begins the names of its trials.

    Args:
        trainable: a function, class, partial (named after its function), registered name, or any
            other callable, which has no name of its own and is called ``DEFAULT``.
    """
    if isinstance(trainable, str):
        return trainable
    while isinstance(trainable, functools.partial):
        trainable = trainable.func
    name = getattr(trainable, "_name", None) or getattr(trainable, "__name__", None)
    if not isinstance(name, str):
        log.warning(
            "trainable %r has no name; its experiment and trials are named %r. "
            "Give it a __name__ to change that.",
            trainable,
            UNNAMED,
        )
        return UNNAMED
    if name.startswith("<"):
        return "lambda" if name == "<lambda>" else UNNAMED
    return name


def timestamp(at: float | None = None) -> str:
    """Return local time as names hold it: ``2026-01-31_23-59-59``."""
    return time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(at))


def automatic_name(trainable: str) -> str:
    """Return the name of an experiment that was given none: the trainable's, and the time."""
    name = sanitised(trainable)
    if os.environ.get("TUNE_DISABLE_DATED_SUBDIR", "0") == "1":
        return name
    return f"{name}_{timestamp()}"


def sanitised(name: str) -> str:
    """Return a name with the characters replaced that directories must not have."""
    return _UNSAFE.sub("_", name)


def trial_namer(trainable: str, creator: Callable[[Trial], Any] | None) -> Callable[[Trial], str]:
    """Return what names trials: ``<trainable>[_<env>]_<trial id>``, or the user's creator.

    Args:
        trainable: the trainable's name.
        creator: ``trial -> name``, as in ``TuneConfig.trial_name_creator``.
    """

    def name_of(trial: Trial) -> str:
        if creator is not None:
            return str(creator(trial))
        env = trial.config.get("env")
        parts = [trainable, trial.trial_id]
        if env is not None:
            parts.insert(1, getattr(env, "__name__", str(env)))
        return "_".join(parts).replace("/", "_")

    return name_of


def directory_namer(
    experiment_path: str, creator: Callable[[Trial], Any] | None
) -> Callable[[Trial], str]:
    """Return what names trials' directories, each name once.

    The default is ``<trial name>_<tag>_<time>``, cut to ``TUNE_MAX_LEN_IDENTIFIER`` (130)
    characters before the time, and to what a file system takes.

    Args:
        experiment_path: where the directories go.
        creator: ``trial -> name``, as in ``TuneConfig.trial_dirname_creator``; no time is added.
    """
    given: set[str] = set()

    def dirname_of(trial: Trial) -> str:
        if creator is not None:
            chosen = str(creator(trial))
            if os.sep in chosen:
                raise ValueError(
                    f"trial_dirname_creator returned {chosen!r} for trial {trial}: it must be the "
                    f"name of one directory, without {os.sep!r}."
                )
            name = cut(sanitised(chosen), len(chosen))
        else:
            longest = int(os.environ.get("TUNE_MAX_LEN_IDENTIFIER", "130"))
            head = cut(sanitised(f"{trial}_{trial.experiment_tag}"), longest)
            name = f"{head}_{timestamp()}"
        unique = name
        while unique in given or os.path.lexists(os.path.join(experiment_path, unique)):
            unique = f"{name}_{os.urandom(2).hex()}"
        given.add(unique)
        return unique

    return dirname_of


def cut(name: str, characters: int) -> str:
    """Return the beginning of a name that fits, also as bytes, with room for a suffix."""
    head = name[:characters].encode(errors="surrogateescape")[: _NAME_BYTES - _SUFFIX_BYTES]
    return head.decode(errors="ignore") or UNNAMED
