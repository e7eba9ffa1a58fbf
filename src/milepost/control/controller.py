"""The controller: the only loop of a run that does I/O.

It waits for workers, the keeper, the journal and signals, turns what they say into events for the
machine (:mod:`.machine`), and carries out its commands. Everything of users that runs in the
driver (searchers, schedulers, stoppers, callbacks) runs here, one after the other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from milepost.control import admission, events, inbox, timing
from milepost.control.beginning import begin
from milepost.control.interruption import Interruption
from milepost.control.memory import Memory
from milepost.control.outcome import RunOutcome
from milepost.control.output import WorkerOutput
from milepost.control.plan import RunPlan
from milepost.control.restoring import Restoring, announce, take_over
from milepost.control.run import Run
from milepost.control.timing import Clocks
from milepost.control.verifying import Verifier
from milepost.control.workers import Workers
from milepost.engine.payload import pack
from milepost.errors import JournalError, MilepostError, TuneError
from milepost.journal import records
from milepost.journal.projections import Projections
from milepost.keeper.client import DriverLink
from milepost.keeper.intent import ExperimentRef
from milepost.worker.protocol import StorageRef

if TYPE_CHECKING:
    from milepost.control.seams import CheckpointVerifier, KeeperLink
    from milepost.engine.protocol import Engine

log = logging.getLogger("milepost.control")

_KEEPER_CLOSE_S = 60.0
_PROJECTIONS_CLOSE_S = 60.0
_VERIFIER_CLOSE_S = 600.0


def run(
    plan: RunPlan,
    *,
    engine: Engine | None = None,
    keeper: KeeperLink | None = None,
    verifier: CheckpointVerifier | None = None,
    interruption: Interruption | None = None,
) -> RunOutcome:
    """Carry out a run to its end.

    Args:
        plan: what to run.
        engine: places workers; the default is this machine. It is closed at the end.
        keeper: commits checkpoints; by default a process of this node does. Closed at the end.
        verifier: chooses what trials start from; by default it reads storage. Closed at the end.
        interruption: tells of signals; by default they are listened to while this runs.

    Returns:
        All trials. Failures of trials are in their records.

    Raises:
        TuneError: a searcher, scheduler, stopper or callback failed, a metric is missing that one
            of them needs, or a trial can never start. The message has the traceback. What was
            reported and committed is kept.
        Exception: with ``fail_fast="raise"``, the error of the first trial that failed.
        JournalError, StorageError: the run's log or storage cannot be used any more.
        KeyboardInterrupt: at the second Ctrl-C.
        SystemExit: with status 143, after SIGTERM; from ``interruption`` when that is left.
    """
    if engine is None:
        from milepost.engine.local import LocalEngine

        engine = LocalEngine()
    with contextlib.ExitStack() as stack:
        if interruption is None:  # first in, last out: no signal must break the clean-up
            interruption = stack.enter_context(Interruption())
        stack.callback(engine.close)
        engine.load(pack(plan.trainable))
        return _Controller(plan, engine, keeper, verifier, interruption, stack).run()


class _Controller:
    def __init__(
        self,
        plan: RunPlan,
        engine: Engine,
        keeper: KeeperLink | None,
        verifier: CheckpointVerifier | None,
        interruption: Interruption,
        stack: contextlib.ExitStack,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._run = run = Run(plan)
        self._clocks = Clocks(plan, run, interruption)
        self._memory = Memory(plan)
        experiment = plan.experiment

        self._interruption = interruption
        interruption.within = _Controller.run.__code__
        self._loop_is_over = False
        self._selector = selectors.DefaultSelector()
        stack.callback(self._selector.close)
        reference = ExperimentRef(
            path=experiment.path,
            device=experiment.device,
            inode=experiment.inode,
            uuid=experiment.uuid,
        )
        self._restoring: Restoring | None = None
        self._outcome: str | None = "failed"
        if plan.resume is None:
            run.journal = begin(experiment)
        else:
            self._outcome = None  # the last end counts until trials have been taken in
            with interruption.breakable():
                run.journal = take_over(experiment, reference)
        stack.callback(self._close_journal)
        if plan.resume is not None:
            assert run.journal.inherited is not None
            self._restoring = Restoring(run, run.journal.inherited, plan.resume)
        self._projections = Projections(run.journal, plan.projections)
        stack.callback(self._close_projections)
        run.keeper = keeper or DriverLink()
        stack.callback(self._close_in_time, run.keeper.close, _KEEPER_CLOSE_S)
        run.verifier = verifier or Verifier()
        stack.callback(self._close_in_time, run.verifier.close, _VERIFIER_CLOSE_S)
        progress = plan.progress
        run.output = WorkerOutput(plan.log_to_file, progress.line if progress else None)
        stack.callback(run.output.close)
        run.engine = engine
        run.workers = Workers(engine, self._selector, plan.seed)
        stack.callback(engine.close)  # workers end before the keeper drains
        stack.callback(run.workers.close)
        stack.callback(interruption.close_down)

        run.keeper.own(reference, run.journal.epoch)
        run.storage = StorageRef(
            experiment_path=experiment.path,
            experiment_name=os.path.basename(experiment.path),
            experiment_uuid=experiment.uuid,
            device=experiment.device,
            inode=experiment.inode,
            keeper_address=run.keeper.address,
            node_root=run.keeper.node_root,
        )
        watched: tuple[tuple[Any, Any], ...] = (
            (engine, run.pump),
            (run.keeper, self._keeper_ready),
            (run.journal, self._journal_ready),
            (self._projections, self._projections.check),
            (run.verifier, self._verifier_ready),
            (interruption, self._interrupted),
        )
        for source, handle in watched:
            self._selector.register(source, selectors.EVENT_READ, handle)

    def run(self) -> RunOutcome:
        """Run to the end, and leave everything closed."""
        run, plan = self._run, self._plan
        began = False
        try:
            if self._restoring is not None:
                self._record_plan()
                self._restoring.learn()
            run.hooks.setup(plan)
            began = True
            if self._restoring is not None:
                self._restore(self._restoring)
            else:
                # With a plan there is something to restore: a search that draws from the global
                # random generators must be known by then, or it would begin otherwise.
                self._memory.save(run)
                self._record_plan()
            self._loop()
            self._loop_is_over = True
            self._dismiss()
            self._finish()
        except KeyboardInterrupt:
            self._say_cut_off()
            if self._restoring is None:
                self._outcome = "interrupted"
            raise
        except Exception as error:
            if isinstance(error, MilepostError) or plan.failure.fail_fast == "raise":
                raise
            raise TuneError(traceback.format_exc()) from error
        finally:
            if began:
                self._say_end()
        return RunOutcome(run.ledger.records(), run.machine.state.interrupted, plan.experiment.path)

    def _record_plan(self) -> None:
        run = self._run
        setup = run.encoded(self._plan.setup)
        run.seq = run.journal.append(records.Planned(at=run.now(), setup=setup))

    def _restore(self, restoring: Restoring) -> None:
        """Tell what becomes of the trials that there are, then have them taken in."""
        restoring.save(self._memory)
        announce(self._run, restoring.look())
        restoring.begin()
        self._restoring, self._outcome = None, "failed"

    # --- the loop ---------------------------------------------------------------------------

    def _loop(self) -> None:
        run, machine, hooks = self._run, self._run.machine, self._run.hooks
        limit = admission.ahead(run)
        while True:
            self._interrupted()
            hooks.step += 1
            hooks.fire("on_step_begin")
            self._memory.save_if_due(run)
            has_more = admission.propose(run, limit)
            admission.place(run)
            if machine.is_over or self._clocks.is_too_late():
                return
            self._wait(0 if has_more else self._clocks.timeout_s())
            self._clocks.tick()
            if self._plan.progress is not None:
                self._plan.progress.update(run.view)
            hooks.fire("on_step_end")

    def _wait(self, timeout_s: float | None) -> None:
        """Take in what happens next, if it does so in time."""
        others = []
        for key, _ in self._selector.select(timeout_s):
            if isinstance(key.data, str):
                self._worker_ready(key.data)
            else:
                others.append(key.data)
        for ready in others:  # results come before what became of their checkpoints
            ready()
        # Last, because what a worker said before it exited comes before its exit.
        while self._run.engine_events:
            inbox.from_engine(self._run, self._run.engine_events.popleft())

    def _worker_ready(self, worker_id: str) -> None:
        for message in self._run.workers.receive(worker_id):
            inbox.from_worker(self._run, worker_id, message)
        self._run.workers.acknowledge()

    def _keeper_ready(self) -> None:
        for event in self._run.keeper.events():
            inbox.from_keeper(self._run, event)

    def _journal_ready(self) -> None:
        run = self._run
        run.journal.acknowledge()
        for command in run.deletions.ready(run.journal.synced):
            run.keeper.delete(command.trial_id, command.index, command.path)

    def _verifier_ready(self) -> None:
        run = self._run
        for (trial_id, ticket), choice in run.verifier.chosen():
            run.dispatch(
                events.Verified(
                    at=run.now(),
                    trial_id=trial_id,
                    ticket=ticket,
                    index=None if choice is None else choice.index,
                    id=None if choice is None else choice.id,
                )
            )

    def _interrupted(self) -> None:
        interruption = self._interruption
        if not interruption.acknowledge():
            return
        if interruption.urgent:
            raise KeyboardInterrupt
        if self._loop_is_over:
            log.warning("%s: the run is over, its end is being written.", interruption.reason)
            return
        self._wait(0)  # what was said before the signal counts as said before it
        self._run.dispatch(
            events.Interrupt(
                at=self._run.now(),
                reason=interruption.reason,
                deadline_ms=interruption.deadline_ms,
            )
        )
        log.warning("%s", interruption.describe())  # trials know by the time that the user does

    # --- the end ----------------------------------------------------------------------------

    def _dismiss(self) -> None:
        """Let the workers that are left clean up: ``cleanup()`` of classes, exit handlers."""
        run = self._run
        for worker in list(run.machine.state.workers.values()):
            if not worker.ending:
                run.workers.end(worker.worker_id)
        began = time.monotonic()
        while len(run.workers):
            deadline = began + timing.GRACE_S
            if self._interruption.deadline is not None:
                deadline = min(deadline, self._interruption.deadline)
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                log.warning(
                    "%d workers have not ended %.1f s after the last trial: killing them",
                    len(run.workers),
                    time.monotonic() - began,
                )
                return
            self._wait(left_s)

    def _finish(self) -> None:
        """Nothing happens any more: have everything on disk."""
        run = self._run
        self._memory.save(run)
        interrupted = run.machine.state.interrupted
        for trial_id in list(run.ledger.live):
            run.ledger.end(trial_id)
        self._outcome = "interrupted" if interrupted else "finished"
        if interrupted:
            log.info(
                "The run was interrupted; Tuner.restore(%r, trainable).fit() goes on with it.",
                self._plan.experiment.path,
            )

    def _say_end(self) -> None:
        """Tell callbacks and the display, whatever ended the run."""
        self._run.view.over = True
        try:
            self._run.hooks.end()
        except KeyboardInterrupt:
            self._say_cut_off()
            raise
        finally:
            if self._plan.progress is not None:
                self._plan.progress.update(self._run.view)
                self._plan.progress.close()

    def _say_cut_off(self) -> None:
        """Say which code of users had to be interrupted, if any."""
        if self._interruption.cut_off:
            log.warning("%s", self._interruption.describe_cut())
            self._interruption.cut_off = ""

    def _close_journal(self) -> None:
        self._run.journal.close(self._outcome)

    def _close_projections(self) -> None:
        try:
            self._close_in_time(self._projections.close, _PROJECTIONS_CLOSE_S)
        except JournalError as error:
            if not self._interruption.urgent:
                raise
            log.warning("%s", error)  # they are completed when the experiment is restored

    def _close_in_time(self, close: Callable[[float], None], most_s: float) -> None:
        """Close something that may have to wait for another process, as long as there is time."""
        with self._interruption.breakable():
            close(self._interruption.patience_s(most_s))
