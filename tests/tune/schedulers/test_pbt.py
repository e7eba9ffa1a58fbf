"""Population based training, decision by decision."""

from __future__ import annotations

import json
import logging
import math
import random
from pathlib import Path
from typing import Any

import pytest
from acting import PAUSED, Actor, Stage
from hypothesis import given, settings
from hypothesis import strategies as st

from milepost import tune
from milepost.errors import TuneError
from milepost.tune.schedulers import PopulationBasedTraining, create_scheduler
from milepost.tune.schedulers.explore import Draws, explored
from milepost.tune.schedulers.population import Member, quantiles

NAN = math.nan


def pbt(**options: Any) -> PopulationBasedTraining:
    return PopulationBasedTraining(
        **{
            "time_attr": "training_iteration",
            "metric": "acc",
            "mode": "max",
            "perturbation_interval": 2,
            "hyperparam_mutations": {"lr": [1, 2, 3]},
            **options,
        }
    )


def staged(*trial_ids: str, slots: float = math.inf, **options: Any) -> Stage:
    configs = {trial_id: {"lr": 2, "name": trial_id} for trial_id in trial_ids}
    return Stage(pbt(**options), *trial_ids, slots=slots, searches=False, configs=configs)


def compare(stage: Stage, time: float = 2, **scores: float) -> dict[str, str]:
    """Trials report these scores, one after the other."""
    return {trial_id: stage.result(trial_id, time, acc=score) for trial_id, score in scores.items()}


# --- construction ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"hyperparam_mutations": {"lr": 0.1}}, TypeError, "'lr'.*0.1"),
        ({"hyperparam_mutations": {"a": {"lr": "x"}}}, TypeError, "'lr'"),
        ({"hyperparam_mutations": [1]}, TypeError, "list"),
        ({"hyperparam_mutations": {"lr": []}}, ValueError, "empty"),
        ({"hyperparam_mutations": {"lr": tune.sample_from(lambda spec: 1)}}, ValueError, "sample"),
        ({"hyperparam_mutations": None}, TuneError, "custom_explore_fn"),
        ({"hyperparam_mutations": {}}, TuneError, "custom_explore_fn"),
        ({"quantile_fraction": 0.6}, ValueError, "0.6"),
        ({"quantile_fraction": -0.1}, ValueError, "-0.1"),
        ({"perturbation_interval": 0}, ValueError, "perturbation_interval"),
        ({"resample_probability": 2}, ValueError, "resample_probability"),
        *(
            ({"perturbation_factors": factors}, ValueError, "perturbation_factors.*two numbers")
            for factors in ((), (1,), "ab", 3, (1.2, "a"))
        ),
        ({"burn_in_period": -1}, ValueError, "burn_in_period.*-1"),
        ({"burn_in_period": "3"}, TypeError, "burn_in_period.*'3'"),
        ({"custom_explore_fn": 3}, TypeError, "custom_explore_fn.*3"),
        ({"mode": "best"}, AssertionError, "best"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], says: str) -> None:
    """Each is refused by name, with Ray's kind of error."""
    with pytest.raises(error, match=says):
        pbt(**options)


def test_by_name() -> None:
    """It can be made by its name; a custom_explore_fn alone is enough."""
    made = create_scheduler("PBT", custom_explore_fn=lambda config: config)
    assert isinstance(made, PopulationBasedTraining)


def test_searchers() -> None:
    """Configs are changed here, so that no searcher can learn from them."""
    stage = Stage(pbt())
    with pytest.raises(ValueError, match="searcher"):
        stage.add("a")


