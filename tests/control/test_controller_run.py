"""Schedulers, the end of a run and what is seen of it, with real workers and a real keeper."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from plans import CustomError, Listed, Notes, count, fails_once, plan, rows, run_plan, save

from milepost import tune
from milepost.api.callback import Callback
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.failure_config import FailureConfig
from milepost.api.resources import placement_group_of
from milepost.api.scheduler import TrialScheduler
from milepost.api.stopper import Stopper
from milepost.control import timing
from milepost.control.controller import run
from milepost.errors import TuneError
from milepost.journal import replay

# --- schedulers ----------------------------------------------------------------------------------


class Turns(TrialScheduler):
    """Pauses each trial after each result, so that they take turns."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self.PAUSE

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        return tune_controller.first_waiting_trial()


def test_paused_trials_go_on_in_new_processes(tmp_path: Path) -> None:
    """Two functions share one CPU, each going on from its checkpoint."""
    outcome = run_plan(tmp_path, count, [{"x": 0}, {"x": 1}], cpus=1, scheduler=Turns())
    for record in outcome.trials:
        assert [row["number"] for row in rows(record)] == [1, 2, 3]
        assert len({row["pid_"] for row in rows(record)}) == 3
        assert [index for index, _, _ in record.checkpoints] == [0, 1, 2]


class Never(TrialScheduler):
    """Pauses each trial at its first result and continues none."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self.PAUSE


def test_trials_that_are_paused_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends with an error that names the scheduler, instead of waiting without end."""
    monkeypatch.setattr(timing, "_STUCK_S", 0.01)
    with pytest.raises(TuneError, match=r"2 trials are paused.*scheduler Never.*Tuner\.restore"):
        run_plan(tmp_path, count, [{"x": 0}, {"x": 1}], scheduler=Never())


class Counter(tune.Trainable):
    """Counts its steps and can save them."""

    def setup(self, config: dict[str, Any]) -> None:
        self.steps = 0

    def step(self) -> dict[str, Any]:
        self.steps += 1
        return {"steps": self.steps, "pid_": os.getpid(), "x": self.config.get("x")}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.steps = checkpoint["steps"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.steps = 0
        return True


def test_a_paused_class_saves_first(tmp_path: Path) -> None:
    """Its steps go on, also when checkpoints are switched off otherwise."""
    (record,) = run_plan(tmp_path, Counter, cpus=1, scheduler=Turns(), criteria={"steps": 3}).trials
    assert [row["steps"] for row in rows(record)] == [1, 2, 3]


def test_reused_workers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One process runs all trials; what it prints belongs to the trial that runs."""

    class Printing(Counter):
        def step(self) -> dict[str, Any]:
            row = super().step()
            print(f"x is {self.config['x']}")
            return row

    outcome = run_plan(
        tmp_path,
        Printing,
        [{"x": n} for n in range(4)],
        cpus=1,
        reuse_actors=True,
        criteria={"steps": 2},
        log_to_file=("out.txt", None),
    )
    assert len({row["pid_"] for record in outcome.trials for row in rows(record)}) == 1
    shown = capfd.readouterr().out
    for number, record in enumerate(outcome.trials):
        assert record.last_row["steps"] == 2
        assert Path(record.directory, "out.txt").read_text() == f"x is {number}\n" * 2
        assert shown.count(f"(f_t{number} pid={record.last_row['pid']}) x is {number}\n") == 2


def test_workers_clean_up_at_the_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The last trial's process runs ``cleanup`` and exit handlers before the run returns."""

    class Cleaning(Counter):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config)
            atexit.register(print, "exit handler")

        def cleanup(self) -> None:
            print("cleanup")

    run_plan(tmp_path, Cleaning, criteria={"steps": 1}, reuse_actors=True)
    shown = capfd.readouterr().out
    assert "cleanup" in shown
    assert "exit handler" in shown


