"""Signals at every stage of a run: starting, capturing, committing, closing, restoring."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from signalling import Driver, Start

# --- at every stage -----------------------------------------------------------------------------

MOMENTS = """
import glob

def train(config):
    for n in range(restored().get("n", 0) + 1, 4):
        tune.report({"n": n}, checkpoint=save(n=n))

PATH = os.path.expanduser("~/milepost_results/exp")
SIGNALS = json.loads(os.environ.get("SIGNALS", "{}"))
calls = 0

def profile(frame, event, argument):
    "Raises signals at counted calls in the driver, as long as fit() listens to them."
    global calls
    if event == "call" and os.sep + "milepost" + os.sep in frame.f_code.co_filename:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            calls += 1
            if str(calls) in SIGNALS:
                signal.raise_signal(SIGNALS[str(calls)])

options = {"checkpoint_config": tune.CheckpointConfig(num_to_keep=1), "verbose": 0}
sys.setprofile(profile)
try:
    if glob.glob(PATH + "/.milepost/journal/*"):
        grid = tune.Tuner.restore(PATH, train).fit()
        print("GRID", json.dumps([r.metrics.get("n") for r in grid]), grid.num_errors)
    else:
        fit(train, {"x": tune.grid_search([1, 2, 3])}, **options)
finally:
    sys.setprofile(None)
    print("CALLS", calls)
"""

#: Name -> signals, each with how many calls after the first it comes; and the exit code.
SERIES: dict[str, tuple[list[tuple[signal.Signals, int]], int]] = {
    "SIGINT": ([(signal.SIGINT, 0)], 0),
    "SIGUSR1": ([(signal.SIGUSR1, 0)], 0),
    "SIGTERM": ([(signal.SIGTERM, 0)], 143),
    "SIGINT twice": ([(signal.SIGINT, 0), (signal.SIGINT, 1)], -2),
    "SIGINT twice, later": ([(signal.SIGINT, 0), (signal.SIGINT, 40)], -2),
    "SIGTERM twice": ([(signal.SIGTERM, 0), (signal.SIGTERM, 15)], 143),
    "SIGTERM and SIGINT": ([(signal.SIGTERM, 0), (signal.SIGINT, 25)], 143),
}


def check_moment(start: Start, name: str, calls: int, part: float) -> None:
    """Run with signals at a moment; then restore, and see that nothing is missing."""
    series, code = SERIES[name]
    last = max(after for _, after in series)
    for _ in range(5):
        first = 1 + round((calls - last) * part)
        moments = {str(first + after): int(signum) for signum, after in series}
        driver = start(MOMENTS, SIGNALS=json.dumps(moments))
        output = driver.end()
        calls = calls_in(output)
        if calls >= first + last:
            break
        driver.forget()  # this run had less to do, and the moment did not come
    assert driver.process.returncode == code, output
    check_end(driver, output)
    assert "GRID [3, 3, 3] 0" in driver.again()
    assert [row["n"] for row in driver.rows()] == [1, 2, 3] * 3
    assert driver.states() == [{"n": 3}] * 3


def calls_in(output: str) -> int:
    return int(re.findall(r"CALLS (\d+)", output)[0])


def check_end(driver: Driver, output: str, *, closed: bool = True) -> None:
    """The run was closed, nothing has failed, nothing lives."""
    assert output.count("ATEXIT") == 1
    if driver.place.experiments():
        assert driver.image.closed is not None or not closed, output
        assert [t.failures for t in driver.image.trials.values() if t.failures] == []
    assert driver.place.wait_until_gone() == {}


def check_restoring(start: Start, name: str, calls: int, part: float) -> None:
    """Interrupt a run in its middle, and the run that goes on with it at a moment."""
    series, code = SERIES[name]
    middle = {str(round(calls / 2)): int(signal.SIGUSR1)}
    driver = start(MOMENTS, SIGNALS=json.dumps(middle))
    check_end(driver, driver.end(0))
    first = 1 + round(calls * part / 2)
    moments = {str(first + after): int(signum) for signum, after in series}
    again = start(MOMENTS, SIGNALS=json.dumps(moments))
    output = again.end()
    came = calls_in(output) >= first + max(after for _, after in series)
    assert again.process.returncode == (code if came else 0), output
    check_end(again, output, closed=False)  # its journal may be as it was left before
    assert "GRID [3, 3, 3] 0" in again.again()
    assert [row["n"] for row in again.rows()] == [1, 2, 3] * 3
    assert again.states() == [{"n": 3}] * 3


_calls: list[int] = []


@pytest.fixture
def calls(place: Any, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many calls a run makes in which nothing happens."""
    if not _calls:
        driver = Driver(type(place)(tmp_path_factory.mktemp("calls")), MOMENTS)
        _calls.append(calls_in(driver.end(0)))
        driver.close()
    return _calls[0]


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("part", [0.02, 0.97])
@pytest.mark.always("0.02-SIGINT", "0.02-SIGTERM", "0.97-SIGUSR1", "0.97-SIGINT twice, later")
def test_signals_at_some_moments(start: Start, calls: int, name: str, part: float) -> None:
    """From the start of the first process to the last thing that is closed."""
    check_moment(start, name, calls, part)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT twice, later"])
