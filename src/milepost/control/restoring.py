"""Goes on with an experiment: makes the state of a run out of its journal and its manifests.

In this order, so that it can be cut off at any moment and done once more:

1. What the journal says becomes the ledger: ended trials packed, all others live.
2. Searcher, scheduler, stopper and callbacks get their saved states, and go through what was
   recorded since (:mod:`.rehearsal`). That is saved at once.
3. Trials are compared with what their directories hold (:mod:`.reconciling`).
4. It is told what becomes of each (:mod:`.announcing`), and the machine takes them in.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from milepost.api.fields import DONE
from milepost.api.resources import resources_of
from milepost.api.search_algorithm import TrialSpec
from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import verify
from milepost.checkpoint.collect import sweep
from milepost.control import admission, announcing, events, fates, reconciling
from milepost.control.announcing import Prospect, Prospects
from milepost.control.facade import Trial
from milepost.control.fates import Fate, Goal
from milepost.control.group import demand
from milepost.control.reconciling import Holdings, Reconciled
from milepost.control.recorded import Recorded
from milepost.control.relearning import Relearning
from milepost.control.repetition import Repetition
from milepost.control.state import ERROR
from milepost.errors import TuneError
from milepost.journal import lease
from milepost.journal.experiment import JOURNAL, OBJECTS
from milepost.journal.log import Journal
from milepost.keeper.owner import await_predecessor
from milepost.keeper.place import node_root
from milepost.keeper.settings import drain_s

if TYPE_CHECKING:
    from milepost.api.resume_config import ResumeConfig
    from milepost.control.memory import Memory
    from milepost.control.run import Run
    from milepost.journal.experiment import Experiment
    from milepost.journal.image import RunImage, TrialImage
    from milepost.keeper.intent import ExperimentRef

log = logging.getLogger("milepost.control")

_KEEPER_ENDS_S = 5.0


class Return(NamedTuple):
    """A trial on its way back."""

    trial: TrialImage
    goal: Goal
    there: Holdings
    found: Reconciled


class Restoring:
    """One restore.

    Args:
        run: new; its plan says what becomes of each group of trials.
        image: what the journal says of the run before.
        resume: what becomes of each group of trials.

    Raises:
        TuneError: a value of a trial's configuration cannot be loaded, or nothing validates the
            checkpoints that wait for that. Nothing was changed.
    """

    def __init__(self, run: Run, image: RunImage, resume: ResumeConfig) -> None:
        self._run = run
        self._image = image
        self._resume = resume
        self._recorded = Recorded(run, image)
        self._relearning = Relearning(run, self._recorded)
        self._fates = {
            trial.trial: fates.fate_of(trial, resume, run.plan.lifted)
            for trial in image.trials.values()
            if trial.restarted_by is None
        }
        self._returns: list[Return] = []
        run.elapsed_s = image.elapsed_s
        self._fill()

    def _of(self, *wanted: Fate) -> Iterator[TrialImage]:
        """Trials by their fate, in the order of their creation."""
        trials = self._image.trials
        return (trials[trial_id] for trial_id, fate in self._fates.items() if fate in wanted)

    # --- the ledger -------------------------------------------------------------------------

    def _fill(self) -> None:
        run, recorded = self._run, self._recorded
        lives = {trial.trial: recorded.live(trial) for trial in self._of(Fate.GOES_ON, Fate.ENDS)}
        for trial in self._of(Fate.RESTARTS):
            recorded.config(trial)  # what cannot be loaded is an error now, not half-way
        self._require_validation()
        metric = run.plan.metric
        for trial_id, trial in self._image.trials.items():
            fate = self._fates.get(trial_id)
            if trial_id in lives:
                run.ledger.add(lives[trial_id], Trial(lives[trial_id], run.control))
            else:
                stays = fate is Fate.STAYS
                run.ledger.add_ended(trial_id, recorded.packed(trial), counts=stays)
                if stays and trial.status == ERROR:
                    run.tally.failed.append(trial_id)
            if metric is not None and fate not in (None, Fate.RESTARTS):
                run.tally.offer(trial_id, recorded.metric(trial, metric))

    def _require_validation(self) -> None:
        """Ask for the function that checkpoints wait for.

        Raises:
            TuneError: there is none. Nothing was changed.
        """
        pending = [
            f"{trial.name}/{trial.checkpoint_directory(index)}"
            for trial in self._of(Fate.GOES_ON, Fate.ENDS)
            for index, each in sorted(trial.committed.items())
            if each.awaited is not None and index not in trial.deleting
        ]
        if pending and self._run.plan.validation is None:
            raise TuneError(
                f"{', '.join(pending)} wait for their validation, and there is no function for "
                "that. Give the trainer a validation_config. Nothing was changed; the checkpoints "
                "are kept until then."
            )

    # --- searcher, scheduler, stopper, callbacks ----------------------------------------------

    def learn(self) -> None:
        """Let those who learn from results know what they knew.

        Raises:
            JournalError: the journal cannot be read.
        """
        self._relearning.learn([trial.trial for trial in self._of(Fate.STAYS) if trial.cut_by])
        for trial in self._of(Fate.GOES_ON):
            live = self._run.ledger.live[trial.trial]
            if self._end_is_known(trial):
                self._run.informant.forget(trial.trial)
                live.repetition = Repetition()
            elif trial.action in ("continue", "stop"):
                live.repetition = Repetition(max(live.repetition.until, trial.iteration))
            # One that has not reported since it started would have repeated itself without a cut
            # too: it was paused without a checkpoint, or has failed. So would one that pauses.

    def _end_is_known(self, trial: TrialImage) -> bool:
        """Whether searcher and scheduler were told that a trial has ended.

        When a trial is cut short with its run, nobody is told; that is done when it stays so.
        """
        is_told = not trial.cut_by or self._run.informant.name_of(trial.trial) is None
        return trial.is_finished and is_told

    def save(self, memory: Memory) -> None:
        """Save that, so that it need not be gone through again.

        Raises:
            JournalError: the experiment cannot be written.
        """
        if self._image.searched is not None:
            memory.recall(self._image.searched_seq, self._image.searched)
        memory.save(self._run)

    # --- what is there ----------------------------------------------------------------------

    def look(self) -> Prospects:
        """Look into the directories of all trials that do not stay as they are."""
        prospects = Prospects(
            deletions=sum(len(trial.deleting) for trial in self._image.trials.values())
        )
        coming = list(self._of(Fate.GOES_ON, Fate.ENDS))
        # Trials that were begun are finished first.
        coming.sort(key=lambda trial: trial.attempts == 0)
        for trial in coming:
            back = self._look_at(trial)
            self._returns.append(back)
            prospects.trials.append(
                Prospect(
                    name=trial.name,
                    goal=back.goal,
                    unsettled=len(back.found.inflight.keys() - set(back.found.adopted)),
                    adopted=back.found.adopted,
                    missing=[index for index, _ in back.found.missing],
                )
            )
        return prospects

    def _look_at(self, trial: TrialImage) -> Return:
        recorded = self._recorded
        directory = recorded.directory(trial)
        # Not the journal's word for it: no record may be left that says whose it is.
        there = reconciling.look(directory, trial.trial, self._run.plan.experiment.uuid)
        found = reconciling.reconcile(
            trial, recorded.checkpoints(trial), recorded.inflight(trial), there
        )
        run, row = self._run, self._run.ledger.live[trial.trial].last_row
        # Nobody was asked about the last row of a trial that was cut short.
        asks = trial.row is not None and (bool(trial.cut_by) or "stopper" in run.plan.anew)
        reaches = asks and run.judge.reaches(trial.trial, row)
        goal = fates.goal_of(
            trial,
            self._resume,
            is_done=bool(row.get(DONE)) or (bool(trial.cut_by) and reaches),
            other_condition="stopper" in run.plan.anew and not reaches,
            asked=self._relearning.asked.get(trial.trial),
            pauses_count=self._relearning.scheduler_knows,
        )
        return Return(trial, goal, there, found)

    # --- the machine ------------------------------------------------------------------------

    def begin(self) -> None:
        """Have the machine take in all trials; from now on they act."""
        run = self._run
        ended: dict[Literal["TERMINATED", "ERROR"], int] = {"TERMINATED": 0, "ERROR": 0}
        for trial in self._of(Fate.STAYS):
            ended["ERROR" if trial.status == ERROR else "TERMINATED"] += 1
        orders = [trial.order for trial in self._image.trials.values()]
        run.dispatch(
            events.RunRestored(
                at=run.now(),
                ended=ended,
                next_order=max(orders, default=-1) + 1,
                exploits=len(self._image.exploited),
            )
        )
        self._delete()
        for back in self._returns:
            self._take_in(back)
        self._leave()
        for trial_id, exploit in self._relearning.exploits.items():
            run.dispatch(
                events.ExploitAsked(
                    at=run.now(),
                    trial_id=trial_id,
                    donor_id=exploit.donor,
                    iteration=exploit.iteration,
                    config=msgspec.Raw(exploit.config),
                    tag=exploit.tag,
                    policy=exploit.policy,
                )
            )
        if self._relearning.scheduler_is_new:
            for back in self._returns:
                run.plan.scheduler.on_trial_add(run.control, run.ledger.facade(back.trial.trial))
        for back in self._returns:
            self._carry_out(back)
        for trial in self._of(Fate.RESTARTS):
            self._restart(trial)

    def _delete(self) -> None:
        for trial in self._image.trials.values():
            for index in sorted(trial.deleting):
                self._run.dispatch(
                    events.DeletionLeft(
                        at=self._run.now(),
                        trial_id=trial.trial,
                        index=index,
                        path=self._recorded.path(trial, index),
                    )
                )

    def _leave(self) -> None:
        """Hand over what results of ended trials refer to, and what those have kept for others."""
        for trial in self._of(Fate.STAYS):
            source = self._recorded.fork(trial)
            if source is not None:
                self._run.dispatch(
                    events.ResultLeft(at=self._run.now(), donor_id=source[0], checkpoint=source[1])
                )
        for trial in self._of(Fate.STAYS, Fate.RESTARTS):
            for checkpoint in self._recorded.left(trial):
                self._run.dispatch(
                    events.CheckpointLeft(
                        at=self._run.now(),
                        trial_id=trial.trial,
                        index=checkpoint.index,
                        path=checkpoint.path,
                    )
                )

    def _take_in(self, back: Return) -> None:
        run, trial, found = self._run, back.trial, back.found
        live = run.ledger.live[trial.trial]
        needs = demand(run.plan.group, live.config, resources_of(live.resources))
        for index, _ in found.missing:
            if trial.checkpoint_directory(index) in back.there.names:
                self._put_aside(trial, index)
        saves_at_end = run.plan.kind == "class" and bool(run.plan.checkpoint.checkpoint_at_end)
        row = trial.row
        offer = self._relearning.offers.get(trial.trial)
        run.dispatch(
            events.TrialRestored(
                at=run.now(),
                trial_id=trial.trial,
                name=trial.name,
                directory=trial.directory,
                request=needs.request,
                most=needs.most,
                size=needs.size,
                order=trial.order,
                status=live.recorded_status,
                goal=back.goal,
                attempt=found.attempt,
                next_index=max(trial.next_index, back.there.highest + 1),
                failures=trial.failures,
                iteration=trial.iteration,
                row=msgspec.Raw(b"{}") if row is None else row,
                score=None if row is None else run.score(live.last_row),
                checkpoints=found.checkpoints,
                inflight=found.inflight,
                missing=found.missing,
                validations=tuple(
                    (checkpoint.index, task)
                    for checkpoint in found.checkpoints
                    if (task := trial.committed[checkpoint.index].awaited) is not None
                ),
                unclean=True,  # it may have been copied, moved or damaged since
                needs_last_save=fates.needs_last_save(trial, saves_at_end=saves_at_end),
                fork=self._recorded.fork(trial),
                floor=trial.exploits[-1].first_index if trial.exploits else 0,
                generation=len(trial.exploits),
                offered=None if offer is None or offer.refused else (offer.iteration, offer.index),
            )
        )
        live.state = run.machine.trials[trial.trial]
        if trial.trial in self._recorded.supplied:
            run.dispatch(
                events.Reconfigured(
                    at=run.now(), trial_id=trial.trial, config=live.raw_config, tag=live.tag
                )
            )

    def _put_aside(self, trial: TrialImage, index: int) -> None:
        """Put a damaged checkpoint out of the way, so that nobody uses it.

        A person may have taken the manifest away, to use by its path what was changed on purpose.
        """
        path = self._recorded.path(trial, index)
        if os.path.lexists(os.path.join(path, manifests.MANIFEST_NAME)):
            directory, name = os.path.split(path)
            verify.newest_good(directory, quarantine=True, among={name: index})
            return
        log.warning(
            "%s has no manifest any more, so trial %s does not use it. It stays where it is and is "
            "never deleted; what is left in it can be used by its path, unverified.",
            path,
            trial.name,
        )

    def _carry_out(self, back: Return) -> None:
        run, trial = self._run, back.trial
        if self._end_is_known(trial) and not self._relearning.scheduler_is_new:
            run.plan.scheduler.on_trial_add(run.control, run.ledger.facade(trial.trial))
        directory = self._recorded.directory(trial)
        for index in back.found.adopted:
            manifest = back.there.manifests[index]
            score = self._recorded.score(manifest.metrics)
            run.dispatch(reconciling.commit_of(directory, manifest, run.now(), score))

    def _restart(self, old: TrialImage) -> None:
        """Make a new trial of an old one, with its configuration and tag."""
        run = self._run
        recorded = self._recorded
        has_ended = self._end_is_known(old) or old.given_up
        facade = run.ledger.facade(old.trial)
        if not has_ended and not self._relearning.scheduler_is_new:
            run.plan.scheduler.on_trial_remove(run.control, facade)
        spec = TrialSpec(
            trial_id=os.urandom(4).hex(),
            config=recorded.config(old),
            evaluated_params=recorded.evaluated(old),
            experiment_tag=old.tag,
        )
        run.informant.replace(old.trial, spec.trial_id, has_ended=has_ended)
        admission.add(run, spec, restarts=old.trial)


def take_over(experiment: Experiment, reference: ExperimentRef) -> Journal:
    """Take an existing experiment over, once the keeper of its last driver has finished.

    A damaged journal is rebuilt from what is left of it and the trials' files. What it amounts to
    is the journal's ``inherited``.

    Raises:
        LeaseLostError: another driver holds it; the message says which. Nothing was changed.
        JournalError: its journal cannot be read or written.
    """
    holding = lease.acquire(experiment.path)
    try:
        await_predecessor(node_root(), reference, drain_s() + _KEEPER_ENDS_S)
    except BaseException:
        holding.release()
        raise
    journal = Journal.open(experiment, lease=holding, repair=True)
    for directory in ("", JOURNAL, OBJECTS):  # drafts of a driver that was killed
        sweep(os.path.join(experiment.home, directory))
    return journal


def announce(run: Run, prospects: Prospects) -> None:
    """Tell what was found, before anything is done."""
    for line in announcing.losses(prospects):
        log.warning("%s", line)
    progress = run.plan.progress
    for line in announcing.describe(prospects):
        log.info("%s", line)
        if progress is not None and run.plan.verbose > 0:
            progress.line(line, "stdout")
