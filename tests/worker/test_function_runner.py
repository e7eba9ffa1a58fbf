"""How functions run and end: each by a real worker."""

from __future__ import annotations

import math
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from milepost.worker.protocol import Counters, Failed, Finished, Reply, Started, load
from milepost.worker.session import in_session, report


def metrics(row: dict[str, Any]) -> dict[str, Any]:
    """The part of a row that user code gave."""
    own = {"date", "done", "hostname", "iterations_since_restore", "node_ip", "pid", "timestamp"}
    own |= {"checkpoint_dir_name", "time_since_restore", "time_this_iter_s", "time_total_s"}
    own |= {"training_iteration", "trial_id"}
    return {key: value for key, value in row.items() if key not in own}


def test_messages_in_order(drive: Any) -> None:
    """A trial starts, reports and finishes; the worker then exits with status 0 when told."""

    def train(config: dict[str, Any]) -> None:
        for i in range(config["n"]):
            report({"i": i})

    worker = drive(train).run({"n": 3})
    assert [type(m).__name__ for m in worker.messages] == ["Started", *["Reported"] * 3, "Finished"]
    assert isinstance(worker.messages[0], Started)
    assert worker.messages[0].pid == worker.handle.pid
    assert worker.end == Finished("returned")
    assert [row["i"] for row in worker.rows] == [0, 1, 2]
    assert worker.exited.exit_code == 0


def test_function_runs_in_the_main_thread(drive: Any) -> None:
    """So that signal handlers and libraries that need it work."""
    worker = drive(
        lambda config: {
            "main": threading.current_thread() is threading.main_thread(),
            "in": in_session(),
        }
    ).run()
    assert metrics(worker.rows[0]) == {"main": True, "in": True}


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (None, []),
        (0, []),
        (0.0, []),
        ({}, []),
        (False, []),
        ("", []),
        ([], []),
        ({"a": 1}, [{"a": 1}]),
        (5, [{"_metric": 5}]),
        (2.5, [{"_metric": 2.5}]),
        (True, [{"_metric": True}]),
        (-math.inf, [{"_metric": -math.inf}]),
    ],
)
def test_return_values(drive: Any, value: Any, rows: list[dict[str, Any]]) -> None:
    """A dict or number that is not false is one more result."""
    worker = drive(lambda config: value).run()
    assert [metrics(row) for row in worker.rows] == rows
    assert worker.end == Finished("returned")


def test_numpy_return_values(drive: Any) -> None:
    """Numpy's scalars are numbers too; an array is none."""

    def train(config: dict[str, Any]) -> Any:
        import numpy as np

        return {"f": np.float32(0.5), "b": np.bool_(True), "a": np.arange(3)}[config["kind"]]

    driver = drive(train)
    assert metrics(driver.run({"kind": "f"}).rows[0]) == {"_metric": 0.5}
    assert metrics(driver.run({"kind": "b"}).rows[0]) == {"_metric": True}
    failed = driver.run({"kind": "a"}).end
    assert failed.kind == "ValueError"
    assert "ndarray" in failed.message


@pytest.mark.parametrize("value", ["text", [1], object, {1, 2}])
def test_other_return_values_are_errors(drive: Any, value: Any) -> None:
    """Anything else fails the trial and says what may be returned."""
    worker = drive(lambda config: value).run()
    assert worker.rows == []
    assert worker.end.kind == "ValueError"
    assert "may return a dict of metrics, a single number, or nothing" in worker.end.message


def test_generators(drive: Any) -> None:
    """Each value that a generator function yields is treated like a return value."""

    def train(config: dict[str, Any]) -> Any:
        yield {"a": 1}
        yield None
        yield 2
        report({"b": 3})

    worker = drive(train).run()
    assert [metrics(row) for row in worker.rows] == [{"a": 1}, {"_metric": 2}, {"b": 3}]
    assert worker.end == Finished("returned")


