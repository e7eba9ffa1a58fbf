"""Runs of the controller with real workers, a real keeper and a real journal."""

from __future__ import annotations

import dataclasses
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plans import CustomError, Listed, Notes, count, fails_once, plan, rows, run_plan, save

from milepost import tune
from milepost.api.callback import Callback
from milepost.api.failure_config import FailureConfig
from milepost.api.scheduler import TrialScheduler
from milepost.api.searcher import Searcher
from milepost.api.stopper import Stopper
from milepost.control.controller import run
from milepost.control.judge import Judge
from milepost.control.view import TrialView
from milepost.errors import ActorDiedError, RayTaskError, TuneError
from milepost.journal import replay
from milepost.tune.search import ConcurrencyLimiter, SearchGenerator

# --- a trial's life --------------------------------------------------------------------------


def test_what_a_trial_leaves(tmp_path: Path) -> None:
    """Rows, checkpoints, analysis and last row are in the record and on disk."""
    (record,) = run_plan(tmp_path, count, [{"x": 1}]).trials
    assert record.status == "TERMINATED"
    assert record.error is None
    assert record.last_row["number"] == 3
    assert record.last_row["done"] is True
    assert record.last_row["config"] == {"x": 1}
    assert record.last_row["experiment_tag"] == "0"
    assert [index for index, _, _ in record.checkpoints] == [0, 1, 2]
    assert [row["number"] for _, _, row in record.checkpoints] == [1, 2, 3]
    assert record.latest is not None
    assert record.latest[0] == 2
    assert record.analysis["number"] == {
        "max": 3, "min": 1, "avg": 2, "last": 3, "last-5-avg": 2, "last-10-avg": 2,
    }  # fmt: skip
    assert "pid" not in record.analysis
    logged = rows(record)
    assert [row["number"] for row in logged] == [1, 2, 3]
    assert not any(row["done"] for row in logged), "it ended by itself, after its last row"
    assert "experiment_tag" not in logged[-1]


def test_hooks_around_checkpoints(tmp_path: Path) -> None:
    """A result is told before its checkpoint, and the end after the last commit."""
    notes = Notes()
    search = Listed([{}])
    run_plan(tmp_path, count, search=search, callbacks=[notes])
    assert notes.said[0] == ("start", "t0", "PENDING")
    assert notes.said[-2:] == [("complete", "t0", "TERMINATED"), ("end",)]
    for number in (1, 2, 3):
        name = f"checkpoint_{number - 1:06d}"
        assert notes.said.index(("result", "t0", number)) < notes.said.index(
            ("checkpoint", "t0", name)
        )
        at = notes.said.index(("checkpoint", "t0", name))
        assert notes.said[at + 1] == ("save", "t0")
    assert search.told == [*(("result", "t0", n) for n in (1, 2, 3)), ("complete", "t0", 3, False)]


