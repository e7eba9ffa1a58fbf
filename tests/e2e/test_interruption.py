"""Signals to real drivers: Ctrl-C, SIGTERM and SIGUSR1, at every stage of a run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from milepost.checkpoint import verify
from milepost.journal import replay

#: For waits that end at once when all is well.
PATIENCE_S = 90

PRELUDE = """
import contextlib, ctypes, json, os, signal, subprocess, sys, tempfile, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever has started us

import milepost
from milepost import tune
from milepost.tune import Checkpoint

milepost.init(num_cpus=2)

def say(word):
    "Tell the test something; it has opened the pipe."
    with open(os.path.join(os.environ["GATES"], "said"), "w") as pipe:
        pipe.write(word + "\\n")

def wait(name):
    "Wait until the test lets us go on."
    pipe = os.open(os.path.join(os.environ["GATES"], name), os.O_RDONLY)
    os.read(pipe, 1)
    os.close(pipe)

def save(**state):
    directory = tempfile.mkdtemp(dir=os.environ["GATES"])
    with open(os.path.join(directory, "state.json"), "w") as file:
        json.dump(state, file)
    return Checkpoint.from_directory(directory)

def restored():
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return {}
    with checkpoint.as_directory() as directory:
        with open(os.path.join(directory, "state.json")) as file:
            return json.load(file)

def fit(trainable, space=None, samples=1, callbacks=None, **options):
    try:
        grid = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(num_samples=samples),
            run_config=tune.RunConfig(name="exp", callbacks=callbacks, **options),
        ).fit()
        print("GRID", json.dumps([r.metrics.get("n") for r in grid]), grid.num_errors, flush=True)
        return grid
    finally:
        print("FINALLY", flush=True)