@pytest.mark.parametrize("action", ["stop", "pause"])
def test_decision_to_end(drive: Any, action: Any) -> None:
    """``report`` raises SystemExit(0): cleanup runs, ``except Exception`` does not see it."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        try:
            while True:
                report({"a": 1})
        except Exception:
            print("seen")
            raise
        finally:
            print("cleanup", sys.exc_info()[0].__mro__[1].__name__, sys.exc_info()[1].code)

    worker = drive(train).run(decide=lambda row: Reply(action))
    assert len(worker.rows) == 1
    assert worker.end == Finished(action)
    assert worker.stdout == "cleanup SystemExit 0\n"


def test_generator_is_closed_when_its_trial_stops(drive: Any) -> None:
    """``finally`` blocks of a generator run when the trial is stopped at a yield."""

    def train(config: dict[str, Any]) -> Any:
        try:
            while True:
                yield {"a": 1}
        finally:
            print("closed")

    worker = drive(train).run(decide=lambda row: Reply("stop"))
    assert worker.end == Finished("stop")
    assert worker.stdout == "closed\n"


def test_stop_cannot_be_caught_away(drive: Any) -> None:
    """Who catches SystemExit and goes on is told again, and nothing more is reported."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        for _ in range(3):
            try:
                report({"a": 1})
            except SystemExit:
                print("caught")
        return {"a": 2}

    worker = drive(train).run(decide=lambda row: Reply("stop"))
    assert len(worker.rows) == 1
    assert worker.end == Finished("stop")
    assert worker.stdout == "caught\n" * 3


def test_error_after_a_stop_changes_nothing(drive: Any) -> None:
    """A cleanup that fails after the stop is shown, and the trial has still stopped."""

    def train(config: dict[str, Any]) -> None:
        try:
            report({"a": 1})
        finally:
            raise KeyError("in cleanup")

    worker = drive(train).run(decide=lambda row: Reply("stop"))
    assert worker.end == Finished("stop")
    assert "in cleanup" in worker.stderr
    assert "changes nothing" in worker.stderr


class LocalError(ValueError):
    pass


class PairError(Exception):
    """Its constructor takes other arguments than what it hands on."""

    def __init__(self, one: int, two: int) -> None:
        Exception.__init__(self, f"{one} and {two}")  # super() would find the module's own class
        self.pair = (one, two)


# Like classes of the user's script: no worker can import this module.
LocalError.__module__ = PairError.__module__ = "__main__"


def test_exceptions_travel(drive: Any) -> None:
    """The driver gets the exception itself, also of a class that only the script defines."""

    def train(config: dict[str, Any]) -> None:
        report({"a": 1})
        raise LocalError("broken")

    failed = drive(train).run().end
    error = load(failed.error)
    assert type(error) is LocalError
    assert str(error) == "broken"
    assert (failed.kind, failed.message, failed.abort) == ("LocalError", "broken", False)


def test_exceptions_keep_their_type(drive: Any) -> None:
    """One whose constructor takes other arguments, or that holds what cannot travel, is rebuilt."""

    def other_arguments(config: dict[str, Any]) -> None:
        raise PairError(1, 2)

    def with_a_lock(config: dict[str, Any]) -> None:
        error = PairError(1, 2)
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error from ValueError("the reason")

    for train in (other_arguments, with_a_lock):
        failed = drive(train).run().end
        error = load(failed.error)
        assert type(error) is PairError
        assert (str(error), error.pair) == ("1 and 2", (1, 2))
        assert (failed.kind, failed.message) == ("PairError", "1 and 2")
        assert "PairError: 1 and 2" in failed.traceback
    assert "<unlocked _thread.lock" in error.lock  # shown as it was


