"""A trainer in a trial of a tuning run has its workers from that run's resources."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence

from milepost.api.resources import resources_of
from milepost.api.session import ClusterResources, using
from milepost.api.training.scaling_config import ScalingConfig
from milepost.errors import InsufficientClusterResourcesError
from milepost.worker import session
from milepost.worker.protocol import Borrow, GiveBack
from milepost.worker.trial_session import TrialEnded

_numbers = itertools.count()


@contextlib.contextmanager
def room_for(scaling: ScalingConfig) -> Iterator[None]:
    """Have room for the workers of a trainer; in a trial it is the tuning run's.

    Args:
        scaling: how many workers there may be, and what each holds.

    Raises:
        InsufficientClusterResourcesError: there is not enough, and never will be while all who
            hold something wait.
    """
    dialog = session.current_dialog()
    if dialog is None or not dialog.is_here or scaling.max_workers == 0:
        yield
        return
    bundles = tuple(dict(each) for each in resources_of(scaling.as_placement_group_factory()))
    number = next(_numbers)
    lent = dialog.borrow(Borrow(number, bundles, max(1, scaling.min_workers)))
    if lent is None:
        raise TrialEnded
    if not lent.size:
        raise InsufficientClusterResourcesError(_refusal(scaling, bundles, lent.why))
    try:
        with using(_sum(bundles[: lent.size], lent.gpus)):
            yield
    finally:
        dialog.tell(GiveBack(number))


def _sum(bundles: Sequence[Mapping[str, float]], gpus: tuple[str, ...]) -> ClusterResources:
    total: dict[str, float] = {}
    for bundle in bundles:
        for name, amount in bundle.items():
            total[name] = total.get(name, 0) + amount
    total.pop("GPU", None)
    return ClusterResources(total.pop("CPU", 0), gpus, total)


def _refusal(scaling: ScalingConfig, bundles: Sequence[Mapping[str, float]], why: str) -> str:
    least = max(1, scaling.min_workers)
    trial = session.current_trial()
    assert trial is not None
    workers = "1 worker" if least == 1 else f"{least} workers"
    return (
        f"The trainer in trial {trial.trial_name} cannot have {workers}: {why}. Let the trial hold "
        "what they need, in bundles after that of its own process: tune.with_resources(function, "
        f"tune.PlacementGroupFactory([{{'CPU': 1}}] + [{dict(bundles[0])}] * {least})). Or run "
        "fewer trials at once, with TuneConfig(max_concurrent_trials=...)."
    )
