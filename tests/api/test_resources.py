"""Resources of trials: every way of writing them."""

from __future__ import annotations

import pickle

import pytest

from milepost.api.resources import PlacementGroupFactory, placement_group_of, resources_of

DICTS = [
    (None, {"CPU": 1.0}),
    ({}, {"CPU": 1.0}),
    ({"cpu": 2}, {"CPU": 2.0}),
    ({"CPU": 2, "GPU": 0}, {"CPU": 2.0}),
    ({"gpu": 1}, {"GPU": 1.0}),
    ({"gpu": 0.25, "cpu": 1}, {"CPU": 1.0, "GPU": 0.25}),
    ({"memory": 100}, {"memory": 100.0}),
    ({"cpu": 1, "tpu": 2}, {"CPU": 1.0, "tpu": 2.0}),
    ({"cpu": 1, "custom_resources": {"tpu": 2}, "ignored": 1}, {"CPU": 1.0, "tpu": 2.0}),
    ({"cpu": 1, "custom_resources": {}, "tpu": 2}, {"CPU": 1.0, "tpu": 2.0}),
]


@pytest.mark.parametrize(("given", "bundle"), DICTS)
def test_dicts(given: dict[str, object] | None, bundle: dict[str, float]) -> None:
    """A dict without cpu reserves none; nothing at all means one CPU; zeros vanish."""
    assert resources_of(given) == [bundle]
    assert placement_group_of(given).bundles == [bundle]


WRONG = [
    ({"cpu": 0}, "at least one resource"),
    ({"cpu": -1}, "'CPU' must be a number, zero or more, got -1"),
    ({"cpu": "two"}, "got 'two'"),
    ({"cpu": float("nan")}, "got nan"),
    ({"cpu": 1, "CPU": 2}, "name CPU twice"),
    (3, "got 3"),
    ([{"CPU": 1}], "must be a dict"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_dicts(given: object, message: str) -> None:
    """What cannot be reserved is refused with its value."""
    with pytest.raises(ValueError, match=message):
        resources_of(given)


@pytest.mark.parametrize(
    ("bundles", "message"),
    [
        ([], "at least one bundle"),
        (None, "at least one bundle"),
        ([{}], "first bundle is empty"),
        ([{"CPU": 0}], "first bundle is empty"),
        ({"CPU": 1}, "takes a list of bundles"),
        ([3], "must be a dict, got 3"),
    ],
)
def test_factories_without_resources(bundles: object, message: str) -> None:
    """A factory must ask for something, in a list."""
    with pytest.raises(ValueError, match=message):
        PlacementGroupFactory(bundles)  # type: ignore[arg-type]


def test_several_bundles() -> None:
    """The sum counts, and the first bundle is the trial's own."""
    factory = PlacementGroupFactory([{"CPU": 1, "GPU": 0}, {"CPU": 2, "GPU": 1}], strategy="SPREAD")
    assert factory.bundles == [{"CPU": 1.0}, {"CPU": 2.0, "GPU": 1.0}]
    assert factory.required_resources == {"CPU": 3.0, "GPU": 1.0}
    assert (factory.head_cpus, factory.head_bundle_is_empty) == (1.0, False)
    assert factory.strategy == "SPREAD"
    assert resources_of(factory) == factory.bundles


def test_empty_head() -> None:
    """An empty first bundle is not among the bundles, but stays the trial's own."""
    factory = PlacementGroupFactory([{}, {"CPU": 2}])
    assert (factory.bundles, factory.head_cpus) == ([{"CPU": 2.0}], 0.0)
    assert factory.head_bundle_is_empty
    assert resources_of(factory) == [{}, {"CPU": 2.0}]


def test_the_bundles_are_copies() -> None:
    """Neither the list given nor the one returned is the factory's own."""
    given = [{"CPU": 1}]
    factory = PlacementGroupFactory(given)
    given[0]["CPU"] = 5
    factory.bundles[0]["CPU"] = 6
    assert factory.bundles == [{"CPU": 1.0}]


def test_repr() -> None:
    """The repr is Ray's."""
    assert repr(PlacementGroupFactory([{"CPU": 1, "GPU": 0}])) == (
        "<ResourceRequest (_bound=<BoundArguments (bundles=[{'CPU': 1.0}], strategy='PACK')>, "
        "head_bundle_is_empty=False)>"
    )


def test_factories_are_values() -> None:
    """Equality and hash go by what is asked for; pickles are equal."""
    one, same = PlacementGroupFactory([{"CPU": 1}]), PlacementGroupFactory([{"CPU": 1.0}], "PACK")
    assert one == same == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(same)
    assert one != PlacementGroupFactory([{"CPU": 1}], strategy="SPREAD")
    assert one != PlacementGroupFactory([{}, {"CPU": 1}])
    assert one != [{"CPU": 1.0}]


def test_calling_a_factory_is_deprecated() -> None:
    """Older scripts call it; it says so and stays what it is."""
    factory = PlacementGroupFactory([{"CPU": 1}])
    with pytest.warns(DeprecationWarning, match="no effect"):
        assert factory() is factory
