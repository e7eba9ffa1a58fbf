"""ScalingConfig: how many workers there are and what each holds, and what it refuses."""

from __future__ import annotations

import copy
import inspect
import pickle
from datetime import timedelta

import numpy as np
import pytest

from milepost.api.resources import PlacementGroupFactory
from milepost.train import ScalingConfig

DEFAULTS = {
    "trainer_resources": None,
    "num_workers": 1,
    "use_gpu": False,
    "resources_per_worker": None,
    "placement_strategy": "PACK",
    "accelerator_type": None,
    "label_selector": None,
    "use_tpu": False,
    "topology": None,
    "elastic_resize_monitor_interval_s": 60.0,
}


def test_signature() -> None:
    """The constructor takes Ray's arguments, in its order, with its defaults."""
    parameters = inspect.signature(ScalingConfig).parameters
    assert {name: p.default for name, p in parameters.items()} == DEFAULTS
    assert list(parameters) == list(DEFAULTS)


# given -> CPUs, GPUs, other resources per worker; total
HELD = [
    ({}, (1, 0, {}), {"CPU": 1.0}),
    ({"num_workers": 2, "use_gpu": True}, (0, 1, {}), {"GPU": 2.0}),
    ({"num_workers": (1, 4)}, (1, 0, {}), {"CPU": 4.0}),
    ({"num_workers": 0}, (1, 0, {}), {"CPU": 0.0}),
    ({"resources_per_worker": {"CPU": 2, "a": 1}}, (2, 0, {"a": 1}), {"CPU": 2.0, "a": 1.0}),
    ({"resources_per_worker": {"a": 1}}, (0, 0, {"a": 1}), {"a": 1.0}),
    ({"resources_per_worker": {"cpu": 2}}, (2, 0, {}), {"CPU": 2.0}),
    ({"resources_per_worker": {"CPU": 1, "GPU": 0}}, (1, 0, {}), {"CPU": 1.0, "GPU": 0.0}),
    (
        {"use_gpu": True, "resources_per_worker": {"CPU": 2}},
        (2, 1, {}),
        {"CPU": 2.0, "GPU": 1.0},
    ),
    ({"use_gpu": True, "resources_per_worker": {"GPU": 0.5}}, (0, 0.5, {}), {"GPU": 0.5}),
    ({"use_gpu": True, "resources_per_worker": {}}, (0, 1, {}), {"GPU": 1.0}),
    (
        {"use_gpu": True, "accelerator_type": "A10G"},
        (0, 1, {"accelerator_type:A10G": 0.001}),
        {"GPU": 1.0, "accelerator_type:A10G": 0.001},
    ),
    (
        {"accelerator_type": "A10G", "num_workers": 2},
        (1, 0, {"accelerator_type:A10G": 0.001}),
        {"CPU": 2.0, "accelerator_type:A10G": 0.002},
    ),
]


@pytest.mark.parametrize(("given", "per_worker", "total"), HELD)
def test_what_workers_hold(
    given: dict[str, object], per_worker: tuple[object, ...], total: dict[str, float]
) -> None:
    """Properties and totals are Ray's."""
    config = ScalingConfig(**given)
    assert per_worker == (
        config.num_cpus_per_worker,
        config.num_gpus_per_worker,
        config.additional_resources_per_worker,
    )
    assert config.num_tpus_per_worker == 0
    assert config.total_resources == total


@pytest.mark.parametrize(
    ("num_workers", "elastic", "least", "most"),
    [
        (3, False, 3, 3),
        (0, False, 0, 0),
        ((1, 4), True, 1, 4),
        ((2, 2), True, 2, 2),
        (np.int64(2), False, 2, 2),
    ],
)
def test_number_of_workers(num_workers: object, elastic: bool, least: int, most: int) -> None:
    """A number is fixed, a tuple leaves the choice to the run."""
    config = ScalingConfig(num_workers=num_workers)
    assert (config.elasticity_enabled, config.min_workers, config.max_workers) == (
        elastic,
        least,
        most,
    )