def test_exceptions_that_cannot_travel_do_so_as_text(drive: Any) -> None:
    """An exception whose own way to be pickled fails everywhere is told as text."""

    class Anchored(type):
        def __reduce_ex__(cls, protocol: Any) -> Any:
            raise TypeError("stays here")

    class OwnError(Exception, metaclass=Anchored):
        __slots__ = ()

        def __reduce__(self) -> Any:
            raise TypeError("stays here")

    def train(config: dict[str, Any]) -> None:
        error = OwnError("odd one")
        BaseException.args.__set__(error, (threading.Lock(),))  # type: ignore[attr-defined]
        raise error

    failed = drive(train).run().end
    assert isinstance(failed, Failed)
    assert failed.kind == "OwnError"
    assert "OwnError" in failed.traceback


@pytest.mark.parametrize("name", ["Mute", "Fixed", "Closed", "Surrogate"])
def test_odd_exceptions_are_told(drive: Any, name: str) -> None:
    """An exception that raises when it is looked at fails its trial as any other does."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    class Fixed(Exception):
        args = property(lambda self: ("fixed",))  # type: ignore[assignment]

    class Closed(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("closed")

    class Surrogate(Exception):
        def __str__(self) -> str:
            return "bad \ud800"

    kinds = {kind.__name__: kind for kind in (Mute, Fixed, Closed, Surrogate)}

    def train(config: dict[str, Any]) -> None:
        raise kinds[name]("said")

    failed = drive(train).run().end
    assert isinstance(failed, Failed)
    assert failed.kind == name
    assert f"{name}" in failed.traceback.splitlines()[-1]
    assert "raise kinds[name]" in failed.traceback
    (failed.message + failed.traceback).encode()
    assert type(load(failed.error)).__name__ == name
    if name == "Mute":
        assert "str() raised ValueError" in failed.message


def test_tracebacks_show_user_code_only(drive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames that called user code are cut, unless RAY_AIR_FULL_TRACEBACKS=1."""

    def train(config: dict[str, Any]) -> None:
        def inner() -> None:
            report([])  # type: ignore[arg-type]

        inner()

    trace = drive(train).run().end.traceback
    frames = [line for line in trace.splitlines() if line.startswith("  File")]
    assert "in train" in frames[0]
    assert "in inner" in frames[1]
    assert "session.py" in frames[2]  # what user code called is part of the story
    monkeypatch.setenv("RAY_AIR_FULL_TRACEBACKS", "1")
    trace = drive(train).run().end.traceback
    assert "run_function" in trace


def test_ways_out_that_say_nothing_are_explained(drive: Any) -> None:
    """sys.exit and a stray StopIteration are failures that say what to do."""

    def train(config: dict[str, Any]) -> None:
        report({"a": 1})
        if config["how"] == "next":
            next(iter([]))
        sys.exit(config["how"])

    driver = drive(train)
    for how, kind, said in (
        (0, "RuntimeError", "sys.exit(0)"),
        (None, "RuntimeError", "sys.exit(0)"),
        ("next", "RuntimeError", "StopIteration"),
        (3, "SystemExit", "3"),
        ("help", "SystemExit", "help"),
    ):
        worker = driver.run({"how": how})
        assert worker.end.kind == kind
        assert said in worker.end.message
        assert len(worker.rows) == 1


