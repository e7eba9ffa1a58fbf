"""What happens because time has passed: stoppers are polled, budgets end, patience runs out."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Literal

from milepost.api.stopper import Stopper
from milepost.control import convening, events, silence
from milepost.control.interruption import CLOSE_S, Interruption
from milepost.control.state import ACTIVE, Phase
from milepost.errors import TuneError

if TYPE_CHECKING:
    from milepost.control.plan import RunPlan
    from milepost.control.run import Run

log = logging.getLogger("milepost.control")

#: How long trials may take to reach their next report once the whole run stops, then are killed.
GRACE_S = 10.0

_POLL_S = 0.1
_REFRESH_S = 0.25
_STUCK_S = 60.0


class Clocks:
    """All timers of a run, in monotonic seconds.

    Args:
        plan: has the stopper and the time budget.
        run: is told.
        interruption: may set a deadline.
    """

    def __init__(self, plan: RunPlan, run: Run, interruption: Interruption) -> None:
        self._plan = plan
        self._run = run
        self._interruption = interruption
        self._budget_ends: float | None = None
        self._grace_ends: float | None = None
        self._idle_since: float | None = None
        self._looks_at: float | None = None
        stopper = plan.stopper
        self._polls_stopper = stopper is not None and isinstance(stopper, Stopper)

    def timeout_s(self) -> float | None:
        """How long the loop may wait for something to happen; None without end."""
        now = time.monotonic()
        run = self._run
        waits = []
        if self._polls_stopper or run.hooks.follows_steps or self._searcher_waits():
            waits.append(_POLL_S)
        if run.machine.is_stuck:
            self._idle_since = self._idle_since or now
            waits.append(max(0.0, self._idle_since + _STUCK_S - now))
        if self._plan.progress is not None:
            waits.append(_REFRESH_S)
        moments = (
            self._budget_end(now),
            self._grace_ends if run.machine.state.active else None,
            run.workers.next_deadline(),
            run.silence.next_deadline(),
            run.meetings.next_moment(),
            run.held.next_moment(),
            run.validator.deadline,
            self._deadline(now),
            min((moment for moment, _, _ in run.obeying.values()), default=None),
            self._look_for_room(now),
        )
        waits += [max(0.0, moment - now) for moment in moments if moment is not None]
        return min(waits, default=None)

    def tick(self) -> None:
        """Do what is due."""
        run, now = self._run, time.monotonic()
        state = run.machine.state
        if not state.stopping and not state.interrupted:
            self._poll(now)
        if state.stopping and state.active:
            self._lose_patience(now)
        for event in run.held.due(math.inf if state.interrupted else now):
            run.dispatch(event)
        if state.interrupted and state.active:
            self._meet_deadline(now)
        run.workers.kill_overdue(now)
        silence.check(run, now)
        convening.tick(run, now)
        run.validator.tick(now)
        looks = self._look_for_room(now)
        if looks is not None and now >= looks:
            self._looks_at = None
            run.dispatch(events.LookForRoom(at=run.now()))
        for worker_id, (moment, trial_id, problem) in list(run.obeying.items()):
            if now >= moment:
                del run.obeying[worker_id]
                run.dispatch(events.Overdue(at=run.now(), trial_id=trial_id, problem=problem))

    def is_too_late(self) -> bool:
        """Whether an interrupted run must end although something is still awaited."""
        deadline = self._interruption.deadline
        state = self._run.machine.state
        if deadline is None or not state.interrupted or time.monotonic() < deadline + CLOSE_S:
            return False
        log.warning(
            "%d trials have not come to an end %g s after the deadline: their worker cannot be "
            "killed, or what they have captured is not committed yet. The keeper goes on with that "
            "by itself, and restoring completes what it cannot.",
            len(state.active) + len(state.settling),
            CLOSE_S,
        )
        return True

    def _look_for_room(self, now: float) -> float | None:
        """When to see whether a trial could have more workers; None while none wants any."""
        group = self._plan.group
        if group is None or not self._run.machine.may_grow:
            self._looks_at = None
        elif self._looks_at is None:
            self._looks_at = now + group.resize_every_s
        return self._looks_at

    def _deadline(self, now: float) -> float | None:
        """What an interruption waits for next: that trials stop, then that all is committed."""
        deadline = self._interruption.deadline
        if deadline is None or not self._run.machine.state.interrupted:
            return None
        return deadline if now < deadline else deadline + CLOSE_S

    def _meet_deadline(self, now: float) -> None:
        """Kill what has not stopped in the time that the signal left."""
        deadline = self._interruption.deadline
        if deadline is None or now < deadline:
            return
        trials = self._run.machine.trials
        late = [i for i in trials if trials[i].phase in ACTIVE - {Phase.DYING}]
        if late:
            log.warning(
                "%s not stopped by the deadline: killing %s. Checkpoints that were captured are "
                "kept, and the rest is done again when the experiment is restored.",
                "1 trial has" if len(late) == 1 else f"{len(late)} trials have",
                "it" if len(late) == 1 else "them",
            )
            self._run.dispatch(events.GraceOver(at=self._run.now()))

    def _lose_patience(self, now: float) -> None:
        """Kill what still runs some time after the run was told to stop."""
        if self._grace_ends is None:
            self._grace_ends = now + GRACE_S
        elif now >= self._grace_ends:
            self._grace_ends = now + GRACE_S
            trials = self._run.machine.trials
            late = [i for i in trials if trials[i].phase in ACTIVE - {Phase.DYING}]
            if late:
                log.warning(
                    "%s not reported within %g s since the run was told to stop: killing %s",
                    "1 trial has" if len(late) == 1 else f"{len(late)} trials have",
                    GRACE_S,
                    "it" if len(late) == 1 else "them",
                )
                self._run.dispatch(events.GraceOver(at=self._run.now()))

    def _poll(self, now: float) -> None:
        run = self._run
        stopper = self._plan.stopper
        ends = self._budget_end(now)
        if ends is not None and now >= ends:
            log.info("The time budget of %g s is used up.", self._plan.time_budget_s)
            self._stop_all("budget")
        elif stopper is not None and self._polls_stopper and stopper.stop_all():
            log.info("%s ends the run.", type(stopper).__name__)
            self._stop_all("stopper")
        elif run.machine.is_stuck:
            self._complain(now)
        else:
            self._idle_since = None

    def _stop_all(self, by: Literal["budget", "stopper"]) -> None:
        self._plan.search.set_finished()
        self._run.dispatch(events.StopAll(at=self._run.now(), by=by))

    def _budget_end(self, now: float) -> float | None:
        """When the time budget ends; it starts when it is first asked for."""
        budget = self._plan.time_budget_s
        if self._budget_ends is None and budget is not None:
            self._budget_ends = now + max(0.0, budget - self._run.elapsed_s)
        state = self._run.machine.state
        return None if state.stopping or state.interrupted else self._budget_ends

    def _searcher_waits(self) -> bool:
        """Whether the searcher has nothing now, and must be asked again though nothing happens."""
        state = self._run.machine.state
        return not state.search_ended and not state.active

    def _complain(self, now: float) -> None:
        """Only paused trials are left: say so, because nothing but the scheduler can help.

        Raises:
            TuneError: no more trials will come either, so that the run would never end.
        """
        if self._idle_since is None or now - self._idle_since < _STUCK_S:
            return
        self._idle_since = now
        number = len(self._run.machine.trials)
        scheduler = type(self._plan.scheduler).__name__
        if self._run.machine.state.search_ended:
            raise TuneError(
                f"Nothing runs, and nothing will: {number} trials are paused, no more will come, "
                f"and the scheduler {scheduler} has continued none for {_STUCK_S:g} s. Its "
                "choose_trial_to_run() has to return one of them, or its stop_trial() to end them. "
                "What was reported and committed is kept; Tuner.restore("
                f"{self._plan.experiment.path!r}, trainable, tune_config=...) goes on with it "
                "under another scheduler."
            )
        log.warning(
            "Nothing runs: all %d trials that have not ended are paused, and the scheduler "
            "%s continues none.",
            number,
            scheduler,
        )
