"""Why attempts of trials failed: as exceptions for users, and as what the journal keeps."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from milepost.control.events import Problem
from milepost.engine.protocol import Exited, StartFailed
from milepost.errors import ActorDiedError, WorkerStartError, labelled, task_error
from milepost.worker.protocol import Failed, dump_error, load

if TYPE_CHECKING:
    from milepost.control.ledger import LiveTrial
    from milepost.control.run import Run

log = logging.getLogger("milepost.control")


def of_failure(run: Run, message: Failed) -> Problem:
    """User code raised."""
    return Problem(
        kind=message.kind,
        message=message.message,
        traceback=message.traceback,
        error=None if message.abort else run.objects.put(_raised(message)),
        abort=message.abort,
    )


def of_death(run: Run, event: Exited | StartFailed, trial: LiveTrial | None) -> Problem:
    """A worker process ended, or never began; ``trial`` is what it ran."""
    if trial is None:
        return Problem(kind="", message="")  # nobody will be told
    if isinstance(event, StartFailed):
        message = f"The worker of trial {trial.name} could not be started: {event.reason}"
        return Problem(
            kind="WorkerStartError",
            message=message,
            error=run.objects.put(dump_error(WorkerStartError(message))),
        )
    pid = trial.where.get("pid")
    message = (
        f"The worker process{f' (pid {pid})' if pid is not None else ''} of trial {trial.name} "
        f"died: {event.describe()}.{_hint(event)}"
    )
    return Problem(
        kind="ActorDiedError",
        message=message,
        error=run.objects.put(dump_error(ActorDiedError(message))),
    )


def _raised(message: Failed) -> bytes:
    """The exception of user code, pickled; under its own type where it can be had."""
    if message.error:
        try:
            return dump_error(task_error(load(message.error), message.traceback))
        except Exception as error:  # noqa: BLE001 - runs code of users; the text says it all
            log.debug("%s cannot be loaded here: it raised %s", message.kind, type(error).__name__)
    cause = RuntimeError(labelled(message.kind, message.message))
    return dump_error(task_error(cause, message.traceback))


def _hint(event: Exited) -> str:
    if event.signal == 9:
        return " If nobody killed it, the machine may have run out of memory: see dmesg."
    if event.exit_code == 0:
        return " User code ended the process itself; return from the trainable instead."
    return ""
