"""Gives searcher, scheduler, stopper and callbacks back what they knew when that was last saved."""

from __future__ import annotations

import io
import logging
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from milepost.control.facade import by_reference
from milepost.control.memory import SCHEDULER, Exploit, Offered, scratch

if TYPE_CHECKING:
    from milepost.control.plan import RunPlan
    from milepost.control.run import Run
    from milepost.journal.image import RunImage

log = logging.getLogger("milepost.control")

#: Parts of a run that learn from results, so that results since the last save matter to them.
LEARNERS = ("search", "scheduler", "stopper")


@dataclass
class Recalled:
    """What came back.

    Attributes:
        parts: those of :data:`LEARNERS` that have their state again.
        lost: those that had one which cannot be used.
        names: see :class:`~milepost.control.informing.Informant`.
        asked: see :func:`~milepost.control.memory.asked`.
        offers: see :func:`~milepost.control.memory.offered`.
        exploits: see :func:`~milepost.control.memory.exploits`.
        known: see :func:`~milepost.control.memory.known`.
    """

    parts: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    names: dict[str, str | None] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    offers: dict[str, Offered] = field(default_factory=dict)
    exploits: dict[str, Exploit] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)


def recall(run: Run, image: RunImage) -> Recalled:
    """Load the last saved state into the objects of a plan, but for parts that begin anew.

    A part whose state cannot be loaded keeps the state in which it was given, with one warning.

    Args:
        run: its ledger has all trials already.
        image: says which state it is.
    """
    plan, home, recalled = run.plan, run.plan.experiment.home, Recalled()
    if image.searched is None:
        return recalled
    try:
        saved: dict[str, Any] = pickle.loads(run.objects.get(image.searched))
    except Exception as error:  # noqa: BLE001 - a pickle may raise anything
        _warn("The saved state of searcher, scheduler, stopper and callbacks", error)
        recalled.lost.update(LEARNERS)
        return recalled
    recalled.names = dict(saved.get("names") or {})
    recalled.asked = dict(saved.get("asked") or {})
    recalled.offers = dict(saved.get("offers") or {})
    recalled.exploits = dict(saved.get("exploits") or {})
    recalled.known = dict(saved.get("known") or {})
    loads: dict[str, Callable[[Any], None]] = {
        "search": lambda files: _with_files(home, files, plan.search.restore_from_dir),
        "scheduler": lambda data: _with_files(home, {SCHEDULER: data}, _restore_scheduler(plan)),
        "stopper": lambda data: _restore_stopper(plan, data),
    }
    with by_reference(run.ledger.find):
        for part, load in loads.items():
            state = saved.get(part)
            if part in plan.anew or not state:  # a search without a state leaves no file
                continue
            try:
                load(state)
                recalled.parts.add(part)
            except Exception as error:  # noqa: BLE001 - users' code; there is another way
                recalled.lost.add(part)
                owner = type(getattr(plan, part)).__name__
                _warn(f"The saved state of the {part} ({owner})", error)
        if "callbacks" not in plan.anew:
            _restore_callbacks(plan, saved.get("callbacks") or {})
    return recalled


def _with_files(home: str, files: dict[str, bytes], load: Callable[[str], None]) -> None:
    """Hand out a directory with files."""
    with scratch(home) as directory:
        for name, data in files.items():
            with open(os.path.join(directory, name), "wb") as file:
                file.write(data)
        load(directory)


def _restore_scheduler(plan: RunPlan) -> Callable[[str], None]:
    return lambda directory: plan.scheduler.restore(os.path.join(directory, SCHEDULER))


def _restore_stopper(plan: RunPlan, data: bytes) -> None:
    stopper = pickle.load(io.BytesIO(data))
    if type(stopper).__name__ != type(plan.stopper).__name__:
        raise TypeError(f"it is one of a {type(stopper).__name__}")
    plan.stopper = stopper


def _restore_callbacks(plan: RunPlan, saved: dict[int, tuple[str, bytes]]) -> None:
    """Find for each state the callback of its class: at its position, else the first without."""
    waiting = dict(enumerate(plan.callbacks))
    for position, (name, data) in sorted(saved.items()):
        fitting = [i for i, callback in waiting.items() if type(callback).__name__ == name]
        if not fitting:
            log.info("No callback is a %s any more, so the state of the earlier one is left.", name)
            continue
        callback = waiting.pop(position if position in fitting else fitting[0])
        try:
            callback.set_state(pickle.loads(data))
        except Exception as error:  # noqa: BLE001 - users' code, and the run does not depend on it
            _warn(f"The saved state of the callback {name}", error)


def _warn(what: str, error: Exception) -> None:
    log.warning(
        "%s cannot be loaded (%s: %s), so it is worked out from the recorded results where it can "
        "be, and starts anew otherwise. Trials and checkpoints are not affected.",
        what,
        type(error).__name__,
        error,
    )
