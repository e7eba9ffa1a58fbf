"""Expanding search spaces: which configurations, in which order, with which names."""

from __future__ import annotations

import copy
import logging
import random
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost import tune
from milepost.tune.search.basic_variant import BasicVariantGenerator
from milepost.tune.search.expressions import RecursiveDependencyError
from milepost.tune.search.space import has_unresolved_values
from milepost.tune.search.tags import format_vars
from milepost.tune.search.variant_generator import generate_variants


class Described:
    """An experiment, as far as a search looks at it."""

    def __init__(self, config: dict[str, Any], num_samples: int = 1) -> None:
        self.spec = {"config": config, "num_samples": num_samples}


def trials_of(space: dict[str, Any], num_samples: int = 1, **options: Any) -> list[Any]:
    """All trials of a space."""
    search = BasicVariantGenerator(**options)
    search.add_configurations([Described(space, num_samples)])
    found = []
    while (trial := search.next_trial()) is not None:
        found.append(trial)
    assert search.is_finished()
    return found


def configs_of(space: dict[str, Any], num_samples: int = 1, **options: Any) -> list[Any]:
    """The configurations of a space."""
    return [trial.config for trial in trials_of(space, num_samples, **options)]


def test_the_first_grid_changes_fastest() -> None:
    """Grids are combined in the order of their paths, not of the dict."""
    space = {"b": tune.grid_search([1, 2]), "a": tune.grid_search(["x", "y"])}
    assert (
        configs_of(space, 2)
        == [
            {"b": 1, "a": "x"},
            {"b": 1, "a": "y"},
            {"b": 2, "a": "x"},
            {"b": 2, "a": "y"},
        ]
        * 2
    )


def test_random_values_are_drawn_for_each_combination() -> None:
    """One generator draws everything, in the order of the space, combination by combination."""
    space = {
        "z": tune.uniform(0, 1),
        "b": tune.grid_search([1, 2]),
        "a": {"c": tune.choice([1, 2, 3]), "d": tune.grid_search([0.1, 0.2])},
    }
    rng = np.random.default_rng(1)
    expected = []
    for b in (1, 2):
        for d in (0.1, 0.2):
            z = float(rng.uniform(0, 1, size=1)[0])
            c = [1, 2, 3][int(rng.choice(np.arange(3), size=1)[0])]
            expected.append({"z": z, "b": b, "a": {"c": c, "d": d}})
    assert configs_of(space, random_state=1) == expected


def test_known_values() -> None:
    """A seed gives these values, now and in later versions."""
    space = {"a": tune.uniform(0, 1), "b": tune.randint(0, 5)}
    assert [t.experiment_tag for t in trials_of(space, 3, random_state=1)] == [
        "0_a=0.5118,b=3",
        "1_a=0.1442,b=4",
        "2_a=0.9486,b=1",
    ]
    np.random.seed(0)
    assert [t.experiment_tag for t in trials_of(space, 3)] == [
        "0_a=0.5488,b=0",
        "1_a=0.6028,b=3",
        "2_a=0.8473,b=3",
    ]


def test_constant_random_values_across_a_grid() -> None:
    """With constant_grid_search, a sample has one draw for all of its combinations."""
    space = {"z": tune.uniform(0, 1), "b": tune.grid_search([1, 2, 3])}
    configs = configs_of(space, 2, constant_grid_search=True, random_state=0)
    drawn = [config["z"] for config in configs]
    assert drawn[0] == drawn[1] == drawn[2] != drawn[3] == drawn[4] == drawn[5]


def test_spaces_inside_choices() -> None:
    """A chosen value may be a space; its variables are resolved in turn, its grids expanded."""
    inner = {"k": tune.uniform(0, 1)}
    grid = {"m": tune.grid_search([1, 2])}
    space = {"a": tune.choice([inner, grid]), "q": tune.randint(0, 9)}
    trials = trials_of(space, 20, random_state=0)
    for trial in trials:
        (name,) = trial.config["a"]
        assert trial.evaluated_params == {
            "q": trial.config["q"],
            f"a/{name}": trial.config["a"][name],
        }
        assert not has_unresolved_values(trial.config)
    modes = [trial.config["a"].get("m") for trial in trials]
    assert {1, 2, None} == set(modes)
    assert all(modes[i + 1] == 2 for i, m in enumerate(modes) if m == 1)


