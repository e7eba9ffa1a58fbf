"""What a trial needs to run: bundles of CPUs, GPUs and other resources."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

Bundle = dict[str, float]


class PlacementGroupFactory:
    """The resources of one trial. Mirrors ``ray.tune.PlacementGroupFactory``.

    The first bundle is for the trial's own process; further ones are held for what it starts.

    Args:
        bundles: one dict ``resource -> amount`` per process, such as ``[{"CPU": 1, "GPU": 0.5}]``.
            An empty first bundle means that the trial's own process needs nothing.
        strategy: how bundles are spread over nodes; ``"PACK"`` puts them close together.
        *args: kept for equality and printing.
        **kwargs: kept for equality and printing.

    Raises:
        ValueError: there is no bundle, only an empty one, or an amount is negative or no number.

    Example:
        >>> PlacementGroupFactory([{"CPU": 2}, {"CPU": 1, "GPU": 1}]).required_resources
        {'CPU': 3.0, 'GPU': 1.0}
    """

    def __init__(
        self,
        bundles: Sequence[Mapping[str, float]],
        strategy: str = "PACK",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        normalised = _normalised(bundles)
        self._head_is_empty = not normalised[0]
        if self._head_is_empty:
            normalised = normalised[1:]
            if not normalised:
                raise ValueError(
                    "A PlacementGroupFactory needs at least one resource: the first bundle is "
                    f"empty and there is no other, got {bundles!r}."
                )
        self._bundles = normalised
        self._strategy = strategy
        self._args = args
        self._kwargs = kwargs

    @property
    def bundles(self) -> list[Bundle]:
        """A copy of the bundles that hold anything."""
        return [dict(bundle) for bundle in self._bundles]

    @property
    def head_bundle_is_empty(self) -> bool:
        """Whether the trial's own process needs no resources."""
        return self._head_is_empty

    @property
    def head_cpus(self) -> float:
        """CPUs of the trial's own process."""
        return 0.0 if self._head_is_empty else self._bundles[0].get("CPU", 0.0)

    @property
    def required_resources(self) -> Bundle:
        """The sum over all bundles."""
        total: Bundle = {}
        for bundle in self._bundles:
            for name, amount in bundle.items():
                total[name] = total.get(name, 0.0) + amount
        return total

    @property
    def strategy(self) -> str:
        """How bundles are spread over nodes."""
        return self._strategy

    def __call__(self, *args: Any, **kwargs: Any) -> PlacementGroupFactory:
        """Deprecated: return the factory itself."""
        warnings.warn(
            "Calling a PlacementGroupFactory has no effect; use its attributes.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self

    def _identity(self) -> tuple[Any, ...]:
        return (
            tuple(tuple(sorted(bundle.items())) for bundle in self._bundles),
            self._strategy,
            self._args,
            tuple(sorted(self._kwargs.items())),
            self._head_is_empty,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlacementGroupFactory):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        bound = inspect.signature(PlacementGroupFactory).bind(
            self._bundles, self._strategy, *self._args, **self._kwargs
        )
        return f"<ResourceRequest (_bound={bound}, head_bundle_is_empty={self._head_is_empty})>"


def placement_group_of(spec: Any) -> PlacementGroupFactory:
    """Translate any way of writing a trial's resources.

    Args:
        spec: a :class:`PlacementGroupFactory`; a dict with ``cpu``, ``gpu``, ``memory``,
            ``custom_resources`` or names of custom resources; or None. A dict without ``cpu``
            reserves no CPU; None or an empty dict means one CPU.

    Raises:
        ValueError: it is something else, or an amount is negative or no number.
    """
    if isinstance(spec, PlacementGroupFactory):
        return spec
    if spec is not None and not isinstance(spec, Mapping):
        raise ValueError(
            "Resources must be a dict such as {'cpu': 2, 'gpu': 0.5} or a PlacementGroupFactory, "
            f"got {spec!r} ({type(spec).__name__})."
        )
    return PlacementGroupFactory([_bundle_of(spec) if spec else {"CPU": 1.0}])


def resources_of(spec: Any) -> list[Bundle]:
    """Return the bundles of a resource spec, one per process, the trial's own first.

    Takes what :func:`placement_group_of` takes. An empty first bundle stays, so that the trial's
    own process is always the first entry.
    """
    factory = placement_group_of(spec)
    return [{}, *factory.bundles] if factory.head_bundle_is_empty else factory.bundles


def _bundle_of(spec: Mapping[str, Any]) -> Bundle:
    rest = dict(spec)
    bundle: dict[str, Any] = {}
    for name, spellings in {"CPU": ("cpu", "CPU"), "GPU": ("gpu", "GPU")}.items():
        given = [s for s in spellings if s in rest]
        if len(given) > 1:
            raise ValueError(f"Resources name {name} twice, as {' and as '.join(given)}: {spec!r}.")
        if given:
            bundle[name] = rest.pop(given[0])
    if "memory" in rest:
        bundle["memory"] = rest.pop("memory")
    custom = rest.pop("custom_resources", None)
    bundle.update(custom or rest)
    return _normalised_bundle(bundle)


def _normalised(bundles: Any) -> list[Bundle]:
    if not bundles:
        raise ValueError(f"A PlacementGroupFactory needs at least one bundle, got {bundles!r}.")
    if not isinstance(bundles, list | tuple):
        raise ValueError(
            "A PlacementGroupFactory takes a list of bundles such as [{'CPU': 1}], "
            f"got {bundles!r}."
        )
    return [_normalised_bundle(bundle) for bundle in bundles]


def _normalised_bundle(bundle: Any) -> Bundle:
    if not isinstance(bundle, Mapping):
        raise ValueError(f"A bundle of resources must be a dict, got {bundle!r}.")
    checked: Bundle = {}
    for name, amount in bundle.items():
        try:
            number = float(amount if amount is not None else 0.0)
        except (TypeError, ValueError):
            number = math.nan
        if not number >= 0 or math.isinf(number):
            raise ValueError(
                f"The amount of {name!r} must be a number, zero or more, got {amount!r}."
            )
        if number:
            checked[str(name)] = number
    return checked
