"""Arguments of ``tune.run`` that older scripts pass: translated with a warning, or refused."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.resume_config import ResumeConfig, ResumeType
from milepost.api.spelling import did_you_mean
from milepost.errors import TuneError

_RESUME_REMOVED = ("LOCAL", "REMOTE", "PROMPT", "ERRORED_ONLY")
_RESUME_SUFFIXES = ("ERRORED", "RESTART_ERRORED", "ERRORED_ONLY", "RESTART_ERRORED_ONLY")
_EXPORT_FORMATS = ("checkpoint", "model", "onnx", "h5")


def checkpoint_config(
    config: CheckpointConfig | None,
    *,
    keep_checkpoints_num: int | None,
    checkpoint_score_attr: str | None,
    checkpoint_freq: int,
    checkpoint_at_end: bool,
) -> CheckpointConfig:
    """Return a checkpoint config with the older arguments of ``tune.run`` put into it.

    ``checkpoint_score_attr="min-loss"`` means the lowest loss. Each argument given is a
    DeprecationWarning that names its field.
    """
    config = copy.copy(config) or CheckpointConfig()
    changes: dict[str, Any] = {}
    if keep_checkpoints_num:
        changes["num_to_keep"] = keep_checkpoints_num
        _warn("keep_checkpoints_num", "num_to_keep")
    if checkpoint_score_attr:
        is_min = checkpoint_score_attr.startswith("min-")
        changes["checkpoint_score_attribute"] = checkpoint_score_attr.removeprefix("min-")
        changes["checkpoint_score_order"] = "min" if is_min else "max"
        _warn("checkpoint_score_attr", "checkpoint_score_attribute")
    if checkpoint_freq:
        changes["checkpoint_frequency"] = checkpoint_freq
        _warn("checkpoint_freq", "checkpoint_frequency")
    if checkpoint_at_end:
        changes["checkpoint_at_end"] = checkpoint_at_end
        _warn("checkpoint_at_end", "checkpoint_at_end")
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def refuse(*, chdir_to_trial_dir: Any, local_dir: Any, export_formats: Any) -> None:
    """Refuse the arguments of ``tune.run`` that cannot take effect.

    Raises:
        DeprecationWarning: one that Ray has removed as well.
        TuneError: one that this version does not have.
    """
    if chdir_to_trial_dir != "DEPRECATED":
        raise DeprecationWarning(
            f"tune.run(chdir_to_trial_dir={chdir_to_trial_dir!r}) has no effect any more. Set the "
            "environment variable RAY_CHDIR_TO_TRIAL_DIR=0 to stay in the driver's directory."
        )
    if local_dir is not None:
        raise DeprecationWarning(
            f"tune.run(local_dir={local_dir!r}) has no effect any more: use storage_path."
        )
    for wanted in export_formats or ():
        if wanted not in _EXPORT_FORMATS:
            raise TuneError(
                f"Unsupported export format {wanted!r}." + did_you_mean(wanted, _EXPORT_FORMATS)
            )
    if export_formats:
        raise TuneError(
            f"tune.run(export_formats={export_formats!r}): this version does not export models at "
            "the end of trials. Call Trainable.export_model in save_checkpoint, or report the "
            "exported files with a checkpoint."
        )


def resume_option(resume: Any, resume_config: ResumeConfig | None) -> ResumeConfig | None:
    """Return what ``tune.run(resume=..., resume_config=...)`` asks for; None for a new run.

    Raises:
        DeprecationWarning: a way of asking that Ray has removed as well.
        TypeError: ``resume_config`` is no ResumeConfig.
        ValueError: an unknown one.
    """
    if resume_config is not None:
        if not isinstance(resume_config, ResumeConfig):
            raise TypeError(f"resume_config must be a ResumeConfig, got {resume_config!r}.")
        return resume_config
    if not resume:
        return None
    if not isinstance(resume, str):
        return ResumeConfig()
    first, *suffixes = resume.upper().split("+")
    if first in _RESUME_REMOVED:
        raise DeprecationWarning(
            f"tune.run(resume={resume!r}) has no effect any more: {first} was removed. Use "
            "resume='AUTO'."
        )
    for suffix in suffixes:
        if suffix not in _RESUME_SUFFIXES:
            raise ValueError(
                f"tune.run(resume={resume!r}): unknown part {suffix!r}."
                + did_you_mean(suffix, _RESUME_SUFFIXES)
            )
    wanted = ResumeConfig()
    if any(suffix.startswith("RESTART") for suffix in suffixes):
        wanted.errored = ResumeType.RESTART
    if any(suffix.startswith("ERRORED") for suffix in suffixes):
        wanted.errored = ResumeType.RESUME
    if any(suffix.endswith("ONLY") for suffix in suffixes):
        wanted.unfinished = ResumeType.SKIP
    return wanted


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"tune.run({old}=...) is deprecated: use "
        f"tune.run(checkpoint_config=CheckpointConfig({new}=...)).",
        DeprecationWarning,
        stacklevel=5,
    )
