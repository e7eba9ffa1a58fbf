"""Everything that belongs to a run in progress, and the door to its machine."""

from __future__ import annotations

import os
import time
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from milepost.api.numbers import bounded
from milepost.checkpoint import retention
from milepost.control import convening
from milepost.control.acts import ACTS
from milepost.control.deletions import Deletions
from milepost.control.hooks import Hooks
from milepost.control.informing import Informant
from milepost.control.judge import Judge, is_judged
from milepost.control.last_words import LastWords
from milepost.control.ledger import Ledger, LiveTrial
from milepost.control.machine import Machine
from milepost.control.meetings import Meetings
from milepost.control.metrics import flatten
from milepost.control.outcome import RunFacts
from milepost.control.resources import Pool, request_of
from milepost.control.run_control import RunControl
from milepost.control.signalled import Held
from milepost.control.silence import Silence
from milepost.control.state import Settings
from milepost.control.validator import ValidatorProcess
from milepost.control.view import RunView, Tally
from milepost.control.workers import Workers, cleanup_timeout_s
from milepost.engine.protocol import Exited, Output, StartFailed
from milepost.journal.objects import Objects
from milepost.storage import codec

if TYPE_CHECKING:
    from milepost.control.commands import AnyCommand
    from milepost.control.events import AnyEvent, Problem
    from milepost.control.output import WorkerOutput
    from milepost.control.plan import RunPlan
    from milepost.control.seams import CheckpointVerifier, KeeperLink
    from milepost.engine.protocol import Engine
    from milepost.journal.log import Journal
    from milepost.worker.protocol import StorageRef