import atexit
atexit.register(print, "ATEXIT", flush=True)
"""


class Driver:
    """A script with a run in it, and the pipes by which it meets the test.

    Args:
        place: where it runs.
        script: what follows the prelude.
        terminal: run it in a pseudo-terminal of its own, whose Ctrl-C it gets.
    """

    def __init__(self, place: Any, script: str, *, terminal: bool = False, **env: str) -> None:
        self.place = place
        self.gates = place.scratch / "gates"
        self.gates.mkdir()
        self._pipes: dict[str, int] = {}
        self._descriptors = contextlib.ExitStack()
        self._said = b""
        self.output = ""
        self._pipe("said")
        path = place.write(PRELUDE + script)
        self._master, slave = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, str(path)],
            cwd=place.path,
            env={**place.env, "GATES": str(self.gates), **env},
            stdin=slave if terminal else subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal if terminal else None,  # noqa: PLW1509 - no threads here
        )
        os.close(slave)
        self._descriptors.callback(os.close, self._master)

    def _pipe(self, name: str) -> int:
        if name not in self._pipes:
            os.mkfifo(self.gates / name)
            # For reading and writing, so that nobody waits for us to open it.
            pipe = os.open(self.gates / name, os.O_RDWR | os.O_NONBLOCK)
            self._pipes[name] = pipe
            self._descriptors.callback(os.close, pipe)
        return self._pipes[name]

    def heard(self, word: str, times: int = 1) -> None:
        """Wait until the script has said a word so many times."""
        lives = True
        while self.said.count(word) < times:
            assert lives, self._fate()
            ready = select.select([self._pipes["said"], self._master], [], [], PATIENCE_S)[0]
            assert ready, self._fate()
            lives = self._master not in ready or self._read()

    @property
    def said(self) -> list[str]:
        """The words that the script has said."""
        while select.select([self._pipes["said"]], [], [], 0)[0]:
            self._said += os.read(self._pipes["said"], 4096)
        return self._said.decode().split()

    def worker(self) -> int:
        """The process id that the only trial has said."""
        (pid,) = [int(word) for word in self.said if word.isdecimal()]
        return pid

    def gate(self, name: str) -> None:
        """Make a gate at which the script can wait."""
        self._pipe(name)

    def open(self, name: str, times: int = 1) -> None:
        """Let so many pass who wait at a gate."""
        os.write(self._pipe(name), b"x" * times)

    def send(self, signum: int) -> None:
        """Send a signal to the driver alone."""
        self.process.send_signal(signum)

    def press_control_c(self) -> None:
        """Press Ctrl-C at the terminal."""
        os.write(self._master, b"\x03")

    def printed(self, text: str) -> None:
        """Wait until the script has printed something."""
        while text not in self.output:
            assert self._read(), f"never printed {text!r}\n{self._fate()}"

    def prints_within(self, seconds: float) -> bool:
        """Whether it prints something new, or ends, in so many seconds."""
        return bool(select.select([self._master], [], [], seconds)[0])

    def _read(self) -> bool:
        assert select.select([self._master], [], [], PATIENCE_S)[0], self._fate()
        try:
            data = os.read(self._master, 65536)
        except OSError:  # a terminal that everybody has closed
            data = b""
        self.output += data.decode().replace("\r\n", "\n")
        return bool(data)

    def end(self, code: int | None = None) -> str:
        """Wait for the end, with this exit code unless it is None; return all output."""
        while self._read():
            pass
        ended = self.process.wait(PATIENCE_S)
        assert code is None or ended == code, self.output
        return self.output

    def _fate(self) -> str:
        return f"exit status {self.process.poll()}, said {self._said!r}:\n{self.output}"

    def again(self) -> str:
        """Run the script once more, to its end."""
        self.place.env["GATES"] = str(self.gates)
        return self.place.run(str(self.place.path / "script.py"))

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self._descriptors.close()

    def forget(self) -> None:
        """End it, and remove everything that it has written."""
        self.close()
        shutil.rmtree(self.gates)
        shutil.rmtree(self.place.home / "milepost_results", ignore_errors=True)

    # --- what is on disk ------------------------------------------------------------------------

    @property
    def image(self) -> Any:
        """What the journal says."""
        return replay.image(str(self.experiment))

    @property
    def experiment(self) -> Path:
        (path,) = self.place.experiments()
        return path

    def rows(self) -> list[dict[str, Any]]:
        """All rows of all trials, in the order of trials."""
        return [
            json.loads(line)
            for path in sorted(self.experiment.glob("*/result.json"))
            for line in path.read_text().splitlines()
        ]

    def states(self) -> list[dict[str, Any]]:
        """The states in the committed checkpoints, each of which is whole."""
        found = []
        for trial in sorted(path for path in self.experiment.iterdir() if path.is_dir()):
            for index, _ in [] if trial.name == ".milepost" else verify.committed(str(trial)):
                path = trial / f"checkpoint_{index:06d}"
                assert verify.check(str(path), digests=True) == []
                found.append(json.loads((path / "state.json").read_text()))
        return found

    def assert_closed(self, outcome: str = "interrupted") -> None:
        """The journal was closed in order, nothing has failed, nothing lives."""
        image = self.image
        assert image.closed is not None, self.output
        assert image.closed == outcome
        assert [trial.failures for trial in image.trials.values()] == [0] * len(image.trials)
        assert self.place.wait_until_gone() == {}


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


Start = Callable[..., Driver]


@pytest.fixture
def start(place: Any) -> Iterator[Start]:
    """Starts a driver; it is killed at the end if it lives."""
    with contextlib.ExitStack() as stack:

        def begin(script: str, **options: Any) -> Driver:
            driver = Driver(place, script, **options)
            stack.callback(driver.close)
            return driver

        yield begin


# --- once: trials save and stop ---------------------------------------------------------------

WATCHFUL = """
def train(config):
    n = restored().get("n", 0)
    tune.report({"n": n + 1})
    context = tune.get_context()
    assert not context.should_checkpoint() and context.get_preemption_info() is None
    say("training")
    pause = threading.Event()
    while not context.should_checkpoint():
        pause.wait(0.005)
    info = context.get_preemption_info()
    left = info.remaining_s
    tune.report(
        {"n": n + 2, "reason": info.reason, "left": left}, checkpoint=save(n=n + 2)
    )
    say("unreachable")

