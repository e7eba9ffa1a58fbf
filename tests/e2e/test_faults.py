"""Every way in which a trial can fail ends in its result, and a retry goes on where it was."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import pickle
import re
import resource
import secrets
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from milepost import tune
from milepost.exceptions import ActorDiedError, RayError, RayTaskError, TrialTimeoutError


@pytest.fixture(autouse=True)
def _node_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))


# --- what goes wrong ---------------------------------------------------------------------------


class Unsendable(Exception):
    """Holds what no other process can have."""

    def __init__(self) -> None:
        super().__init__("cannot travel")
        self.lock = threading.Lock()


def raises() -> None:
    raise ValueError("a bad number")


def raises_unsendable() -> None:
    raise Unsendable


def returns_unpicklable() -> dict[str, Any]:
    return {"stream": threading.Lock()}


def exits() -> None:
    os._exit(3)


def leaves() -> None:
    raise SystemExit(4)


def dies_by(signum: int) -> Callable[[], None]:
    def die() -> None:
        os.kill(os.getpid(), signum)

    return die


def crashes() -> None:
    ctypes.string_at(0)


def aborts() -> None:
    os.abort()


def runs_out_of_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    held: list[Any] = []
    while True:  # in small pieces, until nothing at all can be had
        held.append([None] * 1000)


def hangs() -> None:
    sum(itertools.repeat(0))  # holds the interpreter's lock: no Python code can run


class Fault(NamedTuple):
    """Something that goes wrong in user code.

    Attributes:
        do: makes it happen; may return metrics that cannot be sent.
        kind: type of the error that the result has.
        says: pattern in its text.
        where: name of the function that the remote traceback shows, or "".
    """

    do: Callable[[], dict[str, Any] | None]
    kind: type[Exception]
    says: str
    where: str = ""


FAULTS = {
    "exception": Fault(raises, ValueError, "ValueError: a bad number", "raises"),
    "unsendable exception": Fault(
        raises_unsendable, Unsendable, "Unsendable: cannot travel", "raises_unsendable"
    ),
    "unpicklable result": Fault(returns_unpicklable, TypeError, r"'stream'.*pickle"),
    "exit": Fault(exits, ActorDiedError, r"died: exit code 3\."),
    "sys.exit": Fault(leaves, RayTaskError, "SystemExit: 4", "leaves"),
    "SIGKILL": Fault(
        dies_by(signal.SIGKILL), ActorDiedError, r"signal 9 \(SIGKILL\).*memory had run out.*dmesg"
    ),
    "SIGTERM": Fault(dies_by(signal.SIGTERM), ActorDiedError, r"signal 15 \(SIGTERM\)"),
    "SIGSEGV": Fault(
        crashes, ActorDiedError, r"(?s)signal 11 \(SIGSEGV\).*Fatal Python error", "crashes"
    ),
    "SIGABRT": Fault(
        aborts, ActorDiedError, r"(?s)signal 6 \(SIGABRT\).*Fatal Python error", "aborts"
    ),
    "SIGBUS": Fault(
        dies_by(signal.SIGBUS), ActorDiedError, r"(?s)signal 7 \(SIGBUS\).*/dev/shm", "die"
    ),
    "memory": Fault(runs_out_of_memory, MemoryError, "MemoryError", "runs_out_of_memory"),
    "hang": Fault(
        hangs, TrialTimeoutError, r"silent for 5 s \(trial_timeout_s\), since iteration 2", "hangs"
    ),
}
#: Of trials that hang. A process that is started on a busy machine must be able to speak in time.
LIMIT_S = 5
BOTH_APIS = ("exception", "unpicklable result", "exit", "SIGKILL", "SIGSEGV")


# --- what it happens to ------------------------------------------------------------------------


def happens(config: dict[str, Any], number: int, start: int) -> dict[str, Any]:
    """At the third step: the first time, or each time if the config says so."""
    if number == 3 and (start == 0 or config["again"]):
        return FAULTS[config["fault"]].do() or {}
    return {}


def function(config: dict[str, Any]) -> None:
    checkpoint = tune.get_checkpoint()
    start = 0
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            start = int(Path(directory, "number").read_text())
    for number in range(start + 1, 5):
        bad = happens(config, number, start)
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "number").write_text(str(number))
            tune.report(
                {"number": number, "start": start, **bad},
                checkpoint=tune.Checkpoint.from_directory(directory),
            )


class Class(tune.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.number = self.start = 0

    def step(self) -> dict[str, Any]:
        self.number += 1
        bad = happens(self.config, self.number, self.start)
        return {"number": self.number, "start": self.start, "done": self.number == 4, **bad}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, int]:
        return {"number": self.number}

    def load_checkpoint(self, checkpoint: dict[str, int]) -> None:
        self.number = self.start = checkpoint["number"]


def fit(tmp_path: Path, trainable: Any, space: dict[str, Any], **failure: Any) -> tune.ResultGrid:
    return tune.Tuner(
        trainable,
        param_space=space,
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            verbose=0,
            failure_config=tune.FailureConfig(**failure),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=int(isinstance(trainable, type))
            ),
        ),
    ).fit()


def numbers(result: tune.Result) -> list[int]:
    lines = Path(result.path, "result.json").read_text().splitlines()
    return [json.loads(line)["number"] for line in lines]


def cases() -> Iterator[Any]:
    for name in FAULTS:
        yield pytest.param(function, name, id=f"function-{name}")
        if name in BOTH_APIS:
            yield pytest.param(Class, name, id=f"class-{name}")


@pytest.mark.parametrize(("trainable", "name"), [*cases()])
@pytest.mark.always(
    "function-exception",
    "class-unpicklable result",
    "function-unsendable exception",
    "class-exit",
    "function-sys.exit",
    "function-SIGKILL",
    "function-SIGTERM",
    "class-SIGSEGV",
    "function-SIGBUS",
    "function-memory",
    "function-hang",
)
def test_a_fault(tmp_path: Path, trainable: Any, name: str) -> None:
    """It is tried again from its checkpoint; if that fails too, the result says how and where."""
    fault = FAULTS[name]
    space = {"fault": name, "again": tune.grid_search([False, True])}
    limit = LIMIT_S if name == "hang" else None
    recovered, failed = fit(tmp_path, trainable, space, max_failures=1, trial_timeout_s=limit)

    assert recovered.error is None
    assert recovered.metrics is not None
    assert (recovered.metrics["number"], recovered.metrics["start"]) == (4, 2)
    assert numbers(recovered) == [1, 2, 3, 4]
    assert Path(recovered.path, "error.txt").read_text().count("Failure # ") == 1

    assert numbers(failed) == [1, 2]
    assert failed.checkpoint is not None
    assert Path(failed.checkpoint.path).name == "checkpoint_000001"
    assert_says(failed.error, fault)
    text = Path(failed.path, "error.txt").read_text()
    first, second = text.split("Failure # 2")
    for part in (first, second):
        assert fault.where in part
        assert fault.kind.__name__ in part or fault.kind is RayTaskError
    assert "milepost/worker/function_runner" not in text
    assert_says(pickle.loads(Path(failed.path, "error.pkl").read_bytes()), fault)
    assert_says(tune.Result.from_path(failed.path).error, fault)


def assert_says(error: Any, fault: Fault) -> None:
    """An error has a type that scripts catch, a message, and the place where it happened."""
    assert isinstance(error, fault.kind)
    assert isinstance(error, RayError)
    assert re.search(fault.says, str(error)), str(error)
    assert fault.where in str(error)
    assert "test_faults.py" in str(error) or not fault.where
    if isinstance(error, ActorDiedError | TrialTimeoutError):
        assert re.search(
            r"^(The worker process \(pid \d+\) of t|T)rial Class|function", error.args[0]
        )
        assert "\n" not in error.message


def test_without_retries(tmp_path: Path) -> None:
    """By default the first failure is the last, whatever kind it is, and other trials go on."""
    names = ["exception", "SIGKILL", "none"]

    def train(config: dict[str, Any]) -> None:
        tune.report({"number": 1})
        if config["name"] in FAULTS:
            FAULTS[config["name"]].do()

    grid = fit(tmp_path, train, {"name": tune.grid_search(names)})
    assert [type(result.error) for result in grid][1:] == [ActorDiedError, type(None)]
    assert isinstance(grid[0].error, ValueError)
    assert [numbers(result) for result in grid] == [[1], [1], [1]]
    texts = [Path(result.path, "error.txt") for result in grid]
    assert [path.exists() and path.read_text().count("Failure") for path in texts] == [1, 1, False]


def test_metrics_that_the_driver_cannot_read(tmp_path: Path) -> None:
    """They fail their trial, not the run; its checkpoints are kept, and another trial goes on."""

    def train(config: dict[str, Any]) -> None:
        def only_here(pid: int) -> str:
            if os.getpid() != pid:
                raise ImportError("no module named 'mine'")
            return "here"

        class Mine:
            def __reduce__(self) -> Any:
                return only_here, (os.getpid(),)

        with tempfile.TemporaryDirectory() as directory:
            checkpoint = tune.Checkpoint.from_directory(directory)
            tune.report(
                {"number": 1, "mine": Mine() if config["bad"] else 0}, checkpoint=checkpoint
            )
        tune.report({"number": 2})

    bad, good = fit(tmp_path, train, {"bad": tune.grid_search([True, False])})
    assert isinstance(bad.error, TypeError)
    assert "unpickling them raised ImportError: no module named 'mine'" in str(bad.error)
    assert "ImportError" in Path(bad.path, "error.txt").read_text()
    assert good.error is None
    assert numbers(good) == [1, 2]


# --- silence -----------------------------------------------------------------------------------


@pytest.mark.chaos
def test_a_class_that_hangs_in_setup_and_while_it_saves(tmp_path: Path) -> None:
    """Silence counts from the start, and while a class saves; the error tells which it was."""

    class Stuck(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            if config["in"] == "setup":
                threading.Event().wait()

        def step(self) -> dict[str, Any]:
            return {"number": self.iteration + 1}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            threading.Event().wait()

    grid = fit(
        tmp_path, Stuck, {"in": tune.grid_search(["setup", "save"])}, trial_timeout_s=LIMIT_S
    )
    for result, since, where in zip(
        grid,
        ["since it was started", "since iteration 1"],
        ["setup", "save_checkpoint"],
        strict=True,
    ):
        assert isinstance(result.error, TrialTimeoutError)
        assert isinstance(result.error, TimeoutError)
        assert since in result.error.message
        assert re.search(rf"line \d+ in {where}\n", result.error.traceback_str + "\n")


# --- memory ------------------------------------------------------------------------------------


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with 300 MiB of memory; the test is skipped where none can be made."""
    for parent, limit in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ):
        group = Path(parent, f"milepost-test-{secrets.token_hex(4)}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(300 << 20))
        except OSError:
            group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no control group can be made here")


EATS = """
import os, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
from milepost import tune

def train(config):
    tune.report({"number": 1})
    if config["eats"]:
        held = bytearray(2 << 30)
        held[::4096] = b"x" * len(held[::4096])
    tune.report({"number": 2})

grid = tune.Tuner(
    train,
    param_space={"eats": tune.grid_search([True, False])},
    tune_config=tune.TuneConfig(max_concurrent_trials=1),
    run_config=tune.RunConfig(name="exp", verbose=0),
).fit()
print(type(grid[0].error).__name__, grid[0].error)
print(grid[1].metrics["number"], grid[1].error)
"""


def test_a_worker_killed_for_memory(place: Any, small_group: Path) -> None:
    """The error says that memory had run out; driver and keeper live on, and so do other trials."""
    out = place.run(str(place.write(EATS)), str(small_group))
    assert place.wait_until_gone() == {}
    first, second = out.strip().splitlines()
    assert re.match(r"ActorDiedError .*SIGKILL.*Memory had run out.*ended 1 process of its", first)
    assert second == "2 None"