def test_hyper_parameters_that_are_missing() -> None:
    """They are drawn once; those that are there stay, and so does what is below them."""
    random.seed(3)
    scheduler = pbt(
        hyperparam_mutations={
            "lr": tune.uniform(0, 1),
            "layers": [1, 2],
            "seed": lambda: 7,
            "opt": {"beta": tune.uniform(0.5, 0.6), "kind": ("sgd", "adam")},
        }
    )
    inner = {"kind": "lion", "decay": 3}
    stage = Stage(scheduler, "a", "b", searches=False, configs={"b": {"lr": 5, "opt": inner}})
    drawn = stage.trials["a"].config
    assert 0 <= drawn["lr"] <= 1
    assert drawn["layers"] in (1, 2)
    assert drawn["seed"] == 7
    assert 0.5 <= drawn["opt"]["beta"] <= 0.6
    assert stage.trials["b"].config["lr"] == 5
    nested = stage.trials["b"].config["opt"]
    assert 0.5 <= nested.pop("beta") <= 0.6
    assert nested == inner == {"kind": "lion", "decay": 3}
    assert "opt/beta" in stage.trials["b"].evaluated_params
    assert "opt/kind" not in stage.trials["b"].evaluated_params
    assert stage.trials["a"].evaluated_params["opt/kind"] in ("sgd", "adam")


# --- when ------------------------------------------------------------------------------------


def test_intervals_and_burn_in() -> None:
    """Nobody is compared before both have passed; then again after each interval."""
    stage = staged("a", "b", burn_in_period=3, quantile_fraction=0.5)
    stage.result("b", 3, acc=9)
    assert stage.offers == {}, "alone"
    assert stage.result("a", 2, acc=1) == "CONTINUE"
    assert stage.result("a", 3, acc=1) == "CONTINUE", "the best has not been saved yet"
    assert stage.result("b", 4, acc=9) == "CONTINUE"
    assert stage.offers == {}
    stage.result("b", 5, acc=9)
    assert stage.offers == {"b": 5}
    assert stage.result("a", 4, acc=1) == "CONTINUE"
    assert stage.result("a", 5, acc=1) == "NOOP"
    assert stage.adopting["a"][0] == "b"


@pytest.mark.parametrize("missing", ["acc", "training_iteration"])
def test_missing_values(missing: str, caplog: Any) -> None:
    """They are an error, or passed over with one warning."""
    row = {"acc": 1.0, "training_iteration": 3}
    del row[missing]
    stage = staged("a")
    with pytest.raises(RuntimeError, match=missing):
        stage.scheduler.on_trial_result(stage, stage.trials["a"], row)
    scheduler = pbt(require_attrs=False)
    with caplog.at_level(logging.WARNING, "milepost.tune"):
        for _ in range(2):
            assert scheduler.on_trial_result(stage, stage.trials["a"], row) == "CONTINUE"
    assert len(caplog.records) == 1


def test_no_metric_at_all() -> None:
    """The error says that none was given, rather than that the default is missing."""
    scheduler = pbt(metric=None, mode=None)
    scheduler.set_search_properties(None, "max")
    stage = Stage(scheduler, "a", searches=False)
    with pytest.raises(RuntimeError, match="No metric was given to TuneConfig or Population"):
        stage.result("a", acc=1)


# --- who -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "fraction", "lower", "upper"),
    [
        ("1 2 3 4", 0.25, "a", "d"),
        ("4 3 2 1", 0.25, "d", "a"),
        ("1 2 3 4", 0.5, "a b", "c d"),
        ("1 2 3 4 5", 0.25, "a b", "d e"),  # rounded up
        ("1 2 3", 0.5, "a", "c"),  # never more than half
        ("1 2", 0.1, "a", "b"),
        ("1", 0.25, "", ""),
        ("1 2 3 4", 0, "", ""),
        ("1 nan 3 nan", 0.25, "a", "c"),
        ("nan nan", 0.25, "", ""),
        ("inf 1 -inf 2", 0.25, "c", "a"),
        ("7 7 7 7", 0.25, "a", "d"),  # of equals the later ones are better
        ("none 1 2 none", 0.25, "b", "c"),
    ],
)
def test_quantiles(scores: str, fraction: float, lower: str, upper: str) -> None:
    """The worst and the best are as many; who has no score or has ended does not count."""
    trials = [Actor(name) for name in "abcde"[: len(scores.split())]]
    members = {
        trial.trial_id: Member("", None if score == "none" else float(score))
        for trial, score in zip(trials, scores.split(), strict=True)
    }
    ended = Actor("z")
    ended.status = "TERMINATED"
    members["z"] = Member("", 100.0)
    found = quantiles([*trials, ended], members, fraction)  # type: ignore[list-item]
    assert [" ".join(t.trial_id for t in part) for part in found] == [lower, upper]