fit(train, {"x": tune.grid_search([1, 2, 3])})
"""

ENDS = {signal.SIGINT: 0, signal.SIGUSR1: 0, signal.SIGTERM: 143}


@pytest.mark.parametrize("signum", ENDS)
def test_functions_save_while_they_run(start: Start, signum: signal.Signals) -> None:
    """Each is told inside of its loop, saves, and goes on from there when restored."""
    driver = start(WATCHFUL)
    driver.heard("training", 2)
    driver.send(signum)
    output = driver.end(ENDS[signum])
    assert "unreachable" not in driver.said
    assert ("GRID" in output) == (signum != signal.SIGTERM)
    assert output.count("FINALLY") == output.count("ATEXIT") == 1
    assert "Tuner.restore(" in output, "it says how to go on"
    driver.assert_closed()
    told = [row for row in driver.rows() if "reason" in row]
    assert [row["reason"] for row in told] == [signum.name] * 2
    for row in told:
        assert (row["left"] is None) == (signum == signal.SIGINT)
        assert row["left"] is None or 0 < row["left"] <= 30
    assert driver.states() == [{"n": 2}] * 2
    statuses = [trial.status for trial in driver.image.trials.values()]
    assert statuses[:2] == ["RUNNING"] * 2
    assert set(statuses[2:]) <= {"PENDING"}


CLASS = """
class Count(tune.Trainable):
    def setup(self, config):
        self.n = 0

    def step(self):
        self.n += 1
        context = tune.get_context()
        if self.n == 2:
            say("step")
            pause = threading.Event()
            while not context.should_checkpoint():
                pause.wait(0.005)
        return {"n": self.n, "told": context.should_checkpoint()}

    def save_checkpoint(self, directory):
        with open(os.path.join(directory, "state.json"), "w") as file:
            json.dump({"n": self.n}, file)

    def load_checkpoint(self, directory):
        pass

fit(Count, checkpoint_config=tune.CheckpointConfig(CONFIG))
"""


@pytest.mark.parametrize("config", ["checkpoint_at_end=False", "checkpoint_frequency=1000"])
def test_classes_save_after_the_step(start: Start, config: str) -> None:
    """Whatever their frequency; and the step can see that it is the last one."""
    driver = start(CLASS.replace("CONFIG", config))
    driver.heard("step")
    driver.send(signal.SIGINT)
    assert "GRID [2] 0" in driver.end(0)
    driver.assert_closed()
    assert [(row["n"], row["told"]) for row in driver.rows()] == [(1, False), (2, True)]
    assert driver.states() == [{"n": 2}]


ONE_MORE = """
def train(config):
    for n in range(1, 1000):
        say("report")
        wait("report")
        tune.report({"n": n}, checkpoint=save(n=n) if n % 2 == 0 else None)

fit(train)
"""


def test_a_function_that_saves_gets_one_more_report(start: Start) -> None:
    """A report without a checkpoint is not its last one, if it has brought one before."""
    driver = start(ONE_MORE)
    driver.gate("report")
    driver.open("report", 2)
    driver.heard("report", 3)
    driver.send(signal.SIGINT)
    driver.printed("Press Ctrl-C again")
    driver.open("report", 10)
    assert "GRID [4] 0" in driver.end(0)
    driver.assert_closed()
    assert driver.states() == [{"n": 2}, {"n": 4}]


NEVER_SAVES = """
def train(config):
    for n in range(1, 1000):
        say("report")
        wait("report")
        tune.report({"n": n})