class Mutating(Callback):
    """Adds to each result, and sees the trial as it was before."""

    def __init__(self) -> None:
        self.before: list[Any] = []

    def on_trial_result(self, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.before.append(trial.last_result.get("number"))
        result["added"] = result["number"] * 10


def test_callbacks_change_results(tmp_path: Path) -> None:
    """What a callback adds is in the journal, the files and the record."""
    callback = Mutating()
    (record,) = run_plan(tmp_path, count, callbacks=[callback]).trials
    assert callback.before == [None, 1, 2]
    assert record.last_row["added"] == 30
    assert record.analysis["added"]["max"] == 30
    assert [row["added"] for row in rows(record)] == [10, 20, 30]


class Failing(Callback):
    """Cannot stand checkpoints."""

    def on_checkpoint(self, **info: Any) -> None:
        raise RuntimeError("no checkpoints here")


def test_a_failing_on_checkpoint_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The checkpoint is committed all the same."""
    (record,) = run_plan(tmp_path, count, callbacks=[Failing()]).trials
    assert len(record.checkpoints) == 3
    assert sum("no checkpoints here" in (r.exc_text or "") for r in caplog.records) == 3


# --- ends of functions -----------------------------------------------------------------------


class Seeing(Stopper):
    """Notes the results that it is asked about."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool]] = []

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.seen.append((result["training_iteration"], result["done"]))
        return False

    def stop_all(self) -> bool:
        return False


def test_stoppers_see_the_end_of_a_function(tmp_path: Path) -> None:
    """When a function returns, its last result is judged again, and it is done."""
    stopper = Seeing()
    run_plan(tmp_path, count, stopper=stopper)
    assert stopper.seen == [(1, False), (2, False), (3, False), (3, True)]


def test_a_function_that_never_reports(tmp_path: Path) -> None:
    """It has ended well, and its row tells only where it ran."""

    def nothing(config: dict[str, Any]) -> None:
        pass

    (record,) = run_plan(tmp_path, nothing, [{"x": 1}]).trials
    assert record.status == "TERMINATED"
    assert set(record.last_row) == {
        "trial_id", "date", "timestamp", "pid", "hostname", "node_ip", "config", "done",
        "experiment_tag",
    }  # fmt: skip
    assert record.analysis == {}


@pytest.mark.parametrize(("config", "passes"), [({"a": 1}, True), ({"a": 1, "b": 2}, False)])
def test_the_metric_of_a_function_that_never_reports(
    tmp_path: Path, config: dict[str, Any], *, passes: bool
) -> None:
    """As in Ray, a config of two values counts as a result without the metric."""

    def nothing(config: dict[str, Any]) -> None:
        pass

    made = plan(tmp_path, nothing, [config], metric="loss", mode="min")
    if passes:
        assert run(made).trials[0].status == "TERMINATED"
    else:
        with pytest.raises(TuneError, match="loss"):
            run(made)


def test_reporting_done_ends_a_trial(tmp_path: Path) -> None:
    """The row that says done is the last."""

    def until(config: dict[str, Any]) -> None:
        for number in range(10):
            tune.report({"number": number, "done": number == 2})

    (record,) = run_plan(tmp_path, until).trials
    assert [row["number"] for row in rows(record)] == [0, 1, 2]
    assert rows(record)[-1]["done"] is True


def test_what_cannot_be_stopped_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A trial that hangs in its clean-up has ended all the same, after its patience."""
    monkeypatch.setenv("TUNE_FORCE_TRIAL_CLEANUP_S", "0.2")

    def hangs(config: dict[str, Any]) -> None:
        try:
            tune.report({"number": 1})
        finally:
            threading.Event().wait()

    (record,) = run_plan(tmp_path, hangs, criteria={"number": 1}).trials
    assert record.status == "TERMINATED"
    assert "killing it" in caplog.text


def test_errors_in_clean_up_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A trial that was told to stop has stopped, whatever becomes of its process then."""

    def raises(config: dict[str, Any]) -> None:
        try:
            tune.report({"number": 1}, checkpoint=save(1))
        finally:
            os._exit(3)

    (record,) = run_plan(tmp_path, raises, criteria={"number": 1}).trials
    assert (record.status, record.error) == ("TERMINATED", None)
    assert len(record.checkpoints) == 1
    assert "exit code 3" in caplog.text


# --- failures ----------------------------------------------------------------------------------


def test_a_retry_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """No iteration is repeated or missing, counters go on, and a failure leaves its files."""
    notes = Notes()
    (record,) = run_plan(
        tmp_path, fails_once, callbacks=[notes], failure=FailureConfig(max_failures=1)
    ).trials
    assert record.status == "TERMINATED"
    assert record.failures == 1
    assert [row["number"] for row in rows(record)] == [1, 2, 3]
    assert [row["training_iteration"] for row in rows(record)] == [1, 2, 3]
    assert [row["iterations_since_restore"] for row in rows(record)] == [1, 2, 1]
    assert ("recover", "t0", True) in notes.said
    assert "once" in Path(record.directory, "error.txt").read_text()


def test_an_error_of_the_user(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is an instance of the user's type and of ours, logged with its traceback."""
    notes = Notes()
    search = Listed([{}])
    (record,) = run_plan(tmp_path, fails_once, search=search, callbacks=[notes]).trials
    assert record.status == "ERROR"
    assert isinstance(record.error, CustomError)
    assert isinstance(record.error, RayTaskError)
    assert "fails_once" in caplog.text
    assert record.last_row["number"] == 2
    assert ("error", "t0", "ERROR") in notes.said
    assert search.told[-1] == ("complete", "t0", None, True)
    assert len(record.checkpoints) == 2


def reports_without_descriptors() -> None:
    os.closerange(3, 100)
    tune.report({"number": 2})


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda: os._exit(3), "exit code 3"),
        (lambda: os._exit(0), "exit code 0.* should return from the trainable"),
        (reports_without_descriptors, r"exit code 0.* closed file descriptors .* os\.closerange"),
        (lambda: os.kill(os.getpid(), 9), r"signal 9 \(SIGKILL\)"),
        (lambda: os.kill(os.getpid(), 11), r"signal 11 \(SIGSEGV\)"),
    ],
)
def test_a_dead_worker(tmp_path: Path, how: Any, told: str) -> None:
    """The record says how the process ended; rows and checkpoints until then are kept."""

    def dies(config: dict[str, Any]) -> None:
        tune.report({"number": 1}, checkpoint=save(1))
        how()

    (record,) = run_plan(tmp_path, dies).trials
    assert isinstance(record.error, ActorDiedError)
    assert record.error.args[0].startswith("The worker process")
    with pytest.raises(ActorDiedError, match=told):
        raise record.error
    assert len(record.checkpoints) == 1