WRONG = [
    ({"num_workers": -1}, ValueError, "num_workers must be 0 or more, got -1"),
    ({"num_workers": [1, 2]}, ValueError, r"\(least, most\), got \[1, 2\]"),
    ({"num_workers": 2.0}, ValueError, "got 2.0"),
    ({"num_workers": True}, ValueError, "got True"),
    ({"num_workers": (1, 2, 3)}, ValueError, r"got \(1, 2, 3\)"),
    ({"num_workers": (1, 2.5)}, ValueError, r"got \(1, 2.5\)"),
    ({"num_workers": (3, 2)}, ValueError, r"got \(3, 2\). Did you mean \(2, 3\)"),
    ({"num_workers": (0, 2)}, ValueError, r"got \(0, 2\).*num_workers=0"),
    ({"num_worker": 2}, TypeError, "Did you mean 'num_workers'"),
    ({"use_gpu": 2}, TypeError, "use_gpu must be True or False, got 2"),
    ({"use_gpu": "yes"}, TypeError, "got 'yes'"),
    ({"resources_per_worker": 2}, TypeError, "must be a dict .* got 2"),
    ({"resources_per_worker": {"CPU": -1}}, ValueError, "'CPU' must be a number.*got -1"),
    ({"resources_per_worker": {"CPU": "2"}}, ValueError, "got '2'"),
    ({"resources_per_worker": {"CPU": float("nan")}}, ValueError, "got nan"),
    ({"resources_per_worker": {"CPU": float("inf")}}, ValueError, "got inf"),
    ({"resources_per_worker": {"CPU": 1, "cpu": 1}}, ValueError, "once, got 'cpu'"),
    ({"resources_per_worker": {3: 1}}, ValueError, "once, got 3"),
    ({"resources_per_worker": {"GPU": 1}}, ValueError, "'GPU': 1.*use_gpu is False"),
    ({"use_gpu": True, "resources_per_worker": {"GPU": 0}}, ValueError, "needs some of one"),
    ({"resources_per_worker": {}}, ValueError, "must hold something"),
    ({"resources_per_worker": {"CPU": 0}}, ValueError, "must hold something"),
    ({"resources_per_worker": {"TPU": 4}}, ValueError, "'TPU': 4.*not supported"),
    ({"use_tpu": True}, ValueError, "use_tpu=True: TPUs are not supported"),
    ({"use_tpu": True, "use_gpu": True}, ValueError, "TPUs are not supported"),
    ({"topology": "2x2"}, ValueError, "topology='2x2' is for TPUs only"),
    ({"placement_strategy": "pak"}, ValueError, "'STRICT_SPREAD', got 'pak'"),
    ({"placement_strategy": "SPRAED"}, ValueError, "Did you mean 'SPREAD'"),
    ({"accelerator_type": ""}, ValueError, "accelerator_type must not be an empty"),
    ({"label_selector": 3}, ValueError, "label_selector must be a dict .* got 3"),
    ({"label_selector": {"zone": 3}}, ValueError, "got {'zone': 3}"),
    (
        {"label_selector": [{"a": "b"}], "num_workers": 2},
        ValueError,
        "1 entries for 2 workers",
    ),
    ({"label_selector": [{}], "num_workers": (1, 2)}, ValueError, "1 entries for 2 workers"),
    ({"elastic_resize_monitor_interval_s": -1}, ValueError, "0 or more, got -1"),
    ({"elastic_resize_monitor_interval_s": float("nan")}, ValueError, "got nan"),
    ({"elastic_resize_monitor_interval_s": "60"}, TypeError, "got '60'"),
    ({"trainer_resources": {"CPU": 1}}, DeprecationWarning, "got {'CPU': 1}.*per_worker"),
]


