"""The journal of a run that is new."""

from __future__ import annotations

import errno

from milepost.errors import ExperimentExistsError, LeaseLostError
from milepost.journal import lease, replay
from milepost.journal.experiment import Experiment
from milepost.journal.log import Journal


def begin(experiment: Experiment) -> Journal:
    """Begin the journal of an experiment in which nothing is recorded.

    The directory may have been made by a driver that died at once. So two new drivers may have
    found it empty; the one that is faster here has it, and the other changes nothing.

    Raises:
        ExperimentExistsError: another driver was faster.
        JournalError: the journal cannot be written.
    """
    try:
        if not lease.is_held(experiment.path):
            _require_nothing(experiment)  # before the lock says that we hold what is another's
        holding = lease.acquire(experiment.path)
    except LeaseLostError as error:
        raise _taken(experiment.path, str(error)) from error
    try:
        _require_nothing(experiment)
    except BaseException:
        holding.release()
        raise
    return Journal.open(experiment, lease=holding)


def _require_nothing(experiment: Experiment) -> None:
    image = replay.image(experiment.path)
    if image.setup is not None or image.trials:
        raise _taken(experiment.path, "it has run already")


def _taken(path: str, why: str) -> ExperimentExistsError:
    return ExperimentExistsError(
        errno.EEXIST,
        f"the name of this run is another one's: {why}. To go on with it: "
        f"Tuner.restore({path!r}, trainable). For a new one choose another RunConfig(name=...)",
        path,
    )
