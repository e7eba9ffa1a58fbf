"""Brings searcher, scheduler, stopper and callbacks to where they were in an earlier run.

Each gets the last saved state and goes through what was recorded since. One without a state goes
through everything that was recorded, as far as the journal still has it; what is left then is to
count trials for the searcher, and to add those that go on to the scheduler.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from milepost.control.memory import Exploit, Offered
from milepost.control.recalling import LEARNERS, Recalled, recall
from milepost.control.rehearsal import Rehearsal, status_before
from milepost.control.repetition import Repetition
from milepost.control.witness import Witness
from milepost.journal import replay
from milepost.journal.records import AnyRecord, Created, Exploited, Reconfigured

if TYPE_CHECKING:
    from milepost.control.recorded import Recorded
    from milepost.control.run import Run
    from milepost.control.state import Status

log = logging.getLogger("milepost.control")

_NO_PAST: Final = ("search", "scheduler")  # anew: theirs would be another's past

Past = Iterator[tuple[int, AnyRecord]]


class Relearning:
    """One restore's.

    Args:
        run: its ledger has all trials when :meth:`learn` is called.
        recorded: the trials as the journal has them.

    Attributes:
        asked: what the scheduler has asked for that was not carried out, by trial.
        offers: what others may go on from, by trial.
        exploits: what a trial is to go on from and has not yet, by trial.
        scheduler_knows: it knows the trials, so that what it has paused stays paused.
    """

    def __init__(self, run: Run, recorded: Recorded) -> None:
        self._run = run
        self._recorded = recorded
        self.asked: dict[str, str] = {}
        self.offers: dict[str, Offered] = {}
        self.exploits: dict[str, Exploit] = {}
        self.scheduler_knows = False

    @property
    def scheduler_is_new(self) -> bool:
        """Whether the scheduler must be told of the trials that go on."""
        return not self.scheduler_knows

    def learn(self, cut: Iterable[str] = ()) -> None:
        """Load, and go through the past.

        Args:
            cut: ids of trials that were cut short with their run, of which nobody was told, and
                that stay so: that is told now.

        Raises:
            JournalError: the journal cannot be read.
        """
        run, image = self._run, self._recorded.image
        recalled = recall(run, image)
        run.informant.names.update(recalled.names)
        since = self._since(recalled)
        past: Past = iter(())
        if since:
            past, first = self._records(min(since.values()))
            if first > 1:  # compacted: the beginning is gone
                since = {part: seq for part, seq in since.items() if seq or part == "stopper"}
        records = list(past)
        if "scheduler" not in recalled.parts:  # it says for itself what it wants
            recalled.offers, recalled.exploits = {}, {}
        witness = Witness(run, recalled.asked, recalled.offers, recalled.exploits)
        run.ledger.serve(witness)
        now = {
            live: (live.config, live.tag, live.last_row, live.last_time, live.recorded_status)
            for live in run.ledger.live.values()
        }
        reopened = self._reopen(records, witness)
        for trial_id, iteration in recalled.known.items():
            if trial_id in run.ledger.live:
                run.ledger.live[trial_id].repetition = Repetition(iteration)
        if "search" not in since:
            self._count_trials()
        if since and records:
            # In another space it proposes something else, and trials keep what they have.
            is_exact = "search" in recalled.parts and not run.plan.other_space
            rehearsal = Rehearsal(run, witness, since, is_exact=is_exact, trials=image.trials)
            rehearsal.go_through(records)
        for trial_id in cut:
            self._end(trial_id, witness if "scheduler" in since else None)
        for trial_id in reopened:
            run.ledger.replace(trial_id, self._recorded.packed(image.trials[trial_id]))
        for live, values in now.items():
            live.config, live.tag, live.last_row, live.last_time, live.recorded_status = values
        run.ledger.serve(run.control)
        self.asked, self.offers, self.exploits = witness.asked, witness.offers, witness.exploits
        self.scheduler_knows = "scheduler" in since
        run.judge.remembers = frozenset(since)

    def _since(self, recalled: Recalled) -> dict[str, int]:
        """For each part the number of the last record that it knows; 0 for nothing."""
        plan, since = self._run.plan, {}
        for part in LEARNERS:
            if part in recalled.parts:
                since[part] = self._recorded.image.searched_seq
            elif not (part in plan.anew and part in _NO_PAST):
                since[part] = 0
        if plan.stopper is None:
            since.pop("stopper", None)
        return since

    def _records(self, after: int) -> tuple[Past, int]:
        """The records of the earlier runs after a number, and the first one's number."""
        image = self._recorded.image
        path = self._run.plan.experiment.path
        past = replay.records(path, after=after, up_to=image.seq)
        first = next(past, None)
        if first is None:
            return iter(()), after + 1
        return itertools.chain([first], past), first[0] - after

    def _reopen(self, records: list[tuple[int, AnyRecord]], witness: Witness) -> list[str]:
        """Make trials live that had ended since; put all back to the status and config of then."""
        ledger, image = self._run.ledger, self._recorded.image
        before: dict[str, Status] = {}
        reopened = []
        had: set[str] = set()  # trials that have the config again that they had then
        for _, record in records:
            trial_id = getattr(record, "trial", None)
            if trial_id is None:
                continue
            if trial_id not in ledger.live:
                ledger.reopen(self._recorded.past(image.trials[trial_id]), witness)
                reopened.append(trial_id)
            if trial_id not in had and isinstance(record, Reconfigured | Exploited):
                had.add(trial_id)
                ledger.live[trial_id].config = self._recorded.config_before(trial_id, record)
            elif isinstance(record, Created):
                had.add(trial_id)  # it says so itself
            status = status_before(record)
            if status is not None and trial_id not in before:
                before[trial_id] = status
                ledger.live[trial_id].recorded_status = status
        return reopened

    def _end(self, trial_id: str, witness: Witness | None) -> None:
        """Tell that a trial has ended, to a scheduler too if it knows the trial."""
        run = self._run
        if run.informant.name_of(trial_id) is None:
            return  # an earlier restore has told it
        if witness is not None:
            run.plan.scheduler.on_trial_remove(witness, run.ledger.facade(trial_id))
        run.informant.end(trial_id)
        run.informant.forget(trial_id)

    def _count_trials(self) -> None:
        """Have a searcher that knows nothing count the trials that exist."""
        run, trials = self._run, self._recorded.image.trials
        restarts = {trial.restarted_by for trial in trials.values()}
        for trial_id, trial in trials.items():
            if trial_id in restarts:
                continue
            if not run.plan.search.adopt(trial_id):
                run.informant.forget(trial_id)
            elif trial.is_finished and not trial.cut_by:
                run.informant.end(trial_id)