def test_the_worst_goes_on_from_the_best() -> None:
    """With the donor's iteration, a changed config of the donor's, and a tag that tells of it."""
    stage = staged("a", "b", "c", "d")
    said = compare(stage, d=4, c=3, b=2)
    assert said == dict.fromkeys("dcb", "CONTINUE")
    compare(stage, 4, d=8)
    assert stage.offers == {"d": 4}
    assert stage.result("a", 2, acc=1) == "NOOP"
    donor, config, tag = stage.adopting["a"]
    assert (donor, config["name"]) == ("d", "d")
    assert tag == f"a@perturbed[lr={config['lr']}]"
    assert json.loads(stage.policies[0]) == ["a", "d", 2, 4, {"lr": 2, "name": "d"}, config]
    stage.adopt()
    member = stage.scheduler._members["a"]
    assert (member.time, member.perturbed) == (4, 4), "its time is the donor's"
    assert stage.scheduler.debug_string().endswith("checkpoints, 1 perturbs")


def test_minimising() -> None:
    """With mode "min" the smallest is the best."""
    stage = staged("a", "b", mode="min", quantile_fraction=0.5)
    compare(stage, a=1, b=2)
    compare(stage, 4, a=1)
    assert stage.result("b", 4, acc=2) == "NOOP"


def test_who_is_not_among_the_best_any_more() -> None:
    """Its checkpoint need not be kept."""
    stage = staged("a", "b", quantile_fraction=0.5)
    compare(stage, a=1, b=2)
    assert stage.offers == {"b": 2}
    compare(stage, 4, a=5)
    assert stage.offers == {"b": 2, "a": 4}
    stage.unsaved.add("a")
    assert stage.result("b", 4, acc=3) == "CONTINUE", "nobody can go on from what is not there"
    assert stage.offers == {"a": 4}


def test_configs_that_json_lacks() -> None:
    """The log shows them as text; the trial goes on all the same."""
    stage = staged("a", "b", quantile_fraction=0.5)
    stage.trials["b"].config = {"lr": 2, "shape": {(1, 2): 3}}
    compare(stage, b=2, a=1)
    compare(stage, 4, b=2)
    assert stage.result("a", 4, acc=1) == "NOOP"
    assert "(1, 2): 3" in stage.policies[0]


def test_the_log_can_be_switched_off() -> None:
    """Then there are no lines for it."""
    stage = staged("a", "b", quantile_fraction=0.5, log_config=False)
    compare(stage, b=2, a=1)
    compare(stage, 4, b=2)
    assert stage.result("a", 4, acc=1) == "NOOP"
    assert stage.policies == [""]


def test_taking_turns() -> None:
    """With fewer slots than trials, each pauses when it was compared, and the last is next."""
    stage = staged("a", "b", "c", slots=2)
    stage.trials["c"].status = "PENDING"
    assert stage.result("a", 2, acc=1) == "PAUSE"
    stage.settle()
    assert stage.choose() == "c"
    assert stage.result("b", 2, acc=2) == "PAUSE"
    stage.settle()
    assert stage.choose() == "a"
    assert stage.choose() is None, "no room"


def test_a_trial_that_waits_for_a_checkpoint_is_nobodys_reason_to_pause() -> None:
    """There is room for it; it is only not ready."""
    stage = staged("a", "b", "c", "d", slots=4)
    compare(stage, d=4)
    compare(stage, 4, d=4, c=3, b=2)
    stage.result("a", 4, acc=1)
    stage.pausing.discard("a")
    stage.trials["a"].status = PAUSED
    assert compare(stage, 6, b=2) == {"b": "CONTINUE"}


# --- all at once -----------------------------------------------------------------------------


def test_synchronous() -> None:
    """All pause until the last has come; then the worst go on from the best, in one go."""
    stage = staged("a", "b", "c", "d", synch=True)
    assert compare(stage, d=4, b=2, a=1) == dict.fromkeys("dba", "PAUSE")
    stage.settle()
    assert stage.choose() is None, "nobody goes on before all have come"
    assert stage.adopting == {}
    assert stage.result("c", 2, acc=3) == "PAUSE"
    assert {target: found[0] for target, found in stage.adopting.items()} == {"a": "d"}
    assert stage.offers == {"d": 2}, "others need not be kept"
    stage.settle()
    stage.adopt()
    assert [stage.choose() for _ in range(5)] == ["a", "b", "c", "d", None]
    assert compare(stage, 3, a=1) == {"a": "CONTINUE"}


