"""What searchers, schedulers, stoppers and callbacks know after a restore."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from plans import Dies, Listed, again, count, killed, plan, save, saved

from milepost import tune
from milepost.api.callback import Callback
from milepost.api.resume_config import ResumeConfig, ResumeType
from milepost.api.scheduler import TrialScheduler
from milepost.api.searcher import Searcher
from milepost.api.stopper import Stopper
from milepost.control.controller import run
from milepost.control.plan import RunPlan
from milepost.journal import records, replay
from milepost.tune.search.basic_variant import BasicVariantGenerator
from milepost.tune.search.concurrency_limiter import ConcurrencyLimiter
from milepost.tune.search.search_generator import SearchGenerator

pytestmark = pytest.mark.chaos  # others of their kind run always


@pytest.fixture(autouse=True, params=[pytest.param("0", marks=pytest.mark.chaos), "3600"])
def save_every_s(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """States are saved at each step of the loop, or at the start only: results are the same."""
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", request.param)


def one_by_one(config: dict[str, Any]) -> None:
    """Report twice."""
    for number in range((saved() or 0) + 1, 3):
        tune.report({"number": number, "score": config["x"]}, checkpoint=save(number))


def configs_of(first: RunPlan) -> list[Any]:
    return [record.config["x"] for record in run(first).trials]


# --- searchers -----------------------------------------------------------------------------------


def random_search(samples: int = 6, space: Any = None, **options: Any) -> BasicVariantGenerator:
    search = BasicVariantGenerator(**options)
    spec = {"config": space or {"x": tune.uniform(0, 1)}, "num_samples": samples}
    search.add_configurations(SimpleNamespace(spec=spec))
    return search


@pytest.mark.parametrize("at", [1, 5, 9])
@pytest.mark.always("3600-5")
def test_a_random_search_goes_on_with_the_same_draws(tmp_path: Path, at: int) -> None:
    """However far it was: the trials are those of a run that was never interrupted."""
    options = {"random_state": 5, "max_concurrent": 1}
    whole = configs_of(plan(tmp_path, one_by_one, search=random_search(**options)))
    first = plan(
        tmp_path,
        one_by_one,
        search=random_search(**options),
        callbacks=[Dies("on_trial_result", at)],
    )
    killed(first)
    outcome = run(again(first, search=random_search(**options)))
    assert [record.config["x"] for record in outcome.trials] == whole
    ids = [record.trial_id for record in outcome.trials]
    assert [name.rpartition("_")[2] for name in ids] == [f"{n:05d}" for n in range(6)]


@pytest.mark.parametrize("is_other", [False, True])
@pytest.mark.always("3600-True")
def test_only_another_proposal_is_worth_a_warning(
    tmp_path: Path, is_other: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Objects and functions, whose bytes differ from process to process, are no other proposal."""

    def space(x: Any) -> dict[str, Any]:
        class Option:
            """Has no ``__eq__``, and is another class each time."""

        return {"x": x, "option": Option(), "function": lambda: Option}

    options = {"random_state": 5, "max_concurrent": 1}
    first = plan(
        tmp_path,
        one_by_one,
        search=random_search(space=space(tune.uniform(0, 1)), **options),
        callbacks=[Dies("on_trial_result", 3)],
    )
    killed(first)
    x = tune.uniform(5, 6) if is_other else tune.uniform(0, 1)
    assert len(run(again(first, search=random_search(space=space(x), **options))).trials) == 6
    if not is_other:
        assert "now proposes" not in caplog.text
    elif os.environ["TUNE_GLOBAL_CHECKPOINT_S"] != "0":  # else nothing is proposed once more
        assert "now proposes" in caplog.text


@pytest.mark.parametrize("samples", [2, 8])
@pytest.mark.always("3600-8")
def test_another_number_of_samples(tmp_path: Path, samples: int) -> None:
    """More trials are made, or no more than there are."""
    first = plan(
        tmp_path,
        one_by_one,
        search=random_search(4, max_concurrent=1),
        callbacks=[Dies("on_trial_start", 4)],
    )
    killed(first)
    created = len(replay.image(first.experiment.path).trials)
    assert created == 4
    outcome = run(again(first, search=random_search(samples)))
    assert len(outcome.trials) == max(samples, created)
    assert {record.status for record in outcome.trials} == {"TERMINATED"}


def test_new_trials_come_from_a_new_space(tmp_path: Path) -> None:
    """Those that exist keep their configurations, and counters go on."""
    first = plan(
        tmp_path,
        one_by_one,
        search=random_search(4, max_concurrent=1),
        callbacks=[Dies("on_trial_start", 2)],
    )
    killed(first)
    old = len(replay.image(first.experiment.path).trials)
    outcome = run(again(first, search=random_search(4, {"x": tune.uniform(10, 11)})))
    values = [record.config["x"] for record in outcome.trials]
    assert len(values) == 4
    assert all(value <= 1 for value in values[:old])
    assert all(value >= 10 for value in values[old:])
    assert [record.tag.split("_")[0] for record in outcome.trials] == ["0", "1", "2", "3"]


