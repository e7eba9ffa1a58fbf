"""Going on with an experiment: its record, with what the user gives anew."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from milepost.api import uri
from milepost.api.checks import boolean
from milepost.api.resume_config import ResumeConfig, ResumeType
from milepost.api.run_config import RunConfig
from milepost.api.tune_config import TuneConfig
from milepost.tune.experiment.experiment import Experiment, check_space
from milepost.tune.fingerprint import code_of
from milepost.tune.likeness import alike
from milepost.tune.outlook import current, outlook, taken_up
from milepost.tune.overrides import Merged, at_its_place, made, merge
from milepost.tune.recorded import Recorded
from milepost.tune.resolve import Target, resolve
from milepost.tune.space_diff import Unloadable, changes
from milepost.tune.values import Supply, require

if TYPE_CHECKING:
    from milepost.journal.image import RunImage

log = logging.getLogger("milepost.tune")

# What shows the run, and nothing else, may be left out when it cannot be loaded.
_FOR_SHOW = frozenset({"progress_reporter"})


def directory_of(path: str | os.PathLike[str], storage_filesystem: Any | None = None) -> str:
    """Return the absolute directory for the path of a user.

    Raises:
        ValueError: it is on storage that this version cannot use.
    """
    if storage_filesystem is not None:
        from milepost.storage.filesystem import require_local

        require_local(storage_filesystem)
    return uri.resolve(path)


def resume_config(
    resume_unfinished: bool, resume_errored: bool, restart_errored: bool
) -> ResumeConfig:
    """Return what the three flags of ``Tuner.restore`` mean; resuming wins over restarting.

    Raises:
        TypeError: one of them is neither True nor False.
    """
    owner = "Tuner.restore"
    goes_on = boolean(owner, "resume_unfinished", resume_unfinished)
    errored = ResumeType.SKIP
    if boolean(owner, "restart_errored", restart_errored):
        errored = ResumeType.RESTART
    if boolean(owner, "resume_errored", resume_errored):
        errored = ResumeType.RESUME
    return ResumeConfig(
        unfinished=ResumeType.RESUME if goes_on else ResumeType.SKIP, errored=errored
    )


class Restoration:
    """An experiment that is gone on with. Nothing on disk is changed by making one.

    What the user gives counts; everything else is as it was recorded.

    Args:
        path: the experiment's directory, absolute.
        trainable: the function or class, or its registered name.
        resume: what happens to the trials that exist.
        param_space: the search space; None for the recorded one.
        tune_config: its fields that were set replace the recorded ones.
        run_config: likewise.
        resources_per_trial: what each trial needs; None for what was recorded.
        initial_checkpoint: directory of the checkpoint that trials without one of their own start
            from; None for the recorded one.

    Raises:
        ExperimentNotFoundError: there is nothing to go on with.
        JournalError: a newer version wrote the experiment's journal.
        ValueError: the trainable has another name, a value that is needed can neither be loaded
            nor was given, or ``run_config`` names another place.
        TuneError, TypeError: as for :class:`~milepost.tune.tuner.Tuner`.

    Attributes:
        experiment: what runs.
        recorded: what the directory says.
        resume: see above.
        lifted: what may have stopped the run before and does not hold any more: ``"budget"``,
            ``"stopper"``.
        anew: parts of the run that do not get their recorded state back.
        save_at_end: whether classes save at their end when nothing is said about it.
        supply: gives values of trials' configs that cannot be loaded.
    """

    def __init__(
        self,
        path: str,
        trainable: Any,
        resume: ResumeConfig,
        *,
        param_space: Any = None,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
        resources_per_trial: Any = None,
        initial_checkpoint: str | None = None,
    ) -> None:
        self._is_used = False
        self._given = {
            "param_space": param_space,
            "tune_config": tune_config,
            "run_config": run_config,
            "resources_per_trial": resources_per_trial,
            "initial_checkpoint": initial_checkpoint,
        }
        self._trainable = trainable
        self.recorded = recorded = Recorded(path)
        self.resume = resume
        target = resolve(trainable)
        _require_name(recorded, target)
        _require_setup(recorded, param_space)
        tune = merge(recorded.config("tune_config", TuneConfig), tune_config, TuneConfig)
        run = merge(recorded.config("run_config", RunConfig), run_config, RunConfig)
        run_fields = at_its_place(run, run_config, path)
        space, self._space_changes = _space(recorded.space(), param_space)
        if not recorded.setup:  # there is nothing to compare with
            self._space_changes = []
        resources = resources_per_trial
        if resources is None and not _asks_itself(target):
            resources = recorded.resources_per_trial()
        _drop_shows(run, run_fields)
        _require_all(path, tune, run, space, resources)
        self.experiment = Experiment.of(
            target,
            space,
            made(TuneConfig, tune.fields),
            made(RunConfig, run_fields),
            resources,
            path,
        )
        self.experiment.initial_checkpoint = initial_checkpoint or recorded.setup.get(
            "initial_checkpoint"
        )
        self.supply = Supply(space)
        self.lifted = _lifted(recorded.image, self._budget_s, has_other_stop="stop" in run.replaced)
        require(self.supply.missing(path, taken_up(recorded.image, resume, self.lifted)))
        self.save_at_end = bool(recorded.setup.get("save_at_end", True))
        self.anew = _replaced_parts(tune, run, bool(self._space_changes))
        self._changes = [*tune.replaced.values(), *run.replaced.values()]
        self._code = code_of(target.trainable)

    def for_a_run(self) -> Restoration:
        """Return the same as the directory is now, with objects that no run has used yet."""
        if self.recorded.is_current and not self._is_used:
            self._is_used = True
            return self
        fresh = Restoration(self.recorded.path, self._trainable, self.resume, **self._given)
        fresh._is_used = True
        return fresh

    @property
    def has_other_space(self) -> bool:
        """Whether new trials come from another search space than the recorded one."""
        return bool(self._space_changes)

    @property
    def is_in_use(self) -> bool:
        """Whether a driver runs the experiment at the moment, so that another one cannot."""
        from milepost.journal import lease

        return lease.is_held(self.recorded.path)

    def warn_if_in_use(self) -> None:
        """Tell of a driver that runs the experiment at the moment."""
        from milepost.journal import lease

        if self.is_in_use:
            holder = lease.holder_of(self.recorded.path)
            log.warning(
                "%s is in use by %s; fit() raises as long as it is",
                self.recorded.path,
                "another process" if holder is None else holder.describe(),
            )

    @property
    def _budget_s(self) -> float | None:
        from milepost.tune.plan import seconds

        return seconds(self.experiment.tune_config.time_budget_s)

    def lines(self) -> list[str]:
        """Return what will be done, for people: the trials, and what is not as it was recorded."""
        image = self.recorded.image
        number = sum(1 for _ in current(image))
        lines = [f"Going on with {self.recorded.path} ({number} trials):"]
        told = outlook(
            image,
            self.resume,
            self._budget_s,
            lifted=self.lifted,
            has_other_stop="stopper" in self.anew,
        )
        lines += [f"  {line}" for line in told]
        if self._space_changes:
            lines.append("The search space has changed. Trials that exist keep their configs:")
            lines += [f"  {line}" for line in self._space_changes]
            lines += self._about_places(number)
        if self._changes:
            lines.append("Set anew:")
            lines += [f"  {line}" for line in self._changes]
        lines += self._about_code()
        lines += [
            f"The {part} starts anew, without its recorded state." for part in sorted(self.anew)
        ]
        return lines

    def _about_places(self, trials: int) -> list[str]:
        """Whether the new space has nothing to try any more, as far as that is known."""
        from milepost.tune.search.variants import count

        tune = self.experiment.tune_config
        if tune.search_alg is not None or tune.num_samples == -1:
            return []
        places = tune.num_samples * count(self.experiment.space)
        if places > trials:
            return []
        what = "1 trial" if places == 1 else f"{places} trials"
        return [f"It has {what} in all, so there are no new ones; a larger num_samples makes more."]

    def _about_code(self) -> list[str]:
        before, now = self.recorded.setup.get("code") or {}, self._code
        name = self.experiment.target.name
        lines = []
        if (kind := self.recorded.setup.get("kind")) not in (None, self.experiment.target.kind):
            lines.append(
                f"{name} was a {kind} and is a {self.experiment.target.kind} now; make sure that "
                "it can load the checkpoints of trials that go on."
            )
        if before.get("digest") in (None, now["digest"]):
            return lines
        if before.get("python") != now["python"]:
            lines.append(
                f"Whether the code of {name} has changed is not known: it was recorded under "
                f"Python {before.get('python')}, and this is {now['python']}."
            )
        else:
            then = before.get("where")
            moved = f"; what ran then was {then}" if then and then != now["where"] else ""
            lines.append(
                f"The code of {name} has changed since the last run. What runs now is "
                f"{now['where'] or name}{moved}."
            )
        return lines


def _require_name(recorded: Recorded, target: Target) -> None:
    """Refuse a trainable of another name.

    Raises:
        ValueError: it has one.
    """
    if recorded.trainable in (target.name, ""):  # damage may have taken it
        return
    how = "class" if target.kind == "class" else "function"
    raise ValueError(
        f"The experiment {recorded.path} was started with the trainable {recorded.trainable!r}, "
        f"and {target.name!r} was given to go on with it. If that is the same {how} under a new "
        f"name, say so: tune.register_trainable({recorded.trainable!r}, <the {how}>), and give "
        f"{recorded.trainable!r} as the trainable. Nothing was changed."
    )


def _require_setup(recorded: Recorded, param_space: Any) -> None:
    """Ask for everything when the record of the setup is lost.

    Raises:
        ValueError: there is no search space.
    """
    if recorded.setup:
        return
    if param_space is None:
        raise ValueError(
            f"How the run in {recorded.path} was set up is not known any more: that part of its "
            "journal is damaged. Give param_space, tune_config and run_config as when it was "
            "started; param_space={} if there was none. Its trials and checkpoints are not "
            "affected, and nothing was changed."
        )
    log.warning(
        "how the run in %s was set up is not known any more; what is not given is as by default",
        recorded.path,
    )


def _space(recorded: dict[str, Any], given: Any) -> tuple[dict[str, Any], list[str]]:
    """The search space that counts, and how it differs from the recorded one."""
    if given is None:
        return recorded, []
    space = check_space(given)
    return space, changes(recorded, space)


def _asks_itself(target: Target) -> bool:
    """Whether the trainable says itself what it needs."""
    if target.kind == "function":
        return getattr(target.trainable, "_resources", None) is not None
    from milepost.worker.trainable import Trainable

    asks = target.trainable.default_resource_request
    return asks.__func__ is not Trainable.default_resource_request.__func__  # type: ignore[attr-defined]


def _drop_shows(merged: Merged, fields: dict[str, Any]) -> None:
    for name in _FOR_SHOW & merged.missing.keys():
        lost = merged.missing.pop(name)
        del fields[name]
        log.warning("the recorded %s (%s) is not used: %s", name, lost.text, lost.why)


def _require_all(
    path: str, tune: Merged, run: Merged, space: dict[str, Any], resources: Any
) -> None:
    """Refuse to go on without something that was recorded only as text.

    Raises:
        ValueError: with each such field or key.
    """
    lines = [
        f"{field}, which was {lost.text} ({lost.why}): give {config}({field}=...)"
        for config, merged in (("TuneConfig", tune), ("RunConfig", run))
        for field, lost in sorted(merged.missing.items())
    ]
    lines += [
        f"{key} in the search space, which was {lost.text} ({lost.why}): give param_space"
        for key, lost in _unloadable(space, "")
    ]
    if isinstance(resources, Unloadable):
        lines.append(
            f"resources_per_trial, which was {resources.text} ({resources.why}): attach resources "
            "to the trainable with tune.with_resources"
        )
    if lines:
        shown = "".join(f"\n  - {line}" for line in lines)
        raise ValueError(
            f"The record of {path} has only the text of some objects, which could not be pickled "
            f"then or cannot be loaded now:{shown}\nA field of None leaves it out. Nothing was "
            "changed."
        )


def _unloadable(value: Any, key: str) -> list[tuple[str, Unloadable]]:
    if isinstance(value, Unloadable):
        return [(key, value)]
    if not isinstance(value, dict):
        return []
    found = []
    for name, member in value.items():
        found += _unloadable(member, f"{key}/{name}" if key else str(name))
    return found


def _replaced_parts(tune: Merged, run: Merged, has_other_space: bool) -> frozenset[str]:
    """The parts of a run that do not take the recorded state of their predecessors."""
    anew = set()
    search, before = tune.fields.get("search_alg"), tune.recorded.get("search_alg")
    # One that could not be loaded was given again: its state may be there all the same.
    if not isinstance(before, Unloadable) and _kind_of_search(before) != _kind_of_search(search):
        anew.add("search")
    # What a searcher has learned belongs to the space that it searched; a position in a random or
    # grid search means the same in any.
    if has_other_space and hasattr(search, "suggest"):
        anew.add("search")
    scheduler, before = tune.fields.get("scheduler"), tune.recorded.get("scheduler")
    if not isinstance(before, Unloadable) and not alike(_scheduler(before), _scheduler(scheduler)):
        anew.add("scheduler")
    if "stop" in run.replaced:
        anew.add("stopper")
    return frozenset(anew)


def _lifted(image: RunImage, budget_s: float | None, *, has_other_stop: bool) -> frozenset[str]:
    """What may have stopped the run before as a whole, and does not hold any more."""
    lifted = set()
    if budget_s is None or budget_s > image.elapsed_s:
        lifted.add("budget")
    if has_other_stop:
        lifted.add("stopper")
    return frozenset(lifted)


def _kind_of_search(chosen: Any) -> str:
    from milepost.tune.search import create_searcher
    from milepost.tune.search.basic_variant import BasicVariantGenerator

    if chosen is None:
        return BasicVariantGenerator.__qualname__
    kind = type(create_searcher(chosen) if isinstance(chosen, str) else chosen)
    return kind.__qualname__


def _scheduler(chosen: Any) -> Any:
    from milepost.tune.schedulers import FIFOScheduler, create_scheduler

    if chosen is None:
        return FIFOScheduler()
    return create_scheduler(chosen) if isinstance(chosen, str) else chosen