def test_interrupt_inside_a_trial_fails_it(drive: Any) -> None:
    """A KeyboardInterrupt that user code raises is its failure."""

    def train(config: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    assert drive(train).run().end.kind == "KeyboardInterrupt"


def test_row_of_the_function_api(drive: Any) -> None:
    """The auto-filled fields, their types and which of them a user may set."""

    def train(config: dict[str, Any]) -> None:
        report({"a": 1, "timestamp": 5, "trial_id": "mine", "pid": -1, "done": False})
        report({"training_iteration": 10, "time_this_iter_s": 100.0, "timesteps_this_iter": 7})
        report({"done": True, "timesteps_this_iter": 3, "episodes_this_iter": 2})

    worker = drive(train).run({"x": 1})
    one, two, three = worker.rows
    assert list(one) == [
        *("a", "timestamp", "trial_id", "pid", "done", "checkpoint_dir_name"),
        *("training_iteration", "date", "time_this_iter_s", "time_total_s", "hostname", "node_ip"),
        *("time_since_restore", "iterations_since_restore"),
    ]
    assert one["trial_id"] == "t1"
    assert one["pid"] == worker.handle.pid
    assert one["timestamp"] > 1_600_000_000
    assert isinstance(one["timestamp"], int)
    assert one["checkpoint_dir_name"] is None
    assert [row["training_iteration"] for row in worker.rows] == [1, 10, 3]
    assert [row["iterations_since_restore"] for row in worker.rows] == [1, 2, 3]
    assert [row["done"] for row in worker.rows] == [False, False, True]
    assert two["time_this_iter_s"] == 100.0
    assert two["time_total_s"] == pytest.approx(one["time_total_s"] + 100)
    assert two["time_since_restore"] == two["time_total_s"]
    assert "timesteps_total" not in one
    assert (two["timesteps_total"], three["timesteps_total"]) == (7, 10)
    assert (two["timesteps_since_restore"], three["episodes_total"]) == (7, 2)
    assert "config" not in one  # the controller adds it


def test_counters_go_on(drive: Any) -> None:
    """After a restore the totals go on and what counts since the restore starts at zero."""

    def train(config: dict[str, Any]) -> None:
        report({"timesteps_this_iter": 5})

    (row,) = drive(train).run(counters=Counters(7, 100.0, 50, 3)).rows
    assert row["training_iteration"] == 8
    assert row["time_total_s"] > 100
    assert (row["timesteps_total"], row["episodes_total"]) == (55, 3)
    assert (row["iterations_since_restore"], row["timesteps_since_restore"]) == (1, 5)
    assert row["time_since_restore"] < 100


def test_bad_metrics(drive: Any) -> None:
    """What cannot be a row raises where it was reported, naming the key; the trial may go on."""

    def train(config: dict[str, Any]) -> None:
        import torch

        for bad in (
            [("a", 1)],
            {"ok": 1, "deep": {"list": [0, torch.zeros(2)]}},
            {"model": torch.nn.Linear(1, 1)},
            {"ok": 1, "lock": threading.Lock()},
        ):
            try:
                report(bad)  # type: ignore[arg-type]
            except (TypeError, ValueError) as error:
                print(type(error).__name__, error)
        report({"fine": 1})

    worker = drive(train).run()
    lines = worker.stdout.splitlines()
    assert lines[0].startswith("TypeError tune.report(metrics) takes a dict")
    assert "not list" in lines[0]
    assert lines[1].startswith("ValueError")
    assert "'deep/list/1' is a torch.Tensor" in lines[1]
    assert "'model' is a torch.Linear" in lines[2]
    assert lines[3].startswith("TypeError metric 'lock' (lock) cannot be sent")
    assert [metrics(row) for row in worker.rows] == [{"fine": 1}]
    assert worker.rows[0]["training_iteration"] == 1


def test_rows_of_unusual_values(drive: Any) -> None:
    """NaN, nested dicts, numpy values and objects of the script's own classes arrive."""

    def train(config: dict[str, Any]) -> None:
        import numpy as np

        report(
            {"nan": math.nan, "deep": {"a": {"b": 1}}, "array": np.arange(3), "e": LocalError("x")}
        )

    (row,) = drive(train).run().rows
    assert math.isnan(row["nan"])
    assert row["deep"] == {"a": {"b": 1}}
    assert row["array"].tolist() == [0, 1, 2]
    assert type(row["e"]) is LocalError


def test_threads_may_report(drive: Any) -> None:
    """Reports of several threads of a trial are all taken, one at a time."""

    def train(config: dict[str, Any]) -> None:
        threads = [threading.Thread(target=report, args=({"i": i},)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    worker = drive(train).run()
    assert sorted(row["i"] for row in worker.rows) == list(range(8))
    assert [row["training_iteration"] for row in worker.rows] == list(range(1, 9))


def test_threads_that_outlive_the_function(drive: Any) -> None:
    """A thread that reports when the function has returned is told so; the trial is fine."""

    def train(config: dict[str, Any]) -> None:
        returned = threading.Event()

        def late() -> None:
            returned.wait()
            try:
                for _ in range(1000):
                    report({"late": 1})
            except RuntimeError as error:
                os.write(2, str(error).encode())  # at once: the process is about to end

        report({"in": "time"})
        threading.Thread(target=late, name="latecomer").start()
        threading.Timer(0, returned.set).start()

    driver = drive(train)
    worker = driver.start()
    driver.send_trial(worker)
    driver.wait(lambda: "tune.report() was called" in worker.stderr)
    driver.shut_down(worker)
    assert worker.end == Finished("returned")
    assert worker.rows[0]["in"] == "time"
    assert len(worker.rows) < 1000


def test_threads_of_an_earlier_trial_cannot_report(drive: Any) -> None:
    """In a process that runs a second trial, a thread of the first is no part of it."""

    def train(config: dict[str, Any]) -> None:
        if config["i"] == 1:
            go = sys.modules["go"] = threading.Event()  # type: ignore[assignment]

            def late() -> None:
                go.wait()
                report({"late": 1})

            sys.modules["thread"] = thread = threading.Thread(target=late)  # type: ignore[assignment]
            thread.start()
        else:
            sys.modules["go"].set()  # type: ignore[attr-defined]
            sys.modules["thread"].join()  # type: ignore[attr-defined]
        report({"i": config["i"]})

    driver = drive(train)
    worker = driver.start()
    for i in (1, 2):
        driver.send_trial(worker, {"i": i}, reset=i > 1)
        driver.wait(lambda i=i: len(worker.rows) >= i and worker.end is not None)
    assert [row["i"] for row in worker.rows] == [1, 2]
    assert "of an earlier trial" in worker.stderr
    worker.handle.kill()


def test_report_inside_a_report_is_an_error(drive: Any) -> None:
    """A signal handler that reports while its thread is in report gets an error, no deadlock."""

    def train(config: dict[str, Any]) -> None:
        import signal

        def on_signal(*_: Any) -> None:
            try:
                report({"from": "handler"})
            except RuntimeError as error:
                print(error)

        signal.signal(signal.SIGUSR1, on_signal)
        report({"from": "main"})

    def decide(row: dict[str, Any]) -> Any:
        worker.handle.signal(10)  # the worker waits for the answer to this row
        driver.wait(lambda: worker.stdout != "")
        return Reply("continue")

    driver = drive(train)
    worker = driver.start(decide)
    driver.send_trial(worker)
    driver.wait(lambda: worker.end is not None)
    assert "inside another tune.report()" in worker.stdout
    assert [row["from"] for row in worker.rows] == ["main"]


def test_config_is_the_trials_own(drive: Any) -> None:
    """A config that one trial changes is not changed for the next in the same process."""
    config = {"list": [1]}

    def train(config: dict[str, Any]) -> dict[str, Any]:
        config["list"].append(2)
        return {"n": len(config["list"])}

    driver = drive(train)
    worker = driver.start()
    for i, reset in ((1, False), (2, True)):
        driver.send_trial(worker, config, reset=reset)
        driver.wait(lambda i=i: len(worker.rows) == i and worker.end is not None)
    assert [row["n"] for row in worker.rows] == [2, 2]


def test_relative_files_land_in_the_trial_directory(drive: Any, tmp_path: Path) -> None:
    """What a trial writes to a relative path is kept with its results."""

    def train(config: dict[str, Any]) -> None:
        with open("artifact.txt", "w") as file:
            file.write(os.environ["TUNE_ORIG_WORKING_DIR"])

    drive(train).run()
    assert (tmp_path / "t1" / "artifact.txt").read_text() == os.getcwd()