def test_synchronous_with_turns() -> None:
    """Who has come is not started again before all have."""
    stage = staged("a", "b", "c", slots=1, synch=True)
    for trial_id in "bc":
        stage.trials[trial_id].status = "PENDING"
    for trial_id, following in zip("abc", ("b", "c", "a"), strict=True):
        assert stage.result(trial_id, 2, acc=1) == "PAUSE"
        stage.settle()
        stage.adopt()
        assert stage.choose() == following


@pytest.mark.parametrize("how", ["ends", "fails", "is removed"])
def test_who_is_waited_for_goes(how: str) -> None:
    """The others do not wait for ever."""
    stage = staged("a", "b", "c", synch=True, quantile_fraction=0.5)
    compare(stage, a=1, b=2)
    stage.settle()
    if how == "ends":
        stage.end("c", {"acc": 1})
    elif how == "fails":
        stage.fail("c", again=False)
    else:
        stage.end("c")
    assert stage.adopting["a"][0] == "b"
    stage.adopt()
    assert {stage.choose(), stage.choose()} == {"a", "b"}


def test_a_trial_that_is_tried_again_is_waited_for() -> None:
    """It keeps its place."""
    stage = staged("a", "b", synch=True, quantile_fraction=0.5)
    compare(stage, a=1)
    stage.fail("b", again=True)
    assert stage.adopting == {}
    assert stage.choose() == "b"
    stage.result("b", 2, acc=2)
    assert stage.adopting["a"][0] == "b"


# --- how -------------------------------------------------------------------------------------


class Dice(Draws):
    """Says what is drawn."""

    def __init__(self, *numbers: float) -> None:
        super().__init__(with_numpy=True)
        left = iter(numbers)
        self.random.random = lambda: next(left)  # type: ignore[method-assign]
        self.random.choice = lambda values: values[int(next(left))]  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("value", "mutation", "dice", "expected"),
    [
        ("b", ["a", "b", "c"], (0.9, 0), "a"),
        ("b", ["a", "b", "c"], (0.9, 1), "c"),
        ("c", ["a", "b", "c"], (0.9, 1), "c"),
        ("a", ("a", "b", "c"), (0.9, 0), "a"),
        ("b", ["a", "b", "c"], (0.1, 2), "c"),
        ("x", ["a", "b", "c"], (0.9, 2), "c"),
        (10.0, tune.uniform(0, 1), (0.9, 0), 12.0),  # bounds do not count
        (10.0, tune.uniform(0, 1), (0.9, 1), 8.0),
        (10, tune.randint(0, 100), (0.9, 0), 12),
        (3, tune.randint(0, 100), (0.9, 0), 4),
        (True, tune.choice([True, False]), (0.9, 1), True),
        (10.0, lambda: 5, (0.1,), 5),
        (10.0, lambda: 5, (0.9, 1), 8.0),
        ("relu", tune.choice(["relu"]), (0.9,), "relu"),  # what is no number is drawn anew
        ({"lr": 10.0}, {"lr": lambda: 5}, (0.9, 0), {"lr": 12.0}),
        ({}, {"lr": lambda: 5}, (), {"lr": 5}),
    ],
)
def test_explore(value: Any, mutation: Any, dice: tuple[float, ...], expected: Any) -> None:
    """Ray's rules, one by one; the config that it comes from is not changed."""
    config = {"v": value, "kept": [1]}
    before = json.dumps(config)
    new = explored(
        config, {"v": mutation}, Dice(*dice), resample_probability=0.25, factors=(1.2, 0.8)
    )
    assert new["v"] == expected
    assert type(new["v"]) is type(expected)
    assert json.dumps(config) == before
    assert new["kept"] is not config["kept"]