@pytest.mark.parametrize("part", [0.5])
@pytest.mark.always("0.5-SIGTERM")
def test_signals_while_restoring(start: Start, calls: int, name: str, part: float) -> None:
    """The run that goes on can be interrupted like the first one."""
    check_restoring(start, name, calls, part)


@pytest.mark.chaos
@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("part", [i / 12 for i in range(12)])
def test_signals_often_while_restoring(start: Start, calls: int, name: str, part: float) -> None:
    """The same, at twelve moments."""
    check_restoring(start, name, calls, part)


@pytest.mark.chaos
@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("part", [i / 20 for i in range(20)])
def test_signals_at_many_moments(start: Start, calls: int, name: str, part: float) -> None:
    """The same, at twenty moments."""
    check_moment(start, name, calls, part)


CAPTURES = """
from milepost.storage import posix

def stop_at(number):
    "Have the operation of this number on files meet the test."
    calls = []

    def counted(function):
        def call(*arguments, **options):
            calls.append(function)
            if len(calls) == number:
                say("capturing")
                wait("capture")
            return function(*arguments, **options)
        return call

    for name in posix.OPERATIONS:
        setattr(posix, name, counted(getattr(posix, name)))

def train(config):
    tune.report({"n": 1}, checkpoint=save(n=1))
    stop_at(int(os.environ["NUMBER"]))
    tune.report({"n": 2}, checkpoint=save(n=2))
    say("unreachable")

fit(train)
"""


@pytest.mark.parametrize("number", ["1", "2", "3"])
@pytest.mark.always("2")
def test_while_a_worker_captures(start: Start, number: str) -> None:
    """The capture is finished, committed, and where the trial will go on from."""
    driver = start(CAPTURES, NUMBER=number)
    driver.gate("capture")
    driver.heard("capturing")
    driver.send(signal.SIGTERM)
    driver.printed("SIGTERM: trials save")
    driver.open("capture")
    driver.end(143)
    assert "unreachable" not in driver.said
    driver.assert_closed()
    assert driver.states() == [{"n": 1}, {"n": 2}]


def test_a_capture_that_the_deadline_cuts_off(start: Start) -> None:
    """It never was; the checkpoint before is whole."""
    driver = start(CAPTURES, NUMBER="2", MILEPOST_GRACE_S="0")
    driver.gate("capture")
    driver.heard("capturing")
    driver.send(signal.SIGTERM)
    driver.end(143)
    driver.assert_closed()
    assert driver.states() == [{"n": 1}]
    assert [p for p in driver.place.leftovers() if not p.startswith("gates-")] == []


COMMITS = """
def train(config):
    tune.report({"n": 1}, checkpoint=save(n=1))
    tune.get_checkpoint()
    say("committed")
    wait("keeper")
    tune.report({"n": 2}, checkpoint=save(n=2))
    say("captured")
    threading.Event().wait(3600)

fit(train)
"""


@pytest.fixture
def stopped_keeper(start: Start) -> Iterator[Callable[..., tuple[Driver, int]]]:
    """Starts a driver whose trial has captured a checkpoint that its keeper does not commit."""
    stopped: list[int] = []

    def begin(**env: str) -> tuple[Driver, int]:
        driver = start(COMMITS, **env)
        driver.gate("keeper")
        driver.heard("committed")
        (keeper,) = [p for p, c in driver.place.processes().items() if "milepost.keeper" in c]
        os.kill(keeper, signal.SIGSTOP)
        stopped.append(keeper)
        driver.open("keeper")
        driver.heard("captured")
        return driver, keeper

    yield begin
    for keeper in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGCONT)


def test_while_the_keeper_commits(stopped_keeper: Any) -> None:
    """The end waits for the commit, which is in the journal."""
    driver, keeper = stopped_keeper(MILEPOST_GRACE_S="0")
    driver.send(signal.SIGUSR1)
    driver.printed("killing it")
    os.kill(keeper, signal.SIGCONT)
    driver.end(0)
    driver.assert_closed()
    (trial,) = driver.image.trials.values()
    assert sorted(trial.committed) == [0, 1]
    assert driver.states() == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("way", ["deadline", "twice"])
@pytest.mark.always("twice")
def test_a_keeper_that_takes_too_long_goes_on_by_itself(stopped_keeper: Any, way: str) -> None:
    """The driver ends without it; what was captured is committed all the same."""
    driver, keeper = stopped_keeper(MILEPOST_GRACE_S="0")
    driver.send(signal.SIGTERM if way == "deadline" else signal.SIGINT)
    if way == "twice":
        driver.printed("Press Ctrl-C again")
        driver.send(signal.SIGINT)
    output = driver.end(143 if way == "deadline" else -signal.SIGINT)
    assert "it goes on by itself" in output
    assert driver.states() == [{"n": 1}]
    os.kill(keeper, signal.SIGCONT)
    driver.assert_closed()
    assert driver.states() == [{"n": 1}, {"n": 2}]