class Run:
    """The parts of a run; the controller fills in those that hold processes and descriptors.

    Args:
        plan: what to run.

    Attributes:
        machine: decides.
        ledger: trials as users see them.
        control: what schedulers see.
        hooks: calls callbacks.
        informant: tells the searcher about trials.
        judge: asks stoppers, scheduler and searcher about results.
        tally: numbers for the display; ``view`` is what it looks at.
        obeying: worker -> (when it must have stopped, its trial, what is wrong if it has not).
        held: ends of workers whose meaning is not clear yet.
        validator: the process that validates checkpoints, while there is one.
        engine_events: taken from the engine, not yet acted upon.
        seq: number of the last journal record.
        elapsed_s: seconds that earlier runs of the experiment took.
    """

    engine: Engine
    journal: Journal
    keeper: KeeperLink
    workers: Workers
    output: WorkerOutput
    verifier: CheckpointVerifier
    storage: StorageRef

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        experiment = plan.experiment
        self.objects = Objects(experiment.path)
        config = plan.checkpoint
        facts = RunFacts(
            experiment.path,
            plan.trainable_name,
            plan.failure.max_failures,
            config.checkpoint_score_attribute,
            config.checkpoint_score_order,
            config.num_to_keep,
        )
        self.machine = Machine(_settings(plan), Pool(plan.cluster.as_dict(), plan.cluster.gpus))
        self.ledger = Ledger(facts, self.objects)
        self.control = RunControl(plan, self.machine, self.ledger, self.dispatch)
        self.hooks = Hooks(plan.callbacks, self.ledger)
        self.informant = Informant(plan.search)
        self.judge = Judge(plan, self.control, self.informant)
        self.tally = Tally()
        self.view = RunView(plan, self.machine, self.ledger, self.tally)
        self.deletions = Deletions()
        self.seq = 0
        self.elapsed_s = 0.0
        self.engine_events: deque[Exited | StartFailed] = deque()
        self.obeying: dict[str, tuple[float, str, Problem | None]] = {}
        self.held = Held()
        self.silence = Silence(_trial_timeout_s(plan))
        self.meetings = Meetings(convening.limit_s(), convening.warn_s())
        self.last_words = LastWords()
        self.validator = ValidatorProcess(self)
        self._printing: dict[str, LiveTrial] = {}
        self._cleanup_s = cleanup_timeout_s()
        self._commands: deque[AnyCommand] = deque()
        self._is_acting = False

    def dispatch(self, event: AnyEvent) -> None:
        """Hand an event to the machine and carry out what it says.

        From inside a user's hook the commands wait until the current one is done, while the state
        has changed already.
        """
        self._commands.extend(self.machine.handle(event))
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while self._commands:
                command = self._commands.popleft()
                ACTS[type(command)](self, command)
        finally:
            self._is_acting = False

    def encoded(self, value: Any) -> msgspec.Raw:
        """A value as the journal keeps it."""
        return msgspec.Raw(codec.encode(value, self.objects.put))

    def decoded(self, raw: msgspec.Raw) -> Any:
        """Undo :meth:`encoded`; the repr stands for what cannot be loaded here."""
        return codec.decode(raw, self.objects.get, codec.shown)

    def score(self, row: dict[str, Any]) -> object:
        """What ranks a checkpoint with this row."""
        by = self.machine.settings.rank_by
        if by is None:
            return None
        value = row[by] if by in row else flatten(row).get(by)
        return bounded(value)

    @staticmethod
    def now() -> float:
        """Seconds since the epoch."""
        return time.time()

    # --- output -----------------------------------------------------------------------------

    def prints(self, worker_id: str, trial: LiveTrial) -> None:
        """From now on the worker's output is the trial's."""
        self._printing[worker_id] = trial
        self.last_words.begin(worker_id)
        self.output.begin(trial.directory)

    def pump(self) -> None:
        """Take what the engine has; output is shown at once, the rest waits for its turn."""
        for event in self.engine.events():
            if isinstance(event, Output):
                self._show(event)
            else:
                self.engine_events.append(event)

    def quiet(self, worker_id: str) -> None:
        """The worker is done with its trial: show everything that it has written until then."""
        self.obeying.pop(worker_id, None)
        self.silence.excuse(worker_id)
        if self.plan.reuse_actors:
            self.pump()  # before the worker's output becomes another trial's
        trial = self._printing.get(worker_id)
        if trial is not None:
            label = self._label(worker_id, trial)
            self.output.end(worker_id, label=label, directory=trial.directory)

    def left(self, worker_id: str) -> None:
        """The worker has exited."""
        self.quiet(worker_id)
        self._printing.pop(worker_id, None)

    def must_speak(self, worker_id: str) -> None:
        """The worker is told to do something; it may be silent for some time."""
        self.silence.heard(worker_id, time.monotonic())

    def must_obey(
        self,
        worker_id: str,
        trial_id: str,
        within_s: float | None = None,
        otherwise: Problem | None = None,
    ) -> None:
        """The worker was told to stop or pause; it has some time for it.

        Args:
            worker_id: the worker.
            trial_id: its trial.
            within_s: how much; the default is that of ``TUNE_FORCE_TRIAL_CLEANUP_S``.
            otherwise: what is wrong if it does not.
        """
        self.silence.excuse(worker_id)
        patience_s = self._cleanup_s if within_s is None else within_s
        self.obeying[worker_id] = (time.monotonic() + patience_s, trial_id, otherwise)

    def _show(self, event: Output) -> None:
        if event.output.stream == "stderr":
            self.last_words.hear(event.worker_id, event.output.data)
        trial = self._printing.get(event.worker_id)
        if trial is not None:
            self.output.write(
                event.worker_id,
                label=self._label(event.worker_id, trial),
                directory=trial.directory,
                stream=event.output.stream,
                data=event.output.data,
            )

    def _label(self, worker_id: str, trial: LiveTrial) -> str:
        pid = self.workers.pid(worker_id) or trial.where.get("pid")  # the latter once it has ended
        return f"{trial.name} pid={pid}" if pid else trial.name


def _trial_timeout_s(plan: RunPlan) -> float | None:
    limit = plan.failure.trial_timeout_s
    return limit.total_seconds() if isinstance(limit, timedelta) else limit


def _can_save(cls: Any) -> bool:
    from milepost.worker.trainable import Trainable

    return cls.save_checkpoint is not Trainable.save_checkpoint


def _settings(plan: RunPlan) -> Settings:
    config = plan.checkpoint
    by = config.checkpoint_score_attribute
    keep = config.num_to_keep
    return Settings(
        run_id=os.urandom(4).hex(),
        root=plan.experiment.path,
        kind=plan.kind,
        max_failures=plan.failure.max_failures,
        restore_retries=int(os.environ.get("TUNE_RESTORE_RETRY_NUM", "0")),
        fail_fast=bool(plan.failure.fail_fast),
        max_concurrent=plan.max_concurrent or None,
        reuse=plan.reuse_actors,
        save_every=config.checkpoint_frequency or 0,
        save_at_end=bool(config.checkpoint_at_end),
        can_save=plan.kind == "class" and _can_save(plan.trainable),
        count_preemption=os.environ.get("RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE") == "1",
        max_preemptions=-1 if plan.group is None else plan.group.max_preemptions,
        retention=(
            None if keep is None else retention.from_config(keep, by, config.checkpoint_score_order)
        ),
        rank_by=by,
        judged=is_judged(plan),
        validation=(None if plan.validation is None else request_of([plan.validation.resources])),
    )