fit(train)
"""


def test_a_function_that_does_not_save_stops_at_its_next_report(start: Start) -> None:
    """There is nothing to wait for."""
    driver = start(NEVER_SAVES)
    driver.gate("report")
    driver.heard("report")
    driver.send(signal.SIGUSR1)
    driver.printed("SIGUSR1")
    driver.open("report", 10)
    assert "GRID [1] 0" in driver.end(0)
    driver.assert_closed()


GOES_ON = """
def train(config):
    start = restored().get("n", 0)
    context = tune.get_context()
    for n in range(start + 1, 8):
        if n == 4 and "WAITS" in os.environ:
            say("training")
            pause = threading.Event()
            while not context.should_checkpoint():
                pause.wait(0.005)
        saves = n % 3 == 0 or context.should_checkpoint()
        tune.report({"n": n}, checkpoint=save(n=n) if saves else None)

if os.path.exists(os.path.expanduser("~/milepost_results/exp")):
    grid = tune.Tuner.restore(os.path.expanduser("~/milepost_results/exp"), train).fit()
    print("RESTORED", [(r.metrics["n"], r.metrics["training_iteration"]) for r in grid])
else:
    fit(train, {"x": tune.grid_search([1, 2, 3])})
"""


def test_an_interrupted_run_goes_on(start: Start) -> None:
    """The same script again: nothing that was reported is repeated, nothing is missing."""
    driver = start(GOES_ON, WAITS="1")
    driver.heard("training", 2)
    driver.send(signal.SIGTERM)
    driver.end(143)
    driver.assert_closed()
    output = driver.again()
    assert "RESTORED [(7, 7), (7, 7), (7, 7)]" in output
    assert [row["n"] for row in driver.rows()] == [1, 2, 3, 4, 5, 6, 7] * 3


# --- deadlines --------------------------------------------------------------------------------

STUBBORN = """
def train(config):
    tune.report({"n": 1}, checkpoint=save(n=1))
    say(str(os.getpid()))
    say("training")
    while True:
        threading.Event().wait(3600)

fit(train)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("grace", ["0", "1"])
def test_what_does_not_stop_in_time_is_killed(
    start: Start, grace: str, signum: signal.Signals
) -> None:
    """No failure: what it had captured is committed, and it is unfinished."""
    driver = start(STUBBORN, MILEPOST_GRACE_S=grace)
    driver.heard("training")
    driver.send(signum)
    output = driver.end(ENDS[signum])
    assert f"not stopped in {grace} s are killed" in output
    assert "1 trial has not stopped by the deadline: killing it" in output
    driver.assert_closed()
    assert driver.states() == [{"n": 1}]
    assert [trial.status for trial in driver.image.trials.values()] == ["RUNNING"]


def test_a_second_sigterm_is_the_deadline(start: Start) -> None:
    """Whoever sends it wants the end now; a second SIGUSR1 means nothing new."""
    driver = start(STUBBORN, MILEPOST_GRACE_S="3000")
    driver.heard("training")
    driver.send(signal.SIGUSR1)
    driver.printed("SIGUSR1: trials save")
    driver.send(signal.SIGUSR1)
    driver.send(signal.SIGTERM)
    driver.printed("SIGTERM: trials save")
    driver.send(signal.SIGTERM)
    assert "killing it" in driver.end(143)
    driver.assert_closed()


def test_sigterm_after_control_c_sets_the_deadline(start: Start) -> None:
    """Ctrl-C alone waits without end."""
    driver = start(STUBBORN, MILEPOST_GRACE_S="0")
    driver.heard("training")
    driver.send(signal.SIGINT)
    driver.printed("Press Ctrl-C again")
    driver.send(signal.SIGTERM)
    driver.end(143)
    driver.assert_closed()


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf"])
def test_a_grace_that_is_no_time_is_an_error(place: Any, value: str) -> None:
    """Before anything is written or started."""
    place.env["MILEPOST_GRACE_S"] = value
    output = place.run(
        "-c",
        "from milepost import tune\ntry:\n    tune.Tuner(print).fit()\n"
        "except ValueError as error:\n    print(error)",
    )
    assert f"MILEPOST_GRACE_S={value!r} is not a number of seconds" in output
    assert place.experiments() == []