class Pair(Exception):
    """Cannot be unpickled by itself, and holds what cannot be pickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("odd one")
        self.pair = (one, two)
        self.lock = threading.Lock()


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Fixed(Exception):
    args = property(lambda self: ("fixed",))


class Closed(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("closed")


class Ours(Exception):
    """Has an attribute with the name of one of ours."""

    cause = property(lambda self: "mine")


class Unbuildable(Exception):
    def __new__(cls, *args: Any) -> Any:
        if "RayTaskError" in cls.__name__:
            raise OSError("no more of me")
        return super().__new__(cls, *args)


class Parent(Exception):
    def __init_subclass__(cls, **kwargs: Any) -> None:
        raise LookupError("no children")


def test_errors_that_cannot_be_pickled(tmp_path: Path) -> None:
    """They arrive under their own type all the same, with what can travel of them."""

    def raises(config: dict[str, Any]) -> None:
        raise Pair(1, 2)

    (record,) = run_plan(tmp_path, raises).trials
    assert isinstance(record.error, RayTaskError)
    assert isinstance(record.error, Pair)
    assert record.error.pair == (1, 2)
    assert record.error.args == ("odd one",)
    assert "Pair: odd one" in str(record.error)
    (pickled,) = tmp_path.glob("**/error.pkl")
    assert isinstance(pickle.loads(pickled.read_bytes()), Pair)


def test_operating_system_errors_keep_their_fields(tmp_path: Path) -> None:
    """An error of the system tells which one it is, as if it had been raised here."""

    def raises(config: dict[str, Any]) -> None:
        os.stat("missing")

    (record,) = run_plan(tmp_path, raises).trials
    assert isinstance(record.error, FileNotFoundError)
    assert (record.error.errno, record.error.filename) == (2, "missing")


def test_odd_exceptions_fail_their_trials_only(tmp_path: Path) -> None:
    """Whatever an exception does when it is looked at, its trial fails and the others go on."""
    kinds = [Mute, Fixed, Closed, Ours, Unbuildable, Parent]

    def train(config: dict[str, Any]) -> None:
        tune.report({"a": 1})
        if config["n"] < len(kinds):
            raise kinds[config["n"]]("said")

    trials = run_plan(tmp_path, train, [{"n": n} for n in range(len(kinds) + 1)]).trials
    assert [t.status for t in trials] == ["ERROR"] * len(kinds) + ["TERMINATED"]
    for kind, trial in zip(kinds, trials, strict=False):
        assert isinstance(trial.error, RayTaskError)
        assert kind.__name__ in str(trial.error).splitlines()[-1]
        assert type(trial.error.cause).__name__ == kind.__name__
        assert kind.__name__ in TrialView.of(trial, None).error  # type: ignore[operator]


def test_fail_fast_raise(tmp_path: Path) -> None:
    """The user's own error comes out of the run, after its clean-up."""
    notes = Notes()
    with pytest.raises(CustomError, match="once"):
        run_plan(tmp_path, fails_once, callbacks=[notes], failure=FailureConfig(fail_fast="raise"))
    assert notes.said[-1] == ("end",)


class Breaks(TrialScheduler):
    """Fails at a result."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        raise CustomError("scheduler is broken")


def test_errors_of_driver_code(tmp_path: Path) -> None:
    """They end the run as TuneError with the traceback, or as they are with fail_fast."""
    made = plan(tmp_path, count, scheduler=Breaks())
    with pytest.raises(TuneError, match="scheduler is broken") as caught:
        run(made)
    assert "on_trial_result" in str(caught.value)
    assert replay.image(made.experiment.path).closed == "failed"
    with pytest.raises(CustomError):
        run_plan(tmp_path, count, scheduler=Breaks(), failure=FailureConfig(fail_fast="raise"))


class Wanting(Searcher):
    """Needs a metric that is not reported."""

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"x": 1}


@pytest.mark.parametrize("wrap", [lambda each: each, lambda each: ConcurrencyLimiter(each, 2)])
def test_whose_metric_is_missing(wrap: Callable[[Searcher], Searcher], tmp_path: Path) -> None:
    """The error names the user's searcher, not what is wrapped around it."""
    search = SearchGenerator(wrap(Wanting("mean_loss", "min")))
    made = dataclasses.replace(plan(tmp_path, count), search=search)
    judge = Judge(made, None, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'mean_loss' of the search algorithm Wanting is not in"):
        judge.check_metrics({"loss": 1, "accuracy": 2})


class Strange(TrialScheduler):
    """Chooses something that is no trial."""

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        return "t0"


def test_a_choice_that_is_no_trial(tmp_path: Path) -> None:
    """The error names the scheduler and what it returned."""
    with pytest.raises(TuneError, match=r"Strange\.choose_trial_to_run\(\) returned 't0' \(str\)"):
        run_plan(tmp_path, count, scheduler=Strange())


class Vague(TrialScheduler):
    """Decides something that nobody knows."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return "PAUS"


def test_an_unknown_decision(tmp_path: Path) -> None:
    """The error names it and what was probably meant."""
    with pytest.raises(TuneError, match=r"'PAUS'.*'PAUSE'"):
        run_plan(tmp_path, count, scheduler=Vague())
