"""Domains: the values they draw, seed for seed, and what they refuse."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from milepost import tune
from milepost.tune.search import sample
from milepost.tune.search.samplers import RandomSource
from milepost.tune.search.variants import finished

Rng = Any


def _quantised(value: float, q: float) -> float:
    return float(np.round(value / q) * q)


def _log(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high), size=1))[0])


def _whole(rng: Rng, low: int, high: int) -> int:
    draw = rng.integers if hasattr(rng, "integers") else rng.randint
    return int(draw(low, high, size=1)[0])


#: How each primitive draws, written with NumPy alone.
RECIPES: dict[str, tuple[sample.Domain, Callable[[Rng], Any]]] = {
    "uniform": (tune.uniform(-3, 7.5), lambda r: float(r.uniform(-3, 7.5, size=1)[0])),
    "quniform": (
        tune.quniform(0.3, 0.9, 0.3),
        lambda r: _quantised(r.uniform(0.3, 0.9, size=1)[0], 0.3),
    ),
    "loguniform": (tune.loguniform(1e-5, 1), lambda r: _log(r, 1e-5, 1)),
    "qloguniform": (
        tune.qloguniform(1e-4, 1e-1, 5e-5),
        lambda r: _quantised(_log(r, 1e-4, 1e-1), 5e-5),
    ),
    "choice": (
        tune.choice(["a", "b", "c"]),
        lambda r: "abc"[int(r.choice(np.arange(3), size=1)[0])],
    ),
    "randint": (tune.randint(-5, 5), lambda r: _whole(r, -5, 5)),
    "lograndint": (tune.lograndint(1, 1000), lambda r: int(np.floor(_log(r, 1, 1000)))),
    "qrandint": (tune.qrandint(3, 17, 2), lambda r: 2 * _whole(r, 2, 9)),
    "qrandint of one": (tune.qrandint(1, 10), lambda r: _whole(r, 1, 10)),
    "qlograndint": (
        tune.qlograndint(10, 1000, 10),
        lambda r: 10 * int(np.floor(_log(r, 1, 101))),
    ),
    "randn": (tune.randn(5, 2), lambda r: float(r.normal(5, 2, size=1)[0])),
    "qrandn": (tune.qrandn(0, 10, 2), lambda r: _quantised(r.normal(0, 10, size=1)[0], 2)),
}


def _about(values: list[Any]) -> Any:
    return values if isinstance(values[0], str) else pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize("generator", [np.random.default_rng, np.random.RandomState])
@pytest.mark.parametrize("name", RECIPES)
def test_draws_follow_the_recipe(name: str, generator: Callable[[int], Rng]) -> None:
    """The same seed gives the same values as the recipe, call after call."""
    domain, recipe = RECIPES[name]
    for seed in range(5):
        ours, theirs = generator(seed), generator(seed)
        drawn = [domain.sample(random_state=ours) for _ in range(5)]
        expected = [recipe(theirs) for _ in range(5)]
        assert drawn == _about(expected)
        assert [type(value) for value in drawn] == [type(value) for value in expected]


@pytest.mark.parametrize("name", RECIPES)
def test_the_global_generator(name: str) -> None:
    """Without a random state, NumPy's global generator draws, so seeding it counts."""
    domain, recipe = RECIPES[name]
    np.random.seed(3)
    drawn = [domain.sample() for _ in range(3)]
    theirs = np.random.RandomState(3)
    assert drawn == _about([recipe(theirs) for _ in range(3)])


@pytest.mark.parametrize("name", RECIPES)
def test_many_values_at_once(name: str) -> None:
    """A size above one gives as many values, each in the domain."""
    domain, _ = RECIPES[name]
    values = domain.sample(size=20, random_state=1)
    assert len(values) == 20
    assert all(domain.is_valid(value) for value in values)


def test_a_seed_is_a_new_generator() -> None:
    """A seed gives the first value of its generator every time."""
    domain = tune.uniform(0, 1)
    assert domain.sample(random_state=1) == domain.sample(random_state=1) == 0.5118216247002567


