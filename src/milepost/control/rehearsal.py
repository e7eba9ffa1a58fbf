"""Goes through what was recorded since the last save, for those who learn from results.

Searcher, scheduler and stopper get the calls that they got then, in the same order. So they know
what they knew when the earlier run ended, and propose and decide what they would have, had it
not. What they ask for now changes nothing: what came of it is on record.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from milepost.api.fields import DONE
from milepost.api.scheduler import TrialScheduler
from milepost.control.metrics import flatten
from milepost.control.repetition import Repetition
from milepost.control.sameness import differs
from milepost.control.state import (
    ERROR,
    PAUSED,
    PENDING,
    RUNNING,
    STATUSES,
    TERMINATED,
    Status,
)
from milepost.journal import records
from milepost.storage import codec

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.control.ledger import LiveTrial
    from milepost.control.run import Run
    from milepost.control.witness import Witness
    from milepost.journal.image import TrialImage

log = logging.getLogger("milepost.control")

_WAITING = (PENDING, PAUSED)


class Rehearsal:
    """Plays the past to the objects of a plan.

    Args:
        run: its ledger has all trials; those that the records are about are live there.
        witness: what the scheduler sees.
        since: part -> number of the record after which it has to be told; parts that are not in
            it are told nothing.
        is_exact: whether the searcher is known to be in the state in which it was then, so that
            it is worth a warning when it proposes something else.
        trials: all trials, as they are at the end of the past.
    """

    def __init__(
        self,
        run: Run,
        witness: Witness,
        since: Mapping[str, int],
        *,
        is_exact: bool,
        trials: Mapping[str, TrialImage],
    ) -> None:
        self._trials = trials
        self._run = run
        self._witness = witness
        self._since = since
        self._is_exact = is_exact
        self._proposed: set[str] = set()
        self._seen: set[str] = set()
        self._seq = 0
        self._scheduler = run.plan.scheduler
        self._scheduler_looks = (
            type(self._scheduler).on_trial_result is not TrialScheduler.on_trial_result
        )

    def go_through(self, past: Iterable[tuple[int, records.AnyRecord]]) -> None:
        """Take all records, in their order."""
        for seq, record in past:
            take = self._TAKES.get(type(record))
            if take is not None:
                self._seq = seq
                take(self, record)
                if not isinstance(record, records.Lost):  # a restore may begin with that
                    self._seen.add(record.trial)  # type: ignore[union-attr]

    def _tells(self, part: str) -> bool:
        since = self._since.get(part)
        return since is not None and self._seq > since

    def _of(self, trial_id: str) -> tuple[LiveTrial, Trial]:
        return self._run.ledger.live[trial_id], self._run.ledger.facade(trial_id)

    # --- trials begin -----------------------------------------------------------------------

    def _created(self, record: records.Created) -> None:
        live, facade = self._of(record.trial)
        live.recorded_status = PENDING
        live.config = codec.decode(record.config, self._run.objects.get, codec.shown)
        live.tag = record.tag
        if record.restarts is not None:
            self._restarted(record.restarts, record.trial)
        elif self._tells("search"):
            self._propose(record)
        if self._tells("scheduler"):
            self._scheduler.on_trial_add(self._witness, facade)

    def _restarted(self, old: str, new: str) -> None:
        known = self._run.ledger.find(old)
        # Of one that was cut short with its run nobody was told.
        is_told = not self._trials[old].cut_by or self._run.informant.name_of(old) is None
        has_ended = known is not None and known.is_finished() and is_told
        if self._tells("search"):
            self._run.informant.replace(old, new, has_ended=has_ended)
        if self._tells("scheduler") and known is not None and not has_ended:
            self._scheduler.on_trial_remove(self._witness, known)

    def _propose(self, record: records.Created) -> None:
        """Have the searcher propose a trial once more."""
        search = self._run.plan.search
        spec = search.next_trial(record.trial) if _takes_id(search) else search.next_trial()
        if spec is not None and spec.trial_id != record.trial:
            self._run.informant.names[record.trial] = spec.trial_id
        if self._is_exact and (
            spec is None or differs(spec.config, record.config, self._run.objects.get)
        ):
            self._is_exact = False
            log.warning(
                "%s now proposes %s where it had proposed what trial %s runs with. That trial "
                "keeps its configuration; later proposals may not be those of a run that was "
                "never interrupted.",
                type(search).__name__,
                "nothing" if spec is None else spec.config,
                record.trial,
            )

    # --- results ----------------------------------------------------------------------------

    def _reported(self, record: records.Reported) -> None:
        live, facade = self._of(record.trial)
        row = self._run.decoded(record.row)
        row["config"] = live.config
        ends = False
        is_known = live.repetition.has(record.iteration)
        # A trial that was told to stop without being done was cut short with the whole run.
        has_ended = self._witness.asked.get(record.trial) == "stop"  # for the scheduler
        if not (is_known or has_ended) and (record.action != "stop" or row.get(DONE)):
            ends = self._judge(facade, self._as_it_came(row, record.action), record.action)
        row["experiment_tag"] = live.tag
        live.last_row, live.last_time = row, record.at
        if self._tells("scheduler"):
            self._witness.reported(record.trial, record.iteration, record.checkpoint)
        if record.action != "continue":
            self._witness.asked.pop(record.trial, None)
        if ends and record.by_condition:  # under a condition of today too
            self._witness.asked[record.trial] = "stop"

    def _as_it_came(self, row: dict[str, Any], action: str) -> dict[str, Any]:
        """A function's row is not done before somebody stops it; a class may say so itself."""
        if action == "stop" and self._run.plan.kind == "function":
            return {**row, DONE: False}
        return row

    def _judge(self, trial: Trial, row: dict[str, Any], action: str) -> bool:
        """Tell everybody about a row, as far as they do not know it.

        Returns:
            Whether the stop condition ends the trial that was stopped then.
        """
        if self._stops(trial.trial_id, row) and action == "stop":
            return True
        flat = flatten({**row, DONE: False})
        if self._tells("scheduler") and self._scheduler_looks:
            self._scheduler.on_trial_result(self._witness, trial, flat)
        if self._tells("search") and action != "stop":
            self._run.informant.result(trial.trial_id, flat)
        return False

    def _stops(self, trial_id: str, row: dict[str, Any]) -> bool:
        plan = self._run.plan
        stops = False
        if plan.stopper is not None and self._tells("stopper"):
            stops = bool(plan.stopper(trial_id, row))
        return stops or self._run.judge.reaches(trial_id, row)

    # --- trials change and end --------------------------------------------------------------

    def _failed(self, record: records.Failure) -> None:
        live, facade = self._of(record.trial)
        if record.retried:
            live.recorded_status = PENDING
            live.repetition = Repetition()
            if self._tells("scheduler"):
                self._scheduler.on_trial_error(self._witness, facade)
                self._scheduler.on_trial_add(self._witness, facade)

    def _reconfigured(self, record: records.Reconfigured | records.Exploited) -> None:
        live, _ = self._of(record.trial)
        live.config = codec.decode(record.config, self._run.objects.get, codec.shown)
        live.tag = record.tag

    def _launched(self, record: records.Launched) -> None:
        self._run.ledger.live[record.trial].repetition.begin()
        if self._tells("scheduler"):
            self._witness.gone_on(record.trial)

    def _saving(self, record: records.Saving) -> None:
        if self._tells("scheduler"):
            self._witness.saved(record.trial, record.index)

    def _lost(self, record: records.Lost) -> None:
        if self._tells("scheduler"):
            self._witness.lost(record.trial, record.index)

    def _exploited(self, record: records.Exploited) -> None:
        self._reconfigured(record)
        live, facade = self._of(record.trial)
        live.recorded_status = PENDING
        live.repetition = Repetition()
        if self._tells("scheduler"):
            self._witness.exploited(record.trial)
            donor = self._run.ledger.find(record.donor)
            if donor is not None:
                self._scheduler.on_trial_exploit(self._witness, facade, donor)

    def _changed(self, record: records.Changed) -> None:
        live, facade = self._of(record.trial)
        before, live.recorded_status = live.status, STATUSES[record.status]
        if record.cut_by:  # with the whole run, which was told to nobody
            return
        if record.status == TERMINATED:
            self._end(record.trial)
            self._completed(live, facade, ran=before not in _WAITING)
        elif record.status == ERROR:
            self._end(record.trial)
            if self._tells("scheduler"):
                self._scheduler.on_trial_error(self._witness, facade)
            if self._tells("search"):
                self._run.informant.end(record.trial, error=True)
        elif record.status == PENDING and self._is_back(record.trial) and self._tells("scheduler"):
            self._scheduler.on_trial_add(self._witness, facade)
        if record.status != RUNNING:
            self._witness.asked.pop(record.trial, None)

    def _end(self, trial_id: str) -> None:
        if self._tells("scheduler"):
            self._witness.ended(trial_id)

    def _is_back(self, trial_id: str) -> bool:
        """Whether a trial that had ended was taken up again by a restore."""
        return trial_id not in self._seen and self._run.informant.name_of(trial_id) is None

    def _completed(self, live: LiveTrial, facade: Trial, *, ran: bool) -> None:
        row = live.last_row
        if ran and not row.get(DONE):  # a function has returned, and was judged once more
            row[DONE] = True
            self._stops(live.trial_id, row)
        flat = flatten(row) if ran else None
        if self._tells("scheduler"):
            if flat is not None:
                self._scheduler.on_trial_complete(self._witness, facade, flat)
            else:
                self._scheduler.on_trial_remove(self._witness, facade)
        if self._tells("search"):
            self._run.informant.end(live.trial_id, flat)

    _TAKES: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        records.Created: _created,
        records.Reported: _reported,
        records.Failure: _failed,
        records.Reconfigured: _reconfigured,
        records.Exploited: _exploited,
        records.Launched: _launched,
        records.Saving: _saving,
        records.Lost: _lost,
        records.Changed: _changed,
    }


def status_before(record: records.AnyRecord) -> Status | None:
    """The status in which a trial must have been for a record to be written; None if unknown."""
    if isinstance(record, records.Created | records.Launched):
        return PENDING
    if isinstance(record, records.Reported | records.Saving | records.Failure):
        return RUNNING
    if isinstance(record, records.Exploited):
        return PAUSED
    if isinstance(record, records.Changed):
        if record.status == RUNNING:
            return PENDING
        return PAUSED if record.status == PENDING else RUNNING
    return None


def _takes_id(search: Any) -> bool:
    try:
        inspect.signature(search.next_trial).bind("id")
    except TypeError:
        return False
    return True
