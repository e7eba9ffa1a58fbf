"""Functions that share out free resources among trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from milepost.api.nested import flatten_dict
from milepost.api.resources import PlacementGroupFactory

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.tune.schedulers.resource_changing_scheduler import ResourceChangingScheduler

Amounts = dict[str, float]

_KINDS = ("CPU", "GPU")
_EPSILON = 1e-9  # fractions of GPUs add up with rounding errors


class DistributeResources:
    """Shares out free CPUs and GPUs evenly among all trials that have not ended.

    Mirrors ``ray.tune.schedulers.resource_changing_scheduler.DistributeResources``. Each trial
    has what it began with and a number of steps on top. If they cannot be shared evenly, those
    whose ids come first get one step more. A trial gets more only when it is free by then, and
    gives up what others are due at its next result.

    Args:
        add_bundles: whether each step is a bundle of its own; else it enlarges the one bundle.
        increase_by: one step, such as ``{"CPU": 2}``; None takes the last bundle when bundles are
            added, else one GPU if trials begin with any, else one CPU.
        increase_by_times: no more steps than these per trial; -1 for any number.
        reserve_resources: stays free, such as ``{"CPU": 1}``.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: dict[str, float] | None = None,
        increase_by_times: int = -1,
        reserve_resources: dict[str, float] | None = None,
    ) -> None:
        if increase_by is not None and (
            not any(increase_by.get(kind, 0) > 0 for kind in _KINDS)
            or any(not amount >= 0 for amount in increase_by.values())
        ):
            raise ValueError(
                f"{type(self).__name__}(increase_by=...) must have a positive CPU or GPU, got "
                f"{increase_by!r}."
            )
        if increase_by_times < -1:
            raise ValueError(
                f"{type(self).__name__}(increase_by_times=...) must be a number of steps, or -1 "
                f"for any number, got {increase_by_times!r}."
            )
        self.add_bundles = add_bundles
        self.increase_by = increase_by
        self.increase_by_times = increase_by_times
        self.reserve_resources = reserve_resources or {}

    def __call__(
        self,
        tune_controller: Any,
        trial: Trial,
        result: dict[str, Any],
        scheduler: ResourceChangingScheduler,
    ) -> PlacementGroupFactory | None:
        """Return what a trial should have, or None if that is what it has.

        Raises:
            ValueError: trials have several bundles, and steps would enlarge the one bundle.
        """
        base = scheduler.base_trial_resources
        if base is None:
            return None
        if not self.add_bundles and len(base.bundles) > 1:
            raise ValueError(
                f"{type(self).__name__}(add_bundles=False) enlarges a trial's one bundle, and "
                f"trials have {len(base.bundles)}: {base.bundles}. Use add_bundles=True."
            )
        step = self._step(base)
        trials = sorted(tune_controller.get_live_trials(), key=lambda each: each.trial_id)
        shared = self._fitting(tune_controller, base, step, trials)
        wanted = self._due(trial, trials, shared, result, scheduler)
        if self.increase_by_times >= 0:
            wanted = min(wanted, self.increase_by_times)
        has = _count(_less(trial.placement_group_factory.required_resources, _sum(base)), step)
        if wanted > has:
            wanted = has + min(wanted - has, self._free(tune_controller, step, trials))
        resources = self._with(base, step, wanted)
        return None if resources == trial.placement_group_factory else resources

    def _due(
        self,
        trial: Trial,
        trials: Sequence[Trial],
        number: int,
        result: dict[str, Any],
        scheduler: ResourceChangingScheduler,
    ) -> int:
        """How many of all steps one trial is due."""
        share, rest = divmod(number, len(trials))
        place = next(n for n, each in enumerate(trials) if each.trial_id == trial.trial_id)
        return share + (place < rest)

    def _step(self, base: PlacementGroupFactory) -> Amounts:
        if self.increase_by is not None:
            return {kind: amount for kind, amount in self.increase_by.items() if amount}
        if self.add_bundles:
            return base.bundles[-1]
        return {"GPU": 1.0} if base.bundles[0].get("GPU") else {"CPU": 1.0}

    def _fitting(
        self,
        tune_controller: Any,
        base: PlacementGroupFactory,
        step: Amounts,
        trials: Sequence[Trial],
    ) -> int:
        """How many steps there are for all trials together, beside what all begin with."""
        total = _less(tune_controller.resources_total, self.reserve_resources)
        needed = {kind: amount * len(trials) for kind, amount in _sum(base).items()}
        return _count(_less(total, needed), step)

    def _free(self, tune_controller: Any, step: Amounts, trials: Sequence[Trial]) -> int:
        """How many steps nobody has now."""
        free = _less(tune_controller.resources_total, self.reserve_resources)
        for each in trials:
            if each.status == "RUNNING":
                free = _less(free, each.placement_group_factory.required_resources)
        return _count(free, step)

    def _with(
        self, base: PlacementGroupFactory, step: Amounts, number: int
    ) -> PlacementGroupFactory:
        bundles: list[Amounts] = [{}] if base.head_bundle_is_empty else []
        bundles += base.bundles
        if self.add_bundles:
            bundles += [dict(step) for _ in range(number)]
        else:
            for kind, amount in step.items():
                bundles[-1][kind] = bundles[-1].get(kind, 0.0) + amount * number
        return PlacementGroupFactory(bundles, base.strategy)


