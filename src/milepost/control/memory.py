"""Saves what the searcher, scheduler, stopper and callbacks know, so that a run can go on later.

The journal has every trial and every result; what users' objects made of them only they know.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from milepost.api.callback import Callback
from milepost.control.facade import by_reference
from milepost.control.state import Halt
from milepost.errors import JournalError
from milepost.journal.cadence import Cadence
from milepost.journal.records import Searched
from milepost.storage import names

if TYPE_CHECKING:
    from milepost.control.ledger import LiveTrial
    from milepost.control.plan import RunPlan
    from milepost.control.run import Run
    from milepost.control.state import RunState, TrialState

log = logging.getLogger("milepost.control")

_SESSION = "run"
SCHEDULER = "scheduler.pkl"
_REHEARSED_AT_MOST = 10_000


class Memory:
    """Saves the states at the start, then as :class:`~milepost.journal.cadence.Cadence` says.

    A state is one pickled dict in the experiment's objects, opened only by a restore::

        {"search": {file name: bytes},   # what SearchAlgorithm.save_to_dir wrote
         "scheduler": bytes,             # what TrialScheduler.save wrote
         "stopper": bytes,               # pickled
         "callbacks": {position: (class name, state)}, # of those that have a state
         "names": {trial id: id or None}, # see Informant
         "asked": {trial id: "stop" or "pause"}, # what the scheduler has asked for, not yet done
         "offers": {trial id: Offered},   # what others may go on from
         "exploits": {trial id: Exploit}, # who is to do so, and has not yet
         "known": {trial id: iteration}}  # results up to there may be reported once more

    What cannot be saved is left out, with one warning; the run goes on.

    Args:
        plan: has the objects.
    """

    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        self._cadence = Cadence.from_environment()
        self._saved: list[tuple[int, str]] = []  # number of the record and digest, oldest first
        self._unsaved: set[str] = set()
        self._unrecorded_s = 0.0

    def save_if_due(self, run: Run) -> None:
        """Save, if it is time to.

        Raises:
            JournalError: the experiment cannot be written.
        """
        if self._cadence.is_due(time.monotonic()):
            self.save(run)

    def save(self, run: Run) -> None:
        """Save now, unless nothing has changed.

        The last two states are kept, and all that a power loss could make the last one. Many
        records later, a state that has not changed is recorded again: a restore goes through all
        records since then, and the journal has to keep them.

        Raises:
            JournalError: the experiment cannot be written.
        """
        import pickle

        began = time.monotonic()
        state = {
            **self._states(run),
            "names": dict(run.informant.names),
            "asked": asked(run.machine.trials.values()),
            "offers": offered(run.machine.state),
            "exploits": exploits(run.machine.trials.values()),
            "known": known(run.ledger.live.values()),
        }
        digest = run.objects.put(pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL))
        if self._is_news(run, digest):
            took_s = self._unrecorded_s + time.monotonic() - began
            run.seq = run.journal.append(Searched(at=run.now(), state=digest, took_s=took_s))
            self._saved.append((run.seq, digest))
            self._unrecorded_s = 0.0
            self._discard_old(run)
        else:
            self._unrecorded_s += time.monotonic() - began
        ended = time.monotonic()
        self._cadence.saved(ended, ended - began)

    def _is_news(self, run: Run, digest: str) -> bool:
        if not self._saved:
            return True
        recorded, last = self._saved[-1]
        return digest != last or run.journal.seq - recorded > _REHEARSED_AT_MOST

    def _discard_old(self, run: Run) -> None:
        while len(self._saved) > 2 and self._saved[1][0] <= run.journal.synced:
            _, old = self._saved.pop(0)
            if all(digest != old for _, digest in self._saved):
                run.objects.discard(old)

    def recall(self, seq: int, digest: str) -> None:
        """Take note of the state that an earlier run saved last, with the record's number."""
        self._saved.append((seq, digest))

    def _states(self, run: Run) -> dict[str, Any]:
        with by_reference(run.ledger.find), scratch(self._plan.experiment.home) as directory:
            return self._all_states(directory)

    def _all_states(self, directory: str) -> dict[str, Any]:
        plan = self._plan
        searched, scheduled = (os.path.join(directory, name) for name in ("search", "scheduler"))
        parts: dict[str, Callable[[], Any]] = {
            "search": lambda: _files(searched, lambda d: plan.search.save_to_dir(d, _SESSION)),
            "scheduler": lambda: _scheduler(scheduled, plan.scheduler),
            "stopper": lambda: _pickled(plan.stopper),
        }
        states = {name: self._ask(name, part) for name, part in parts.items()}
        callbacks = {}
        for position, callback in enumerate(plan.callbacks):
            name = f"callback {type(callback).__name__}"
            state = self._ask(name, functools.partial(_state_of, callback))
            if state is not None:
                callbacks[position] = (type(callback).__name__, state)
        return {**states, "callbacks": callbacks}

    def _ask(self, name: str, part: Callable[[], Any]) -> Any:
        """Ask for one state; None when there is none or it cannot be told."""
        if name in self._unsaved:
            return None
        try:
            return part()
        except JournalError:
            raise
        except Exception as error:  # noqa: BLE001 - users' code, and the run does not depend on it
            self._unsaved.add(name)
            log.warning(
                "The state of the %s cannot be saved (%s: %s), so it would start anew if the run "
                "were interrupted and continued. Trials and checkpoints are not affected.",
                name,
                type(error).__name__,
                error,
            )
            return None


