"""How many workers a training run has on this machine."""

from __future__ import annotations

import dataclasses

from milepost.api.resources import PlacementGroupFactory
from milepost.api.session import ensure_initialized
from milepost.api.training.scaling_config import ScalingConfig
from milepost.errors import InsufficientClusterResourcesError


def largest_group(scaling: ScalingConfig) -> PlacementGroupFactory:
    """Return what the most workers hold that there may be and that the machine has room for.

    Args:
        scaling: how many there may be, and what each holds; with 0 it is one.

    Raises:
        InsufficientClusterResourcesError: there is not even room for the least number.
        ValueError: the config cannot take effect.
    """
    from milepost.api.resources import resources_of
    from milepost.control.resources import Pool, request_of

    if scaling.max_workers == 0:  # it trains in the driver's process
        scaling = dataclasses.replace(scaling, num_workers=1)
    there = ensure_initialized()
    pool = Pool(there.as_dict(), there.gpus)
    least = max(1, scaling.min_workers)
    why = None
    for number in range(scaling.max_workers, least - 1, -1):
        group = scaling.as_placement_group_factory(number)
        why = pool.why_never(request_of(resources_of(group)))
        if why is None:
            return group
    workers = "1 worker" if least == 1 else f"{least} workers"
    advice = "Ask for fewer workers, for less with resources_per_worker"
    if scaling.num_gpus_per_worker and not there.gpus:
        advice = "No GPU was found: leave use_gpu out to train on CPUs"
    raise InsufficientClusterResourcesError(
        f"There can be no group of {workers} with {scaling!r}: {why}. {advice}, or declare more "
        "with milepost.init(num_cpus=..., num_gpus=..., resources=...)."
    )