class Climbing(Searcher):
    """Proposes one more than the best score so far, and notes everything."""

    def __init__(self) -> None:
        super().__init__("score", "max")
        self.said: list[Any] = []
        self.best = 0.0

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.said.append(("suggest", trial_id))
        return {"x": self.best + 1}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.said.append(("result", trial_id, result["training_iteration"]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.said.append(("complete", trial_id, error))
        self.best = max(self.best, (result or {}).get("score", 0.0))

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).write_bytes(pickle.dumps((self.said, self.best)))

    def restore(self, checkpoint_path: str) -> None:
        self.said, self.best = pickle.loads(Path(checkpoint_path).read_bytes())


class Forgetful(Climbing):
    """Cannot save."""

    def save(self, checkpoint_path: str) -> None:
        raise NotImplementedError


def climbing(kind: type[Climbing] = Climbing, samples: int = 4) -> SearchGenerator:
    search = SearchGenerator(ConcurrencyLimiter(kind(), 1))
    search.add_configurations(SimpleNamespace(spec={"config": {}, "num_samples": samples}))
    return search


@pytest.mark.parametrize("kind", [Climbing, Forgetful])
@pytest.mark.parametrize("at", [1, 2, 4, 7])
@pytest.mark.always("3600-4-Climbing", "3600-4-Forgetful")
def test_a_searcher_learns_as_if_nothing_had_happened(
    tmp_path: Path, kind: type[Climbing], at: int
) -> None:
    """Its proposals and what it is told are those of an uninterrupted run, saved or not."""
    first = plan(
        tmp_path, one_by_one, search=climbing(kind), callbacks=[Dies("on_trial_result", at)]
    )
    killed(first)
    search: Any = climbing(kind)
    outcome = run(again(first, search=search))
    assert [record.config["x"] for record in outcome.trials] == [1, 2, 3, 4]
    told = search.searcher.searcher.said
    ids = [record.trial_id for record in outcome.trials]
    expected: list[Any] = []
    for trial_id in ids:
        expected += [("suggest", trial_id), ("result", trial_id, 1), ("result", trial_id, 2)]
        expected.append(("complete", trial_id, False))
    assert told == expected


def test_another_searcher_counts_what_there_is(tmp_path: Path) -> None:
    """It is told nothing of trials that it has not proposed, and makes only those that lack."""
    first = plan(tmp_path, one_by_one, search=climbing(), callbacks=[Dies("on_trial_result", 3)])
    killed(first)
    created = len(replay.image(first.experiment.path).trials)
    search: Any = climbing(samples=5)
    outcome = run(again(first, search=search, anew=frozenset({"search"})))
    assert len(outcome.trials) == 5
    told = {said[1] for said in search.searcher.searcher.said}
    assert told == {record.trial_id for record in outcome.trials[created:]}


# --- schedulers ----------------------------------------------------------------------------------


class Pausing(TrialScheduler):
    """Pauses each trial after its first result, until all have one; keeps trials as keys."""

    def __init__(self, trials: int) -> None:
        self.expected = trials
        self.seen: dict[Any, int] = {}
        self.said: list[Any] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self.said.append(("add", trial.trial_id))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        assert trial in tune_controller.get_live_trials()
        assert trial.status == "RUNNING"
        trial.seen_by_scheduler = result["training_iteration"]
        self.seen[trial] = result["training_iteration"]
        self.said.append(("result", trial.trial_id, result["training_iteration"]))
        return self.PAUSE if result["training_iteration"] == 1 else self.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.said.append(("complete", trial.trial_id))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        for trial in tune_controller.get_trials():
            if trial.status == "PENDING" and tune_controller.has_room_for(trial):
                return trial
        if len(self.seen) < self.expected:
            return None
        for trial in tune_controller.get_trials():
            if trial.status == "PAUSED" and tune_controller.has_room_for(trial):
                assert trial.seen_by_scheduler == 1
                return trial
        return None


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.always("3600-3")
def test_a_scheduler_knows_what_it_knew(tmp_path: Path, at: int) -> None:
    """Paused trials stay paused until it lets them go, and nothing is told twice."""
    configs = [{"x": n} for n in range(3)]
    first = plan(
        tmp_path,
        one_by_one,
        cpus=1,
        search=Listed(configs),
        scheduler=Pausing(3),
        callbacks=[Dies("on_trial_result", at)],
    )
    killed(first)
    scheduler = Pausing(3)
    outcome = run(again(first, search=Listed(configs), scheduler=scheduler))
    assert {record.status for record in outcome.trials} == {"TERMINATED"}
    assert [said for said in scheduler.said if said[0] == "add"] == [
        ("add", "t0"), ("add", "t1"), ("add", "t2"),
    ]  # fmt: skip
    results = [said[1:] for said in scheduler.said if said[0] == "result"]
    assert sorted(results) == [(f"t{n}", i) for n in range(3) for i in (1, 2)]
    assert [i for _, i in results] == [1, 1, 1, 2, 2, 2], "no trial went on too early"
    assert {trial.trial_id for trial in scheduler.seen} == {"t0", "t1", "t2"}


def test_another_scheduler_gets_the_trials_that_go_on(tmp_path: Path) -> None:
    """What the one before had paused goes on, because nobody would let it go."""

    def train(config: dict[str, Any]) -> None:
        (path,) = tmp_path.iterdir()
        while config["x"] == 2 and not any(
            isinstance(record, records.Changed) and record.status == "PAUSED"
            for _, record in replay.records(str(path))
        ):
            time.sleep(0.01)
        one_by_one(config)

    configs = [{"x": n} for n in range(3)]
    first = plan(
        tmp_path,
        train,
        cpus=1,
        search=Listed(configs),
        scheduler=Pausing(3),
        callbacks=[Dies("on_trial_result", 3)],
    )
    killed(first)
    assert "PAUSED" in {t.status for t in replay.image(first.experiment.path).trials.values()}

    class Plain(TrialScheduler):
        def __init__(self) -> None:
            self.added: list[str] = []

        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            self.added.append(trial.trial_id)

    scheduler = Plain()
    outcome = run(
        again(first, search=Listed(configs), scheduler=scheduler, anew=frozenset({"scheduler"}))
    )
    assert {record.status for record in outcome.trials} == {"TERMINATED"}
    assert sorted(scheduler.added) == ["t0", "t1", "t2"]


class Stopping(TrialScheduler):
    """Stops the other trial at the first result of one."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.trial_id == "t0" and result["training_iteration"] == 1:
            tune_controller.stop_trial(tune_controller.get_trial("t1"))
        return self.CONTINUE


def test_what_a_scheduler_has_asked_for_is_done(tmp_path: Path) -> None:
    """It stopped a trial that was to obey at its next report; the driver died before that."""
    go, reported = tmp_path / "go", tmp_path / "reported"

    def wait_for(flag: Path) -> None:
        while not flag.exists():
            time.sleep(0.01)

    def waits(config: dict[str, Any]) -> None:
        if config["x"] == 1:
            tune.report({"number": 0})
            reported.touch()
            wait_for(go)
        else:
            wait_for(reported)
        for number in (1, 2):
            tune.report({"number": number}, checkpoint=save(number))

    configs = [{"x": 0}, {"x": 1}]

    class DiesAfterwards(Callback):
        """Lets one step go by, so that the decision is on record."""

        said = False

        def on_trial_result(self, trial: Any, result: dict[str, Any], **info: Any) -> None:
            self.said |= trial.trial_id == "t0" and result["training_iteration"] == 2

        def on_step_begin(self, **info: Any) -> None:
            if self.said:
                os.kill(os.getpid(), signal.SIGKILL)

    first = plan(
        tmp_path, waits, search=Listed(configs), scheduler=Stopping(), callbacks=[DiesAfterwards()]
    )
    killed(first)
    go.touch()
    scheduler = Stopping()
    _, stopped = run(again(first, search=Listed(configs), scheduler=scheduler)).trials
    assert stopped.status == "TERMINATED"
    assert stopped.last_row["number"] == 0


# --- stoppers and callbacks ----------------------------------------------------------------------


class Patience(Stopper):
    """Ends a trial at its n-th result; remembers how many it has seen."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.seen: dict[str, int] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if not result.get("done"):
            self.seen[trial_id] = self.seen.get(trial_id, 0) + 1
        return self.seen[trial_id] >= self.most

    def stop_all(self) -> bool:
        return False


@pytest.mark.parametrize("anew", [frozenset(), frozenset({"stopper"})])
def test_a_stopper_remembers_what_it_has_seen(tmp_path: Path, anew: frozenset[str]) -> None:
    """One that takes the place of another has seen what is on record."""

    def endless(config: dict[str, Any]) -> None:
        number = saved() or 0
        while True:
            number += 1
            tune.report({"number": number}, checkpoint=save(number))

    first = plan(tmp_path, endless, stopper=Patience(4), callbacks=[Dies("on_checkpoint", 2)])
    killed(first)
    stopper = Patience(4)
    resumed = again(first, search=Listed([{}]), stopper=stopper, anew=anew)
    (record,) = run(resumed).trials
    assert record.last_row["number"] == 4
    assert resumed.stopper is not None
    assert resumed.stopper.seen == {"t0": 4}  # type: ignore[attr-defined]


class Tallying(Callback):
    """Has a state, which it gets back before it is set up."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.results = 0
        self.said: list[Any] = []

    def setup(self, **info: Any) -> None:
        self.said.append(("setup", self.results))

    def on_trial_result(self, **info: Any) -> None:
        self.results += 1

    def get_state(self) -> dict[str, Any]:
        return {"results": self.results}

    def set_state(self, state: dict[str, Any]) -> None:
        self.results = state["results"]


def test_callbacks_get_their_state_back(tmp_path: Path) -> None:
    """Wherever they are in the list now."""
    first = plan(tmp_path, count, callbacks=[Tallying(), Dies("on_trial_result", 3)])
    killed(first)
    callback = Tallying()
    run(again(first, search=Listed([{}]), callbacks=[Callback(), callback]))
    assert callback.said[0][0] == "setup"
    assert callback.results >= callback.said[0][1]


def test_a_state_that_cannot_be_loaded_is_worked_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning; the results on record are gone through instead."""
    first = plan(tmp_path, one_by_one, search=climbing(), callbacks=[Dies("on_trial_result", 5)])
    killed(first)
    searched = replay.image(first.experiment.path).searched
    assert searched is not None
    Path(first.experiment.path, ".milepost", "objects", searched).write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING, logger="milepost.control"):
        outcome = run(again(first, search=climbing()))
    assert [record.config["x"] for record in outcome.trials] == [1, 2, 3, 4]
    assert caplog.text.count("cannot be loaded") == 1