# --- twice ------------------------------------------------------------------------------------


@pytest.mark.parametrize("display", ["table", "lines"])
def test_control_c_in_a_terminal(start: Start, display: str) -> None:
    """The terminal's Ctrl-C reaches the driver alone: trials save and stop."""
    script = WATCHFUL.replace("fit(", "fit(")
    driver = start(script, terminal=True, TERM="dumb" if display == "lines" else "xterm-256color")
    driver.heard("training", 2)
    driver.press_control_c()
    output = driver.end(0)
    assert "GRID" in output
    assert "Traceback" not in output
    driver.assert_closed()
    assert driver.states() == [{"n": 2}] * 2


@pytest.mark.parametrize("terminal", [False, True])
def test_control_c_twice(start: Start, *, terminal: bool) -> None:
    """Everything is killed at once; what was captured is committed, the journal is closed."""
    driver = start(STUBBORN, terminal=terminal)
    interrupt = driver.press_control_c if terminal else lambda: driver.send(signal.SIGINT)
    driver.heard("training")
    interrupt()
    driver.printed("Press Ctrl-C again to stop at once")
    interrupt()
    output = driver.end(-signal.SIGINT)
    assert "KeyboardInterrupt" in output
    assert "GRID" not in output
    assert output.count("FINALLY") == output.count("ATEXIT") == 1
    assert "Tuner.restore(" in output
    driver.assert_closed()
    assert driver.states() == [{"n": 1}]


BLOCKED = """
class Blocks(tune.Callback):
    def on_trial_result(self, **info):
        say("blocked")
        threading.Event().wait(3600)

def train(config):
    tune.report({"n": 1}, checkpoint=save(n=1))

fit(train, callbacks=[Blocks()])
"""


def test_control_c_twice_ends_callbacks_that_block(start: Start) -> None:
    """Code of users that does not return in the driver is interrupted."""
    driver = start(BLOCKED)
    driver.heard("blocked")
    driver.printed("started")
    while not driver.prints_within(0.2):  # the system may take two that come at once as one
        driver.send(signal.SIGINT)
    output = driver.end(-signal.SIGINT)
    assert "on_trial_result" in output
    driver.assert_closed()


AFTER = """
def train(config):
    tune.report({"n": 1})

handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
fit(train)
assert handlers == [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("NOT SWALLOWED")
"""


def test_the_first_control_c_after_a_run_counts(start: Start) -> None:
    """The handlers before are back."""
    driver = start(AFTER)
    assert "NOT SWALLOWED" in driver.end(0)
    driver.assert_closed("finished")


OWN_HANDLER = (
    """
def own(signum, frame):
    print("OWN HANDLER", "GRID" in globals(), flush=True)

signal.signal(signal.SIGTERM, own)
"""
    + WATCHFUL
)


def test_a_handler_of_the_scripts_own_is_called(start: Start) -> None:
    """After everything is closed; the script decides what happens next."""
    driver = start(OWN_HANDLER)
    driver.heard("training", 2)
    driver.send(signal.SIGTERM)
    output = driver.end(0)
    assert output.index("OWN HANDLER") < output.index("GRID")
    driver.assert_closed()


def test_ignored_signals_stay_ignored(start: Start) -> None:
    """As with nohup, or in the background of a shell script."""
    ignores = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    driver = start(ignores + WATCHFUL)
    driver.heard("training", 2)
    driver.send(signal.SIGINT)
    driver.send(signal.SIGTERM)
    driver.end(143)
    assert {row["reason"] for row in driver.rows() if "reason" in row} == {"SIGTERM"}
    driver.assert_closed()


