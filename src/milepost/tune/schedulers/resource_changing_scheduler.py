"""Gives trials other resources while the run goes on."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from milepost.api.checks import function, instance_of, optional
from milepost.api.resources import PlacementGroupFactory, placement_group_of
from milepost.api.scheduler import TrialScheduler
from milepost.tune.compatible import check_scheduler, scheduler_doubts
from milepost.tune.schedulers.allocation import (
    DistributeResources,
    DistributeResourcesToTopJob,
)
from milepost.tune.schedulers.fifo import FIFOScheduler

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.tune.compatible import Setting

__all__ = ["DistributeResources", "DistributeResourcesToTopJob", "ResourceChangingScheduler"]

log = logging.getLogger("milepost.tune")

Allocation = Callable[
    [Any, Any, dict[str, Any], "ResourceChangingScheduler"],
    "PlacementGroupFactory | dict[str, float] | None",
]

_DISTRIBUTE = DistributeResources(add_bundles=False)
_ALLOCATION = "_resources_allocation_function"


class ResourceChangingScheduler(TrialScheduler):
    """Changes what trials ask for while they run; another scheduler decides everything else.

    Mirrors ``ray.tune.schedulers.ResourceChangingScheduler``. When the other scheduler lets a
    trial go on, a function is asked what it should have. If that differs from what it has, the
    trial is paused, and goes on from its checkpoint with the other resources. The trainable finds
    them in ``get_context().get_trial_resources()`` (functions) or ``self.trial_resources``
    (classes).

    All trials begin with the same resources; after a restore they begin with those once more.

    Args:
        base_scheduler: pauses and stops trials; FIFO if it is None.
        resources_allocation_function: ``(tune_controller, trial, result, scheduler)`` -> a
            ``PlacementGroupFactory``, a dict such as ``{"cpu": 2}``, or None for no change. None
            instead of a function changes nothing at all.

    Raises:
        TypeError: they are no scheduler and no function.
    """

    def __init__(
        self,
        base_scheduler: TrialScheduler | None = None,
        resources_allocation_function: Allocation | None = _DISTRIBUTE,
    ) -> None:
        owner = type(self).__name__
        optional(instance_of(TrialScheduler))(owner, "base_scheduler", base_scheduler)
        optional(function)(owner, "resources_allocation_function", resources_allocation_function)
        if resources_allocation_function is None:
            log.warning(
                "ResourceChangingScheduler(resources_allocation_function=None) changes no "
                "resources: trials keep what they begin with."
            )
        self._base_scheduler = base_scheduler or FIFOScheduler()
        self._resources_allocation_function = resources_allocation_function
        self._base_trial_resources: PlacementGroupFactory | None = None
        self._mode: str | None = getattr(self._base_scheduler, "_mode", None)
        self._wanted: dict[str, PlacementGroupFactory] = {}
        self._changed: set[str] = set()

    @property
    def metric(self) -> str | None:
        """That of the other scheduler."""
        return self._base_scheduler.metric

    @property
    def mode(self) -> str | None:
        """``"min"`` or ``"max"``: that of the other scheduler or of the run, if any."""
        return self._mode

    @property
    def supports_buffered_results(self) -> bool:
        """Whether the other scheduler does."""
        return self._base_scheduler.supports_buffered_results

    @property
    def base_trial_resources(self) -> PlacementGroupFactory | None:
        """What trials begin with; None before the first trial."""
        return self._base_trial_resources

    def check_run(self, setting: Setting) -> None:
        """Refuse a run whose resources cannot change, and what the other scheduler refuses.

        Raises:
            ValueError: workers are reused, or trials cannot go on from a checkpoint.
        """
        _require_own_workers(reuse_actors=setting.reuse_actors)
        check_scheduler(self._base_scheduler, setting)
        if self._resources_allocation_function is not None:
            setting.require_checkpoints(
                type(self).__name__, "pauses trials to change their resources"
            )

    def doubts(self, setting: Setting) -> list[str]:
        """Return those of the other scheduler."""
        return scheduler_doubts(self._base_scheduler, setting)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Hand on the run's metric and mode.

        Raises:
            ValueError: the run reuses workers, whose resources are fixed.
        """
        _require_own_workers(reuse_actors=bool(spec.get("reuse_actors")))
        self._mode = self._mode or mode
        return self._base_scheduler.set_search_properties(metric, mode, **spec)

    # --- trials -----------------------------------------------------------------------------

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take note of what trials begin with.

        Raises:
            RuntimeError: this trial begins with something else than the first one.
        """
        resources = trial.placement_group_factory
        if self._base_trial_resources is None:
            self._base_trial_resources = resources
        elif resources != self._base_trial_resources and trial.trial_id not in self._changed:
            raise RuntimeError(
                "ResourceChangingScheduler needs trials that begin with equal resources: trial "
                f"{trial.trial_id} asks for {resources.bundles}, and the first one asked for "
                f"{self._base_trial_resources.bundles}."
            )
        self._base_scheduler.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return what the other scheduler says; ``PAUSE`` if the trial is to have other resources.

        Raises:
            ValueError: the function returned something that is no resources.
        """
        decision = self._base_scheduler.on_trial_result(tune_controller, trial, result)
        self._wanted.pop(trial.trial_id, None)
        allocate = self._resources_allocation_function
        if decision != self.CONTINUE or allocate is None:
            return decision
        answer = allocate(tune_controller, trial, result, self)
        if answer is None:
            return decision
        resources = placement_group_of(answer)
        if resources == trial.placement_group_factory:
            return decision
        self._wanted[trial.trial_id] = resources
        return self.PAUSE

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Tell the other scheduler."""
        self._wanted.pop(trial.trial_id, None)
        self._base_scheduler.on_trial_error(tune_controller, trial)

    def on_trial_exploit(self, tune_controller: Any, trial: Trial, donor: Trial) -> None:
        """Tell the other scheduler."""
        self._base_scheduler.on_trial_exploit(tune_controller, trial, donor)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Tell the other scheduler."""
        self._forget(trial)
        self._base_scheduler.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Tell the other scheduler."""
        self._forget(trial)
        self._base_scheduler.on_trial_remove(tune_controller, trial)

    def _forget(self, trial: Trial) -> None:
        self._wanted.pop(trial.trial_id, None)
        self._changed.discard(trial.trial_id)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Give paused trials their other resources, then ask the other scheduler.

        A trial that was paused for that goes on at once, before those that wait for their start.
        """
        for trial_id, resources in list(self._wanted.items()):
            trial: Trial | None = tune_controller.get_trial(trial_id)
            if trial is None or trial.is_finished():
                del self._wanted[trial_id]
            elif trial.status == "PAUSED":
                del self._wanted[trial_id]
                log.info(
                    "Trial %s goes on with %s instead of %s",
                    trial_id,
                    resources.bundles,
                    trial.placement_group_factory.bundles,
                )
                self._changed.add(trial_id)
                trial.update_resources(resources)
                if tune_controller.has_room_for(trial):
                    return trial
                tune_controller.unpause_trial(trial)
        return self._base_scheduler.choose_trial_to_run(tune_controller)

    # --- state ------------------------------------------------------------------------------

    def debug_string(self) -> str:
        """Return the line of the other scheduler."""
        return f"(ResourceChangingScheduler) {self._base_scheduler.debug_string()}"

    def save(self, checkpoint_path: str) -> None:
        """Write the state to a file; the function stays out of it, it may be any."""
        state = {name: value for name, value in vars(self).items() if name != _ALLOCATION}
        with open(checkpoint_path, "wb") as file:
            pickle.dump(state, file)


def _require_own_workers(*, reuse_actors: bool) -> None:
    if reuse_actors:
        raise ValueError(
            "ResourceChangingScheduler cannot be used with reuse_actors=True: the resources of a "
            "worker are fixed. Leave reuse_actors out of TuneConfig."
        )