# --- trials that were cut short with their run -------------------------------------------------


class StopsAt(Stopper):
    """Ends the run at a result."""

    def __init__(self, results: int) -> None:
        self.left = results

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.left -= 1
        return False

    def stop_all(self) -> bool:
        return self.left <= 0


class StrictSearch(BasicVariantGenerator):
    """Is told once of each trial's end."""

    def on_trial_complete(self, trial_id: str, *args: Any, **kwargs: Any) -> None:
        assert trial_id in self._live
        super().on_trial_complete(trial_id, *args, **kwargs)


class StrictScheduler(TrialScheduler):
    """Is told once of each trial, and once of its end."""

    def __init__(self) -> None:
        self.live: set[str] = set()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        assert trial.trial_id not in self.live
        self.live.add(trial.trial_id)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Any) -> None:
        self.live.remove(trial.trial_id)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self.live.remove(trial.trial_id)


@pytest.mark.parametrize(
    ("fate", "dies_at"),
    [
        ("stays", 1),
        ("goes on", 0),
        ("goes on", 2),
        ("starts again", 1),
        ("is taken up later", 1),
    ],
)
@pytest.mark.always("3600-goes on-2", "3600-is taken up later-1")
def test_the_end_of_a_trial_that_was_cut_short_is_told_once(
    tmp_path: Path, fate: str, dies_at: int
) -> None:
    """Not when it is cut, and then when it ends, is started again or stays as it is."""

    def parts() -> dict[str, Any]:
        search = StrictSearch(random_state=5, max_concurrent=1)
        spec = {"config": {"x": tune.uniform(0, 1)}, "num_samples": 3}
        search.add_configurations(SimpleNamespace(spec=spec))
        return {"search": search, "scheduler": StrictScheduler()}

    begun = tmp_path / "begun"

    def endless_at_first(config: dict[str, Any]) -> None:
        if begun.exists():
            one_by_one(config)
            return
        begun.touch()
        while True:
            tune.report({"number": 1, "score": 0}, checkpoint=save(1))

    first = plan(tmp_path, endless_at_first, stopper=StopsAt(2), **parts())
    assert [record.status for record in run(first).trials] == ["TERMINATED"]
    resume = ResumeConfig()
    if fate == "starts again":
        resume.unfinished = ResumeType.RESTART
    if fate == "is taken up later":
        run(again(first, **parts()))
        resume.finished = ResumeType.RESUME
    lifted = frozenset({"stopper"}) if fate in ("goes on", "starts again") else frozenset()
    options: dict[str, Any] = {"resume": resume, "lifted": lifted}
    if dies_at:
        killed(again(first, callbacks=[Dies("on_trial_result", dies_at)], **options, **parts()))
        if fate == "starts again":
            options["resume"] = ResumeConfig()
    last = again(first, **options, **parts())
    records = run(last).trials
    assert [record.status for record in records] == ["TERMINATED"] * 3
    assert not last.search._live  # type: ignore[attr-defined]
    assert not last.scheduler.live  # type: ignore[attr-defined]
