"""Training one trial once more with the schedule that population based training has found."""

from __future__ import annotations

import json
import logging
import os
import pickle
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from milepost.api.checks import path_text
from milepost.api.fields import TRAINING_ITERATION
from milepost.errors import TuneError
from milepost.tune.schedulers.fifo import FIFOScheduler

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.tune.compatible import Setting

log = logging.getLogger("milepost.tune")

_SAVED_AS: Final = "checkpoint_dir_name"
_ONE: Final = (
    "PopulationBasedTrainingReplay trains one trial, and {}. Use num_samples=1 and a param_space "
    "without grid searches."
)
_STATE: Final = ("_trial_id", "_tag", "_done", "_asked", "_told")


class Change(NamedTuple):
    """From an iteration on a trial trains with another config."""

    iteration: int
    config: dict[str, Any]


def read_policy(path: str) -> tuple[dict[str, Any] | None, list[Change]]:
    """Return the first config of a line of descent and what it was changed to, in order.

    A ``pbt_policy_*.txt`` has all that a trial went through; what was given up when it went on
    from another one is left out here.

    Raises:
        ValueError: the file does not exist, or is none.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file if line.strip()]
    except FileNotFoundError:
        raise ValueError(f"There is no policy file {path!r}.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path!r} cannot be read as a policy file: {error}") from error
    first: dict[str, Any] | None = None
    changes: list[Change] = []
    heir = None
    for number, line in reversed(list(enumerate(lines, 1))):
        try:
            target, donor, _, iteration, before, after = line
            changed = Change(int(iteration), dict(after))
            config = dict(before)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Line {number} of {path!r} is no change of a config: it must be a list of two "
                f"tags, two iterations and two configs ({error})."
            ) from error
        if heir is not None and target != heir:
            break  # what this one had before does not count
        heir, first = donor, config
        changes.append(changed)
    return first, changes[::-1]


class PopulationBasedTrainingReplay(FIFOScheduler):
    """Trains one trial with the configs that a trial of a population had, one after the other.

    Mirrors ``ray.tune.schedulers.PopulationBasedTrainingReplay``. The trial begins with the first
    config of the line of descent. At the ``training_iteration`` of each change it is saved, and
    goes on from there with the next config. A function has to report a checkpoint with that
    result; otherwise the change waits for one.

    Args:
        policy_file: a ``pbt_policy_<trial id>.txt`` of an experiment.

    Raises:
        TypeError: it is no path.
        ValueError: the file does not exist or is none.
    """

    def __init__(self, policy_file: str | os.PathLike[str]) -> None:
        self._policy_file = os.path.expanduser(
            path_text(type(self).__name__, "policy_file", policy_file)
        )
        self._first, self._changes = read_policy(self._policy_file)
        self._trial_id: str | None = None
        self._tag = ""
        self._done = 0
        self._asked = False
        self._told = False

    @property
    def config(self) -> dict[str, Any] | None:
        """The first config of the line of descent; None if the file has no change."""
        return self._first

    @property
    def current_config(self) -> dict[str, Any] | None:
        """The config that is in force now; None if the file has no change."""
        return self._changes[self._done - 1].config if self._done else self._first

    def check_run(self, setting: Setting) -> None:
        """Refuse a run of several trials, or of one that cannot go on from a checkpoint.

        Raises:
            ValueError: it is one of these.
        """
        if setting.most_trials > 1:
            raise ValueError(_ONE.format("this run would have more"))
        if self._changes:
            setting.require_checkpoints(
                type(self).__name__, "changes the config of a trial from a checkpoint"
            )

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Give the trial its first config.

        Raises:
            ValueError: it is not the only one, or there is no config at all.
        """
        if trial.trial_id == self._trial_id:  # it is tried again
            return
        if self._trial_id is not None:
            raise ValueError(_ONE.format("a second one was added"))
        if not self._changes and not trial.config:
            raise ValueError(
                f"{self._policy_file!r} has no change, and the trial no config. Give a param_space."
            )
        self._trial_id, self._tag = trial.trial_id, trial.experiment_tag
        if self._first is not None:
            if trial.config and trial.config != self._first:
                log.warning(
                    "Trial %s begins with the config of %s, not with that of param_space.",
                    trial.trial_id,
                    self._policy_file,
                )
            trial.set_config(dict(self._first))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Save the trial and have it go on with the next config, if it is time to.

        Raises:
            TuneError: it could not be saved, so that it came here once more.
        """
        iteration = result.get(TRAINING_ITERATION)
        if iteration is None or self._done == len(self._changes):
            return self.CONTINUE
        change = self._changes[self._done]
        if iteration < change.iteration:
            return self.CONTINUE
        if self._asked:
            raise TuneError(
                f"Trial {trial.trial_id} was to go on from iteration {change.iteration} with "
                "another config, and could not be saved there. What was reported and committed is "
                "kept. Implement save_checkpoint() and load_checkpoint()."
            )
        if _SAVED_AS in result and result[_SAVED_AS] is None:
            self._wait(trial, change)
            return self.CONTINUE
        from milepost.tune.search.tags import format_vars

        shown = format_vars({(name,): value for name, value in change.config.items()})
        tune_controller.save_trial(trial)
        self._asked = tune_controller.exploit_trial(
            trial, trial, int(iteration), dict(change.config), f"{self._tag}@perturbed[{shown}]"
        )
        return self.NOOP if self._asked else self.CONTINUE

    def _wait(self, trial: Trial, change: Change) -> None:
        if not self._told:
            self._told = True
            log.warning(
                "Trial %s reports no checkpoint at iteration %d, where its config changes: the "
                "change waits for the next one. Report one with each result.",
                trial.trial_id,
                change.iteration,
            )

    def on_trial_exploit(self, tune_controller: Any, trial: Trial, donor: Trial) -> None:
        """The trial has gone on with the next config."""
        self._done += 1
        self._asked = False

    def debug_string(self) -> str:
        """Return how many changes were made."""
        return (
            f"PopulationBasedTraining replay: {self._done} of {len(self._changes)} changes "
            f"({self._policy_file})"
        )

    def save(self, checkpoint_path: str) -> None:
        """Write what was done so far to a file."""
        with open(checkpoint_path, "wb") as file:
            pickle.dump({name: getattr(self, name) for name in _STATE}, file)

    def restore(self, checkpoint_path: str) -> None:
        """Take back what :meth:`save` wrote to a file."""
        with open(checkpoint_path, "rb") as file:
            vars(self).update(pickle.load(file))