def test_control_c_can_be_left_alone(start: Start) -> None:
    """TUNE_DISABLE_SIGINT_HANDLER=1: KeyboardInterrupt is raised wherever the driver is."""
    driver = start(STUBBORN, TUNE_DISABLE_SIGINT_HANDLER="1")
    driver.heard("training")
    driver.send(signal.SIGINT)
    assert "trials save and stop" not in driver.end(-signal.SIGINT)
    driver.assert_closed()


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
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            calls += 1
            if str(calls) in SIGNALS:
                signal.raise_signal(SIGNALS[str(calls)])

options = {"checkpoint_config": tune.CheckpointConfig(num_to_keep=1), "verbose": 0}
if glob.glob(PATH + "/.milepost/journal/*"):
    grid = tune.Tuner.restore(PATH, train).fit()
    print("GRID", json.dumps([r.metrics.get("n") for r in grid]), grid.num_errors)
else:
    sys.setprofile(profile)
    try:
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
    assert output.count("FINALLY") == output.count("ATEXIT") == 1
    if driver.place.experiments():
        assert driver.image.closed is not None, output
        assert [t.failures for t in driver.image.trials.values() if t.failures] == []
    assert driver.place.wait_until_gone() == {}
    assert "GRID [3, 3, 3] 0" in driver.again()
    assert [row["n"] for row in driver.rows()] == [1, 2, 3] * 3
    assert driver.states() == [{"n": 3}] * 3


def calls_in(output: str) -> int:
    return int(re.findall(r"CALLS (\d+)", output)[0])


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
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.97])
def test_signals_at_some_moments(start: Start, calls: int, name: str, part: float) -> None:
    """From the start of the first process to the last thing that is closed."""
    check_moment(start, name, calls, part)


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
    assert [p for p in driver.place.leftovers() if not p.startswith("gates/")] == []


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


# --- everything else that runs ------------------------------------------------------------------

TREE = """
def loader():
    import torch

    def told(worker):
        handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
        assert handlers == [signal.SIG_DFL, signal.SIG_DFL, signal.default_int_handler], handlers
        say("loading")

    class Endless(torch.utils.data.Dataset):
        def __len__(self):
            return 1 << 40

        def __getitem__(self, index):
            return torch.zeros(1)

    for batch in torch.utils.data.DataLoader(Endless(), num_workers=2, worker_init_fn=told):
        pass

def c_code():
    say("in-C")
    ctypes.CDLL(None).sleep(3600)

def c_code_that_keeps_the_interpreter():
    say("in-C")
    ctypes.PyDLL(None).sleep(3600)

def child():
    command = "trap '' TERM INT HUP; while true; do sleep 1000; done"
    subprocess.Popen(["sh", "-c", command], start_new_session=True)
    subprocess.Popen(["sh", "-c", command])
    say("child")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        threading.Event().wait(1000)

def train(config):
    tune.report({"n": 1})
    kinds = {
        "loader": loader,
        "c_code": c_code,
        "c_code_that_keeps_the_interpreter": c_code_that_keeps_the_interpreter,
        "child": child,
    }
    kinds[os.environ["KIND"]]()

fit(train)
"""

KINDS = {
    "loader": ("loading", 2),
    "c_code": ("in-C", 1),
    "c_code_that_keeps_the_interpreter": ("in-C", 1),
    "child": ("child", 1),
}


