"""The process that validates a checkpoint: its start, what it says, and its end.

Which checkpoint comes next is decided in :mod:`.validating`.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import msgspec

from milepost.api.fields import CHECKPOINT_DIR_NAME
from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import validation
from milepost.checkpoint.validation import Outcome
from milepost.control import events, problems, signalled
from milepost.engine.protocol import StartFailed
from milepost.errors import CheckpointError, labelled
from milepost.worker.protocol import Failed, Started, Validate, Validated, dump

if TYPE_CHECKING:
    from milepost.control.commands import PublishOutcome
    from milepost.control.commands import Validate as Command
    from milepost.control.run import Run
    from milepost.engine.protocol import Exited
    from milepost.worker.protocol import FromWorker

log = logging.getLogger("milepost.control")


class ValidatorProcess:
    """At most one process that validates a checkpoint of a run.

    Args:
        run: is told of outcomes.

    Attributes:
        deadline: when the validation will have taken too long, in monotonic seconds; None if there
            is no limit, or nothing is under way.
    """

    def __init__(self, run: Run) -> None:
        self.deadline: float | None = None
        self._run = run
        self._function = ""
        self._command: Command | None = None
        self._is_over = False

    def start(self, command: Command) -> None:
        """Start a process for a validation; the one before has exited.

        Raises:
            WorkerStartError: the engine cannot be used.
        """
        run = self._run
        assert run.plan.validation is not None
        self._command, self._is_over = command, False
        if not self._function:
            self._function = run.objects.put(dump(run.plan.validation.function))
        trial = run.ledger.live[command.trial_id]
        run.workers.start(
            command.worker_id,
            name=f"validation of {trial.name}",
            cpus=command.cpus,
            gpus=command.gpus,
            apart=True,
        )
        run.prints(command.worker_id, trial)
        run.workers.send(
            command.worker_id,
            Validate(
                experiment_path=run.plan.experiment.path,
                function=self._function,
                arguments=bytes(command.task.arguments),
                checkpoint=command.checkpoint.path,
            ),
        )

    def is_at(self, worker_id: str) -> bool:
        """Whether a worker is this process."""
        return self._command is not None and self._command.worker_id == worker_id

    def hear(self, message: FromWorker) -> None:
        """Take in what the process says."""
        assert self._command is not None
        if self._is_over:
            return
        timeout_s = self._command.task.timeout_s
        if isinstance(message, Started):
            if timeout_s is not None:
                self.deadline = time.monotonic() + timeout_s
        elif isinstance(message, Validated):
            self._end(Outcome(status="VALIDATED", metrics=msgspec.Raw(message.metrics)))
        elif isinstance(message, Failed):
            reason = message.traceback or labelled(message.kind, message.message)
            self._end(Outcome(status="VALIDATION_FAILED", reason=reason))

    def left(self, event: Exited | StartFailed) -> None:
        """The process has ended; that is a failure if it has not said how the validation went."""
        command, self._command = self._command, None
        assert command is not None
        self.deadline = None
        found: list[events.AnyEvent] = []
        if not self._is_over:
            outcome = Outcome(status="VALIDATION_FAILED", reason=self._reason(event))
            found.append(self._ended(command, outcome))
        found.append(events.ValidatorGone(at=self._run.now(), worker_id=command.worker_id))
        state = self._run.machine.state
        for each in found:
            # Whoever has asked it to end may ask the driver in a moment; then nothing has failed.
            if not self._is_over and signalled.was_asked(event) and not state.interrupted:
                self._run.held.take(each)
            else:
                self._run.dispatch(each)
        self._run.last_words.forget(command.worker_id)

    def tick(self, now: float) -> None:
        """End a validation that takes too long.

        Args:
            now: monotonic seconds.
        """
        if self.deadline is None or now < self.deadline:
            return
        assert self._command is not None
        reason = f"it took longer than {self._command.task.timeout_s:g} s (timeout_s)."
        self._run.workers.kill(self._command.worker_id)
        self._end(Outcome(status="VALIDATION_TIMEOUT", reason=reason))

    def cancel(self) -> None:
        """Kill the process; nobody waits for what it does."""
        if self._command is not None:
            self._is_over, self.deadline = True, None
            self._run.workers.kill(self._command.worker_id)

    def _end(self, outcome: Outcome) -> None:
        """The outcome is known: the process has nothing more to do."""
        assert self._command is not None
        self._is_over, self.deadline = True, None
        self._run.workers.end(self._command.worker_id)
        self._run.dispatch(self._ended(self._command, outcome))

    def _ended(self, command: Command, outcome: Outcome) -> events.ValidationEnded:
        """Make what the machine is told."""
        row = validation.merged(command.checkpoint.row, outcome)
        return events.ValidationEnded(
            at=self._run.now(),
            worker_id=command.worker_id,
            outcome=outcome,
            row=row,
            score=self._run.score(self._run.decoded(row)),
        )

    def _reason(self, event: Exited | StartFailed) -> str:
        if isinstance(event, StartFailed):
            return f"its process could not be started: {event.reason}"
        if event.engine_died:
            return f"its process ended with all others, because {event.engine_died}"
        return f"its process died: {event.describe()}.{problems.hint(self._run, event)}"


def publish(run: Run, command: PublishOutcome) -> None:
    """Put an outcome where readers of the checkpoint find it, and into its trial's last result."""
    directory = command.checkpoint.path
    row = run.ledger.live[command.trial_id].last_row
    if row.get(CHECKPOINT_DIR_NAME) == os.path.basename(directory):
        row.update(run.decoded(command.outcome.metrics))
    run.journal.require_held()  # a driver that was stopped may have been replaced since
    try:
        validation.write(directory, manifests.read(directory), command.outcome)
    except (OSError, CheckpointError) as error:
        log.warning(
            "What came of the validation of %s is in the journal, but could not be put beside its "
            "manifest (%s): to those who read the directory it is pending.",
            directory,
            error,
        )
