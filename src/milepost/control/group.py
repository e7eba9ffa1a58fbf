"""Trials of several workers: how many they have, and how long those may take to make way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from milepost.api.resources import Bundle
from milepost.control.resources import Request, request_of

#: How long workers have to save when nobody knows when their machine goes away, in seconds.
DRAIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Group:
    """What holds for the workers of each trial of a run.

    Attributes:
        least: config -> how few workers a trial may have; it has as many as there is room for, at
            most one for each bundle of what it needs.
        resize_every_s: how often it is looked whether there is room for more.
        max_preemptions: how often a trial may begin again because a machine goes away; -1 without
            limit. That is no failure.
        preemption_grace_s: how long workers may go on after their machine was to go away.
    """

    least: Callable[[dict[str, Any]], int]
    resize_every_s: float = 60.0
    max_preemptions: int = -1
    preemption_grace_s: float = 0.0


class Demand(NamedTuple):
    """What a trial needs to start.

    Attributes:
        request: the least.
        most: what it takes if it is there, for a trial that may have more workers; else None.
        size: how many workers it has with the least.
    """

    request: Request
    most: Request | None
    size: int


def demand(group: Group | None, config: dict[str, Any], bundles: Sequence[Bundle]) -> Demand:
    """What a trial needs.

    Args:
        group: of its run; None where each trial is one process.
        config: of the trial.
        bundles: what it holds at most, its workers by rank.
    """
    whole = request_of(bundles)
    if group is None:
        return Demand(whole, None, 1)
    least = min(group.least(config), len(bundles))
    if least == len(bundles):
        return Demand(whole, None, least)
    return Demand(whole.first(least), whole, least)
