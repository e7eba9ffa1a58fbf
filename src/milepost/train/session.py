"""``report`` and ``get_checkpoint``: what training functions call."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from milepost.api import checks
from milepost.api.training.reported import CheckpointUploadMode
from milepost.train.context import TrainContext, current

if TYPE_CHECKING:
    from milepost.api.training.preemption import PreemptionInfo
    from milepost.api.training.validation_config import ValidationTaskConfig
    from milepost.checkpoint.handle import Checkpoint
    from milepost.worker.placing import Placing
    from milepost.worker.validation import Validation


def report(
    metrics: dict[str, Any],
    checkpoint: Checkpoint | None = None,
    checkpoint_dir_name: str | None = None,
    checkpoint_upload_mode: CheckpointUploadMode | None = None,
    delete_local_checkpoint_after_upload: bool | None = None,
    checkpoint_upload_fn: Callable[[Checkpoint, str], Checkpoint] | None = None,
    validation: bool | ValidationTaskConfig = False,
) -> None:
    """Report metrics, and a checkpoint with them. Mirrors ``ray.train.report``.

    Every worker calls it, equally often. What rank 0 reports is the result. The checkpoint is made
    up of the files of all workers that pass one; with None on all of them there is none. Two
    workers may not bring a file of the same name with other bytes.

    The directory is captured before it returns, so that it may be changed or deleted at once; its
    bytes become durable afterwards, outside this process. A checkpoint is there when the parts of
    all workers are, or not at all.

    Args:
        metrics: plain values by name; nested dicts are fine.
        checkpoint: a directory, ``Checkpoint.from_directory(path)``.
        checkpoint_dir_name: name of the checkpoint's directory in the run's; that of rank 0 counts.
            One that is taken gets a number, and a warning says so. Default: ``checkpoint_000012``.
        checkpoint_upload_mode: ``SYNC`` returns when the checkpoint is durable. ``ASYNC`` is the
            default, and deletes the directory. With ``NO_UPLOAD`` nothing is copied: the directory,
            which lies in the run's, is renamed to be the checkpoint, and keeps its own name if
            rank 0 gives none. Until the commit it is away; :func:`get_checkpoint` waits for that.
            Where several workers pass one directory, the lowest rank brings it.
        delete_local_checkpoint_after_upload: whether the directory is given away; by default as
            the mode says. It does not concern what is not copied.
        checkpoint_upload_fn: ``(checkpoint, name) -> Checkpoint``, called by each worker that
            passes a checkpoint, in this thread. It brings it to the run's directory, and what it
            returns is taken as with ``NO_UPLOAD``. It may write to
            ``get_context().get_storage().build_checkpoint_path_from_name(name)``.
        validation: whether the checkpoint is validated once it is committed, as the trainer's
            ``validation_config`` says; or how else. That of the lowest rank that passes a
            checkpoint counts.

    Raises:
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        DeprecationWarning: this is a trial of a ``Tuner``, which has ``milepost.tune.report``.
        TypeError: ``metrics`` is no dict, ``checkpoint`` no :class:`Checkpoint`, or an option is of
            another type; or arguments of the validation cannot be pickled.
        ValueError: a metric is a tensor or a module; the run's directory would be deleted; no
            directory can have that name; what is not to be copied is not in the run's directory;
            ``checkpoint_upload_fn`` returned no checkpoint there, or comes with ``NO_UPLOAD``; or
            there is nothing to validate, or no function for that.
        Exception: of ``checkpoint_upload_fn``, or of what still wrote the directory, such as
            ``save_state_async``. Nothing was reported.
        FileNotFoundError: the checkpoint's directory does not exist.
        CollectiveError: another worker does something else, has ended, or was waited for too long.
        CaptureError: the checkpoint could not be captured, or that of another worker not be brought
            by its ``checkpoint_upload_fn``; nothing was reported.
        CheckpointFailedError: an earlier checkpoint could not be committed, or with ``SYNC``, this
            one.
        RuntimeError: called in a child process of the worker.
    """
    from milepost.worker import session

    context = current("milepost.train.report")
    asked = _validation(context, checkpoint, validation)
    mode = _mode(checkpoint_upload_mode)
    placing = _placing(checkpoint_dir_name, mode, checkpoint_upload_fn)
    deletes = delete_local_checkpoint_after_upload
    if deletes is None:
        deletes = mode is not None and mode.default_delete_local_checkpoint_after_upload()
    deletes = checks.boolean("report()", "delete_local_checkpoint_after_upload", deletes)
    if placing.stays:
        deletes = False
    if checkpoint is not None and deletes:
        checkpoint = _given_away(context, checkpoint)
    worker = session.current_session()
    assert worker is not None
    moved = worker.report(
        metrics, checkpoint, call="train.report", placing=placing, validation=asked
    )
    if checkpoint is not None and deletes and os.path.realpath(checkpoint.path) != moved:
        shutil.rmtree(checkpoint.path, ignore_errors=True)  # what was not simply moved away
    if checkpoint is not None and mode is CheckpointUploadMode.SYNC:
        worker.get_checkpoint()  # which waits for it


def get_checkpoint() -> Checkpoint | None:
    """Return the newest checkpoint of this run. Mirrors ``ray.train.get_checkpoint``.

    At the start that is the one to go on from, or None; later the last one reported. It is the
    same for all workers. After a report with a checkpoint this waits for its commit.

    Raises:
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        DeprecationWarning: this is a trial of a ``Tuner``.
        CheckpointFailedError: the checkpoint reported last could not be committed.
    """
    from milepost.worker import session

    current("milepost.train.get_checkpoint")
    return session.get_checkpoint()


def get_preemption_info() -> PreemptionInfo | None:
    """Return why the workers should save and stop; None while they may go on.

    Mirrors ``ray.train.get_preemption_info``. Every worker calls it, equally often, and all get
    the same answer. The report after that does not return.

    Raises:
        SessionMisuseError: this is no training worker (also a ``RuntimeError``).
        DeprecationWarning: this is a trial of a ``Tuner``.
        CollectiveError: another worker does something else, has ended, or was waited for too long.
    """
    from milepost.api.training.preemption import PreemptionInfo
    from milepost.train import collective
    from milepost.worker import session

    context = current("milepost.train.get_preemption_info")
    dialog = session.current_dialog()
    assert dialog is not None
    if context.world_size == 1:
        info = dialog.poll()
    else:
        collective.shared(None, "train.get_preemption_info()")
        info = dialog.agreed_preemption()
    if info is None:
        return None
    ranks = range(context.world_size) if dialog.preempted is None else dialog.preempted
    nodes = {os.uname().nodename: list(ranks)} if ranks else {}
    return PreemptionInfo(info.deadline_ms, nodes, reason=info.reason)


def _mode(mode: Any) -> CheckpointUploadMode | None:
    if mode is None or isinstance(mode, CheckpointUploadMode):
        return mode
    names = ", ".join(f"CheckpointUploadMode.{each.name}" for each in CheckpointUploadMode)
    raise TypeError(f"report(checkpoint_upload_mode=...) must be one of {names}, got {mode!r}.")


def _validation(
    context: TrainContext, checkpoint: Checkpoint | None, validation: Any
) -> Validation | None:
    """What is captured with the checkpoint so that it will be validated, if it will be."""
    if validation is False:
        return None
    from milepost.api.training.validation_config import ValidationTaskConfig
    from milepost.worker.validation import validation as captured

    task = (context._validation or ValidationTaskConfig()).overlaid(validation)
    if task is None:
        return None
    if checkpoint is None:
        raise ValueError(
            f"train.report(validation={validation!r}) has no checkpoint to validate. Pass one, or "
            "leave validation out on workers that pass none."
        )
    if context._validation is None:
        raise ValueError(
            f"train.report(validation={validation!r}) needs a function that validates. Give it to "
            "the trainer: validation_config=ValidationConfig(fn)."
        )
    limit_s = None
    if task.timeout_s is not None:
        limit_s = checks.delay("ValidationTaskConfig", "timeout_s", task.timeout_s)
    return captured(task.fn_kwargs or {}, limit_s)


def _placing(name: Any, mode: CheckpointUploadMode | None, upload: Any) -> Placing:
    from milepost.worker.placing import Placing, check_name

    if name is not None:
        check_name(name, "report(checkpoint_dir_name=...)")
    if upload is not None and not callable(upload):
        raise TypeError(f"report(checkpoint_upload_fn=...) must be a function, got {upload!r}.")
    stays = mode is CheckpointUploadMode.NO_UPLOAD
    if stays and upload is not None:
        raise ValueError(
            "report(checkpoint_upload_fn=...) would not be called with NO_UPLOAD, by which the "
            "checkpoint is in the run's directory already. Leave one of them out."
        )
    return Placing(name, stays, upload)


def _given_away(context: TrainContext, checkpoint: Checkpoint) -> Checkpoint:
    """The same directory, which may be renamed away."""
    from milepost.checkpoint.handle import Checkpoint

    if not isinstance(checkpoint, Checkpoint):
        return checkpoint  # report says what is wrong with it
    path = os.path.realpath(checkpoint.path)
    run = os.path.realpath(context.storage.experiment_path)
    if os.path.commonpath([path, run]) == path:
        raise ValueError(
            f"report() was to delete {checkpoint.path}, in which the run's own directory is: "
            f"{run}. Save checkpoints in a directory of their own, such as a temporary one."
        )
    given = copy.copy(checkpoint)
    given._move = True
    return given
