"""with_parameters and with_resources: what is attached to functions and classes."""

from __future__ import annotations

import functools
import inspect
import pickle
from typing import Any

import cloudpickle
import numpy as np
import pytest

from milepost import tune
from milepost.tune.naming import trainable_name
from milepost.tune.resolve import resolve

TWO = {"CPU": 2.0}


def train(config: dict[str, Any], data: Any, *, scale: int = 1) -> Any:
    """Return everything that it got."""
    return config, data, scale


class Trained(tune.Trainable):
    """Keeps everything that it got."""

    def setup(self, config: dict[str, Any], data: Any = None, scale: int = 1) -> None:
        """Keep the arguments."""
        self.got = (config, data, scale)

    def step(self) -> dict[str, Any]:
        """Do nothing."""
        return {}


class Callable:
    """An object that can be called."""

    def __call__(self, config: Any, data: Any) -> Any:
        """Return the data."""
        return data

    def method(self, config: Any) -> Any:
        """Return the config."""
        return config


def test_parameters_of_a_function() -> None:
    """The function gets them besides its config, and keeps its name and its text."""
    data = [1, 2]
    wrapped = tune.with_parameters(train, data=data)
    assert wrapped({"a": 1}) == ({"a": 1}, [1, 2], 1)
    assert wrapped({"a": 1})[1] is data
    assert wrapped.__name__ == "train"
    assert wrapped.__doc__ == train.__doc__
    assert resolve(wrapped).kind == "function"
    assert trainable_name(wrapped) == "train"
    assert "data" in repr(wrapped)


def test_parameters_in_two_steps() -> None:
    """What is given twice over adds up; what is still missing is found before anything runs."""
    assert str(inspect.signature(tune.with_parameters(train, scale=3))) == (
        "(config: 'dict[str, Any]', data: 'Any') -> 'Any'"
    )
    with pytest.raises(ValueError, match="Fix data"):
        resolve(tune.with_parameters(train, scale=3))
    both = tune.with_parameters(tune.with_parameters(train, scale=3), data=4)
    assert resolve(both).trainable({}) == ({}, 4, 3)


def test_an_argument_before_another() -> None:
    """Once an argument is given, those after it can only be passed by name."""

    def three(config: Any, a: int, b: int) -> Any:
        return config, a, b

    partly = tune.with_parameters(three, a=1)
    assert str(inspect.signature(partly)).startswith("(config: 'Any', *, b: 'int')")
    assert tune.with_parameters(partly, b=2)(0) == (0, 1, 2)


@pytest.mark.parametrize(
    "trainable",
    [
        functools.partial(train, scale=2),
        Callable(),
        lambda config, data: data,
        lambda config, **options: options["data"],
    ],
)
def test_parameters_of_other_callables(trainable: Any) -> None:
    """Partials, lambdas and objects take them too."""
    result = tune.with_parameters(trainable, data=5)({})
    assert result in (5, ({}, 5, 2))


def test_parameters_of_a_class() -> None:
    """``setup`` gets them; the subclass keeps the name and is still a Trainable."""
    kind = tune.with_parameters(Trained, data=5)
    assert kind.__name__ == "Trained"
    assert issubclass(kind, Trained)
    assert kind({"a": 1}).got[1:] == (5, 1)
    assert tune.with_parameters(kind, scale=7)({}).got[1:] == (5, 7)


def test_parameters_travel_with_their_arrays_outside() -> None:
    """An array is handed to the pickler as a buffer, so that workers can share it."""
    array = np.arange(100_000)
    for trainable, read in ((train, lambda t: t({})[1]), (Trained, lambda t: t({}).got[1])):
        buffers: list[pickle.PickleBuffer] = []
        wrapped = tune.with_parameters(trainable, data=array)
        data = cloudpickle.dumps(wrapped, protocol=5, buffer_callback=buffers.append)
        assert len(data) < 10_000
        (buffer,) = buffers
        np.testing.assert_array_equal(read(pickle.loads(data, buffers=[buffer.raw()])), array)


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        (train, "train.* takes no argument 'dta'. Did you mean 'data'"),
        (Trained, r"Trained.setup\(.* takes no argument 'dta'"),
    ],
)
def test_parameters_that_nothing_takes(trainable: Any, message: str) -> None:
    """A misspelt argument is found at once."""
    with pytest.raises(TypeError, match=message):
        tune.with_parameters(trainable, dta=1)


@pytest.mark.parametrize("function", [tune.with_parameters, tune.with_resources])
@pytest.mark.parametrize("wrong", [3, "train", object, None])
def test_neither_function_nor_trainable(function: Any, wrong: Any) -> None:
    """Names, numbers and other classes cannot be wrapped."""
    arguments = {"resources": {"cpu": 1}} if function is tune.with_resources else {"a": 1}
    with pytest.raises(ValueError, match=f"{function.__name__} takes a function or a class"):
        function(wrong, **arguments)


def test_resources_of_a_function() -> None:
    """They are attached to the function itself."""

    def mine(config: Any) -> None: ...

    assert tune.with_resources(mine, {"cpu": 2}) is mine
    assert mine._resources.bundles == [TWO]  # type: ignore[attr-defined]
    factory = tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 1}])
    assert tune.with_resources(mine, factory)._resources is factory


def test_resources_by_config() -> None:
    """A function of the config is kept and asked for each trial."""

    def mine(config: Any) -> None: ...

    request = tune.with_resources(mine, lambda config: {"cpu": config["n"]})._resources
    assert request({"n": 3}) == {"cpu": 3}
    kind = tune.with_resources(Trained, lambda config: {"cpu": config["n"]})
    assert kind.default_resource_request({"n": 2}).bundles == [TWO]


def test_resources_of_other_callables() -> None:
    """Partials take them, methods are wrapped, built-ins cannot."""
    assert tune.with_resources(functools.partial(train, data=1), TWO)._resources.bundles == [TWO]
    wrapped = tune.with_resources(Callable().method, TWO)
    assert (wrapped("c"), wrapped.__name__) == ("c", "method")
    with pytest.raises(RuntimeError, match="wrap it in a function"):
        tune.with_resources(len, TWO)


def test_resources_of_a_class() -> None:
    """A subclass of the same name asks for them; the class itself does not."""
    kind = tune.with_resources(Trained, {"cpu": 2})
    assert (kind.__name__, issubclass(kind, Trained)) == ("Trained", True)
    assert kind.default_resource_request({}).bundles == [TWO]
    assert Trained.default_resource_request({}) is None
    assert cloudpickle.loads(cloudpickle.dumps(kind)).default_resource_request({}).bundles == [TWO]


@pytest.mark.parametrize("resources", [None, 1, [], "cpu", dict])
def test_resources_that_are_none(resources: Any) -> None:
    """Only dicts, factories and functions ask for something."""
    with pytest.raises(ValueError, match="Resources must be a dict"):
        tune.with_resources(lambda config: None, resources)


def test_both_in_either_order() -> None:
    """Resources survive with_parameters, and the other way round."""

    def fresh(config: Any, data: Any) -> Any:
        return data

    one = tune.with_parameters(tune.with_resources(fresh, TWO), data=1)
    other = tune.with_resources(tune.with_parameters(fresh, data=1), TWO)
    assert one._resources.bundles == other._resources.bundles == [TWO]
    assert one({}) == other({}) == 1
    kind = tune.with_resources(tune.with_parameters(Trained, data=1), TWO)
    assert kind.default_resource_request({}).bundles == [TWO]
    assert kind({}).got[1] == 1
