"""What all trackers have in common: a slow, dead or missing one costs the experiment nothing."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from milepost import tune
from milepost.integrations.outbox import Outbox
from milepost.integrations.tracker import Ending, Tracked, TrackerCallback, number
from milepost.integrations.within import Nothing


class Notebook(TrackerCallback):
    """A tracker that writes down what it is told."""

    tracker = "Notebook"

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.pages: list[tuple[Any, ...]] = []
        self.uploads = options.get("uploads", False)

    @property
    def _wants_checkpoints(self) -> bool:
        return bool(self.uploads)

    def _begin(self, trial: Tracked, run_id: str | None) -> tuple[str, Any]:
        self.pages.append(("begin", trial.config["lr"], run_id))
        return f"page {trial.trial_id}", trial.name

    def _go_on(self, trial: Tracked, run: Any) -> None:
        self.pages.append(("go on", trial.config["lr"]))

    def _log(self, trial: Tracked, run: Any, result: dict[str, Any], at: float) -> None:
        assert run == trial.name
        self.pages.append(("log", result["training_iteration"], result["valid/auc"]))

    def _upload(self, trial: Tracked, run: Any, path: str) -> None:
        self.pages.append(("upload", Path(path).name, Path(path, "state.json").read_text()))

    def _end(self, trial: Tracked, run: Any, ending: Ending) -> None:
        self.pages.append(("end", ending))


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged as a warning or an error."""
    caplog.set_level(logging.WARNING, logger="milepost.integrations")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "milepost.integrations"]


# --- calls --------------------------------------------------------------------------------------


def test_calls_are_made_in_order(said: Any) -> None:
    """All calls are made, in the order in which they came, in another thread."""
    outbox, made = Outbox("Service"), []
    for number_ in range(100):
        outbox.send("count", lambda n=number_: made.append((n, threading.current_thread())))
    outbox.close(30)
    assert [n for n, _ in made] == list(range(100))
    assert {thread for _, thread in made}.isdisjoint({threading.main_thread()})
    assert not said()


def test_failures_are_told_once_and_counted(said: Any) -> None:
    """The first failure of a kind is told with its reason, the sum at the end."""

    def broken() -> None:
        raise ConnectionError("no route")

    outbox = Outbox("Service")
    for _ in range(3):
        outbox.send("log results", broken)
        outbox.send("log results", lambda: None)
    outbox.close(30)
    first, last = said()
    assert "Service: could not log results (ConnectionError: no route)" in first
    assert "3 of 6 calls failed or were left out" in last


def test_a_slow_service_is_not_waited_for(said: Any) -> None:
    """What comes while too much waits is left out, and told; what must not be dropped is not."""
    go, made, released = threading.Event(), [], []
    outbox = Outbox("Service", capacity=2)
    outbox.send("begin", lambda: go.wait() or None)
    for n in range(5):
        outbox.send(
            "log results",
            lambda n=n: made.append(n),
            droppable=True,
            release=lambda n=n: released.append(n),
        )
    outbox.send("end", lambda: made.append("end"))
    go.set()
    outbox.close(30)
    assert made[-1] == "end"
    assert len(made) < 6
    assert sorted(released) == list(range(5))
    assert "slower than the trials" in said()[0]
    assert "were left out" in said()[-1]


def test_a_dead_service_does_not_hold_up_the_end(said: Any) -> None:
    """Once calls fail at the end, the rest is left out instead of tried one by one."""
    go, tried, released = threading.Event(), [], []

    def broken() -> None:
        go.wait()
        tried.append(1)
        raise ConnectionError("down")

    outbox = Outbox("Service")
    for n in range(50):
        outbox.send("log", broken, release=lambda n=n: released.append(n))
    closing = threading.Thread(target=outbox.close, args=(30,))
    closing.start()
    while not outbox._closing:
        pass
    go.set()
    closing.join()
    assert len(tried) == 2
    assert len(released) == 50
    assert "50 of 50" in said()[-1]


def test_a_call_that_never_returns(said: Any) -> None:
    """The end waits for it only as long as it is told to."""
    never = threading.Event()
    outbox = Outbox("Service")
    outbox.send("hang", never.wait)
    outbox.send("log", lambda: None)
    outbox.close(0.05)
    assert "Service lacks a part" in said()[-1]
    never.set()
    outbox._thread.join()


# --- trials -------------------------------------------------------------------------------------


