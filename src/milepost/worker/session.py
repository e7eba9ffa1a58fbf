"""``report`` and ``get_checkpoint``: what user code calls inside a trial."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint
    from milepost.worker.dialog import Dialog
    from milepost.worker.protocol import RunTrial
    from milepost.worker.trial_session import TrialSession

logger = logging.getLogger("milepost.worker")

_session: TrialSession | None = None
_dialog: Dialog | None = None
_trial: RunTrial | None = None
_warned: set[str] = set()
_fork_hook_set = False


def report(metrics: dict[str, Any], *, checkpoint: Checkpoint | None = None) -> None:
    """Report metrics, and a checkpoint with them. Mirrors ``ray.tune.report``.

    Each call is one ``training_iteration``. It returns when the decision is to go on; where nobody
    has a say in that (no stop condition, scheduler, searcher or callback looks at the result), it
    does not wait for the driver. A checkpoint's directory is captured before it returns, so that it
    may be changed or deleted at once; its bytes become durable afterwards, outside this process.

    When the trial is to stop or pause, ``report`` raises ``SystemExit(0)``: ``finally`` blocks and
    context managers run, ``except Exception`` does not see it.

    Outside a trial it warns once and does nothing.

    Args:
        metrics: plain values by name; nested dicts are fine.
        checkpoint: a directory, ``Checkpoint.from_directory(path)``.

    Raises:
        TypeError: ``metrics`` is no dict or ``checkpoint`` no :class:`Checkpoint`.
        ValueError: a metric is a tensor or a module; it names the metric.
        FileNotFoundError: the checkpoint's directory does not exist.
        CaptureError: the checkpoint could not be captured; nothing was reported.
        CheckpointFailedError: an earlier checkpoint could not be committed; nothing was reported.
        RuntimeError: called in a child process of the trial, or inside a class trainable.
    """
    if _session is None:
        if _trial is not None:
            raise RuntimeError(
                "tune.report() was called inside a Trainable class. Return the metrics from "
                "step(), and save state in save_checkpoint()."
            )
        warn_outside("report")
        return
    _session.report(metrics, checkpoint)


def get_checkpoint() -> Checkpoint | None:
    """Return the newest checkpoint of this trial. Mirrors ``ray.tune.get_checkpoint``.

    At the start that is the one to go on from, or None; later the last one reported. After a
    report with a checkpoint this waits for its commit. Outside a trial it warns once and returns
    None.

    Raises:
        CheckpointFailedError: the checkpoint reported last could not be committed.
    """
    if _session is None:
        warn_outside("get_checkpoint")
        return None
    return _session.get_checkpoint()


def in_session() -> bool:
    """Whether this process runs a trial's function or class."""
    return _trial is not None


def current_trial() -> RunTrial | None:
    """The trial that this process runs, or None."""
    return _trial


def current_session() -> TrialSession | None:
    """What the function that this process runs reports to, or None."""
    return _session


def current_index() -> int:
    """Number of the checkpoint that this trial reported last; -1 before its first."""
    if _session is not None:
        return _session.newest_index
    return -1 if _trial is None else _trial.first_index - 1


def current_dialog() -> Dialog | None:
    """The talk about that trial, or None."""
    return _dialog


def is_ending() -> bool:
    """Whether the trial that this process runs is to stop at its next report; never waits."""
    return _dialog is not None and (_dialog.shutdown or _dialog.preemption() is not None)


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Have the time in this block not counted as silence of the trial that this process runs."""
    if _dialog is None or _trial is None or not _trial.watched:
        yield
        return
    from milepost.worker.protocol import Busy

    _dialog.tell(Busy(True))
    try:
        yield
    finally:
        _dialog.tell(Busy(False))


def enter(trial: RunTrial, dialog: Dialog, session: TrialSession | None = None) -> None:
    """Make a trial the current one; class trainables have no session to report to."""
    global _session, _dialog, _trial, _fork_hook_set
    _trial, _dialog, _session = trial, dialog, session
    if not _fork_hook_set:
        _fork_hook_set = True
        os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def left_behind() -> Iterator[None]:
    """Go back to the trial that was the current one before, if any, when the block ends.

    A trial may run a trainer in its own process.
    """
    global _session, _dialog, _trial
    before = _trial, _dialog, _session
    try:
        yield
    finally:
        _trial, _dialog, _session = before


def warn_outside(name: str) -> None:
    """Warn, once per name and process, that a function has no effect outside a trial."""
    if name not in _warned:
        _warned.add(name)
        logger.warning(
            "tune.%s() was called outside a trial: it does nothing here and returns None. It has "
            "an effect inside a function that Tuner.fit() runs.",
            name,
        )


def _after_fork() -> None:
    if _dialog is not None:
        _dialog.detach()