class Meddling(TrialScheduler):
    """At t0's second result, ends t1, pauses and changes t2."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.trial_id == "t0" and result["training_iteration"] == 1:
            others = {t.trial_id: t for t in tune_controller.get_trials()}
            tune_controller.stop_trial(others["t1"])
            assert others["t1"].is_finished()
            others["t2"].config = {"x": 20}
            others["t2"].update_resources({"cpu": 2})
            with pytest.raises(ValueError, match="running"):
                trial.update_resources({"cpu": 2})
        return self.CONTINUE


def test_a_scheduler_acts_on_other_trials(tmp_path: Path) -> None:
    """Stops, new configs and new resources of waiting trials take effect."""
    search = Listed([{"x": 0}, {"x": 1}, {"x": 2}])
    made = plan(
        tmp_path, Counter, search=search, cpus=2, scheduler=Meddling(), max_concurrent=1,
        criteria={"steps": 2},
    )  # fmt: skip
    first, second, third = run(made).trials
    assert first.last_row["steps"] == 2
    assert (second.status, second.last_row) == ("TERMINATED", {"trial_id": "t1"})
    assert ("complete", "t1", None, False) in search.told
    assert third.config == {"x": 20}
    assert third.last_row["x"] == 20
    assert third.resources == placement_group_of({"cpu": 2})
    params = json.loads(Path(third.directory, "params.json").read_text())
    assert params == {"x": 20}


# --- the end of a run -----------------------------------------------------------------------------


class After(Stopper):
    """Ends the run after a number of results."""

    def __init__(self, results: int) -> None:
        self.left = results

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.left -= 1
        return False

    def stop_all(self) -> bool:
        return self.left <= 0


def test_a_run_that_stops_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reports ends at its report, what does not is killed, what waits never starts."""
    monkeypatch.setattr(timing, "GRACE_S", 0.5)

    def trains(config: dict[str, Any]) -> None:
        while True:
            tune.report({"number": 1})
            if config["hangs"]:
                threading.Event().wait()

    notes = Notes()
    outcome = run_plan(
        tmp_path,
        trains,
        [{"hangs": False}, {"hangs": True}, {"hangs": False}],
        stopper=After(50),
        callbacks=[notes],
    )
    assert [record.status for record in outcome.trials] == ["TERMINATED"] * 3
    assert outcome.trials[2].last_row == {"trial_id": "t2"}
    assert not outcome.trials[0].last_row["done"]
    assert not any(said[0] == "complete" for said in notes.said)


def test_fail_fast_does_not_wait_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A trial that never reports is killed once another one has failed."""
    monkeypatch.setattr(timing, "GRACE_S", 0.2)

    def trains(config: dict[str, Any]) -> None:
        if config["fails"]:
            raise CustomError("at once")
        threading.Event().wait()

    first, second = run_plan(
        tmp_path,
        trains,
        [{"fails": False}, {"fails": True}],
        failure=FailureConfig(fail_fast=True),
    ).trials
    assert (first.status, second.status) == ("TERMINATED", "ERROR")
    assert isinstance(second.error, CustomError)


def test_a_time_budget(tmp_path: Path) -> None:
    """The run ends in order when its time is used up."""

    def trains(config: dict[str, Any]) -> None:
        while True:
            tune.report({"number": 1})

    (record,) = run_plan(tmp_path, trains, time_budget_s=0.3).trials
    assert record.status == "TERMINATED"


def test_resources_that_do_not_exist(tmp_path: Path) -> None:
    """The error names what is asked for and what there is, before anything starts."""
    with pytest.raises(TuneError, match=r"it asks for CPU 64, and there is CPU 2 in all"):
        run_plan(tmp_path, count, resources=lambda config: placement_group_of({"cpu": 64}))


def test_what_trials_keep_between_them(tmp_path: Path) -> None:
    """Three trials with one checkpoint kept each: the rest is deleted before the run ends."""
    outcome = run_plan(
        tmp_path,
        count,
        [{}, {}, {}],
        checkpoint=CheckpointConfig(num_to_keep=1),
    )
    for record in outcome.trials:
        assert [index for index, _, _ in record.checkpoints] == [2]
        there = [name for name in os.listdir(record.directory) if name.startswith("checkpoint")]
        assert there == ["checkpoint_000002"]


def test_the_journal_tells_the_same(tmp_path: Path) -> None:
    """A replay has the trials, rows, checkpoints and failures of the record."""
    made = plan(
        tmp_path, fails_once, failure=FailureConfig(max_failures=1),
        checkpoint=CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="number"),
    )  # fmt: skip
    (record,) = run(made).trials
    image = replay.image(made.experiment.path)
    trial = image.trials["t0"]
    assert image.closed == "finished"
    assert (trial.status, trial.failures, trial.attempts) == ("TERMINATED", 1, 2)
    assert trial.rows == 3
    assert sorted(trial.committed) == [index for index, _, _ in record.checkpoints] == [1, 2]
    assert not trial.captured
    assert not trial.deleting


def test_a_config_larger_than_a_socket(tmp_path: Path) -> None:
    """A config of megabytes reaches the worker."""

    def measures(config: dict[str, Any]) -> None:
        tune.report({"size": len(config["data"])})

    (record,) = run_plan(tmp_path, measures, [{"data": "x" * 5_000_000}]).trials
    assert record.last_row["size"] == 5_000_000


def test_output_of_workers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Lines are shown with the trial's name on the stream they were written to, and kept."""

    def prints(config: dict[str, Any]) -> None:
        print("to stdout")
        print("to stderr", file=sys.stderr)
        sys.stdout.write("no end")

    (record,) = run_plan(tmp_path, prints, log_to_file=("both", "both")).trials
    shown = capfd.readouterr()
    pid = record.last_row["pid"]
    assert f"(f_t0 pid={pid}) to stdout\n" in shown.out
    assert f"(f_t0 pid={pid}) no end\n" in shown.out
    assert f"(f_t0 pid={pid}) to stderr\n" in shown.err
    kept = Path(record.directory, "both").read_text()
    assert sorted(kept.replace("no end", "no end\n").split("\n")) == [
        "", "no end", "to stderr", "to stdout"]  # fmt: skip


