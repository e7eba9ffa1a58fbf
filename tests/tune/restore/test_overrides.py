"""What is given to a restore replaces what was recorded, field by field."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.api.config import given_fields
from milepost.tune.overrides import at_its_place, made, merge
from milepost.tune.space_diff import Unloadable


def test_fields_that_were_given() -> None:
    """Set by the constructor, by position or name, or later; be it to the default."""
    assert given_fields(tune.TuneConfig()) == set()
    assert given_fields(tune.TuneConfig("min", num_samples=1)) == {"mode", "num_samples"}
    config = tune.FailureConfig(3)
    config.fail_fast = False
    assert given_fields(config) == {"max_failures", "fail_fast"}
    assert given_fields(pickle.loads(pickle.dumps(config))) == given_fields(config)


def test_copies_remember_on_their_own() -> None:
    """A copy that is changed later leaves its original alone."""
    config = tune.RunConfig(name="a")
    copied = copy.copy(config)
    copied.verbose = 0
    assert given_fields(config) == {"name"}
    assert given_fields(copied) == {"name", "verbose"}


def test_fields_of_a_replaced_config() -> None:
    """dataclasses.replace() passes every field; those that differ from their defaults count."""
    config = dataclasses.replace(tune.RunConfig(name="a"), stop={"loss": 1})
    assert given_fields(config) == {"name", "stop"}


def test_only_given_fields_replace_recorded_ones() -> None:
    """The rest is as recorded, also in configs inside of configs; None and defaults count."""
    recorded = {
        "stop": {"loss": 1},
        "verbose": 2,
        "failure_config": {"max_failures": 4, "fail_fast": False},
        "checkpoint_config": {"num_to_keep": 2, "checkpoint_score_attribute": "loss"},
    }
    given = tune.RunConfig(
        stop=None,
        failure_config=tune.FailureConfig(max_failures=0),
        checkpoint_config=tune.CheckpointConfig(num_to_keep=None),
    )
    merged = merge(recorded, given, tune.RunConfig)
    config = made(tune.RunConfig, merged.fields)
    assert config.stop is None
    assert config.verbose == 2
    assert config.failure_config == tune.FailureConfig(max_failures=0)
    assert config.checkpoint_config == tune.CheckpointConfig(checkpoint_score_attribute="loss")
    assert list(merged.replaced.values()) == [
        "num_to_keep: 2 -> None",
        "max_failures: 4 -> 0",
        "stop: {'loss': 1} -> None",
    ]


def test_what_is_given_as_it_was_is_no_change() -> None:
    """Equal values, and objects set up alike, are not shown as set anew."""
    stopper = tune.stopper.MaximumIterationStopper(5)
    recorded = {"stop": tune.stopper.MaximumIterationStopper(5), "verbose": 1}
    merged = merge(recorded, tune.RunConfig(stop=stopper, verbose=1), tune.RunConfig)
    assert merged.replaced == {}
    assert merged.fields["stop"] is stopper
    merged = merge({}, tune.TuneConfig(num_samples=1), tune.TuneConfig)
    assert merged.replaced == {}


def test_what_cannot_be_had_is_missing_unless_given() -> None:
    """None leaves it out."""
    lost = Unloadable("<Callback>", "TypeError")
    assert set(merge({"callbacks": lost}, None, tune.RunConfig).missing) == {"callbacks"}
    for callbacks in (None, [tune.Callback()]):
        merged = merge({"callbacks": lost}, tune.RunConfig(callbacks=callbacks), tune.RunConfig)
        assert merged.missing == {}
        assert merged.fields["callbacks"] == callbacks


FITTING: list[dict[str, Any]] = [
    {},
    {"verbose": 0},
    {"name": "exp"},
    {"storage_path": "{store}"},
    {"name": "exp", "storage_path": "{store}"},
    {"name": "store/exp", "storage_path": "{store}/.."},
    {"name": "exp", "storage_path": "{link}"},
]


@pytest.mark.parametrize("given", FITTING)
def test_the_place_is_that_of_the_directory(tmp_path: Path, given: dict[str, Any]) -> None:
    """A recorded name and storage path do not count; given ones may say the same."""
    store = tmp_path / "store"
    (store / "exp").mkdir(parents=True)
    (tmp_path / "link").symlink_to(store)
    given = {
        key: value.format(store=store, link=tmp_path / "link") if isinstance(value, str) else value
        for key, value in given.items()
    }
    config = tune.RunConfig(**given)
    merged = merge({"name": "old", "storage_path": "/old"}, config, tune.RunConfig)
    fields = at_its_place(merged, config, str(store / "exp"))
    assert (fields["name"], fields["storage_path"]) == ("exp", str(store))
    assert set(merged.replaced) == given.keys() & {"verbose"}


@pytest.mark.parametrize(
    "given", [{"name": "other"}, {"storage_path": "/tmp"}, {"name": "exp", "storage_path": "/tmp"}]
)
def test_another_place_is_an_error(tmp_path: Path, given: dict[str, Any]) -> None:
    """Restoring does not move: the error says what does."""
    config = tune.RunConfig(**given)
    with pytest.raises(ValueError, match="move the directory and restore it there"):
        at_its_place(merge({}, config, tune.RunConfig), config, str(tmp_path / "store" / "exp"))