def test_bounds_of_quantised_values() -> None:
    """Both bounds of a quantised range are reached; that of a step of one is not."""
    draws = set(tune.qrandint(0, 10, 5).sample(size=200, random_state=0))
    assert draws == {0, 5, 10}
    assert max(tune.qrandint(1, 4).sample(size=200, random_state=0)) == 3
    floats = {round(v, 6) for v in tune.quniform(0.3, 0.9, 0.3).sample(size=200, random_state=0)}
    assert floats == {0.3, 0.6, 0.9}


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: tune.quniform(0, 1, 0.3), ValueError, r"upper bound 1 is no multiple of q=0\.3"),
    (lambda: tune.loguniform(0, 1), ValueError, "above 0, got 0"),
    (lambda: tune.lograndint(-1, 4), ValueError, "above 0, got -1"),
    (lambda: tune.lograndint(4, 2), ValueError, "from 4 up to but not including 2"),
    (lambda: tune.loguniform(4, 2), ValueError, "lower bound 4 is above the upper bound 2"),
    (lambda: tune.uniform(2, 1), ValueError, "lower bound 2 is above the upper bound 1"),
    (lambda: tune.uniform("a", 2), TypeError, r"A lower bound must be a number, got 'a' \(str\)"),
    (lambda: tune.uniform(0, float("nan")), ValueError, "An upper bound must be a number, got nan"),
    (lambda: tune.quniform(0, 1, 0), ValueError, "more than 0, got q=0"),
    (lambda: tune.quniform(0, 1, -0.5), AssertionError, "more than 0, got q=-0.5"),
    (lambda: tune.quniform(0, 1, "x"), TypeError, "step must be a number, got 'x'"),
    (lambda: tune.randint(3, 3), ValueError, "from 3 up to but not including 3"),
    (lambda: tune.randint(1.5, 3), TypeError, r"whole number, got 1\.5 \(float\)"),
    (lambda: tune.randint("1", 3), TypeError, r"whole number, got '1' \(str\)"),
    (lambda: tune.qrandint(3, 4, 5), ValueError, r"no multiple of q=5 in \(3, 4\)"),
    (lambda: tune.qrandint(1, 10, 0), ValueError, "more than 0, got q=0"),
    (lambda: tune.choice([]), ValueError, r"nothing to choose from: tune.choice\(\[\]\)"),
    (lambda: tune.choice(5), TypeError, r"a list of values, got 5 \(int\)"),
    (lambda: tune.grid_search("abc"), ValueError, "must be a list of values, got 'abc'"),
    (lambda: tune.grid_search(5), ValueError, "must be a list of values, got 5"),
    (lambda: tune.grid_search([]), ValueError, "has no values"),
    (lambda: tune.randn("0"), TypeError, "mean must be a number, got '0'"),
    (lambda: tune.randn(0, "1"), TypeError, "standard deviation must be a number, got '1'"),
    (lambda: tune.randn(0, 0), ValueError, "sd=0"),
    (lambda: tune.randn(0, -1), AssertionError, "sd=-1"),
    (lambda: tune.sample_from(3), TypeError, "got 3"),
    (lambda: tune.sample_from(lambda a, b: 1), ValueError, r"\(a, b\)"),
    (lambda: sample.Float(None, 1).uniform(), ValueError, "lower bound"),
    (lambda: sample.Float(0, None).uniform(), ValueError, "upper bound"),
    (lambda: sample.Float(0, 1).uniform().uniform(), ValueError, "Uniform already"),
    (lambda: tune.choice([1]).grid(), ValueError, "Uniform already"),
    (lambda: sample.Categorical([1]).grid().sample(), RuntimeError, "expanded"),
    (lambda: sample.Quantized(sample.Uniform(), 0), ValueError, "q=0"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_what_cannot_be_drawn(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    """A range that holds nothing, or a sampler that does not fit, is refused with its value."""
    with pytest.raises(error, match=message):
        call()


def test_bounds_and_values_may_come_in_many_types() -> None:
    """NumPy numbers, whole floats, arrays and iterators are as good as plain ones."""
    assert tune.randint(np.int64(1), 3.0).upper == 3
    assert tune.uniform(np.float32(0), 1).sample() < 1
    assert tune.uniform(1, 1).sample() == 1.0
    assert tune.qrandint(5, 5, 5).sample() == 5
    assert tune.choice(np.arange(3)).categories == [0, 1, 2]
    assert tune.choice(x for x in "ab").categories == ["a", "b"]
    assert tune.grid_search(x for x in "ab") == {"grid_search": ["a", "b"]}
    given = np.arange(3)
    assert tune.grid_search(given)["grid_search"] is given


def test_the_hint_about_spec_is_given_once_for_each_function(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A function that reads ``spec.config`` works; a thousand trials make one line of it."""
    functions = [tune.sample_from(lambda spec: spec.config.x * 2) for _ in range(2)]
    with caplog.at_level(logging.WARNING, "milepost.tune"):
        assert [f.sample({"x": i}) for f in functions for i in range(3)] == [0, 2, 4] * 2
    assert len(caplog.records) == 2


@pytest.mark.parametrize("make", [tune.loguniform, tune.lograndint])
def test_a_base_only_warns(make: Callable[..., sample.Domain]) -> None:
    """A base of a logarithm has no effect on what is drawn."""
    with pytest.warns(DeprecationWarning, match="base=2") as caught:
        domain = make(1, 100, base=2)
    assert caught[0].filename == __file__
    assert domain.sample(random_state=1) == make(1, 100).sample(random_state=1)


VALID = [
    (tune.uniform(0, 1), 1, True),
    (tune.uniform(0, 1), 1.1, False),
    (tune.randint(0, 4), 4, True),
    (tune.quniform(0, 1, 0.25), 0.3, True),
    (tune.choice([1, 2]), 3, False),
    (tune.sample_from(lambda: 1), "anything", True),
]


@pytest.mark.parametrize(("domain", "value", "valid"), VALID)
def test_is_valid(domain: sample.Domain, value: Any, valid: bool) -> None:
    """Bounds count as inside."""
    assert domain.is_valid(value) is valid


def test_what_a_domain_tells() -> None:
    """Searchers read a domain's bounds, sampler and step."""
    domain = tune.qloguniform(1e-4, 1e-1, 5e-5)
    quantized = domain.get_sampler()
    assert isinstance(quantized, sample.Quantized)
    assert quantized.q == 5e-5
    assert isinstance(quantized.get_sampler(), sample.LogUniform)
    assert (domain.lower, domain.upper, domain.domain_str) == (1e-4, 1e-1, "(0.0001, 0.1)")
    assert str(sample.Normal(0, 1)) == "Normal"
    categories = tune.choice(["a", "b"])
    assert (len(categories), categories[1], categories.domain_str) == (2, "b", "['a', 'b']")
    assert sample.Categorical([1]).grid().is_grid()
    assert not categories.is_grid()
    assert tune.sample_from(lambda: 1).is_function()


def test_functions() -> None:
    """A function gets the config if it takes one; several configs give several values."""
    assert tune.sample_from(lambda: 5).sample(size=3) == [5, 5, 5]
    doubled = tune.sample_from(lambda config: config["a"] * 2)
    assert doubled.sample(config={"a": 2}) == 4
    assert doubled.sample(config=[{"a": 1}, {"a": 2}], size=2) == [2, 4]


def test_functions_in_the_older_style(caplog: pytest.LogCaptureFixture) -> None:
    """``spec.config.a`` still works, with a line in the log; other errors are the user's."""
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        assert tune.sample_from(lambda spec: spec.config.a).sample(config={"a": 7}) == 7
    assert "lambda config" in caplog.text

    def fails(config: dict[str, Any]) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tune.sample_from(fails).sample(config={})


@pytest.mark.parametrize(
    ("function", "error", "says"),
    [
        (lambda c: c["nope"], KeyError, "'nope'"),
        (lambda c: c["m"]["nope"], KeyError, "'nope'"),
        (lambda c: c["b"] * 2, TypeError, "unsupported operand"),
        (lambda c: c["b"], ValueError, "another function was returned"),
        (lambda spec: spec.config.b + 1, Exception, "b"),
        (lambda spec: spec.config.nope, AttributeError, "nope"),
    ],
)
def test_functions_that_read_what_is_not_there(
    function: Any, error: type[Exception], says: str
) -> None:
    """The error names the variable, and the functions that are called only after it."""
    space = {"a": tune.sample_from(function), "m": {}, "b": tune.sample_from(lambda: 1)}
    with pytest.raises(error, match=says) as caught:
        finished(space)
    told = "".join(traceback.format_exception_only(caught.value))
    assert "function of 'a' in the search space" in told
    assert "so that 'b' had no value yet" in told


def test_domains_pickle() -> None:
    """A space travels with the experiment."""
    for domain, _ in RECIPES.values():
        copied = pickle.loads(pickle.dumps(domain))
        assert copied.sample(random_state=1) == domain.sample(random_state=1)


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState, lambda seed: None])
def test_a_random_source_goes_on_from_its_state(make: Callable[[int], Any]) -> None:
    """A marked position can be kept and gone on from in another process."""
    np.random.seed(5)
    source = RandomSource(make(5))
    source.rng.uniform(size=3)
    source.mark()
    drawn = [source.integers(0, 1000, 1)[0] for _ in range(3)]
    state = pickle.loads(pickle.dumps(source.state_at_mark()))
    again = RandomSource.at(state)
    assert [again.integers(0, 1000, 1)[0] for _ in range(3)] == drawn
    source.mark()
    np.testing.assert_array_equal(
        RandomSource.at(source.state_at_mark()).rng.uniform(size=3), source.rng.uniform(size=3)
    )
