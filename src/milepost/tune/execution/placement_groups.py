"""Resources of trials, under Ray's module name."""

from __future__ import annotations

from typing import Any

from milepost.api.resources import PlacementGroupFactory, placement_group_of

__all__ = ["PlacementGroupFactory", "resource_dict_to_pg_factory"]


def resource_dict_to_pg_factory(spec: Any = None) -> PlacementGroupFactory:
    """Translate a dict such as ``{"cpu": 2, "gpu": 0.5}``; None means one CPU.

    Raises:
        ValueError: an amount is negative or no number, or nothing is asked for.
    """
    return placement_group_of(spec)
