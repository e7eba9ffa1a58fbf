"""Nested dicts and their flat form, under a name of this package."""

from __future__ import annotations

from milepost.api.nested import (
    deep_update,
    flatten_dict,
    merge_dicts,
    unflatten_dict,
    unflatten_list_dict,
    unflattened_lookup,
)

__all__ = [
    "deep_update",
    "flatten_dict",
    "merge_dicts",
    "unflatten_dict",
    "unflatten_list_dict",
    "unflattened_lookup",
]