def test_variables_in_lists_and_tuples() -> None:
    """Containers keep their types."""

    class Pair(NamedTuple):
        x: Any
        y: Any

    space = {
        "list": [tune.grid_search([1]), 2],
        "tuple": (tune.grid_search([3]), "s"),
        "pair": Pair(tune.grid_search([4]), 5),
        "ordered": OrderedDict(b=tune.grid_search([6]), a=7),
    }
    (config,) = configs_of(space)
    assert config == {
        "list": [1, 2],
        "tuple": (3, "s"),
        "pair": Pair(4, 5),
        "ordered": OrderedDict(b=6, a=7),
    }
    assert type(config["pair"]) is Pair
    assert type(config["ordered"]) is OrderedDict


def test_sample_from_is_called_last() -> None:
    """Functions see everything else resolved, and are absent from names and parameters."""
    seen = []

    def first(config: dict[str, Any]) -> int:
        seen.append(copy.deepcopy({k: v for k, v in config.items() if k != "second"}))
        return 10

    space = {
        "first": tune.sample_from(first),
        "a": tune.grid_search([1, 2]),
        "second": tune.sample_from(lambda config: config["first"] + config["a"]),
    }
    trials = trials_of(space)
    assert [t.config for t in trials] == [
        {"first": 10, "a": 1, "second": 11},
        {"first": 10, "a": 2, "second": 12},
    ]
    assert [s["a"] for s in seen] == [1, 2]
    assert [t.experiment_tag for t in trials] == ["0_a=1", "1_a=2"]
    assert [t.evaluated_params for t in trials] == [{"a": 1}, {"a": 2}]


def test_errors_in_sample_from_are_the_users() -> None:
    """Whatever a function raises comes out, with the name of the variable."""

    def fails(config: dict[str, Any]) -> Any:
        raise OSError("no such dataset")

    with pytest.raises(OSError, match="no such dataset") as caught:
        configs_of({"m": {"a": tune.sample_from(fails)}})
    assert caught.value.__notes__ == [
        "This is the tune.sample_from() function of 'm/a' in the search space."
    ]


