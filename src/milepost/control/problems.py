"""Why attempts of trials failed: as exceptions for users, and as what the journal keeps."""

from __future__ import annotations

import logging
import pickle
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from milepost.api.training.preemption import PreemptionInfo
from milepost.control.events import Problem
from milepost.control.state import Phase
from milepost.engine.protocol import Exited, StartFailed
from milepost.errors import (
    ActorDiedError,
    CheckpointFailedError,
    PreemptionError,
    RayActorError,
    TrialTimeoutError,
    WorkerStartError,
    labelled,
    summary,
    task_error,
)
from milepost.worker.protocol import Failed, dump_error, load

if TYPE_CHECKING:
    from milepost.control.ledger import LiveTrial
    from milepost.control.run import Run
    from milepost.control.state import TrialState

log = logging.getLogger("milepost.control")

_HINTS: dict[int, str] = {
    signal.SIGSEGV: " An extension module has accessed memory that it does not own.",
    signal.SIGBUS: (
        " A file that it had mapped into memory was cut short, or its file system is full; "
        "for tensors between data-loader processes that is /dev/shm."
    ),
    signal.SIGABRT: " A library gave up.",
}


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
    whose = f"worker process{f' (pid {pid})' if pid is not None else ''} of trial {trial.name}"
    if event.engine_died:
        # The signal is the one that we sent after it.
        return _of_worker(
            run,
            ActorDiedError(
                f"The {whose} ended with all others, because {event.engine_died}."
                + (hint(run, event) if signal.SIGKILL.name in event.engine_died else "")
            ),
        )
    return _of_worker(
        run,
        ActorDiedError(
            f"The {whose} died: {event.describe()}.{hint(run, event)}",
            run.last_words.of_crash(event.worker_id),
        ),
    )


def of_unreadable(run: Run, trial: LiveTrial, error: Exception) -> Problem:
    """A result arrived that cannot be unpickled here."""
    said = TypeError(
        f"Trial {trial.name} reported metrics that the driver cannot read: unpickling them raised "
        f"{summary(error)}. Report plain numbers, strings, lists and dicts; save objects in a "
        "checkpoint."
    )
    return Problem(
        kind="TypeError", message=str(said), error=run.objects.put(dump_error(task_error(said)))
    )


def of_silence(run: Run, worker_id: str, trial: TrialState) -> Problem:
    """A worker hangs."""
    pid = run.workers.pid(worker_id)
    if trial.phase is Phase.STARTING:
        since = "since it was started"
    else:
        since = f"since iteration {trial.iteration}" if trial.iteration else "and never reported"
    stack = run.last_words.stack(worker_id)
    where = "" if stack else " It could not tell where it hung."
    return _of_worker(
        run,
        TrialTimeoutError(
            f"Trial {trial.name} was silent for {run.silence.limit_s:g} s (trial_timeout_s), "
            f"{since}. Its worker process{f' (pid {pid})' if pid is not None else ''} and "
            f"everything that it had started were killed.{where}",
            stack,
        ),
    )


def of_preemption(
    run: Run, nodes: dict[str, list[int]], deadline_ms: int, *, timed_out: bool
) -> Problem:
    """Machines go away, and that happens too often.

    Args:
        run: keeps the error.
        nodes: the machines, each with the ranks of its workers.
        deadline_ms: when they do.
        timed_out: the workers still ran then.
    """
    error = PreemptionError(PreemptionInfo(deadline_ms, nodes, reason="SIGTERM"), timed_out)
    return Problem(
        kind=type(error).__name__,
        message=str(error),
        error=run.objects.put(dump_error(error)),
        signalled=True,
    )


def _of_worker(run: Run, error: RayActorError) -> Problem:
    kind = type(error).__name__
    last = labelled(kind, error.message)
    return Problem(
        kind=kind,
        message=error.message,
        traceback=f"{error.traceback_str}\n\n{last}" if error.traceback_str else "",
        error=run.objects.put(dump_error(error)),
    )


def recorded(
    kind: str, message: str, traceback: str, digest: str | None, get: Callable[[str], bytes]
) -> Exception | str:
    """What users get for a failure of an earlier run.

    Args:
        kind: from its record, as are ``message`` and ``traceback``.
        message: see there.
        traceback: see there.
        digest: of the pickled exception, if there is one.
        get: returns the bytes for a digest.
    """
    if digest is None:
        return CheckpointFailedError(message) if kind == "CheckpointFailedError" else message
    try:
        error: Exception = pickle.loads(get(digest))
    except Exception as error:  # noqa: BLE001 - runs code of users; the text says it all
        log.debug("%s cannot be loaded here: it raised %s", kind, type(error).__name__)
        return task_error(RuntimeError(labelled(kind, message)), traceback)
    return error


def _raised(message: Failed) -> bytes:
    """The exception of user code, pickled; under its own type where it can be had."""
    if message.error:
        try:
            return dump_error(task_error(load(message.error), message.traceback))
        except Exception as error:  # noqa: BLE001 - runs code of users; the text says it all
            log.debug("%s cannot be loaded here: it raised %s", message.kind, type(error).__name__)
    cause = RuntimeError(labelled(message.kind, message.message))
    return dump_error(task_error(cause, message.traceback))


def hint(run: Run, event: Exited) -> str:
    """What may have been the reason for a worker's death, and how to find out."""
    if event.signal == signal.SIGKILL:
        killed = run.last_words.oom_kills(event.worker_id)
        if killed:
            return (
                " Memory had run out: while it ran, the kernel's out-of-memory killer ended "
                f"{killed} process{'es' if killed > 1 else ''} of its control group. Give it more "
                "memory, or run fewer trials at once (max_concurrent_trials)."
            )
        return (
            " If nobody killed it, the kernel did because memory had run out: "
            "`dmesg | grep -i 'killed process'` tells."
        )
    if event.signal is not None:
        return _HINTS.get(event.signal, "")
    if event.exit_code == 0:
        return (
            " User code ended the process itself, and should return from the trainable instead; or "
            "it closed file descriptors that it had not opened, as os.closerange() does, and the "
            "worker heard of nobody any more."
        )
    return ""
