"""Saying what a trainable needs to run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from milepost.api.resources import PlacementGroupFactory, placement_group_of
from milepost.tune.trainable.parameters import require_trainable


def with_resources(trainable: Any, resources: Any) -> Any:
    """Return a trainable that asks for resources. Mirrors ``ray.tune.with_resources``.

    Args:
        trainable: a function, or a ``Trainable`` class.
        resources: a dict such as ``{"cpu": 2, "gpu": 0.5}``, a ``PlacementGroupFactory``, or a
            function ``config -> either``. A dict without ``cpu`` reserves no CPU.

    Returns:
        The same function, with the request attached to it; or a subclass of the same name.

    Raises:
        ValueError: the trainable is neither, or the resources are none of these.
        RuntimeError: nothing can be attached to this callable.
    """
    require_trainable(trainable, "with_resources")
    request = _request(resources)
    if isinstance(trainable, type):
        return _class_with_resources(trainable, request)
    if inspect.ismethod(trainable):
        method = trainable

        def call(config: Any) -> Any:
            return method(config)

        call.__name__ = method.__name__
        trainable = call
    try:
        trainable._resources = request
    except AttributeError as error:
        raise RuntimeError(
            f"tune.with_resources cannot attach resources to {trainable!r}: wrap it in a function "
            "of your own that calls it."
        ) from error
    return trainable


def _request(resources: Any) -> Any:
    if isinstance(resources, PlacementGroupFactory) or (
        callable(resources) and not isinstance(resources, type)
    ):
        return resources
    if isinstance(resources, Mapping):
        return placement_group_of(resources)
    raise ValueError(
        "Resources must be a dict such as {'cpu': 2, 'gpu': 0.5}, a PlacementGroupFactory or a "
        f"function of the config that returns one, got {resources!r} ({type(resources).__name__})."
    )


def _class_with_resources(cls: Any, request: Any) -> Any:
    def default_resource_request(
        _: Any, config: dict[str, Any]
    ) -> PlacementGroupFactory | dict[str, Any] | None:
        if isinstance(request, PlacementGroupFactory):
            return request
        return placement_group_of(request(config))

    body = {
        "default_resource_request": classmethod(default_resource_request),
        "__doc__": cls.__doc__,
    }
    return type(cls.__name__, (cls,), body)