class DistributeResourcesToTopJob(DistributeResources):
    """Gives all free CPUs and GPUs to the best trial that has not ended.

    Mirrors ``ray.tune.schedulers.resource_changing_scheduler.DistributeResourcesToTopJob``. The
    others have what they began with. Trials without a number for the metric are not the best.

    Args:
        add_bundles: as for :class:`DistributeResources`, like those that follow.
        increase_by: see there.
        increase_by_times: see there.
        reserve_resources: see there.
        metric: what trials are compared by; None takes that of the scheduler or the run.
        mode: ``"min"`` or ``"max"``; None takes that of the scheduler or the run.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: dict[str, float] | None = None,
        increase_by_times: int = -1,
        reserve_resources: dict[str, float] | None = None,
        metric: str | None = None,
        mode: str | None = None,
    ) -> None:
        super().__init__(add_bundles, increase_by, increase_by_times, reserve_resources)
        self.metric = metric
        self.mode = mode

    def _due(
        self,
        trial: Trial,
        trials: Sequence[Trial],
        number: int,
        result: dict[str, Any],
        scheduler: ResourceChangingScheduler,
    ) -> int:
        metric, mode = self.metric or scheduler.metric, self.mode or scheduler.mode
        if metric is None or mode is None:
            raise ValueError(
                f"{type(self).__name__} needs a metric and a mode to find the best trial, got "
                f"metric={metric!r}, mode={mode!r}. Set them in TuneConfig or in "
                f"{type(self).__name__}(metric=..., mode=...)."
            )
        own = _score(result, metric, mode)
        others = (each for each in trials if each.trial_id != trial.trial_id)
        best = max(
            (_score(flatten_dict(each.last_result), metric, mode) for each in others),
            default=-math.inf,
        )
        return number if own > -math.inf and own >= best else 0


def _score(row: dict[str, Any], metric: str, mode: str) -> float:
    try:
        score = float(row.get(metric, math.nan))
    except (TypeError, ValueError):
        score = math.nan
    if math.isnan(score):
        return -math.inf
    return score if mode == "max" else -score


def _sum(resources: PlacementGroupFactory) -> Amounts:
    return resources.required_resources


def _less(amounts: Amounts, taken: Amounts) -> Amounts:
    return {kind: amounts.get(kind, 0.0) - taken.get(kind, 0.0) for kind in {*amounts, *taken}}


def _count(amounts: Amounts, step: Amounts) -> int:
    """How many whole steps fit into amounts."""
    fits = min(amounts.get(kind, 0.0) / amount for kind, amount in step.items() if amount)
    return max(0, math.floor(fits + _EPSILON))