def test_the_life_of_a_trial(fit: Any) -> None:
    """It begins once, goes on after a failure, and all checkpoints can be read when uploaded."""
    tracker = Notebook(uploads=True)
    fit(
        [tracker],
        {"lr": 1.0, "fails_at": 2},
        failure_config=tune.FailureConfig(max_failures=1),
        checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
    )
    uploads = [page for page in tracker.pages if page[0] == "upload"]
    assert uploads == [("upload", f"checkpoint_00000{n}", str(n + 1)) for n in range(3)]
    assert [page for page in tracker.pages if page[0] != "upload"] == [
        ("begin", 1.0, None),
        ("log", 1, 0.1),
        ("go on", 1.0),
        ("log", 2, 0.2),
        ("log", 3, 0.3),
        ("end", "finished"),
    ]


def test_a_subclass_of_users(fit: Any) -> None:
    """Hooks can be changed, as in every logger."""

    class Doubled(Notebook):
        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            super().log_trial_result(iteration, trial, {**result, "valid": {"auc": "hidden"}})

    tracker = Doubled()
    fit([tracker], {"lr": 1.0})
    assert ("log", 1, "hidden") in tracker.pages


def test_results_are_copied(tmp_path: Path) -> None:
    """What happens to a result afterwards is not logged, and any key has a name."""

    class Verbatim(Notebook):
        def _log(self, trial: Tracked, run: Any, result: dict[str, Any], at: float) -> None:
            self.pages.append(("log", result))

    trial: Any = SimpleNamespace(
        trial_id="t",
        path=str(tmp_path),
        local_experiment_path=str(tmp_path),
        config={"lr": 1},
        evaluated_params={},
    )
    tracker, go = Verbatim(), threading.Event()
    tracker.setup()
    tracker._send("wait", lambda: go.wait() or None)
    result: dict[Any, Any] = {1: 2, "a": {"b": 3}}
    tracker.log_trial_result(1, trial, result)
    result["a"]["b"] = result["late"] = 4
    go.set()
    tracker.on_experiment_end([])
    assert tracker.pages == [
        ("begin", 1, None),
        ("log", {"1": 2, "a/b": 3}),
        ("end", "interrupted"),
    ]


def test_setup_that_was_forgotten() -> None:
    """A subclass whose setup does not call ours is told so."""

    class Forgetful(Notebook):
        def setup(self, *args: Any, **info: Any) -> None:
            pass

    with pytest.raises(RuntimeError, match=r"super\(\).setup"):
        Forgetful()._send("log", lambda: None)


# --- libraries ----------------------------------------------------------------------------------

TRACKERS = [
    ("mlflow", "MLflowLoggerCallback", "mlflow", "mlflow"),
    ("wandb", "WandbLoggerCallback", "wandb", "wandb"),
    ("comet", "CometLoggerCallback", "comet_ml", "comet-ml"),
    ("aim", "AimLoggerCallback", "aim", "aim"),
    ("mlflow", "setup_mlflow", "mlflow", "mlflow"),
    ("wandb", "setup_wandb", "wandb", "wandb"),
]


@pytest.mark.parametrize(("module", "name", "library", "package"), TRACKERS)
def test_a_missing_library(
    module: str, name: str, library: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error where the callback is made, with the command that helps."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "milepost.integrations.tracker.find_spec",
        lambda asked: None if asked == library else find(asked),
    )
    needy = getattr(import_module(f"milepost.integrations.{module}"), name)
    with pytest.raises(ImportError, match=f"{name} needs {library}: run `pip install {package}`"):
        needy()


@pytest.mark.parametrize(("module", "name", "library", "package"), TRACKERS[:4])
def test_libraries_are_loaded_late(module: str, name: str, library: str, package: str) -> None:
    """Neither the import nor the constructor loads the library."""
    code = (
        "import sys\n"
        f"from milepost.tune.logger.{module} import {name}\n"
        f"try: {name}()\n"
        f"except ImportError as error: assert '{package}' in str(error)\n"
        f"assert '{library}' not in sys.modules\n"
        "assert 'milepost.control' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (0.5, 0.5),
        (True, True),
        (np.float32(0.5), 0.5),
        (np.array([2]), 2),
        ("1", None),
        (None, None),
        (np.zeros(2), None),
        ([1], None),
    ],
)
def test_numbers(value: Any, expected: Any) -> None:
    """What trackers take for a number; text never is, even if it looks like one."""
    assert number(value) == expected
    assert type(number(value)) is type(expected)


def test_workers_that_do_not_log() -> None:
    """They may call everything."""
    nothing = Nothing()
    with nothing.start_run(a=1) as run:
        run.log_metric("a", 1).whatever()
    with pytest.raises(AttributeError):
        _ = nothing.__wrapped__