@pytest.mark.parametrize(("given", "error", "message"), WRONG)
def test_wrong_values(given: dict[str, object], error: type, message: str) -> None:
    """What cannot take effect raises where it is written, and names the value."""
    with pytest.raises(error, match=message):
        ScalingConfig(**given)


RIGHT = [
    ({"trainer_resources": {"CPU": 0}}, "trainer_resources", {"CPU": 0}),
    ({"trainer_resources": {}}, "trainer_resources", {}),
    ({"use_gpu": np.True_}, "use_gpu", True),
    ({"label_selector": {"a": "b"}, "num_workers": 2}, "label_selector", {"a": "b"}),
    (
        {"label_selector": [{"a": "b"}, {}], "num_workers": (1, 2)},
        "label_selector",
        [{"a": "b"}, {}],
    ),
    (
        {"elastic_resize_monitor_interval_s": timedelta(minutes=2)},
        "elastic_resize_monitor_interval_s",
        120.0,
    ),
    ({"elastic_resize_monitor_interval_s": 0}, "elastic_resize_monitor_interval_s", 0.0),
    ({"placement_strategy": "STRICT_SPREAD"}, "placement_strategy", "STRICT_SPREAD"),
]


@pytest.mark.parametrize(("given", "field", "value"), RIGHT)
def test_right_values(given: dict[str, object], field: str, value: object) -> None:
    """What can take effect is kept, in one spelling."""
    assert getattr(ScalingConfig(**given), field) == value


def test_a_group_holds_one_bundle_per_worker() -> None:
    """The factory has the bundles of all workers, and the strategy."""
    config = ScalingConfig(
        num_workers=2, use_gpu=True, resources_per_worker={"CPU": 3}, placement_strategy="SPREAD"
    )
    bundle = {"CPU": 3, "GPU": 1}
    assert config.as_placement_group_factory() == PlacementGroupFactory([bundle] * 2, "SPREAD")
    assert config.as_placement_group_factory().head_cpus == 3


def test_an_elastic_group_may_have_any_number_between() -> None:
    """By default it is as large as it may be."""
    config = ScalingConfig(num_workers=(2, 4))
    sizes = [len(config.as_placement_group_factory(n).bundles) for n in (None, 2, 3, 4)]
    assert sizes == [4, 2, 3, 4]


@pytest.mark.parametrize(
    ("given", "number", "message"),
    [
        ({"num_workers": (2, 4)}, 1, r"no group of 1 workers with .*\(2, 4\)"),
        ({"num_workers": (2, 4)}, 5, "no group of 5 workers"),
        ({"num_workers": 2}, 3, "no group of 3 workers"),
        ({"num_workers": 0}, None, "no group of 0 workers .* in the driver's process"),
        ({"label_selector": {"zone": "a"}}, None, "{'zone': 'a'} cannot be met.*no labels"),
    ],
)
def test_groups_that_there_are_not(
    given: dict[str, object], number: int | None, message: str
) -> None:
    """A number out of the range, and labels that no machine has, are errors."""
    with pytest.raises(ValueError, match=message):
        ScalingConfig(**given).as_placement_group_factory(number)


def test_contradictions_of_later_assignments_are_found() -> None:
    """What was set after construction is checked together before anything starts."""
    config = ScalingConfig(use_gpu=True, resources_per_worker={"GPU": 1})
    config.use_gpu = False
    with pytest.raises(ValueError, match="use_gpu is False"):
        config.as_placement_group_factory()


def test_it_is_a_value() -> None:
    """Copies and pickles are equal, and the repr makes it again."""
    config = ScalingConfig(num_workers=(1, 3), resources_per_worker={"CPU": 2})
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == config
    assert eval(repr(config)) == config
    assert config != ScalingConfig()


def test_what_was_given_is_copied() -> None:
    """A dict that the script changes later does not change the config."""
    given = {"CPU": 2}
    config = ScalingConfig(resources_per_worker=given)
    given["CPU"] = 8
    assert config.num_cpus_per_worker == 2
