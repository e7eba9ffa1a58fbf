"""Signals to drivers: trials save and stop, by a deadline or at once."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from signalling import ENDS, STUBBORN, WATCHFUL, Start

# --- once: trials save and stop ---------------------------------------------------------------


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
    script = WATCHFUL
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


def test_the_deadline_ends_callbacks_that_block(start: Start) -> None:
    """It is said which; what follows does not wait for what need not be waited for."""
    driver = start(BLOCKED, MILEPOST_GRACE_S="0")
    driver.heard("blocked")
    driver.send(signal.SIGTERM)
    output = driver.end(143)
    assert "SIGTERM: Blocks.on_trial_result (script.py, line " in output
    assert "has not returned by the deadline (MILEPOST_GRACE_S), so it was interrupted" in output
    assert "Tuner.restore(" in output
    assert output.count("FINALLY") == output.count("ATEXIT") == 1
    driver.assert_closed()


AT_THE_END = """
class Blocks(tune.Callback):
    def on_experiment_end(self, **info):
        say("blocked")
        threading.Event().wait(3600)

def train(config):
    tune.report({"n": 1}, checkpoint=save(n=1))

fit(train, callbacks=[Blocks()])
"""


def test_the_deadline_ends_callbacks_that_block_at_the_end(start: Start) -> None:
    """The run is over by then; nothing of it is unfinished."""
    driver = start(AT_THE_END, MILEPOST_GRACE_S="0")
    driver.heard("blocked")
    driver.send(signal.SIGTERM)
    output = driver.end(143)
    assert "SIGTERM: Blocks.on_experiment_end (script.py, line " in output
    driver.assert_closed("finished")


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