def asked(trials: Iterable[TrialState]) -> dict[str, str]:
    """What the scheduler has asked trials to do at their next report, or when they have settled."""
    return {
        trial.trial_id: str(trial.halt) for trial in trials if trial.halt in (Halt.STOP, Halt.PAUSE)
    }


def known(trials: Iterable[LiveTrial]) -> dict[str, int]:
    """Up to which iteration results of trials are known from an earlier run."""
    return {trial.trial_id: trial.repetition.until for trial in trials if trial.repetition.until}


@dataclass(frozen=True, slots=True)
class Offered:
    """What a trial offers to others: iteration and number of its checkpoint.

    The number is None until it is captured; a refused one will never be there.
    """

    iteration: int
    index: int | None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Exploit:
    """What a trial is to go on from; ``config`` is encoded."""

    donor: str
    iteration: int
    config: bytes
    tag: str
    policy: str


def offered(state: RunState) -> dict[str, Offered]:
    """What trials offer to each other, also those that were cut short with the run."""
    offers = dict(state.unfinished_offers)
    for trial in state.trials.values():
        if trial.offer is not None:
            offers[trial.trial_id] = trial.offer
    return {
        trial_id: Offered(offer.iteration, offer.index, offer.refused)
        for trial_id, offer in offers.items()
        if offer.iteration is not None
    }


def exploits(trials: Iterable[TrialState]) -> dict[str, Exploit]:
    """Which trials are to go on from others' checkpoints, as far as that is not done yet."""
    return {
        trial.trial_id: Exploit(
            adoption.offer.trial_id,
            adoption.offer.iteration,
            bytes(adoption.config),
            adoption.tag,
            adoption.policy,
        )
        for trial in trials
        if (adoption := trial.adoption) is not None and adoption.offer.iteration is not None
    }


@contextlib.contextmanager
def scratch(home: str) -> Iterator[str]:
    """A directory for states on their way; the next driver removes what a killed one has left.

    Raises:
        JournalError: the experiment cannot be written.
    """
    prefix, suffix = f"{names.TMP_PREFIX}state-", f".{os.getpid()}"
    try:
        made = tempfile.TemporaryDirectory(prefix=prefix, suffix=suffix, dir=home)
    except OSError as error:
        raise JournalError(
            f"cannot write in {home}: {error}. Earlier records are intact."
        ) from error
    with made as directory:
        yield directory


def _files(directory: str, save: Callable[[str], None]) -> dict[str, bytes]:
    """What a save method writes into a new directory, by file name."""
    os.mkdir(directory)
    save(directory)
    files = {}
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), "rb") as file:
            files[name] = file.read()
    return files


def _scheduler(directory: str, scheduler: Any) -> bytes | None:
    files = _files(directory, lambda d: scheduler.save(os.path.join(d, SCHEDULER)))
    return files.get(SCHEDULER)


def _state_of(callback: Callback) -> bytes | None:
    return _pickled(callback.get_state())


def _pickled(value: Any) -> bytes | None:
    if value is None:
        return None
    import cloudpickle

    data: bytes = cloudpickle.dumps(value)
    return data