def test_resampling_stays_in_the_domain() -> None:
    """A value that is drawn anew is one of the domain's."""
    draws = Draws(with_numpy=True)
    for _ in range(50):
        new = explored(
            {"x": 5.0}, {"x": tune.uniform(0, 1)}, draws, resample_probability=1, factors=(2,)
        )
        assert 0 <= new["x"] <= 1


def test_custom_explore() -> None:
    """It has the last word about the whole config; None is an error."""
    options: dict[str, Any] = {"resample_probability": 0, "factors": (2,)}
    double = {"x": lambda: 0}
    new = explored({"x": 1.0}, double, Draws(False), custom=lambda c: {**c, "y": c["x"]}, **options)
    assert new == {"x": 2.0, "y": 2.0}
    with pytest.raises(AssertionError, match="returned None"):
        explored({"x": 1.0}, double, Draws(False), custom=lambda c: None, **options)  # type: ignore[arg-type,return-value]


# --- randomness and state --------------------------------------------------------------------


def story(scheduler: PopulationBasedTraining, restart: Path | None = None) -> list[Any]:
    """What a population does with certain scores; with a restart in the middle."""
    names = "abcdef"
    configs = {name: {"lr": float(place)} for place, name in enumerate(names, 1)}
    stage = Stage(scheduler, *names, searches=False, configs=configs)
    scores = random.Random(5)
    for time in range(2, 30, 2):
        if restart is not None and time == 14:
            stage.scheduler.save(str(restart))
            stage.scheduler = pbt(hyperparam_mutations={"lr": tune.uniform(0, 9)})
            stage.scheduler.restore(str(restart))
        for name in names:
            if stage.trials[name].status == "RUNNING":
                stage.result(name, time, acc=scores.random())
        stage.settle(*(name for name in stage.pausing if name not in stage.adopting))
        stage.adopt()
        while stage.choose():
            pass
    return [stage.trials[name].config["lr"] for name in names] + [len(stage.policies)]


def test_a_seed_reproduces_a_run(tmp_path: Path) -> None:
    """The global generators count when it begins; after that nobody disturbs it."""
    import numpy as np

    told = []
    for restart in (None, None, tmp_path / "state"):
        random.seed(1)
        np.random.seed(1)
        scheduler = pbt(hyperparam_mutations={"lr": tune.uniform(0, 9)})
        assert scheduler.set_search_properties(None, None)
        random.seed(len(told))
        told.append(story(scheduler, restart))
    assert told[0] == told[1] == told[2]
    assert told[0][-1] > 5
    random.seed(2)
    assert story(pbt(hyperparam_mutations={"lr": tune.uniform(0, 9)})) != told[0]


def test_the_users_functions_are_not_saved(tmp_path: Path) -> None:
    """They may be lambdas."""
    scheduler = pbt(hyperparam_mutations={"x": lambda: 1}, custom_explore_fn=lambda c: c)
    scheduler.save(str(tmp_path / "state"))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_nobody_waits_for_ever(data: st.DataObject) -> None:
    """Whatever is reported, fails or ends: as long as a trial is left, one runs or can be run."""
    synch = data.draw(st.booleans(), "synch")
    slots = data.draw(st.integers(1, 4), "slots")
    stage = staged(synch=synch, quantile_fraction=data.draw(st.sampled_from([0, 0.25, 0.5]), "q"))
    stage.slots = slots
    stage.configs = {name: {"lr": 2, "name": name} for name in "abcde"}
    for name in "abcde":
        stage.add(name)
    for _ in range(60):
        stage.settle(*(name for name in stage.pausing if name not in stage.adopting))
        stage.adopt()
        while stage.choose():
            pass
        running = [n for n, t in stage.trials.items() if t.status == "RUNNING"]
        if not running:
            assert all(t.is_finished() for t in stage.trials.values()), stage.statuses()
            break
        name = data.draw(st.sampled_from(running), "trial")
        what = data.draw(st.sampled_from(["report"] * 8 + ["end", "fail", "retry"]), "event")
        if what == "report":
            stage.result(name, acc=data.draw(st.sampled_from([1.0, 2.0, NAN]), "score"))
        elif what == "end":
            stage.end(name, {"acc": 1})
        else:
            stage.fail(name, again=what == "retry")
