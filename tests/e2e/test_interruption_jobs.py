"""Signals and everything else that runs: children of workers, whole jobs, forks of the script."""

from __future__ import annotations

import os
import signal

import pytest
from signalling import ENDS, STUBBORN, Start

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
        heard, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(told, b"x")  # what comes earlier Python forgets
            threading.Event().wait(1000)
            os._exit(1)
        os.read(heard, 1)
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