@pytest.mark.parametrize("way", ["deadline", "twice"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_process_tree_stays(start: Start, kind: str, way: str) -> None:
    """Data loaders, code in C, and children that ignore signals: all end with the run."""
    driver = start(TREE, KIND=kind, MILEPOST_GRACE_S="0")
    word, times = KINDS[kind]
    driver.heard(word, times)
    if way == "deadline":
        driver.send(signal.SIGTERM)
        driver.end(143)
    else:
        driver.send(signal.SIGINT)
        driver.printed("Press Ctrl-C again")
        driver.send(signal.SIGINT)
        driver.end(-signal.SIGINT)
    driver.assert_closed()  # also looks at the processes that carry the run's token


# --- the whole job is signalled -----------------------------------------------------------------


@pytest.mark.parametrize("signum", ENDS)
@pytest.mark.parametrize("first", ["driver", "workers"])
def test_a_signal_to_every_process_of_the_job(
    start: Start, signum: signal.Signals, first: str
) -> None:
    """Workers that it ends have not failed, in whatever order it comes; the rest goes on."""
    driver = start(STUBBORN.replace("fit(train)", "fit(train, samples=2)"))
    driver.heard("training", 2)
    others = [pid for pid in driver.place.processes() if pid != driver.process.pid]
    pids = [driver.process.pid, *others] if first == "driver" else [*others, driver.process.pid]
    for pid in pids:
        os.kill(pid, signum)
    output = driver.end(ENDS[signum])
    assert "failed (failure" not in output
    driver.assert_closed()
    assert driver.states() == [{"n": 1}] * 2
    assert [trial.status for trial in driver.image.trials.values()] == ["RUNNING"] * 2


def test_preemption_counts_as_failure_where_that_is_asked_for(start: Start) -> None:
    """RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE=1: as in Ray, it uses up max_failures."""
    driver = start(
        STUBBORN.replace("fit(train)", "fit(train, failure_config=tune.FailureConfig(1))"),
        RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE="1",
    )
    driver.heard("training")
    driver.send(signal.SIGTERM)
    driver.printed("SIGTERM: trials save")
    os.kill(driver.worker(), signal.SIGTERM)
    driver.end(143)
    (trial,) = driver.image.trials.values()
    assert (trial.failures, trial.status) == (1, "PENDING")


LEAVES = """
def train(config):
    tune.report({"n": 1}, checkpoint=save(n=1))
    context = tune.get_context()
    say("training")
    pause = threading.Event()
    while not context.should_checkpoint():
        pause.wait(0.005)
    LEAVE

fit(train)
"""


@pytest.mark.parametrize(
    "leave", ["return", "sys.exit(0)", "sys.exit(3)", "raise KeyboardInterrupt"]
)
def test_a_function_that_leaves_when_told_is_unfinished(start: Start, leave: str) -> None:
    """It has not failed, and it has not finished either."""
    driver = start(LEAVES.replace("LEAVE", leave))
    driver.heard("training")
    driver.send(signal.SIGTERM)
    driver.end(143)
    driver.assert_closed()
    assert [trial.status for trial in driver.image.trials.values()] == ["RUNNING"]


FORKS = """
class Forks(tune.Callback):
    def on_trial_result(self, **info):
        pid = os.fork()
        if pid == 0:
            say("forked")
            threading.Event().wait(1000)
            os._exit(1)
        os.kill(pid, signal.SIGTERM)
        print("CHILD", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)

def train(config):
    tune.report({"n": 1})

fit(train, callbacks=[Forks()])
"""


def test_forks_of_the_driver_are_not_in_the_run(start: Start) -> None:
    """A signal to a child of the script ends the child, as if there were no run."""
    driver = start(FORKS)
    assert "CHILD -15" in driver.end(0)
    driver.assert_closed("finished")


SEVERAL = """
def train(config):
    say(config["name"])
    pause = threading.Event()
    while not tune.get_context().should_checkpoint():
        pause.wait(0.005)
    tune.report({"n": 1})

trials = tune.run_experiments(
    {name: {"run": train, "config": {"name": name}} for name in ("first", "second")}, verbose=0
)
print("TRIALS", [trial.config["name"] for trial in trials])
"""


def test_the_end_of_one_experiment_is_the_end_of_all(start: Start) -> None:
    """After Ctrl-C no other experiment begins, and no error is raised."""
    driver = start(SEVERAL)
    driver.heard("first")
    driver.send(signal.SIGINT)
    assert "TRIALS ['first']" in driver.end(0)
    assert "second" not in driver.said
    driver.assert_closed()
