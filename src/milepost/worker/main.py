"""A worker's loop: wait for a trial, run it, be idle again.

Order of messages. Function: ``RunTrial`` -> ``Started``, (``Reported`` -> ``Reply``)*,
``Finished`` or ``Failed``. Class: ``RunTrial`` -> ``Started`` (after ``setup`` and the restore),
(``Reported`` -> ``Reply`` -> ``Saved`` if asked)*, ``Finished`` or ``Failed``. Afterwards the
worker is idle: another ``RunTrial`` (with ``reset``) or ``Shutdown`` may follow. Or, in place of a
trial: ``Validate`` -> ``Started``, ``Validated`` or ``Failed``. A function whose
results nobody judges goes on after each ``Reported``, of which ``Recorded`` tells later.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from milepost.errors import ChannelClosedError
from milepost.storage import posix
from milepost.worker import node, session, stacks, termination
from milepost.worker.channel import Channel
from milepost.worker.dialog import Dialog
from milepost.worker.failure import failed
from milepost.worker.function_runner import run_function
from milepost.worker.protocol import Failed, Finished, RunTrial, Shutdown, Started, Validate, load
from milepost.worker.trial_session import TrialSession

if TYPE_CHECKING:
    from milepost.worker.class_runner import ClassRunner

CHDIR_VARIABLE = "RAY_CHDIR_TO_TRIAL_DIR"
ORIGINAL_DIRECTORY_VARIABLE = "TUNE_ORIG_WORKING_DIR"


def run(channel: Channel, load_trainable: Callable[[], Any]) -> int:
    """Run trials until told to shut down or the controller is gone.

    Args:
        channel: to the controller.
        load_trainable: unpickles the function or class; called once, for the first trial.

    Returns:
        The process's exit status.
    """
    worker = _Worker(channel, load_trainable)
    del load_trainable  # what it holds is not needed when the trainable is there
    with contextlib.suppress(ChannelClosedError):
        while True:
            message = channel.receive()
            if isinstance(message, RunTrial):
                ended = worker.run(message)
                _flush()
                channel.send(ended)
                if worker.shutting_down:
                    break
            elif isinstance(message, Validate):
                from milepost.worker.validation import validate

                outcome = validate(message, worker.tell_started)
                _flush()
                channel.send(outcome)
            elif isinstance(message, Shutdown):
                break
            # A decision that crossed with the end of the trial has nothing to decide any more.
    worker.close()
    return 0


class _Worker:
    def __init__(self, channel: Channel, load_trainable: Callable[[], Any]) -> None:
        self._channel = channel
        self._load: Callable[[], Any] | None = load_trainable
        self._trainable: Any = None
        self._runner: ClassRunner | None = None
        self._original_directory = os.getcwd()
        self.shutting_down = False

    def run(self, trial: RunTrial) -> Finished | Failed:
        """Run one trial to its end, whatever user code does."""
        with session.left_behind():
            return self._run(trial)

    def _run(self, trial: RunTrial) -> Finished | Failed:
        try:
            if self._load is not None:
                self._trainable = self._load()
                self._load = None
            if trial.watched:
                stacks.tell_when_asked()
            config = load(trial.config)
            self._change_directory(trial)
            if trial.kind == "function":
                return self._run_function(trial, config)
            return self._run_class(trial, config)
        except ChannelClosedError:
            raise
        except BaseException as error:  # noqa: BLE001 - the trial fails, the worker goes on
            return failed(error)

    def close(self) -> None:
        """Clean up a class that no other trial will take over."""
        if self._runner is not None:
            self._runner.close()

    def _run_function(self, trial: RunTrial, config: Any) -> Finished | Failed:
        dialog = Dialog(self._channel)
        current = TrialSession(trial, dialog)
        session.enter(trial, dialog, current)
        listens = termination.passed_on(dialog) if trial.grouped else contextlib.nullcontext()
        try:
            with listens:
                self.tell_started()
                return run_function(self._trainable, config, current, dialog)
        finally:
            self.shutting_down = dialog.shutdown
            current.close()

    def _run_class(self, trial: RunTrial, config: Any) -> Finished | Failed:
        from milepost.worker.class_runner import ClassRunner

        if self._runner is None:
            self._runner = ClassRunner(self._trainable)
        dialog = Dialog(self._channel)
        session.enter(trial, dialog)
        try:
            return self._runner.run(trial, config, dialog, self.tell_started)
        finally:
            self.shutting_down = dialog.shutdown

    def tell_started(self) -> None:
        """User code is about to run."""
        self._channel.send(Started(os.getpid(), node.hostname(), node.ip()))

    def _change_directory(self, trial: RunTrial) -> None:
        """Make the trial's directory the working directory, unless that is switched off."""
        os.environ.setdefault(ORIGINAL_DIRECTORY_VARIABLE, self._original_directory)
        if trial.chdir and os.environ.get(CHDIR_VARIABLE, "1") != "0":
            posix.make_below(trial.storage.experiment_path, trial.trial_dir)
            os.chdir(trial.trial_dir)
        else:
            os.chdir(self._original_directory)


def _flush() -> None:
    """Have all output of the trial in its pipe before its end is told."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