def test_files_for_output_that_never_came(tmp_path: Path) -> None:
    """Both files are there when they were asked for, also of a trial that prints nothing."""
    quiet = run_plan(tmp_path, lambda config: None, log_to_file=("stdout", "stderr")).trials[0]
    for name in ("stdout", "stderr"):
        assert Path(quiet.directory, name).read_bytes() == b""


class Sink:
    """A display that looks at everything it can."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.closed = 0
        self.looks = 0
        self.last: Any = None

    def update(self, view: Any) -> None:
        self.looks += 1
        self.last = view
        for name in dir(view):
            if not name.startswith("_") and name != "trials":
                getattr(view, name)
        assert [trial.name for trial in view.trials(5)]
        assert len(view.running) <= 2

    def line(self, text: str, stream: str) -> None:
        self.lines.append(text)

    def close(self) -> None:
        self.closed += 1


def test_the_display_sees_the_run(tmp_path: Path) -> None:
    """It is shown the run while it goes on and at its end, and gets the output of workers."""

    def prints(config: dict[str, Any]) -> None:
        print("hello")
        tune.report({"loss": config["x"]}, checkpoint=save(1))

    sink = Sink()
    run_plan(
        tmp_path, prints, [{"x": 2}, {"x": 1}, {"x": 3}], progress=sink, metric="loss", mode="min"
    )
    assert sink.closed == 1
    assert sink.looks > 2
    assert sink.last.counts["TERMINATED"] == 3
    assert sink.last.best.name == "f_t1"
    assert [trial.name for trial in sink.last.trials(2)] == ["f_t1", "f_t0"]
    assert sink.last.committed_count == 3
    assert sink.last.pending_commits == 0
    assert sink.last.resources_used["CPU"] == 0
    assert sum(line.endswith("hello") for line in sink.lines) == 3


class Looking(Callback):
    """Looks at ended trials through the list of all trials."""

    def __init__(self) -> None:
        self.last: list[Any] = []

    def on_trial_complete(self, trials: Any, trial: Any, **info: Any) -> None:
        self.last = [(t.trial_id, t.status, t.last_result.get("number")) for t in trials]
        assert trial in trials
        assert trials[0] is trials[0]


def test_callbacks_see_ended_trials(tmp_path: Path) -> None:
    """Packed trials tell the same as before, in the order of their creation."""
    looking = Looking()
    run_plan(tmp_path, count, [{}, {}], cpus=1, callbacks=[looking])
    assert looking.last == [("t0", "TERMINATED", 3), ("t1", "TERMINATED", 3)]


def test_an_automatic_log_says_who_ends_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stopper that ends the run is named."""
    caplog.set_level(logging.INFO, "milepost.control")

    def trains(config: dict[str, Any]) -> None:
        while True:
            tune.report({"number": 1})
            time.sleep(0.001)

    run_plan(tmp_path, trains, stopper=After(3))
    assert "After ends the run" in caplog.text


class Reading(Callback):
    """Reads the first checkpoint until a trial has ended, or for ever."""

    def __init__(self, *, until_end: bool) -> None:
        self.reading = contextlib.ExitStack()
        self.until_end = until_end
        self.path = ""

    def on_checkpoint(self, checkpoint: Any, **info: Any) -> None:
        if not self.path:
            self.path = self.reading.enter_context(checkpoint.as_directory())

    def on_trial_complete(self, **info: Any) -> None:
        if self.until_end:
            self.reading.close()


@pytest.mark.parametrize("until_end", [True, False])
def test_a_checkpoint_that_is_read_is_not_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, until_end: bool
) -> None:
    """It goes once nobody reads it any more; if that is never, the log says that it stays."""
    reading = Reading(until_end=until_end)
    run_plan(tmp_path, count, checkpoint=CheckpointConfig(num_to_keep=1), callbacks=[reading])
    assert os.path.exists(os.path.join(reading.path, "number")) is not until_end
    assert ("stays on disk" in caplog.text) is not until_end
    reading.reading.close()