def test_expressions() -> None:
    """``eval`` may use other variables, whatever their order, and NumPy and random."""
    space = {
        "e": {"eval": "spec.config.f + 1"},
        "f": {"eval": "spec.config.a * 2"},
        "a": tune.grid_search([1, 2]),
        "n": {"eval": "int(np.sum([1, 2]))"},
        "r": {"eval": "random.random() < 2"},
        "i": {"eval": "spec.config.deep.x"},
        "deep": {"x": 3},
    }
    configs = configs_of(space)
    assert [(c["e"], c["f"], c["a"]) for c in configs] == [(3, 2, 1), (5, 4, 2)]
    assert configs[0]["n"] == 3
    assert configs[0]["r"] is True
    assert configs[0]["i"] == 3


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        (
            {"e": {"eval": "spec.config.f"}, "f": {"eval": "spec.config.e"}},
            RecursiveDependencyError,
            "'e' cannot be resolved",
        ),
        (
            {"e": {"eval": "spec.config.s"}, "s": tune.sample_from(lambda c: 1)},
            RecursiveDependencyError,
            "sample_from",
        ),
        ({"e": {"eval": "nope + 1"}}, ValueError, "'nope \\+ 1' .* NameError"),
        ({"e": {"eval": "spec.config.missing"}}, ValueError, "AttributeError: missing"),
        ({"a": {"b": {"grid_search": 3}}}, ValueError, "'a/b' must be a list of values, got 3"),
        ({"a": {"grid_search": "abc"}}, ValueError, "got 'abc'"),
        ({"a": {"grid_search": []}}, ValueError, "'a' has no values"),
    ],
)
def test_spaces_that_cannot_be_resolved(
    space: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A space that cannot be resolved names the variable at fault."""
    with pytest.raises(error, match=message):
        configs_of(space)


def test_bad_grids_are_refused_when_they_are_added() -> None:
    """A grid without values fails before the first trial."""
    search = BasicVariantGenerator()
    with pytest.raises(ValueError, match="has no values"):
        search.add_configurations([Described({"a": {"grid_search": []}})])


def test_the_space_is_not_changed_and_constants_are_shared() -> None:
    """Containers are copied per trial; other objects are the user's own."""
    constant, container = object(), [1, {"x": 2}]
    space = {"o": constant, "c": container, "a": tune.grid_search([1, 2])}
    before = copy.copy(space)
    one, two = configs_of(space)
    assert space == before
    assert one["o"] is two["o"] is constant
    one["c"][1]["x"] = 9
    assert two["c"] == container == [1, {"x": 2}]


def test_values_chosen_are_copied() -> None:
    """A list that two trials choose is not one object."""
    space = {"a": tune.choice([[1, 2]]), "g": tune.grid_search([[3]])}
    one, two = configs_of(space, 2)
    one["a"].append(9)
    one["g"].append(9)
    assert (two["a"], two["g"]) == ([1, 2], [3])


@given(
    sizes=st.dictionaries(st.text("abcde", min_size=1, max_size=3), st.integers(1, 3), max_size=4),
    samples=st.integers(1, 3),
)
def test_number_and_names(sizes: dict[str, int], samples: int) -> None:
    """There are as many trials as announced, all different in id, counted from zero."""
    space = {name: tune.grid_search(list(range(size))) for name, size in sizes.items()}
    search = BasicVariantGenerator()
    search.add_configurations([Described(space, samples)])
    trials = trials_of(space, samples)
    assert len(trials) == search.total_samples == samples * int(np.prod(list(sizes.values())))
    assert len({trial.trial_id for trial in trials}) == len(trials)
    for i, trial in enumerate(trials):
        assert trial.trial_id.endswith(f"_{i:05d}")
        assert trial.experiment_tag.split("_")[0] == str(i)
        assert trial.evaluated_params == trial.config


def test_trial_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are five hex digits of the search and a counter; tests can fix the digits."""
    (one,), (two,) = trials_of({}), trials_of({})
    assert one.trial_id != two.trial_id
    prefix, counter = one.trial_id.split("_")
    assert (len(prefix), int(prefix, 16) >= 0, counter) == (5, True, "00000")
    monkeypatch.setenv("_TEST_TUNE_TRIAL_UUID", "abcde")
    assert trials_of({})[0].trial_id == "abcde_00000"


class Model:
    """An object among the values."""


TAGS = [
    ({("a",): 1e-7, ("b",): 0.123456}, "a=0.0000,b=0.1235"),
    ({("a b",): "x/y z", ("n",): None, ("t",): True}, "a_b=x_y_z,n=None,t=True"),
    ({("l",): [1, 2], ("d",): {"u": 1}}, "d=u_1,l=1_2"),
    ({("b", "z"): 1, ("a", "y"): 2, ("a",): 3}, "a=3,y=2,z=1"),
    ({("a", 10): 1, ("a", 9): 2}, "9=2,10=1"),
    ({(1,): 1, ("a",): 2}, "1=1,a=2"),
    ({("n",): np.int64(3), ("f",): np.float32(0.5)}, "f=0.5000,n=3"),
    ({("f",): max, ("o",): Model(), ("c",): Model}, "c=Model,f=max,o=Model"),
    ({("p",): "__x__"}, "p=x"),
    ({}, ""),
]


@pytest.mark.parametrize(("resolved", "text"), TAGS)
def test_tags(resolved: dict[Any, Any], text: str) -> None:
    """Variables show by their last name, sorted by path, in characters that directories take."""
    assert format_vars(resolved) == text


def test_generate_variants() -> None:
    """Spaces can be expanded without a run; paths are tuples there."""
    space = {"a": {"b": tune.grid_search([1, 2])}, "c": 3}
    assert list(generate_variants(space)) == [
        ({("a", "b"): 1}, {"a": {"b": 1}, "c": 3}),
        ({("a", "b"): 2}, {"a": {"b": 2}, "c": 3}),
    ]


@pytest.mark.parametrize(
    ("space", "unresolved"),
    [
        ({"a": tune.uniform(0, 1)}, True),
        ({"a": [{"b": {"eval": "1"}}]}, True),
        ({"a": (tune.grid_search([1]),)}, True),
        ({"a": tune.sample_from(lambda c: 1), "b": {"grid_search": 1, "other": 2}}, False),
        ({}, False),
    ],
)
def test_has_unresolved_values(space: dict[str, Any], unresolved: bool) -> None:
    """Functions of sample_from do not count: they are called for every trial."""
    assert has_unresolved_values(space) is unresolved


POINTS = [
    # (space, num_samples, points, configs)
    (
        {"a": tune.uniform(0, 1), "b": tune.grid_search([1, 2])},
        1,
        [{"a": 0.5}],
        [{"a": 0.5, "b": 1}, {"a": 0.5, "b": 2}],
    ),
    (
        {"a": tune.uniform(0, 1), "b": tune.grid_search([1, 2])},
        1,
        [{"a": 0.5, "b": 2}, {"a": 0.25, "b": 1}],
        [{"a": 0.5, "b": 2}, {"a": 0.25, "b": 1}],
    ),
    ({"a": tune.grid_search([1, 2])}, 2, [{"a": 9}], [{"a": 9}, {"a": 1}, {"a": 2}]),
    ({"a": {"b": tune.uniform(0, 1)}}, 1, [{"a": {"b": 0.5}}], [{"a": {"b": 0.5}}]),
    ({"a": 1, "b": tune.uniform(0, 1)}, 1, [{"a": 9, "b": 0.5}], [{"a": 9, "b": 0.5}]),
    ({"a": [tune.uniform(0, 1), 2]}, 1, [{"a": [0.5]}], [{"a": [0.5, 2]}]),
    ({"a": tune.sample_from(lambda c: 1)}, 1, [{"a": 7}], [{"a": 7}]),
    (
        {"a": tune.choice([{"k": tune.uniform(0, 1)}])},
        1,
        [{"a": {"k": 0.5}}],
        [{"a": {"k": 0.5}}],
    ),
]


@pytest.mark.parametrize(("space", "samples", "points", "configs"), POINTS)
def test_points_to_evaluate(
    space: dict[str, Any], samples: int, points: list[Any], configs: list[Any]
) -> None:
    """Each point takes the place of one sample; what it leaves out is searched."""
    search = BasicVariantGenerator(points_to_evaluate=points)
    search.add_configurations([Described(space, samples)])
    assert search.total_samples == len(configs)
    given_points = copy.deepcopy(points)
    assert configs_of(space, samples, points_to_evaluate=points) == configs
    assert points == given_points


def test_given_values_are_not_searched_values() -> None:
    """A point's values are not in names or parameters, as they were not searched for."""
    space = {"a": tune.uniform(0, 1), "b": tune.grid_search([1])}
    (trial,) = trials_of(space, points_to_evaluate=[{"a": 0.5}])
    assert trial.evaluated_params == {"b": 1}
    assert trial.experiment_tag == "0_b=1"


@pytest.mark.parametrize(
    ("space", "point", "error", "message"),
    [
        ({"lr": 1}, {"lrr": 1}, KeyError, "Did you mean 'lr'"),
        ({"a": {"b": 1}}, {"a": {"c": 1}}, KeyError, "'a/c'"),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, ValueError, "3 values for 'a', a list of 2"),
    ],
)
def test_points_outside_of_the_space(
    space: dict[str, Any], point: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A point that names something else is refused before the first trial."""
    search = BasicVariantGenerator(points_to_evaluate=[point])
    with pytest.raises(error, match=message):
        search.add_configurations([Described(space)])


@pytest.mark.parametrize("points", [{"x": 3}, "ab", 3, [3], [{"x": 3}, "y"]])
def test_points_that_are_no_list_of_dicts(points: Any) -> None:
    """They are refused where they are given."""
    with pytest.raises(TypeError, match=r"(Each point|points)_?( to )?.*must be a .*dict.*, got"):
        BasicVariantGenerator(points_to_evaluate=points)


def test_values_outside_of_their_domain(caplog: pytest.LogCaptureFixture) -> None:
    """A point may leave the domain; the log says so, once."""
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        configs = configs_of({"a": tune.uniform(0, 1)}, points_to_evaluate=[{"a": 5}])
    assert configs == [{"a": 5}]
    assert caplog.text.count("outside of (0, 1)") == 1


def test_max_concurrent() -> None:
    """No more trials than that are out; each one that ends makes room."""
    search = BasicVariantGenerator(max_concurrent=2)
    search.add_configurations([Described({}, num_samples=3)])
    one, two = search.next_trial(), search.next_trial()
    assert one is not None
    assert two is not None
    assert search.next_trial() is None
    assert not search.is_finished()
    search.on_trial_complete(one.trial_id)
    assert search.next_trial() is not None
    search.on_trial_complete(two.trial_id)
    assert search.next_trial() is None
    assert search.is_finished()
    with pytest.raises(ValueError, match="got -1"):
        BasicVariantGenerator(max_concurrent=-1)


def test_samples_without_limit() -> None:
    """With -1, there is always one more."""
    search = BasicVariantGenerator(random_state=1)
    search.add_configurations([Described({"a": tune.uniform(0, 1)}, num_samples=-1)])
    for _ in range(50):
        assert search.next_trial() is not None
    assert search.total_samples > 10**9
    search.set_finished()
    assert search.next_trial() is None


SPACES = {
    "random": {"a": tune.uniform(0, 1)},
    "grid": {"a": tune.grid_search([1, 2, 3]), "b": tune.uniform(0, 1)},
    "nested": {"a": tune.choice([{"m": tune.grid_search([1, 2])}, tune.uniform(0, 1)])},
    "plain grid": {"a": tune.grid_search([1, 2, 3])},
}


@pytest.mark.parametrize("state", [7, None])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("stop_after", [0, 1, 4, 5, 6])
def test_going_on_after_an_interruption(
    name: str, stop_after: int, constant: bool, state: int | None, tmp_path: Any
) -> None:
    """A search that was saved makes the same trials as one that was never interrupted."""
    options = {"constant_grid_search": constant, "random_state": state}

    def search_of() -> BasicVariantGenerator:
        search = BasicVariantGenerator(**options)
        search.add_configurations([Described(SPACES[name], num_samples=8)])
        return search

    np.random.seed(3)
    whole = search_of()
    begun = [whole.next_trial() for _ in range(stop_after)]
    whole.save_to_dir(str(tmp_path), "first")
    rest = []
    while (trial := whole.next_trial()) is not None:
        rest.append(trial)

    random.seed(1)
    np.random.seed(99)  # another process, whose generators are elsewhere
    resumed = search_of()
    assert not resumed.has_checkpoint(str(tmp_path / "nowhere"))
    assert resumed.has_checkpoint(str(tmp_path))
    resumed.restore_from_dir(str(tmp_path))
    again = []
    while (trial := resumed.next_trial()) is not None:
        again.append(trial)
    if state is None and stop_after == 0:  # nothing was drawn, so there is nothing to go on from
        assert again[0].trial_id == rest[0].trial_id
    else:
        assert again == rest
    assert all(begun)


@pytest.mark.parametrize("state", [7, None])
@pytest.mark.parametrize("name", SPACES)
def test_going_on_after_the_end(name: str, state: int | None, tmp_path: Any) -> None:
    """A search that had ended makes the trials that one with more samples would have made."""

    def search_of(num_samples: int) -> BasicVariantGenerator:
        search = BasicVariantGenerator(random_state=state)
        search.add_configurations([Described(SPACES[name], num_samples=num_samples)])
        return search

    def rest_of(search: BasicVariantGenerator) -> list[Any]:
        made = []
        while (trial := search.next_trial()) is not None:
            made.append(trial)
        return made

    np.random.seed(3)
    short = search_of(2)
    made = rest_of(short)
    short.save_to_dir(str(tmp_path), "ended")
    resumed = search_of(4)
    resumed.restore_from_dir(str(tmp_path))
    np.random.seed(3)
    whole = [trial.config for trial in rest_of(search_of(4))]
    assert [trial.config for trial in made + rest_of(resumed)] == whole


def in_space(space: dict[str, Any], samples: int = 1, state: int | None = 7) -> Any:
    search = BasicVariantGenerator(random_state=state)
    search.add_configurations([Described(space, samples)])
    return search


def rest_of(search: BasicVariantGenerator) -> list[dict[str, Any]]:
    made = []
    while (trial := search.next_trial()) is not None:
        made.append(trial.config)
    return made


GRID, MORE = tune.grid_search([1, 2]), tune.grid_search([1, 2, 3])
DRAWN = tune.uniform(0, 1)
BRANCHES = {"m": GRID}, {"m": MORE}


@pytest.mark.parametrize("taken", [1, 2, 3, 4])
@pytest.mark.parametrize("state", [7, None])
@pytest.mark.parametrize(
    ("old", "new", "samples"),
    [
        ({"a": GRID}, {"a": MORE}, 2),
        ({"a": MORE}, {"a": GRID}, 3),
        ({"a": DRAWN}, {"a": DRAWN, "b": MORE}, 4),
        ({"a": GRID, "b": DRAWN}, {"a": MORE, "b": DRAWN}, 2),
        ({"a": GRID, "b": GRID}, {"a": GRID, "b": MORE}, 1),
        ({"a": tune.choice([BRANCHES[0]])}, {"a": tune.choice([BRANCHES[1]])}, 2),
    ],
)
def test_going_on_in_a_space_of_another_shape(
    old: Any, new: Any, samples: int, state: int | None, taken: int
) -> None:
    """After n trials comes place n of the new sequence, also when the old one had ended."""
    np.random.seed(3)
    search = in_space(old, samples, state)
    for _ in range(taken):
        assert search.next_trial() is not None
    if len(rest_of(in_space(old, samples))) == taken:
        assert search.next_trial() is None
    resumed = in_space(new, samples, state)
    resumed.set_state(search.get_state())
    np.random.seed(3)
    assert rest_of(resumed) == rest_of(in_space(new, samples, state))[taken:]


@pytest.mark.parametrize("is_replayed", [False, True])
def test_more_trials_than_a_space_has_places(is_replayed: bool) -> None:
    """They take their places all the same, and a larger space goes on after them."""
    first = in_space({"a": GRID})
    rest_of(first)
    small = in_space({"a": tune.grid_search([5])})
    if is_replayed:  # nothing was saved, so the trials are told one by one
        assert [small.next_trial(str(n)) is None for n in range(2)] == [False, True]
        small.set_finished()
    else:
        small.set_state(first.get_state())
    assert rest_of(small) == []
    more = in_space({"a": tune.grid_search([5])}, samples=3)
    more.set_state(small.get_state())
    assert rest_of(more) == [{"a": 5}]
    larger = in_space({"a": MORE})
    larger.set_state(small.get_state())
    assert rest_of(larger) == [{"a": 3}]


def test_restoring_from_an_empty_directory(tmp_path: Any) -> None:
    """There must be something to go on from."""
    with pytest.raises(RuntimeError, match=str(tmp_path)):
        BasicVariantGenerator().restore_from_dir(str(tmp_path))


def test_several_experiments() -> None:
    """The trials of one follow those of the other, counted on."""
    search = BasicVariantGenerator()
    search.add_configurations({"x": Described({"a": 1}, 2), "y": Described({"a": 2})})
    trials = [search.next_trial() for _ in range(3)]
    assert [t.config["a"] for t in trials if t] == [1, 1, 2]
    assert search.total_samples == 3
    assert search.next_trial() is None
